/* Plan files with wrong contents and right hashes: what lies behind the hashes is what
 * tests and the fuzz target are after. */
#ifndef GRAPHRUN_PLAN_SEAL_H
#define GRAPHRUN_PLAN_SEAL_H
#include <lz4.h>
#include <string.h>
#include <xxhash.h>

#include "graph/plan/plan_format.h"

static inline uint64_t seal_get(const uint8_t *at, int bytes) {
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)at[i] << 8 * i;
    return x;
}
static inline void seal_put(uint8_t *at, uint64_t x, int bytes) {
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(x >> 8 * i);
}

/* Makes the size and every hash of a file right again, as far as its table can be read. */
static inline void seal(uint8_t *b, size_t n) {
    if (n < HEADER_BYTES) return;
    uint64_t sections = seal_get(b + 16, 4);
    if (sections > MOST_SECTIONS || HEADER_BYTES + sections * ENTRY_BYTES > n) return;
    for (uint64_t i = 0; i < sections; i++) {
        uint8_t *t = b + HEADER_BYTES + i * ENTRY_BYTES;
        uint64_t stored = seal_get(t + 16, 8), at = seal_get(t + 24, 8);
        if (at <= n && stored <= n - at)
            seal_put(t + 32, XXH3_64bits(b + at, stored), 8);
    }
    seal_put(b + 24, n, 8);
    seal_put(b + HASH_AT, 0, 8);
    seal_put(b + HASH_AT, XXH3_64bits(b, HEADER_BYTES + sections * ENTRY_BYTES), 8);
}

/* The same plan with every section as it is, not compressed. */
static inline void seal_unpacked(Str *out, const uint8_t *b, size_t n) {
    uint64_t sections = seal_get(b + 16, 4),
             table = HEADER_BYTES + sections * ENTRY_BYTES;
    str_addn(out, (const char *)b, table);
    for (uint64_t i = 0; i < sections; i++) {
        const uint8_t *t = b + HEADER_BYTES + i * ENTRY_BYTES;
        uint64_t raw = seal_get(t + 8, 8), stored = seal_get(t + 16, 8);
        uint64_t at = seal_get(t + 24, 8), from = out->n;
        Arena *a = arena_new();
        char *data = NEW(a, char, raw);
        if (t[4] == CODEC_LZ4)
            LZ4_decompress_safe((const char *)b + at, data, (int)stored, (int)raw);
        else
            memcpy(data, b + at, raw);
        str_addn(out, data, raw);
        arena_free(a);
        uint8_t *to = (uint8_t *)out->s + HEADER_BYTES + i * ENTRY_BYTES;
        to[4] = CODEC_RAW;
        seal_put(to + 16, raw, 8);
        seal_put(to + 24, from, 8);
    }
    (void)n;
    seal((uint8_t *)out->s, out->n);
}
#endif
