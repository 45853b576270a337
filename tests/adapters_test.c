/* Adapters: which nodes they wrap with which arguments, what they compute, what is saved. */
#include "graph/lang/build.h"
#include "tests/check.h"

#include <math.h>
#include <string.h>

typedef struct Bench {
    Arena *a;
    Library *lib;
    Recipe r;
    Net *net;
    int n_net;
    Graph *g, *with; /* before and after injection */
    Modules m;
    Err e;
} Bench;

static void open_bench(Bench *t) {
    *t = (Bench){.a = arena_new()};
    t->lib = library_new(t->a);
}

/* The recipe's networks side by side in one graph; outputs "NETWORK.OUTPUT". */
static bool networks(Bench *t) {
    t->n_net = t->r.n_network;
    t->net = NEW(t->a, Net, t->n_net);
    t->g = graph_new(t->a, "test");
    Build b = {.g = t->g, .training = true};
    for (int i = 0; i < t->n_net; i++) {
        const RecipeNetwork *n = &t->r.network[i];
        Named *in, *out;
        int n_in, n_out;
        if (!net_bind(t->a, n->doc, n->name, n->variant, n->args, NULL, &t->net[i],
                      NULL, &t->e) ||
            !build_inputs(&b, n->doc, t->net[i].args, probe_dims(t->a, n->doc),
                          arena_printf(t->a, "%s.in.", n->name), &in, &n_in, &t->e) ||
            !build_network(&b, &t->net[i], in, n_in, &out, &n_out, &t->e))
            return false;
        for (int k = 0; k < n_out; k++)
            graph_output(t->g, arena_printf(t->a, "%s.%s", n->name, out[k].name),
                         out[k].value);
    }
    return true;
}

/* Modules of a recipe whose `adapters:` and `rules:` are the text; injected. */
static bool adapt(Bench *t, const char *adapters, const Args *set) {
    const char *text = arena_printf(t->a,
                                    "recipe: mine\n"
                                    "networks:\n"
                                    "  unet: {use: unet, variant: tiny}\n"
                                    "  text_encoder: {use: clip, variant: tiny}\n"
                                    "objective: {use: epsilon}\n"
                                    "optimizer: {use: adamw}\n"
                                    "%s",
                                    adapters);
    Source *src = source_text(t->a, "mine.yaml", text, strlen(text));
    const Doc *d = doc_parse(t->lib, src, &t->e);
    if (!d || !recipe_eval(t->a, t->lib, d, set ? set : args_new(t->a), &t->r, &t->e))
        return false;
    if (!networks(t)) return false;
    if (!modules_match(t->a, t->g, &t->r, t->net, t->n_net, &t->m, &t->e)) return false;
    t->with = adapters_inject(t->g, &t->m, true, &t->e);
    return t->with && graph_verify(t->with, &t->e);
}

static const Module *module_at(const Bench *t, const char *path) {
    for (int i = 0; i < t->m.n; i++)
        if (!strcmp(t->m.item[i].path, path)) return &t->m.item[i];
    return NULL;
}

static double number(const Module *m, const char *arg) {
    double x = NAN;
    const Val *v = args_get(m->args, arg);
    if (v) val_number(v, &x);
    return x;
}

static const char *from(const Module *m, const char *arg) {
    for (int i = 0; i < m->args->n; i++)
        if (!strcmp(m->args->name[i], arg)) return m->from[i];
    return "(none)";
}

static int count_role(const Graph *g, Role role) {
    int n = 0;
    for (uint32_t i = 0; i < g->n_value; i++) n += g->value[i]->role == role;
    return n;
}

#define TO_Q "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"

/* ---- matching ---- */

