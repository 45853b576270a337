/* --scale_weight_norms, end to end on one layer: what a step leaves of an adapter's tensors,
 * against numbers computed here, in f64 and with plain loops over the composition of the two
 * convolutions. The learning rate is 0, so that the updates leave all as it was and only
 * the norm is seen. A tensor that is not too long keeps its bytes, and so does everything
 * where the update is not made: a loss that is not finite, a micro-batch inside a window. */
#include <math.h>
#include <string.h>

#include "cli/files/adapted_node.h"
#include "kernels/rng.h"
#include "ops/ops.h"
#include "passes/passes.h"
#include "tests/check.h"

enum { IN = 6, OUT = 10, RANK = 3, BATCH = 2, SIDE = 4, MOST = 1024 };
static const double alpha = 2;

typedef struct Step {
    Arena *arena;
    Device *dev;
    Store *store;
    Exec *x;
} Step;

typedef struct Case {
    const char *adapter;
    bool conv;
    int accumulate;
    double most;
    bool average;
} Case;

static float number_at(int i, uint32_t stream) {
    uint32_t c[4] = {(uint32_t)i, stream, 0, 0};
    philox(c, 7, 0);
    return 2 * rng_uniform(c[0]) - 1;
}

static bool optimizer(Arena *a, Library *lib, bool average, Recipe *r, Err *e) {
    r->optimizer = doc_load(lib, "sgd-nesterov", DOC_OPTIMIZER, NULL, loc_none(), e);
    if (!r->optimizer) return false;
    r->optimizer_args = args_new(a);
    if (!args_bind(a, yaml_get(r->optimizer->root, "args"), args_new(a), "it",
                   loc_none(), r->optimizer_args, e))
        return false;
    if (!average) return true;
    r->average = doc_load(lib, "ema", DOC_OPTIMIZER, NULL, loc_none(), e);
    r->average_args = args_new(a);
    return r->average && args_bind(a, yaml_get(r->average->root, "args"), args_new(a),
                                   "it", loc_none(), r->average_args, e);
}

/* loss = mean of y * y */
static Graph *layer(Arena *a, Library *lib, const Case *k, AdaptedNode *n, Args *dims,
                    Err *e) {
    const int64_t w[4] = {OUT, IN, 3, 3};
    Args *args = args_new(a);
    const Doc *d = doc_load(lib, k->adapter, DOC_ADAPTER, NULL, loc_none(), e);
    const YNode *own = d ? yaml_get(d->root, "args") : NULL;
    if (own && yaml_get(own, "rank")) args_set(args, "rank", val_int(RANK));
    if (own && yaml_get(own, "alpha")) args_set(args, "alpha", val_float(alpha));
    *n = (AdaptedNode){.arena = a,
                       .library = lib,
                       .adapter = d,
                       .args = args,
                       .weight = type_of(F32, k->conv ? 4 : 2, w),
                       .stride = 1,
                       .pad = k->conv,
                       .training = true};
    args_set(dims, "B", val_int(BATCH));
    args_set(dims, "C", val_int(IN));
    args_set(dims, "N", val_int(SIDE));
    args_set(dims, "H", val_int(SIDE));
    args_set(dims, "W", val_int(SIDE));
    if (!d || !adapted_node_build(n, dims, NULL, e)) return NULL;
    Graph *g = n->graph;
    Id y = graph_output_find(g, "y");
    Id square = graph_formula(g, "x0 * x0", 1, &y, e);
    Type none = type_scalar(F32);
    Id loss = square == NO_ID ? NO_ID : add_reduce_to(g, square, &none, e);
    if (loss == NO_ID) return NULL;
    graph_output(g, "loss", loss);
    return g;
}

static float weight[OUT * IN * 9];
static bool find(void *ctx, const char *name, Tensor *out) {
    if (strcmp(name, "node.node.weight")) return false;
    *out = (Tensor){weight, ctx};
    return true;
}

