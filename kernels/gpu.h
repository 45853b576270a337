/* What the kernels in .cu files share. One source, two compilers: nvcc, and g++ with
 * GR_HOST_TWIN, where every CUDA thread is a fiber of the test engine in tests/twin/.
 *
 * Rules that keep it so: extern "C" kernels with one struct by value as their parameter,
 * GR_KERNEL(name, Parameter) behind each, no host code, no launches, no library calls.
 * Elements of any type are read as f32 and rounded when they are stored; sums are f64, in
 * an order that only sizes decide. */
#ifndef GRAPHRUN_GPU_H
#define GRAPHRUN_GPU_H
#include <stdint.h>

#ifndef GR_HOST_TWIN /* the twin's words come with the compiler's command line */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define GR_KERNEL(name, Parameter)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif
#include "kernels/gpu_launch.h"

enum { WARP = GPU_WARP };

/* ---- elements ---- */

#ifdef GR_HOST_TWIN
static inline float half_bits(uint16_t h) {
    return half_to_float(h);
}
static inline uint16_t bits_half(float f) {
    return float_to_half(f);
}
static inline float bf16_bits(uint16_t h) {
    return bf16_to_float(h);
}
static inline uint16_t bits_bf16(float f) {
    return float_to_bf16(f);
}
#else
static __device__ inline float half_bits(uint16_t h) {
    return __half2float(__ushort_as_half(h));
}
static __device__ inline uint16_t bits_half(float f) {
    return __half_as_ushort(__float2half_rn(f));
}
static __device__ inline float bf16_bits(uint16_t h) {
    return __bfloat162float(__ushort_as_bfloat16(h));
}
static __device__ inline uint16_t bits_bf16(float f) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(f));
}
#endif

/* Element i of a tensor. */
static __device__ inline float load(GpuTensor t, int64_t i) {
    switch (t.type) {
    case GPU_F16:
        return half_bits(((const uint16_t *)t.data)[i]);
    case GPU_BF16:
        return bf16_bits(((const uint16_t *)t.data)[i]);
    case GPU_I32:
        return (float)((const int32_t *)t.data)[i];
    case GPU_F64:
        return (float)((const double *)t.data)[i];
    case GPU_U8:
        return (float)((const uint8_t *)t.data)[i];
    default:
        return ((const float *)t.data)[i];
    }
}
static __device__ inline void store(GpuTensor t, int64_t i, float x) {
    switch (t.type) {
    case GPU_F16:
        ((uint16_t *)t.data)[i] = bits_half(x);
        break;
    case GPU_BF16:
        ((uint16_t *)t.data)[i] = bits_bf16(x);
        break;
    case GPU_I32:
        ((int32_t *)t.data)[i] = (int32_t)x;
        break;
    case GPU_F64:
        ((double *)t.data)[i] = (double)x;
        break;
    case GPU_U8:
        ((uint8_t *)t.data)[i] = (uint8_t)x;
        break;
    default:
        ((float *)t.data)[i] = x;
    }
}
/* The same without a rounding to f32. */
static __device__ inline double load_wide(GpuTensor t, int64_t i) {
    if (t.type == GPU_F64) return ((const double *)t.data)[i];
    if (t.type == GPU_I32) return (double)((const int32_t *)t.data)[i];
    return (double)load(t, i);
}
static __device__ inline void store_wide(GpuTensor t, int64_t i, double x) {
    if (t.type == GPU_F64)
        ((double *)t.data)[i] = x;
    else if (t.type == GPU_I32)
        ((int32_t *)t.data)[i] = (int32_t)x;
    else
        store(t, i, (float)x);
}

/* ---- threads ---- */

static __device__ inline int64_t first_element(void) {
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
static __device__ inline int64_t all_threads(void) {
    return (int64_t)gridDim.x * blockDim.x;
}

/* The sum of x over the block, the same bits for every thread. room: one double per warp.
 * Ends with a barrier: room may be used again. */
static __device__ inline double block_sum(double x, double *room) {
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    for (int o = WARP / 2; o; o /= 2) x += __shfl_xor_sync(0xffffffffu, x, o);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    double sum = 0;
    for (int i = 0; i < (int)blockDim.x / WARP; i++) sum += room[i];
    __syncthreads();
    return sum;
}
#endif
