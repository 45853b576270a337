/* The pointwise row beyond its example: every function's value and derivative, broadcasting,
 * element types, many blocks, corners, and the texts that derivatives print as. */
#include "kernels/formula.h"
#include "kernels/program.h"
#include "tests/op_harness.h"

#include "tests/check.h"

/* ---- helpers ---- */

typedef struct Run {
    Arena *a;
    Type in_type[8];
    Tensor in[8], out;
    Sig s;
    PointwiseAttrs at;
    Type out_type;
} Run;

static Tensor *input(Run *r, DType t, int rank, const int64_t *dim, double low,
                     double high) {
    int i = r->s.n_in++;
    r->in_type[i] = type_of(t, rank, dim);
    int64_t n = type_count(&r->in_type[i]);
    r->in[i] = (Tensor){arena_alloc(r->a, (size_t)n + 8, 8), &r->in_type[i]};
    for (int64_t k = 0; k < n; k++) {
        double x = random_in(low, high);
        number_set(&r->in[i], k, dtype_is_float(t) ? (double)(float)x : floor(x));
    }
    return &r->in[i];
}

static void start(Run *r, const char *f, DType t) {
    *r = (Run){.a = arena_new()};
    r->at = (PointwiseAttrs){f, t};
    r->s = (Sig){.op = &op_pointwise, .out = &r->out_type, .n_out = 1};
    harness_state = 7;
}

static bool finish(Run *r, const Kernel *k, int threads) {
    Err e = {0};
    Workers w = workers(threads, threads == 2);
    r->s.in = r->in_type;
    r->s.attrs = &r->at;
    bool ok = op_pointwise.shape(&r->s, &e) &&
              kernel_run(r->a, k, &r->s, r->in, &r->out, &w.dev, &e);
    CHECK(ok, "'%s': %s", r->at.f, e.text);
    return ok;
}

/* Element `at` (by output index) of input i, by numpy's rule. */
static double broadcast_at(const Run *r, int i, int64_t at) {
    const Type *o = &r->out_type, *t = &r->in_type[i];
    int64_t from = 0, step = 1;
    for (int d = o->rank - 1; d >= 0; d--) {
        int64_t index = at % o->dim[d];
        at /= o->dim[d];
        int k = d - (o->rank - t->rank);
        if (k < 0) continue;
        if (t->dim[k] != 1) from += index * step;
        step *= t->dim[k];
    }
    return number_at(&r->in[i], from);
}

/* Value of a formula at var[], node by node. */
static double evaluate(const Formula *f, int root, const double *var) {
    double *v = malloc(((size_t)root + 1) * sizeof *v);
    for (int i = 0; i <= root; i++) {
        const FNode *n = &f->node[i];
        if (n->op == F_NUMBER)
            v[i] = n->x;
        else if (n->op == F_VAR)
            v[i] = var[n->a];
        else
            v[i] = formula_apply(n->op, v[n->a], v[n->b], v[n->c]);
    }
    double y = v[root];
    free(v);
    return y;
}

static Formula *parse(Arena *a, const char *text, int n, int *root) {
    Formula *f = formula_new(a);
    FNames names = {0};
    Err e = {0};
    fnames_inputs(f, &names, n);
    bool ok = formula_parse(f, text, &names, root, &e);
    CHECK(ok && *root >= 0, "'%s': %s", text, e.text);
    return f;
}

/* ---- values ---- */

