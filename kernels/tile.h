/* The interpreter of register programs, written once for every element type and
 * instruction set: the includer defines
 *   T            the element type
 *   TILE_OPS     the name of the TileOps to make, TILE_DTYPE its dtype
 *   FN(name)     the function of that name for T: exp, log, tanh ...
 *   LOAD_HALF, STORE_HALF (dst, src, n)   conversions of f16, or nothing
 * Every case is one plain loop, so that the compiler makes vector code of it. */

static inline T tile_sigmoid(T x) {
    return 1 / (1 + FN(exp)(-x));
}

/* One loop per form: both operands tiles, or one of them a single value. */
#define UNARY(expr)                                                                    \
    for (int i = 0; i < n; i++) {                                                      \
        T x = a[i];                                                                    \
        d[i] = (expr);                                                                 \
    }                                                                                  \
    break
#define BINARY(expr)                                                                   \
    if (in->b & SCALAR) {                                                              \
        const T y = b[0];                                                              \
        for (int i = 0; i < n; i++) {                                                  \
            T x = a[i];                                                                \
            d[i] = (expr);                                                             \
        }                                                                              \
    } else if (in->a & SCALAR) {                                                       \
        const T x = a[0];                                                              \
        for (int i = 0; i < n; i++) {                                                  \
            T y = b[i];                                                                \
            d[i] = (expr);                                                             \
        }                                                                              \
    } else {                                                                           \
        for (int i = 0; i < n; i++) {                                                  \
            T x = a[i], y = b[i];                                                      \
            d[i] = (expr);                                                             \
        }                                                                              \
    }                                                                                  \
    break

static inline const T *tile_operand(void *const *reg, const T *slot, uint16_t at) {
    return at & SCALAR ? slot + (at & ~SCALAR) : reg[at];
}

/* where: single values are spread over a tile first */
static void tile_where(T *d, const T *const in[3], const uint16_t at[3], int n) {
    T spread[3][TILE];
    const T *x[3];
    for (int k = 0; k < 3; k++) {
        x[k] = in[k];
        if (!(at[k] & SCALAR)) continue;
        for (int i = 0; i < n; i++) spread[k][i] = in[k][0];
        x[k] = spread[k];
    }
    for (int i = 0; i < n; i++) {
        T yes = x[1][i], no = x[2][i];
        d[i] = x[0][i] != 0 ? yes : no;
    }
}

