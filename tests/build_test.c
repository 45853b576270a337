/* Documents to graphs: nodes, templates, formulas, networks, objectives, samplers,
 * optimizers; and what wrong documents are told. */
#include "graph/lang/build.h"
#include "tests/check.h"

#include <string.h>

/* ---- helpers ---- */

typedef struct Bench {
    Arena *a;
    Library *lib;
    Graph *g;
    Build b;
    Err e;
} Bench;

static void open_bench(Bench *t) {
    *t = (Bench){.a = arena_new()};
    t->lib = library_new(t->a);
    t->g = graph_new(t->a, "test");
    t->b = (Build){.g = t->g, .training = true};
}

static Doc *document(Bench *t, const char *text) {
    Source *src = source_text(t->a, "mine.yaml", text, strlen(text));
    return doc_parse(t->lib, src, &t->e);
}

/* A network of this text expanded at small sizes; false: t->e says why not. */
static bool network(Bench *t, const char *text, Named **out, int *n_out) {
    const Doc *d = document(t, text);
    Net *net = NEW(t->a, Net, 1);
    Named *in;
    int n_in;
    return d &&
           net_bind(t->a, d, "net", NULL, args_new(t->a), NULL, net, NULL, &t->e) &&
           build_inputs(&t->b, d, net->args, probe_dims(t->a, d), "", &in, &n_in,
                        &t->e) &&
           build_network(&t->b, net, in, n_in, out, n_out, &t->e) &&
           graph_verify(t->g, &t->e);
}

static const Type *type_of_output(const Bench *t, const Named *out, int i) {
    return &t->g->value[out[i].value]->type;
}

static const Node *made_by(const Bench *t, Id id) {
    return t->g->node[t->g->value[id]->node];
}

/* The formula of the pointwise node that makes a value. */
static const char *formula(const Bench *t, Id id) {
    const Node *n = made_by(t, id);
    const Attr *f = attr_find(n->op, "f");
    return f ? *(const char *const *)((const char *)n->attrs + f->offset)
             : "(not pointwise)";
}

static int count_op(const Graph *g, const char *op) {
    int n = 0;
    for (uint32_t i = 0; i < g->n_node; i++) n += !strcmp(g->node[i]->op->name, op);
    return n;
}

static int count_role(const Graph *g, Role role) {
    int n = 0;
    for (uint32_t i = 0; i < g->n_value; i++) n += g->value[i]->role == role;
    return n;
}

/* The message of a network that must not build. */
static void refuse(const char *name, const char *text, const char *message) {
    Bench t;
    Named *out;
    int n_out;
    open_bench(&t);
    bool ok = network(&t, text, &out, &n_out);
    CHECK(!ok, "%s: it was accepted", name);
    CHECK(!strncmp(t.e.text, message, strlen(message)), "%s: got\n%s\nwant\n%s", name,
          t.e.text, message);
    CHECK(t.e.code == EXIT_MISUSE, "%s: exit code %d", name, t.e.code);
    arena_free(t.a);
}

#define HEAD                                                                           \
    "network: n\nsymbols: {B: batch, H: height}\ninputs: {x: {shape: [B, H, 8]}, t: "  \
    "{shape: [B]}}\n"

/* ---- formulas ---- */

