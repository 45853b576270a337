/* Rows that add up: sums and means over axes, standard deviation, running products, linear
 * interpolation in a table, the norm over many tensors and the test for finite numbers.
 * f32 is accumulated in f64 in fixed blocks: any number of threads gives the same bits.
 * Sums over halves are f32. */
#include "ops/ops.h"

/* ---- over: which axes ---- */

enum { OVER_SAMPLE, OVER_ALL };
static const char *const over_words[] = {"sample", "all", NULL};

/* Words and negative axes to a rising list of axes. The axis of slices is none of them, and
 * the others keep their places beside it. */
static bool over_resolve(Lang *l, Err *e) {
    IntList *over = &((ReduceAttrs *)l->attrs)->over, axes = {0};
    int whole = type_at(l->g, l->in[0])->rank, rank = whole;
    bool cut = l->slices > 0 && l->slices <= whole;
    unsigned set = 0;
    if (cut) {
        rank--;
        ((ReduceAttrs *)l->attrs)->keep = true;
    }
    for (int i = 0; i < over->n; i++) {
        int axis;
        if (over->v[i] == -LIST_WORD - OVER_ALL) {
            set = (1u << rank) - 1;
        } else if (over->v[i] == -LIST_WORD - OVER_SAMPLE) {
            set |= ((1u << rank) - 1) & ~1u;
        } else {
            Err why = {0};
            if (!shape_axis(over->v[i], rank, &axis, &why))
                return err_at(e, l->loc, "'over': got axis %lld, the value is %s",
                              (long long)over->v[i],
                              type_name(type_at(l->g, l->in[0])).s);
            set |= 1u << axis;
        }
    }
    for (int i = 0; i < rank; i++)
        if (set & 1u << i) axes.v[axes.n++] = i + (cut && i >= l->slices - 1);
    *over = axes;
    return true;
}

static bool reduce_shape(Sig *s, Err *e) {
    const ReduceAttrs *at = s->attrs;
    const Type *x = &s->in[0];
    unsigned set = 0;
    for (int i = 0; i < at->over.n; i++) {
        int64_t axis = at->over.v[i];
        if (axis < 0 || axis >= x->rank || set >> axis)
            return shape_error(e, "'over' must be rising axes of %s", type_name(x).s);
        set |= 1u << axis;
    }
    Type t = {.dtype = dtype_wide(x->dtype)};
    for (int i = 0; i < x->rank; i++) {
        if (!(set & 1u << i))
            t.dim[t.rank++] = x->dim[i];
        else if (at->keep)
            t.dim[t.rank++] = 1;
    }
    if (!dtype_is_float(x->dtype))
        return shape_error(e, "got %s, want floating numbers", type_name(x).s);
    s->out[0] = t;
    return true;
}

/* y of a reduction with the reduced axes kept as 1 */
static Type kept(const Type *x, const ReduceAttrs *at) {
    Type t = *x;
    for (int i = 0; i < at->over.n; i++) t.dim[at->over.v[i]] = 1;
    return t;
}

static double reduced_count(const Type *x, const ReduceAttrs *at) {
    double n = 1;
    for (int i = 0; i < at->over.n; i++) n *= (double)x->dim[at->over.v[i]];
    return n;
}

static uint64_t reduce_flops(const Sig *s) {
    return (uint64_t)type_count(&s->in[0]);
}

#define OVER                                                                           \
    .in = (const OpIn[]){{"x", 0}, {0}}, .n_out = 1,                                   \
    .attrs = (const Attr[]){{"over", 'l', offsetof(ReduceAttrs, over), 0,              \
                             -LIST_WORD - OVER_ALL, over_words,                        \
                             "axes, or sample: all but the first, or all"},            \
                            {"keep", 'b', offsetof(ReduceAttrs, keep), 0, 0, NULL,     \
                             "keep the axes as dimensions of 1"},                      \
                            {0}},                                                      \
    .attrs_size = sizeof(ReduceAttrs), .resolve = over_resolve, .shape = reduce_shape, \
    .flops = reduce_flops, .flags = OP_WIDE