static void test_targets(void) {
    Bench t;
    open_bench(&t);
    bool ok = adapt(
        &t,
        "adapters:\n"
        "  - {use: lora, on: {text_encoder: [attention], unet: [attention]}, lr: 0.5, "
        "rank: 4}\n"
        "  - {use: lora, on: {unet: [resnet, conv3x3]}, lr: 0.5, rank: 2, alpha: 8}\n",
        NULL);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(t.m.n == 12 + 278, "got %d modules", t.m.n);
    CHECK(count_role(t.with, ROLE_TRAIN) == 2 * t.m.n, "two tensors each");
    CHECK(!strcmp(t.m.item[0].name,
                  "lora_te_text_model_encoder_layers_0_self_attn_q_proj"),
          "%s", t.m.item[0].name);
    const Module *q = module_at(&t, TO_Q),
                 *c = module_at(&t, "up_blocks.3.resnets.1.conv1");
    CHECK(
        q &&
            !strcmp(
                q->name,
                "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
        "names");
    CHECK(q && q->block == 1 && q->lr == 0.5 && number(q, "in") == 32,
          "facts of a linear");
    CHECK(q && args_get(q->args, "taps")->list.n == 0, "no taps");
    CHECK(c && c->block == 23 && number(c, "kernel") == 3 &&
              number(c, "fan_in") == 64 * 9,
          "facts of a convolution");
    CHECK(c && args_get(c->args, "taps")->list.n == 2, "two taps");
    Id up = graph_find(t.with, "lora_unet_up_blocks_3_resnets_1_conv1.lora_up.weight");
    Id down =
        graph_find(t.with, "lora_unet_up_blocks_3_resnets_1_conv1.lora_down.weight");
    CHECK(up != NO_ID && t.with->value[up]->type.rank == 2, "up is 1x1");
    CHECK(down != NO_ID && t.with->value[down]->type.dim[3] == 3,
          "down is as the node");
    if (up == NO_ID || down == NO_ID) return;
    const Param *p = t.with->value[down]->param;
    CHECK(p->init.kind == INIT_KAIMING_UNIFORM && p->lr == 0.5 && p->slice_axis == -1,
          "down");
    CHECK(t.with->value[up]->param->init.kind == INIT_ZEROS, "up");
    CHECK(p->module && !strcmp(p->module, c->name) && !strcmp(p->key, "lora_down"),
          "names");
    arena_free(t.a);
}

static void test_precedence(void) {
    Bench t;
    open_bench(&t);
    Args *set = args_new(t.a);
    args_set(set, "unet.**.attn1.to_k.alpha", val_float(9));
    bool ok = adapt(&t,
                    "adapters:\n"
                    "  - {use: lora, on: {unet: [attention]}, lr: 0.001, rank: 64, "
                    "dropout: 0.25, preset: uneven}\n"
                    "rules:\n"
                    "  - {match: \"unet.**.attn1.*\", rank: 7, alpha: 3}\n"
                    "  - {match: \"unet.**.to_k\", rank: 6, lr: 10}\n",
                    set);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(t.m.n == 192 - 12 + 2,
          "IN01 has lr 0 but where the rule gives another: got %d", t.m.n);
    CHECK(!module_at(&t, TO_Q), "a module with lr 0 is not made");
    const Module *q =
        module_at(&t, "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q");
    const Module *k =
        module_at(&t, "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_k");
    const Module *o = module_at(&t, "down_blocks.0.attentions.1.proj_out");
    CHECK(q && k && o, "modules");
    if (!q || !k || !o) return;
    CHECK(number(o, "rank") == 1 && number(o, "alpha") == 1,
          "the preset is stronger than the entry");
    CHECK(!strcmp(from(o, "rank"), "preset") && !strcmp(from(o, "dropout"), "entry"),
          "origins");
    CHECK(!strcmp(from(o, "rank_dropout"), "adapter") &&
              !strcmp(from(o, "out"), "node"),
          "origins");
    CHECK(number(o, "dropout") == 0.25, "the entry is stronger than the adapter");
    CHECK(o->lr == 0.001 * 0.5, "rate times the preset's factor, got %g", o->lr);
    CHECK(number(q, "rank") == 7 && !strcmp(from(q, "rank"), "rule"),
          "a rule is stronger yet");
    CHECK(number(k, "rank") == 6 && number(k, "alpha") == 9,
          "the last match wins, key by key");
    CHECK(!strcmp(from(k, "alpha"), "--set"), "the command line is the last rule: %s",
          from(k, "alpha"));
    CHECK(k->lr == 0.01 && !strcmp(from(k, "lr"), "rule"),
          "a rule's lr is a factor, got %g", k->lr);
    CHECK(q->lr == 0.001 * 0.5 && !strcmp(from(q, "lr"), "preset"), "got %g", q->lr);
    CHECK(number(k, "strength") == 9, "'let' sees the bound arguments");
    arena_free(t.a);
}

static void refuse(const char *adapters, const char *message) {
    Bench t;
    open_bench(&t);
    CHECK(!adapt(&t, adapters, NULL), "accepted: %s", adapters);
    CHECK(strstr(t.e.text, message), "got\n%s\nwant\n%s", t.e.text, message);
    arena_free(t.a);
}

static void test_refusals(void) {
    refuse(
        "adapters: [{use: lora, on: {unet: [\"**.attn9.*\"]}, lr: 1}]\n",
        "'**.attn9.*' matches no node of network 'unet' that adapter 'lora' can wrap");
    refuse("adapters: [{use: lora, on: {unet: [attention]}, lr: 1}]\nrules: [{match: "
           "\"unet.**.attn9.*\", rank: 2}]\n",
           "rule 'unet.**.attn9.*' matches no adapted node");
    refuse("adapters:\n  - {use: lora, on: {unet: [attention]}, lr: 1}\n"
           "  - {use: loha, on: {unet: [\"**.to_q\"]}, lr: 1}\n",
           "is wrapped already, by adapter 'lora' at mine.yaml:8; say 'stack: true' to "
           "have both");
    refuse("adapters: [{use: oft, on: {unet: [attention]}, lr: 1, blocks: 5}]\n",
           "note: adapter 'oft' on 'unet.down_blocks.0.attentions.0.proj_in'");
}

/* ---- other adapters ---- */

static const Value *value(const Bench *t, const char *name) {
    Id id = graph_find(t->with, name);
    CHECK(id != NO_ID, "no value '%s'", name);
    static const Value none;
    return id == NO_ID ? &none : t->with->value[id];
}

#define Q_NAME "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"

static void test_kinds(void) {
    Bench t;
    open_bench(&t);
    static const char *const given[] = {"k", NULL};
    t.m.given = given;
    bool ok = adapt(&t,
                    "adapters: [{use: dylora, on: {unet: [\"**.attn1.to_q\"]}, lr: 1, "
                    "rank: 8, unit: 2}]\n",
                    NULL);
    CHECK(ok, "%s", t.e.text);
    if (ok) {
        const Value *down = value(&t, Q_NAME ".lora_down.weight");
        const Value *up = value(&t, Q_NAME ".lora_up.weight"),
                    *k = value(&t, Q_NAME ".k");
        CHECK(down->param && down->param->slice_axis == 0 &&
                  down->param->slice_size == 2,
              "rows");
        CHECK(up->param && up->param->slice_axis == 1 &&
                  up->param->slice_index == k->id,
              "columns");
        CHECK(k->role == ROLE_INPUT && k->type.dtype == I32 && k->type.rank == 0,
              "the unit is given");
    }
    arena_free(t.a);

    open_bench(&t);
    ok = adapt(&t,
               "adapters: [{use: lora-fa, on: {unet: [\"**.attn1.to_q\"]}, lr: 1}]\n",
               NULL);
    CHECK(ok && value(&t, Q_NAME ".lora_down.weight")->role == ROLE_STATE,
          "does not train: %s", t.e.text);
    arena_free(t.a);

    open_bench(&t);
    ok = adapt(
        &t, "adapters: [{use: lora-plus, on: {unet: [\"**.attn1.to_q\"]}, lr: 0.5}]\n",
        NULL);
    CHECK(ok && value(&t, Q_NAME ".lora_up.weight")->param->lr == 8,
          "16 times as fast: %s", t.e.text);
    arena_free(t.a);

    open_bench(&t);
    ok = adapt(&t, "adapters: [{use: dora, on: {unet: [\"**.attn1.to_q\"]}, lr: 1}]\n",
               NULL);
    CHECK(ok, "%s", t.e.text);
    if (ok) {
        const Param *p = value(&t, Q_NAME ".dora_scale")->param;
        CHECK(p && p->init.kind == INIT_VALUE && p->init.value < t.with->n_value,
              "starts as a value");
        CHECK(p && type_same_shape(&t.with->value[p->init.value]->type,
                                   &value(&t, Q_NAME ".dora_scale")->type),
              "of its shape");
    }
    arena_free(t.a);

    open_bench(&t);
    ok = adapt(
        &t, "adapters: [{use: vera, on: {unet: [\"**.attn1.*\"]}, lr: 1, rank: 3}]\n",
        NULL);
    CHECK(ok, "%s", t.e.text);
    CHECK(count_role(t.with, ROLE_STATE) == 6, "A and B of three widths, got %d",
          count_role(t.with, ROLE_STATE));
    CHECK(value(&t, "vera_A.3x32")->role == ROLE_STATE, "named by shape");
    if (ok) {
        SavedTensor *s;
        int n;
        ok = module_saved(t.a, &t.m.item[0], t.with, "kohya", &s, &n, &t.e);
        CHECK(ok && n == 4 && !strcmp(s[2].key, "vera_A.3x32"), "%s", t.e.text);
    }
    arena_free(t.a);
}

static void test_saved(void) {
    Bench t;
    SavedTensor *s;
    int n;
    open_bench(&t);
    bool ok = adapt(&t,
                    "adapters: [{use: lora, on: {unet: [\"**.attn1.to_q\", "
                    "\"**.resnets.*.conv1\"]}, lr: 1, rank: 2, alpha: 0}]\n",
                    NULL);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    Module *q = (Module *)module_at(&t, TO_Q);
    ok = module_saved(t.a, q, t.with, "kohya", &s, &n, &t.e);
    CHECK(ok && n == 3, "%s", t.e.text);
    CHECK(!strcmp(s[0].key, Q_NAME ".lora_down.weight") && s[0].type.rank == 2, "%s",
          s[0].key);
    CHECK(!strcmp(t.with->value[s[0].value]->name, Q_NAME ".lora_down.weight"),
          "its value");
    CHECK(!strcmp(s[2].key, Q_NAME ".alpha") && s[2].value == NO_ID &&
              s[2].number == 2 && s[2].type.rank == 0,
          "alpha 0 is the rank");
    q->weight4 = true; /* as where a checkpoint has [out, in, 1, 1] */
    ok = module_saved(t.a, q, t.with, "kohya", &s, &n, &t.e);
    CHECK(ok && s[0].type.rank == 4 && s[0].type.dim[0] == 2 && s[0].type.dim[3] == 1,
          "4-D");
    ok = module_saved(t.a, q, t.with, "peft", &s, &n, &t.e);
    CHECK(ok && n == 2 && !strcmp(s[0].key, "unet." TO_Q ".lora_A.weight"), "%s",
          s[0].key);
    const Module *c = module_at(&t, "mid_block.resnets.0.conv1");
    ok = c && module_saved(t.a, c, t.with, "kohya", &s, &n, &t.e);
    CHECK(ok && s[0].type.rank == 4 && s[0].type.dim[3] == 3 && s[1].type.rank == 4 &&
              s[1].type.dim[3] == 1,
          "a convolution's tensors");
    arena_free(t.a);

    open_bench(&t); /* parts that a module does not have are left out */
    ok = adapt(&t,
               "adapters: [{use: lokr, on: {unet: [\"**.attn1.to_q\"]}, lr: 1, rank: "
               "400}]\n",
               NULL) &&
         module_saved(t.a, &t.m.item[0], t.with, "kohya", &s, &n, &t.e);
    CHECK(ok && n == 3, "w1, w2, alpha: %s", t.e.text);
    arena_free(t.a);
}

static void test_stack(void) {
    Bench t;
    open_bench(&t);
    bool ok = adapt(
        &t,
        "adapters:\n"
        "  - {use: lora, on: {unet: [\"**.attn1.to_q\"]}, lr: 1, rank: 2}\n"
        "  - {use: lora, on: {unet: [\"**.attn1.*\"]}, lr: 1, rank: 3, stack: true}\n",
        NULL);
    CHECK(ok, "%s", t.e.text);
    if (!ok) return;
    CHECK(t.m.n == 16 + 3 * 16, "got %d", t.m.n);
    CHECK(value(&t, Q_NAME ".lora_up.weight")->type.dim[1] == 2, "the first");
    CHECK(value(&t, Q_NAME "+2.lora_up.weight")->type.dim[1] == 3, "and the second");
    arena_free(t.a);
}

/* ---- numbers: a graph of small nodes run with the reference kernels ---- */

static double start_of(const char *name, int64_t i) {
    uint32_t h = 2166136261u;
    for (const char *p = name; *p; p++) h = (h ^ (uint8_t)*p) * 16777619u;
    h = (h ^ (uint32_t)i) * 16777619u;
    return (double)((h >> 8) % 2001) / 1000 - 1;
}

/* Every value of g, inputs and tensors filled from their names; NULL: a kernel is missing. */
static void **run_graph(Bench *t, const Graph *g) {
    void **data = NEW(t->a, void *, g->n_value);
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        int64_t n = type_count(&v->type);
        double *x = NEW(t->a, double, n);
        for (int64_t k = 0; k < n; k++)
            x[k] = v->data ? v->data[k] : start_of(v->name ? v->name : "", k);
        data[i] = arena_alloc(t->a, (size_t)n, dtype_size(v->type.dtype));
        convert(data[i], v->type.dtype, x, F64, n);
    }
    for (uint32_t i = 0; i < g->n_node; i++) {
        const Node *n = g->node[i];
        Sig s = node_sig(t->a, g, n);
        Tensor in[16] = {0}, out[8] = {0};
        for (int k = 0; k < n->n_in; k++)
            if (n->in[k] != NO_ID) in[k] = (Tensor){data[n->in[k]], &s.in[k]};
        if (!op_run(t->a, &s, in, out, &t->e)) return NULL;
        for (int k = 0; k < n->n_out; k++) data[n->out[k]] = out[k].data;
    }
    return data;
}

