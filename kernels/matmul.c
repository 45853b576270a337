/* Products of values, Kronecker products, Cayley's rotations and their gradients.
 * "panels": products of gemm.h, one matrix of the batch after the other. "ref": summed in
 * double. */
#include <math.h>

#include "kernels/gemm.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* a[..,M,K] b[..,K,N] -> y[..,M,N], one row of y; either operand may be turned or lack the
 * dimensions before the last two */
static void matmul_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const MatmulAttrs *t = c->attrs;
    const Type *a = c->in[0].type, *b = c->in[1].type, *y = c->out[0].type;
    const int64_t m = y->dim[y->rank - 2], n = type_last(y);
    const int64_t k = a->dim[a->rank - (t->ta ? 2 : 1)], i = row % m, s = row / m;
    const int64_t am = t->ta ? 1 : k, ak = t->ta ? m : 1;
    const int64_t bk = t->tb ? 1 : n, bn = t->tb ? k : 1;
    const int64_t a0 = (a->rank > 2 ? s * m * k : 0) + i * am;
    const int64_t b0 = b->rank > 2 ? s * k * n : 0;
    (void)scratch;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t p = 0; p < k; p++)
            sum += get(&c->in[0], a0 + p * ak) * get(&c->in[1], b0 + p * bk + j * bn);
        put(&c->out[0], row * n + j, sum);
    }
}
static void matmul_ref(const Call *c) {
    spread(c, type_rows(c->out[0].type), matmul_row);
}

static bool no_f64(const Sig *s) {
    return s->in[0].dtype != F64;
}
static const void *matrix(const Tensor *t, int64_t s, int64_t size) {
    const size_t at = t->type->rank > 2 ? (size_t)(s * size) : 0;
    return (const char *)t->data + at * dtype_size(t->type->dtype);
}
static void matmul_panels(const Call *c) {
    const MatmulAttrs *t = c->attrs;
    const Type *a = c->in[0].type, *y = c->out[0].type;
    Gemm g = {.isa = isa(), .m = y->dim[y->rank - 2], .n = type_last(y)};
    g.k = a->dim[a->rank - (t->ta ? 2 : 1)];
    g.a_type = a->dtype, g.b_type = c->in[1].type->dtype, g.c_type = y->dtype;
    g.a_row = t->ta ? 1 : g.k, g.a_col = t->ta ? g.m : 1;
    g.b_row = t->tb ? 1 : g.n, g.b_col = t->tb ? g.k : 1;
    g.ldc = g.n;
    const int64_t batch = type_count(y) / (g.m * g.n);
    for (int64_t s = 0; s < batch; s++) {
        g.a = matrix(&c->in[0], s, g.m * g.k);
        g.b = matrix(&c->in[1], s, g.k * g.n);
        g.c = (void *)(uintptr_t)matrix(&c->out[0], s, g.m * g.n);
        gemm_run(c->dev, &g);
    }
}

/* a[m,n] b[p,q] -> y[m p, n q], one row of y */
static void kron_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const Type *b = c->in[1].type;
    const int64_t n = c->in[0].type->dim[1], p = b->dim[0], q = b->dim[1];
    (void)scratch;
    for (int64_t j = 0; j < n; j++)
        for (int64_t l = 0; l < q; l++)
            put(&c->out[0], (row * n + j) * q + l,
                get(&c->in[0], row / p * n + j) * get(&c->in[1], row % p * q + l));
}
static void kron_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0], kron_row);
}

/* a[m,n] b[p,q] dy[m p, n q] -> da[m,n] */
static void kron_grad_a(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Type *b = c->in[1].type;
    const int64_t n = c->in[0].type->dim[1], p = b->dim[0], q = b->dim[1];
    const int64_t i = at / n, j = at % n;
    double sum = 0;
    (void)scratch;
    for (int64_t k = 0; k < p; k++)
        for (int64_t l = 0; l < q; l++)
            sum += get(&c->in[2], ((i * p + k) * n + j) * q + l) *
                   get(&c->in[1], k * q + l);
    put(&c->out[0], at, sum);
}
/* -> db[p,q], one row */
static void kron_grad_b(void *arg, int64_t k, void *scratch) {
    const Call *c = arg;
    const Type *a = c->in[0].type, *b = c->in[1].type;
    const int64_t m = a->dim[0], n = a->dim[1], p = b->dim[0], q = b->dim[1];
    (void)scratch;
    for (int64_t l = 0; l < q; l++) {
        double sum = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++)
                sum += get(&c->in[2], ((i * p + k) * n + j) * q + l) *
                       get(&c->in[0], i * n + j);
        put(&c->out[1], k * q + l, sum);
    }
}
static void kron_grad_ref(const Call *c) {
    spread(c, type_count(c->in[0].type), kron_grad_a);
    spread(c, c->in[1].type->dim[0], kron_grad_b);
}

