/* The maps of 8-bit codes: 256 numbers of -1 … 1, dense near 0 (Dettmers et al., "8-bit
 * Optimizers via Block-wise Quantization": the dynamic tree map). For i = 0 … 6 the
 * midpoints of an even partition of 0.1 … 1, times 10^(i - 6): 2^i of them with both signs,
 * or 2^(i + 1) without; further 0 and 1. */
#ifndef GRAPHRUN_CODES_H
#define GRAPHRUN_CODES_H
#include <stdbool.h>
#include <stdint.h>

enum { CODES = 256 };

/* Rising. */
void codes_map(bool is_signed, float map[CODES]);

/* Of n elements; the last may be short. */
static inline int64_t codes_blocks(int64_t n, int64_t block) {
    return n / block + (n % block != 0);
}

#endif
