/* Plans for drawing (see draw.h). Guidance (Ho and Salimans 2022) is in the plan: all
 * answers come from one batch, the one without the prompt first. */
#include "cli/generate/draw.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>

#include "cli/generate/sampler_plan.h"
#include "cli/generate/tiles.h"
#include "cli/inspect/inspect.h"
#include "runtime/device.h"

typedef struct Bound { /* a network's forward plan with adapters */
    Exec *exec;
    AdaptersIn adapters;
} Bound;

struct Draw {
    Arena *arena, *plans; /* plans: of the sampler at hand */
    DrawSpec spec;
    Job job;
    Device *dev;
    WeightSource weights, model; /* model: without what the words add */
    Tensor table;                /* of the text encoder with the words; or data NULL */
    WeightShapes shapes;         /* the text encoder's, with that table */
    const WeightShapes *model_shapes;
    Store *store;
    Tokenizer *tokenizer;
    int32_t pad;
    int64_t width;
    Bound text, decode, encode;
    int decode_h, decode_w, encode_h, encode_w; /* decode: of the picture, */
    int tile_h, tile_w;                         /* and of what is decoded at once */
    DrawShape shape;
    bool ready; /* start and step are for `shape` */
    Exec *start, *step, *picture;
    SamplerPlans sampler;
    AdaptersIn unet;
    const char **module; /* of all files, in order */
    bool *used;
    int n_module;
};

/* ---- opening ---- */

static RecipeNetwork network(Draw *d, const char *name, const char *doc,
                             const char *weights, Err *e) {
    return (RecipeNetwork){
        .name = name,
        .doc = doc_load(d->job.library, doc, DOC_NETWORK, NULL, loc_none(), e),
        .weights = weights,
        .args = args_new(d->arena),
        .loc = loc_none()};
}

static bool open_networks(Draw *d, Err *e) {
    const DrawSpec *s = &d->spec;
    RecipeNetwork *net = NEW(d->arena, RecipeNetwork, 4);
    const char *vae = s->vae ? s->vae : s->ckpt;
    net[0] = network(d, "unet", "unet", s->ckpt, e);
    net[1] = network(d, "text_encoder", "clip", s->ckpt, e);
    net[2] = network(d, "vae_decoder", "vae_decoder", vae, e);
    if (s->encodes) net[3] = network(d, "vae_encoder", "vae_encoder", vae, e);
    if (e->set) return false;
    args_set(net[1].args, "clip_skip", val_int(s->clip_skip));
    d->job.recipe.network = net;
    d->job.recipe.n_network = s->encodes ? 4 : 3;
    return job_networks(&d->job, e) && job_clip_skip_fits(&d->job, e);
}

static int64_t number(const Net *net, const char *name) {
    const Val *v = args_get(net->args, name);
    return v && v->kind == VAL_INT ? v->i : 0;
}

/* SD2's tokenizer fills up with token 0; its scheduler's config may say "v_prediction". */
static void look_at_model(Draw *d) {
    const Checkpoint *c = job_checkpoint(&d->job, "text_encoder");
    d->width = number(job_net(&d->job, "text_encoder"), "width");
    d->pad = d->width == 1024 ? 0 : PAD_END;
    json_t *root = json_loads(checkpoint_config(c, "scheduler"), 0, NULL);
    const char *said = json_string_value(json_object_get(root, "prediction_type"));
    if (said && !strcmp(said, "v_prediction")) d->spec.v_prediction = true;
    json_decref(root);
}

static void list_modules(Draw *d) {
    int n = 0;
    for (int i = 0; i < d->spec.n_use; i++)
        n += adapter_file_layers(d->spec.use[i].file)->n;
    d->module = NEW(d->arena, const char *, n + 1);
    d->used = NEW(d->arena, bool, n + 1);
    for (int i = 0; i < d->spec.n_use; i++) {
        const ModelAdapter *f = adapter_file_layers(d->spec.use[i].file);
        for (int k = 0; k < f->n; k++) d->module[d->n_module++] = f->module[k];
    }
}

/* ---- words with rows of their own ---- */
static const char table_name[] =
    "text_encoder.text_model.embeddings.token_embedding.weight";