static void test_formulas(void) {
    Bench t;
    Named *out;
    int n;
    open_bench(&t);
    bool ok =
        network(&t,
                HEAD "args: {half: 0.5, list: [3, 7]}\n"
                     "nodes:\n"
                     "  a: x * $half + 2 * 3 * x\n"
                     "  b: t * x\n"
                     "  same: b\n"
                     "  n: 2 ^ 3 - $list(1)\n"
                     "  c: x * n - $list(0)\n"
                     "  d: \"clamp(x, -1, max(2, 3))\"\n"
                     "  w: {op: index, n: 8}\n"
                     "  e: x + w\n"
                     "  f: w * w\n"
                     "  g: {is: w / 3, dtype: f32}\n"
                     "  h: g * 2\n"
                     "outputs: {a: a, b: same, c: c, d: d, e: e, f: f, h: h, n: n}\n",
                &out, &n);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(!strcmp(formula(&t, out[0].value), "x0 * 0.5 + 6 * x0"), "%s",
          formula(&t, out[0].value));
    CHECK(!strcmp(formula(&t, out[1].value), "x0 * x1"), "%s",
          formula(&t, out[1].value));
    CHECK(t.g->value[out[1].value]->batch,
          "a value made of per-sample values counts samples");
    const Node *b = made_by(&t, out[1].value);
    const Type *left = &t.g->value[b->in[0]]->type;
    CHECK(left->rank == 3 && left->dim[0] == 2 && left->dim[1] == 1 &&
              left->dim[2] == 1,
          "[B] beside [B, H, 8] becomes [B, 1, 1], got rank %d", left->rank);
    CHECK(!strcmp(formula(&t, out[2].value), "x0 * 1 - 3") ||
              !strcmp(formula(&t, out[2].value), "x0 - 3"),
          "%s", formula(&t, out[2].value));
    CHECK(!strcmp(formula(&t, out[3].value), "clamp(x0, -1, 3)"), "%s",
          formula(&t, out[3].value));
    CHECK(type_of_output(&t, out, 4)->dtype == F32, "a constant meets f32 as f32");
    CHECK(type_of_output(&t, out, 5)->dtype == F64,
          "constants among themselves are f64");
    CHECK(type_of_output(&t, out, 6)->dtype == F32,
          "'dtype: f32' makes a constant f32");
    const Value *number = t.g->value[out[7].value];
    CHECK(number->role == ROLE_CONST && number->type.dtype == F64 &&
              number->data[0] == 1,
          "a formula of numbers is an f64 number");
    arena_free(t.a);
}

static void test_tables(void) {
    Bench t;
    Named *out;
    int n;
    open_bench(&t);
    bool ok = network(&t,
                      HEAD "nodes:\n"
                           "  i:     {op: index, n: 10}\n"
                           "  table: i / 10\n"
                           "  a:     table(t)\n"
                           "  b:     x * table(t) + table(9)\n"
                           "  c:     table(9 - i)\n"
                           "outputs: {a: a, b: b, c: c}\n",
                      &out, &n);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(!strcmp(made_by(&t, out[0].value)->op->name, "embedding"),
          "a read is one node");
    CHECK(type_of_output(&t, out, 0)->dtype == F32 &&
              type_of_output(&t, out, 0)->rank == 1,
          "read at run time: f32 per sample");
    CHECK(t.g->value[out[0].value]->batch, "read per sample: counts samples");
    CHECK(!strcmp(formula(&t, out[1].value), "x0 * x1 + x2"), "%s",
          formula(&t, out[1].value));
    CHECK(type_of_output(&t, out, 2)->dtype == F64 &&
              type_of_output(&t, out, 2)->dim[0] == 10,
          "a table read by a constant stays f64");
    CHECK(!t.g->value[out[2].value]->batch, "and counts no samples");
    arena_free(t.a);
}

/* ---- nodes ---- */

