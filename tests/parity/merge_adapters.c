/* Adapters with tensors of their own, merged into a model: the merged layer must answer as
 * the layer with the adapter does (`graphrun eval ADAPTER`), for a linear layer and a 3x3
 * convolution, both with a bias; and `graphrun info` must tell the size of that change.
 *
 *   merge_adapters PROGRAM MODEL */
#include "kernels/rng.h"
#include "tests/parity/program.h"

enum { RANK = 2, BLOCKS = 4, MOST = 6 };

typedef struct Layer {
    const char *lora, *ldm;
    TensorEntry w, b;
    int64_t out, in, taps, row;
} Layer;
static Layer layer[] = {
    {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
     "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
     {0},
     {0},
     0,
     0,
     0,
     0},
    {"lora_unet_down_blocks_0_resnets_0_conv1",
     "model.diffusion_model.input_blocks.1.0.in_layers.2",
     {0},
     {0},
     0,
     0,
     0,
     0},
};

/* dims: o out, i in, f out's fan_in, r rank, b blocks, s out / blocks, w the window, p the
 * window of a point */
typedef struct Case {
    const char *adapter, *file; /* file: with --adapter, or NULL: told by the keys */
    const char *settings;       /* of eval */
    double alpha;               /* 0: none in the file */
    struct {
        const char *key, *path, *dims;
        double around;
    } tensor[MOST];
} Case;

static const Case cases[] = {
    {"loha",
     NULL,
     "--set rank=2 --set alpha=3",
     3,
     {{"hada_w1_a", "hada_w1_a", "or", 0},
      {"hada_w1_b", "hada_w1_b", "rf", 0},
      {"hada_w2_a", "hada_w2_a", "or", 0},
      {"hada_w2_b", "hada_w2_b", "rf", 0}}},
    {"oft", NULL, "--set blocks=4", 0, {{"oft_blocks", "oft_blocks", "bss", 0}}},
    {"ia3", NULL, "", 0, {{"weight", "weight", "o", 0}}},
    {"diag-lora",
     NULL,
     "--set rank=2 --set alpha=3",
     3,
     {{"lora_down.weight", "lora_down.weight", "riw", 0},
      {"lora_up.weight", "lora_up.weight", "orp", 0},
      {"lora_strength", "strength", "r", 1}}},
    {"dora",
     NULL,
     "--set rank=2 --set alpha=3",
     3,
     {{"lora_down.weight", "lora_down", "riw", 0},
      {"lora_up.weight", "lora_up", "orp", 0},
      {"dora_scale", "dora_scale", "o1p", 2}}},
    {"diff", NULL, "", 0, {{"diff", "diff", "oiw", 0}}},
    {"lora",
     "lora",
     "--set rank=2 --set alpha=3",
     3, /* what no one needs to ask */
     {{"lora_down.weight", "lora_down.weight", "riw", 0},
      {"lora_up.weight", "lora_up.weight", "orp", 0}}},
};

static uint32_t drawn;
static float draw(void) {
    uint32_t word[4] = {drawn++};
    philox(word, 20261125, 1);
    return 2 * rng_uniform(word[0]) - 1;
}

static Type shape(const Layer *l, const char *dims) {
    Type t = type_of(F32, 0, NULL);
    for (const char *p = dims; *p; p++) {
        if ((*p == 'w' || *p == 'p') && l->taps == 1) continue;
        if (*p == 'w' || *p == 'p') {
            t.dim[t.rank++] = *p == 'w' ? 3 : 1;
            t.dim[t.rank++] = *p == 'w' ? 3 : 1;
            continue;
        }
        t.dim[t.rank++] = *p == 'o'   ? l->out
                          : *p == 'i' ? l->in
                          : *p == 'f' ? l->row
                          : *p == 'r' ? RANK
                          : *p == 'b' ? BLOCKS
                          : *p == 's' ? l->out / BLOCKS
                                      : 1;
    }
    return t;
}

static const float *draws(int64_t n, double around) {
    float *x = NEW(arena, float, n);
    for (int64_t i = 0; i < n; i++) x[i] = draw() / 4 + (float)around;
    return x;
}

