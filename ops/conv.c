/* Convolution over pixels, channels last: x[B,H,W,in], weight[out,in,k,k] in file order.
 *
 * The weight may also come as a matrix [out, in*k*k] (columns in file order): what an
 * adapter that makes a new weight hands over. */
#include "ops/heavy.h"

enum { MOST = 1 << 20 }; /* of stride and padding: keeps sizes far from overflow */

/* clang-format off */
static const OpIn conv_in[] = {
    { "x", 0 }, { "weight", IN_PARAM }, { "bias", IN_PARAM | IN_OPTIONAL }, IN_ADD, { 0 }
};
static const Attr conv_attrs[] = {
    { "out", 'i', offsetof(ConvAttrs, out), ATTR_YAML, 0, NULL, "channels of y; needed unless a weight is given" },
    { "bias", 'b', offsetof(ConvAttrs, bias), ATTR_YAML, 1, NULL, "whether it owns a bias; a value is the bias itself" },
    { "kernel", 'i', offsetof(ConvAttrs, kernel), ATTR_REQUIRED, 0, NULL, "side of the square window" },
    { "stride", 'i', offsetof(ConvAttrs, stride), 0, 1, NULL, "pixels from window to window" },
    { "pad", 'l', offsetof(ConvAttrs, pad), 0, 0, NULL, "zeros around x: one number, or left, right, top, bottom" },
    ATTR_TO(ConvAttrs),
    { 0 }
};
static const Attr grad_w_attrs[] = {
    { "kernel", 'i', offsetof(ConvAttrs, kernel), ATTR_REQUIRED, 0, NULL, "side of the square window" },
    { "stride", 'i', offsetof(ConvAttrs, stride), 0, 1, NULL, "pixels from window to window" },
    { "pad", 'l', offsetof(ConvAttrs, pad), 0, 0, NULL, "zeros around x: one number, or left, right, top, bottom" },
    ATTR_TO(ConvAttrs),
    { 0 }
};
static const Attr grad_x_attrs[] = {
    { "kernel", 'i', offsetof(ConvAttrs, kernel), ATTR_REQUIRED, 0, NULL, "side of the square window" },
    { "stride", 'i', offsetof(ConvAttrs, stride), 0, 1, NULL, "pixels from window to window" },
    { "pad", 'l', offsetof(ConvAttrs, pad), 0, 0, NULL, "zeros around x: one number, or left, right, top, bottom" },
    { "h", 'i', offsetof(ConvAttrs, h), ATTR_REQUIRED, 0, NULL, "height of x" },
    { "w", 'i', offsetof(ConvAttrs, w), ATTR_REQUIRED, 0, NULL, "width of x" },
    ATTR_TO(ConvAttrs),
    { 0 }
};
/* clang-format on */

static bool attrs_sane(const ConvAttrs *a, Err *e) {
    if (a->kernel < 1 || a->kernel > 255)
        return shape_error(e, "'kernel' is %lld, want 1 to 255", (long long)a->kernel);
    if (a->stride < 1 || a->stride > MOST)
        return shape_error(e, "'stride' is %lld, want 1 to %d", (long long)a->stride,
                           MOST);
    if (a->pad.n != 1 && a->pad.n != 4)
        return shape_error(e, "'pad' has %d numbers, want 1 or 4", a->pad.n);
    for (int i = 0; i < a->pad.n; i++)
        if (a->pad.v[i] < 0 || a->pad.v[i] > MOST)
            return shape_error(e, "'pad' is %lld, want 0 to %d", (long long)a->pad.v[i],
                               MOST);
    return true;
}

/* Windows along a side of n pixels with the padding before and after it; 0: none. */
static int64_t windows(int64_t n, int64_t before, int64_t after, const ConvAttrs *a) {
    int64_t room = n + before + after - a->kernel;
    return room < 0 ? 0 : room / a->stride + 1;
}
/* y's type for an x of b images, h * w pixels, and `out` channels. */
static bool conv_out(DType t, int64_t b, int64_t h, int64_t w, int64_t out,
                     const ConvAttrs *a, Type *y, Err *e) {
    const int64_t *p = a->pad.v;
    bool one = a->pad.n == 1;
    int64_t oh = windows(h, p[one ? 0 : 2], p[one ? 0 : 3], a);
    int64_t ow = windows(w, p[0], p[one ? 0 : 1], a);
    *y = type_of(t, 4, (int64_t[]){b, oh, ow, out});
    if (oh && ow) return true;
    return shape_error(e, "a window of %lld does not fit into %lld x %lld pixels",
                       (long long)a->kernel, (long long)h, (long long)w);
}