static void test_nodes(void) {
    Bench t;
    Named *out;
    int n;
    open_bench(&t);
    bool ok = network(
        &t,
        HEAD "blocks: [IN, OUT]\n"
             "templates:\n"
             "  step:\n"
             "    args: {out: int, more: true}\n"
             "    inputs: [x]\n"
             "    nodes:\n"
             "      lin: {op: linear, x: x, out: $out}\n"
             "      y:   {is: lin * 2, when: $more, else: lin}\n"
             "    output: y\n"
             "nodes:\n"
             "  keep:  {push: s, x: x}\n"
             "  deep:  {use: step, repeat: 3, chain: x, x: x, out: 4 + $i, more: $i < "
             "1, block: 1}\n"
             "  none:  {use: step, repeat: 0, chain: x, x: deep, out: 3}\n"
             "  skip:  {op: linear, x: none, out: 5, when: channels(none) != 6}\n"
             "  top:   {peek: s}\n"
             "  back:  {pop: s}\n"
             "  both:  {op: concat, x: [skip, back]}\n"
             "outputs: {y: both, top: top}\n",
        &out, &n);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(type_of_output(&t, out, 0)->dim[2] == 14, "6 channels beside 8, got %lld",
          (long long)type_of_output(&t, out, 0)->dim[2]);
    CHECK(count_op(t.g, "linear") == 3, "got %d linear", count_op(t.g, "linear"));
    CHECK(count_op(t.g, "pointwise") == 1, "one instance has more");
    CHECK(graph_find(t.g, "net.deep.2.lin.weight") != NO_ID, "the path is the name");
    CHECK(graph_find(t.g, "net.deep.2.lin.bias") != NO_ID, "with a bias");
    CHECK(graph_find(t.g, "net.skip.weight") == NO_ID, "left out: owns nothing");
    const Value *w = t.g->value[graph_find(t.g, "net.deep.1.lin.weight")];
    CHECK(w->role == ROLE_FROZEN && w->type.dim[0] == 5 && w->type.dim[1] == 4,
          "chained");
    for (uint32_t i = 0; i < t.g->n_node; i++) {
        const Node *k = t.g->node[i];
        int want = strncmp(k->at.path, "net.deep", 8) ? -1 : 1;
        CHECK(k->at.block == want, "%s: block %d", k->at.path, k->at.block);
        CHECK(k->at.loc.line > 0, "%s has a place", k->at.path);
    }
    CHECK(graph_find(t.g, "rng") == NO_ID, "no random node, no key");
    arena_free(t.a);
}

static void test_batch(void) {
    Bench t;
    Named *out;
    int n;
    open_bench(&t);
    bool ok = network(
        &t,
        HEAD
        "nodes:\n"
        "  all:  {op: mean, x: x, over: sample}\n"
        "  rows: {op: mean, x: x, over: 0}\n"
        "  one:  {op: mean, x: x}\n"
        "  lin:  {op: linear, x: x, out: 3}\n"
        "  like: {op: normal, like: x}\n"
        "  own:  {op: normal, shape: [B, 4]}\n"
        "  same: {op: normal, shape: [2, 4]}\n"
        "  k:    {op: draw, below: 4}\n"
        "outputs: {a: all, b: rows, c: one, d: lin, e: like, f: own, g: same, h: k}\n",
        &out, &n);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    static const bool want[] = {true, false, false, true, true, true, false, false};
    for (int i = 0; i < n; i++)
        CHECK(t.g->value[out[i].value]->batch == want[i], "output %s: batch %d",
              out[i].name, !want[i]);
    CHECK(graph_find(t.g, "rng") != NO_ID && count_role(t.g, ROLE_SCALAR) == 1,
          "one key");
    arena_free(t.a);
}