static bool step_open(Step *s, const Case *k, Err *e) {
    Arena *a = s->arena = arena_new();
    Library *lib = library_new(a);
    AdaptedNode *n = NEW(a, AdaptedNode, 1);
    Args *dims = args_new(a);
    Recipe r = {0};
    s->dev = cpu_open(2);
    WeightSource source = {&n->weight, find};
    s->store = store_open(s->dev, &source, 1);
    Graph *g = layer(a, lib, k, n, dims, e);
    if (!g || !optimizer(a, lib, k->average, &r, e)) return false;
    Options opt = {.recipe = &r,
                   .net = &n->net,
                   .n_net = 1,
                   .dims = dims,
                   .train = true,
                   .accumulate = k->accumulate,
                   .scale_weight_norms = k->most,
                   .modules = &n->modules};
    g = passes_run(g, &opt, "simplify", e);
    Plan *p = g ? plan_lower(g, &opt, e) : NULL;
    s->x = p ? exec_open(s->store, p, e) : NULL;
    return s->x != NULL;
}

static void step_close(Step *s) {
    if (s->x) exec_close(s->x);
    store_close(s->store);
    cpu_close(s->dev);
    arena_free(s->arena);
}

static int read_tensor(Step *s, const char *name, float *out) {
    Err e = {0};
    const Type *t = exec_type(s->x, name);
    CHECK(t && type_count(t) <= MOST, "no '%s'", name);
    if (!t) return 0;
    CHECK(exec_read(s->x, name, out, type_bytes(t), &e), "%s", e.text);
    return (int)type_count(t);
}

static double number(Step *s, const char *name) {
    float x[MOST] = {NAN};
    return read_tensor(s, name, x) ? (double)x[0] : NAN;
}

static void put(Step *s, const char *name, float factor, uint32_t stream) {
    Err e = {0};
    const Type *t = exec_type(s->x, name);
    if (!t) return;
    float *x = NEW(s->arena, float, type_count(t));
    for (int i = 0; i < type_count(t); i++) x[i] = factor * number_at(i, stream);
    CHECK(exec_write(s->x, name, x, type_bytes(t), &e), "%s: %s", name, e.text);
}

static void put_number(Step *s, const char *name, float x) {
    Err e = {0};
    if (exec_type(s->x, name))
        CHECK(exec_write(s->x, name, &x, sizeof x, &e), "%s: %s", name, e.text);
}

static void run(Step *s, float input, bool update) {
    put(s, "x", input, 1);
    put_number(s, "lr.0", 0);
    put_number(s, "sum.keep", 0);
    put_number(s, "sum.update", update);
    exec_run(s->x);
}

/* ---- what it must come to ---- */
/* Each gives the length of the change of the weight from the tensors, taps to a row. */
static double length_of_lora(float (*t)[MOST], int taps) {
    const float *down = t[0], *up = t[1], *strength = t[2];
    double sum = 0;
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN; i++)
            for (int at = 0; at < taps; at++) {
                double w = 0;
                for (int r = 0; r < RANK; r++)
                    w += (double)up[o * RANK + r] *
                         (double)down[(r * IN + i) * taps + at] * (double)strength[r];
                sum += w * w;
            }
    return sqrt(sum) * alpha / RANK;
}

static double length_of_plain(float (*t)[MOST], int taps) {
    static float one[3][MOST];
    memcpy(one, t, 2 * sizeof *one);
    for (int r = 0; r < RANK; r++) one[2][r] = 1;
    return length_of_lora(one, taps);
}

static double length_of_fa(float (*t)[MOST], int taps) {
    static float turned[2][MOST];
    memcpy(turned[0], t[1], sizeof *turned);
    memcpy(turned[1], t[0], sizeof *turned);
    return length_of_plain(turned, taps);
}

static double length_of_loha(float (*t)[MOST], int taps) {
    double sum = 0;
    const int row = IN * taps;
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < row; i++) {
            double a = 0, b = 0;
            for (int r = 0; r < RANK; r++) {
                a += (double)t[0][o * RANK + r] * (double)t[1][r * row + i];
                b += (double)t[2][o * RANK + r] * (double)t[3][r * row + i];
            }
            sum += a * b * a * b;
        }
    return sqrt(sum) * alpha / RANK;
}

