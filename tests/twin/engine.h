/* The engine that runs .cu kernels on the CPU: a block's threads are fibers of one OS
 * thread. How they take turns finds what hardware shows only now and then: a warp runs as
 * far as it can, to a barrier of the block or its end, before the next one begins, so what
 * relies on a barrier that is not there reads NaN or stale numbers. */
#ifndef GRAPHRUN_TWIN_ENGINE_H
#define GRAPHRUN_TWIN_ENGINE_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#else
#include <stdbool.h>
#endif

/* Of warps, of lanes and of blocks. */
typedef enum TwinOrder {
    TWIN_RISING,
    TWIN_FALLING,
    TWIN_SHUFFLED,
    TWIN_ORDERS
} TwinOrder;

/* Bytes of a kernel's parameter; 0: there is no such kernel. */
size_t twin_bytes(const char *kernel);
/* Runs a kernel. NULL: done; else what is wrong with the kernel or the launch (a thread
 * that never comes to a barrier at which others wait, a block that is too large ...). */
const char *twin_launch(const char *kernel, const unsigned grid[3],
                        const unsigned block[3], const void *parameter, size_t bytes,
                        TwinOrder order, uint64_t seed);
#ifdef __cplusplus
}
#endif
#endif
