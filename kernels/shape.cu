/* Copies with strides and conversions: cast, concat, slice, pad, broadcast, permute. */
#include "kernels/gpu.h"

extern "C" __global__ void gr_copy(GpuCopy c) {
    for (int64_t i = first_element(); i < c.n; i += all_threads()) {
        int64_t rest = i, from = c.x_start, to = c.y_start;
        for (int k = c.rank - 1; k >= 0; k--) {
            const int64_t at = rest % c.dim[k];
            rest /= c.dim[k];
            from += at * c.x_stride[k], to += at * c.y_stride[k];
        }
        store(c.y, to, c.x.data ? load(c.x, from) : 0);
    }
}
GR_KERNEL(gr_copy, GpuCopy)