static Own conv_owns(const Lang *l, int in, Type *t, Err *e) {
    const ConvAttrs *a = l->attrs;
    const Type *x = input_type(l, 0);
    int64_t out = a->out, k = a->kernel;
    if (in == 2 && !a->bias) return OWN_NO;
    if (in == 2 && l->in[1] != NO_ID) out = input_type(l, 1)->dim[0];
    if (x->rank != 4) {
        err_at(e, l->loc, "'x' is %s, want [B,H,W,C]", type_name(x).s);
        return OWN_FAILED;
    }
    if (out < 1 || k < 1 || k > 255) {
        err_at(e, l->loc,
               "'out' is %lld and 'kernel' %lld, want 1 or more (kernel to 255)",
               (long long)out, (long long)k);
        return OWN_FAILED;
    }
    *t = in == 2 ? type1(F32, out) : type_of(F32, 4, (int64_t[]){out, x->dim[3], k, k});
    return OWN_YES;
}

/* Fails unless input 1 is a weight of `in` channels (-1: any) and `out` channels (-1). */
static bool need_kernel(const Sig *s, int64_t in, int64_t out, Err *e) {
    const ConvAttrs *a = s->attrs;
    const Type *w = &s->in[1];
    int64_t k = a->kernel, fan = in * k * k;
    bool good = false;
    if (w->rank == 4)
        good = (in < 0 || w->dim[1] == in) && w->dim[2] == k && w->dim[3] == k;
    else if (w->rank == 2)
        good = in < 0 ? w->dim[1] % (k * k) == 0 : w->dim[1] == fan;
    if (good && (out < 0 || w->dim[0] == out) && dtype_mix(s->in[0].dtype, w->dtype))
        return true;
    const char *dt = dtype_name(s->in[0].dtype);
    if (in >= 0)
        return shape_error(e, "'weight' is %s, want %s[out,%lld,%lld,%lld]",
                           type_name(w).s, dt, (long long)in, (long long)k,
                           (long long)k);
    return shape_error(e, "'weight' is %s, want %s[%lld,in,%lld,%lld]", type_name(w).s,
                       dt, (long long)out, (long long)k, (long long)k);
}

static bool stored(Sig *s, Err *e) {
    return type_stored(((const ConvAttrs *)s->attrs)->to, s->in[0].dtype,
                       &s->out[0].dtype, e);
}

static bool conv_shape(Sig *s, Err *e) {
    const ConvAttrs *a = s->attrs;
    const Type *x = &s->in[0];
    if (!attrs_sane(a, e) || !need_float(s, 0, 1, e)) return false;
    if (x->rank != 4)
        return shape_error(e, "'x' is %s, want [B,H,W,C]", type_name(x).s);
    if (!need_kernel(s, x->dim[3], -1, e)) return false;
    int64_t out = s->in[1].dim[0];
    if (s->n_in > 2 && s->in[2].rank >= 0 &&
        !need_weight(s, 2, x->dtype, type1(x->dtype, out), e))
        return false;
    return conv_out(x->dtype, x->dim[0], x->dim[1], x->dim[2], out, a, &s->out[0], e) &&
           stored(s, e) && add_fits(s, 3, e);
}