static void test_values(void) {
    static const struct {
        const char *f;
        double x0, x1, want;
    } cases[] = {
        {"x0 + x1 * 2", 3, 4, 11},
        {"x0 - x1 - 1", 3, 4, -2},
        {"2 ^ x0 ^ x1", 3, 2, 512},
        {"-x0 ^ 2", 3, 0, -9},
        {"x0 // x1", -7, 2, -4},
        {"x0 % x1", -7, 3, 2},
        {"x0 % x1", 7, -3, -2},
        {"x0 / x1", 1, 4, 0.25},
        {"round(x0)", 2.5, 0, 2},
        {"round(x0)", 3.5, 0, 4},
        {"floor(x0)", -0.5, 0, -1},
        {"sign(x0)", -3, 0, -1},
        {"sign(x0)", 0, 0, 0},
        {"abs(x0)", -3, 0, 3},
        {"x0 < x1", 1, 2, 1},
        {"x0 >= x1", 1, 2, 0},
        {"x0 == x1", 2, 2, 1},
        {"x0 != x1", 2, 2, 0},
        {"x0 and x1", 2, 0, 0},
        {"x0 or x1", 2, 0, 1},
        {"not x0", 2, 0, 0},
        {"not x1", 2, 0, 1},
        {"min(x0, x1)", 2, 5, 2},
        {"max(x0, x1)", 2, 5, 5},
        {"clamp(x0, -1, x1)", 9, 5, 5},
        {"clamp(x0, -1, x1)", -9, 5, -1},
        {"where(x0, x1, 7)", 1, 5, 5},
        {"where(x0, x1, 7)", 0, 5, 7},
        {"sqrt(x0)", 2, 0, 1.4142135623730951},
        {"exp(x0)", 1, 0, 2.718281828459045},
        {"ln(x0)", 2, 0, 0.6931471805599453},
        {"expm1(x0)", 1e-9, 0, 1.0000000005e-09},
        {"sin(x0)", 1, 0, 0.8414709848078965},
        {"cos(x0)", 1, 0, 0.5403023058681398},
        {"tanh(x0)", 0.5, 0, 0.46211715726000975},
        {"sigmoid(x0)", 1, 0, 0.7310585786300049},
        {"silu(x0)", 1, 0, 0.7310585786300049},
        {"gelu(x0)", 1, 0, 0.8413447460685429},
        {"quick_gelu(x0)", 1, 0, 0.8457957659328212},
        {"x0 ^ 0.5", 2, 0, 1.4142135623730951},
        {"x0 ^ -1", 4, 0, 0.25},
        {"x0 ^ -2", 4, 0, 0.0625},
        {"x0 ^ 3", 3, 0, 27},
        {"x0 ^ -3", 2, 0, 0.125},
        {"x0 ^ 4", 3, 0, 81},
        {"x0 ^ 1.5", 4, 0, 8},
        {"x0 ^ -0.5", 4, 0, 0.5},
        {"t0 = x0 + 1; t0 = t0 * t0; t0 - x1", 2, 4, 5},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int pass = 0; pass < 3;
             pass++) { /* tiles; a scalar; a tile and a scalar */
            Run r;
            const int64_t n = 3, one = 1;
            start(&r, cases[i].f, F64);
            Tensor *x0 = input(&r, F64, 1, pass == 1 ? &one : &n, 0, 1);
            Tensor *x1 = input(&r, F64, 1, pass ? &one : &n, 0, 1);
            for (int64_t k = 0; k < type_count(x0->type); k++)
                number_set(x0, k, cases[i].x0);
            for (int64_t k = 0; k < type_count(x1->type); k++)
                number_set(x1, k, cases[i].x1);
            if (finish(&r, kernel_reference(&op_pointwise), 1)) {
                double y = number_at(&r.out, 0), want = cases[i].want;
                CHECK(fabs(y - want) <= 1e-15 * (1 + fabs(want)),
                      "'%s': got %.17g, want %.17g", cases[i].f, y, want);
            }
            arena_free(r.a);
        }
}

static void test_nan(void) {
    static const char *const f[] = {"min(x0, x1)", "max(x0, x1)", "min(x1, x0)",
                                    "max(x1, x0)", "clamp(x0, x1, 3)"};
    for (size_t i = 0; i < COUNT(f); i++) {
        Run r;
        start(&r, f[i], F32);
        input(&r, F32, 1, (int64_t[]){40}, 0, 1);
        input(&r, F32, 1, (int64_t[]){40}, 0, 1);
        ((float *)r.in[0].data)[37] = NAN;
        for (const Kernel *k = cpu_pointwise; k->name; k++) {
            if (!finish(&r, k, 1)) continue;
            CHECK(isnan(number_at(&r.out, 37)), "%s '%s' loses NaN", k->name, f[i]);
            CHECK(!isnan(number_at(&r.out, 36)), "%s '%s' spreads NaN", k->name, f[i]);
        }
        arena_free(r.a);
    }
}

/* ---- shapes, types, blocks ---- */

typedef struct Shape {
    int rank;
    int64_t dim[4];
} Shape;

