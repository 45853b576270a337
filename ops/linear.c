/* y = x W^T + b on the last dimension, whatever stands before it: the dense layer and the
 * 1x1 convolution. The weight keeps the file's form, [out,in] or [out,in,1,1]. */
#include "ops/heavy.h"

/* clang-format off */
static const OpIn linear_in[] = {
    { "x", 0 }, { "weight", IN_PARAM }, { "bias", IN_PARAM | IN_OPTIONAL }, IN_ADD, { 0 }
};
static const Attr linear_attrs[] = {
    { "out", 'i', offsetof(LinearAttrs, out), ATTR_YAML, 0, NULL, "width of y; needed unless a weight is given" },
    { "bias", 'b', offsetof(LinearAttrs, bias), ATTR_YAML, 1, NULL, "whether it owns a bias; a value is the bias itself" },
    ATTR_TO(LinearAttrs),
    { 0 }
};
static const Attr grad_attrs[] = { ATTR_TO(LinearAttrs), { 0 } };
/* clang-format on */

static Own linear_owns(const Lang *l, int in, Type *t, Err *e) {
    const LinearAttrs *a = l->attrs;
    const Type *x = input_type(l, 0);
    int64_t out = a->out;
    if (in == 2 && !a->bias) return OWN_NO;
    if (in == 2 && l->in[1] != NO_ID) out = input_type(l, 1)->dim[0];
    if (x->rank < 1) {
        err_at(e, l->loc, "'x' is a scalar, want one dimension or more");
        return OWN_FAILED;
    }
    if (out < 1) {
        err_at(e, l->loc, "'out' is %lld, want 1 or more", (long long)out);
        return OWN_FAILED;
    }
    *t = in == 2 ? type1(F32, out) : type_of(F32, 2, (int64_t[]){out, type_last(x)});
    return OWN_YES;
}

/* Fails unless input 1 is a weight for rows of width `in`, giving rows of width `out`
 * (-1: any). */
static bool need_matrix(const Sig *s, int64_t in, int64_t out, Err *e) {
    const Type *w = &s->in[1];
    bool flat = w->rank == 2 || (w->rank == 4 && w->dim[2] == 1 && w->dim[3] == 1);
    if (flat && (in < 0 || w->dim[1] == in) && (out < 0 || w->dim[0] == out) &&
        dtype_mix(s->in[0].dtype, w->dtype))
        return true;
    const char *x = dtype_name(s->in[0].dtype);
    if (in >= 0)
        return shape_error(e, "'weight' is %s, want %s[out,%lld] or %s[out,%lld,1,1]",
                           type_name(w).s, x, (long long)in, x, (long long)in);
    return shape_error(e, "'weight' is %s, want %s[%lld,in] or %s[%lld,in,1,1]",
                       type_name(w).s, x, (long long)out, x, (long long)out);
}

static bool stored(Sig *s, Err *e) {
    return type_stored(((const LinearAttrs *)s->attrs)->to, s->in[0].dtype,
                       &s->out[0].dtype, e);
}

static bool linear_shape(Sig *s, Err *e) {
    const Type *x = &s->in[0];
    if (!need_float(s, 0, 1, e) || !need_matrix(s, type_last(x), -1, e)) return false;
    int64_t out = s->in[1].dim[0];
    s->out[0] = with_last(x, out);
    return stored(s, e) &&
           (s->n_in < 3 || s->in[2].rank < 0 ||
            need_weight(s, 2, x->dtype, type1(x->dtype, out), e)) &&
           add_fits(s, 3, e);
}

static bool linear_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    const Id x = n->in[0], w = n->in[1];
    const DType xt = type_at(g, x)->dtype, wt = type_at(g, w)->dtype;
    if (need[0]) {
        const LinearAttrs a = {.to = stored_as(xt, type_at(g, dy[0])->dtype)};
        dx[0] = graph_op(g, &op_linear_grad_x, &a, 2, (Id[]){dy[0], w}, e);
        if (dx[0] == NO_ID) return false;
    }
    if (need[1]) {
        const LinearAttrs a = {.to = stored_as(wt, xt)};
        Id dw = graph_op(g, &op_linear_grad_w, &a, 2, (Id[]){x, dy[0]}, e);
        dx[1] = add_view(g, dw, type_at(g, w), e);
        if (dx[1] == NO_ID) return false;
    }
    if (n->n_in > 2 && n->in[2] != NO_ID && need[2]) {
        dx[2] = add_reduce_to(g, dy[0], type_at(g, n->in[2]), e);
        if (dx[2] == NO_ID) return false;
    }
    if (n->n_in > 3 && n->in[3] != NO_ID && need[3])
        return (dx[3] = add_cast(g, dy[0], type_at(g, n->in[3])->dtype, e)) != NO_ID;
    return true;
}

