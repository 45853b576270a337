/* Every fast kernel against the reference kernel of its row: odd shapes, one to three
 * samples, thin ranks, f32, f16 and bf16 in any mix, on each instruction set that
 * this CPU has; and the same bits for one worker and for three. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/heavy.h"
#include "ops/ops.h"
#include "tests/check.h"

/* ---- devices: one worker, and three at once that each begin at another end ---- */

/* Scratch of worker i, at first not a number: nobody may rely on zeros. */
static void *scratch_of(int i) {
    static void *scratch[3];
    if (scratch[i]) return scratch[i];
    if (posix_memalign(&scratch[i], 64, SCRATCH_BYTES)) abort();
    return memset(scratch[i], 0xFF, SCRATCH_BYTES);
}
static void par_one(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                    void *arg) {
    (void)d;
    for (int64_t i = 0; i < n; i++) body(arg, i, scratch_of(0));
}
typedef struct Share {
    int64_t n;
    int worker;
    void (*body)(void *, int64_t, void *);
    void *arg;
} Share;
static void *work_share(void *p) {
    const Share *s = p;
    for (int64_t i = s->n - 1 - s->worker; i >= 0; i -= 3)
        s->body(s->arg, i, scratch_of(s->worker));
    return NULL;
}
static void par_three(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                      void *arg) {
    pthread_t t[3];
    Share s[3];
    (void)d;
    for (int i = 0; i < 3; i++) {
        s[i] = (Share){n, i, body, arg};
        if (pthread_create(&t[i], NULL, work_share, &s[i])) abort();
    }
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
}
static Device one = {.name = "one", .threads = 1, .par = par_one},
              three = {.name = "three", .threads = 3, .par = par_three};

/* ---- tensors ---- */

enum { MOST_IN = 6, MOST_OUT = 3 };
typedef struct Case {
    const Op *op;
    const void *attrs;
    Type in_type[MOST_IN], out_type[MOST_OUT];
    Tensor in[MOST_IN], out[MOST_OUT]; /* out: of the reference kernel */
    DType through;                     /* what every output went through in between */
    Sig sig;
    int fast; /* kernels beside the reference that have to fit */
} Case;

static void *
memory(size_t bytes) { /* exact, so that a sanitizer sees every step outside */
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes ? bytes : 1)) abort();
    memset(p, 0xFF, bytes);
    return p;
}
static uint64_t random_state = 88172645463325252u;
static float random_float(void) {
    uint64_t x = random_state;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    random_state = x;
    return (float)(int64_t)(x >> 40) * 0x1p-23f - 1;
}
static void *random_data(const Type *t) {
    const int64_t n = type_count(t);
    float *f = memory((size_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++) f[i] = random_float();
    if (t->dtype == F32) return f;
    void *p = memory(type_bytes(t));
    convert(p, t->dtype, f, F32, n);
    free(f);
    return p;
}
static Type shape(DType t, int rank, ...) {
    Type r = {.dtype = t, .rank = rank};
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++) r.dim[i] = va_arg(ap, int);
    va_end(ap);
    return r;
}

static void call(const Case *c, const Kernel *k, Device *dev, Tensor *out) {
    Sig s = c->sig;
    Call call = {.in = c->in,
                 .out = out,
                 .n_in = s.n_in,
                 .n_out = s.n_out,
                 .attrs = c->attrs,
                 .dev = dev};
    void *work = memory(k->work ? k->work(&s) : 0);
    call.work = work;
    Arena *a = arena_new();
    Err e = {0};
    if (k->prepare && !k->prepare(a, &s, &call.prep, &e)) CHECK(false, "%s", e.text);
    k->run(&call);
    arena_free(a);
    free(work);
}
static void new_outputs(const Case *c, Tensor *out) {
    for (int i = 0; i < c->sig.n_out; i++)
        out[i] = (Tensor){memory(type_bytes(&c->out_type[i])), &c->out_type[i]};
}
static void free_outputs(const Case *c, Tensor *out) {
    for (int i = 0; i < c->sig.n_out; i++) free(out[i].data);
}
static const Kernel *reference(const Op *op) {
    const Kernel *k = op->cpu;
    while (k[1].name) k++;
    return k;
}

