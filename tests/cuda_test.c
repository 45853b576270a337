/* CUDA kernels as host twins: shapes that are no multiples of their tiles, against the plain
 * CPU kernels, in every order; and mistakes planted in kernels, which the engine must find.
 * tests/op_rows_test.c runs every row's example. Nothing here needs a GPU, and nothing here
 * shows what one computes. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/heavy.h"
#include "kernels/products.h"
#include "tests/op_harness.h"

#include "tests/check.h"
#include "tests/twin/device.h"

/* ---- planted mistakes ---- */

typedef struct Fault { /* the parameter of the kernels in faults.cu */
    float *x;
    int64_t n;
} Fault;

static const char *run_fault(const char *kernel, float *x, int64_t n, unsigned blocks,
                             TwinOrder order) {
    Fault f = {x, n};
    return twin_launch(kernel, (unsigned[]){blocks, 1, 1},
                       (unsigned[]){GPU_BLOCK, 1, 1}, &f, sizeof f, order, 3);
}

/* Do the results of all orders agree, and are they numbers? */
static bool orders_agree(const char *kernel, unsigned blocks) {
    float first[GPU_BLOCK], x[GPU_BLOCK];
    bool agree = true;
    for (int order = 0; order < TWIN_ORDERS; order++) {
        for (int i = 0; i < GPU_BLOCK; i++) x[i] = (float)i + 0.25f;
        const char *why = run_fault(kernel, x, GPU_BLOCK, blocks, (TwinOrder)order);
        CHECK(!why, "%s: %s", kernel, why);
        for (int i = 0; i < GPU_BLOCK; i++) agree &= !isnan(x[i]);
        if (!order) memcpy(first, x, sizeof x);
        agree &= !memcmp(first, x, sizeof x);
    }
    return agree;
}

static void test_outside(void) {
    pid_t child = fork();
    if (child == 0) {
        TwinMemory m = twin_alloc(300 * sizeof(float), NULL);
        run_fault("fault_outside", m.data, 300, 2, TWIN_RISING);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(!WIFEXITED(status) || WEXITSTATUS(status), "a step outside was not found");
}

static void test_faults(void) {
    float x[GPU_BLOCK] = {0};
    CHECK(!orders_agree("fault_barrier", 1), "a missing barrier was not found");
    CHECK(!orders_agree("fault_order", 500), "an order of additions was not found");
    CHECK(!orders_agree("fault_unwritten", 1), "unwritten memory was not found");
    for (int order = 0; order < TWIN_ORDERS; order++) {
        CHECK(run_fault("fault_divergent", x, GPU_BLOCK, 1, (TwinOrder)order),
              "a divergent barrier was not found");
        CHECK(run_fault("fault_mask", x, GPU_BLOCK, 1, (TwinOrder)order),
              "a mask that names absent lanes was not found");
    }
    test_outside();
}

static void test_launches(void) {
    Fault f = {0};
    const unsigned one[3] = {1, 1, 1}, none[3] = {0, 1, 1}, large[3] = {1025, 1, 1},
                   high[3] = {1, 70000, 1};
    CHECK(twin_launch("no_such", one, one, &f, sizeof f, TWIN_RISING, 1), "a name");
    CHECK(twin_launch("fault_order", one, one, &f, 4, TWIN_RISING, 1), "a size");
    CHECK(twin_launch("fault_order", none, one, &f, sizeof f, TWIN_RISING, 1), "none");
    CHECK(twin_launch("fault_order", one, large, &f, sizeof f, TWIN_RISING, 1), "1025");
    CHECK(twin_launch("fault_order", high, one, &f, sizeof f, TWIN_RISING, 1), "70000");
}

/* ---- shapes ---- */

typedef struct Case {
    Arena *a;
    Sig s;
    Type in_type[16], out_type[16];
    Tensor in[16];
} Case;

static void begin(Case *c, const char *name, const void *attrs) {
    *c = (Case){.a = arena_new()};
    const Op *op = op_find(name);
    c->s = (Sig){.op = op, .attrs = attrs, .in = c->in_type, .out = c->out_type};
    c->s.n_out = op->n_out < 0 ? 0 : op->n_out;
    harness_state = 5;
}
static void give(Case *c, DType t, int rank, const int64_t *dim) {
    int i = c->s.n_in++;
    c->in_type[i] = type_of(t, rank, dim);
    c->in[i] =
        (Tensor){arena_alloc(c->a, type_bytes(&c->in_type[i]) + 8, 1), &c->in_type[i]};
    for (int64_t k = 0; k < type_count(&c->in_type[i]); k++)
        number_set(&c->in[i], k,
                   t == I32 || t == U8 ? floor(random_in(0, 50)) : random_in(-1, 1.5));
}
#define GIVE(c, t, ...)                                                                \
    give(c, t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),              \
         (int64_t[]){__VA_ARGS__})