/* What the layer with the adapter answers to x, one token or one window. */
static const TensorEntry *ask(const Case *c, const Layer *l, const Tensors *adapter,
                              const float *x) {
    Tensors in = *adapter;
    Type one = l->taps == 1 ? type_of(F32, 3, (int64_t[]){1, 1, l->in})
                            : type_of(F32, 4, (int64_t[]){1, l->in, 3, 3});
    give(&in, "x", one, x);
    give(&in, "w", l->w.type, l->w.data);
    give(&in, "b", l->b.type, l->b.data);
    const char *record = in_folder("record.safetensors");
    int code = run("eval %s %s --inputs %s --record %s", c->adapter, c->settings,
                   write_tensors(&in, "in.safetensors"), record);
    CHECK(code == 0, "eval %s ended with %d: %s", c->adapter, code,
          slurp(in_folder("err"), NULL));
    return code ? NULL : tensor(open_tensors(record), "y");
}

static double answer(const Layer *l, const TensorEntry *w, const TensorEntry *b,
                     const float *x, int64_t o) {
    double y = at(b, o);
    for (int64_t i = 0; i < l->row; i++) y += at(w, o * l->row + i) * (double)x[i];
    return y;
}

/* y0 + ratio (y1 - y0) for the layer alone (y0) and with the adapter (y1) */
static void check_layer(const Case *c, const Layer *l, double ratio, TensorFile *merged,
                        const TensorEntry *y1, const float *x) {
    const TensorEntry *w = tensor(merged, arena_printf(arena, "%s.weight", l->ldm)),
                      *b = tensor(merged, arena_printf(arena, "%s.bias", l->ldm));
    double off = 0, size = 0, moved = 0;
    for (int64_t o = 0; o < l->out; o++) {
        const double y0 = answer(l, &l->w, &l->b, x, o);
        const double want = y0 + ratio * (at(y1, o) - y0);
        off = fmax(off, fabs(answer(l, w, b, x, o) - want));
        size = fmax(size, fabs(want));
        moved = fmax(moved, fabs(want - y0));
    }
    CHECK(moved > 1e-3 * size, "%s on %s changes nothing", c->adapter, l->lora);
    CHECK(off <= 2e-6 * size, "%s on %s, ratio %g: off by %.2g of %.2g", c->adapter,
          l->lora, ratio, off, size);
}

static double square(const TensorEntry *new, const TensorEntry *old) {
    double sum = 0;
    for (int64_t i = 0; i < type_count(&old->type); i++)
        sum += (at(new, i) - at(old, i)) * (at(new, i) - at(old, i));
    return sum;
}

/* `info --sd_model` says the norm of what merging at ratio 1 changed. */
static void check_info(const Case *c, const char *model, const char *adapter,
                       TensorFile *merged) {
    int code =
        run("info --json --sd_model %s %s --adapter %s", model, adapter, c->adapter);
    CHECK(code == 0, "info of %s ended with %d: %s", c->adapter, code,
          slurp(in_folder("err"), NULL));
    const char *out = code ? "" : slurp(in_folder("out"), NULL);
    CHECK(strstr(out, arena_printf(arena, "\"adapter\": \"%s\"", c->adapter)),
          "info does not name %s: %.200s", c->adapter, out);
    for (int k = 0; k < 2; k++) {
        const Layer *l = &layer[k];
        const char *is = strstr(out, arena_printf(arena, "\"%s\"", l->lora));
        const char *norm = is ? strstr(is, "\"norm\": ") : NULL;
        const double got = norm ? strtod(norm + strlen("\"norm\": "), NULL) : -1;
        const double want = sqrt(
            square(tensor(merged, arena_printf(arena, "%s.weight", l->ldm)), &l->w) +
            square(tensor(merged, arena_printf(arena, "%s.bias", l->ldm)), &l->b));
        CHECK(fabs(got - want) <= 1e-4 * want, "%s on %s: info says %.6g, is %.6g",
              c->adapter, l->lora, got, want);
    }
}

