/* The inner loops for AVX2, FMA and F16C: a tile of 6 x 16 fills 12 of 16 registers. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "kernels/isa.h"

enum { LANES = 8, MR = 6, NR = 16 };
#define ISA      isa_avx2
#define ISA_NAME "avx2"
typedef float V __attribute__((vector_size(32)));
typedef int32_t VI __attribute__((vector_size(32)));
static inline V set(float x) {
    return (V)_mm256_set1_ps(x);
}
static inline V fma_v(V a, V b, V c) {
    return (V)_mm256_fmadd_ps(a, b, c);
}
static void widen(float *dst, const uint16_t *src, DType from, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(src + i));
        __m256 w =
            from == F16
                ? _mm256_cvtph_ps(h)
                : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
        _mm256_storeu_ps(dst + i, w);
    }
    for (; i < n; i++)
        dst[i] = from == F16 ? half_to_float(src[i]) : bf16_to_float(src[i]);
}
#include "kernels/isa_body.h"
#endif
