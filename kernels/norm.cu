/* group_norm, layer_norm and their gradients: one block per part of a sample, the variance
 * in a second pass over x. dw and db: one block per channel. Behind a norm there may be a
 * formula (the kernels that end in _f): y = f(normalised value) is made where it is stored,
 * dy = f(normalised value, dy) wherever it is read, so that nothing is rounded between. */
#include "kernels/gpu_code.h"

/* Element i of a part: its place, and that of its weight. */
static __device__ inline int64_t place(const GpuNorm &c, int64_t part, int64_t i) {
    const int64_t sample = part / c.parts, p = part % c.parts;
    return ((sample * c.rows + i / c.width) * c.parts + p) * c.width + i % c.width;
}
static __device__ inline int64_t channel(const GpuNorm &c, int64_t part, int64_t i) {
    return (c.same_weight ? 0 : part % c.parts * c.width) + i % c.width;
}

/* What stands behind a norm: nothing, or the code of a formula without single values. */
struct Plain {
    __device__ float y(float h) const { return h; }
    __device__ float dy(float, float d) const { return d; }
};
struct Formula {
    const GpuCode &code;
    const double *slot;
    __device__ float run(const float *var) const {
        float reg[GPU_REGS];
        for (int i = 0; i < code.n_load; i++) reg[i] = var[code.load[i]];
        run_code(code, reg, slot);
        return operand(reg, slot, code.out[0]);
    }
    __device__ float y(float h) const { return run(&h); }
    __device__ float dy(float h, float d) const {
        const float var[2] = {h, d};
        return run(var);
    }
};

template <class F>
static __device__ inline void norm(const GpuNorm &c, double *room, const F &f) {
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
        store(c.y, e, f.y(h * load(c.w, k) + load(c.b, k)));
    }
    if (threadIdx.x) return;
    c.mean[part] = (float)mean;
    c.rstd[part] = (float)rstd;
}

/* dy of element e by the normalised value of channel k, whose h is given. */
template <class F>
static __device__ inline float dy_at(const GpuNorm &c, const F &f, int64_t e, int64_t k,
                                     float h) {
    return f.dy(c.b.data ? h * load(c.w, k) + load(c.b, k) : 0, load(c.dy, e));
}

/* dx = rstd (d - average(d) - h average(d h)), d = dy w */
template <class F>
static __device__ inline void norm_grad(const GpuNorm &c, double *room, const F &f) {
    const int64_t part = blockIdx.x, n = c.rows * c.width;
    const float mean = c.mean[part], rstd = c.rstd[part];
    double sum = 0, dot = 0;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int64_t e = place(c, part, i), k = channel(c, part, i);
        const float h = (load(c.x, e) - mean) * rstd;
        const float d = dy_at(c, f, e, k, h) * load(c.w, k);
        sum += d;
        dot += d * h;
    }
    sum = block_sum(sum, room) / (double)n;
    dot = block_sum(dot, room) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const int64_t e = place(c, part, i), k = channel(c, part, i);
        const float h = (load(c.x, e) - mean) * rstd;
        const float d = dy_at(c, f, e, k, h) * load(c.w, k);
        const float more = c.residual.data ? load(c.residual, e) : 0;
        store(c.y, e, (float)(rstd * (d - sum - h * dot) + more));
    }
}

/* dw = sum of dy h, db = sum of dy: block k is channel k. */
template <class F>
static __device__ inline void norm_grad_weight(const GpuNorm &c, double *room,
                                               const F &f) {
    const int64_t k = blockIdx.x, channels = c.parts * c.width;
    const bool same = c.same_weight;
    double dw = 0, db = 0;
    const int64_t n = c.samples * c.rows * (same ? c.parts : 1);
    for (int64_t r = threadIdx.x; r < n; r += blockDim.x) {
        const int64_t e = same ? r * c.width + k : r * channels + k;
        const int64_t part = same ? r : r / c.rows * c.parts + k / c.width;
        const float h = (load(c.x, e) - c.mean[part]) * c.rstd[part];
        const float dy = dy_at(c, f, e, k, h);
        dw += dy * h;
        db += dy;
    }
    dw = block_sum(dw, room);
    db = block_sum(db, room);
    if (threadIdx.x) return;
    c.dw[k] = (float)dw;
    c.db[k] = (float)db;
}

/* The two kernels of each: without a formula, with one. */
#define NORM_KERNELS(name, body)                                                       \
    extern "C" __global__ void name(GpuNorm c) {                                       \
        __shared__ double room[GPU_BLOCK / WARP];                                      \
        body(c, room, Plain{});                                                        \
    }                                                                                  \
    GR_KERNEL(name, GpuNorm)                                                           \
    extern "C" __global__ void name##_f(GpuNormProgram c) {                            \
        __shared__ double room[GPU_BLOCK / WARP], slot[GPU_SLOTS];                     \
        if (threadIdx.x == 0) {                                                        \
            for (int i = 0; i < c.code.n_slot; i++) slot[i] = c.code.number[i];        \
            run_once(c.code, slot);                                                    \
        }                                                                              \
        __syncthreads();                                                               \
        body(c.norm, room, Formula{c.code, slot});                                     \
    }                                                                                  \
    GR_KERNEL(name##_f, GpuNormProgram)

NORM_KERNELS(gr_norm, norm)
NORM_KERNELS(gr_norm_grad, norm_grad)
NORM_KERNELS(gr_norm_grad_weight, norm_grad_weight)