static double rounding_of(DType t) {
    return t == F16 ? 0x1p-11 : t == BF16 ? 0x1p-8 : 0;
}

/* The twin against the plain kernel, in every order; more: what that one may be off by. */
static void compare_within(Case *c, double more) {
    Err e = {0};
    const Op *op = c->s.op;
    Workers one = workers(1, false);
    Tensor want[16], got[16], first[16];
    bool ok = op->shape(&c->s, &e);
    ok = ok && kernel_run(c->a, kernel_reference(op), &c->s, c->in, want, &one.dev, &e);
    ok = ok && op->cuda->fits(&c->s);
    CHECK(ok, "%s: %s", op->name, e.text);
    for (int order = 0; ok && order < TWIN_ORDERS; order++) {
        TwinDevice d = twin_device((TwinOrder)order, 11);
        for (int o = 0; o < c->s.n_out; o++)
            got[o] = (Tensor){arena_alloc(c->a, type_bytes(&c->out_type[o]) + 8, 1),
                              &c->out_type[o]};
        const char *why = twin_run(&d, op->cuda, &c->s, c->in, got, &e);
        CHECK(!why, "%s: %s: %s", op->name, d.kernel, why);
        for (int o = 0; !why && o < c->s.n_out; o++) {
            double off = relative_error(&got[o], &want[o]);
            CHECK(off <= 2e-6 + more + rounding_of(c->out_type[o].dtype),
                  "%s: output %d is off by %g", op->name, o, off);
            if (order)
                CHECK(same_bits(&got[o], &first[o]), "%s: output %d, order %d",
                      op->name, o, order);
            else
                first[o] = got[o];
        }
    }
    arena_free(c->a);
}

static void compare(Case *c) {
    compare_within(c, 0);
}

static void test_products(DType t) {
    Case c;
    begin(&c, "linear", &(LinearAttrs){.out = 45});
    GIVE(&c, t, 3, 11, 70), GIVE(&c, F32, 45, 70), GIVE(&c, t, 45);
    compare(&c);
    begin(&c, "linear_grad_x", &(LinearAttrs){0});
    GIVE(&c, t, 3, 11, 45), GIVE(&c, F32, 45, 70);
    compare(&c);
    begin(&c, "linear_grad_w", &(LinearAttrs){0});
    GIVE(&c, t, 3, 11, 70), GIVE(&c, F32, 3, 11, 45);
    compare(&c);
    begin(&c, "matmul", &(MatmulAttrs){.ta = true});
    GIVE(&c, t, 3, 33, 17), GIVE(&c, t, 3, 33, 35);
    compare(&c);
}

/* Several sums of one launch: more than a tile each way, a product of three wider than a
 * tile behind a first part that is no multiple of anything. */
static void test_grouped(DType t) {
    Case c;
    static const ProductsAttrs at = {
        "x1 @ x2' + x4 @ x5' * 0.5 + row x3 + x0; x4' @ x1 * 2; f32: x1 @ x6' @ x5' + "
        "x1 @ x2'; x7 @ x2"};
    begin(&c, "products", &at);
    GIVE(&c, t, 3, 23, 70), GIVE(&c, t, 3, 23, 83), GIVE(&c, F32, 70, 83);
    GIVE(&c, t, 70), GIVE(&c, t, 3, 23, 18), GIVE(&c, F32, 70, 18);
    GIVE(&c, F32, 18, 83), GIVE(&c, t, 5, 70);
    compare(&c);
}

