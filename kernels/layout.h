/* How inputs of several shapes meet one output (numpy's rule): dimensions that all operands
 * walk alike are merged, so that most cases have one or two left; an input has a stride
 * per merged dimension, 0 where it is repeated. */
#ifndef GRAPHRUN_LAYOUT_H
#define GRAPHRUN_LAYOUT_H
#include "graph/type.h"

typedef struct Layout {
    int rank; /* at least 1 */
    int64_t dim[MAX_RANK];
    int64_t (*stride)[MAX_RANK]; /* per operand, in elements */
    bool *dense; /* per operand: element i of the output is its element i */
} Layout;

/* in[i] must broadcast to out. */
Layout *layout_new(Arena *a, const Type *out, const Type *in, int n_in);
/* Calls piece(ctx, to, from, stride, n) for the runs that elements start ... start+n-1 of
 * the output have in operand `in`: `to` counts from 0, `from` is an element of the operand,
 * stride is 0 or more. */
void layout_walk(const Layout *l, int in, int64_t start, int64_t n,
                 void (*piece)(void *ctx, int64_t to, int64_t from, int64_t stride,
                               int64_t n),
                 void *ctx);
#endif
