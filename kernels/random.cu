/* Random numbers by counter: the same bits on every device (kernels/rng.h), but for the last
 * bit of what logarithms and sines are made of. */
#include "kernels/gpu.h"
#include "kernels/rng.h"

static __device__ inline float number(const GpuRandom &c, const uint32_t *w, int i) {
    if (c.kind == GPU_NORMAL) return rng_normal(w, i);
    return rng_uniform(w[i]);
}

/* A thread makes the four numbers of one block of Philox. */
extern "C" __global__ void gr_random(GpuRandom c) {
    const int64_t blocks = (c.per + 3) / 4;
    for (int64_t t = first_element(); t < c.samples * blocks; t += all_threads()) {
        const int64_t sample = t / blocks, block = t % blocks;
        uint32_t w[4];
        rng_block(c.rng, c.stream, (uint32_t)sample, (uint32_t)block, w);
        UNROLL
        for (int i = 0; i < 4; i++) {
            const int64_t e = block * 4 + i;
            if (e >= c.per) break;
            const int64_t at = sample * c.per + e;
            if (c.kind == GPU_DRAW)
                store_wide(
                    c.y, at,
                    (double)(c.from +
                             (int64_t)((uint64_t)w[i] * (uint64_t)c.range >> 32)));
            else
                store(c.y, at, number(c, w, i));
        }
    }
}
GR_KERNEL(gr_random, GpuRandom)

extern "C" __global__ void gr_dropout(GpuDropout c) {
    for (int64_t i = first_element(); i < c.n; i += all_threads()) {
        const int64_t sample = c.same ? i / c.per : 0, at = c.same ? i % c.same : 0;
        uint32_t w[4];
        rng_block(c.rng, c.stream, (uint32_t)sample, (uint32_t)(at / 4), w);
        const int k = (int)(at % 4);
        const uint32_t word = k == 0 ? w[0] : k == 1 ? w[1] : k == 2 ? w[2] : w[3];
        const bool kept = (double)rng_uniform(word) >= c.p;
        store(c.y, i, kept ? (float)(load(c.x, i) * c.factor) : 0);
    }
}
GR_KERNEL(gr_dropout, GpuDropout)
