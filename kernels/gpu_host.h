/* What the C side of the CUDA kernels shares: a device that launches kernels by name, and
 * how tensors and launches are described. kernels/NAME.cu holds what runs on the device. */
#ifndef GRAPHRUN_GPU_HOST_H
#define GRAPHRUN_GPU_HOST_H
#include "graph/op.h"
#include "kernels/gpu_launch.h"
#include "kernels/program.h"

/* A device whose memory the host does not read; Call.dev of every kernel of Op.cuda. */
typedef struct Gpu {
    Device dev;
    /* Enqueues grid x block threads of the kernel, whose one parameter is `bytes` bytes,
     * copied before this returns. A launch that fails is the device's to remember. */
    void (*launch)(struct Gpu *g, const char *kernel, const unsigned grid[3],
                   const unsigned block[3], const void *parameter, size_t bytes);
} Gpu;

/* The kernels of row `op`: one. */
#define CUDA_KERNEL(op, when, body)                                                    \
    const Kernel cuda_##op[] = {{.name = "cuda", .fits = when, .run = body}, {0}}

/* Are all tensors of types that are computed with in f32: f32, halves, i32? */
bool gpu_types_fit(const Sig *s);
/* Or of any type that kernels load: f64 and u8 too. */
bool gpu_types_load(const Sig *s);
/* Describes a program for the device; false: it is too large. */
bool gpu_code(GpuCode *out, const Program *p);
GpuTensor gpu_tensor(const Tensor *t);
/* One thread per element, in blocks that stride over what is left. */
void gpu_elements(const Call *c, const char *kernel, int64_t n, const void *parameter,
                  size_t bytes);
/* `blocks` blocks that have n elements each, of at most GPU_BLOCK threads. */
void gpu_blocks(const Call *c, const char *kernel, int64_t blocks, int64_t n,
                const void *parameter, size_t bytes);
/* y = x, element by element of their own order, in y's type. */
void gpu_convert(const Call *c, const Tensor *x, const Tensor *y);
#endif
