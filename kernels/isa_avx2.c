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
/* b where a is no number */
static inline V max_v(V a, V b) {
    return (V)_mm256_max_ps(a, b);
}
static inline V min_v(V a, V b) {
    return (V)_mm256_min_ps(a, b);
}
#include "kernels/isa_half8.h"
/* on top of all that */
#include "kernels/isa_body.h"
#endif