static bool find_shape(void *ctx, const char *name, Type *out) {
    const Draw *d = ctx;
    if (strcmp(name, strchr(table_name, '.') + 1))
        return d->model_shapes->find(d->model_shapes->ctx, name, out);
    *out = *d->table.type;
    return true;
}

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    Draw *d = ctx;
    if (!d->table.data || strcmp(name, table_name))
        return d->model.find(d->model.ctx, name, out);
    *out = d->table;
    return true;
}

/* The word is all of its rows; so that one of them can be had, as in sd-scripts, WORD1 ...
 * are the second and those behind it. */
static bool add_word(Draw *d, const DrawWord *w, int64_t row, Err *e) {
    const int64_t width = d->width;
    if (w->width != width)
        return err_fail(e, "'%s': vectors of %lld numbers, the model's have %lld",
                        w->path, (long long)w->width, (long long)width);
    memcpy((float *)d->table.data + row * width, w->row,
           sizeof(float) * (size_t)(w->n * width));
    bool ok = tokenizer_add(d->tokenizer, w->text, (int32_t)row, (int)w->n);
    for (int64_t i = 1; ok && i < w->n; i++)
        ok = tokenizer_add(d->tokenizer,
                           arena_printf(d->arena, "%s%lld", w->text, (long long)i),
                           (int32_t)(row + i), 1);
    return ok || err_fail(e, "'%s': the word '%s' is known already; rename the file",
                          w->path, w->text);
}

static bool add_words(Draw *d, Err *e) {
    const DrawSpec *s = &d->spec;
    Net *net = (Net *)job_net(&d->job, "text_encoder");
    int64_t rows = number(net, "vocabulary"), more = 0;
    Tensor old;
    for (int i = 0; i < s->n_word; i++) more += s->word[i].n;
    if (!more) return true;
    if (!d->model.find(d->model.ctx, table_name, &old) || old.type->rank != 2 ||
        old.type->dim[0] != rows || old.type->dim[1] != d->width)
        return err_fail(e, "the text encoder has no table of %lld tokens",
                        (long long)rows);
    Type *type = NEW(d->arena, Type, 1);
    *type = type_of(F32, 2, (int64_t[]){rows + more, d->width});
    d->table = (Tensor){NEW(d->arena, float, type_count(type)), type};
    convert(d->table.data, F32, old.data, old.type->dtype, rows * d->width);
    for (int i = 0; i < s->n_word; rows += s->word[i++].n)
        if (!add_word(d, &s->word[i], rows, e)) return false;
    args_set(net->args, "vocabulary", val_int(rows));
    d->shapes = (WeightShapes){d, find_shape};
    d->model_shapes = net->shapes;
    net->shapes = &d->shapes;
    return true;
}

Draw *draw_open(const DrawSpec *s, Device *dev, Err *e) {
    Arena *a = arena_new();
    Draw *d = NEW(a, Draw, 1);
    *d = (Draw){.arena = a, .spec = *s, .dev = dev, .job = {.arena = arena_new()}};
    d->job.library = library_new(d->job.arena);
    d->spec.use = NEW(a, AdapterUse, s->n_use + 1);
    if (s->n_use) memcpy(d->spec.use, s->use, sizeof *s->use * (size_t)s->n_use);
    if (!open_networks(d, e)) {
        draw_close(d);
        return NULL;
    }
    look_at_model(d);
    list_modules(d);
    const char *folder = checkpoint_tokenizer(job_checkpoint(&d->job, "text_encoder"));
    d->tokenizer = tokenizer_open(folder, e);
    d->model = job_weights(&d->job);
    d->weights = (WeightSource){d, find_weight};
    if (d->tokenizer && add_words(d, e)) d->store = store_open(dev, &d->weights, 0);
    if (d->store) return d;
    draw_close(d);
    return NULL;
}

static void sampler_close(Draw *d) {
    if (d->start) exec_close(d->start);
    if (d->step) exec_close(d->step);
    if (d->picture) exec_close(d->picture);
    arena_free(d->plans);
    d->start = d->step = d->picture = NULL;
    d->plans = NULL;
    d->ready = false;
}

static void bound_close(Bound *b) {
    if (b->exec) exec_close(b->exec);
    b->exec = NULL;
}

void draw_close(Draw *d) {
    if (!d) return;
    sampler_close(d);
    bound_close(&d->text);
    bound_close(&d->decode);
    bound_close(&d->encode);
    if (d->store) store_close(d->store);
    tokenizer_close(d->tokenizer);
    job_close(&d->job);
    arena_free(d->arena);
}

/* ---- what it is ---- */

