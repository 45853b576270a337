/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * key = seed; counter = (element / 4 within the sample, hash of the node's path and
 * purpose, global sample index, micro-batch). The same numbers on every backend, for any
 * passes, threads, batch split, and after a resume.
 *
 * The step scalar "rng" is i32[8]: seed low, seed high, first global sample index of the
 * batch, micro-batch, then zeros. */
#ifndef GRAPHRUN_RNG_H
#define GRAPHRUN_RNG_H
#include <math.h>
#include <stdint.h>

#include "kernels/hd.h"

enum { RNG_SEED_LO, RNG_SEED_HI, RNG_SAMPLE, RNG_MICRO, RNG_WORDS = 8 };

static inline HD void philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t a = (uint32_t)(p1 >> 32) ^ c[1] ^ k0,
                 b = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[0] = a, c[1] = (uint32_t)p1, c[2] = b, c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
}
/* The four words of block `block` of a stream. rng: the step scalar; sample is counted
 * from the batch's first. */
static inline HD void rng_block(const int32_t *rng, uint32_t stream, uint32_t sample,
                                uint32_t block, uint32_t out[4]) {
    out[0] = block, out[1] = stream;
    out[2] = (uint32_t)rng[RNG_SAMPLE] + sample, out[3] = (uint32_t)rng[RNG_MICRO];
    philox(out, (uint32_t)rng[RNG_SEED_LO], (uint32_t)rng[RNG_SEED_HI]);
}
/* [0, 1) with 24 bits */
static inline HD float rng_uniform(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}
/* Element 0 … 3 of a block's normal numbers, by Box and Muller's method, in f64:
 *   u = (w0 + 1) 2^-32 in (0, 1], v = w1 2^-32, r = sqrt(-2 ln u),
 *   elements r cos(2 pi v) and r sin(2 pi v). */
static inline HD float rng_normal(const uint32_t block[4], int element) {
    const uint32_t *w = block + (element & 2);
    double u = ((double)w[0] + 1) * 0x1p-32, v = (double)w[1] * 0x1p-32;
    double r = sqrt(-2 * log(u)), angle = 6.283185307179586 * v;
    return (float)(r * (element & 1 ? sin(angle) : cos(angle)));
}
/* FNV-1a of "path#purpose", 32 bits: the stream's number */
static inline uint32_t rng_stream(const char *path, const char *purpose) {
    uint32_t h = 2166136261u;
    for (const char *s = path; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    h = (h ^ '#') * 16777619u;
    for (const char *s = purpose; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}
#endif
