/* All rows, declared from ops.def, and what several families share: shape rules that many
 * rows have, and shorthands for gradient rules.
 *
 * Gradient shorthands take and give ids; NO_ID going in comes out as NO_ID, so that a rule
 * can be written without a check after every node: only the end is checked. */
#ifndef GRAPHRUN_OPS_H
#define GRAPHRUN_OPS_H
#include "graph/op.h"
#include "kernels/attrs.h"

#define OP(file, name)                                                                 \
    extern const Op op_##name;                                                         \
    extern const Kernel cpu_##name[], cuda_##name[];
#include "ops/ops.def"
#undef OP

/* ---- shape rules ---- */
bool shape_same(Sig *s, Err *e); /* output 0 has the type of input 0 */
/* Message of a shape rule; the caller of op->shape adds op and place. */
#define shape_error(e, ...) err_at((e), loc_none(), __VA_ARGS__)
/* axis -1 is the last; false with a message if there is no such axis. */
bool shape_axis(int64_t axis, int rank, int *out, Err *e);

/* Text of input i's type, for messages; valid until e or the next call on this buffer. */
typedef struct TypeText {
    char s[128];
} TypeText;
TypeText type_name(const Type *t);

/* ---- values while a graph is built ---- */
const Type *type_at(const Graph *g, Id id);
/* pointwise over any values, computed in and yielding `dtype` */
Id add_formula(Graph *g, DType dtype, const char *formula, int n_in, const Id *in,
               Err *e);
/* sum of x to the shape of `like` (x is a broadcast of it), in like's dtype */
Id add_reduce_to(Graph *g, Id x, const Type *like, Err *e);
Id add_cast(Graph *g, Id x, DType to, Err *e);
Id add_view(Graph *g, Id x, const Type *shape, Err *e);
IntList dims_of(const Type *t);
#endif