static void test_refusals(void) {
    refuse("no such value",
           HEAD "nodes:\n  conv_in: x + 1\n  b: conv_im * 2\noutputs: {y: b}\n",
           "mine.yaml:6:6: error: no value 'conv_im' here; did you mean 'conv_in'?");
    refuse("no such argument",
           HEAD "args: {width: 8}\nnodes:\n  a: {op: linear, x: x, out: "
                "$widht}\noutputs: {y: a}\n",
           "mine.yaml:6:30: error: no argument '$widht' here; did you mean '$width'?");
    refuse("empty stack", HEAD "nodes:\n  a: {pop: skip}\noutputs: {y: a}\n",
           "mine.yaml:5:6: error: 'pop' from the empty stack 'skip'");
    refuse("stack not empty", HEAD "nodes:\n  a: {push: skip, x: x}\noutputs: {y: a}\n",
           "mine.yaml:5:3: error: stack 'skip' still holds 1 value at the end");
    refuse("nothing to pass on",
           HEAD "nodes:\n  a: {op: index, n: 4, when: false}\noutputs: {y: a}\n",
           "mine.yaml:5:6: error: node 'a' may be left out ('when') and has no 'x' to "
           "pass on: give 'else'");
    refuse("shapes",
           HEAD "nodes:\n  i: {op: index, n: 5}\n  a: x + i\noutputs: {y: a}\n",
           "mine.yaml:6:6: error: pointwise");
    refuse("block",
           HEAD "blocks: [A]\nnodes:\n  a: {is: x, block: 1}\noutputs: {y: a}\n",
           "mine.yaml:6:21: error: 'block' is 1, want 0 to 0");
    refuse("repeat",
           HEAD "templates: {s: {inputs: [x], nodes: {y: x * 2}, output: y}}\n"
                "nodes:\n  a: {use: s, x: x, repeat: 5000}\noutputs: {y: a}\n",
           "mine.yaml:6:29: error: 'repeat' is 5000, want 0 to 4096");
    refuse("growth",
           HEAD
           "templates:\n"
           "  s: {inputs: [x], nodes: {y: x * 2}, output: y}\n"
           "  t: {inputs: [x], nodes: {y: {use: s, x: x, repeat: 4000, chain: x}}, "
           "output: y}\n"
           "nodes:\n  a: {use: t, x: x, repeat: 4000, chain: x}\noutputs: {y: a}\n",
           "mine.yaml:5:31: error: more than 200000 nodes");
    refuse("not finite", HEAD "nodes:\n  a: 1 / 0\noutputs: {y: a}\n",
           "mine.yaml:5:8: error: this number is not finite");
    refuse("call in a network", HEAD "nodes:\n  a: {call: n, x: x}\noutputs: {y: a}\n",
           "mine.yaml:5:13: error: 'call' is for objectives and samplers");
    refuse("a missing argument",
           HEAD "args: {w: int}\nnodes: {a: x}\noutputs: {y: a}\n",
           "error: network 'net' needs its argument 'w'");
}

/* ---- shipped networks ---- */

static bool shipped(Bench *t, const char *name, const char *variant, Net *net) {
    const Doc *d = doc_load(t->lib, name, DOC_NETWORK, NULL, loc_none(), &t->e);
    Named *in, *out;
    int n_in, n_out;
    return d &&
           net_bind(t->a, d, name, variant, args_new(t->a), NULL, net, NULL, &t->e) &&
           build_inputs(&t->b, d, net->args, probe_dims(t->a, d), "", &in, &n_in,
                        &t->e) &&
           build_network(&t->b, net, in, n_in, &out, &n_out, &t->e) &&
           graph_verify(t->g, &t->e);
}

static void test_shipped(void) {
    /* tensors of the released checkpoints, by component */
    static const struct {
        const char *name, *variant;
        int tensors;
        const char *one;
        int rank;
    } nets[] = {
        {"unet", "sd15", 686,
         "unet.up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight", 2},
        {"unet", "sd21", 686, "unet.down_blocks.0.downsamplers.0.conv.weight", 4},
        {"unet", "tiny", 686, "unet.mid_block.attentions.0.proj_in.bias", 1},
        {"clip", "clip_l", 196, "clip.text_model.encoder.layers.11.mlp.fc2.weight", 2},
        {"clip", "clip_h", 372, "clip.text_model.embeddings.position_embedding.weight",
         2},
        {"vae_encoder", "sd", 108, "vae_encoder.quant_conv.weight", 4},
        {"vae_decoder", "sd", 140,
         "vae_decoder.decoder.mid_block.attentions.0.to_out.0.bias", 1},
    };
    for (size_t i = 0; i < COUNT(nets); i++) {
        Bench t;
        Net net;
        open_bench(&t);
        bool ok = shipped(&t, nets[i].name, nets[i].variant, &net);
        CHECK(ok, "%s %s: %s", nets[i].name, nets[i].variant, t.e.text);
        CHECK(count_role(t.g, ROLE_FROZEN) == nets[i].tensors,
              "%s %s: %d tensors, want %d", nets[i].name, nets[i].variant,
              count_role(t.g, ROLE_FROZEN), nets[i].tensors);
        Id one = graph_find(t.g, nets[i].one);
        CHECK(one != NO_ID && t.g->value[one]->type.rank == nets[i].rank, "no %s",
              nets[i].one);
        arena_free(t.a);
    }
}

/* ---- checkpoints ---- */