static void check_case(const Case *c, const char *model) {
    Tensors file = {0}, own[2];
    memset(own, 0, sizeof own);
    const float *x[2];
    static const float on_input = 0;
    const float alpha = (float)c->alpha;
    for (int k = 0; k < 2; k++) {
        const Layer *l = &layer[k];
        for (int i = 0; i < MOST && c->tensor[i].key; i++) {
            Type t = shape(l, c->tensor[i].dims);
            const float *data = draws(type_count(&t), c->tensor[i].around);
            give(&file, arena_printf(arena, "%s.%s", l->lora, c->tensor[i].key), t,
                 data);
            give(&own[k], c->tensor[i].path, t, data);
        }
        if (c->alpha)
            give(&file, arena_printf(arena, "%s.alpha", l->lora), type_scalar(F32),
                 &alpha);
        if (!strcmp(c->adapter, "ia3"))
            give(&file, arena_printf(arena, "%s.on_input", l->lora), type_scalar(F32),
                 &on_input);
        x[k] = draws(l->row, 0);
    }
    const char *adapter = write_tensors(&file, "adapter.safetensors"),
               *out = in_folder("merged.safetensors");
    for (int r = 0; r < 2; r++) {
        const double ratio = r ? 0.7 : 1;
        int code = run("merge --sd_model %s --models %s --ratios %g --save_to %s %s %s",
                       model, adapter, ratio, out, c->file ? "--adapter" : "--quiet",
                       c->file ? c->file : "");
        CHECK(code == 0, "merge of %s ended with %d: %s", c->adapter, code,
              slurp(in_folder("err"), NULL));
        if (code) return;
        TensorFile *merged = open_tensors(out);
        for (int k = 0; k < 2; k++)
            check_layer(c, &layer[k], ratio, merged, ask(c, &layer[k], &own[k], x[k]),
                        x[k]);
        if (!r) check_info(c, model, adapter, merged);
        tensors_close(merged);
    }
}

/* ---- what cannot be merged ---- */

static void refused(const char *model, const char *yaml, const char *key, Type t,
                    const char *says) {
    const char *graph = in_folder("own.yaml"), *out = in_folder("none.safetensors");
    Err e = {0};
    must(file_write(graph, yaml, strlen(yaml), &e), graph, &e);
    Tensors file = {0};
    give(&file, arena_printf(arena, "%s.%s", layer[0].lora, key), t,
         draws(type_count(&t), 0));
    const char *adapter = write_tensors(&file, "adapter.safetensors");
    int code =
        run("merge --sd_model %s --models %s --ratios 1 --save_to %s --adapter %s",
            model, adapter, out, graph);
    const char *err = slurp(in_folder("err"), NULL);
    CHECK(code == 1, "ended with %d: %s", code, err);
    CHECK(strstr(err, says), "got '%s', want '%s'", err, says);
    CHECK(access(out, F_OK) != 0, "something was written");
}

static void check_refusals(const char *model) {
    static const char squares[] = "adapter: own\nwraps: [linear]\nnodes:\n"
                                  "  p: {op: param, shape: [$out], init: zeros}\n"
                                  "output: {add: y * y * p}\nsave:\n  kohya: {p: p}\n";
    Type t = type_of(F32, 1, (int64_t[]){layer[0].out});
    refused(model, squares, "p", t, "is not affine in its input");
    refused(model, squares, "q", t, "wants a tensor");
    t.dim[0]++;
    refused(model, squares, "p", t, "of adapter 'own'");
}

/* A tensor of the model, which holds halves, as f32. */
static TensorEntry floats(TensorFile *model, const char *ldm, const char *end) {
    TensorEntry t = *tensor(model, arena_printf(arena, "%s.%s", ldm, end));
    const int64_t n = type_count(&t.type);
    float *x = NEW(arena, float, n);
    convert(x, F32, t.data, t.type.dtype, n);
    t.data = x;
    t.type.dtype = F32;
    return t;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    program_start(argv[1]);
    TensorFile *model = open_tensors(argv[2]);
    for (int k = 0; k < 2; k++) {
        Layer *l = &layer[k];
        l->w = floats(model, l->ldm, "weight");
        l->b = floats(model, l->ldm, "bias");
        l->out = l->w.type.dim[0];
        l->in = l->w.type.dim[1];
        l->row = type_count(&l->w.type) / l->out;
        l->taps = l->row / l->in;
    }
    for (size_t i = 0; i < COUNT(cases); i++) check_case(&cases[i], argv[2]);
    check_refusals(argv[2]);
    return program_end("merge_adapters");
}
