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

/* ---- Kronecker and Cayley ---- */

static GpuKron kron_of(const Call *c) {
    const Type *a = c->in[0].type, *b = c->in[1].type;
    return (GpuKron){.a = gpu_tensor(&c->in[0]),
                     .b = gpu_tensor(&c->in[1]),
                     .m = a->dim[0],
                     .n = a->dim[1],
                     .p = b->dim[0],
                     .q = b->dim[1]};
}
static void kron(const Call *c) {
    GpuKron p = kron_of(c);
    p.y = gpu_tensor(&c->out[0]);
    gpu_elements(c, "gr_kron", type_count(c->out[0].type), &p, sizeof p);
}
static void kron_grad(const Call *c) {
    GpuKron p = kron_of(c);
    const int64_t a = p.m * p.n, b = p.p * p.q;
    p.y = gpu_tensor(&c->in[2]);
    p.da = gpu_tensor(&c->out[0]), p.db = gpu_tensor(&c->out[1]);
    gpu_blocks(c, "gr_kron_grad", a + b, a > b ? a : b, &p, sizeof p);
}
CUDA_KERNEL(kron, gpu_types_fit, kron);
CUDA_KERNEL(kron_grad, gpu_types_fit, kron_grad);

static size_t cayley_bytes(const Sig *s) {
    return (size_t)type_count(&s->in[0]) * 2 * sizeof(double);
}
static void matrices(const Call *c, const char *kernel, GpuCayley *p) {
    p->x = gpu_tensor(&c->in[0]), p->n = type_last(c->in[0].type), p->work = c->work;
    const int64_t blocks = type_count(c->in[0].type) / (p->n * p->n);
    gpu_blocks(c, kernel, blocks, p->n * p->n, p, sizeof *p);
}
static void cayley(const Call *c) {
    GpuCayley p = {.y = gpu_tensor(&c->out[0])};
    matrices(c, "gr_cayley", &p);
}
static void cayley_grad(const Call *c) {
    GpuCayley p = {.y = gpu_tensor(&c->in[1]), .dy = gpu_tensor(&c->in[2])};
    p.dx = gpu_tensor(&c->out[0]);
    matrices(c, "gr_cayley_grad", &p);
}
const Kernel cuda_cayley[] = {
    {.name = "cuda", .fits = gpu_types_fit, .work = cayley_bytes, .run = cayley}, {0}};
const Kernel cuda_cayley_grad[] = {
    {.name = "cuda", .fits = gpu_types_fit, .work = cayley_bytes, .run = cayley_grad},
    {0}};