static void test_broadcast(DType t, const Shape *shape, int n, DType out,
                           double tolerance) {
    static const char f[] = "x0 * 2 + x1 * x2 - sigmoid(x0 + x3)";
    for (const Kernel *k = cpu_pointwise; k->name; k++) {
        Run r;
        start(&r, f, out);
        bool whole = !dtype_is_float(t);
        for (int i = 0; i < n; i++)
            input(&r, t, shape[i].rank, shape[i].dim, whole ? 0 : -3, whole ? 9 : 3);
        r.s.in = r.in_type, r.s.attrs = &r.at;
        if (k->fits && !k->fits(&r.s)) {
            arena_free(r.a);
            continue;
        }
        double worst = 0;
        if (!finish(&r, k, 1)) continue;
        for (int64_t i = 0; i < type_count(&r.out_type); i++) {
            double x[4];
            for (int j = 0; j < 4; j++) x[j] = broadcast_at(&r, j, i);
            double want = x[0] * 2 + x[1] * x[2] - 1 / (1 + exp(-x[0] - x[3]));
            double d = fabs(number_at(&r.out, i) - want) / (1 + fabs(want));
            if (!(d <= worst)) worst = d;
        }
        CHECK(worst <= tolerance, "%s: %s inputs to %s: off by %g", k->name,
              dtype_name(t), type_name(&r.out_type).s, worst);
        Tensor first = r.out;
        for (int threads = 2; threads <= 3; threads++)
            if (finish(&r, k, threads))
                CHECK(same_bits(&r.out, &first), "%s: other bits with %d workers",
                      k->name, threads);
        arena_free(r.a);
    }
}

static void test_shapes(void) {
    static const Shape sets[][4] = {
        {{4, {3, 50, 70, 20}}, {1, {20}}, {4, {3, 1, 1, 20}}, {4, {3, 1, 1, 1}}},
        {{4, {3, 50, 70, 20}}, {4, {3, 50, 70, 1}}, {4, {3, 50, 70, 20}}, {0, {0}}},
        {{4, {3, 50, 1, 4}}, {3, {50, 70, 1}}, {2, {70, 4}}, {1, {1}}},
        {{2, {7, 1}}, {2, {1, 5}}, {0, {0}}, {3, {2, 1, 1}}},
        {{0, {0}}, {0, {0}}, {0, {0}}, {0, {0}}},
        {{1, {100000}}, {1, {1}}, {1, {100000}}, {0, {0}}},
    };
    for (size_t i = 0; i < COUNT(sets); i++) {
        test_broadcast(F32, sets[i], 4, F32, 4e-7);
        test_broadcast(F64, sets[i], 4, F64, 1e-15);
        test_broadcast(F16, sets[i], 4, F32, 4e-7);
        test_broadcast(BF16, sets[i], 4, F32, 4e-7);
        test_broadcast(I32, sets[i], 4, F32, 4e-7);
        test_broadcast(U8, sets[i], 4, F64, 1e-15);
        test_broadcast(I64, sets[i], 4, F32, 4e-7);
        test_broadcast(F32, sets[i], 4, F16, 0x1p-11);
        test_broadcast(F32, sets[i], 4, BF16, 0x1p-8);
    }
}

static void test_integers(void) {
    Run r;
    start(&r, "x0 == 3", I32);
    input(&r, I32, 1, (int64_t[]){9}, 0, 9);
    for (int i = 0; i < 9; i++) ((int32_t *)r.in[0].data)[i] = i;
    if (finish(&r, cpu_pointwise, 1))
        for (int i = 0; i < 9; i++)
            CHECK(((int32_t *)r.out.data)[i] == (i == 3), "flag %d", i);
    arena_free(r.a);
}

/* The output over input 0: same numbers as with memory of its own. */
static void test_in_place(void) {
    for (const Kernel *k = cpu_pointwise; k->name; k++) {
        Run r;
        start(&r, "x0 * x1 + silu(x0) * x0", F32);
        input(&r, F32, 2, (int64_t[]){300, 77}, -3, 3);
        input(&r, F32, 1, (int64_t[]){77}, -3, 3);
        if (!finish(&r, k, 1)) continue;
        Workers w = workers(1, false);
        Call c = {.in = r.in, .n_in = 2, .n_out = 1, .attrs = &r.at, .dev = &w.dev};
        Tensor over = {r.in[0].data, &r.out_type};
        Err e = {0};
        c.out = &over;
        CHECK(k->prepare(r.a, &r.s, &c.prep, &e), "%s", e.text);
        k->run(&c);
        CHECK(same_bits(&over, &r.out), "%s: in place differs", k->name);
        arena_free(r.a);
    }
}