/* Shapes of a network of one variant, as if they stood in a checkpoint. */
typedef struct Shapes {
    const Graph *g;
    const char *net;
    const char *four; /* a matrix that is stored as a 1x1 convolution */
    const char *gone; /* a tensor that is missing */
} Shapes;

static bool find_shape(void *ctx, const char *name, Type *out) {
    const Shapes *s = ctx;
    char full[256];
    snprintf(full, sizeof full, "%s.%s", s->net, name);
    Id id = graph_find(s->g, full);
    if (id == NO_ID || (s->gone && !strcmp(name, s->gone))) return false;
    *out = s->g->value[id]->type;
    out->dtype = F16;
    if (s->four && strstr(name, s->four) && out->rank == 2) {
        out->rank = 4;
        out->dim[2] = out->dim[3] = 1;
    }
    return true;
}

static void test_variants(void) {
    Bench t, u;
    Net net, found;
    Str note = {0};
    open_bench(&t);
    open_bench(&u);
    CHECK(shipped(&t, "unet", "tiny", &net), "%s", t.e.text);
    Shapes s = {.g = t.g, .net = "unet", .four = "proj_in"};
    WeightShapes shapes = {&s, find_shape};
    const Doc *d = doc_load(u.lib, "unet", DOC_NETWORK, NULL, loc_none(), &u.e);
    bool ok = net_bind(u.a, d, "unet", NULL, NULL, &shapes, &found, &note, &u.e);
    CHECK(ok, "%s", u.e.text);
    CHECK(note.s && !strcmp(note.s, "network 'unet': variant 'tiny'\n"), "note: %s",
          note.s);
    Named *in, *out;
    int n_in, n_out;
    ok = ok &&
         build_inputs(&u.b, d, found.args, probe_dims(u.a, d), "", &in, &n_in, &u.e) &&
         build_network(&u.b, &found, in, n_in, &out, &n_out, &u.e);
    CHECK(ok, "%s", u.e.text);
    Id w = graph_find(u.g, "unet.mid_block.attentions.0.proj_in.weight");
    CHECK(w != NO_ID && u.g->value[w]->type.rank == 4 &&
              u.g->value[w]->type.dtype == F16,
          "the file's form is kept");
    s.gone = "conv_in.bias";
    u.e = (Err){0};
    ok = net_bind(u.a, d, "unet", NULL, NULL, &shapes, &found, &note, &u.e);
    CHECK(!ok && u.e.code == EXIT_FAILED, "a missing tensor fits no variant");
    CHECK(strstr(u.e.text, "no variant of network 'unet' fits the checkpoint"), "%s",
          u.e.text);
    CHECK(
        strstr(u.e.text,
               "sd15: 'time_embedding.linear_1.weight' is [128, 32], want [1280, 320]"),
        "%s", u.e.text);
    CHECK(strstr(u.e.text, "tiny: no 'conv_in.bias'"), "%s", u.e.text);
    str_free(&note);
    arena_free(t.a);
    arena_free(u.a);
}

/* ---- objectives, samplers, optimizers ---- */

static bool objective(Bench *t, const char *name, const Args *args) {
    Net *net = NEW(t->a, Net, 2);
    static const char *const docs[] = {"unet", "clip"}, *const names[] = {
                                                            "unet", "text_encoder"};
    for (int i = 0; i < 2; i++) {
        const Doc *d = doc_load(t->lib, docs[i], DOC_NETWORK, NULL, loc_none(), &t->e);
        if (!d ||
            !net_bind(t->a, d, names[i], "tiny", NULL, NULL, &net[i], NULL, &t->e))
            return false;
    }
    t->b.net = net;
    t->b.n_net = 2;
    const Doc *d = doc_load(t->lib, name, DOC_OBJECTIVE, NULL, loc_none(), &t->e);
    return d && build_objective(&t->b, d, args, probe_dims(t->a, d), &t->e) &&
           graph_verify(t->g, &t->e);
}

