/* Attention and its gradient without a matrix of scores: a block owns a query (or a key) and
 * walks over the keys (queries) in tiles of GPU_KEYS, one per thread; then each thread adds
 * up its own columns of the result. No atomics: the order of additions is fixed. For heads
 * and cards that cuDNN does not take. */
#include "kernels/gpu.h"

enum { OWN = GPU_WIDTH / GPU_KEYS }; /* columns of a thread */

/* Element 0 of row `token` of `tokens` of the block's head. */
static __device__ inline int64_t row_at(const GpuAttention &c, int64_t sample,
                                        int64_t head, int64_t tokens, int64_t token) {
    return ((sample * tokens + token) * c.heads + head) * c.d;
}
static __device__ inline float dot(const float *a, GpuTensor b, int64_t at, int64_t d) {
    float sum = 0;
    for (int64_t k = 0; k < d; k++) sum += a[k] * load(b, at + k);
    return sum;
}
static __device__ inline void fetch(float *to, GpuTensor x, int64_t at, int64_t d) {
    for (int64_t k = threadIdx.x; k < d; k += GPU_KEYS) to[k] = load(x, at + k);
}
static __device__ inline int64_t tile_of(int64_t left) {
    return left < (int64_t)GPU_KEYS ? left : (int64_t)GPU_KEYS;
}
/* The block's token, head and sample. */
typedef struct Where {
    int64_t token, head, sample;
} Where;
static __device__ inline Where where(const GpuAttention &c, int64_t tokens) {
    const int64_t b = blockIdx.x;
    return {b % tokens, b / tokens % c.heads, b / tokens / c.heads};
}

/* acc[i] += sum over the tile of p[j] x[first + j, own column i] */
static __device__ inline void add_rows(const GpuAttention &c, const Where &w,
                                       float *acc, const float *p, GpuTensor x,
                                       int64_t tokens, int64_t first, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        const int64_t at = row_at(c, w.sample, w.head, tokens, first + j);
        UNROLL
        for (int i = 0; i < OWN; i++) {
            const int64_t k = i * GPU_KEYS + threadIdx.x;
            if (k < c.d) acc[i] += p[j] * load(x, at + k);
        }
    }
}
static __device__ inline void put_row(const GpuAttention &c, GpuTensor y, int64_t at,
                                      const float *acc, float factor) {
    UNROLL
    for (int i = 0; i < OWN; i++) {
        const int64_t k = i * GPU_KEYS + threadIdx.x;
        if (k < c.d) store(y, at + k, acc[i] * factor);
    }
}

/* One block per query; the largest score so far is taken out of all exponents. */
extern "C" __global__ void gr_attention(GpuAttention c) {
    __shared__ float q[GPU_WIDTH], s[GPU_KEYS], p[GPU_KEYS];
    const Where w = where(c, c.n);
    const int64_t at = row_at(c, w.sample, w.head, c.n, w.token);
    const int64_t keys = c.causal && w.token + 1 < c.m ? w.token + 1 : c.m;
    float acc[OWN] = {0}, top = -INFINITY, sum = 0;
    fetch(q, c.q, at, c.d);
    __syncthreads();
    for (int64_t first = 0; first < keys; first += GPU_KEYS) {
        const int64_t n = tile_of(keys - first);
        const int t = (int)threadIdx.x;
        if (t < n)
            s[t] =
                c.scale * dot(q, c.k, row_at(c, w.sample, w.head, c.m, first + t), c.d);
        __syncthreads();
        float now = top;
        for (int64_t j = 0; j < n; j++) now = fmaxf(now, s[j]);
        if (t < n) p[t] = expf(s[t] - now);
        __syncthreads();
        const float shrink = expf(top - now);
        sum *= shrink, top = now;
        for (int64_t j = 0; j < n; j++) sum += p[j];
        for (int i = 0; i < OWN; i++) acc[i] *= shrink;
        add_rows(c, w, acc, p, c.v, c.m, first, n);
    }
    put_row(c, c.y, at, acc, 1 / sum);
    if (threadIdx.x == 0)
        store(c.lse, (w.sample * c.heads + w.head) * c.n + w.token, top + logf(sum));
}
GR_KERNEL(gr_attention, GpuAttention)

/* One block per query: dq = sum_j ds_j k_j, ds = scale p (dy v - dy y). */
extern "C" __global__ void gr_attention_grad_q(GpuAttention c) {
    __shared__ float q[GPU_WIDTH], dy[GPU_WIDTH], ds[GPU_KEYS];
    const Where w = where(c, c.n);
    const int64_t at = row_at(c, w.sample, w.head, c.n, w.token);
    const int64_t keys = c.causal && w.token + 1 < c.m ? w.token + 1 : c.m;
    const float lse = load(c.lse, (w.sample * c.heads + w.head) * c.n + w.token);
    float acc[OWN] = {0};
    fetch(q, c.q, at, c.d);
    fetch(dy, c.dy, at, c.d);
    __syncthreads();
    const float own = dot(dy, c.y, at, c.d);
    for (int64_t first = 0; first < keys; first += GPU_KEYS) {
        const int64_t n = tile_of(keys - first);
        const int t = (int)threadIdx.x;
        if (t < n) {
            const int64_t k = row_at(c, w.sample, w.head, c.m, first + t);
            const float p = expf(c.scale * dot(q, c.k, k, c.d) - lse);
            ds[t] = c.scale * p * (dot(dy, c.v, k, c.d) - own);
        }
        __syncthreads();
        add_rows(c, w, acc, ds, c.k, c.m, first, n);
        __syncthreads();
    }
    put_row(c, c.dq, at, acc, 1);
}
GR_KERNEL(gr_attention_grad_q, GpuAttention)

/* One block per key: dk = sum_i ds_i q_i, dv = sum_i p_i dy_i. */
extern "C" __global__ void gr_attention_grad_k(GpuAttention c) {
    __shared__ float k[GPU_WIDTH], v[GPU_WIDTH], ds[GPU_KEYS], p[GPU_KEYS];
    const Where w = where(c, c.m);
    const int64_t at = row_at(c, w.sample, w.head, c.m, w.token);
    const int64_t begin = c.causal ? w.token : 0;
    float dk[OWN] = {0}, dv[OWN] = {0};
    fetch(k, c.k, at, c.d);
    fetch(v, c.v, at, c.d);
    __syncthreads();
    for (int64_t first = begin; first < c.n; first += GPU_KEYS) {
        const int64_t n = tile_of(c.n - first);
        const int t = (int)threadIdx.x;
        if (t < n) {
            const int64_t i = row_at(c, w.sample, w.head, c.n, first + t);
            const float lse =
                load(c.lse, (w.sample * c.heads + w.head) * c.n + first + t);
            float own = 0;
            for (int64_t e = 0; e < c.d; e++)
                own += load(c.dy, i + e) * load(c.y, i + e);
            p[t] = expf(c.scale * dot(k, c.q, i, c.d) - lse);
            ds[t] = c.scale * p[t] * (dot(v, c.dy, i, c.d) - own);
        }
        __syncthreads();
        add_rows(c, w, dk, ds, c.q, c.n, first, n);
        add_rows(c, w, dv, p, c.dy, c.n, first, n);
        __syncthreads();
    }
    put_row(c, c.dk, at, dk, 1);
    put_row(c, c.dv, at, dv, 1);
}
GR_KERNEL(gr_attention_grad_k, GpuAttention)