/* ---- sum, mean ---- */

static Id spread(Graph *g, Id x, const Type *like, Err *e) {
    ShapeAttrs at = {dims_of(like)};
    return x == NO_ID ? NO_ID : graph_op(g, &op_broadcast, &at, 1, &x, e);
}

static bool sum_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                     Err *e) {
    (void)need;
    const Type *x = type_at(g, n->in[0]);
    Type t = kept(x, n->attrs);
    Id d = add_cast(g, dy[0], x->dtype, e);
    dx[0] = spread(g, add_view(g, d, &t, e), x, e);
    return dx[0] != NO_ID;
}

static bool mean_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    (void)need;
    const Type *x = type_at(g, n->in[0]);
    Type t = kept(x, n->attrs);
    Str f = {0};
    str_add(&f, "x0 / ");
    str_double(&f, reduced_count(x, n->attrs));
    Id part = add_formula(g, x->dtype, f.s, 1, dy, e);
    str_free(&f);
    dx[0] = spread(g, add_view(g, part, &t, e), x, e);
    return dx[0] != NO_ID;
}

const Op op_sum = {
    .name = "sum",
    .doc = "sum over axes",
    .example = "  input @x : f32[2,3,4]\n"
               "  %0 = sum @x {over=[0,2], keep=false} : f32[3]\n"
               "  output y = %0\n",
    OVER,
    .grad = sum_grad,
    .cpu = cpu_sum,
    .cuda = cuda_sum,
};

const Op op_mean = {
    .name = "mean",
    .doc = "mean over axes",
    .example = "  input @x : f32[2,3,4]\n"
               "  %0 = mean @x {over=[1,2], keep=true} : f32[2,1,1]\n"
               "  output y = %0\n",
    OVER,
    .grad = mean_grad,
    .cpu = cpu_mean,
    .cuda = cuda_mean,
};

/* ---- std ---- */

/* y = sqrt(sum (x - m)^2 / (n - 1));  dx = dy (x - m) / ((n - 1) y) */
static bool std_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                     Err *e) {
    (void)need;
    const Type *x = type_at(g, n->in[0]);
    Type t = kept(x, n->attrs);
    ReduceAttrs at = *(const ReduceAttrs *)n->attrs;
    at.keep = true;
    Id mean = graph_op(g, &op_mean, &at, 1, n->in, e);
    Id y = add_view(g, n->out[0], &t, e), d = add_view(g, dy[0], &t, e);
    Str f = {0};
    str_add(&f, "x0 * (x1 - x2) / (x3 * ");
    str_double(&f, reduced_count(x, n->attrs) - 1);
    str_add(&f, ")");
    dx[0] = add_formula(g, x->dtype, f.s, 4, (Id[]){d, n->in[0], mean, y}, e);
    str_free(&f);
    return dx[0] != NO_ID;
}

const Op op_std = {
    .name = "std",
    .doc = "standard deviation over axes, sqrt(sum (x - mean)^2 / (n - 1))",
    .example = "  input @x : f32[2,5]\n"
               "  %0 = std @x {over=[0,1], keep=false} : f32[]\n"
               "  output y = %0\n",
    OVER,
    .grad = std_grad,
    .cpu = cpu_std,
    .cuda = cuda_std,
};

/* ---- reduce_to ---- */

static bool reduce_to_shape(Sig *s, Err *e) {
    const IntList *l = &((const ShapeAttrs *)s->attrs)->shape;
    const Type *x = &s->in[0];
    if (l->n > x->rank)
        return shape_error(e, "%s to %d dimensions", type_name(x).s, l->n);
    Type t = {.dtype = dtype_wide(x->dtype), .rank = l->n};
    for (int i = 0; i < l->n; i++) {
        t.dim[i] = l->v[i];
        int64_t d = x->dim[x->rank - l->n + i];
        if (t.dim[i] != 1 && t.dim[i] != d)
            return shape_error(e, "dimension %d of 'shape' is %lld, want 1 or %lld", i,
                               (long long)t.dim[i], (long long)d);
    }
    s->out[0] = t;
    return true;
}