static double sum_of_squares(const float *x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* That of a Kronecker product is the product of both. OUT = 2 x 5, IN = 2 x 3; half of 5 is
 * less than RANK, so the second factor is whole and the strength 1. */
static double length_of_lokr(float (*t)[MOST], int taps) {
    return sqrt(sum_of_squares(t[0], 2 * 2) * sum_of_squares(t[1], 5 * 3 * taps));
}

static double length_of_diff(float (*t)[MOST], int taps) {
    return sqrt(sum_of_squares(t[0], OUT * IN * taps));
}

/* b, d: learned; A, B: drawn */
static double length_of_vera(float (*t)[MOST], int taps) {
    const float *d = t[0], *b = t[1], *A = t[2], *B = t[3];
    double sum = 0;
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < IN * taps; i++) {
            double w = 0;
            for (int r = 0; r < RANK; r++)
                w += (double)B[o * RANK + r] * (double)d[r] * (double)A[r * IN + i];
            sum += w * w * (double)b[o] * (double)b[o];
        }
    return sqrt(sum);
}

typedef struct Known {
    const char *adapter, *tensor[5]; /* those that are scaled, then the others */
    int n_scaled;
    double (*length)(float (*t)[MOST], int taps);
} Known;

static const Known known[] = {
    {"lora", {"node.lora_down.weight", "node.lora_up.weight"}, 2, length_of_plain},
    {"lora-fa", {"node.lora_up.weight", "node.lora_down.weight"}, 1, length_of_fa},
    {"diag-lora",
     {"node.lora_down.weight", "node.lora_up.weight", "node.strength"},
     3,
     length_of_lora},
    {"loha",
     {"node.hada_w1_a", "node.hada_w1_b", "node.hada_w2_a", "node.hada_w2_b"},
     4,
     length_of_loha},
    {"lokr", {"node.lokr_w1", "node.lokr_w2"}, 2, length_of_lokr},
    {"diff", {"node.diff"}, 1, length_of_diff},
    {"vera",
     {"node.vera_lambda_d", "node.vera_lambda_b", "vera_A.3x6", "vera_B.10x3"},
     2,
     length_of_vera}};

static const Known *known_of(const Case *k) {
    const Known *at = known;
    while (strcmp(at->adapter, k->adapter)) at++;
    return at;
}

static double length_of(const Case *k, float (*t)[MOST]) {
    return known_of(k)->length(t, k->conv ? 9 : 1);
}

/* Fills the adapter's tensors, runs a step, and reads them before and behind it. */
static int one_step(Step *s, const Case *k, float input, bool update,
                    float (*before)[MOST], float (*after)[MOST], int *count) {
    const char *const *name = known_of(k)->tensor;
    int n = 0;
    for (; name[n]; n++) put(s, name[n], 1, 10 + (uint32_t)n);
    for (int i = 0; i < n; i++) read_tensor(s, name[i], before[i]);
    run(s, input, update);
    for (int i = 0; i < n; i++) count[i] = read_tensor(s, name[i], after[i]);
    return n;
}

static bool same_bytes(int n, const int *count, float (*a)[MOST], float (*b)[MOST]) {
    for (int i = 0; i < n; i++)
        if (memcmp(a[i], b[i], sizeof(float) * (size_t)count[i])) return false;
    return true;
}

/* Every scaled tensor times r^(1/n), to rounding; the others as they were. */
static void check_scaled(const Case *k, int n, const int *count, float (*a)[MOST],
                         float (*b)[MOST], double r) {
    const int scaled = known_of(k)->n_scaled;
    const double factor = pow(r, 1.0 / scaled);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < count[i]; j++) {
            double want = (double)a[i][j] * (i < scaled ? factor : 1);
            double got = (double)b[i][j];
            if (fabs(got - want) <= 1e-6 * fabs(want) + 1e-12) continue;
            CHECK(false, "%s: tensor %d [%d] is %.9g, want %.9g", k->adapter, i, j, got,
                  want);
            return;
        }
    CHECK(true, " ");
}

static float before[4][MOST], after[4][MOST];
static int count[4];