static void absent(Case *c) {
    int i = c->s.n_in++;
    c->in_type[i] = (Type){.rank = -1};
    c->in[i] = (Tensor){NULL, &c->in_type[i]};
}

static void test_norms(DType t) {
    Case c;
    begin(&c, "group_norm", &(NormAttrs){.groups = 4, .eps = 1e-5});
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, t, 20);
    compare(&c);
    begin(&c, "group_norm_grad", &(NormAttrs){.groups = 4, .params = true});
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, F32, 2, 4);
    GIVE(&c, F32, 2, 4), GIVE(&c, t, 2, 13, 7, 20);
    compare(&c);
    begin(&c, "group_norm_grad", &(NormAttrs){.groups = 4});
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, F32, 2, 4);
    GIVE(&c, F32, 2, 4), GIVE(&c, t, 2, 13, 7, 20), absent(&c);
    GIVE(&c, t, 2, 13, 7, 20);
    compare(&c);
    begin(&c, "layer_norm_grad", &(NormAttrs){0});
    GIVE(&c, t, 2, 5, 331), GIVE(&c, F32, 331), GIVE(&c, F32, 2, 5);
    GIVE(&c, F32, 2, 5), GIVE(&c, t, 2, 5, 331), GIVE(&c, t, 2, 5, 331);
    compare(&c);
    begin(&c, "layer_norm", &(NormAttrs){.eps = 1e-5});
    GIVE(&c, t, 2, 5, 331), GIVE(&c, F32, 331), GIVE(&c, t, 331);
    compare(&c);
    begin(&c, "layer_norm_grad", &(NormAttrs){.params = true});
    GIVE(&c, t, 2, 5, 331), GIVE(&c, F32, 331), GIVE(&c, F32, 2, 5);
    GIVE(&c, F32, 2, 5), GIVE(&c, t, 2, 5, 331);
    compare(&c);
}

static void test_sums(DType t) {
    static const char *const rows[] = {"sum", "mean", "std"};
    for (size_t i = 0; i < COUNT(rows); i++)
        for (unsigned set = 1; set < 8; set++) {
            ReduceAttrs at = {.keep = set & 1};
            for (int k = 0; k < 3; k++)
                if (set & 1u << k) at.over.v[at.over.n++] = k;
            Case c;
            begin(&c, rows[i], &at);
            GIVE(&c, t, 5, 37, 3);
            compare(&c);
        }
}

static void test_formulas(DType t) {
    PointwiseAttrs at = {
        "t0 = x0 * sigmoid(x1) + x2 ^ 2; t0 / (x3 + 3) + gelu(t0) * x2", t};
    Case c;
    begin(&c, "pointwise", &at);
    GIVE(&c, t, 3, 50, 41), GIVE(&c, F32, 41), GIVE(&c, F16, 50, 1), GIVE(&c, F32, 1);
    compare(&c);
}

static void test_tables(DType t) {
    Case c;
    begin(&c, "embedding", &(EmbeddingAttrs){0});
    GIVE(&c, I32, 3, 29), GIVE(&c, t, 50, 21);
    compare(&c);
    begin(&c, "embedding_grad", &(EmbeddingAttrs){.rows = 50});
    GIVE(&c, I32, 3, 29), GIVE(&c, t, 3, 29, 301);
    compare(&c);
}

static void test_convolutions(DType t) {
    ConvAttrs at = {
        .out = 21, .kernel = 3, .stride = 1, .pad = {1, {1}}, .h = 9, .w = 7};
    Case c;
    begin(&c, "conv2d", &at);
    GIVE(&c, t, 2, 9, 7, 19), GIVE(&c, F32, 21, 19, 3, 3), GIVE(&c, t, 21);
    GIVE(&c, t, 2, 9, 7, 21);
    compare(&c);
    begin(&c, "conv2d_grad_x", &at);
    GIVE(&c, t, 2, 9, 7, 21), GIVE(&c, F32, 21, 19, 3, 3), GIVE(&c, t, 2, 9, 7, 19);
    compare(&c);
    begin(&c, "conv2d_grad_w", &at);
    GIVE(&c, t, 2, 9, 7, 19), GIVE(&c, F32, 2, 9, 7, 21);
    compare(&c);
    at.stride = 2; /* from 9 x 7 to 5 x 4 */
    begin(&c, "conv2d", &at);
    GIVE(&c, t, 2, 9, 7, 19), GIVE(&c, t, 21, 19, 3, 3);
    compare(&c);
    begin(&c, "conv2d_grad_x", &at);
    GIVE(&c, t, 2, 5, 4, 21), GIVE(&c, t, 21, 19, 3, 3);
    compare(&c);
    begin(&c, "conv2d_grad_w", &at);
    GIVE(&c, t, 2, 9, 7, 19), GIVE(&c, t, 2, 5, 4, 21);
    compare(&c);
}

