/* Normalisation: over groups of channels and all pixels of a sample (group_norm), over the
 * last dimension (layer_norm). The statistics are outputs: the gradient reads them. */
#include "kernels/epilogue.h"
#include "ops/heavy.h"

/* clang-format off */
#define IN_RESIDUAL { "residual", IN_OPTIONAL | IN_IR }
static const OpIn norm_in[] = {
    { "x", 0 }, { "weight", IN_PARAM }, { "bias", IN_PARAM }, { 0 }
};
static const OpIn grad_in[] = {
    { "x", 0 }, { "weight", 0 }, { "mean", IN_WIDE }, { "rstd", IN_WIDE }, { "dy", 0 }, IN_RESIDUAL, { 0 }
};
static const OpIn group_grad_in[] = {
    { "x", 0 }, { "weight", 0 }, { "mean", IN_WIDE }, { "rstd", IN_WIDE }, { "dy", 0 }, { "bias", IN_OPTIONAL }, IN_RESIDUAL, { 0 }
};
static const char *const norm_outs[] = { "y", "mean", "rstd", NULL };
static const char *const grad_outs[] = { "dx", "dweight", "dbias", NULL };
static const Attr group_attrs[] = {
    { "groups", 'i', offsetof(NormAttrs, groups), 0, 32, NULL, "groups of neighbouring channels" },
    { "eps", 'f', offsetof(NormAttrs, eps), ATTR_REQUIRED, 0, NULL, "added to the variance" },
    { "f", 's', offsetof(NormAttrs, f), ATTR_IR, 0, NULL, "formula over x0, the normalised value, that makes y of it" },
    { 0 }
};
static const Attr layer_attrs[] = {
    { "eps", 'f', offsetof(NormAttrs, eps), 0, 1e-5, NULL, "added to the variance" },
    { 0 }
};
static const Attr group_grad_attrs[] = {
    { "groups", 'i', offsetof(NormAttrs, groups), 0, 32, NULL, "groups of neighbouring channels" },
    { "params", 'b', offsetof(NormAttrs, params), 0, 0, NULL, "also the gradients of weight and bias" },
    { "f", 's', offsetof(NormAttrs, f), ATTR_IR, 0, NULL, "formula over x0, the normalised value, and x1 = dy: takes dy's place; needs bias" },
    { 0 }
};
static const Attr layer_grad_attrs[] = {
    { "params", 'b', offsetof(NormAttrs, params), 0, 0, NULL, "also the gradients of weight and bias" },
    { 0 }
};
/* clang-format on */

static Own norm_owns(const Lang *l, int in, Type *t, Err *e) {
    const Type *x = input_type(l, 0);
    (void)in;
    if (x->rank < 1) {
        err_at(e, l->loc, "'x' is a scalar, want one dimension or more");
        return OWN_FAILED;
    }
    *t = type1(F32, type_last(x));
    return OWN_YES;
}

/* Type of mean and rstd of a group norm of x: never a half. */
static bool group_stats(const Type *x, const NormAttrs *a, Type *stats, Err *e) {
    if (a->groups < 1 || type_last(x) % a->groups)
        return shape_error(
            e, "'groups' must divide the channels: %lld does not divide %lld",
            (long long)a->groups, (long long)type_last(x));
    *stats = type_of(dtype_wide(x->dtype), 2, (int64_t[]){x->dim[0], a->groups});
    return true;
}
static Type layer_stats(const Type *x) {
    return type_of(dtype_wide(x->dtype), x->rank - 1, x->dim);
}

