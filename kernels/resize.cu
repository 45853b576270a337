/* Nearest-neighbour resizing and its gradient, and noise in several resolutions; one thread
 * per result. */
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

/* ---- octaves ---- */

/* Pixel i of `to` between two of `from`, corners not aligned. */
static __device__ inline double between(int64_t i, int64_t from, int64_t to,
                                        int64_t *low, int64_t *high) {
    double at = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    if (at < 0) at = 0;
    *low = (int64_t)at;
    *high = *low < from - 1 ? *low + 1 : *low;
    return at - (double)*low;
}

/* Octave i at pixel (p, q) of sample b, read from its corner of `fine` of h x w. */
static __device__ inline double octave(const GpuOctaves &c, int64_t b, int64_t i,
                                       int64_t h, int64_t w, int64_t p, int64_t q,
                                       int64_t m) {
    int64_t y0, y1, x0, x1;
    const double fy = between(p, h, c.h, &y0, &y1), fx = between(q, w, c.w, &x0, &x1);
    const int64_t top = ((b * c.k + i) * c.h + y0) * c.w,
                  low = ((b * c.k + i) * c.h + y1) * c.w;
    const double above = load(c.fine, (top + x0) * c.ch + m) * (1 - fx) +
                         load(c.fine, (top + x1) * c.ch + m) * fx;
    const double below = load(c.fine, (low + x0) * c.ch + m) * (1 - fx) +
                         load(c.fine, (low + x1) * c.ch + m) * fx;
    return above * (1 - fy) + below * fy;
}

extern "C" __global__ void gr_octaves(GpuOctaves c) {
    for (int64_t e = first_element(); e < c.b * c.h * c.w * c.ch; e += all_threads()) {
        const int64_t m = e % c.ch, q = e / c.ch % c.w, p = e / (c.ch * c.w) % c.h;
        const int64_t b = e / (c.ch * c.w * c.h);
        double sum = load(c.x, e);
        for (int64_t i = 0; i < c.k; i++) {
            /* at least 1, whatever was drawn: nothing is read beside fine */
            const double by =
                fmax(pow(2 + 2 * (double)load(c.draws, i), (double)i), 1.0);
            int64_t h = (int64_t)((double)c.h / by), w = (int64_t)((double)c.w / by);
            const bool last = h <= 1 || w <= 1;
            if (h < 1) h = 1;
            if (w < 1) w = 1;
            sum += pow(c.discount, (double)i) * octave(c, b, i, h, w, p, q, m);
            if (last) break;
        }
        store(c.y, e, (float)sum);
    }
}
GR_KERNEL(gr_octaves, GpuOctaves)