static bool reduce_to_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                           Id *dx, Err *e) {
    (void)need;
    const Type *x = type_at(g, n->in[0]);
    dx[0] = spread(g, add_cast(g, dy[0], x->dtype, e), x, e);
    return dx[0] != NO_ID;
}

const Op op_reduce_to = {
    .name = "reduce_to",
    .doc = "sum of x to `shape`, which broadcasts to x: the gradient of broadcasting",
    .example = "  input @x : f32[4,2,5,3]\n"
               "  %0 = reduce_to @x {shape=[2,1,3]} : f32[2,1,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_WIDE,
    .attrs = (const Attr[]){{"shape", 'l', offsetof(ShapeAttrs, shape), ATTR_IR,
                             __builtin_nan(""), NULL, "dimensions of the result"},
                            {0}},
    .attrs_size = sizeof(ShapeAttrs),
    .shape = reduce_to_shape,
    .grad = reduce_to_grad,
    .flops = reduce_flops,
    .cpu = cpu_reduce_to,
    .cuda = cuda_reduce_to,
};

Id add_reduce_to(Graph *g, Id x, const Type *like, Err *e) {
    if (x == NO_ID) return NO_ID;
    if (!type_same_shape(type_at(g, x), like)) {
        ShapeAttrs at = {dims_of(like)};
        x = graph_op(g, &op_reduce_to, &at, 1, &x, e);
    }
    return add_cast(g, x, like->dtype, e);
}

/* ---- cumprod ---- */

static bool cumprod_shape(Sig *s, Err *e) {
    if (s->in[0].rank < 1 || !dtype_is_float(s->in[0].dtype))
        return shape_error(e, "got %s, want floating numbers along an axis",
                           type_name(&s->in[0]).s);
    s->out[0] = s->in[0];
    s->out[0].dtype = dtype_wide(s->in[0].dtype);
    return true;
}

static bool cumprod_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                         Id *dx, Err *e) {
    (void)need;
    dx[0] = graph_op(g, &op_cumprod_grad, NULL, 2, (Id[]){n->in[0], dy[0]}, e);
    return dx[0] != NO_ID;
}

const Op op_cumprod = {
    .name = "cumprod",
    .doc = "running product along the first axis: y(i) = x(0) x(1) ... x(i)",
    .example = "  input @x : f32[5,2]\n"
               "  %0 = cumprod @x : f32[5,2]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_WIDE,
    .shape = cumprod_shape,
    .grad = cumprod_grad,
    .cpu = cpu_cumprod,
    .cuda = cuda_cumprod,
};

static bool same_pair(Sig *s, Err *e) {
    if (!type_same_shape(&s->in[0], &s->in[1]) ||
        !dtype_mix(s->in[0].dtype, s->in[1].dtype))
        return shape_error(e, "%s and %s differ", type_name(&s->in[0]).s,
                           type_name(&s->in[1]).s);
    return cumprod_shape(s, e) && shape_same(s, e);
}

const Op op_cumprod_grad = {
    .name = "cumprod_grad",
    .doc =
        "dx(k) = sum over i >= k of dy(i) times the product of x(0) ... x(i) without "
        "x(k). Gradients of gradients are not formed: no gradient",
    .example = "  input @x : f32[5,2]\n"
               "  input @dy : f32[5,2]\n"
               "  %0 = cumprod_grad @x, @dy : f32[5,2]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"dy", 0}, {0}},
    .n_out = 1,
    .flags = OP_NO_GRAD,
    .shape = same_pair,
    .cpu = cpu_cumprod_grad,
    .cuda = cuda_cumprod_grad,
};

/* ---- interp ---- */

static bool interp_shape(Sig *s, Err *e) {
    if (s->in[0].rank != 1 || !dtype_is_float(s->in[0].dtype))
        return shape_error(e, "the table is %s, want a floating vector",
                           type_name(&s->in[0]).s);
    s->out[0] = s->in[1];
    s->out[0].dtype = dtype_wide(s->in[0].dtype);
    return true;
}