const Tokenizer *draw_tokenizer(const Draw *d) {
    return d->tokenizer;
}
int32_t draw_pad(const Draw *d) {
    return d->pad;
}
int64_t draw_width(const Draw *d) {
    return d->width;
}
const char *draw_note(const Draw *d) {
    return d->job.note.s ? d->job.note.s : "";
}
const Doc *draw_sampler_doc(Draw *d, const char *name, Err *e) {
    return doc_load(d->job.library, name, DOC_SAMPLER, NULL, loc_none(), e);
}

void draw_multipliers(Draw *d, const double *m, int n) {
    bool same = true;
    for (int i = 0; i < d->spec.n_use && i < n; i++) {
        same = same && d->spec.use[i].multiplier == m[i];
        d->spec.use[i].multiplier = m[i];
    }
    if (same) return;
    sampler_close(d);
    bound_close(&d->text);
}

int draw_unused(const Draw *d, int *of, const char **first) {
    int n = 0;
    *of = d->n_module;
    for (int i = 0; i < d->n_module; i++)
        if (!d->used[i] && !n++) *first = d->module[i];
    return n;
}

/* ---- plain networks ---- */

/* adapted: text encoder and U-Net, not the VAE. */
static const Plan *network_plan(Draw *d, const char *name, const Args *dims,
                                bool adapted, AdaptersIn *adapters, Err *e) {
    Net *net = (Net *)job_net(&d->job, name);
    Graph *g = graph_new(d->arena, name);
    Build b = {.g = g, .net = net, .n_net = 1};
    Named *in, *result;
    int n_in, n_result;
    if (!build_inputs(&b, net->doc, net->args, dims, "", &in, &n_in, e) ||
        !build_network(&b, net, in, n_in, &result, &n_result, e))
        return NULL;
    graph_output(g, "out", result[0].value);
    for (int i = 1; i < n_result; i++) graph_output(g, result[i].name, result[i].value);
    if (!adapters_use(d->arena, g, net, d->spec.use, adapted ? d->spec.n_use : 0, false,
                      d->used, adapters, e))
        return NULL;
    Options opt = {
        .net = net, .n_net = 1, .dims = dims, .reference_kernels = d->spec.exact};
    opt.cuda = device_is_cuda(d->dev);
    g = passes_run(adapters->graph, &opt, "infer-shapes", e);
    return g ? plan_lower(g, &opt, e) : NULL;
}

static bool bind_network(Draw *d, const char *name, const Args *dims, bool adapted,
                         Bound *out, Err *e) {
    bound_close(out);
    const Plan *p = network_plan(d, name, dims, adapted, &out->adapters, e);
    out->exec = p ? exec_open(d->store, p, e) : NULL;
    return out->exec && adapters_fill(&out->adapters, out->exec, e);
}

bool draw_text(Draw *d, const int32_t *ids, int chunks, float *states, Err *e) {
    if (!d->text.exec) {
        Args *dims = args_new(d->arena);
        args_set(dims, "B", val_int(1));
        args_set(dims, "N", val_int(1));
        if (!bind_network(d, "text_encoder", dims, true, &d->text, e)) return false;
    }
    const int64_t rows = number(job_net(&d->job, "text_encoder"), "vocabulary");
    const size_t row = TOKEN_ROW * (size_t)d->width;
    for (int c = 0; c < chunks; c++) {
        const int32_t *id = ids + c * TOKEN_ROW;
        for (int i = 0; i < TOKEN_ROW; i++)
            if (id[i] >= rows)
                return err_fail(e, "token %d is beyond the text encoder's %lld rows",
                                id[i], (long long)rows);
        if (!exec_write(d->text.exec, "ids", id, sizeof *id * TOKEN_ROW, e))
            return false;
        exec_run(d->text.exec);
        if (!exec_read(d->text.exec, "out", states + (size_t)c * row,
                       sizeof *states * row, e))
            return false;
    }
    return true;
}

static Args *sizes(Draw *d, int n, int h, int w) {
    Args *dims = args_new(d->arena);
    args_set(dims, "B", val_int(n));
    args_set(dims, "H", val_int(h));
    args_set(dims, "W", val_int(w));
    return dims;
}