static bool norm_shape(Sig *s, const Type *stats, Err *e) {
    const Type *x = &s->in[0];
    const double eps = ((const NormAttrs *)s->attrs)->eps;
    if (!(eps >= 0)) return shape_error(e, "'eps' is %g, want 0 or more", eps);
    s->out[0] = *x, s->out[1] = s->out[2] = *stats;
    Type c = type1(x->dtype, type_last(x));
    return need_weight(s, 1, x->dtype, c, e) && need_weight(s, 2, x->dtype, c, e);
}
/* The formula behind the norm, over n_var variables. */
static bool formula_fits(const Sig *s, int n_var, Err *e) {
    Arena *a = arena_new();
    Program *p;
    bool ok = epilogue_prepare(a, ((const NormAttrs *)s->attrs)->f, n_var, &p, e);
    arena_free(a);
    return ok;
}
static bool group_shape(Sig *s, Err *e) {
    Type stats;
    return formula_fits(s, 1, e) && need_float(s, 0, 2, e) &&
           group_stats(&s->in[0], s->attrs, &stats, e) && norm_shape(s, &stats, e);
}
static bool layer_shape(Sig *s, Err *e) {
    if (!need_float(s, 0, 1, e)) return false;
    Type stats = layer_stats(&s->in[0]);
    return norm_shape(s, &stats, e);
}

static bool grad_shape(Sig *s, const Type *stats, Err *e) {
    const Type *x = &s->in[0];
    Type c = type1(x->dtype, type_last(x));
    s->n_out = ((const NormAttrs *)s->attrs)->params ? 3 : 1;
    s->out[0] = *x;
    if (s->n_out == 3) s->out[1] = s->out[2] = type1(stats->dtype, type_last(x));
    return need_weight(s, 1, x->dtype, c, e) && need_type(s, 2, *stats, e) &&
           need_type(s, 3, *stats, e) && need_weight(s, 4, x->dtype, *x, e);
}
/* What else is added to dx: input i, or absent. */
static bool residual_fits(const Sig *s, int i, Err *e) {
    return i >= s->n_in || s->in[i].rank < 0 ||
           need_weight(s, i, s->in[0].dtype, s->in[0], e);
}
static bool group_grad_shape(Sig *s, Err *e) {
    Type stats, c = type1(s->in[0].dtype, s->in[0].rank ? type_last(&s->in[0]) : 1);
    const bool f = ((const NormAttrs *)s->attrs)->f,
               bias = s->n_in > 5 && s->in[5].rank >= 0;
    if (f != bias)
        return shape_error(e, "bias is read by the formula 'f': want both or none");
    return formula_fits(s, 2, e) && need_float(s, 0, 2, e) &&
           group_stats(&s->in[0], s->attrs, &stats, e) && grad_shape(s, &stats, e) &&
           (!f || need_weight(s, 5, s->in[0].dtype, c, e)) && residual_fits(s, 6, e);
}
static bool layer_grad_shape(Sig *s, Err *e) {
    if (!need_float(s, 0, 1, e)) return false;
    Type stats = layer_stats(&s->in[0]);
    return grad_shape(s, &stats, e) && residual_fits(s, 5, e);
}

static bool norm_grad(Graph *g, const Op *op, const Node *n, Id dy, const bool *need,
                      Id *dx, Err *e) {
    NormAttrs a = *(const NormAttrs *)n->attrs;
    if (dy == NO_ID)
        return true; /* only the statistics were used; they are not differentiated */
    a.params = need[1] || need[2];
    Id in[] = {n->in[0], n->in[1], n->out[1], n->out[2], dy};
    Node *d = graph_add(g, op, &a, 5, in, e);
    if (!d) return false;
    for (int i = 0; i < d->n_out; i++) {
        if (!need[i]) continue;
        dx[i] = add_cast(g, d->out[i], type_at(g, n->in[i])->dtype, e);
        if (dx[i] == NO_ID) return false;
    }
    return true;
}
static bool group_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                       Err *e) {
    if (((const NormAttrs *)n->attrs)->f)
        return err_at(e, n->at.loc,
                      "group_norm with a formula has no gradient: fuse comes "
                      "after differentiate");
    return norm_grad(g, &op_group_norm_grad, n, dy[0], need, dx, e);
}
static bool layer_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                       Err *e) {
    return norm_grad(g, &op_layer_norm_grad, n, dy[0], need, dx, e);
}

static uint64_t norm_flops(const Sig *s) {
    return 8 * (uint64_t)type_count(&s->in[0]);
}
static uint64_t grad_flops(const Sig *s) {
    return 14 * (uint64_t)type_count(&s->in[0]);
}

