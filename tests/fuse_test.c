/* fuse changes no bit of what pointwise nodes make, whatever graph they form; in mixed precision
 * it rounds to halves less often; a norm with its formula inside, and its gradient, are the nodes apart up to rounding. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "passes/passes.h"
#include "tests/check.h"

static uint64_t state;

static uint32_t pick(uint32_t n) { /* splitmix64, below n */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % n);
}

static Graph *read_graph(Arena *a, const char *text, Err *e) {
    return graph_parse(a, source_text(a, "test.gr", text, strlen(text)), e);
}

static Graph *fused_in(Graph *g, Precision precision, Err *e) {
    for (const Pass *p = pipeline; p->name; p++)
        if (!strcmp(p->name, "fuse")) {
            Options opt = {.mixed_precision = precision};
            Graph *out = p->run(g, &opt, e);
            return out && graph_verify(out, e) ? out : NULL;
        }
    err_usage(e, "no pass 'fuse'");
    return NULL;
}

static Graph *fused(Graph *g, Err *e) {
    return fused_in(g, PRECISION_NO, e);
}

/* ---- values, node by node ---- */

/* The same for a name in every graph. */
static Tensor declared(Arena *a, const Value *v) {
    Tensor t = {arena_alloc(a, type_bytes(&v->type) + 8, 1), &v->type};
    uint64_t keep = state;
    state = 17;
    for (const char *c = v->name; *c; c++) state = state * 31 + (uint8_t)*c;
    for (int64_t i = 0; i < type_count(&v->type); i++) {
        double x = (double)pick(4001) / 1000 - 2;
        size_t width = dtype_size(v->type.dtype);
        convert((char *)t.data + (size_t)i * width, v->type.dtype, &x, F64, 1);
    }
    state = keep;
    return t;
}

static const void *bytes_of(Arena *a, const Graph *g, const char *output, Err *e) {
    Tensor *t = NEW(a, Tensor, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role != ROLE_ACT) t[i] = declared(a, g->value[i]);
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        Tensor in[64] = {0}, out[4] = {0};
        Sig s = node_sig(a, g, n);
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] != NO_ID) in[i] = t[n->in[i]];
        if (!op_run(a, &s, in, out, e)) return NULL;
        for (int o = 0; o < n->n_out; o++) t[n->out[o]] = out[o];
    }
    return t[graph_output_find(g, output)].data;
}

/* ---- pointwise graphs ---- */

static char *pointwise_graph(uint64_t seed) {
    static const char *const one[] = {"silu(x0)",     "x0 * 3", "-x0",
                                      "gelu(x0) + 1", "x0 ^ 2", "min(x0, 1)",
                                      "tanh(x0)"};
    static const char *const two[] = {"x0 + x1", "x0 * x1", "x0 - x1 * 0.1",
                                      "where(x0 < x1, x0, 2)"};
    static const char *const others[] = {"@x", "@row", "@s", "@half"};
    Str s = {0};
    state = seed;
    str_add(&s, "graph g {\n input @x : f32[2,30,20]\n input @row : f32[20]\n"
                " input @s : f32[]\n input @half : f16[30,20]\n"
                " %0 = pointwise @x {f=\"x0\", dtype=f32}\n");
    int n = 1, most = 6 + (int)pick(20);
    for (; n < most; n++) {
        int back = 1 + (int)pick(n < 4 ? (uint32_t)n : 4);
        uint32_t kind = pick(8);
        if (kind == 0)
            str_printf(&s, " %%%d = pointwise %%%d {f=\"x0 / 2\", dtype=f16}\n", n,
                       n - back);
        else if (kind < 3)
            str_printf(&s, " %%%d = pointwise %%%d {f=\"%s\", dtype=f32}\n", n,
                       n - back, one[pick(COUNT(one))]);
        else if (kind < 6)
            str_printf(&s, " %%%d = pointwise %%%d, %%%d {f=\"%s\", dtype=f32}\n", n,
                       n - 1, n - back, two[pick(COUNT(two))]);
        else
            str_printf(&s, " %%%d = pointwise %%%d, %s {f=\"%s\", dtype=f32}\n", n,
                       n - back, others[pick(COUNT(others))], two[pick(COUNT(two))]);
    }
    str_printf(&s,
               " %%v = view %%%d {shape=[60,20]}\n"
               " %%y = pointwise %%v, @row {f=\"x0 * x1\", dtype=f32}\n"
               " output y = %%y\n output mid = %%%d\n}\n",
               n - 1, n / 2);
    return s.s;
}

static void test_same_bits(void) {
    uint32_t less = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        Arena *a = arena_new();
        Err e = {0};
        char *text = pointwise_graph(seed);
        Graph *g = read_graph(a, text, &e), *f = g ? fused(g, &e) : NULL;
        CHECK(f, "seed %llu: %s\n%s", (unsigned long long)seed, e.text, text);
        for (int i = 0; f && i < 2; i++) {
            const char *name = i ? "mid" : "y";
            const void *want = bytes_of(a, g, name, &e),
                       *got = bytes_of(a, f, name, &e);
            const Type *t = &g->value[graph_output_find(g, name)]->type;
            CHECK(want && got && !memcmp(want, got, type_bytes(t)),
                  "seed %llu: '%s' differs %s\n%s", (unsigned long long)seed, name,
                  e.text, text);
        }
        if (f) less += g->n_node - f->n_node;
        free(text);
        arena_free(a);
    }
    CHECK(less > 1000, "only %u nodes went into others", less);
}

/* ---- halves: in mixed precision, what is merged is rounded once ---- */

