/* The functions of formulas, for every compiler that evaluates them. */
#ifndef GRAPHRUN_FORMULA_OPS_H
#define GRAPHRUN_FORMULA_OPS_H
typedef enum FOp {
    F_NUMBER, /* x */
    F_VAR,    /* variable number a */
    /* operators of the grammar */
    F_NEG,
    F_NOT,
    F_ADD,
    F_SUB,
    F_MUL,
    F_DIV,
    F_FLOORDIV,
    F_MOD,
    F_POW,
    F_EQ,
    F_NE,
    F_LT,
    F_LE,
    F_GT,
    F_GE,
    F_AND,
    F_OR,
    /* functions */
    F_SQRT,
    F_EXP,
    F_LN,
    F_EXPM1,
    F_ABS,
    F_SIGN,
    F_FLOOR,
    F_ROUND,
    F_SIN,
    F_COS,
    F_TANH,
    F_SIGMOID,
    F_SILU,
    F_GELU,
    F_QUICK_GELU,
    F_ERF,
    F_MIN,
    F_MAX,
    F_WHERE,
    F_OPS
} FOp;
#endif