/* ---- derivatives ---- */

static void test_slopes(void) {
    static const char *const formulas[] = {
        "sqrt(x0 + 3)",
        "exp(x0)",
        "ln(x0 + 3)",
        "expm1(x0)",
        "abs(x0)",
        "sin(x0)",
        "cos(x0)",
        "tanh(x0)",
        "sigmoid(x0)",
        "silu(x0)",
        "gelu(x0)",
        "quick_gelu(x0)",
        "erf(x0)",
        "min(x0, x1)",
        "max(x0, x1)",
        "clamp(x0, -1, 1)",
        "where(x0 > x1, x0 * x1, x1 ^ 3)",
        "x0 + x1 - x0 * x1 / (3 + x1)",
        "(x0 + 3) ^ (x1 + 1)",
        "x0 ^ 2 + x1 ^ 4 - x0 ^ -2",
        "-x0 * 3",
        "floor(x0) + round(x1) + sign(x0) + x0 // 2",
        "(x0 < x1) * x0",
        "t0 = x0 * x1; t1 = sin(t0) + t0; t1 * t0 + t1",
        "2 * (x0 + 3) * (sqrt(x1 ^ 2 + (x0 + 3) ^ 2) - (x0 + 3))",
    };
    const double h = 1e-6;
    harness_state = 11;
    for (size_t i = 0; i < COUNT(formulas); i++) {
        Arena *a = arena_new();
        int root, grad[2];
        Formula *f = parse(a, formulas[i], 2, &root);
        formula_grad(f, root, formula_var(f, 2), 2, grad);
        for (int round = 0; round < 20; round++) {
            double x[3] = {random_in(-2, 2), random_in(-2, 2), random_in(-2, 2)};
            for (int v = 0; v < 2; v++) {
                double y[2], keep = x[v];
                for (int k = 0; k < 2; k++) {
                    x[v] = keep + (k ? h : -h);
                    y[k] = evaluate(f, root, x);
                }
                x[v] = keep;
                double slope = x[2] * (y[1] - y[0]) / (2 * h),
                       got = evaluate(f, grad[v], x);
                CHECK(fabs(got - slope) <= 1e-7 * (1 + fabs(slope)),
                      "d '%s' / d x%d at %g, %g: got %.10g, slope %.10g", formulas[i],
                      v, x[0], x[1], got, slope);
            }
        }
        arena_free(a);
    }
}

static void check_grad(const char *text, int n, int v, const double *x, double want) {
    Arena *a = arena_new();
    int root, grad[4];
    Formula *f = parse(a, text, n, &root);
    formula_grad(f, root, formula_var(f, n), n, grad);
    double got = evaluate(f, grad[v], x);
    CHECK(got == want, "d '%s' / d x%d: got %g, want %g", text, v, got, want);
    arena_free(a);
}

static void test_corners(void) {
    check_grad("min(x0, x1)", 2, 0, (double[]){2, 2, 5}, 5); /* a tie: the first */
    check_grad("min(x0, x1)", 2, 1, (double[]){2, 2, 5}, 0);
    check_grad("max(x0, x1)", 2, 0, (double[]){2, 2, 5}, 5);
    check_grad("max(x0, x1)", 2, 1, (double[]){2, 2, 5}, 0);
    check_grad("max(x0, x1)", 2, 1, (double[]){2, 3, 5}, 5);
    check_grad("abs(x0)", 1, 0, (double[]){0, 5}, 0);
    check_grad("clamp(x0, -1, 1)", 1, 0, (double[]){3, 5}, 0);
    check_grad("x0 % x1", 2, 0, (double[]){3, 2, 5}, 0);
    check_grad("x0 // x1", 2, 0, (double[]){3, 2, 5}, 0);
    check_grad("x0 and x1", 2, 0, (double[]){3, 2, 5}, 0);
    check_grad("x0 ^ 2", 1, 0, (double[]){0, 5}, 0);
    check_grad("x0 ^ x1", 2, 1, (double[]){0, 2, 5}, 0); /* not 0 * ln 0 */
    check_grad("where(x0 > 0, ln(x0), 0)", 1, 0, (double[]){2, 4}, 2);
}

/* ---- texts ---- */