/* clang-format off */
const Op op_group_norm = {
    .name = "group_norm",
    .doc = "y = (x - mean) * rstd * weight + bias, mean and rstd = 1/sqrt(variance + eps) over the pixels and the "
           "channels of a group of one sample; mean and rstd, f32 beside halves, are outputs for the gradient only",
    .example = "input %x : f64[2,3,2,6]\n"
               "input %w : f64[6]\n"
               "input %b : f64[6]\n"
               "%y, %mean, %rstd = group_norm %x, %w, %b {groups=3, eps=1e-05} : f64[2,3,2,6], f64[2,3], f64[2,3]\n"
               "output %y\n",
    .in = norm_in, .n_out = 3, .outs = norm_outs,
    .attrs = group_attrs, .attrs_size = sizeof(NormAttrs),
    .owns = norm_owns, .shape = group_shape, .grad = group_grad, .flops = norm_flops,
    .cpu = cpu_group_norm, .cuda = cuda_group_norm,
};

const Op op_group_norm_grad = {
    .name = "group_norm_grad",
    .doc = "h = (x - mean) * rstd, d = dy * weight: dx = rstd * (d - average(d) - h * average(d * h)) over each group; "
           "dweight = sum of dy * h, dbias = sum of dy, if params; what else dx is the sum of: residual; gradients of gradients are not taken",
    .example = "input %x : f64[2,3,2,6]\n"
               "input %w : f64[6]\n"
               "input %mean : f64[2,3]\n"
               "input %rstd : f64[2,3]\n"
               "input %dy : f64[2,3,2,6]\n"
               "%dx, %dw, %db = group_norm_grad %x, %w, %mean, %rstd, %dy {groups=3, params=true} : f64[2,3,2,6], f64[6], f64[6]\n"
               "output %dx\n",
    .in = group_grad_in, .n_out = -1, .outs = grad_outs, .flags = OP_NO_GRAD,
    .attrs = group_grad_attrs, .attrs_size = sizeof(NormAttrs),
    .shape = group_grad_shape, .flops = grad_flops, .cpu = cpu_group_norm_grad, .cuda = cuda_group_norm_grad,
};

const Op op_layer_norm = {
    .name = "layer_norm",
    .doc = "y = (x - mean) * rstd * weight + bias, mean and rstd = 1/sqrt(variance + eps) over the last dimension; "
           "mean and rstd are outputs for the gradient only",
    .example = "input %x : f64[2,3,5]\n"
               "input %w : f64[5]\n"
               "input %b : f64[5]\n"
               "%y, %mean, %rstd = layer_norm %x, %w, %b {eps=1e-05} : f64[2,3,5], f64[2,3], f64[2,3]\n"
               "output %y\n",
    .in = norm_in, .n_out = 3, .outs = norm_outs,
    .attrs = layer_attrs, .attrs_size = sizeof(NormAttrs),
    .owns = norm_owns, .shape = layer_shape, .grad = layer_grad, .flops = norm_flops,
    .cpu = cpu_layer_norm, .cuda = cuda_layer_norm,
};

const Op op_layer_norm_grad = {
    .name = "layer_norm_grad",
    .doc = "as group_norm_grad, over the last dimension; gradients of gradients are not taken",
    .example = "input %x : f64[2,3,5]\n"
               "input %w : f64[5]\n"
               "input %mean : f64[2,3]\n"
               "input %rstd : f64[2,3]\n"
               "input %dy : f64[2,3,5]\n"
               "%dx, %dw, %db = layer_norm_grad %x, %w, %mean, %rstd, %dy {params=true} : f64[2,3,5], f64[5], f64[5]\n"
               "output %dx\n",
    .in = grad_in, .n_out = -1, .outs = grad_outs, .flags = OP_NO_GRAD,
    .attrs = layer_grad_attrs, .attrs_size = sizeof(NormAttrs),
    .shape = layer_grad_shape, .flops = grad_flops, .cpu = cpu_layer_norm_grad, .cuda = cuda_layer_norm_grad,
};
/* clang-format on */