/* Solves m x = r for n right-hand sides by elimination with row pivots; m[n,n] is lost and
 * r[n,n] becomes x. I - q with q = -q^T is never singular: its eigenvalues are 1 + i t. */
static void solve(double *m, double *r, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(m[i * n + k]) > fabs(m[best * n + k])) best = i;
        for (int64_t j = 0; best != k && j < n; j++) {
            double a = m[k * n + j], b = r[k * n + j];
            m[k * n + j] = m[best * n + j], m[best * n + j] = a;
            r[k * n + j] = r[best * n + j], r[best * n + j] = b;
        }
        for (int64_t i = k + 1; i < n; i++) {
            double f = m[i * n + k] / m[k * n + k];
            for (int64_t j = k; j < n; j++) m[i * n + j] -= f * m[k * n + j];
            for (int64_t j = 0; j < n; j++) r[i * n + j] -= f * r[k * n + j];
        }
    }
    for (int64_t k = n - 1; k >= 0; k--) {
        for (int64_t i = k + 1; i < n; i++)
            for (int64_t j = 0; j < n; j++) r[k * n + j] -= m[k * n + i] * r[i * n + j];
        for (int64_t j = 0; j < n; j++) r[k * n + j] /= m[k * n + k];
    }
}

/* Workspace of matrix s of n x n: two of its size in double. */
static double *cayley_work(const Call *c, int64_t s, int64_t n) {
    return (double *)c->work + 2 * s * n * n;
}
static size_t cayley_bytes(const Sig *s) {
    return (size_t)type_count(&s->in[0]) * 16;
}

/* x[..,n,n] -> y[..,n,n] */
static void cayley_matrix(void *arg, int64_t s, void *scratch) {
    const Call *c = arg;
    const int64_t n = type_last(c->in[0].type), at = s * n * n;
    double *m = cayley_work(c, s, n), *r = m + n * n;
    (void)scratch;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            double q = get(&c->in[0], at + i * n + j) - get(&c->in[0], at + j * n + i);
            m[i * n + j] = (i == j) - q, r[i * n + j] = (i == j) + q;
        }
    }
    solve(m, r, n);
    for (int64_t i = 0; i < n * n; i++) put(&c->out[0], at + i, r[i]);
}
static void cayley_ref(const Call *c) {
    const int64_t n = type_last(c->in[0].type);
    spread(c, type_count(c->in[0].type) / (n * n), cayley_matrix);
}

/* x y dy[..,n,n] -> dx[..,n,n]: g = (I - q)^-T dy (y + I)^T, and (I - q)^T = I + q */
static void cayley_grad_matrix(void *arg, int64_t s, void *scratch) {
    const Call *c = arg;
    const int64_t n = type_last(c->in[0].type), at = s * n * n;
    double *m = cayley_work(c, s, n), *r = m + n * n;
    (void)scratch;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) {
            double q = get(&c->in[0], at + i * n + j) - get(&c->in[0], at + j * n + i);
            double sum = get(&c->in[2], at + i * n + j);
            for (int64_t k = 0; k < n; k++)
                sum += get(&c->in[2], at + i * n + k) * get(&c->in[1], at + j * n + k);
            m[i * n + j] = (i == j) + q, r[i * n + j] = sum;
        }
    }
    solve(m, r, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            put(&c->out[0], at + i * n + j, r[i * n + j] - r[j * n + i]);
}
static void cayley_grad_ref(const Call *c) {
    const int64_t n = type_last(c->in[0].type);
    spread(c, type_count(c->in[0].type) / (n * n), cayley_grad_matrix);
}

/* clang-format off */
const Kernel cpu_matmul[] = {
    { .name = "panels", .fits = no_f64, .run = matmul_panels },
    { .name = "ref", .run = matmul_ref },
    { 0 }
};
const Kernel cpu_kron[] = { { .name = "ref", .run = kron_ref }, { 0 } };
const Kernel cpu_kron_grad[] = { { .name = "ref", .run = kron_grad_ref }, { 0 } };
const Kernel cpu_cayley[] = { { .name = "ref", .work = cayley_bytes, .run = cayley_ref }, { 0 } };
const Kernel cpu_cayley_grad[] = { { .name = "ref", .work = cayley_bytes, .run = cayley_grad_ref }, { 0 } };
/* clang-format on */
