/* Peaks (peak.h): independent multiply-adds that never leave the registers, and a sum over
 * a block larger than the caches. */
#include "runtime/peak.h"

#include <stdlib.h>

enum {
    LANES = 8,
    CHAINS =
        12, /* enough independent ones to hide an FMA's latency of 4 at 2 a cycle */
    ROUNDS = 1 << 20,
    PIECES = 16,
    TRIES = 8,
};
#define READ_BYTES ((size_t)256 << 20)

typedef float Vec __attribute__((vector_size(LANES * sizeof(float))));

typedef struct Work {
    const uint64_t *block; /* what is read */
    int64_t words;
    double *sum; /* per piece: so that nothing is optimised away */
} Work;

#define CHAIN_LOOP                                                                     \
    Vec c[CHAINS];                                                                     \
    const Vec a = {0.5F, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F, 0.5F};                    \
    for (int i = 0; i < CHAINS; i++) c[i] = a + (float)(start + i);                    \
    for (int r = 0; r < ROUNDS; r++)                                                   \
        _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) c[i] = c[i] * a + a; \
    float sum = 0;                                                                     \
    for (int i = 0; i < CHAINS; i++) sum += c[i][0] + c[i][LANES - 1];                 \
    return sum

#if defined(__x86_64__)
__attribute__((target("avx2,fma"), optimize("O3", "fp-contract=fast"))) static float
chains_fma(int64_t start) {
    CHAIN_LOOP;
}
static bool has_fma(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
#define chains_fma chains_plain
static bool has_fma(void) {
    return false;
}
#endif

__attribute__((optimize("O3"))) static float chains_plain(int64_t start) {
    CHAIN_LOOP;
}

static void run_chains(void *ctx, int64_t piece, void *scratch) {
    (void)scratch;
    Work *w = ctx;
    w->sum[piece] = has_fma() ? chains_fma(piece) : chains_plain(piece);
}

static void run_read(void *ctx, int64_t piece, void *scratch) {
    (void)scratch;
    Work *w = ctx;
    const int64_t n = w->words / PIECES;
    const uint64_t *x = w->block + piece * n;
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (int64_t i = 0; i + 4 <= n; i += 4)
        a += x[i], b += x[i + 1], c += x[i + 2], d += x[i + 3];
    w->sum[piece] = (double)(a + b + c + d);
}

/* Seconds of the best run. */
static double best(Device *dev, Work *w,
                   void (*run)(void *ctx, int64_t piece, void *scratch)) {
    double least = 0;
    for (int i = 0; i < TRIES; i++) {
        double start = seconds_now();
        dev->par(dev, PIECES, run, w);
        double took = seconds_now() - start;
        if (!i || took < least) least = took;
    }
    return least > 0 ? least : 1e-9;
}

Peak peak_measure(Device *dev) {
    double sum[PIECES];
    Work w = {.sum = sum};
    Peak p = {.flops =
                  2.0 * LANES * CHAINS * ROUNDS * PIECES / best(dev, &w, run_chains)};
    uint64_t *block = malloc(READ_BYTES);
    if (!block) return p;
    w.words = (int64_t)(READ_BYTES / sizeof *block);
    for (int64_t i = 0; i < w.words; i++) block[i] = (uint64_t)i;
    w.block = block;
    p.bytes = (double)READ_BYTES / best(dev, &w, run_read);
    free(block);
    return p;
}