static void check_text(const char *text, int v, const char *want) {
    Arena *a = arena_new();
    int root, grad[4], number[5] = {0, 1, 2, 3, 4};
    Formula *f = parse(a, text, 3, &root);
    formula_grad(f, root, formula_var(f, 3), 3, grad);
    Str s = {0};
    formula_print(&s, f, v < 0 ? root : grad[v], number);
    CHECK(!strcmp(s.s, want), "'%s' (%d): got '%s', want '%s'", text, v, s.s, want);
    str_free(&s);
    arena_free(a);
}

static void test_texts(void) {
    check_text("x0 * 1 + 0", -1, "x0");
    check_text("x0 * 0 + x1", -1, "x1");
    check_text("2 * 3 + x0", -1, "6 + x0");
    check_text("x0 - -x1", -1, "x0 + x1");
    check_text("x0 * x1", 0, "x3 * x1");
    check_text("x0 + x1", 1, "x3");
    check_text("x0 - x1", 1, "-x3");
    check_text("(x0 - x1) ^ 2", 0, "x3 * (2 * (x0 - x1))");
    check_text("x0 * x1 + x2", 2, "x3");
    check_text("floor(x0)", 0, "0");
    check_text("sin(x0 + x1) * (x0 + x1)", -1, "t0 = x0 + x1; sin(t0) * t0");
}

/* A formula of many terms prints as statements that the grammar's limits let back in. */
static void test_long(void) {
    Arena *a = arena_new();
    Str text = {0}, printed = {0};
    for (int i = 0; i < 90; i++)
        str_printf(&text, "t%d = sin(x%d * 0.123456789 + t%d); ", i + 1, i % 3, i);
    str_add(&text, "t90 * exp(t45)");
    Str all = {0};
    str_printf(&all, "t0 = x0; %s", text.s);
    int root, again, number[3] = {0, 1, 2};
    Formula *f = parse(a, all.s, 3, &root);
    formula_print(&printed, f, root, number);
    Formula *g = parse(a, printed.s, 3, &again);
    double x[3] = {0.3, -1.2, 0.7};
    double y = evaluate(f, root, x), z = evaluate(g, again, x);
    CHECK(y == z, "%.17g and %.17g", y, z);
    str_free(&text), str_free(&all), str_free(&printed);
    arena_free(a);
}

/* Repeated sub-expressions are computed once, numbers before the run. */
static void test_program(void) {
    Arena *a = arena_new();
    int root;
    Err e = {0};
    Program *p;
    Formula *f = parse(a, "sin(x0 * x1) + sin(x1 * x0) * (2 + 3) * sqrt(x2)", 3, &root);
    bool ok = program_compile(a, f, &root, 1, (bool[]){true, true, false}, 3, &p, &e);
    CHECK(ok, "%s", e.text);
    if (ok) {
        CHECK(p->n_instr == 5, "got %d instructions, want * sin * * +", p->n_instr);
        CHECK(p->n_once == 1, "got %d once, want sqrt", p->n_once);
        CHECK(p->n_load == 2 && p->n_scalar == 1, "got %d loads, %d scalars", p->n_load,
              p->n_scalar);
    }
    arena_free(a);
}

static void test_errors(void) {
    static const struct {
        const char *f;
        int64_t a, b;
        const char *want;
    } cases[] = {
        {"x0 + x1", 3, 4, "f32[3] and f32[4] do not meet"},
        {"x0 + x2", 3, 3, "no value 'x2' in the formula"},
        {"x0 + sine(x1)", 3, 3, "no function 'sine' in a formula; did you mean 'sin'?"},
        {"min(x0)", 3, 3, "function 'min': got 1 values, want 2"},
        {"t0 = x0", 3, 3, "ends without a value"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        PointwiseAttrs at = {cases[i].f, F32};
        Type in[2] = {type_of(F32, 1, &cases[i].a), type_of(F32, 1, &cases[i].b)}, out;
        Sig s = {.op = &op_pointwise,
                 .attrs = &at,
                 .in = in,
                 .n_in = 2,
                 .out = &out,
                 .n_out = 1};
        Err e = {0};
        bool ok = op_pointwise.shape(&s, &e);
        CHECK(!ok && strstr(e.text, cases[i].want), "'%s': got '%s', want '%s'",
              cases[i].f, e.text, cases[i].want);
    }
}

int main(void) {
    test_values();
    test_nan();
    test_shapes();
    test_integers();
    test_in_place();
    test_slopes();
    test_corners();
    test_texts();
    test_long();
    test_program();
    test_errors();
    return check_done("pointwise");
}
