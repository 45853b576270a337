/* Scaled dot-product attention. All dimensions between the first and the last are tokens:
 * pixels need no reshaping. */
#include "ops/heavy.h"

enum {
    WIDEST = 1 << 16
}; /* channels of a head: the kernels keep a few rows in scratch */

/* clang-format off */
static const OpIn attention_in[] = { { "q", 0 }, { "k", 0 }, { "v", 0 }, { 0 } };
static const OpIn grad_in[] = {
    { "q", 0 }, { "k", 0 }, { "v", 0 }, { "y", 0 }, { "lse", IN_WIDE }, { "dy", 0 }, { 0 }
};
static const char *const attention_outs[] = { "y", "lse", NULL };
static const char *const grad_outs[] = { "dq", "dk", "dv", NULL };
static const Attr attention_attrs[] = {
    { "heads", 'i', offsetof(AttentionAttrs, heads), ATTR_REQUIRED, 0, NULL, "independent parts of the last dimension" },
    { "causal", 'b', offsetof(AttentionAttrs, causal), 0, 0, NULL, "token i sees tokens 0 ... i only" },
    { 0 }
};
/* clang-format on */

/* Checks q, k, v; the type of the log-sum-exp. */
static bool operands(const Sig *s, Type *lse, Err *e) {
    const AttentionAttrs *a = s->attrs;
    const Type *q = &s->in[0], *k = &s->in[1];
    for (int i = 0; i < 3; i++)
        if (!need_float(s, i, 2, e)) return false;
    if (a->heads < 1 || type_last(q) % a->heads)
        return shape_error(
            e, "'heads' must divide the channels: %lld does not divide %lld",
            (long long)a->heads, (long long)type_last(q));
    if (type_last(q) / a->heads > WIDEST)
        return shape_error(e, "a head has %lld channels, want at most %d",
                           (long long)(type_last(q) / a->heads), WIDEST);
    if (!dtype_mix(q->dtype, k->dtype) || k->dim[0] != q->dim[0] ||
        type_last(k) != type_last(q))
        return shape_error(e, "'k' is %s, want %s[%lld,..,%lld]", type_name(k).s,
                           dtype_name(q->dtype), (long long)q->dim[0],
                           (long long)type_last(q));
    if (q->dim[0] < 1 || type_count(k) < 1)
        return shape_error(e, "'q' is %s and 'k' %s, want at least one token",
                           type_name(q).s, type_name(k).s);
    int64_t n = type_rows(q) / q->dim[0];
    *lse = type_of(dtype_wide(q->dtype), 3, (int64_t[]){q->dim[0], a->heads, n});
    return need_weight(s, 2, q->dtype, *k, e);
}

static bool attention_shape(Sig *s, Err *e) {
    s->out[0] = s->in[0];
    return operands(s, &s->out[1], e);
}
static bool grad_shape(Sig *s, Err *e) {
    Type lse;
    for (int i = 0; i < 3; i++) s->out[i] = s->in[i];
    const DType t = s->in[0].dtype;
    return operands(s, &lse, e) && need_weight(s, 3, t, s->in[0], e) &&
           need_type(s, 4, lse, e) && need_weight(s, 5, t, s->in[0], e);
}

static bool attention_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                           Id *dx, Err *e) {
    if (dy[0] == NO_ID) return true; /* lse is for the gradient only */
    Id in[] = {n->in[0], n->in[1], n->in[2], n->out[0], n->out[1], dy[0]};
    Node *d = graph_add(g, &op_attention_grad, n->attrs, 6, in, e);
    if (!d) return false;
    for (int i = 0; i < 3; i++)
        if (need[i]) dx[i] = d->out[i];
    return true;
}

/* Two products of n x m x d per head; a causal one needs half of them. */
static uint64_t flops(const Sig *s, uint64_t products) {
    const AttentionAttrs *a = s->attrs;
    AttentionSize z = attention_size(&s->in[0], &s->in[1], a->heads);
    uint64_t all = 2 * products * (uint64_t)type_count(&s->in[0]) * (uint64_t)z.m;
    return a->causal ? all / 2 : all;
}
static uint64_t attention_flops(const Sig *s) {
    return flops(s, 2);
}
static uint64_t grad_flops(const Sig *s) {
    return flops(s, 5);
}

/* clang-format off */
const Op op_attention = {
    .name = "attention",
    .doc = "per sample and head: y = softmax(q k^T / sqrt(d)) v, d = channels / heads; lse[i] = ln sum_j exp(q_i k_j / "
           "sqrt(d)) is an output for the gradient only",
    .example = "input %q : f64[2,3,2,6]\n"
               "input %k : f64[2,5,6]\n"
               "input %v : f64[2,5,6]\n"
               "%y, %lse = attention %q, %k, %v {heads=2, causal=false} : f64[2,3,2,6], f64[2,2,6]\n"
               "output %y\n",
    .in = attention_in, .n_out = 2, .outs = attention_outs, .flags = OP_LOW,
    .attrs = attention_attrs, .attrs_size = sizeof(AttentionAttrs),
    .shape = attention_shape, .grad = attention_grad, .flops = attention_flops,
    .cpu = cpu_attention,
    .cuda = cuda_attention,
};

const Op op_attention_grad = {
    .name = "attention_grad",
    .doc = "p = exp(q k^T / sqrt(d) - lse), D = rowsum(dy * y), ds = p * (dy v^T - D) / sqrt(d): dq = ds k, dk = ds^T q, "
           "dv = p^T dy; gradients of gradients are not taken",
    .example = "input %q : f64[2,3,6]\n"
               "input %k : f64[2,3,6]\n"
               "input %v : f64[2,3,6]\n"
               "input %y : f64[2,3,6]\n"
               "input %lse : f64[2,2,3]\n"
               "input %dy : f64[2,3,6]\n"
               "%dq, %dk, %dv = attention_grad %q, %k, %v, %y, %lse, %dy {heads=2, causal=true} : f64[2,3,6], f64[2,3,6], f64[2,3,6]\n"
               "output %dq\n",
    .in = grad_in, .n_out = 3, .outs = grad_outs, .flags = OP_LOW | OP_NO_GRAD,
    .attrs = attention_attrs, .attrs_size = sizeof(AttentionAttrs),
    .shape = grad_shape, .flops = grad_flops, .cpu = cpu_attention_grad, .cuda = cuda_attention_grad,
};
/* clang-format on */
