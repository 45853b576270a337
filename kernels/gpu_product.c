/* Launches of the products in matmul.cu. */
#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

enum { SIDE = 16 }; /* of a tile, as in matmul.cu */

static void product(const Call *c, GpuProduct *p, int64_t batch) {
    Gpu *g = (Gpu *)(void *)c->dev;
    p->y = gpu_tensor(&c->out[0]);
    p->y_batch = p->m * p->n;
    const unsigned grid[3] = {(unsigned)((p->n + SIDE - 1) / SIDE),
                              (unsigned)((p->m + SIDE - 1) / SIDE), (unsigned)batch};
    const unsigned block[3] = {SIDE, SIDE, 1};
    g->launch(g, "gr_product", grid, block, p, sizeof *p);
}

/* x[rows, in] w[out, in] bias add -> y[rows, out] */
static void linear(const Call *c) {
    GpuProduct p = {.a = gpu_tensor(&c->in[0]), .b = gpu_tensor(&c->in[1])};
    if (given(c, 2)) p.bias = gpu_tensor(&c->in[2]);
    if (given(c, 3)) p.add = gpu_tensor(&c->in[3]);
    p.m = type_rows(c->in[0].type), p.k = type_last(c->in[0].type);
    p.n = type_last(c->out[0].type);
    p.a_row = p.k, p.a_col = 1, p.b_row = 1, p.b_col = p.k;
    product(c, &p, 1);
}
/* dy[rows, out] w[out, in] add -> dx[rows, in] */
static void linear_grad_x(const Call *c) {
    GpuProduct p = {.a = gpu_tensor(&c->in[0]), .b = gpu_tensor(&c->in[1])};
    if (given(c, 2)) p.add = gpu_tensor(&c->in[2]);
    p.m = type_rows(c->in[0].type), p.k = type_last(c->in[0].type);
    p.n = type_last(c->out[0].type);
    p.a_row = p.k, p.a_col = 1, p.b_row = p.n, p.b_col = 1;
    product(c, &p, 1);
}
/* x[rows, in] dy[rows, out] -> dw[out, in] */
static void linear_grad_w(const Call *c) {
    GpuProduct p = {.a = gpu_tensor(&c->in[1]), .b = gpu_tensor(&c->in[0])};
    p.m = type_last(c->in[1].type), p.k = type_rows(c->in[0].type);
    p.n = type_last(c->in[0].type);
    p.a_row = 1, p.a_col = p.m, p.b_row = p.n, p.b_col = 1;
    product(c, &p, 1);
}

/* a[.., m, k] b[.., k, n] -> y[.., m, n], either read transposed; a matrix serves all. */
static void matmul(const Call *c) {
    const MatmulAttrs *at = c->attrs;
    const Type *a = c->in[0].type, *b = c->in[1].type, *y = c->out[0].type;
    GpuProduct p = {.a = gpu_tensor(&c->in[0]), .b = gpu_tensor(&c->in[1])};
    p.m = y->dim[y->rank - 2], p.n = type_last(y);
    p.k = at->ta ? a->dim[a->rank - 2] : type_last(a);
    p.a_row = at->ta ? 1 : p.k, p.a_col = at->ta ? p.m : 1;
    p.b_row = at->tb ? 1 : p.n, p.b_col = at->tb ? p.k : 1;
    p.a_batch = a->rank > 2 ? p.m * p.k : 0, p.b_batch = b->rank > 2 ? p.k * p.n : 0;
    product(c, &p, type_count(y) / (p.m * p.n));
}

/* Blocks along y and z are at most 65535. */
static bool fits(const Sig *s) {
    const Type *y = &s->out[0];
    const int64_t most = 65535, rows = y->dim[y->rank - 2];
    return gpu_types_fit(s) && type_rows(y) < most * SIDE &&
           type_rows(y) / rows <= most;
}
static bool linear_fits(const Sig *s) {
    return gpu_types_fit(s) && type_rows(&s->out[0]) < (int64_t)65535 * SIDE;
}

CUDA_KERNEL(linear, linear_fits, linear);
CUDA_KERNEL(linear_grad_x, linear_fits, linear_grad_x);
CUDA_KERNEL(linear_grad_w, linear_fits, linear_grad_w);
CUDA_KERNEL(matmul, fits, matmul);
