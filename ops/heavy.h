/* Checks that the rows of linear, conv, norm, attention, embed, resize and matmul share. */
#ifndef GRAPHRUN_OPS_HEAVY_H
#define GRAPHRUN_OPS_HEAVY_H
#include "kernels/heavy.h"
#include "kernels/products.h"
#include "ops/ops.h"

/* Fails unless input i is a floating tensor of the given rank at least. */
static inline bool need_float(const Sig *s, int i, int rank, Err *e) {
    const Type *t = &s->in[i];
    if (dtype_is_float(t->dtype) && t->rank >= rank) return true;
    return shape_error(e, "'%s' is %s, want a floating tensor of rank %d or more",
                       s->op->in[i].name, type_name(t).s, rank);
}
/* Fails unless input i has the type `want`. */
static inline bool need_type(const Sig *s, int i, Type want, Err *e) {
    if (type_equal(&s->in[i], &want)) return true;
    return shape_error(e, "'%s' is %s, want %s", s->op->in[i].name,
                       type_name(&s->in[i]).s, type_name(&want).s);
}
/* Fails unless input i has the given shape, in a type that goes with x's: a weight, or a
 * gradient that another kernel stored its own way. */
static inline bool need_weight(const Sig *s, int i, DType x, Type shape, Err *e) {
    shape.dtype = dtype_mix(x, s->in[i].dtype) ? s->in[i].dtype : x;
    return need_type(s, i, shape, e);
}
/* A product's last input: what is added to it, made by fusion. Its buffer may become the
 * result's (Op.inplace). */
#define IN_ADD                                                                         \
    { "add", IN_OPTIONAL | IN_IR }
static inline bool add_fits(const Sig *s, int i, Err *e) {
    return i >= s->n_in || s->in[i].rank < 0 ||
           need_weight(s, i, s->in[0].dtype, s->out[0], e);
}
/* The attribute `to` of products: the type that the result is stored in. */
#define ATTR_TO(Attrs)                                                                 \
    {                                                                                  \
        "to", 's', offsetof(Attrs, to), ATTR_IR, 0, NULL,                              \
            "element type of the result; absent: the first operand's"                  \
    }
/* That type, beside a first operand of type x. */
static inline bool type_stored(const char *to, DType x, DType *t, Err *e) {
    *t = x;
    if (!to || (dtype_parse(to, t) && dtype_mix(x, *t))) return true;
    return shape_error(e, "'to' is '%s', want %s", to,
                       x == F64 ? "f64" : "f32, f16 or bf16");
}
/* What `to` must be for a result in `want` beside a first operand in x. */
static inline const char *stored_as(DType want, DType x) {
    return want == x ? NULL : dtype_name(want);
}
/* x's type with another last dimension. */
static inline Type with_last(const Type *x, int64_t n) {
    Type t = *x;
    t.dim[t.rank - 1] = n;
    return t;
}
static inline Type type1(DType t, int64_t n) {
    return type_of(t, 1, &n);
}
static inline const Type *input_type(const Lang *l, int i) {
    return type_at(l->g, l->in[i]);
}
#endif
