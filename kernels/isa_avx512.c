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
/* b where a is no number */
static inline V max_v(V a, V b) {
    return (V)_mm512_max_ps(a, b);
}
static inline V min_v(V a, V b) {
    return (V)_mm512_min_ps(a, b);
}
#include "kernels/isa_half8.h"
/* on top of all that */
#include "kernels/isa_body.h"
#endif