enum { OUT = 4, IN = 3, ROWS = 2 };

/* The adapter text on a linear layer [4, 3] with bias, arguments from set. */
static const float *adapted(Bench *t, const char *adapter, const Args *args) {
    static const char net_text[] =
        "network: n\nsymbols: {B: batch}\ninputs: {x: {shape: [B, 3]}}\n"
        "nodes: {lin: {op: linear, x: x, out: 4}}\noutputs: {y: lin}\n";
    static const char *const pattern[] = {"lin", NULL};
    Source *src = source_text(t->a, "net.yaml", net_text, strlen(net_text));
    Source *asrc = source_text(t->a, "adapter.yaml", adapter, strlen(adapter));
    const Doc *d = doc_parse(t->lib, src, &t->e), *ad = doc_parse(t->lib, asrc, &t->e);
    if (!d || !ad) return NULL;
    t->net = NEW(t->a, Net, 1);
    t->g = graph_new(t->a, "n");
    Build b = {.g = t->g, .training = true};
    Named *in, *out;
    int n_in, n_out;
    AdapterTarget on = {.network = "n", .pattern = pattern};
    AdapterEntry entry = {.doc = ad, .on = &on, .n_on = 1, .args = args_new(t->a)};
    for (int i = 0; args && i < args->n; i++)
        args_set(entry.args, args->name[i], args->val[i]);
    t->r = (Recipe){.adapter = &entry, .n_adapter = 1};
    if (!net_bind(t->a, d, "n", NULL, NULL, NULL, t->net, NULL, &t->e) ||
        !build_inputs(&b, d, t->net->args, probe_dims(t->a, d), "", &in, &n_in,
                      &t->e) ||
        !build_network(&b, t->net, in, n_in, &out, &n_out, &t->e))
        return NULL;
    graph_output(t->g, "y", out[0].value);
    if (!modules_match(t->a, t->g, &t->r, t->net, 1, &t->m, &t->e)) return NULL;
    t->with = adapters_inject(t->g, &t->m, true, &t->e);
    if (!t->with || !graph_verify(t->with, &t->e)) return NULL;
    void **data = run_graph(t, t->with);
    return data ? data[graph_output_find(t->with, "y")] : NULL;
}