/* The largest tiles whose plan is within the budget: all of it, else squares. */
static bool tile_fits(Draw *d, int h, int w, Err *e) {
    enum { LEAST = 8, STEP = 8 }; /* latents; a quarter of the least is a whole one */
    uint64_t need = 0;
    const int most = h > w ? h : w;
    for (int side = most; side >= LEAST || side == most;) {
        AdaptersIn none = {0};
        d->tile_h = h < side ? h : side, d->tile_w = w < side ? w : side;
        const Plan *p = network_plan(
            d, "vae_decoder", sizes(d, 1, d->tile_h, d->tile_w), false, &none, e);
        if (!p) return false;
        need = plan_totals(p).total;
        if (need <= d->spec.decode_bytes) return true;
        side = (side - 1) / STEP * STEP;
    }
    return err_fail(
        e,
        "--memory_budget: decoding tiles of %d x %d pixels needs %s, want at "
        "most %s",
        d->tile_w * LATENT_FACTOR, d->tile_h * LATENT_FACTOR,
        text_bytes(d->arena, (double)need),
        text_bytes(d->arena, (double)d->spec.decode_bytes));
}

static bool decoder(Draw *d, int h, int w, Err *e) {
    enum { TILE = 64 }; /* Diffusers' */
    if (d->decode.exec && d->decode_h == h && d->decode_w == w) return true;
    d->decode_h = d->decode_w = 0;
    const int most = d->spec.vae_tiling ? TILE : INT_MAX;
    d->tile_h = h < most ? h : most, d->tile_w = w < most ? w : most;
    if (d->spec.decode_bytes && !tile_fits(d, d->tile_h, d->tile_w, e)) return false;
    if (!bind_network(d, "vae_decoder", sizes(d, 1, d->tile_h, d->tile_w), false,
                      &d->decode, e))
        return false;
    d->decode_h = h, d->decode_w = w;
    return true;
}

/* latent: the tile's left top, in rows of `w`; x: room for it. */
static bool decode_tile(Draw *d, int w, const float *latent, float *x, float *image,
                        Err *e) {
    const size_t row = (size_t)d->tile_w * 4, n = row * (size_t)d->tile_h;
    for (int y = 0; y < d->tile_h; y++)
        for (size_t i = 0; i < row; i++)
            x[(size_t)y * row + i] =
                (float)((double)latent[(size_t)y * (size_t)w * 4 + i] / LATENT_SCALE);
    if (!exec_write(d->decode.exec, "latent", x, n * sizeof *x, e)) return false;
    exec_run(d->decode.exec);
    return exec_read(d->decode.exec, "out", image,
                     n / 4 * 3 * LATENT_FACTOR * LATENT_FACTOR * sizeof *image, e);
}

static bool decode_tiles(Draw *d, Arena *a, const float *latent, float *x, float *image,
                         Err *e) {
    const int h = d->decode_h, w = d->decode_w, th = d->tile_h, tw = d->tile_w;
    const size_t area = LATENT_FACTOR * LATENT_FACTOR, n = (size_t)h * (size_t)w * area;
    float *one = NEW(a, float, (size_t)th *(size_t)tw *area * 3);
    TileSum sum = {h, w, th, tw, LATENT_FACTOR, 3, image, NEW(a, float, n)};
    memset(image, 0, n * 3 * sizeof *image);
    for (int ky = 0; ky < tiles_count(h, th); ky++)
        for (int kx = 0; kx < tiles_count(w, tw); kx++) {
            const float *at = latent + ((size_t)tiles_at(h, th, ky) * (size_t)w +
                                        (size_t)tiles_at(w, tw, kx)) *
                                           4;
            if (!decode_tile(d, w, at, x, one, e)) return false;
            tiles_add(&sum, ky, kx, one);
        }
    tiles_end(&sum);
    return true;
}

bool draw_decode(Draw *d, int h, int w, const float *latent, float *image, Err *e) {
    if (!decoder(d, h, w, e)) return false;
    Arena *a = arena_new();
    float *x = NEW(a, float, (size_t)d->tile_h *(size_t)d->tile_w * 4);
    bool ok = d->tile_h == h && d->tile_w == w
                  ? decode_tile(d, w, latent, x, image, e)
                  : decode_tiles(d, a, latent, x, image, e);
    arena_free(a);
    return ok;
}

static Exec *encoder(void *ctx, int n, int w, int h, Err *e) {
    Draw *d = ctx;
    if (d->encode.exec && d->encode_h == h && d->encode_w == w) return d->encode.exec;
    if (!bind_network(d, "vae_encoder", sizes(d, n, h, w), false, &d->encode, e))
        return NULL;
    d->encode_h = h, d->encode_w = w;
    return d->encode.exec;
}