/* Shapes, random data for inputs that have none, and the reference's outputs. */
static bool start(Case *c, const Op *op, const void *attrs, int n_in) {
    Err e = {0};
    c->op = op, c->attrs = attrs;
    c->sig = (Sig){.op = op,
                   .attrs = attrs,
                   .in = c->in_type,
                   .n_in = n_in,
                   .out = c->out_type,
                   .n_out = op->n_out < 0 ? 0 : op->n_out};
    bool ok = op->shape(&c->sig, &e);
    CHECK(ok, "%s: %s", op->name, e.text);
    for (int i = 0; ok && i < n_in; i++) {
        c->in[i].type = &c->in_type[i];
        if (!c->in[i].data && c->in_type[i].rank >= 0)
            c->in[i].data = random_data(&c->in_type[i]);
    }
    if (!ok) return false;
    new_outputs(c, c->out);
    call(c, reference(op), &one, c->out);
    return true;
}
static void finish(Case *c) {
    for (int i = 0; i < c->sig.n_in; i++) free(c->in[i].data);
    free_outputs(c, c->out);
    memset(c, 0, sizeof *c);
}

/* Of a half result, what is left of a difference beyond one step of the type (a sum may lie
 * next to the middle of two halves), unless it is in more than a few elements. */
static double distance(const Tensor *a, const Tensor *b) {
    const DType t = a->type->dtype;
    const double step = t == F16 ? 0x1p-10 : t == BF16 ? 0x1p-7 : 0;
    const int64_t all = type_count(a->type);
    double d = 0, n = 0;
    int64_t differ = 0;
    for (int64_t i = 0; i < all; i++) {
        double x = get(a, i), y = get(b, i), off = fabs(x - y);
        differ += step && off;
        off = fmax(0, off - step * fmax(fabs(x), fabs(y)));
        d += off * off, n += y * y;
    }
    return differ > 2 + all / 50 ? 1 : sqrt(d / (n > 0 ? n : 1));
}
static void same_bits(const Case *c, const char *name, const Tensor *a, const Tensor *b,
                      const char *what) {
    for (int i = 0; i < c->sig.n_out; i++)
        CHECK(!memcmp(a[i].data, b[i].data, type_bytes(a[i].type)),
              "%s %s: output %d differs, %s", c->op->name, name, i, what);
}
/* f32 sums of some hundred terms: a few 1e-7 relative; a half is rounded once more. */
static double rounding_of(DType t) {
    return t == F16 ? 0x1p-11 : t == BF16 ? 0x1p-8 : 0;
}
static double most_off(const Case *c, int out) {
    return 2e-6 + fmax(rounding_of(c->out_type[out].dtype), rounding_of(c->through));
}
static void compare(const Case *c, const char *set) {
    int compared = 0;
    for (const Kernel *k = c->op->cpu; k != reference(c->op); k++) {
        if (k->fits && !k->fits(&c->sig)) continue;
        compared++;
        Tensor a[MOST_OUT], b[MOST_OUT];
        new_outputs(c, a), new_outputs(c, b);
        call(c, k, &one, a);
        call(c, k, &three, b);
        Str x = {0};
        type_print(&x, &c->in_type[0]);
        for (int i = 0; i < c->sig.n_out; i++) {
            double d = distance(&a[i], &c->out[i]);
            CHECK(d <= most_off(c, i), "%s %s %s of %s: output %d is off by %g",
                  c->op->name, k->name, set, x.s, i, d);
        }
        same_bits(c, k->name, a, b, "one worker and three");
        str_free(&x);
        free_outputs(c, a), free_outputs(c, b);
    }
    const int want = c->fast ? c->fast : 1;
    CHECK(compared >= want, "%s: %d fast kernels fit, want %d", c->op->name, compared,
          want);
}
static void compare_sets(const Case *c) {
    static const char *const sets[] = {"portable", "avx2", "avx512"};
    for (size_t i = 0; i < COUNT(sets); i++) {
        setenv("GRAPHRUN_ISA", sets[i], 1);
        compare(c, sets[i]);
    }
    unsetenv("GRAPHRUN_ISA");
}

/* ---- rows ---- */

static const DType weights[] = {F32, F16, BF16};