static double w_at(int o, int i) {
    return (float)start_of("n.lin.weight", o * IN + i);
}
static double x_at(int r, int i) {
    return (float)start_of("x", r * IN + i);
}
static double linear_at(int r, int o) {
    double y = (float)start_of("n.lin.bias", o);
    for (int i = 0; i < IN; i++) y += w_at(o, i) * x_at(r, i);
    return y;
}
static double tensor(const char *name, int i) {
    char full[64];
    snprintf(full, sizeof full, "lora_n_lin.%s", name);
    return (float)start_of(full, i);
}

static double lora_at(int r, int o) { /* rank 2 */
    double y = 0;
    for (int k = 0; k < 2; k++) {
        double h = 0;
        for (int i = 0; i < IN; i++)
            h += tensor("down.weight", k * IN + i) * x_at(r, i);
        y += h * tensor("up.weight", o * 2 + k);
    }
    return y;
}
static double diff_at(int r, int o) {
    double y = 0;
    for (int i = 0; i < IN; i++) y += tensor("diff", o * IN + i) * x_at(r, i);
    return y;
}
static double scaled_at(int r, int o) { /* (IA)3 on the input */
    double y = (float)start_of("n.lin.bias", o);
    for (int i = 0; i < IN; i++) y += w_at(o, i) * x_at(r, i) * (1 + tensor("s", i));
    return y - linear_at(r, o);
}