static void test_objectives(void) {
    Bench t;
    open_bench(&t);
    static const char *const given[] = {"noise", "t", NULL};
    static const char *const absent[] = {"mask", "loss_weight", NULL};
    t.b.given = given;
    t.b.absent = absent;
    CHECK(objective(&t, "ddpm", NULL), "%s", t.e.text);
    Id noise = graph_find(t.g, "noise"), step = graph_find(t.g, "t");
    CHECK(noise != NO_ID && t.g->value[noise]->role == ROLE_INPUT &&
              t.g->value[noise]->batch && t.g->value[noise]->type.rank == 4,
          "the noise is given");
    CHECK(step != NO_ID && t.g->value[step]->type.dtype == I32, "so are the steps");
    CHECK(graph_find(t.g, "mask") == NO_ID, "an absent input is no input");
    CHECK(graph_find(t.g, "latent") != NO_ID, "latents are");
    CHECK(graph_output_find(t.g, "loss") != NO_ID, "the loss is an output");
    CHECK(graph_output_find(t.g, "log.per_sample") != NO_ID, "so is what is logged");
    CHECK(graph_output_find(t.g, "unet.noise") != NO_ID, "and what the networks gave");
    CHECK(graph_output_find(t.g, "text_encoder.context") != NO_ID, "each of them");
    Id loss = graph_output_find(t.g, "loss");
    CHECK(loss != NO_ID && t.g->value[loss]->type.rank == 0, "one number");
    arena_free(t.a);

    open_bench(&t);
    Args *all = args_new(t.a);
    args_set(all, "prediction", val_word("v"));
    args_set(all, "zero_terminal_snr", val_bool(true));
    args_set(all, "noise_offset", val_float(0.1));
    args_set(all, "adaptive_noise_scale", val_float(0.01));
    args_set(all, "ip_noise_gamma", val_float(0.1));
    args_set(all, "min_snr_gamma", val_float(5));
    args_set(all, "scale_v_pred_loss_like_noise_pred", val_bool(true));
    args_set(all, "v_pred_like_loss", val_float(0.5));
    args_set(all, "debiased_estimation_loss", val_bool(true));
    args_set(all, "masked_loss", val_bool(true));
    args_set(all, "loss_type", val_word("huber"));
    args_set(all, "huber_schedule", val_word("exponential"));
    CHECK(objective(&t, "ddpm", all), "with every option: %s", t.e.text);
    CHECK(graph_find(t.g, "mask") != NO_ID, "the mask is an input");
    arena_free(t.a);

    open_bench(&t);
    static const char *const wrong[] = {"noize", NULL};
    t.b.given = wrong;
    CHECK(!objective(&t, "epsilon", NULL) &&
              strstr(t.e.text, "objective 'epsilon' has no node 'noize' to give"),
          "%s", t.e.text);
    arena_free(t.a);
}

static bool echo(void *ctx, Build *b, const Named *in, int n_in, Id *out, Err *e) {
    (void)b, (void)e;
    int *calls = ctx;
    ++*calls;
    CHECK(n_in == 2 && !strcmp(in[0].name, "x") && !strcmp(in[1].name, "t"),
          "x and t are given");
    *out = in[0].value;
    return true;
}

static void test_samplers(void) {
    static const char *const names[] = {"ddim", "euler", "euler_a", "dpmpp_2m",
                                        "unipc"};
    Type latent = type_of(F32, 4, (int64_t[]){2, 4, 4, 4});
    for (size_t i = 0; i < COUNT(names); i++) {
        Bench t;
        int calls = 0;
        open_bench(&t);
        SamplerModel model = {&calls, echo};
        const Doc *d = doc_load(t.lib, names[i], DOC_SAMPLER, NULL, loc_none(), &t.e);
        bool ok = d && build_sampler(&t.b, d, NULL, latent, &model, &t.e) &&
                  graph_verify(t.g, &t.e);
        CHECK(ok, "%s: %s", names[i], t.e.text);
        CHECK(calls > 0, "%s calls the model", names[i]);
        if (ok) {
            const YNode *state = yaml_get(d->root, "state");
            for (int k = 0; k < state->n; k++) {
                const char *end = arena_printf(t.a, "state.%s", state->key[k]->s);
                const char *start = arena_printf(t.a, "start.%s", state->key[k]->s);
                Id in = graph_find(t.g, end), out = graph_output_find(t.g, end);
                Id first = graph_output_find(t.g, start);
                CHECK(in != NO_ID && out != NO_ID && first != NO_ID, "%s: %s", names[i],
                      end);
                if (in == NO_ID || out == NO_ID || first == NO_ID) continue;
                const Type *want = &t.g->value[in]->type;
                CHECK(type_equal(want, &latent), "%s: %s is the latent's size",
                      names[i], end);
                CHECK(type_equal(want, &t.g->value[out]->type), "%s: %s keeps its type",
                      names[i], end);
                CHECK(type_equal(want, &t.g->value[first]->type), "%s: %s", names[i],
                      start);
            }
        }
        arena_free(t.a);
    }
}

