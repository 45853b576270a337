/* Attributes and sizes of the operators that carry the step's arithmetic (linear,
 * convolution, norms, attention, tables), shared by their rows and their kernels.
 *
 * Element types: f32, f16 and bf16 stand beside each other in any mix; all arithmetic on
 * them is done in f32 or wider, a half is rounded once, when it is stored. f64 (gradient
 * checks, constants) stands beside f64 alone. A product (linear, conv2d, matmul and their
 * gradients) is stored in the type `to`, NULL: its first operand's; in an attention y has
 * q's type, each gradient that of its operand, lse is f32. */
#ifndef GRAPHRUN_HEAVY_H
#define GRAPHRUN_HEAVY_H
#include "graph/op.h"

typedef struct LinearAttrs {
    int64_t out;
    bool bias;
    const char *to;
} LinearAttrs;
typedef struct ConvAttrs {
    int64_t out;
    bool bias;
    int64_t kernel, stride;
    IntList pad;  /* one number, or left right top bottom */
    int64_t h, w; /* conv2d_grad_x: size of the convolution's input */
    const char *to;
} ConvAttrs;
typedef struct NormAttrs {
    int64_t groups;
    double eps;
    bool params; /* gradient rows: dgamma and dbeta are outputs too */
    /* Group rows, made by fusion: y = f(x0 = normalised value). Gradient: the gradient by
     * the normalised value, of x0 = that value and x1 = dy. NULL: none. */
    const char *f;
} NormAttrs;
typedef struct AttentionAttrs {
    int64_t heads;
    bool causal;
} AttentionAttrs;
typedef struct EmbeddingAttrs {
    int64_t rows, width;
} EmbeddingAttrs;
typedef struct ResizeAttrs {
    int64_t by, h, w;
} ResizeAttrs;
typedef struct MatmulAttrs {
    bool ta, tb;
    const char *to;
} MatmulAttrs;

/* Element i of a tensor, whatever its type: for the reference kernels. */
static inline double get(const Tensor *t, int64_t i) {
    switch (t->type->dtype) {
    case F64:
        return ((const double *)t->data)[i];
    case F16:
        return half_to_float(((const uint16_t *)t->data)[i]);
    case BF16:
        return bf16_to_float(((const uint16_t *)t->data)[i]);
    case I32:
        return ((const int32_t *)t->data)[i];
    default:
        return ((const float *)t->data)[i];
    }
}
/* Stores a floating element; halves are rounded to nearest even, from f32. */
static inline void put(const Tensor *t, int64_t i, double x) {
    switch (t->type->dtype) {
    case F64:
        ((double *)t->data)[i] = x;
        break;
    case F16:
        ((uint16_t *)t->data)[i] = float_to_half((float)x);
        break;
    case BF16:
        ((uint16_t *)t->data)[i] = float_to_bf16((float)x);
        break;
    default:
        ((float *)t->data)[i] = (float)x;
    }
}
/* An optional input that is there. */
static inline bool given(const Call *c, int i) {
    return i < c->n_in && c->in[i].data;
}
/* body(c, i, scratch) for i = 0 ... n-1, spread over the workers. */
static inline void spread(const Call *c, int64_t n,
                          void (*body)(void *, int64_t, void *)) {
    c->dev->par(c->dev, n, body, (void *)(uintptr_t)c);
}

static inline int64_t type_last(const Type *t) {
    return t->dim[t->rank - 1];
}
static inline int64_t type_rows(const Type *t) { /* product of all but the last */
    int64_t n = 1;
    for (int i = 0; i + 1 < t->rank; i++) n *= t->dim[i];
    return n;
}

/* Sizes of a convolution: x[b,h,w,in] weight[out,in,k,k] -> y[b,oh,ow,out]. */
typedef struct ConvSize {
    int64_t b, h, w, in, oh, ow, out, k, stride, left, top;
} ConvSize;
/* From the types of x and y and the attributes, all of them checked by the row. */
static inline ConvSize conv_size(const Type *x, const Type *y, const ConvAttrs *a) {
    const IntList *p = &a->pad;
    return (ConvSize){x->dim[0],
                      x->dim[1],
                      x->dim[2],
                      x->dim[3],
                      y->dim[1],
                      y->dim[2],
                      y->dim[3],
                      a->kernel,
                      a->stride,
                      p->v[0],
                      p->v[p->n == 1 ? 0 : 2]};
}

/* Sizes of an attention: q[b, n tokens, heads * d], k and v[b, m tokens, heads * d]. */
typedef struct AttentionSize {
    int64_t b, n, m, heads, d;
} AttentionSize;
static inline AttentionSize attention_size(const Type *q, const Type *k,
                                           int64_t heads) {
    int64_t b = q->dim[0];
    return (AttentionSize){b, type_rows(q) / b, type_rows(k) / b, heads,
                           type_last(q) / heads};
}
#endif