bool draw_encode(Draw *d, int h, int w, const float *image, int64_t seed, float *latent,
                 Err *e) {
    const size_t cells = (size_t)h * (size_t)w;
    const VaeSource vae = {encoder, d};
    const LatentDraw draw = {.seed = (uint64_t)seed, .purpose = "generate"};
    Arena *a = arena_new();
    float *moments = NEW(a, float, 8 * cells);
    const bool ok =
        vae_moments(&vae, 1, w * LATENT_FACTOR, h * LATENT_FACTOR, image, moments, e);
    if (ok) latent_draw(moments, cells, &draw, latent);
    for (size_t i = 0; ok && i < 4 * cells; i++)
        latent[i] = (float)((double)latent[i] * LATENT_SCALE);
    arena_free(a);
    return ok;
}

/* ---- the sampler's model ---- */

typedef struct Answer {
    const Draw *d;
    const DrawShape *s;
} Answer;

static Id input_of(Graph *g, Role role, const char *name, Type t, bool batch) {
    Id id = graph_find(g, name); /* a step may look at the model twice */
    if (id == NO_ID) id = graph_value(g, role, t, name, loc_none());
    g->value[id]->batch = batch;
    return id;
}

static Id with_attrs(Graph *g, const char *op_name, const char *const attr[][2], int n,
                     int n_in, const Id *in, Err *e) {
    const Op *op = op_find(op_name);
    void *attrs = attrs_new(g->arena, op);
    for (int i = 0; i < n; i++)
        if (!attr_parse(g->arena, attr_find(op, attr[i][0]), attrs, attr[i][1], e))
            return NO_ID;
    const Id id = graph_op(g, op, attrs, n_in, in, e);
    if (id != NO_ID) g->value[id]->batch = true;
    return id;
}

/* Samples from ... from+count-1 */
static Id samples(Graph *g, Id x, int from, int count, Err *e) {
    const char *attr[3][2] = {{"axis", "0"},
                              {"from", arena_printf(g->arena, "%d", from)},
                              {"count", arena_printf(g->arena, "%d", count)}};
    return with_attrs(g, "slice", attr, 3, 1, &x, e);
}

/* One time for all samples. */
static Id times(Graph *g, Id t, int n, Err *e) {
    const Id zeros =
        graph_const(g, type_of(F32, 1, (int64_t[]){n}), NEW(g->arena, double, n));
    g->value[zeros]->batch = true;
    const Id in[2] = {graph_cast(g, t, F32, e), zeros};
    return in[0] == NO_ID ? NO_ID : graph_formula(g, "x0 + x1", 2, in, e);
}

/* What guidance makes of all answers `out`: with two, without + s (with - without); with
 * three, for a scale n of its own, empty + s (with - empty) - n (negative - empty). */
static Id guide(const DrawShape *s, Graph *g, Id out, Err *e) {
    Id x[5];
    int n = 0;
    for (; n < s->answers; n++)
        if ((x[n] = samples(g, out, n * s->batch, s->batch, e)) == NO_ID) return NO_ID;
    x[n++] = input_of(g, ROLE_SCALAR, "scale", type_scalar(F32), false);
    if (s->answers == 3)
        x[n++] = input_of(g, ROLE_SCALAR, "negative_scale", type_scalar(F32), false);
    const Id id = graph_formula(g,
                                s->answers == 3 ? "x2 + x3 * (x1 - x2) - x4 * (x0 - x2)"
                                                : "x0 + x2 * (x1 - x0)",
                                n, x, e);
    if (id != NO_ID) g->value[id]->batch = true;
    return id;
}

static bool answer(void *ctx, Build *b, const Named *in, int n_in, Id *out, Err *e) {
    const Answer *a = ctx;
    const int all = a->s->answers * a->s->batch;
    Graph *g = b->g;
    static const char *const first[][2] = {{"axis", "0"}};
    if (n_in != 2) return err_fail(e, "a sampler gives its model x and t");
    Id x = in[0].value;
    if (a->s->answers > 1)
        x = with_attrs(g, "concat", first, 1, a->s->answers, (Id[]){x, x, x}, e);
    const Type context =
        type_of(F32, 3, (int64_t[]){all, TOKEN_ROW * a->s->chunks, a->d->width});
    Named given[3] = {{"latent", x},
                      {"timestep", x == NO_ID ? NO_ID : times(g, in[1].value, all, e)},
                      {"context", input_of(g, ROLE_INPUT, "context", context, true)}};
    Named *result;
    int n;
    if (given[1].value == NO_ID ||
        !build_network(b, job_net(&a->d->job, "unet"), given, 3, &result, &n, e))
        return false;
    *out = a->s->answers > 1 ? guide(a->s, g, result[0].value, e) : result[0].value;
    return *out != NO_ID;
}

