/* y = x W^T + b and its two gradients: the reference kernels, one row of the result at a
 * time, summed in double. */
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* x[M,K] w[N,K] b[N] -> y[M,N] */
static void linear_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *w = &c->in[1];
    const int64_t in = type_last(x->type), out = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t o = 0; o < out; o++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++) sum += get(x, m * in + i) * get(w, o * in + i);
        if (given(c, 2)) sum += get(&c->in[2], o);
        put(&c->out[0], m * out + o, sum);
    }
}
static void linear_ref(const Call *c) { spread(c, type_rows(c->in[0].type), linear_row); }

/* dy[M,N] w[N,K] -> dx[M,K] */
static void grad_x_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *dy = &c->in[0], *w = &c->in[1];
    const int64_t out = type_last(dy->type), in = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t o = 0; o < out; o++) sum += get(dy, m * out + o) * get(w, o * in + i);
        put(&c->out[0], m * in + i, sum);
    }
}
static void grad_x_ref(const Call *c) { spread(c, type_rows(c->in[0].type), grad_x_row); }

/* x[M,K] dy[M,N] -> dw[N,K] */
static void grad_w_row(void *arg, int64_t o, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *dy = &c->in[1];
    const int64_t rows = type_rows(x->type), in = type_last(x->type);
    const int64_t out = type_last(dy->type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t m = 0; m < rows; m++) sum += get(dy, m * out + o) * get(x, m * in + i);
        put(&c->out[0], o * in + i, sum);
    }
}
static void grad_w_ref(const Call *c) { spread(c, type_last(c->in[1].type), grad_w_row); }

const Kernel cpu_linear[] = { { .name = "ref", .run = linear_ref }, { 0 } };
const Kernel cpu_linear_grad_x[] = { { .name = "ref", .run = grad_x_ref }, { 0 } };
const Kernel cpu_linear_grad_w[] = { { .name = "ref", .run = grad_w_ref }, { 0 } };
