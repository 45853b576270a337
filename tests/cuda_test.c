/* CUDA kernels as host twins: shapes that are no multiples of their tiles, against the plain
 * CPU kernels, in every order; and mistakes planted in kernels, which the engine must find.
 * tests/op_rows_test.c runs every row's example. Nothing here needs a GPU, and nothing here
 * shows what one computes. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/heavy.h"
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
    Type in_type[8], out_type[8];
    Tensor in[8];
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
                   t == I32 ? floor(random_in(0, 50)) : random_in(-1, 1.5));
}
#define GIVE(c, t, ...)                                                                \
    give(c, t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),              \
         (int64_t[]){__VA_ARGS__})

static double rounding_of(DType t) {
    return t == F16 ? 0x1p-11 : t == BF16 ? 0x1p-8 : 0;
}

/* The twin against the plain kernel, in every order. */
static void compare(Case *c) {
    Err e = {0};
    const Op *op = c->s.op;
    Workers one = workers(1, false);
    Tensor want[8], got[8], first[8];
    bool ok = op->shape(&c->s, &e);
    ok = ok && kernel_run(c->a, kernel_reference(op), &c->s, c->in, want, &one.dev, &e);
    CHECK(ok && op->cuda->fits(&c->s), "%s: %s", op->name, e.text);
    for (int order = 0; ok && order < TWIN_ORDERS; order++) {
        TwinDevice d = twin_device((TwinOrder)order, 11);
        for (int o = 0; o < c->s.n_out; o++)
            got[o] = (Tensor){arena_alloc(c->a, type_bytes(&c->out_type[o]) + 8, 1),
                              &c->out_type[o]};
        const char *why = twin_run(&d, op->cuda, &c->s, c->in, got, &e);
        CHECK(!why, "%s: %s: %s", op->name, d.kernel, why);
        for (int o = 0; !why && o < c->s.n_out; o++) {
            double off = relative_error(&got[o], &want[o]);
            CHECK(off <= 2e-6 + rounding_of(c->out_type[o].dtype),
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

static void test_norms(DType t) {
    Case c;
    begin(&c, "group_norm", &(NormAttrs){.groups = 4, .eps = 1e-5});
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, t, 20);
    compare(&c);
    begin(&c, "group_norm_grad", &(NormAttrs){.groups = 4, .params = true});
    GIVE(&c, t, 2, 13, 7, 20), GIVE(&c, F32, 20), GIVE(&c, F32, 2, 4);
    GIVE(&c, F32, 2, 4), GIVE(&c, t, 2, 13, 7, 20);
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

int main(void) {
    static const DType types[] = {F32, F16, BF16};
    test_faults();
    test_launches();
    for (size_t i = 0; i < COUNT(types); i++) {
        test_products(types[i]);
        test_norms(types[i]);
        test_sums(types[i]);
        test_formulas(types[i]);
        test_tables(types[i]);
    }
    return check_done("cuda");
}