static bool update(Bench *t, const Doc *d, UpdateProgram *u) {
    return d && build_update(t->a, d, NULL, u, &t->e);
}

/* One update of w[6,4], in slices of 2 along an axis or as a whole (-1). */
static bool nodes_update(Bench *t, const Doc *d, int axis) {
    Type w = type_of(F32, 2, (int64_t[]){6, 4}), on = type_of(I32, 1, (int64_t[]){3});
    Loc none = loc_none();
    t->g = t->b.g = graph_new(t->a, "update");
    UpdateParam p = {.name = "w",
                     .p = graph_value(t->g, ROLE_TRAIN, w, "w", none),
                     .grad = graph_value(t->g, ROLE_INPUT, w, "grad", none),
                     .lr = graph_value(t->g, ROLE_SCALAR, type_scalar(F64), "lr", none),
                     .active = NO_ID,
                     .slice_axis = axis,
                     .slice_size = 2};
    if (axis >= 0) p.active = graph_value(t->g, ROLE_INPUT, on, "on", none);
    return build_update_nodes(&t->b, d, NULL, &p, 1, graph_number(t->g, 1, F32), &t->e);
}

static void test_updates(void) {
    Bench t;
    UpdateProgram u = {0};
    open_bench(&t);
    bool ok =
        update(&t, doc_load(t.lib, "adamw", DOC_OPTIMIZER, NULL, loc_none(), &t.e), &u);
    CHECK(ok, "%s", t.e.text);
    if (ok) {
        CHECK(!strcmp(u.formula,
                      "t = t + 1; m = 0.9 * m + 0.09999999999999998 * g; "
                      "v = 0.999 * v + 0.0010000000000000009 * g * g; "
                      "root = sqrt(v) / sqrt(1 - 0.999 ^ t) + 1e-08; "
                      "p = p * (1 - lr * 0.01) - lr / (1 - 0.9 ^ t) * m / root"),
              "%s", u.formula);
        CHECK(u.n_state == 3 && !strcmp(u.state[2].name, "t"), "m, v, t");
        CHECK(!u.state[0].scalar && !u.state[1].scalar && u.state[2].scalar,
              "the step count is one number");
    }
    ok = update(&t,
                document(&t, "optimizer: o\nstate: {a: 0, b: 1, c: 2}\nupdate:\n"
                             "  p: p - lr * b\n  b: a\n  a: a + c\n  c: c * 2 + p\n"),
                &u);
    CHECK(ok, "%s", t.e.text);
    CHECK(ok && !u.state[0].scalar && !u.state[1].scalar && !u.state[2].scalar,
          "c reads p, a reads c, b reads a: none is one number");
    CHECK(ok && u.state[1].start == 1, "a start");
    t.e = (Err){0};
    CHECK(!update(&t, document(&t, "optimizer: o\nupdate: {q: p - lr * g}\n"), &u) &&
              strstr(t.e.text, "optimizer 'o' gives no new 'p'"),
          "%s", t.e.text);
    t.e = (Err){0};
    CHECK(!update(&t, document(&t, "optimizer: o\nupdate: {p: p - lr * grad}\n"), &u) &&
              strstr(t.e.text, "mine.yaml:2:22: error: no value 'grad' here"),
          "%s", t.e.text);
    t.e = (Err){0};
    const Doc *d = doc_load(t.lib, "adafactor", DOC_OPTIMIZER, NULL, loc_none(), &t.e);
    CHECK(!update(&t, d, &u), "an update with ops is no program");
    t.e = (Err){0};
    CHECK(!update_is_program(d), "and says so");
    CHECK(d && nodes_update(&t, d, -1), "%s", t.e.text);
    Id row = graph_find(t.g, "w.row");
    CHECK(row != NO_ID && t.g->value[row]->type.dim[0] == 6 &&
              t.g->value[row]->type.dim[1] == 1,
          "one number per row");
    arena_free(t.a);
}