/* lse as the forward kernel makes it: the gradient of anything else is no gradient. */
static void test_attention(DType t, bool causal, int64_t n, int64_t m, int64_t d) {
    AttentionAttrs at = {.heads = 2, .causal = causal};
    Err e = {0};
    Case c;
    Workers one = workers(1, false);
    Tensor y[16];
    begin(&c, "attention", &at);
    GIVE(&c, t, 2, n, 2 * d), GIVE(&c, t, 2, m, 2 * d), GIVE(&c, F32, 2, m, 2 * d);
    compare(&c);
    begin(&c, "attention", &at);
    GIVE(&c, t, 2, n, 2 * d), GIVE(&c, t, 2, m, 2 * d), GIVE(&c, F32, 2, m, 2 * d);
    if (!c.s.op->shape(&c.s, &e) ||
        !kernel_run(c.a, kernel_reference(c.s.op), &c.s, c.in, y, &one.dev, &e))
        CHECK(false, "attention: %s", e.text);
    Arena *made = c.a;
    Case g;
    begin(&g, "attention_grad", &at);
    GIVE(&g, t, 2, n, 2 * d), GIVE(&g, t, 2, m, 2 * d), GIVE(&g, F32, 2, m, 2 * d);
    GIVE(&g, t, 2, n, 2 * d), GIVE(&g, F32, 2, 2, n), GIVE(&g, t, 2, n, 2 * d);
    for (int i = 0; i < 2; i++)
        memcpy(g.in[3 + i].data, y[i].data, type_bytes(y[i].type));
    compare(&g);
    arena_free(made);
}

static void test_many(DType t) {
    static const char *const rows[] = {"global_norm", "total", "finite"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        Case c;
        begin(&c, rows[i], NULL);
        GIVE(&c, t, 3, 7), GIVE(&c, F32, 5, 5001), GIVE(&c, t, 1), GIVE(&c, F32, 16384);
        if (i == 2) number_set(&c.in[1], 25000, INFINITY);
        compare(&c);
    }
}

/* A formula behind a group norm, and the gradient through both. The plain kernel rounds dy to
 * the type of dx before it adds it up, the CUDA kernel does not. */
static void test_fused_norms(DType t) {
    NormAttrs at = {.groups = 4, .eps = 1e-5, .f = "x0 * sigmoid(x0) + 0.5"};
    Case c;
    begin(&c, "group_norm", &at);
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, t, 20);
    compare(&c);
    NormAttrs grad = {.groups = 4, .params = true};
    grad.f = "t0 = sigmoid(x0); x1 * t0 * (1 + x0 * (1 - t0))";
    begin(&c, "group_norm_grad", &grad);
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, F32, 2, 4);
    GIVE(&c, F32, 2, 4), GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20);
    compare_within(&c, rounding_of(t));
}