#define LORA                                                                           \
    "adapter: a\nargs: {rank: 2}\nwraps: [linear]\nnodes:\n"                           \
    "  down: {op: like, x: x, out: $rank, bias: false, init: kaiming_uniform}\n"       \
    "  up: {op: linear, x: down, out: $out, bias: false, init: zeros}\noutput: {add: " \
    "up * 0.5}\n"                                                                      \
    "save: {kohya: {up.weight: up.weight}}\n"
#define DIFF                                                                           \
    "adapter: a\nwraps: [linear]\nnodes: {diff: {op: param, shape: [$out, $fan_in], "  \
    "init: zeros}}\n"                                                                  \
    "output: {weight: w + diff}\nsave: {kohya: {diff: diff}}\n"
#define IA3                                                                            \
    "adapter: a\nwraps: [linear]\nnodes:\n  s: {op: param, shape: [$in], init: "       \
    "zeros}\n"                                                                         \
    "  z: {op: like, x: x * (1 + s), weight: w, bias: b}\noutput: {replace: "          \
    "z}\nsave: {kohya: {s: s}}\n"

static void test_numbers(void) {
    static const struct {
        const char *name, *text;
        double (*delta)(int, int);
        double scale;
    } cases[] = {{"add", LORA, lora_at, 0.5},
                 {"weight", DIFF, diff_at, 1},
                 {"replace", IA3, scaled_at, 1}};
    static const double multipliers[] = {1, 0.25, -1.5};
    for (size_t c = 0; c < COUNT(cases); c++)
        for (size_t k = 0; k < COUNT(multipliers); k++) {
            Bench t;
            open_bench(&t);
            Args *args = args_new(t.a);
            args_set(args, "multiplier", val_float(multipliers[k]));
            const float *y = adapted(&t, cases[c].text, args);
            CHECK(y, "%s: %s", cases[c].name, t.e.text);
            for (int r = 0; y && r < ROWS; r++)
                for (int o = 0; o < OUT; o++) {
                    double want = linear_at(r, o) + multipliers[k] * cases[c].scale *
                                                        cases[c].delta(r, o);
                    CHECK(fabs(y[r * OUT + o] - want) < 1e-5,
                          "%s, multiplier %g: y[%d, %d] is %g, want %g", cases[c].name,
                          multipliers[k], r, o, y[r * OUT + o], want);
                }
            arena_free(t.a);
        }
}

int main(void) {
    test_targets();
    test_precedence();
    test_refusals();
    test_kinds();
    test_saved();
    test_stack();
    test_numbers();
    return check_done("adapters");
}