static bool interp_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    Node *k =
        graph_add(g, &op_interp_grad, NULL, 3, (Id[]){n->in[0], n->in[1], dy[0]}, e);
    if (!k) return false;
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = k->out[i];
    return true;
}

const Op op_interp = {
    .name = "interp",
    .doc = "table x read between its entries: with l = floor(at), f = at - l, "
           "y = x(l) (1 - f) + x(l + 1) f; l and l + 1 are kept inside the table",
    .example = "  input @x : f32[6]\n"
               "  input @at : f32[3]  \n"
               "  %0 = interp @x, @at : f32[3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"at", 0}, {0}},
    .n_out = 1,
    .flags = OP_WIDE,
    .shape = interp_shape,
    .grad = interp_grad,
    .cpu = cpu_interp,
    .cuda = cuda_interp,
};

static bool interp_grad_shape(Sig *s, Err *e) {
    (void)e;
    s->out[0] = s->in[0];
    s->out[1] = s->in[1];
    return true;
}

const Op op_interp_grad = {
    .name = "interp_grad",
    .doc = "dx: dy shared between the two entries read; dat = dy (x(l + 1) - x(l)). "
           "Gradients of gradients are not formed: no gradient",
    .example = "  input @x : f32[6]\n"
               "  input @at : f32[3]\n"
               "  input @dy : f32[3]\n"
               "  %0, %1 = interp_grad @x, @at, @dy : f32[6], f32[3]\n"
               "  output dx = %0\n"
               "  output dat = %1\n",
    .in = (const OpIn[]){{"x", 0}, {"at", 0}, {"dy", 0}, {0}},
    .n_out = 2,
    .outs = (const char *const[]){"dx", "dat"},
    .flags = OP_NO_GRAD,
    .shape = interp_grad_shape,
    .cpu = cpu_interp_grad,
    .cuda = cuda_interp_grad,
};

/* ---- over many tensors ---- */

static bool number_shape(Sig *s, Err *e) {
    for (int i = 0; i < s->n_in; i++)
        if (!dtype_is_float(s->in[i].dtype))
            return shape_error(e, "got %s, want floating numbers",
                               type_name(&s->in[i]).s);
    s->out[0] = type_scalar(F32);
    return true;
}

static bool total_shape(Sig *s, Err *e) {
    if (!number_shape(s, e)) return false;
    s->out[0] = type_scalar(F64);
    return true;
}

static uint64_t many_flops(const Sig *s) {
    uint64_t n = 0;
    for (int i = 0; i < s->n_in; i++) n += 2 * (uint64_t)type_count(&s->in[i]);
    return n;
}

const Op op_global_norm = {
    .name = "global_norm",
    .doc = "length of all values together, sqrt(sum x^2). The gradient's own norm: no "
           "gradient flows through it",
    .example = "  input @a : f32[2,3]\n"
               "  input @b : f32[4]\n"
               "  %0 = global_norm @a, @b : f32[]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", IN_VARIADIC}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_NO_GRAD | OP_WIDE,
    .shape = number_shape,
    .flops = many_flops,
    .cpu = cpu_global_norm,
    .cuda = cuda_global_norm,
};

const Op op_total = {
    .name = "total",
    .doc =
        "sum of all values together, in f64: what an optimizer's `total` adds up over "
        "the parameters. No gradient flows through an update",
    .example = "  input @a : f32[2,3]\n"
               "  input @b : f64[]\n"
               "  %0 = total @a, @b : f64[]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", IN_VARIADIC}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_NO_GRAD | OP_WIDE,
    .shape = total_shape,
    .flops = many_flops,
    .cpu = cpu_total,
    .cuda = cuda_total,
};

const Op op_finite = {
    .name = "finite",
    .doc = "1 if no value is NaN or infinite, else 0; a test, no gradient",
    .example = "  input @a : f32[2,3]\n"
               "  input @b : f32[4]\n"
               "  %0 = finite @a, @b : f32[]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", IN_VARIADIC}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_NO_GRAD | OP_WIDE,
    .shape = number_shape,
    .flops = many_flops,
    .cpu = cpu_finite,
    .cuda = cuda_finite,
};