/* The product once more, with something of type t added; other tests keep their data. */
static void test_added(const Case *alone, const Op *op, const void *attrs, int slot,
                       DType t) {
    const uint64_t keep = random_state;
    Case c = {.fast = alone->fast};
    for (int i = 0; i < slot; i++)
        c.in_type[i] = i < alone->sig.n_in ? alone->in_type[i] : (Type){.rank = -1};
    c.in_type[slot] = alone->out_type[0];
    c.in_type[slot].dtype = t;
    if (start(&c, op, attrs, slot + 1)) compare_sets(&c);
    finish(&c);
    random_state = keep;
}

static void test_linear(int rows, int in, int out, DType t, bool bias) {
    Case c = {0};
    const LinearAttrs attrs = {0};
    c.in_type[0] = shape(F32, 2, rows, in);
    c.in_type[1] = shape(t, 2, out, in);
    c.in_type[2] = bias ? shape(t, 1, out) : (Type){.rank = -1};
    if (start(&c, &op_linear, &attrs, 3)) compare_sets(&c);
    test_added(&c, &op_linear, &attrs, 3, t);
    finish(&c);
    c.in_type[0] = shape(F32, 2, rows, out);
    c.in_type[1] = shape(t, 4, out, in, 1, 1);
    if (start(&c, &op_linear_grad_x, &attrs, 2)) compare_sets(&c);
    test_added(&c, &op_linear_grad_x, &attrs, 2, t);
    finish(&c);
    c.in_type[0] = shape(F32, 3, 1, rows, in);
    c.in_type[1] = shape(F32, 3, 1, rows, out);
    if (start(&c, &op_linear_grad_w, &attrs, 2)) compare_sets(&c);
    finish(&c);
}
static void test_linears(void) {
    static const int size[][3] = {{1, 1, 1},     {2, 320, 40},  {3, 7, 5},
                                  {5, 4, 33},    {77, 64, 32},  {13, 17, 96},
                                  {150, 33, 17}, {300, 10, 3},  {6, 16, 16},
                                  {7, 661, 129}, {149, 31, 16}, {64, 700, 70}};
    for (size_t i = 0; i < COUNT(size); i++)
        for (size_t w = 0; w < COUNT(weights); w++)
            test_linear(size[i][0], size[i][1], size[i][2], weights[w], i % 2);
    for (int rank = 1; rank <= 17; rank++) {
        test_linear(40, 36, rank, F32, false);
        test_linear(40, rank, 36, F32, false);
    }
}

/* Weights from which on a convolution is tried without an addend, and without its own
 * gradient: the reference takes seconds. */
enum { LARGE = 1 << 13 };

static void test_conv(const int size[5], ConvAttrs a, DType t, int fast) {
    const int b = size[0], h = size[1], w = size[2], in = size[3], out = size[4];
    Case c = {.fast = fast};
    c.in_type[0] = shape(F32, 4, b, h, w, in);
    c.in_type[1] = shape(t, 4, out, in, (int)a.kernel, (int)a.kernel);
    c.in_type[2] = shape(t, 1, out);
    if (!start(&c, &op_conv2d, &a, 3)) return;
    compare_sets(&c);
    if (in * out < LARGE) test_added(&c, &op_conv2d, &a, 3, t);
    const Type y = c.out_type[0];
    finish(&c);
    a.h = h, a.w = w;
    c.fast = fast;
    c.in_type[0] = y;
    c.in_type[1] = shape(t, 2, out, in * (int)(a.kernel * a.kernel));
    if (start(&c, &op_conv2d_grad_x, &a, 2)) compare_sets(&c);
    if (in * out < LARGE) test_added(&c, &op_conv2d_grad_x, &a, 2, t);
    finish(&c);
    if (in * out >= LARGE) return;
    c.in_type[0] = shape(F32, 4, b, h, w, in);
    c.in_type[1] = y;
    if (start(&c, &op_conv2d_grad_w, &a, 2)) compare_sets(&c);
    finish(&c);
}
static void test_convs(void) {
    const IntList none = {1, {0}}, all = {1, {1}}, right = {4, {0, 1, 0, 1}};
    const IntList odd = {4, {2, 0, 1, 3}};
    const ConvAttrs form[] = {{.kernel = 3, .stride = 1, .pad = all},
                              {.kernel = 3, .stride = 2, .pad = all},
                              {.kernel = 3, .stride = 2, .pad = right},
                              {.kernel = 1, .stride = 1, .pad = none},
                              {.kernel = 1, .stride = 2, .pad = none},
                              {.kernel = 2, .stride = 3, .pad = odd},
                              {.kernel = 5, .stride = 3, .pad = odd},
                              {.kernel = 1, .stride = 1, .pad = odd}};
    static const int size[][5] = {{1, 5, 7, 3, 4},   {2, 8, 8, 16, 32},
                                  {3, 6, 5, 33, 17}, {1, 12, 9, 40, 1},
                                  {1, 4, 4, 1, 20},  {2, 9, 4, 37, 4}};
    for (size_t f = 0; f < COUNT(form); f++)
        for (size_t i = 0; i < COUNT(size); i++)
            test_conv(size[i], form[f], weights[(f + i) % COUNT(weights)], 1);
    /* Winograd's: odd sides, several blocks of windows and of columns, more than one depth */
    const uint64_t keep = random_state; /* other tests keep their data */
    static const int wide[][5] = {{1, 24, 23, 32, 64},
                                  {2, 23, 27, 96, 32},
                                  {1, 23, 22, 352, 96},
                                  {1, 42, 40, 640, 32},
                                  {1, 24, 22, 544, 128}};
    for (size_t i = 0; i < COUNT(wide); i++)
        test_conv(wide[i], form[0], weights[i % COUNT(weights)], 2);
    random_state = keep;
}

