/* Nearest-neighbour resizing and its gradient, one thread per result. */
#include "kernels/gpu.h"

static __device__ inline int64_t first_from(int64_t at, int64_t from, int64_t n) {
    return (at * n + from - 1) / from;
}

extern "C" __global__ void gr_resize(GpuResize c) {
    const int64_t n = c.batch * c.to_h * c.to_w * c.channels;
    for (int64_t e = first_element(); e < n; e += all_threads()) {
        const int64_t k = e % c.channels, j = e / c.channels % c.to_w;
        const int64_t i = e / (c.channels * c.to_w) % c.to_h;
        const int64_t b = e / (c.channels * c.to_w * c.to_h);
        const int64_t p = i * c.from_h / c.to_h, q = j * c.from_w / c.to_w;
        store(c.y, e, load(c.x, ((b * c.from_h + p) * c.from_w + q) * c.channels + k));
    }
}
GR_KERNEL(gr_resize, GpuResize)

/* x: dy of the large size (to_h, to_w); y: dx of the small one */
extern "C" __global__ void gr_resize_grad(GpuResize c) {
    const int64_t n = c.batch * c.from_h * c.from_w * c.channels;
    for (int64_t e = first_element(); e < n; e += all_threads()) {
        const int64_t k = e % c.channels, q = e / c.channels % c.from_w;
        const int64_t p = e / (c.channels * c.from_w) % c.from_h;
        const int64_t b = e / (c.channels * c.from_w * c.from_h);
        const int64_t end_i = first_from(p + 1, c.from_h, c.to_h);
        const int64_t end_j = first_from(q + 1, c.from_w, c.to_w);
        float sum = 0;
        for (int64_t i = first_from(p, c.from_h, c.to_h); i < end_i; i++)
            for (int64_t j = first_from(q, c.from_w, c.to_w); j < end_j; j++)
                sum += load(c.x, ((b * c.to_h + i) * c.to_w + j) * c.channels + k);
        store(c.y, e, sum);
    }
}
GR_KERNEL(gr_resize_grad, GpuResize)
