/* A tensor as one byte per element and one scale per block: kernels/codes.c says how. */
#include "kernels/gpu.h"

/* The entry nearest to x; of two equally near ones the lower; one further if its number
 * has the other sign than x. */
static __device__ inline int code_of(const GpuCodes &c, float x) {
    int low = 0, high = GPU_CODES - 1;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (c.map[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    const int code = x <= (c.map[low] + c.map[high]) / 2 ? low : high;
    const bool minus = x < 0, has = c.map[code] < 0;
    if (!c.is_signed || minus == has) return code;
    return minus ? code - 1 : code + 1;
}

/* One block of threads per block of elements. */
extern "C" __global__ void gr_encode(GpuCodes c) {
    __shared__ float most[GPU_BLOCK];
    const int t = (int)threadIdx.x;
    for (int64_t b = blockIdx.x; b < c.blocks; b += gridDim.x) {
        const int64_t from = b * c.block;
        const int64_t to = from + c.block < c.n ? from + c.block : c.n;
        float own = 0;
        for (int64_t i = from + t; i < to; i += blockDim.x)
            own = fmaxf(own, fabsf(load(c.x, i)));
        most[t] = own;
        __syncthreads();
        float all = 0;
        for (int i = 0; i < (int)blockDim.x; i++) all = fmaxf(all, most[i]);
        if (t == 0) store(c.scale, b, all);
        for (int64_t i = from + t; i < to; i += blockDim.x)
            c.code[i] = (uint8_t)code_of(c, all > 0 ? load(c.x, i) / all : 0);
        __syncthreads();
    }
}
GR_KERNEL(gr_encode, GpuCodes)

extern "C" __global__ void gr_decode(GpuCodes c) {
    for (int64_t i = first_element(); i < c.n; i += all_threads())
        store(c.x, i, c.map[c.code[i]] * load(c.scale, i / c.block));
}
GR_KERNEL(gr_decode, GpuCodes)