static void test_attention(int b, int n, int m, int heads, int d, bool causal) {
    Case f = {0}, g = {0};
    const AttentionAttrs attrs = {heads, causal};
    f.in_type[0] = shape(F32, 3, b, n, heads * d);
    f.in_type[1] = f.in_type[2] = shape(F32, 3, b, m, heads * d);
    if (start(&f, &op_attention, &attrs, 3)) compare_sets(&f);
    for (int i = 0; i < 5; i++) {
        const Tensor *t = i < 3 ? &f.in[i] : &f.out[i - 3];
        g.in_type[i] = *t->type;
        g.in[i].data =
            memcpy(memory(type_bytes(t->type)), t->data, type_bytes(t->type));
    }
    g.in_type[5] = g.in_type[0];
    if (start(&g, &op_attention_grad, &attrs, 6)) compare_sets(&g);
    finish(&f);
    finish(&g);
}
static void test_attentions(void) {
    static const int size[][5] = {
        {1, 1, 1, 1, 1},    {2, 7, 5, 3, 4},     {1, 50, 77, 2, 40},
        {3, 16, 16, 8, 16}, {1, 130, 260, 1, 8}, {1, 49, 129, 2, 33},
        {1, 77, 77, 2, 64}, {1, 20, 9, 1, 160},  {2, 97, 128, 1, 5}};
    for (size_t i = 0; i < COUNT(size); i++)
        for (int causal = 0; causal < 2; causal++)
            test_attention(size[i][0], size[i][1], size[i][2], size[i][3], size[i][4],
                           causal);
}

/* A copy of the tensor as input i. */
static void take_over(Case *g, const Tensor *from, int i) {
    g->in_type[i] = *from->type;
    g->in[i].data = memory(type_bytes(from->type));
    memcpy(g->in[i].data, from->data, type_bytes(from->type));
}
/* A norm and its gradient, with and without that of weight and bias, with and without a
 * formula. The mean of x is kept away from zero, where its relative error says nothing; so
 * is dx, which is rounding alone for two values with one mean: no such shape here. */
