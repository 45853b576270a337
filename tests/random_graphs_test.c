/* Random graphs through all passes. Each is made as text, then run four ways:
 *   eager    differentiated and given updates, node by node with op_run, nothing else
 *   planned  dce, schedule, in-place and offsets, reference kernels, arenas full of NaN:
 *            must give the same bits, since these passes may not change arithmetic
 *   again    the same with checkpoints, by segment and by random memory budgets: the same
 *            bits, and no more memory than allowed
 *   all      with simplify, fuse and the fast kernels: within 1e-5 of it, relative, or as
 *            close as rounding errors leave it
 * Half of them in fp16 or bf16, where `all` is verified and run, and not compared.
 * random_graphs_test [COUNT [FIRST_SEED]]: for a soak. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "passes/passes.h"
#include "runtime/exec.h"
#include "tests/check.h"
#include "tests/random_graph.h"

/* Half of the graphs in f32, the others in a half type. */
static Precision precision_of(uint64_t seed) {
    static const Precision of[] = {PRECISION_NO, PRECISION_FP16, PRECISION_NO,
                                   PRECISION_BF16};
    return of[seed % COUNT(of)];
}

/* ---- data, by name ---- */

static void fill(const char *name, const Type *t, void *out) {
    uint64_t z = 1469598103934665603u;
    for (const char *c = name; *c; c++) z = (z ^ (uint8_t)*c) * 1099511628211u;
    int64_t n = type_count(t);
    for (int64_t i = 0; i < n; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        double x = (double)(z >> 11) * 0x1p-53 * 2 - 1;
        if (!dtype_is_float(t->dtype))
            ((int32_t *)out)[i] = (int32_t)(z >> 62);
        else
            convert((char *)out + (size_t)i * dtype_size(t->dtype), t->dtype, &x, F64,
                    1);
    }
    if (!strncmp(name, "lr.", 3)) *(float *)out = 0.01f;
}

typedef struct Weights {
    Arena *a;
    const Graph *g;
} Weights;

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    Weights *w = ctx;
    Id id = graph_find(w->g, name);
    if (id == NO_ID) return false;
    const Type *t = &w->g->value[id]->type;
    char *data = arena_alloc(w->a, type_bytes(t) + 16, 1);
    data += strlen(name) % 2; /* an odd address in a file: must be copied */
    void *even = arena_alloc(w->a, type_bytes(t), 1);
    fill(name, t, even);
    memcpy(data, even, type_bytes(t));
    *out = (Tensor){data, t};
    return true;
}

/* ---- eager ---- */

static Tensor declared(Arena *a, const Value *v) {
    Tensor t = {arena_alloc(a, type_bytes(&v->type) + 8, 1), &v->type};
    int64_t n = type_count(&v->type);
    if (v->role == ROLE_STATE) { /* starts as zeros, or as the loss scale does */
        double start = v->param->init.kind == INIT_CONSTANT ? v->param->init.number : 0;
        for (int64_t i = 0; i < n; i++)
            convert((char *)t.data + (size_t)i * dtype_size(v->type.dtype),
                    v->type.dtype, &start, F64, 1);
        return t;
    }
    if (v->role != ROLE_CONST)
        fill(v->name, &v->type, t.data);
    else if (dtype_is_float(v->type.dtype))
        convert(t.data, v->type.dtype, v->data, F64, n);
    else
        for (int64_t i = 0; i < n; i++) ((int32_t *)t.data)[i] = (int32_t)v->data[i];
    return t;
}

/* A rounding error in every element: up to half a last place of it and of the tensor's
 * root mean square. Zeros stay. */
static void shake(const Tensor *t, uint64_t *z) {
    float *x = t->data;
    int64_t n = type_count(t->type);
    double square = 0;
    for (int64_t i = 0; i < n; i++) square += (double)x[i] * x[i];
    double rms = sqrt(square / (double)(n ? n : 1));
    for (int64_t i = 0; i < n; i++) {
        *z = *z * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(*z >> 11) * 0x1p-53 * 2 - 1;
        if (x[i] != 0) x[i] = (float)(x[i] + u * 0x1p-24 * (fabs((double)x[i]) + rms));
    }
}

/* What a node sees of a float input in noise: a copy, shaken. */
static Tensor shaken(Arena *a, const Tensor *t, uint64_t *z) {
    Tensor copy = {arena_alloc(a, type_bytes(t->type) + 8, 1), t->type};
    memcpy(copy.data, t->data, type_bytes(t->type));
    shake(&copy, z);
    return copy;
}