static void test_case(const Case *k) {
    Step s = {0};
    Err e = {0};
    bool ok = step_open(&s, k, &e);
    CHECK(ok, "%s: %s", k->adapter, e.text);
    if (ok) {
        int n = one_step(&s, k, 1, true, before, after, count);
        double was = length_of(k, before), is = length_of(k, after);
        bool scales = was > k->most;
        CHECK(number(&s, "ok") == 1, "ok");
        CHECK(number(&s, "max_norm.keys_scaled") == scales, "keys %g, norm %g",
              number(&s, "max_norm.keys_scaled"), was);
        const double want = scales ? k->most : was;
        const char *const logged[] = {"max_norm.average_key_norm",
                                      "max_norm.max_key_norm"};
        for (int i = 0; i < 2; i++)
            CHECK(fabs(number(&s, logged[i]) - want) <= 1e-6 * want,
                  "%s %.9g, want %.9g", logged[i], number(&s, logged[i]), want);
        CHECK(fabs(is - want) <= 2e-6 * want, "%s: norm %.9g behind it, want %.9g",
              k->adapter, is, want);
        if (scales)
            check_scaled(k, n, count, before, after, k->most / was);
        else
            CHECK(same_bytes(n, count, before, after), "a short tensor was written");
    }
    step_close(&s);
}

/* The update is not made: neither is the scaling. */
static void test_no_update(void) {
    const Case k = {"lora", false, 2, 0.25, false};
    Step s = {0};
    Err e = {0};
    bool ok = step_open(&s, &k, &e);
    CHECK(ok, "%s", e.text);
    if (ok) {
        int n = one_step(&s, &k, 1, false, before, after, count);
        CHECK(same_bytes(n, count, before, after), "scaled inside a window");
        n = one_step(&s, &k, INFINITY, true, before, after, count);
        CHECK(number(&s, "ok") == 0, "ok with an infinite loss");
        CHECK(same_bytes(n, count, before, after), "scaled without an update");
        one_step(&s, &k, 1, true, before, after, count);
        CHECK(fabs(length_of(&k, after) - k.most) < 1e-6, "not scaled at its end");
    }
    step_close(&s);
}

/* The running mean is of what the norm left. */
static void test_average(void) {
    const Case k = {"lora", true, 1, 0.25, true};
    Step s = {0};
    Err e = {0};
    bool ok = step_open(&s, &k, &e);
    CHECK(ok, "%s", e.text);
    if (ok) {
        float mean[MOST];
        one_step(&s, &k, 1, true, before, after, count);
        int n = read_tensor(&s, "node.lora_up.weight.ema.average", mean);
        CHECK(n == count[1] && !memcmp(mean, after[1], sizeof *mean * (size_t)n),
              "the mean's first value is not the scaled tensor");
    }
    step_close(&s);
}

/* An adapter that says nothing of a norm. */
static void test_refused(void) {
    const Case k = {"dora", false, 1, 0.25, false};
    Step s = {0};
    Err e = {0};
    CHECK(!step_open(&s, &k, &e) && strstr(e.text, "adapter 'dora' has no 'norm'"),
          "got '%s'", e.text);
    step_close(&s);
}

int main(void) {
    for (int i = 0; i < OUT * IN * 9; i++) weight[i] = number_at(i, 99);
    const Case cases[] = {
        {"lora", false, 1, 0.25, false},     {"lora", true, 1, 0.25, false},
        {"lora", false, 1, 1e3, false},      {"lora", true, 1, 1e3, false},
        {"loha", false, 1, 0.25, false},     {"loha", true, 1, 0.25, false},
        {"loha", true, 1, 1e3, false},       {"lora-fa", false, 1, 0.25, false},
        {"lora-fa", true, 1, 0.25, false},   {"diag-lora", false, 1, 0.25, false},
        {"diag-lora", true, 1, 0.25, false}, {"lokr", false, 1, 0.25, false},
        {"lokr", true, 1, 0.25, false},      {"diff", false, 1, 0.25, false},
        {"diff", true, 1, 0.25, false},      {"vera", false, 1, 0.25, false}};
    for (size_t i = 0; i < COUNT(cases); i++) test_case(&cases[i]);
    test_no_update();
    test_average();
    test_refused();
    return check_done("weight_norms_test");
}