static void test_norm(bool layer, Type x, int groups, DType t, DType dy) {
    const Op *op = layer ? &op_layer_norm : &op_group_norm;
    const Op *grad = layer ? &op_layer_norm_grad : &op_group_norm_grad;
    for (int k = 0; k < (layer ? 2 : 4); k++) {
        Case f = {0}, g = {0};
        NormAttrs attrs = {.groups = groups, .eps = 1e-5, .params = k & 1};
        if (k & 2) attrs.f = "x0 * sigmoid(x0)";
        Type wide = x;
        wide.dtype = F32;
        float *numbers = random_data(&wide);
        for (int64_t i = 0; i < type_count(&x); i++) numbers[i] += 0.5f;
        f.in_type[0] = x;
        f.in[0].data = memory(type_bytes(&x));
        convert(f.in[0].data, x.dtype, numbers, F32, type_count(&x));
        free(numbers);
        f.in_type[1] = f.in_type[2] = shape(t, 1, (int)type_last(&x));
        if (!start(&f, op, &attrs, 3)) return;
        compare_sets(&f);
        for (int i = 0; i < 4; i++) take_over(&g, i < 2 ? &f.in[i] : &f.out[i - 1], i);
        g.in_type[4] = x, g.in_type[4].dtype = dy;
        if (k & 2) take_over(&g, &f.in[2], 5);
        if (k & 2) g.through = x.dtype; /* dy by the normalised value, in dx's place */
        if (k & 2) attrs.f = "t0 = sigmoid(x0); x1 * t0 * (1 + x0 * (1 - t0))";
        if (start(&g, grad, &attrs, k & 2 ? 6 : 5)) compare_sets(&g);
        finish(&f);
        finish(&g);
    }
}
static void test_norms(void) {
    for (int mix = 0; mix < 9; mix++) {
        const DType x = weights[mix / 3], t = weights[mix % 3];
        const DType dy = weights[mix * 7 % 3];
        test_norm(false, shape(x, 4, 1, 3, 5, 6), 3, t, dy);
        test_norm(false, shape(x, 4, 3, 13, 11, 40), 8, t, dy);
        test_norm(false, shape(x, 4, 2, 8, 8, 32), 32, t, dy);
        test_norm(false, shape(x, 2, 2, 10), 2, t, dy);
        test_norm(false, shape(x, 4, 1, 20, 20, 7), 1, t, dy);
        test_norm(false, shape(x, 4, 1, 2, 3, 5000), 4, t, dy);
        test_norm(true, shape(x, 3, 1, 1, 3), 0, t, dy);
        test_norm(true, shape(x, 3, 2, 37, 64), 0, t, dy);
        test_norm(true, shape(x, 2, 70, 45), 0, t, dy);
    }
}

static void test_matmul(Type a, Type b, bool ta, bool tb) {
    Case c = {0};
    const MatmulAttrs attrs = {.ta = ta, .tb = tb};
    c.in_type[0] = a, c.in_type[1] = b;
    if (start(&c, &op_matmul, &attrs, 2)) compare_sets(&c);
    finish(&c);
}
static void test_matmuls(void) {
    for (int m = 1; m < 60; m += 19) {
        for (int k = 1; k < 40; k += 12) {
            test_matmul(shape(F32, 2, m, k), shape(F32, 2, k, 21), false, false);
            test_matmul(shape(F32, 3, 2, k, m), shape(F32, 3, 2, k, 35), true, false);
            test_matmul(shape(F32, 3, 3, m, k), shape(F32, 2, 33, k), false, true);
            test_matmul(shape(F32, 2, k, m), shape(F32, 4, 2, 2, 16, k), true, true);
        }
    }
}

/* ---- halves ---- */