static void test_updates(DType t) {
    static const char adam[] =
        "t = t + 1; m = 0.9 * m + 0.1 * g; v = 0.99 * v + 0.01 * g * g; "
        "p = p * (1 - lr * 0.01) - lr / (1 - 0.9 ^ t) * m / (sqrt(v) + 0.1)";
    for (int axis = -1; axis < 2; axis++) {
        UpdateAttrs at = {adam, "m v t", axis, axis < 0 ? 0 : 3};
        for (int ok = 0; ok < 2; ok++) {
            Case c;
            begin(&c, "update", &at);
            GIVE(&c, t, 33, 27), GIVE(&c, t, 33, 27), GIVE(&c, F32, 1),
                GIVE(&c, F32, 1);
            GIVE(&c, F32, 1);
            number_set(&c.in[4], 0, ok);
            const int64_t slices = axis < 0 ? 1 : axis ? 9 : 11;
            GIVE(&c, I32, slices);
            for (int64_t i = 0; i < slices; i++) number_set(&c.in[5], i, i % 2 == 0);
            GIVE(&c, F32, 33, 27), GIVE(&c, F32, 33, 27), GIVE(&c, F64, slices);
            for (int64_t i = 0; i < 33 * 27; i++)
                number_set(&c.in[7], i, fabs(number_at(&c.in[7], i)));
            for (int64_t i = 0; i < slices; i++) number_set(&c.in[8], i, (double)i);
            compare(&c);
        }
    }
    for (int when = 0; when < 2; when++) {
        Case c;
        begin(&c, "assign", NULL);
        GIVE(&c, t, 33, 27), GIVE(&c, t, 33, 27), GIVE(&c, F32, 1);
        number_set(&c.in[2], 0, when);
        compare(&c);
    }
}

static void test_random(DType t) {
    for (int each = EACH_ELEMENT; each <= EACH_MODULE; each++) {
        DropoutAttrs at = {.p = 0.4, .each = each, .rescale = true, .batch = true};
        Case c;
        begin(&c, "dropout", &at);
        GIVE(&c, t, 3, 7, 53), GIVE(&c, I32, 8);
        compare(&c);
    }
    static const char *const rows[] = {"normal", "uniform", "draw"};
    for (size_t i = 0; i < COUNT(rows); i++) {
        RandomAttrs at = {.from = -5, .below = 900, .batch = true, .stream = 77};
        at.shape = (IntList){3, {5, 3, 31}};
        Case c;
        begin(&c, rows[i], &at);
        GIVE(&c, I32, 8);
        compare(&c);
    }
}

static void test_rest(DType t) {
    Case c;
    begin(&c, "kron", NULL);
    GIVE(&c, t, 5, 7), GIVE(&c, F32, 9, 11);
    compare(&c);
    begin(&c, "kron_grad", NULL);
    GIVE(&c, t, 5, 7), GIVE(&c, F32, 9, 11), GIVE(&c, t, 45, 77);
    compare(&c);
    begin(&c, "cayley", NULL);
    GIVE(&c, t, 3, 21, 21);
    compare(&c);
    begin(&c, "cayley_grad", NULL);
    GIVE(&c, t, 3, 21, 21), GIVE(&c, F32, 3, 21, 21), GIVE(&c, t, 3, 21, 21);
    compare(&c);
    begin(&c, "join_chunks", &(ChunkAttrs){3});
    GIVE(&c, t, 6, 9, 37);
    compare(&c);
    begin(&c, "join_chunks_grad", &(ChunkAttrs){3});
    GIVE(&c, t, 2, 23, 37);
    compare(&c);
    begin(&c, "cumprod", NULL);
    GIVE(&c, t, 11, 301);
    compare(&c);
    begin(&c, "timestep_embedding", &(EmbeddingAttrs){.width = 66});
    GIVE(&c, F32, 5);
    compare(&c);
    begin(&c, "encode", &(CodesAttrs){.is_signed = true, .block = 100});
    GIVE(&c, t, 7, 61);
    compare(&c);
    begin(&c, "decode", &(CodesAttrs){false, 100, {2, {7, 61}}});
    GIVE(&c, U8, 427), GIVE(&c, t, 5);
    compare(&c);
}

int main(void) {
    static const DType types[] = {F32, F16, BF16};
    test_faults();
    test_launches();
    for (size_t i = 0; i < COUNT(types); i++) {
        test_products(types[i]);
        test_norms(types[i]);
        test_grouped(types[i]);
        test_sums(types[i]);
        test_formulas(types[i]);
        test_tables(types[i]);
        test_convolutions(types[i]);
        test_attention(types[i], false, 7, 77, 40);
        if (!i) test_attention(types[i], true, 70, 70, 8);
        test_attention(types[i], false, 3, 130, 160);
        test_many(types[i]);
        test_fused_norms(types[i]);
        test_updates(types[i]);
        test_random(types[i]);
        test_rest(types[i]);
    }
    return check_done("cuda");
}