static inline T tile_mod(T x, T y) { /* the sign of y */
    T r = FN(fmod)(x, y);
    return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

static void tile_arithmetic(const Instr *in, T *d, const T *a, const T *b, int n) {
    switch (in->op) {
    case F_ADD:
        BINARY(x + y);
    case F_SUB:
        BINARY(x - y);
    case F_MUL:
        BINARY(x * y);
    case F_DIV:
        BINARY(x / y);
    case F_FLOORDIV:
        BINARY(FN(floor)(x / y));
    case F_MOD:
        BINARY(tile_mod(x, y));
    case F_POW:
        BINARY(FN(pow)(x, y));
    case F_EQ:
        BINARY(x == y ? (T)1 : (T)0);
    case F_NE:
        BINARY(x != y ? (T)1 : (T)0);
    case F_LT:
        BINARY(x < y ? (T)1 : (T)0);
    case F_LE:
        BINARY(x <= y ? (T)1 : (T)0);
    case F_GT:
        BINARY(x > y ? (T)1 : (T)0);
    case F_GE:
        BINARY(x >= y ? (T)1 : (T)0);
    case F_AND:
        BINARY((x != 0) & (y != 0) ? (T)1 : (T)0);
    case F_OR:
        BINARY((x != 0) | (y != 0) ? (T)1 : (T)0);
    case F_MIN:
        BINARY((x <= y) | (x != x) ? x : y);
    case F_MAX:
        BINARY((x >= y) | (x != x) ? x : y);
    default:
        break;
    }
}

static void tile_function(const Instr *in, T *d, const T *a, int n) {
    switch (in->op) {
    case F_NEG:
        UNARY(-x);
    case F_NOT:
        UNARY(x == 0 ? (T)1 : (T)0);
    case F_SQRT:
        UNARY(FN(sqrt)(x));
    case F_EXP:
        UNARY(FN(exp)(x));
    case F_LN:
        UNARY(FN(log)(x));
    case F_EXPM1:
        UNARY(FN(expm1)(x));
    case F_ABS:
        UNARY(FN(fabs)(x));
    case F_SIGN:
        UNARY((x > 0 ? (T)1 : (T)0) - (x < 0 ? (T)1 : (T)0));
    case F_FLOOR:
        UNARY(FN(floor)(x));
    case F_ROUND:
        UNARY(FN(nearbyint)(x));
    case F_SIN:
        UNARY(FN(sin)(x));
    case F_COS:
        UNARY(FN(cos)(x));
    case F_TANH:
        UNARY(FN(tanh)(x));
    case F_SIGMOID:
        UNARY(tile_sigmoid(x));
    case F_SILU:
        UNARY(x * tile_sigmoid(x));
    case F_GELU:
        UNARY((T)0.5 * x * (1 + FN(erf)(x * (T)0.70710678118654752)));
    case F_QUICK_GELU:
        UNARY(x * tile_sigmoid((T)1.702 * x));
    case F_ERF:
        UNARY(FN(erf)(x));
    default:
        break;
    }
}

static void tile_run(const Program *p, void *const *reg, const void *slots, int n) {
    const T *slot = slots;
    for (int k = 0; k < p->n_instr; k++) {
        const Instr *in = &p->instr[k];
        T *d = reg[in->dst];
        const T *a = tile_operand(reg, slot, in->a);
        int arity = formula_arity((FOp)in->op);
        const T *b = arity > 1 ? tile_operand(reg, slot, in->b) : NULL;
        if (arity == 1) {
            tile_function(in, d, a, n);
        } else if (arity == 2) {
            tile_arithmetic(in, d, a, b, n);
        } else {
            const T *const x[3] = {a, b, tile_operand(reg, slot, in->c)};
            const uint16_t at[3] = {in->a, in->b, in->c};
            tile_where(d, x, at, n);
        }
    }
}

#define COPY(from)                                                                     \
    for (int64_t i = 0; i < n; i++) d[i] = (T)((const from *)src)[i];                  \
    break

static void tile_load(void *dst, const void *src, DType from, int64_t n) {
    T *restrict d = dst;
    switch (from) {
    case F64:
        COPY(double);
    case F32:
        COPY(float);
    case I64:
        COPY(int64_t);
    case I32:
        COPY(int32_t);
    case U8:
        COPY(uint8_t);
    case F16:
        LOAD_HALF(d, (const uint16_t *)src, n);
        break;
    case BF16:
        for (int64_t i = 0; i < n; i++)
            d[i] = (T)bf16_to_float(((const uint16_t *)src)[i]);
        break;
    default:
        break;
    }
}
#undef COPY

/* bf16, nearest even; NaN stays NaN (as float_to_bf16, without its branch) */
static inline uint16_t tile_bf16(float x) {
    union {
        float f;
        uint32_t u;
    } v = {x};
    uint32_t nan = v.u >> 16 | 0x40, round = (v.u + 0x7FFF + (v.u >> 16 & 1)) >> 16;
    return (uint16_t)((v.u & 0x7FFFFFFF) > 0x7F800000 ? nan : round);
}

#define COPY(to)                                                                       \
    for (int64_t i = 0; i < n; i++) ((to *)dst)[i] = (to)s[i];                         \
    break

static void tile_store(void *dst, DType to, const void *src, int64_t n) {
    const T *restrict s = src;
    switch (to) {
    case F64:
        COPY(double);
    case F32:
        COPY(float);
    case I64:
        COPY(int64_t);
    case I32:
        COPY(int32_t);
    case U8:
        COPY(uint8_t);
    case F16:
        STORE_HALF((uint16_t *)dst, s, n);
        break;
    case BF16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = tile_bf16((float)s[i]);
        break;
    default:
        break;
    }
}
#undef COPY

static void tile_fill(void *dst, double x, int64_t n) {
    T *d = dst;
    for (int64_t i = 0; i < n; i++) d[i] = (T)x;
}

const TileOps TILE_OPS = {sizeof(T), TILE_DTYPE, tile_run,
                          tile_load, tile_store, tile_fill};

#undef UNARY
#undef BINARY
