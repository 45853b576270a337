/* Element types and shapes of values. Row-major and contiguous; channels last. */
#ifndef GRAPHRUN_TYPE_H
#define GRAPHRUN_TYPE_H
#include "graph/base/base.h"

typedef enum DType { F64, F32, F16, BF16, I64, I32, U8, DTYPES } DType;
enum { MAX_RANK = 6 };

typedef struct Type {
    DType dtype;
    int rank; /* 0: a scalar */
    int64_t dim[MAX_RANK];
} Type;

const char *dtype_name(DType t);                /* "f32" */
bool dtype_parse(const char *name, DType *out); /* false: unknown */
size_t dtype_size(DType t);                     /* bytes of one element */
static inline bool dtype_is_float(DType t) {
    return t <= BF16;
}
static inline bool dtype_is_half(DType t) {
    return t == F16 || t == BF16;
}
/* What values of type t are computed in; the type of sums and statistics over them. */
static inline DType dtype_wide(DType t) {
    return t == F64 ? F64 : F32;
}
/* f32, f16 and bf16 stand beside each other in any mix, f64 beside f64 alone. */
static inline bool dtype_mix(DType a, DType b) {
    return dtype_is_float(a) && dtype_is_float(b) && (a == F64) == (b == F64);
}

Type type_of(DType t, int rank, const int64_t *dim);
Type type_scalar(DType t);
int64_t type_count(const Type *t); /* elements; dimensions are checked to fit in 2^47 */
size_t type_bytes(const Type *t);
bool type_equal(const Type *a, const Type *b); /* dtype and shape */
bool type_same_shape(const Type *a, const Type *b);
void type_print(Str *s, const Type *t); /* "f32[1,64,64,320]", scalar "f32[]" */
const char *type_text(Arena *a, const Type *t);
/* numpy's rule: aligned at the last dimension, equal or 1. false: they do not meet. */
bool type_broadcast(const Type *a, const Type *b, Type *out);

/* IEEE half and bfloat16, round to nearest even; NaN stays NaN. */
float half_to_float(uint16_t h);
uint16_t float_to_half(float f);
static inline float bf16_to_float(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } x = {(uint32_t)h << 16};
    return x.f;
}
uint16_t float_to_bf16(float f);
/* n elements from one type to another (floats among each other, integers among each
 * other and to floats). */
void convert(void *dst, DType to, const void *src, DType from, int64_t n);
#endif
