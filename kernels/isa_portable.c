/* The inner loops in vectors of four floats, which every 64-bit CPU has. */
#include <string.h>

#include "kernels/isa.h"

enum { LANES = 4, MR = 4, NR = 8 };
#define ISA      isa_portable
#define ISA_NAME "portable"
typedef float V __attribute__((vector_size(16)));
typedef int32_t VI __attribute__((vector_size(16)));
static inline V set(float x) {
    return (V){x, x, x, x};
}
static inline V fma_v(V a, V b, V c) {
    return a * b + c;
}
static inline V pick(VI mask, V a, V b) {
    return (V)(((VI)a & mask) | ((VI)b & ~mask));
}
/* b where a is no number */
static inline V max_v(V a, V b) {
    return pick(a > b, a, b);
}
static inline V min_v(V a, V b) {
    return pick(a < b, a, b);
}
typedef uint16_t H8 __attribute__((vector_size(16)));
static inline void widen8(float *dst, H8 h, DType from) {
    for (int i = 0; i < 8; i++)
        dst[i] = from == F16 ? half_to_float(h[i]) : bf16_to_float(h[i]);
}
static inline H8 narrow8(const float *src, DType to) {
    H8 h;
    for (int i = 0; i < 8; i++)
        h[i] = to == F16 ? float_to_half(src[i]) : float_to_bf16(src[i]);
    return h;
}
#include "kernels/isa_body.h"
