/* y = x W^T + b (+ add) and its two gradients. "panels": products of gemm.h. "ref": one row of the
 * result at a time, summed in double. */
#include "kernels/gemm.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* x[M,K] w[N,K] b[N] add[M,N] -> y[M,N] */
static void linear_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *w = &c->in[1];
    const int64_t in = type_last(x->type), out = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t o = 0; o < out; o++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++) sum += get(x, m * in + i) * get(w, o * in + i);
        if (given(c, 2)) sum += get(&c->in[2], o);
        if (given(c, 3)) sum += get(&c->in[3], m * out + o);
        put(&c->out[0], m * out + o, sum);
    }
}
static void linear_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), linear_row);
}

/* dy[M,N] w[N,K] add[M,K] -> dx[M,K] */
static void grad_x_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *dy = &c->in[0], *w = &c->in[1];
    const int64_t out = type_last(dy->type), in = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t o = 0; o < out; o++)
            sum += get(dy, m * out + o) * get(w, o * in + i);
        if (given(c, 2)) sum += get(&c->in[2], m * in + i);
        put(&c->out[0], m * in + i, sum);
    }
}
static void grad_x_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), grad_x_row);
}

/* x[M,K] dy[M,N] -> dw[N,K] */
static void grad_w_row(void *arg, int64_t o, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *dy = &c->in[1];
    const int64_t rows = type_rows(x->type), in = type_last(x->type);
    const int64_t out = type_last(dy->type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t m = 0; m < rows; m++)
            sum += get(dy, m * out + o) * get(x, m * in + i);
        put(&c->out[0], o * in + i, sum);
    }
}
static void grad_w_ref(const Call *c) {
    spread(c, type_last(c->in[1].type), grad_w_row);
}

/* ---- panels ---- */

static bool no_f64(const Sig *s) {
    return s->in[0].dtype != F64;
}

static void linear_panels(const Call *c) {
    const Type *x = c->in[0].type, *w = c->in[1].type, *y = c->out[0].type;
    Gemm g = {.isa = isa(), .m = type_rows(x), .n = w->dim[0], .k = w->dim[1]};
    g.a = c->in[0].data, g.a_type = x->dtype, g.a_row = g.k, g.a_col = 1;
    g.b = c->in[1].data, g.b_type = w->dtype, g.b_row = 1, g.b_col = g.k;
    if (given(c, 2)) g.bias = c->in[2].data, g.bias_type = c->in[2].type->dtype;
    if (given(c, 3)) g.add = c->in[3].data, g.add_type = c->in[3].type->dtype;
    g.c = c->out[0].data, g.c_type = y->dtype, g.ldc = g.n;
    gemm_run(c->dev, &g);
}
static void grad_x_panels(const Call *c) {
    const Type *dy = c->in[0].type, *w = c->in[1].type, *dx = c->out[0].type;
    Gemm g = {.isa = isa(), .m = type_rows(dy), .n = w->dim[1], .k = w->dim[0]};
    g.a = c->in[0].data, g.a_type = dy->dtype, g.a_row = g.k, g.a_col = 1;
    g.b = c->in[1].data, g.b_type = w->dtype, g.b_row = g.n, g.b_col = 1;
    if (given(c, 2)) g.add = c->in[2].data, g.add_type = c->in[2].type->dtype;
    g.c = c->out[0].data, g.c_type = dx->dtype, g.ldc = g.n;
    gemm_run(c->dev, &g);
}
static void grad_w_panels(const Call *c) {
    const Type *x = c->in[0].type, *dy = c->in[1].type, *dw = c->out[0].type;
    Gemm g = {.isa = isa(), .m = type_last(dy), .n = type_last(x), .k = type_rows(x)};
    g.a = c->in[1].data, g.a_type = dy->dtype, g.a_row = 1, g.a_col = g.m;
    g.b = c->in[0].data, g.b_type = x->dtype, g.b_row = g.n, g.b_col = 1;
    g.c = c->out[0].data, g.c_type = dw->dtype, g.ldc = g.n;
    gemm_run(c->dev, &g);
}

/* clang-format off */
const Kernel cpu_linear[] = {
    { .name = "panels", .fits = no_f64, .run = linear_panels },
    { .name = "ref", .run = linear_ref },
    { 0 }
};
const Kernel cpu_linear_grad_x[] = {
    { .name = "panels", .fits = no_f64, .run = grad_x_panels },
    { .name = "ref", .run = grad_x_ref },
    { 0 }
};
const Kernel cpu_linear_grad_w[] = {
    { .name = "panels", .fits = no_f64, .run = grad_w_panels },
    { .name = "ref", .run = grad_w_ref },
    { 0 }
};
/* clang-format on */
