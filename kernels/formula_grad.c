/* Derivatives of formulas, in reverse: one rule per function of the language. Where a
 * function has a corner, the rule says which side it takes: abs' is sign (0 at 0), min and
 * max send the gradient to the chosen operand, the first one at ties. Comparisons, logic,
 * floor, round, sign, // and % are flat: no gradient. */
#include "kernels/formula.h"

#include <string.h>

typedef struct Reverse {
    Formula *f;
    int *adjoint; /* per node; -1: zero */
} Reverse;

static int num(Formula *f, double x) {
    return formula_number(f, x);
}
static int un(Formula *f, FOp op, int a) {
    return formula_add(f, op, a, 0, 0);
}
static int bi(Formula *f, FOp op, int a, int b) {
    return formula_add(f, op, a, b, 0);
}
static int add(Formula *f, int a, int b) {
    return bi(f, F_ADD, a, b);
}
static int sub(Formula *f, int a, int b) {
    return bi(f, F_SUB, a, b);
}
static int mul(Formula *f, int a, int b) {
    return bi(f, F_MUL, a, b);
}
static int quo(Formula *f, int a, int b) {
    return bi(f, F_DIV, a, b);
}

static void give(Reverse *r, int node, int amount) {
    int *at = &r->adjoint[node];
    *at = *at < 0 ? amount : add(r->f, *at, amount);
}

/* d/dx of a function of one variable, as a factor; y: the node f(x) itself */
static int slope(Formula *f, FOp op, int x, int y) {
    int one = num(f, 1);
    switch (op) {
    case F_NEG:
        return num(f, -1);
    case F_SQRT:
        return quo(f, num(f, 0.5), y);
    case F_EXP:
        return y;
    case F_LN:
        return quo(f, one, x);
    case F_EXPM1:
        return un(f, F_EXP, x);
    case F_ABS:
        return un(f, F_SIGN, x);
    case F_SIN:
        return un(f, F_COS, x);
    case F_COS:
        return un(f, F_NEG, un(f, F_SIN, x));
    case F_TANH:
        return sub(f, one, mul(f, y, y));
    case F_SIGMOID:
        return mul(f, y, sub(f, one, y));
    case F_SILU: { /* s (1 + x (1 - s)) */
        int s = un(f, F_SIGMOID, x);
        return mul(f, s, add(f, one, mul(f, x, sub(f, one, s))));
    }
    case F_QUICK_GELU: { /* x s(kx): s (1 + kx (1 - s)) */
        int kx = mul(f, num(f, 1.702), x), s = un(f, F_SIGMOID, kx);
        return mul(f, s, add(f, one, mul(f, kx, sub(f, one, s))));
    }
    case F_GELU: { /* Phi(x) + x phi(x) */
        int cdf =
            mul(f, num(f, 0.5),
                add(f, one, un(f, F_ERF, mul(f, x, num(f, 0.70710678118654752)))));
        int density = mul(f, num(f, 0.39894228040143268),
                          un(f, F_EXP, mul(f, num(f, -0.5), mul(f, x, x))));
        return add(f, cdf, mul(f, x, density));
    }
    case F_ERF: /* 2 / sqrt(pi) exp(-x^2) */
        return mul(f, num(f, 1.1283791670955126),
                   un(f, F_EXP, un(f, F_NEG, mul(f, x, x))));
    default:
        return num(f, 0); /* not floor round sign */
    }
}

/* a ^ b: b a^(b-1) and a^b ln a, the latter 0 at a = 0 */
static void power(Reverse *r, const FNode *n, int y, int dy) {
    Formula *f = r->f;
    int less = sub(f, n->b, num(f, 1));
    give(r, n->a, mul(f, dy, mul(f, n->b, bi(f, F_POW, n->a, less))));
    if (f->node[n->b].op == F_NUMBER) return;
    int at_zero = bi(f, F_EQ, n->a, num(f, 0));
    int along = mul(f, dy, mul(f, y, un(f, F_LN, n->a)));
    give(r, n->b, formula_add(f, F_WHERE, at_zero, num(f, 0), along));
}

static void step(Reverse *r, int i) {
    Formula *f = r->f;
    const FNode node = f->node[i], *n = &node; /* a copy: building moves the list */
    int dy = r->adjoint[i], zero = num(f, 0);
    switch (n->op) {
    case F_NUMBER:
    case F_VAR:
        return;
    case F_ADD:
        give(r, n->a, dy), give(r, n->b, dy);
        return;
    case F_SUB:
        give(r, n->a, dy), give(r, n->b, un(f, F_NEG, dy));
        return;
    case F_MUL:
        give(r, n->a, mul(f, dy, n->b)), give(r, n->b, mul(f, dy, n->a));
        return;
    case F_DIV:
        give(r, n->a, quo(f, dy, n->b));
        give(r, n->b, un(f, F_NEG, quo(f, mul(f, dy, i), n->b)));
        return;
    case F_POW:
        power(r, n, i, dy);
        return;
    case F_MIN:
    case F_MAX: {
        int first = bi(f, n->op == F_MIN ? F_LE : F_GE, n->a, n->b);
        give(r, n->a, formula_add(f, F_WHERE, first, dy, zero));
        give(r, n->b, formula_add(f, F_WHERE, first, zero, dy));
        return;
    }
    case F_WHERE:
        give(r, n->b, formula_add(f, F_WHERE, n->a, dy, zero));
        give(r, n->c, formula_add(f, F_WHERE, n->a, zero, dy));
        return;
    case F_FLOORDIV:
    case F_MOD:
    case F_EQ:
    case F_NE:
    case F_LT:
    case F_LE:
    case F_GT:
    case F_GE:
    case F_AND:
    case F_OR:
        return;
    default:
        give(r, n->a, mul(f, dy, slope(f, n->op, n->a, i)));
    }
}

void formula_grad(Formula *f, int root, int seed, int n_var, int *grad) {
    int n = root + 1;
    Reverse r = {f, NEW(f->arena, int, n)};
    memset(r.adjoint, 0xff, (size_t)n * sizeof(int));
    r.adjoint[root] = seed;
    for (int i = root; i >= 0; i--)
        if (r.adjoint[i] >= 0) step(&r, i);
    for (int v = 0; v < n_var; v++) grad[v] = formula_number(f, 0);
    for (int i = 0; i < n; i++)
        if (f->node[i].op == F_VAR && f->node[i].a < n_var && r.adjoint[i] >= 0)
            grad[f->node[i].a] = r.adjoint[i];
}