/* Node by node; noise: 0, or the seed of rounding errors before and behind every node: a
 * stable kernel's result is, but for a rounding error, the exact one of inputs that differ
 * by one (Higham, Accuracy and Stability of Numerical Algorithms, 1.5). Behind alone is
 * not enough: a softmax over scores near 50 makes of an input's last place 50 of its own. */
static bool eager(Arena *a, const Graph *g, Tensor *t, uint64_t noise, Err *e) {
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role != ROLE_ACT) t[i] = declared(a, g->value[i]);
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        Tensor *in = NEW(a, Tensor, n->n_in + 1), *out = NEW(a, Tensor, n->n_out + 1);
        Sig s = node_sig(a, g, n);
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == NO_ID) continue;
            in[i] = t[n->in[i]];
            bool exact = !noise || in[i].type->dtype != F32 ||
                         (n->op->flags & (OP_VIEW | OP_NO_FOLD));
            if (!exact) in[i] = shaken(a, &in[i], &noise);
        }
        if (!op_run(a, &s, in, out, e)) return false;
        for (int o = 0; o < n->n_out; o++) {
            t[n->out[o]] = out[o];
            if (noise && s.out[o].dtype == F32 &&
                !(n->op->flags & (OP_VIEW | OP_NO_FOLD)))
                shake(&out[o], &noise);
        }
    }
    return true;
}

/* ---- planned ---- */

static bool feed(Arena *a, Exec *x, const Plan *p, Err *e) {
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || (v->mem != MEM_INPUT && v->role != ROLE_TRAIN)) continue;
        void *data = arena_alloc(a, v->bytes + 8, 1);
        fill(v->name, &v->type, data);
        if (!exec_write(x, v->name, data, v->bytes, e)) return false;
    }
    return true;
}

/* Relative to the norm of `want` and a tenth of `scale`, the norm of all gradients: one
 * that is zero in exact arithmetic (a bias before a norm) is a rounding error of terms of
 * that size. */
static double difference(const float *got, const float *want, int64_t n, double scale) {
    double d = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    return sqrt(d) / (sqrt(norm) + scale / 10 + 1e-20);
}

/* How far rounding alone can move value v: the largest difference of a few eager runs with
 * rounding errors around every node (stochastic arithmetic, as in CADNA). Where a value is
 * zero but for rounding, its sign decides what a formula or a norm behind it does, and no
 * order of operations gives the right digits. */
static double roughness(Arena *a, const Graph *g, const Tensor *want, Id v,
                        double scale) {
    enum { RUNS = 8 };
    double most = 0;
    Err e = {0};
    for (uint64_t run = 1; run <= RUNS; run++) {
        Tensor *t = NEW(a, Tensor, g->n_value + 1);
        if (!eager(a, g, t, run * 7919, &e)) break;
        double d =
            difference(t[v].data, want[v].data, type_count(&g->value[v]->type), scale);
        if (!(d <= most)) most = isnan(d) ? INFINITY : d;
    }
    return most;
}

static uint64_t n_rough, last_rough; /* graphs that only roughness let pass */

/* Every output and every trained tensor of the run against the eager values. */
static void compare(Arena *a, uint64_t seed, Exec *x, const Graph *g,
                    const Tensor *want, bool exact, bool trained) {
    Err e = {0};
    double scale = *(const float *)want[graph_output_find(g, "grad_norm")].data;
    /* inf - inf depends on the order; halves round elsewhere in every fused formula */
    if (!exact && (!isfinite(scale) || precision_of(seed) != PRECISION_NO)) return;
    for (uint32_t k = 0; k < g->n_output + g->n_value; k++) {
        const char *name;
        Id v;
        if (k < g->n_output) {
            name = g->output[k].name;
            v = g->output[k].value;
        } else {
            v = k - g->n_output;
            name = g->value[v]->name;
            bool kept =
                g->value[v]->role == ROLE_TRAIN || g->value[v]->role == ROLE_STATE;
            if (!kept || !trained) continue;
        }
        const Type *t = &g->value[v]->type;
        void *got = arena_alloc(a, type_bytes(t) + 8, 1);
        bool read = exec_read(x, name, got, type_bytes(t), &e);
        CHECK(read, "seed %llu: %s", (unsigned long long)seed, e.text);
        if (!read) return;
        if (exact)
            CHECK(!memcmp(got, want[v].data, type_bytes(t)), "seed %llu: '%s' differs",
                  (unsigned long long)seed, name);
        else if (t->dtype == F32) {
            double d = difference(got, want[v].data, type_count(t), scale), rough = 0;
            if (!(d < 1e-5)) {
                rough = roughness(a, g, want, v, scale);
                n_rough += last_rough != seed;
                last_rough = seed;
            }
            CHECK(d < 1e-5 || d <= 8 * rough,
                  "seed %llu: '%s' is %g off, rounding moves it by %g",
                  (unsigned long long)seed, name, d, rough);
        }
    }
}

