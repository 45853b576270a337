/* Register programs in f32 for AVX2: the same loops as the reference, with the hot
 * functions (exp, erf and what is made of them) as branch-free code that the compiler turns
 * into vectors. */
#include "kernels/program.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

#define T float
#define TILE_OPS tile_f32_avx2
#define TILE_DTYPE F32
#define FN(name) name##f
static void load_half(float *d, const uint16_t *s, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(s + i));
        _mm256_storeu_ps(d + i, _mm256_cvtph_ps(h));
    }
    for (; i < n; i++) d[i] = half_to_float(s[i]);
}
static void store_half(uint16_t *d, const float *s, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(s + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128((__m128i *)(void *)(d + i), h);
    }
    for (; i < n; i++) d[i] = float_to_half(s[i]);
}
#define LOAD_HALF(d, s, n) load_half(d, s, n)
#define STORE_HALF(d, s, n) store_half(d, s, n)
#include "kernels/tile.h"
#endif
