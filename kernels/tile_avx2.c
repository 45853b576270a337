/* Register programs in f32 for AVX2: the same loops as the reference, with the hot
 * functions (exp, erf and what is made of them) as branch-free code that the compiler turns
 * into vectors. */
#include "kernels/program.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>

typedef union Bits {
    float f;
    uint32_t u;
} Bits;

/* exp x = 2^k exp r with k = round(x / ln 2), |r| <= ln 2 / 2; exp r by a polynomial fitted
 * at Chebyshev points (relative error 1e-8), 2^k in two factors so that results below the
 * smallest normal number and infinity come out right. Largest error 1 ulp. */
static inline float exp_v(float x) {
    const float round =
        12582912; /* 1.5 * 2^23: adding it leaves an integer in the low bits */
    float c = x < -104 ? -104 : x;
    c = c > 89 ? 89 : c;
    Bits t = {__builtin_fmaf(c, 1.44269504f, round)}, zero = {round};
    float k = t.f - round;
    float r =
        __builtin_fmaf(k, -0.693145752f, c); /* ln 2 in two parts, the first exact */
    r = __builtin_fmaf(k, -1.42860677e-6f, r);
    float p = 0.00139337332f;
    p = __builtin_fmaf(p, r, 0.00836323538f);
    p = __builtin_fmaf(p, r, 0.0416664642f);
    p = __builtin_fmaf(p, r, 0.166665766f);
    p = __builtin_fmaf(p, r, 0.500000001f);
    p = __builtin_fmaf(p * r, r, r) + 1;
    int32_t n = (int32_t)(t.u - zero.u), half = n >> 1;
    Bits a = {.u = (uint32_t)(half + 127) << 23},
         b = {.u = (uint32_t)(n - half + 127) << 23};
    return p * a.f * b.f;
}

/* erf: below 1, x + x P(x^2); above, 1 - exp(-Q(|x|)) with Q = -ln erfc. Both fitted at
 * Chebyshev points (1.4e-9 and 7e-10 relative); from 4 on erf is 1 in f32. */
static inline float erf_v(float x) {
    float t = __builtin_fabsf(x), s = x * x;
    float p = 7.88249711e-05f;
    p = __builtin_fmaf(p, s, -0.000801885499f);
    p = __builtin_fmaf(p, s, 0.00518931194f);
    p = __builtin_fmaf(p, s, -0.0268543288f);
    p = __builtin_fmaf(p, s, 0.112835975f);
    p = __builtin_fmaf(p, s, -0.376126269f);
    p = __builtin_fmaf(p, s, 0.128379166f);
    float small = __builtin_fmaf(p, x, x);
    float c = t > 4 ? 4 : t;
    float q = -1.6140616e-06f;
    q = __builtin_fmaf(q, c, 4.55906224e-05f);
    q = __builtin_fmaf(q, c, -0.000592769537f);
    q = __builtin_fmaf(q, c, 0.00474022234f);
    q = __builtin_fmaf(q, c, -0.0263647174f);
    q = __builtin_fmaf(q, c, 0.109978245f);
    q = __builtin_fmaf(q, c, 0.631937094f);
    q = __builtin_fmaf(q, c, 1.13016668f);
    q = __builtin_fmaf(q, c, -0.000303212967f);
    float large = __builtin_copysignf(1 - exp_v(-q), x);
    return t < 1 ? small : large;
}

#define FORWARD(name)                                                                  \
    static inline float name##_v(float x) {                                            \
        return name##f(x);                                                             \
    }
FORWARD(log)
FORWARD(expm1)
FORWARD(sin)
FORWARD(cos)
FORWARD(tanh)
FORWARD(sqrt)
FORWARD(fabs)
FORWARD(floor)
FORWARD(nearbyint)
static inline float fmod_v(float x, float y) {
    return fmodf(x, y);
}
static inline float pow_v(float x, float y) {
    return powf(x, y);
}

#define T          float
#define TILE_OPS   tile_f32_avx2
#define TILE_DTYPE F32
#define FN(name)   name##_v
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
#define LOAD_HALF(d, s, n)  load_half(d, s, n)
#define STORE_HALF(d, s, n) store_half(d, s, n)
#include "kernels/tile.h"
#endif
