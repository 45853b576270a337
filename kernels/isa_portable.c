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
static void widen(float *dst, const uint16_t *src, DType from, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = from == F16 ? half_to_float(src[i]) : bf16_to_float(src[i]);
}
#include "kernels/isa_body.h"
