/* Sums, means and standard deviations: one block per result; numbers over many tensors:
 * one block per piece, then one for all; products and tables along a column. */
#include "kernels/gpu.h"

static __device__ inline int64_t at(const int64_t *dim, const int64_t *stride, int rank,
                                    int64_t i) {
    int64_t place = 0;
    for (int k = rank - 1; k >= 0; k--) {
        place += i % dim[k] * stride[k];
        i /= dim[k];
    }
    return place;
}

extern "C" __global__ void gr_reduce(GpuReduce c) {
    __shared__ double room[GPU_BLOCK / WARP];
    for (int64_t o = blockIdx.x; o < c.n_out; o += gridDim.x) {
        const int64_t base = at(c.out_dim, c.out_stride, c.out_rank, o);
        double sum = 0;
        for (int64_t i = threadIdx.x; i < c.n_in; i += blockDim.x)
            sum += load(c.x, base + at(c.in_dim, c.in_stride, c.in_rank, i));
        sum = block_sum(sum, room);
        if (c.deviation) {
            const double mean = sum / (double)c.n_in;
            double squares = 0;
            for (int64_t i = threadIdx.x; i < c.n_in; i += blockDim.x) {
                const double d =
                    load(c.x, base + at(c.in_dim, c.in_stride, c.in_rank, i)) - mean;
                squares += d * d;
            }
            sum = block_sum(squares, room);
        }
        const double y = sum * c.scale;
        if (threadIdx.x == 0) store(c.y, o, (float)(c.deviation ? sqrt(y) : y));
    }
}
GR_KERNEL(gr_reduce, GpuReduce)

/* ---- over many tensors ---- */

static __device__ inline double share(const GpuMany &c, int tensor, int64_t i) {
    const double x = load_wide(c.x[tensor], i);
    if (c.what == GPU_NORM_OF) return x * x;
    return c.what == GPU_SUM_OF ? x : !isfinite(x);
}

extern "C" __global__ void gr_many(GpuMany c) {
    __shared__ double room[GPU_BLOCK / WARP];
    int tensor = c.n - 1;
    while (tensor && (int64_t)blockIdx.x < c.piece[tensor]) tensor--;
    const int64_t from = ((int64_t)blockIdx.x - c.piece[tensor]) * GPU_PIECE;
    int64_t end = from + GPU_PIECE;
    if (end > c.count[tensor]) end = c.count[tensor];
    double sum = 0;
    for (int64_t i = from + threadIdx.x; i < end; i += blockDim.x)
        sum += share(c, tensor, i);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) c.partial[blockIdx.x] = sum;
}
GR_KERNEL(gr_many, GpuMany)

extern "C" __global__ void gr_many_end(GpuManyEnd c) {
    __shared__ double room[GPU_BLOCK / WARP];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < c.n; i += blockDim.x) sum += c.partial[i];
    sum = block_sum(sum, room);
    if (threadIdx.x) return;
    if (c.what == GPU_NORM_OF) sum = sqrt(sum);
    if (c.what == GPU_NOT_FINITE) sum = sum == 0;
    store_wide(c.y, 0, sum);
}
GR_KERNEL(gr_many_end, GpuManyEnd)

/* ---- columns: x[n, rest], one thread each ---- */

extern "C" __global__ void gr_cumprod(GpuColumns c) {
    for (int64_t k = first_element(); k < c.rest; k += all_threads()) {
        double product = 1;
        for (int64_t i = 0; i < c.n; i++) {
            product *= load_wide(c.x, i * c.rest + k);
            store_wide(c.y, i * c.rest + k, product);
        }
    }
}
GR_KERNEL(gr_cumprod, GpuColumns)

/* dx[k] = prefix(k) s(k), s(k) = dy[k] + x[k+1] s(k+1): no division, zeros do no harm. */
extern "C" __global__ void gr_cumprod_grad(GpuColumns c) {
    for (int64_t k = first_element(); k < c.rest; k += all_threads()) {
        double product = 1, next = 0, tail = 0;
        for (int64_t i = 0; i < c.n; i++) {
            c.prefix[i * c.rest + k] = product;
            product *= load_wide(c.x, i * c.rest + k);
        }
        for (int64_t i = c.n - 1; i >= 0; i--) {
            tail = load_wide(c.dy, i * c.rest + k) + next * tail;
            next = load_wide(c.x, i * c.rest + k);
            store_wide(c.y, i * c.rest + k, c.prefix[i * c.rest + k] * tail);
        }
    }
}
GR_KERNEL(gr_cumprod_grad, GpuColumns)

/* ---- tables read between their entries ---- */

static __device__ inline void between(const GpuInterp &c, int64_t i, int64_t *low,
                                      int64_t *high, double *f) {
    const double p = load_wide(c.at, i), l = floor(p), last = (double)(c.n - 1);
    *low = !(l > 0) ? 0 : (int64_t)(l > last ? last : l);
    *high = *low < c.n - 1 ? *low + 1 : *low;
    *f = p - (double)*low;
}

extern "C" __global__ void gr_interp(GpuInterp c) {
    for (int64_t i = first_element(); i < c.count; i += all_threads()) {
        int64_t low, high;
        double f;
        between(c, i, &low, &high, &f);
        store_wide(c.y, i, load_wide(c.x, low) * (1 - f) + load_wide(c.x, high) * f);
    }
}
GR_KERNEL(gr_interp, GpuInterp)

extern "C" __global__ void gr_interp_grad_at(GpuInterp c) {
    for (int64_t i = first_element(); i < c.count; i += all_threads()) {
        int64_t low, high;
        double f;
        between(c, i, &low, &high, &f);
        const double rise = load_wide(c.x, high) - load_wide(c.x, low);
        store_wide(c.dat, i, load_wide(c.dy, i) * rise);
    }
}
GR_KERNEL(gr_interp_grad_at, GpuInterp)

/* A thread owns an entry, and adds in the order of `at`. */
extern "C" __global__ void gr_interp_grad(GpuInterp c) {
    for (int64_t e = first_element(); e < c.n; e += all_threads()) {
        double sum = 0;
        for (int64_t i = 0; i < c.count; i++) {
            int64_t low, high;
            double f;
            between(c, i, &low, &high, &f);
            if (low == e) sum += load_wide(c.dy, i) * (1 - f);
            if (high == e) sum += load_wide(c.dy, i) * f;
        }
        store_wide(c.y, e, sum);
    }
}
GR_KERNEL(gr_interp_grad, GpuInterp)
