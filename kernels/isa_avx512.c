/* The inner loops for AVX-512 (F, BW, VL, DQ): a tile of 12 x 32 fills 24 of 32 registers. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "kernels/isa.h"

enum { LANES = 16, MR = 12, NR = 32 };
#define ISA      isa_avx512
#define ISA_NAME "avx512"
typedef float V __attribute__((vector_size(64)));
typedef int32_t VI __attribute__((vector_size(64)));
static inline V set(float x) {
    return (V)_mm512_set1_ps(x);
}
static inline V fma_v(V a, V b, V c) {
    return (V)_mm512_fmadd_ps(a, b, c);
}
static void widen(float *dst, const uint16_t *src, DType from, int64_t n) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256i h = _mm256_loadu_si256((const __m256i *)(const void *)(src + i));
        __m512 w =
            from == F16
                ? _mm512_cvtph_ps(h)
                : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
        _mm512_storeu_ps(dst + i, w);
    }
    for (; i < n; i++)
        dst[i] = from == F16 ? half_to_float(src[i]) : bf16_to_float(src[i]);
}
#include "kernels/isa_body.h"
#endif
