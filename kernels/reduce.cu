/* Sums, means and standard deviations: one block per result. */
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