static bool conv_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    ConvAttrs a = *(const ConvAttrs *)n->attrs;
    const Id x = n->in[0], w = n->in[1];
    const DType xt = type_at(g, x)->dtype, wt = type_at(g, w)->dtype;
    if (need[0]) {
        a.to = stored_as(xt, type_at(g, dy[0])->dtype);
        a.h = type_at(g, x)->dim[1], a.w = type_at(g, x)->dim[2];
        dx[0] = graph_op(g, &op_conv2d_grad_x, &a, 2, (Id[]){dy[0], w}, e);
        if (dx[0] == NO_ID) return false;
    }
    if (need[1]) {
        a.to = stored_as(wt, xt);
        Id dw = graph_op(g, &op_conv2d_grad_w, &a, 2, (Id[]){x, dy[0]}, e);
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

/* Windows on the padding are counted as if they lay inside. */
static uint64_t conv_flops(const Sig *s) {
    return 2 * (uint64_t)type_count(&s->out[0]) *
           (uint64_t)(type_count(&s->in[1]) / s->in[1].dim[0]);
}

static const OpIn grad_x_in[] = {{"dy", 0}, {"weight", 0}, IN_ADD, {0}};
static bool grad_x_shape(Sig *s, Err *e) {
    const ConvAttrs *a = s->attrs;
    const Type *dy = &s->in[0];
    if (!attrs_sane(a, e) || !need_float(s, 0, 1, e)) return false;
    if (dy->rank != 4)
        return shape_error(e, "'dy' is %s, want [B,H,W,C]", type_name(dy).s);
    if (!need_kernel(s, -1, dy->dim[3], e)) return false;
    if (a->h < 1 || a->h > 1 << 24 || a->w < 1 || a->w > 1 << 24)
        return shape_error(e, "'h' is %lld and 'w' %lld, want 1 to 2^24",
                           (long long)a->h, (long long)a->w);
    const Type *w = &s->in[1];
    Type y;
    if (!conv_out(dy->dtype, dy->dim[0], a->h, a->w, dy->dim[3], a, &y, e))
        return false;
    int64_t in = w->rank == 4 ? w->dim[1] : w->dim[1] / (a->kernel * a->kernel);
    s->out[0] = type_of(dy->dtype, 4, (int64_t[]){dy->dim[0], a->h, a->w, in});
    return stored(s, e) && need_type(s, 0, y, e) && add_fits(s, 2, e);
}
static uint64_t grad_x_flops(const Sig *s) {
    return 2 * (uint64_t)type_count(&s->in[0]) *
           (uint64_t)(type_count(&s->in[1]) / s->in[1].dim[0]);
}

static const OpIn grad_w_in[] = {{"x", 0}, {"dy", 0}, {0}};
static bool grad_w_shape(Sig *s, Err *e) {
    const ConvAttrs *a = s->attrs;
    const Type *x = &s->in[0], *dy = &s->in[1];
    if (!attrs_sane(a, e) || !need_float(s, 0, 1, e) || !need_float(s, 1, 1, e))
        return false;
    if (x->rank != 4 || dy->rank != 4)
        return shape_error(e, "'x' is %s and 'dy' %s, want [B,H,W,C]", type_name(x).s,
                           type_name(dy).s);
    Type y;
    if (!conv_out(x->dtype, x->dim[0], x->dim[1], x->dim[2], dy->dim[3], a, &y, e))
        return false;
    s->out[0] =
        type_of(x->dtype, 4, (int64_t[]){dy->dim[3], x->dim[3], a->kernel, a->kernel});
    return stored(s, e) && need_weight(s, 1, x->dtype, y, e);
}
static uint64_t grad_w_flops(const Sig *s) {
    return 2 * (uint64_t)type_count(&s->in[1]) *
           (uint64_t)(type_count(&s->out[0]) / s->out[0].dim[0]);
}

/* clang-format off */
const Op op_conv2d = {
    .name = "conv2d",
    .doc = "y[b,i,j,o] = bias[o] + add[b,i,j,o] + sum over c,u,v of x[b, i*stride+u-top, j*stride+v-left, c] weight[o,c,u,v]; "
           "zeros stand outside of x; the weight is [out,in,k,k] or a matrix [out,in*k*k]",
    .example = "input %x : f64[2,5,4,3]\n"
               "input %w : f64[2,3,3,3]\n"
               "input %b : f64[2]\n"
               "input %a : f64[2,3,2,2]\n"
               "%y = conv2d %x, %w, %b, %a {kernel=3, stride=2, pad=[1,0,1,1]} : f64[2,3,2,2]\n"
               "output %y\n",
    .in = conv_in, .n_out = 1, .flags = OP_LOW,
    .attrs = conv_attrs, .attrs_size = sizeof(ConvAttrs),
    .owns = conv_owns, .shape = conv_shape, .grad = conv_grad, .flops = conv_flops,
    .inplace = 8, .cpu = cpu_conv2d, .cuda = cuda_conv2d,
};

const Op op_conv2d_grad_x = {
    .name = "conv2d_grad_x",
    .doc = "dx[b,p,q,c] = sum over the windows i,j and places u,v of them that cover p,q, and o, of "
           "dy[b,i,j,o] weight[o,c,u,v], + add[b,p,q,c]; gradients of gradients are not taken",
    .example = "input %dy : f64[2,3,2,2]\n"
               "input %w : f64[2,3,3,3]\n"
               "input %a : f64[2,5,4,3]\n"
               "%dx = conv2d_grad_x %dy, %w, %a {kernel=3, stride=2, pad=[1,0,1,1], h=5, w=4} : f64[2,5,4,3]\n"
               "output %dx\n",
    .in = grad_x_in, .n_out = 1, .flags = OP_LOW | OP_NO_GRAD,
    .attrs = grad_x_attrs, .attrs_size = sizeof(ConvAttrs),
    .shape = grad_x_shape, .flops = grad_x_flops, .inplace = 4,
    .cpu = cpu_conv2d_grad_x,
    .cuda = cuda_conv2d_grad_x,
};

const Op op_conv2d_grad_w = {
    .name = "conv2d_grad_w",
    .doc = "dw[o,c,u,v] = sum over b,i,j of dy[b,i,j,o] x[b, i*stride+u-top, j*stride+v-left, c]; "
           "gradients of gradients are not taken",
    .example = "input %x : f64[2,5,4,3]\n"
               "input %dy : f64[2,3,2,2]\n"
               "%dw = conv2d_grad_w %x, %dy {kernel=3, stride=2, pad=[1,0,1,1]} : f64[2,3,3,3]\n"
               "output %dw\n",
    .in = grad_w_in, .n_out = 1, .flags = OP_LOW | OP_NO_GRAD,
    .attrs = grad_w_attrs, .attrs_size = sizeof(ConvAttrs),
    .shape = grad_w_shape, .flops = grad_w_flops, .cpu = cpu_conv2d_grad_w, .cuda = cuda_conv2d_grad_w,
};
/* clang-format on */