static const char half_text[] =
    "graph g {\n input @x : %s[3,700]\n input @y : f32[3,700]\n"
    " %%a = pointwise @x, @y {f=\"x0 * sigmoid(x1)\", dtype=%s}\n"
    " %%b = pointwise %%a, @x {f=\"x0 - x1 / 3\", dtype=%s}\n"
    " %%c = pointwise %%b {f=\"x0 * 1.7\", dtype=%s}\n output c = %%c\n}\n";

static void test_halves(const char *dtype, double rounding) {
    Arena *a = arena_new();
    Err e = {0};
    const char *text = arena_printf(a, half_text, dtype, dtype, dtype, dtype);
    Precision mixed = rounding == 0x1p-11 ? PRECISION_FP16 : PRECISION_BF16;
    Graph *g = read_graph(a, text, &e), *f = g ? fused_in(g, mixed, &e) : NULL;
    CHECK(f && f->n_node == 1, "%s: %u nodes %s", dtype, f ? f->n_node : 0, e.text);
    const char *exact = arena_printf(a, half_text, dtype, "f64", "f64", "f64");
    Graph *w = read_graph(a, exact, &e);
    const uint16_t *got = f ? bytes_of(a, f, "c", &e) : NULL;
    const double *want = w ? bytes_of(a, w, "c", &e) : NULL;
    CHECK(got && want, "%s: %s", dtype, e.text);
    for (int i = 0; got && want && i < 3 * 700; i++) {
        double x = rounding == 0x1p-11 ? half_to_float(got[i]) : bf16_to_float(got[i]);
        CHECK(fabs(x - want[i]) <= rounding * fabs(want[i]) * 1.001 + 0x1p-24,
              "%s: element %d is %g, want %g", dtype, i, x, want[i]);
    }
    arena_free(a);
}

/* ---- norms ---- */

static const char norm_text[] =
    "graph g {\n input @x : %s[2,5,7,12]\n frozen @w : %s[12]\n frozen @b : %s[12]\n"
    " input @dz : %s[2,5,7,12]\n"
    " %%y, %%m, %%r = group_norm @x, @w, @b {groups=3, eps=1e-05}\n"
    " %%z = pointwise %%y {f=\"silu(x0)\", dtype=%s}\n"
    " %%d = pointwise @dz, %%y {f=\"t0 = sigmoid(x1); x0 * (t0 * (1 + x1 * (1 - "
    "t0)))\", "
    "dtype=%s}\n"
    " %%dx, %%dw, %%db = group_norm_grad @x, @w, %%m, %%r, %%d {groups=3, "
    "params=true}\n"
    " output z = %%z\n output dx = %%dx\n output dw = %%dw\n output db = %%db\n}\n";

static double largest_difference(const void *a, const void *b, const Type *t) {
    double most = 0;
    for (int64_t i = 0; i < type_count(t); i++) {
        double x, y;
        convert(&x, F64, (const char *)a + (size_t)i * dtype_size(t->dtype), t->dtype,
                1);
        convert(&y, F64, (const char *)b + (size_t)i * dtype_size(t->dtype), t->dtype,
                1);
        if (!(fabs(x - y) <= most)) most = fabs(x - y);
    }
    return most;
}

static void compare_outputs(Arena *a, const Graph *g, const Graph *f, const char *dtype,
                            double near) {
    static const char *const outputs[] = {"z", "dx", "dw", "db", NULL};
    Err e = {0};
    for (int i = 0; outputs[i]; i++) {
        const void *want = bytes_of(a, g, outputs[i], &e),
                   *got = bytes_of(a, f, outputs[i], &e);
        const Type *t = &g->value[graph_output_find(g, outputs[i])]->type;
        double d = want && got ? largest_difference(want, got, t) : INFINITY;
        CHECK(d < near, "%s: %s is %g off %s", dtype, outputs[i], d, e.text);
    }
}

static void test_norm(const char *dtype, double near) {
    Arena *a = arena_new();
    Err e = {0};
    char text[1024];
    snprintf(text, sizeof text, norm_text, dtype, dtype, dtype, dtype, dtype, dtype);
    Graph *g = read_graph(a, text, &e), *f = g ? fused(g, &e) : NULL;
    CHECK(f && f->n_node == 2, "%s: %u nodes %s", dtype, f ? f->n_node : 0, e.text);
    if (f) compare_outputs(a, g, f, dtype, near);
    arena_free(a);
}

static void test_refused(void) {
    static const char *const bad[] = {
        "%y, %m, %r = group_norm @x, @w, @w {groups=3, eps=1e-05, f=\"x1 + x0\"}",
        "%y, %m, %r = group_norm @x, @w, @w {groups=3, eps=1e-05, f=\"t = x0\"}",
        "%y = group_norm_grad @x, @w, @m, @m, @x {groups=3, params=false, f=\"x0 * "
        "x1\"}",
        "%y = group_norm_grad @x, @w, @m, @m, @x, @w {groups=3, params=false}",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        Arena *a = arena_new();
        Err e = {0};
        const char *text =
            arena_printf(a,
                         "graph g {\n input @x : f32[2,5,12]\n frozen @w : f32[12]\n"
                         " input @m : f32[2,3]\n %s\n output y = %%y\n}\n",
                         bad[i]);
        CHECK(!read_graph(a, text, &e) && e.set, "'%s' was taken", bad[i]);
        arena_free(a);
    }
}

int main(void) {
    test_same_bits();
    test_halves("f16", 0x1p-11);
    test_halves("bf16", 0x1p-8);
    test_norm("f32", 2e-5);
    test_norm("f64", 1e-12);
    test_refused();
    return check_done("fuse");
}