/* Types of a mix: number `i` of `mix` written to the base of three. */
static DType mixed(int mix, int i) {
    while (i-- > 0) mix /= 3;
    return weights[mix % 3];
}
static const char *stored(int mix, int i) {
    return dtype_name(mixed(mix, i));
}
/* x, w (or dy) and the result in every mix, sizes of several blocks of depth among them. */
static void mix_linear(int mix, int rows, int in, int out) {
    Case c = {0};
    const LinearAttrs attrs = {.to = stored(mix, 2)};
    const DType a = mixed(mix, 0), b = mixed(mix, 1);
    c.in_type[0] = shape(a, 2, rows, in), c.in_type[1] = shape(b, 2, out, in);
    c.in_type[2] = shape(b, 1, out);
    if (start(&c, &op_linear, &attrs, 3)) compare_sets(&c);
    finish(&c);
    c.in_type[0] = shape(a, 2, rows, out), c.in_type[1] = shape(b, 2, out, in);
    if (start(&c, &op_linear_grad_x, &attrs, 2)) compare_sets(&c);
    finish(&c);
    c.in_type[0] = shape(a, 2, rows, in), c.in_type[1] = shape(b, 2, rows, out);
    if (start(&c, &op_linear_grad_w, &attrs, 2)) compare_sets(&c);
    finish(&c);
}
static void mix_conv(int mix, int kernel, int stride, int in, int out) {
    Case c = {0};
    ConvAttrs attrs = {.kernel = kernel, .stride = stride, .pad = {1, {kernel / 2}}};
    const DType a = mixed(mix, 0), b = mixed(mix, 1);
    attrs.to = stored(mix, 2), attrs.h = 9, attrs.w = 7;
    c.in_type[0] = shape(a, 4, 2, 9, 7, in);
    c.in_type[1] = shape(b, 4, out, in, kernel, kernel);
    if (!start(&c, &op_conv2d, &attrs, 2)) return;
    compare_sets(&c);
    Type y = c.out_type[0];
    finish(&c);
    c.in_type[0] = y, c.in_type[0].dtype = a;
    c.in_type[1] = shape(b, 4, out, in, kernel, kernel);
    if (start(&c, &op_conv2d_grad_x, &attrs, 2)) compare_sets(&c);
    finish(&c);
    c.in_type[0] = shape(a, 4, 2, 9, 7, in);
    c.in_type[1] = y, c.in_type[1].dtype = b;
    if (start(&c, &op_conv2d_grad_w, &attrs, 2)) compare_sets(&c);
    finish(&c);
}
static void mix_matmul(int mix, bool ta, bool tb) {
    Case c = {0};
    const MatmulAttrs attrs = {ta, tb, stored(mix, 2)};
    const DType a = mixed(mix, 0), b = mixed(mix, 1);
    c.in_type[0] = ta ? shape(a, 3, 2, 170, 31) : shape(a, 3, 2, 31, 170);
    c.in_type[1] = tb ? shape(b, 2, 37, 170) : shape(b, 2, 170, 37);
    if (start(&c, &op_matmul, &attrs, 2)) compare_sets(&c);
    finish(&c);
}
static void mix_attention(int mix, int n, int m, int d) {
    Case f = {0}, g = {0};
    const AttentionAttrs attrs = {.heads = 2};
    f.in_type[0] = shape(mixed(mix, 0), 3, 2, n, 2 * d);
    f.in_type[1] = shape(mixed(mix, 1), 3, 2, m, 2 * d);
    f.in_type[2] = shape(mixed(mix, 2), 3, 2, m, 2 * d);
    if (start(&f, &op_attention, &attrs, 3)) compare_sets(&f);
    for (int i = 0; i < 5; i++) {
        const Tensor *t = i < 3 ? &f.in[i] : &f.out[i - 3];
        g.in_type[i] = *t->type;
        g.in[i].data =
            memcpy(memory(type_bytes(t->type)), t->data, type_bytes(t->type));
    }
    g.in_type[5] = shape(mixed(mix, 1), 3, 2, n, 2 * d);
    if (start(&g, &op_attention_grad, &attrs, 6)) compare_sets(&g);
    finish(&f);
    finish(&g);
}
static void test_mixes(void) {
    for (int mix = 0; mix < 27; mix++) {
        mix_linear(mix, 20, 180, 37);
        mix_linear(mix, 9, 33, 5);
        mix_conv(mix, 3, 1, 20, 33);
        mix_conv(mix, 3, 2, 3, 17);
        mix_conv(mix, 1, 1, 18, 40);
        mix_matmul(mix, mix & 1, mix & 2);
        mix_matmul(mix, mix & 4, mix & 8);
        mix_attention(mix, 50, 98, 20);
        mix_attention(mix, 5, 7, 33);
    }
}

static void test_resizes(void) {
    static const int size[][4] = {
        {2, 3, 4, 6}, {3, 2, 7, 5}, {4, 4, 4, 4}, {7, 5, 3, 2}};
    for (size_t i = 0; i < COUNT(size); i++) {
        Case c = {0};
        const ResizeAttrs attrs = {0, size[i][2], size[i][3]};
        for (size_t t = 0; t < COUNT(weights); t++) {
            c.in_type[0] = shape(weights[t], 4, 2, size[i][0], size[i][1], 5);
            if (start(&c, &op_resize_grad, &attrs, 1)) compare_sets(&c);
            finish(&c);
        }
    }
}

int main(void) {
    test_linears();
    test_convs();
    test_attentions();
    test_norms();
    test_matmuls();
    test_mixes();
    test_resizes();
    return check_done("kernels");
}
