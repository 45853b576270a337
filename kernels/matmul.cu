/* Products in tiles of SIDE x SIDE, sums in f32 in the order of k: for shapes and types that
 * no library takes. Kronecker products and Cayley's rotations. */
#include "kernels/gpu.h"

enum { SIDE = 16 };

extern "C" __global__ void gr_product(GpuProduct c) {
    __shared__ float a[SIDE][SIDE + 1], b[SIDE][SIDE + 1];
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    const int64_t row = (int64_t)blockIdx.y * SIDE + y,
                  col = (int64_t)blockIdx.x * SIDE + x;
    const int64_t a_at = (int64_t)blockIdx.z * c.a_batch,
                  b_at = (int64_t)blockIdx.z * c.b_batch;
    float sum = 0;
    for (int64_t k = 0; k < c.k; k += SIDE) {
        a[y][x] = row < c.m && k + x < c.k
                      ? load(c.a, a_at + row * c.a_row + (k + x) * c.a_col)
                      : 0;
        b[y][x] = col < c.n && k + y < c.k
                      ? load(c.b, b_at + (k + y) * c.b_row + col * c.b_col)
                      : 0;
        __syncthreads();
        for (int i = 0; i < SIDE; i++) sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    if (row >= c.m || col >= c.n) return;
    const int64_t at = (int64_t)blockIdx.z * c.y_batch + row * c.n + col;
    if (c.bias.data) sum += load(c.bias, col);
    if (c.add.data) sum += load(c.add, at);
    store(c.y, at, sum);
}
GR_KERNEL(gr_product, GpuProduct)

/* ---- Kronecker ---- */

extern "C" __global__ void gr_kron(GpuKron c) {
    const int64_t cols = c.n * c.q;
    for (int64_t e = first_element(); e < c.m * c.p * cols; e += all_threads()) {
        const int64_t i = e / cols, j = e % cols;
        store(c.y, e,
              load(c.a, i / c.p * c.n + j / c.q) * load(c.b, i % c.p * c.q + j % c.q));
    }
}
GR_KERNEL(gr_kron, GpuKron)

static __device__ inline int64_t kron_at(const GpuKron &c, int64_t i, int64_t j,
                                         int64_t k, int64_t l) {
    return ((i * c.p + k) * c.n + j) * c.q + l;
}
/* One block per element of da, then one per element of db. */
extern "C" __global__ void gr_kron_grad(GpuKron c) {
    __shared__ double room[GPU_BLOCK / WARP];
    const int64_t own = blockIdx.x, in_a = c.m * c.n, in_b = c.p * c.q;
    const bool left = own < in_a;
    const int64_t n = left ? in_b : in_a;
    double sum = 0;
    for (int64_t o = threadIdx.x; o < n; o += blockDim.x) {
        const int64_t a = left ? own : o, b = left ? o : own - in_a;
        const int64_t at = kron_at(c, a / c.n, a % c.n, b / c.q, b % c.q);
        sum += (double)load(c.y, at) * (left ? load(c.b, b) : load(c.a, a));
    }
    sum = block_sum(sum, room);
    if (threadIdx.x) return;
    if (left)
        store(c.da, own, (float)sum);
    else
        store(c.db, own - in_a, (float)sum);
}
GR_KERNEL(gr_kron_grad, GpuKron)

/* ---- Cayley: one block per matrix, in f64; a thread owns columns ---- */

/* m x = r for n right-hand sides, by elimination with row pivots; r becomes x. */
static __device__ inline void solve(double *m, double *r, int64_t n) {
    const int64_t first = threadIdx.x, step = blockDim.x;
    for (int64_t k = 0; k < n; k++) {
        int64_t best = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(m[i * n + k]) > fabs(m[best * n + k])) best = i;
        __syncthreads();
        for (int64_t j = first; best != k && j < n; j += step) {
            const double a = m[k * n + j], b = r[k * n + j];
            m[k * n + j] = m[best * n + j], m[best * n + j] = a;
            r[k * n + j] = r[best * n + j], r[best * n + j] = b;
        }
        __syncthreads();
        for (int64_t j = first; j < 2 * n; j += step) { /* columns behind k, and of r */
            if (j <= k) continue;
            double *x = j < n ? m + j : r + j - n;
            for (int64_t i = k + 1; i < n; i++)
                x[i * n] -= m[i * n + k] / m[k * n + k] * x[k * n];
        }
        __syncthreads();
    }
    for (int64_t j = first; j < n; j += step)
        for (int64_t k = n - 1; k >= 0; k--) {
            for (int64_t i = k + 1; i < n; i++)
                r[k * n + j] -= m[k * n + i] * r[i * n + j];
            r[k * n + j] /= m[k * n + k];
        }
    __syncthreads();
}

static __device__ inline double skew(GpuTensor x, int64_t at, int64_t n, int64_t i,
                                     int64_t j) {
    return (double)load(x, at + i * n + j) - load(x, at + j * n + i);
}

/* y = (I - q)^-1 (I + q), q = x - x^T */
extern "C" __global__ void gr_cayley(GpuCayley c) {
    const int64_t n = c.n, at = blockIdx.x * n * n;
    double *m = c.work + 2 * at, *r = m + n * n;
    for (int64_t e = threadIdx.x; e < n * n; e += blockDim.x) {
        const double q = skew(c.x, at, n, e / n, e % n), one = e / n == e % n;
        m[e] = one - q, r[e] = one + q;
    }
    __syncthreads();
    solve(m, r, n);
    for (int64_t e = threadIdx.x; e < n * n; e += blockDim.x)
        store(c.y, at + e, (float)r[e]);
}
GR_KERNEL(gr_cayley, GpuCayley)

/* g = (I + q)^-1 dy (y + I)^T, dx = g - g^T */
extern "C" __global__ void gr_cayley_grad(GpuCayley c) {
    const int64_t n = c.n, at = blockIdx.x * n * n;
    double *m = c.work + 2 * at, *r = m + n * n;
    for (int64_t e = threadIdx.x; e < n * n; e += blockDim.x) {
        const int64_t i = e / n, j = e % n;
        double sum = load(c.dy, at + e);
        for (int64_t k = 0; k < n; k++)
            sum += (double)load(c.dy, at + i * n + k) * load(c.y, at + j * n + k);
        m[e] = (double)(i == j) + skew(c.x, at, n, i, j), r[e] = sum;
    }
    __syncthreads();
    solve(m, r, n);
    for (int64_t e = threadIdx.x; e < n * n; e += blockDim.x)
        store(c.dx, at + e, (float)(r[e] - r[e % n * n + e / n]));
}
GR_KERNEL(gr_cayley_grad, GpuCayley)