/* A tensor that learns in slices has numbers per slice; shared states are one for all;
 * codes are bytes and scales. */
static void test_update_nodes(void) {
    Bench t;
    open_bench(&t);
    const Doc *d = doc_load(t.lib, "prodigy", DOC_OPTIMIZER, NULL, loc_none(), &t.e);
    CHECK(d && nodes_update(&t, d, 0) && graph_verify(t.g, &t.e), "%s", t.e.text);
    Id count = graph_find(t.g, "w.t"), shared = graph_find(t.g, "prodigy.d");
    CHECK(count != NO_ID && t.g->value[count]->type.rank == 3 &&
              t.g->value[count]->type.dim[0] == 3 &&
              t.g->value[count]->type.dtype == F64,
          "a step count per slice");
    CHECK(shared != NO_ID && t.g->value[shared]->type.rank == 0, "d is one number");
    arena_free(t.a);
    open_bench(&t);
    d = document(&t, "optimizer: o\nstate: {m: {start: 0, codes: signed, block: 5}}\n"
                     "update: {m: m + g, p: p - lr * m}\n");
    CHECK(d && nodes_update(&t, d, -1) && graph_verify(t.g, &t.e), "%s", t.e.text);
    Id codes = graph_find(t.g, "w.m.codes"), scale = graph_find(t.g, "w.m.scale");
    CHECK(codes != NO_ID && t.g->value[codes]->type.dtype == U8 &&
              type_count(&t.g->value[codes]->type) == 24,
          "a byte per element");
    CHECK(scale != NO_ID && type_count(&t.g->value[scale]->type) == 5,
          "a scale for 5 elements, and one for the rest");
    static const char *const wrong[][2] = {
        {"state: {d: {start: 1, shared: true}}\nupdate: {d: d + g, p: p - d * g}\n",
         "mine.yaml:3:10: error: 'd' is one number for all parameters"},
        {"update: {n: {total: g, when: true, else: 0}, p: p - n * g}\n",
         "no other key stands"},
        {"state: {m: {start: 1, codes: signed}}\nupdate: {p: p - lr * g}\n",
         "starts as 0"},
        {"state: {m: {start: 0, codes: sign}}\nupdate: {p: p - lr * g}\n",
         "got 'sign', want one of signed, unsigned"},
        {"update: {n: {total: g}}\n", "gives no new 'p'"},
    };
    for (size_t i = 0; i < COUNT(wrong); i++) {
        t.e = (Err){0};
        d = document(&t, arena_printf(t.a, "optimizer: o\n%s", wrong[i][0]));
        CHECK(!(d && nodes_update(&t, d, -1)), "accepted: %s", wrong[i][0]);
        CHECK(strstr(t.e.text, wrong[i][1]), "want '%s', got %s", wrong[i][1],
              t.e.text);
    }
    t.e = (Err){0};
    CHECK(
        !document(&t, "objective: o\ninputs: {}\nnodes: {a: {total: 1}}\nloss: a\n") &&
            strstr(t.e.text, "'total' is for optimizers"),
        "%s", t.e.text);
    arena_free(t.a);
}

int main(void) {
    test_formulas();
    test_tables();
    test_nodes();
    test_batch();
    test_refusals();
    test_shipped();
    test_variants();
    test_objectives();
    test_samplers();
    test_updates();
    test_update_nodes();
    return check_done("build");
}