static Graph *adapt(void *ctx, Graph *g, Err *e) {
    Draw *d = ctx;
    Net *net = (Net *)job_net(&d->job, "unet");
    return adapters_use(d->plans, g, net, d->spec.use, d->spec.n_use, false, d->used,
                        &d->unet, e)
               ? d->unet.graph
               : NULL;
}

static bool declared(const Doc *d, const char *name) {
    const YNode *args = yaml_get(d->root, "args");
    return args && yaml_get(args, name);
}

static Args *sampler_args(const Draw *d, Arena *a, const DrawShape *s) {
    Args *args = args_new(a);
    if (declared(s->sampler, "steps")) args_set(args, "steps", val_int(s->steps));
    if (declared(s->sampler, "first")) args_set(args, "first", val_int(s->first));
    if (d->spec.v_prediction && declared(s->sampler, "prediction"))
        args_set(args, "prediction", val_word("v"));
    return args;
}

bool draw_runs(Draw *d, const DrawShape *s, int64_t *runs, Err *e) {
    Arena *a = arena_new();
    const bool ok = sampler_runs(a, s->sampler, sampler_args(d, a, s), runs, e);
    arena_free(a);
    return ok;
}

bool draw_first_run(Draw *d, const DrawShape *s, int64_t *run, Err *e) {
    Arena *a = arena_new();
    const bool ok = sampler_first(a, s->sampler, sampler_args(d, a, s), run, e);
    arena_free(a);
    return ok;
}

static bool make_sampler(Draw *d, const DrawShape *s, Err *e) {
    sampler_close(d);
    d->plans = arena_new();
    Args *args = sampler_args(d, d->plans, s);
    Answer a = {d, s};
    const SamplerModel model = {&a, answer};
    const SamplerWish wish = {.doc = s->sampler,
                              .args = args,
                              .latent =
                                  type_of(F32, 4, (int64_t[]){s->batch, s->h, s->w, 4}),
                              .model = &model,
                              .adapt = adapt,
                              .ctx = d};
    Options opt = {.net = (Net *)job_net(&d->job, "unet"),
                   .n_net = 1,
                   .reference_kernels = d->spec.exact,
                   .cuda = device_is_cuda(d->dev)};
    if (!sampler_plans(d->plans, &wish, &opt, &d->sampler, e)) return false;
    d->start = exec_open(d->store, d->sampler.start, e);
    d->step = d->start ? exec_open(d->store, d->sampler.step, e) : NULL;
    if (d->step && d->sampler.picture) {
        d->picture = exec_open(d->store, d->sampler.picture, e);
        if (!d->picture) return false;
    }
    if (!d->step || !adapters_fill(&d->unet, d->step, e)) return false;
    d->shape = *s;
    return d->ready = true;
}

static bool same_shape(const DrawShape *a, const DrawShape *b) {
    return a->batch == b->batch && a->h == b->h && a->w == b->w &&
           a->chunks == b->chunks && a->answers == b->answers &&
           a->sampler == b->sampler && a->steps == b->steps && a->first == b->first;
}

bool draw_sampler(Draw *d, const DrawShape *s, const float *context, const float *scale,
                  Sampler *out, Err *e) {
    if (!(d->ready && same_shape(s, &d->shape)) && !make_sampler(d, s, e)) return false;
    const size_t n = (size_t)(s->batch * s->answers) * (size_t)(TOKEN_ROW * s->chunks) *
                     (size_t)d->width;
    *out = (Sampler){.start = d->start,
                     .step = d->step,
                     .picture = d->picture,
                     .runs = d->sampler.runs,
                     .given = {{"context", context, n * sizeof *context},
                               {"scale", scale, sizeof *scale},
                               {"negative_scale", scale + 1, sizeof *scale}},
                     .n_given = s->answers,
                     .draw = d->sampler.draw,
                     .n_draw = d->sampler.n_draw};
    return true;
}
