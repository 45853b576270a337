/* The value of one function of a formula, written once for the CPU's f64 and for both types
 * on a GPU. The includer defines
 *   T        the element type
 *   FN(name) the function of that name for T: exp, log ...
 *   APPLY    the name of the function to make; APPLY_modulo and APPLY_sigmoid come with it */
#include "kernels/formula_ops.h"
#include "kernels/hd.h"
#define APPLY_JOIN(a, b) a##_##b
#define APPLY_NAME(a, b) APPLY_JOIN(a, b)
#define APPLY_WITH(name) APPLY_NAME(APPLY, name)

static HD inline T APPLY_WITH(modulo)(T a, T b) { /* the sign of b, as in Python */
    T r = FN(fmod)(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

static HD inline T APPLY_WITH(sigmoid)(T x) {
    return 1 / (1 + FN(exp)(-x));
}

static HD inline T APPLY(int op, T a, T b, T c) {
    switch (op) {
    case F_NEG:
        return -a;
    case F_NOT:
        return a == 0;
    case F_ADD:
        return a + b;
    case F_SUB:
        return a - b;
    case F_MUL:
        return a * b;
    case F_DIV:
        return a / b;
    case F_FLOORDIV:
        return FN(floor)(a / b);
    case F_MOD:
        return APPLY_WITH(modulo)(a, b);
    case F_POW:
        return FN(pow)(a, b);
    case F_EQ:
        return a == b;
    case F_NE:
        return a != b;
    case F_LT:
        return a < b;
    case F_LE:
        return a <= b;
    case F_GT:
        return a > b;
    case F_GE:
        return a >= b;
    case F_AND:
        return a != 0 && b != 0;
    case F_OR:
        return a != 0 || b != 0;
    case F_SQRT:
        return FN(sqrt)(a);
    case F_EXP:
        return FN(exp)(a);
    case F_LN:
        return FN(log)(a);
    case F_EXPM1:
        return FN(expm1)(a);
    case F_ABS:
        return FN(fabs)(a);
    case F_SIGN:
        return (a > 0) - (a < 0);
    case F_FLOOR:
        return FN(floor)(a);
    case F_ROUND:
        return FN(nearbyint)(a); /* halves to even */
    case F_SIN:
        return FN(sin)(a);
    case F_COS:
        return FN(cos)(a);
    case F_TANH:
        return FN(tanh)(a);
    case F_SIGMOID:
        return APPLY_WITH(sigmoid)(a);
    case F_SILU:
        return a * APPLY_WITH(sigmoid)(a);
    case F_GELU:
        return (T)0.5 * a * (1 + FN(erf)(a * (T)0.70710678118654752));
    case F_QUICK_GELU:
        return a * APPLY_WITH(sigmoid)((T)1.702 * a);
    case F_ERF:
        return FN(erf)(a);
    case F_MIN:
        return a <= b || a != a ? a : b; /* NaN wins */
    case F_MAX:
        return a >= b || a != a ? a : b;
    case F_WHERE:
        return a != 0 ? b : c;
    default:
        return 0;
    }
}

#undef T
#undef FN
#undef APPLY
#undef APPLY_JOIN
#undef APPLY_NAME
#undef APPLY_WITH
