/* Element types, shapes, and conversions between element types. */
#include "graph/type.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[DTYPES] = {
    [F64] = {"f64", 8}, [F32] = {"f32", 4}, [F16] = {"f16", 2}, [BF16] = {"bf16", 2},
    [I64] = {"i64", 8}, [I32] = {"i32", 4}, [U8] = {"u8", 1},
};

const char *dtype_name(DType t) {
    return dtypes[t].name;
}
size_t dtype_size(DType t) {
    return dtypes[t].size;
}

bool dtype_parse(const char *name, DType *out) {
    for (int t = 0; t < DTYPES; t++)
        if (!strcmp(name, dtypes[t].name)) return *out = (DType)t, true;
    return false;
}

Type type_of(DType t, int rank, const int64_t *dim) {
    Type r = {.dtype = t, .rank = rank};
    for (int i = 0; i < rank; i++) r.dim[i] = dim[i];
    return r;
}

Type type_scalar(DType t) {
    return (Type){.dtype = t};
}

int64_t type_count(const Type *t) {
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

size_t type_bytes(const Type *t) {
    return (size_t)type_count(t) * dtypes[t->dtype].size;
}

bool type_same_shape(const Type *a, const Type *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

bool type_equal(const Type *a, const Type *b) {
    return a->dtype == b->dtype && type_same_shape(a, b);
}

void type_print(Str *s, const Type *t) {
    str_printf(s, "%s[", dtypes[t->dtype].name);
    for (int i = 0; i < t->rank; i++)
        str_printf(s, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    str_add(s, "]");
}

const char *type_text(Arena *a, const Type *t) {
    Str s = {0};
    type_print(&s, t);
    char *text = arena_strndup(a, s.s, s.n);
    str_free(&s);
    return text;
}

bool type_broadcast(const Type *a, const Type *b, Type *out) {
    const Type *big = a->rank >= b->rank ? a : b, *small = big == a ? b : a;
    Type r = *big;
    int skip = big->rank - small->rank;
    for (int i = 0; i < small->rank; i++) {
        int64_t x = big->dim[skip + i], y = small->dim[i];
        if (x != y && x != 1 && y != 1) return false;
        r.dim[skip + i] = x == 1 ? y : x;
    }
    *out = r;
    return true;
}

typedef union {
    uint32_t u;
    float f;
} Bits;

float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31,
             mantissa = h & 1023;
    Bits x;
    if (exponent == 31)
        x.u = sign | 0x7F800000u | mantissa << 13;
    else if (exponent)
        x.u = sign | (exponent + 112) << 23 | mantissa << 13;
    else { /* zero and subnormals: mantissa * 2^-24 is exact in a float */
        x.f = (float)mantissa * 0x1p-24f;
        x.u |= sign;
    }
    return x.f;
}

uint16_t float_to_half(float f) {
    Bits x = {.f = f};
    uint32_t sign = x.u >> 16 & 0x8000, u = x.u & 0x7FFFFFFF;
    if (u > 0x7F800000) return (uint16_t)(sign | 0x7E00 | (u >> 13 & 0x3FF));
    if (u >= 0x47800000) return (uint16_t)(sign | 0x7C00); /* 65536 and more */
    if (u >= 0x38800000) { /* normal; a carry may reach infinity, as it should */
        uint32_t r = u - 0x38000000u + 0xFFF + (u >> 13 & 1);
        return (uint16_t)(sign | r >> 13);
    }
    Bits y = {.u = u}; /* below 2^-14: adding 0.5 rounds to units of 2^-24 */
    y.f += 0.5f;
    return (uint16_t)(sign | (y.u - 0x3F000000u));
}

uint16_t float_to_bf16(float f) {
    Bits x = {.f = f};
    if ((x.u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(x.u >> 16 | 0x40);
    return (uint16_t)((x.u + 0x7FFF + (x.u >> 16 & 1)) >> 16);
}

/* Element i of what may lie anywhere: files align nothing. */
#define LOAD(T, x)                                                                     \
    T x;                                                                               \
    memcpy(&x, (const char *)p + (size_t)i * sizeof x, sizeof x)

static double load(const void *p, DType t, int64_t i) {
    switch (t) {
    case F64: {
        LOAD(double, x);
        return x;
    }
    case F32: {
        LOAD(float, x);
        return x;
    }
    case F16: {
        LOAD(uint16_t, x);
        return half_to_float(x);
    }
    case BF16: {
        LOAD(uint16_t, x);
        return bf16_to_float(x);
    }
    case I64: {
        LOAD(int64_t, x);
        return (double)x;
    }
    case I32: {
        LOAD(int32_t, x);
        return x;
    }
    case U8:
        return ((const uint8_t *)p)[i];
    default:
        return 0;
    }
}

static void store(void *p, DType t, int64_t i, double x) {
    switch (t) {
    case F64:
        ((double *)p)[i] = x;
        break;
    case F32:
        ((float *)p)[i] = (float)x;
        break;
    case F16:
        ((uint16_t *)p)[i] = float_to_half((float)x);
        break;
    case BF16:
        ((uint16_t *)p)[i] = float_to_bf16((float)x);
        break;
    case I64:
        ((int64_t *)p)[i] = (int64_t)x;
        break;
    case I32:
        ((int32_t *)p)[i] = (int32_t)x;
        break;
    case U8:
        ((uint8_t *)p)[i] = (uint8_t)x;
        break;
    default:
        break;
    }
}

/* Halves, by far the most frequent, without branches: the compiler makes vector code of
 * it. The same numbers as half_to_float and float_to_half. */
static void halves_to_floats(char *dst, const char *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        const uint32_t u = h & 0x7FFFu, sign = (h & 0x8000u) << 16;
        const Bits small = {.f = (float)(int32_t)u * 0x1p-24f};
        const uint32_t normal = (u << 13) + (u >= 0x7C00 ? 0x70000000u : 0x38000000u);
        const uint32_t x = sign | (u < 0x400 ? small.u : normal);
        memcpy(dst + 4 * i, &x, sizeof x);
    }
}

static void floats_to_halves(char *dst, const char *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        Bits x;
        memcpy(&x.u, src + 4 * i, sizeof x.u);
        const uint32_t sign = x.u >> 16 & 0x8000u;
        const Bits size = {.u = x.u & 0x7FFFFFFFu}, small = {.f = size.f + 0.5f};
        const int32_t u = (int32_t)size.u;
        const uint32_t normal =
            (size.u - 0x38000000u + 0xFFFu + (size.u >> 13 & 1)) >> 13;
        uint32_t h = u >= 0x38800000 ? normal : small.u - 0x3F000000u;
        h = u >= 0x47800000 ? 0x7C00u : h;
        h = u > 0x7F800000 ? 0x7E00u | (size.u >> 13 & 0x3FFu) : h;
        const uint16_t out = (uint16_t)(sign | h);
        memcpy(dst + 2 * i, &out, sizeof out);
    }
}

static void bf16_to_floats(char *dst, const char *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, src + 2 * i, sizeof h);
        const uint32_t x = (uint32_t)h << 16;
        memcpy(dst + 4 * i, &x, sizeof x);
    }
}

static void floats_to_bf16(char *dst, const char *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t x;
        memcpy(&x, src + 4 * i, sizeof x);
        const uint32_t nan = x >> 16 | 0x40, round = (x + 0x7FFF + (x >> 16 & 1)) >> 16;
        const uint16_t h = (uint16_t)((x & 0x7FFFFFFF) > 0x7F800000 ? nan : round);
        memcpy(dst + 2 * i, &h, sizeof h);
    }
}

void convert(void *dst, DType to, const void *src, DType from, int64_t n) {
    if (to == from)
        memcpy(dst, src, (size_t)n * dtypes[to].size);
    else if (from == F16 && to == F32)
        halves_to_floats(dst, src, n);
    else if (from == F32 && to == F16)
        floats_to_halves(dst, src, n);
    else if (from == BF16 && to == F32)
        bf16_to_floats(dst, src, n);
    else if (from == F32 && to == BF16)
        floats_to_bf16(dst, src, n);
    else
        for (int64_t i = 0; i < n; i++) store(dst, to, i, load(src, from, i));
}
