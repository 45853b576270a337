/* group_norm, layer_norm and their gradients: one block per part of a sample, the variance
 * in a second pass over x. dw and db: one block per channel. */
#include "kernels/gpu.h"

/* Element i of a part: its place, and that of its weight. */
static __device__ inline int64_t place(const GpuNorm &c, int64_t part, int64_t i) {
    const int64_t sample = part / c.parts, p = part % c.parts;
    return ((sample * c.rows + i / c.width) * c.parts + p) * c.width + i % c.width;
}
static __device__ inline int64_t channel(const GpuNorm &c, int64_t part, int64_t i) {
    return (c.same_weight ? 0 : part % c.parts * c.width) + i % c.width;
}

extern "C" __global__ void gr_norm(GpuNorm c) {
    __shared__ double room[GPU_BLOCK / WARP];
    const int64_t part = blockIdx.x, n = c.rows * c.width;
    double sum = 0, squares = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += load(c.x, place(c, part, i));
    const double mean = block_sum(sum, room) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const double d = load(c.x, place(c, part, i)) - mean;
        squares += d * d;
    }
    const double rstd = 1 / sqrt(block_sum(squares, room) / (double)n + c.eps);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int64_t e = place(c, part, i), k = channel(c, part, i);
        const float h = (float)((load(c.x, e) - mean) * rstd);
        store(c.y, e, h * load(c.w, k) + load(c.b, k));
    }
    if (threadIdx.x) return;
    c.mean[part] = (float)mean;
    c.rstd[part] = (float)rstd;
}
GR_KERNEL(gr_norm, GpuNorm)

/* dx = rstd (d - average(d) - h average(d h)), d = dy w */
extern "C" __global__ void gr_norm_grad(GpuNorm c) {
    __shared__ double room[GPU_BLOCK / WARP];
    const int64_t part = blockIdx.x, n = c.rows * c.width;
    const float mean = c.mean[part], rstd = c.rstd[part];
    double sum = 0, dot = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int64_t e = place(c, part, i);
        const float d = load(c.dy, e) * load(c.w, channel(c, part, i));
        sum += d;
        dot += d * ((load(c.x, e) - mean) * rstd);
    }
    sum = block_sum(sum, room) / (double)n;
    dot = block_sum(dot, room) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int64_t e = place(c, part, i);
        const float d = load(c.dy, e) * load(c.w, channel(c, part, i));
        const float h = (load(c.x, e) - mean) * rstd;
        store(c.y, e, (float)(rstd * (d - sum - h * dot)));
    }
}
GR_KERNEL(gr_norm_grad, GpuNorm)

/* dw = sum of dy h, db = sum of dy: block k is channel k. */
extern "C" __global__ void gr_norm_grad_weight(GpuNorm c) {
    __shared__ double room[GPU_BLOCK / WARP];
    const int64_t k = blockIdx.x, channels = c.parts * c.width;
    const bool same = c.same_weight;
    double dw = 0, db = 0;
    const int64_t n = c.samples * c.rows * (same ? c.parts : 1);
    for (int64_t r = threadIdx.x; r < n; r += blockDim.x) {
        const int64_t e = same ? r * c.width + k : r * channels + k;
        const int64_t part = same ? r : r / c.rows * c.parts + k / c.width;
        const float dy = load(c.dy, e);
        dw += dy * ((load(c.x, e) - c.mean[part]) * c.rstd[part]);
        db += dy;
    }
    dw = block_sum(dw, room);
    db = block_sum(db, room);
    if (threadIdx.x) return;
    c.dw[k] = (float)dw;
    c.db[k] = (float)db;
}
GR_KERNEL(gr_norm_grad_weight, GpuNorm)