/* The new values of trainables and states, under their old ids. */
static void after_update(const Graph *g, Tensor *t) {
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        for (const OpAlias *al = n->op->alias; al && al->out >= 0; al++)
            if (al->out < n->n_out && al->in < n->n_in)
                t[n->in[al->in]] = t[n->out[al->out]];
    }
}

static bool run_plan(Arena *a, uint64_t seed, const Graph *g, const Options *opt,
                     const Graph *ref, const Tensor *want, bool exact, Device *dev,
                     Err *e) {
    Plan *p = plan_lower(g, opt, e);
    if (!p) return false;
    CHECK(p->size[MEM_ACT] >= p->act_lower_bound &&
              (double)p->size[MEM_ACT] <= 1.25 * (double)p->act_lower_bound,
          "seed %llu: %llu bytes, at least %llu", (unsigned long long)seed,
          (unsigned long long)p->size[MEM_ACT], (unsigned long long)p->act_lower_bound);
    Weights w = {a, ref};
    WeightSource source = {&w, find_weight};
    Store *s = store_open(dev, &source, 1);
    Exec *x = exec_open(s, p, e);
    bool ok = x && feed(a, x, p, e);
    if (ok) {
        exec_poison(x, true);
        exec_run(x);
        compare(a, seed, x, ref, want, exact, exact);
    }
    exec_close(x);
    store_close(s);
    return ok;
}

/* ---- one graph ---- */

/* In all graphs: a test that recomputes nothing is none, nor one without halves. */
static uint64_t n_recomputed, n_half;

static Graph *read_graph(Arena *a, const char *text, Err *e) {
    Source *src = source_text(a, "random.gr", text, strlen(text));
    return graph_parse(a, src, e);
}

static uint64_t all_bytes(const Plan *p) {
    uint64_t bytes = 0;
    for (int m = 0; m < MEMS; m++) bytes += p->size[m];
    return bytes;
}

/* With checkpoints: budget 0 is by segment, else per mille of the activations of `plain`. */
static bool run_again(Arena *a, uint64_t seed, const char *text, const Options *like,
                      const Plan *plain, uint32_t budget, const Graph *ref,
                      const Tensor *want, Device *dev, Err *e) {
    Options opt = *like;
    opt.gradient_checkpointing = budget == 0;
    if (budget)
        opt.memory_budget = all_bytes(plain) - plain->size[MEM_ACT] +
                            plain->size[MEM_ACT] * budget / 1000;
    Graph *g = read_graph(a, text, e);
    if (!g) return false;
    Err why = {0};
    g = passes_run(g, &opt, "infer-shapes", &why);
    if (!g) {
        CHECK(budget && why.code == EXIT_FAILED && strstr(why.text, "is too small"),
              "seed %llu: %s", (unsigned long long)seed, why.text);
        return true;
    }
    Plan *p = plan_lower(g, &opt, e);
    if (!p) return false;
    CHECK(!budget || all_bytes(p) <= opt.memory_budget,
          "seed %llu: %llu bytes, the budget is %llu", (unsigned long long)seed,
          (unsigned long long)all_bytes(p), (unsigned long long)opt.memory_budget);
    for (uint32_t k = 0; k < g->n_node; k++)
        n_recomputed += g->node[k]->at.phase == RECOMPUTE;
    return run_plan(a, seed, g, &opt, ref, want, true, dev, e);
}

static void check_text(Arena *a, uint64_t seed, const Graph *g) {
    Str one = {0}, two = {0};
    Err e = {0};
    graph_print(&one, g);
    Graph *again = read_graph(a, one.s, &e);
    CHECK(again, "seed %llu: %s", (unsigned long long)seed, e.text);
    if (again) graph_print(&two, again);
    CHECK(again && !strcmp(one.s, two.s), "seed %llu: text does not read back",
          (unsigned long long)seed);
    str_free(&one);
    str_free(&two);
}

