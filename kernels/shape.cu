/* Copies with strides and conversions: cast, assign, concat, slice, pad, broadcast, permute,
 * join_chunks; the slice that was trained. */
#include "kernels/gpu.h"

extern "C" __global__ void gr_copy(GpuCopy c) {
    if (c.when.data && load(c.when, 0) == 0) return;
    const bool wide = c.y.type == GPU_F64 || c.y.type == GPU_I32;
    for (int64_t i = first_element(); i < c.n; i += all_threads()) {
        int64_t rest = i, from = c.x_start, to = c.y_start;
        for (int k = c.rank - 1; k >= 0; k--) {
            const int64_t at = rest % c.dim[k];
            rest /= c.dim[k];
            from += at * c.x_stride[k], to += at * c.y_stride[k];
        }
        if (wide)
            store_wide(c.y, to, c.x.data ? load_wide(c.x, from) : 0);
        else
            store(c.y, to, c.x.data ? load(c.x, from) : 0);
    }
}
GR_KERNEL(gr_copy, GpuCopy)

extern "C" __global__ void gr_active_grad(GpuActive c) {
    for (int64_t i = first_element(); i < c.n; i += all_threads())
        store(c.dx, i, i / c.run % c.slices == *c.k ? load(c.dy, i) : 0);
}
GR_KERNEL(gr_active_grad, GpuActive)

/* y[i] = i */
extern "C" __global__ void gr_index(GpuCopy c) {
    for (int64_t i = first_element(); i < c.n; i += all_threads())
        store_wide(c.y, i, (double)i);
}
GR_KERNEL(gr_index, GpuCopy)
