/* Kernels with one mistake each, for tests/cuda_test.c: the engine must find all of them. */
#include "kernels/gpu.h"

typedef struct Fault {
    float *x;
    int64_t n;
} Fault;

/* x = the sum of x over the block; without the barrier before shared memory is read. */
extern "C" __global__ void fault_barrier(Fault c) {
    __shared__ float room[GPU_BLOCK];
    const int t = (int)threadIdx.x;
    room[t] = c.x[t];
    float sum = 0;
    for (int i = 0; i < (int)blockDim.x; i++) sum += room[i];
    c.x[t] = sum;
}
GR_KERNEL(fault_barrier, Fault)

/* A barrier that half of the block never comes to. */
extern "C" __global__ void fault_divergent(Fault c) {
    if (threadIdx.x < blockDim.x / 2) __syncthreads();
    c.x[threadIdx.x] = 1;
}
GR_KERNEL(fault_divergent, Fault)

/* A shuffle that names lanes which have left. */
extern "C" __global__ void fault_mask(Fault c) {
    if (threadIdx.x % WARP >= 16) return;
    c.x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, c.x[threadIdx.x], 16);
}
GR_KERNEL(fault_mask, Fault)

/* One element behind the end. */
extern "C" __global__ void fault_outside(Fault c) {
    const int64_t i = first_element();
    if (i <= c.n) c.x[i] = 1;
}
GR_KERNEL(fault_outside, Fault)

/* Blocks that add to one number, each in its turn: rounding depends on the order. */
extern "C" __global__ void fault_order(Fault c) {
    if (threadIdx.x == 0) c.x[0] += 1.0f / (float)(3 * blockIdx.x + 1);
}
GR_KERNEL(fault_order, Fault)

/* Shared memory that nobody wrote. */
extern "C" __global__ void fault_unwritten(Fault c) {
    __shared__ float room[GPU_BLOCK];
    if (threadIdx.x > 0) room[threadIdx.x] = 0;
    __syncthreads();
    c.x[threadIdx.x] = room[threadIdx.x];
}
GR_KERNEL(fault_unwritten, Fault)