static void check_idempotent(uint64_t seed, Graph *g, Options *opt) {
    static const char *const names[] = {"simplify", "dce", "fuse", "schedule", NULL};
    for (const Pass *p = pipeline; p->name; p++)
        for (int i = 0; names[i]; i++) {
            if (strcmp(p->name, names[i])) continue;
            Err e = {0};
            Str one = {0}, two = {0};
            Graph *once = p->run(g, opt, &e),
                  *twice = once ? p->run(once, opt, &e) : NULL;
            if (once) graph_print(&one, once);
            if (twice) graph_print(&two, twice);
            CHECK(twice && !strcmp(one.s, two.s),
                  "seed %llu: %s changes its own result %s", (unsigned long long)seed,
                  p->name, e.text);
            str_free(&one);
            str_free(&two);
        }
}

static void test_seed(uint64_t seed, const Recipe *recipe, Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    char *text = make_graph(seed);
    static const char *const plain[] = {"simplify", "dce", "fuse", "schedule", NULL};
    static const char *const exact[] = {"simplify", "fuse", NULL};
    Options eager_opt = {.recipe = recipe,
                         .train = true,
                         .max_grad_norm = 1,
                         .record_gradients = true,
                         .reference_kernels = true,
                         .mixed_precision = precision_of(seed),
                         .disable = plain};
    Options planned_opt = eager_opt, all_opt = eager_opt;
    planned_opt.disable = exact;
    all_opt.disable = NULL;
    all_opt.reference_kernels = false;
    Graph *g[3] = {0};
    Options *opt[] = {&eager_opt, &planned_opt, &all_opt};
    bool ok = true;
    for (int i = 0; ok && i < 3; i++) {
        g[i] = read_graph(a, text, &e);
        if (g[i] && i == 0) check_text(a, seed, g[i]);
        g[i] = g[i] ? passes_run(g[i], opt[i], "infer-shapes", &e) : NULL;
        ok = g[i] != NULL;
    }
    Tensor *t = NULL;
    if (ok) {
        t = NEW(a, Tensor, g[0]->n_value + 1);
        ok = eager(a, g[0], t, 0, &e);
    }
    if (ok) {
        after_update(g[0], t);
        for (uint32_t i = 0; i < g[1]->n_value; i++)
            n_half += g[1]->value[i]->role == ROLE_ACT &&
                      dtype_size(g[1]->value[i]->type.dtype) == 2;
        check_text(a, seed, g[2]);
        check_idempotent(seed, g[0], &all_opt);
        ok = run_plan(a, seed, g[1], &planned_opt, g[0], t, true, dev, &e) &&
             run_plan(a, seed, g[2], &all_opt, g[0], t, false, dev, &e);
        const Plan *whole = ok ? plan_lower(g[1], &planned_opt, &e) : NULL;
        for (int i = 0; whole && ok && i < 3; i++)
            ok = run_again(a, seed, text, &planned_opt, whole, i ? 1 + pick(1000) : 0,
                           g[0], t, dev, &e);
    }
    CHECK(ok, "seed %llu: %s\n%s", (unsigned long long)seed, e.text, text);
    free(text);
    arena_free(a);
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 200;
    uint64_t first = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    Arena *a = arena_new();
    Err e = {0};
    Recipe recipe = {0};
    recipe.optimizer =
        doc_load(library_new(a), "adamw", DOC_OPTIMIZER, NULL, loc_none(), &e);
    recipe.optimizer_args = args_new(a);
    CHECK(recipe.optimizer && args_bind(a, yaml_get(recipe.optimizer->root, "args"),
                                        recipe.optimizer_args, "adamw", loc_none(),
                                        recipe.optimizer_args, &e),
          "%s", e.text);
    Device *dev = cpu_open(2);
    for (long i = 0; !e.set && i < count; i++)
        test_seed(first + (uint64_t)i, &recipe, dev);
    CHECK(n_rough <= (uint64_t)count / 20 + 2, "%llu graphs were rough",
          (unsigned long long)n_rough);
    CHECK(count < 4 || n_half > 0, "%llu values are halves",
          (unsigned long long)n_half);
    CHECK(n_recomputed > 0, "%llu nodes were recomputed",
          (unsigned long long)n_recomputed);
    cpu_close(dev);
    arena_free(a);
    return check_done("random_graphs");
}
