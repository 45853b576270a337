/* What a .cu file sees when it is compiled as plain C++ (GR_HOST_TWIN): the words of CUDA
 * that the kernels use, on top of the engine in twin.cc. Included by the compiler's
 * command line, so that the kernels name no file of the tests. */
#ifndef GRAPHRUN_TWIN_H
#define GRAPHRUN_TWIN_H
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
extern "C" {
#include "graph/type.h"
}

typedef struct uint3 {
    unsigned x, y, z;
} uint3;
extern "C" {
extern uint3 twin_thread, twin_block, twin_block_size, twin_grid_size;
void twin_barrier(void);
void twin_sync_warp(unsigned mask);
void *twin_slots(void); /* 16 bytes for each lane of this warp */
}
#define threadIdx twin_thread
#define blockIdx  twin_block
#define blockDim  twin_block_size
#define gridDim   twin_grid_size

#define __global__
#define __device__
#define __host__
/* one section: the engine fills it with NaN before every block */
#define __shared__ static __attribute__((section("twin_shared")))

static inline void __syncthreads(void) {
    twin_barrier();
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T x, int other) {
    static_assert(sizeof(T) <= 16, "a slot holds 16 bytes");
    const unsigned linear =
        twin_thread.x +
        twin_block_size.x * (twin_thread.y + twin_block_size.y * twin_thread.z);
    const unsigned lane = linear & 31, from = lane ^ (unsigned)other;
    char *slots = (char *)twin_slots();
    memcpy(slots + 16 * lane, &x, sizeof x);
    twin_sync_warp(mask);
    T got;
    memcpy(&got, slots + 16 * from, sizeof got);
    twin_sync_warp(mask);
    return got;
}

/* ---- kernels by name ---- */

struct TwinKernel {
    const char *name;
    size_t bytes; /* of the parameter */
    void (*call)(const void *parameter);
    const TwinKernel *next;
    TwinKernel(const char *kernel, size_t size, void (*body)(const void *));
};
#define GR_KERNEL(kernel, Parameter)                                                   \
    static const TwinKernel twin_##kernel(                                             \
        #kernel, sizeof(Parameter),                                                    \
        [](const void *p) { kernel(*(const Parameter *)p); });
#endif