static uint64_t linear_flops(const Sig *s) {
    return 2 * (uint64_t)type_count(&s->out[0]) * (uint64_t)type_last(&s->in[0]);
}

static const OpIn grad_x_in[] = {{"dy", 0}, {"weight", 0}, IN_ADD, {0}};
static bool grad_x_shape(Sig *s, Err *e) {
    const Type *dy = &s->in[0];
    if (!need_float(s, 0, 1, e) || !need_matrix(s, -1, type_last(dy), e)) return false;
    s->out[0] = with_last(dy, s->in[1].dim[1]);
    return stored(s, e) && add_fits(s, 2, e);
}

static const OpIn grad_w_in[] = {{"x", 0}, {"dy", 0}, {0}};
static bool grad_w_shape(Sig *s, Err *e) {
    const Type *x = &s->in[0], *dy = &s->in[1];
    if (!need_float(s, 0, 1, e) || !need_float(s, 1, 1, e)) return false;
    s->out[0] = type_of(x->dtype, 2, (int64_t[]){type_last(dy), type_last(x)});
    return stored(s, e) && need_weight(s, 1, x->dtype, with_last(x, type_last(dy)), e);
}
static uint64_t grad_w_flops(const Sig *s) {
    return 2 * (uint64_t)type_count(&s->in[0]) * (uint64_t)type_last(&s->in[1]);
}

/* clang-format off */
const Op op_linear = {
    .name = "linear",
    .doc = "y[.., o] = sum_i x[.., i] weight[o, i] + bias[o] + add[.., o]; the weight is [out,in] or [out,in,1,1]",
    .example = "input %x : f64[2,3,4]\n"
               "input %w : f64[5,4,1,1]\n"
               "input %b : f64[5]\n"
               "input %a : f64[2,3,5]\n"
               "%y = linear %x, %w, %b, %a : f64[2,3,5]\n"
               "output %y\n",
    .in = linear_in, .n_out = 1, .flags = OP_LOW,
    .attrs = linear_attrs, .attrs_size = sizeof(LinearAttrs),
    .owns = linear_owns, .shape = linear_shape, .grad = linear_grad, .flops = linear_flops,
    .inplace = 8, .cpu = cpu_linear, .cuda = cuda_linear,
};

const Op op_linear_grad_x = {
    .name = "linear_grad_x",
    .doc = "dx[.., i] = sum_o dy[.., o] weight[o, i] + add[.., i]; gradients of gradients are not taken",
    .example = "input %dy : f64[2,3,5]\n"
               "input %w : f64[5,4,1,1]\n"
               "input %a : f64[2,3,4]\n"
               "%dx = linear_grad_x %dy, %w, %a : f64[2,3,4]\n"
               "output %dx\n",
    .in = grad_x_in, .n_out = 1, .flags = OP_LOW | OP_NO_GRAD,
    .attrs = grad_attrs, .attrs_size = sizeof(LinearAttrs),
    .shape = grad_x_shape, .flops = linear_flops, .inplace = 4,
    .cpu = cpu_linear_grad_x, .cuda = cuda_linear_grad_x,
};

const Op op_linear_grad_w = {
    .name = "linear_grad_w",
    .doc = "dw[o, i] = sum over rows of dy[.., o] x[.., i]; gradients of gradients are not taken",
    .example = "input %x : f64[2,3,4]\n"
               "input %dy : f64[2,3,5]\n"
               "%dw = linear_grad_w %x, %dy : f64[5,4]\n"
               "output %dw\n",
    .in = grad_w_in, .n_out = 1, .flags = OP_LOW | OP_NO_GRAD,
    .attrs = grad_attrs, .attrs_size = sizeof(LinearAttrs),
    .shape = grad_w_shape, .flops = grad_w_flops, .cpu = cpu_linear_grad_w, .cuda = cuda_linear_grad_w,
};
/* clang-format on */
