/* Formulas as shared expressions: a DAG in which equal sub-expressions are one node,
 * constants are folded and what is obvious is simplified (x*1, x+0, 0*x, --x). Pointwise
 * rows and optimizer updates are parsed into it, differentiated in it, printed from it as
 * short statements, and compiled from it into register programs (kernels/program.h).
 *
 * Invariant: a node's operands have smaller numbers than the node. */
#ifndef GRAPHRUN_FORMULA_H
#define GRAPHRUN_FORMULA_H
#include "graph/base/base.h"
#include "kernels/formula_ops.h"

typedef struct FNode {
    FOp op;
    int a, b, c; /* operands: as many as formula_arity(op) */
    double x;
} FNode;

typedef struct Formula {
    Arena *arena;
    FNode *node;
    int n, cap;
    int *slot; /* open addressing over nodes, -1: free */
    int n_slot;
} Formula;

/* Names that a formula's text may use, and the node that each stands for. */
typedef struct FName {
    const char *name;
    int node;
} FName;
typedef struct FNames {
    FName *item;
    int n, cap;
} FNames;

Formula *formula_new(Arena *a);
int formula_arity(FOp op); /* operands: 0 for numbers and variables */
/* The node for op(a, b, c): simplified, shared. Unused operands: 0. */
int formula_add(Formula *f, FOp op, int a, int b, int c);
int formula_number(Formula *f, double x);
int formula_var(Formula *f, int number);
/* op on numbers; comparisons and logic give 1 or 0 */
double formula_apply(FOp op, double a, double b, double c);

void fnames_set(Arena *a, FNames *names, const char *name, int node);
int fnames_get(const FNames *names, const char *name); /* -1: none */
/* Names x0 ... x(n-1) for variables 0 ... n-1. */
void fnames_inputs(Formula *f, FNames *names, int n);

/* Reads "NAME = expression; ...; expression". Statements enter `names`; value: the last
 * one without a name, or -1 if there is none. */
bool formula_parse(Formula *f, const char *text, FNames *names, int *value, Err *e);
/* Text of `root`: variable v is called x(number[v]). Shared and large sub-expressions
 * become statements t0, t1 ... in front. */
void formula_print(Str *s, const Formula *f, int root, const int *number);
/* used[i]: does root depend on node i? n entries, for f->n as it is now. */
void formula_reach(const Formula *f, int root, bool *used);
/* Reverse mode: d root / d variable v times node `seed`, for v = 0 ... n_var-1; a zero
 * gradient is the node of number 0. */
void formula_grad(Formula *f, int root, int seed, int n_var, int *grad);
#endif
