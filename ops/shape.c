/* Rows that move elements and compute nothing: views, casts, cuts, joins, transpositions.
 * A view has the bytes of its input under another type; the others copy. */
#include "ops/ops.h"

#include <string.h>

/* ---- shorthands of ops.h ---- */

Id add_cast(Graph *g, Id x, DType to, Err *e) {
    return x == NO_ID ? NO_ID : graph_cast(g, x, to, e);
}

Id add_view(Graph *g, Id x, const Type *shape, Err *e) {
    return x == NO_ID ? NO_ID : graph_view(g, x, *shape, e);
}

/* ---- view ---- */

/* The attribute `shape` as dimensions of *t. */
static bool list_to_type(const IntList *l, Type *t, Err *e) {
    if (l->n > MAX_RANK)
        return shape_error(e, "got %d dimensions, want at most %d", l->n, MAX_RANK);
    uint64_t count = 1;
    t->rank = l->n;
    for (int i = 0; i < l->n; i++) {
        t->dim[i] = l->v[i];
        bool small = l->v[i] >= 1 && mul_u64(count, (uint64_t)l->v[i], &count) &&
                     count < (uint64_t)1 << 47;
        if (!small)
            return shape_error(e, "dimension %d of 'shape' is %lld", i,
                               (long long)l->v[i]);
    }
    return true;
}

static bool view_shape(Sig *s, Err *e) {
    Type t = s->in[0];
    if (!list_to_type(&((const ShapeAttrs *)s->attrs)->shape, &t, e)) return false;
    if (type_count(&t) != type_count(&s->in[0]))
        return shape_error(e, "%s cannot be viewed as %s: %lld and %lld elements",
                           type_name(&s->in[0]).s, type_name(&t).s,
                           (long long)type_count(&s->in[0]), (long long)type_count(&t));
    s->out[0] = t;
    return true;
}

static bool view_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    (void)need;
    dx[0] = add_view(g, dy[0], type_at(g, n->in[0]), e);
    return dx[0] != NO_ID;
}

const Op op_view = {
    .name = "view",
    .doc = "x with another shape of the same number of elements; no copy",
    .example = "  input @x : f32[2,6]\n"
               "  %0 = view @x {shape=[3,4]} : f32[3,4]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_VIEW,
    .attrs = (const Attr[]){{"shape", 'l', offsetof(ShapeAttrs, shape), ATTR_REQUIRED,
                             __builtin_nan(""), NULL, "dimensions of the result"},
                            {0}},
    .attrs_size = sizeof(ShapeAttrs),
    .shape = view_shape,
    .grad = view_grad,
    .cpu = cpu_view,
};

/* ---- detach ---- */

const Op op_detach = {
    .name = "detach",
    .doc = "x, a constant for the gradient: none flows back through it",
    .example = "  input @x : f32[2,3]\n"
               "  %0 = detach @x : f32[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_VIEW | OP_NO_GRAD,
    .shape = shape_same,
    .cpu = cpu_detach,
};

/* ---- flatten_chunks: a view that only YAML knows ---- */

static bool flatten_resolve(Lang *l, Err *e) {
    Type t = *type_at(l->g, l->in[0]);
    if (t.rank < 2)
        return err_at(e, l->loc, "flatten_chunks: got %s, want [batch, chunks, ...]",
                      type_name(&t).s);
    int64_t rows = t.dim[0] * t.dim[1];
    memmove(t.dim + 1, t.dim + 2, (size_t)(t.rank - 2) * sizeof *t.dim);
    t.dim[0] = rows;
    t.rank--;
    l->pass_on = graph_view(l->g, l->in[0], t, e);
    if (l->pass_on == NO_ID) return false;
    l->g->value[l->pass_on]->batch = true;
    return true;
}

const Op op_flatten_chunks = {
    .name = "flatten_chunks",
    .doc = "[B, N, ...] as [B*N, ...]: chunks of text become samples; a view",
    .example = "rows: {op: flatten_chunks, x: ids}",
    .in = (const OpIn[]){{"x", IN_INDEX}, {0}},
    .n_out = 1,
    .flags = OP_YAML_ONLY | OP_NO_GRAD,
    .resolve = flatten_resolve,
    .shape = shape_same,
};

/* ---- cast ---- */

static bool cast_shape(Sig *s, Err *e) {
    (void)e;
    s->out[0] = s->in[0];
    s->out[0].dtype = ((const CastAttrs *)s->attrs)->to;
    return true;
}

static bool cast_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    (void)need;
    dx[0] = add_cast(g, dy[0], type_at(g, n->in[0])->dtype, e);
    return dx[0] != NO_ID;
}

const Op op_cast = {
    .name = "cast",
    .doc = "x in another element type, rounded to nearest; floats to integers are cut",
    .example = "  input @x : f32[2,3]\n"
               "  %0 = cast @x {to=f64} : f64[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR,
    .attrs = (const Attr[]){{"to", 'd', offsetof(CastAttrs, to), ATTR_IR, F32, NULL,
                             "type of the result"},
                            {0}},
    .attrs_size = sizeof(CastAttrs),
    .shape = cast_shape,
    .grad = cast_grad,
    .inplace = 1,
    .cpu = cpu_cast,
    .cuda = cuda_cast,
};

/* ---- concat, slice, pad, part ---- */

static Id add_slice(Graph *g, Id x, int64_t axis, int64_t from, int64_t count, Err *e) {
    SliceAttrs at = {axis, from, count};
    return x == NO_ID ? NO_ID : graph_op(g, &op_slice, &at, 1, &x, e);
}

static bool concat_shape(Sig *s, Err *e) {
    int axis;
    if (!s->n_in) return shape_error(e, "got no values to join");
    Type t = s->in[0];
    if (!shape_axis(((const AxisAttrs *)s->attrs)->axis, t.rank, &axis, e))
        return false;
    for (int i = 1; i < s->n_in; i++) {
        Type other = s->in[i];
        if (other.rank == t.rank) other.dim[axis] = t.dim[axis];
        if (dtype_mix(other.dtype, t.dtype)) other.dtype = t.dtype;
        if (!type_equal(&other, &t))
            return shape_error(e, "%s and %s differ in more than axis %d",
                               type_name(&s->in[0]).s, type_name(&s->in[i]).s, axis);
    }
    for (int i = 1; i < s->n_in; i++) t.dim[axis] += s->in[i].dim[axis];
    s->out[0] = t;
    return true;
}

static bool concat_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    int axis;
    int64_t from = 0, which = ((const AxisAttrs *)n->attrs)->axis;
    if (!shape_axis(which, type_at(g, dy[0])->rank, &axis, e)) return false;
    for (int i = 0; i < n->n_in; i++) {
        int64_t count = type_at(g, n->in[i])->dim[axis];
        DType t = type_at(g, n->in[i])->dtype;
        if (need[i])
            dx[i] = add_cast(g, add_slice(g, dy[0], axis, from, count, e), t, e);
        if (need[i] && dx[i] == NO_ID) return false;
        from += count;
    }
    return true;
}

const Op op_concat = {
    .name = "concat",
    .doc =
        "the values behind each other along an axis (YAML: the last), in the type of "
        "the first",
    .example = "  input @a : f32[2,3]\n"
               "  input @b : f32[2,4]\n"
               "  %0 = concat @a, @b {axis=-1} : f32[2,7]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", IN_VARIADIC}, {0}},
    .n_out = 1,
    .attrs = (const Attr[]){{"axis", 'i', offsetof(AxisAttrs, axis), ATTR_IR, -1, NULL,
                             "-1: the last"},
                            {0}},
    .attrs_size = sizeof(AxisAttrs),
    .shape = concat_shape,
    .grad = concat_grad,
    .cpu = cpu_concat,
    .cuda = cuda_concat,
};

static bool slice_shape(Sig *s, Err *e) {
    const SliceAttrs *at = s->attrs;
    Type t = s->in[0];
    int axis;
    if (!shape_axis(at->axis, t.rank, &axis, e)) return false;
    int64_t d = t.dim[axis];
    if (at->from < 0 || at->count < 1 || at->count > d || at->from > d - at->count)
        return shape_error(e, "elements %lld ... %lld of an axis of %lld",
                           (long long)at->from, (long long)(at->from + at->count - 1),
                           (long long)d);
    t.dim[axis] = at->count;
    s->out[0] = t;
    return true;
}

static bool slice_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                       Err *e) {
    (void)need;
    const SliceAttrs *at = n->attrs;
    const Type *t = type_at(g, n->in[0]);
    int axis;
    if (!shape_axis(at->axis, t->rank, &axis, e)) return false;
    PadAttrs pad = {axis, at->from, t->dim[axis] - at->from - at->count};
    dx[0] = graph_op(g, &op_pad, &pad, 1, dy, e);
    return dx[0] != NO_ID;
}

const Op op_slice = {
    .name = "slice",
    .doc = "elements from ... from+count-1 along an axis",
    .example = "  input @x : f32[2,5]\n"
               "  %0 = slice @x {axis=1, from=1, count=3} : f32[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR,
    .attrs = (const Attr[]){{"axis", 'i', offsetof(SliceAttrs, axis), ATTR_IR, -1, NULL,
                             "-1: the last"},
                            {"from", 'i', offsetof(SliceAttrs, from), ATTR_IR, 0, NULL,
                             "the first element"},
                            {"count", 'i', offsetof(SliceAttrs, count), ATTR_IR, 1,
                             NULL, "how many"},
                            {0}},
    .attrs_size = sizeof(SliceAttrs),
    .shape = slice_shape,
    .grad = slice_grad,
    .cpu = cpu_slice,
    .cuda = cuda_slice,
};

static bool pad_shape(Sig *s, Err *e) {
    const PadAttrs *at = s->attrs;
    Type t = s->in[0];
    int axis;
    if (!shape_axis(at->axis, t.rank, &axis, e)) return false;
    const int64_t most = (int64_t)1 << 40;
    if (at->before < 0 || at->after < 0 || at->before > most || at->after > most)
        return shape_error(e, "got %lld and %lld zeros, want 0 or more",
                           (long long)at->before, (long long)at->after);
    t.dim[axis] += at->before + at->after;
    s->out[0] = t;
    return true;
}

static bool pad_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                     Err *e) {
    (void)need;
    const PadAttrs *at = n->attrs;
    const Type *t = type_at(g, n->in[0]);
    int axis;
    if (!shape_axis(at->axis, t->rank, &axis, e)) return false;
    dx[0] = add_slice(g, dy[0], axis, at->before, t->dim[axis], e);
    return dx[0] != NO_ID;
}

const Op op_pad = {
    .name = "pad",
    .doc = "zeros before and after x along an axis",
    .example = "  input @x : f32[2,3]\n"
               "  %0 = pad @x {axis=1, before=1, after=2} : f32[2,6]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR,
    .attrs =
        (const Attr[]){
            {"axis", 'i', offsetof(PadAttrs, axis), ATTR_IR, -1, NULL, "-1: the last"},
            {"before", 'i', offsetof(PadAttrs, before), ATTR_IR, 0, NULL,
             "zeros in front"},
            {"after", 'i', offsetof(PadAttrs, after), ATTR_IR, 0, NULL, "zeros behind"},
            {0}},
    .attrs_size = sizeof(PadAttrs),
    .shape = pad_shape,
    .grad = pad_grad,
    .cpu = cpu_pad,
    .cuda = cuda_pad,
};

static bool part_resolve(Lang *l, Err *e) {
    const PartAttrs *at = l->attrs;
    const Type *t = type_at(l->g, l->in[0]);
    int64_t last = t->rank ? t->dim[t->rank - 1] : 1;
    if (at->of < 1 || last % at->of)
        return err_at(e, l->loc,
                      "'of' must divide the channels: %lld does not divide %lld",
                      (long long)at->of, (long long)last);
    if (at->index < 0 || at->index >= at->of)
        return err_at(e, l->loc, "'index' is %lld of %lld parts", (long long)at->index,
                      (long long)at->of);
    bool batch = l->g->value[l->in[0]]->batch;
    int64_t count = last / at->of;
    l->pass_on = l->in[0];
    if (at->of > 1)
        l->pass_on = add_slice(l->g, l->in[0], -1, at->index * count, count, e);
    if (l->pass_on == NO_ID) return false;
    l->g->value[l->pass_on]->batch = batch && t->rank > 1;
    return true;
}

const Op op_part = {
    .name = "part",
    .doc =
        "part `index` of `of` equal parts of the last dimension; a slice in the graph",
    .example = "value: {op: part, x: both, index: 0, of: 2}",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_YAML_ONLY,
    .attrs = (const Attr[]){{"index", 'i', offsetof(PartAttrs, index),
                             ATTR_REQUIRED | ATTR_YAML, 0, NULL, "which part, from 0"},
                            {"of", 'i', offsetof(PartAttrs, of),
                             ATTR_REQUIRED | ATTR_YAML, 1, NULL, "number of parts"},
                            {0}},
    .attrs_size = sizeof(PartAttrs),
    .resolve = part_resolve,
    .shape = shape_same,
};

/* ---- permute, transpose ---- */

static bool permute_shape(Sig *s, Err *e) {
    const IntList *order = &((const OrderAttrs *)s->attrs)->order;
    Type t = s->in[0];
    if (order->n != t.rank)
        return shape_error(e, "'order' has %d axes, the value is %s", order->n,
                           type_name(&t).s);
    unsigned seen = 0;
    for (int i = 0; i < t.rank; i++) {
        int64_t a = order->v[i];
        if (a < 0 || a >= t.rank || seen & 1u << a)
            return shape_error(e, "'order' must name every axis of %s once",
                               type_name(&s->in[0]).s);
        seen |= 1u << a;
        t.dim[i] = s->in[0].dim[a];
    }
    s->out[0] = t;
    return true;
}

static bool permute_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                         Id *dx, Err *e) {
    (void)need;
    const IntList *order = &((const OrderAttrs *)n->attrs)->order;
    OrderAttrs back = {{.n = order->n}};
    for (int i = 0; i < order->n; i++) back.order.v[order->v[i]] = i;
    dx[0] = graph_op(g, &op_permute, &back, 1, dy, e);
    return dx[0] != NO_ID;
}

const Op op_permute = {
    .name = "permute",
    .doc = "axes in another order: axis i of the result is axis order(i) of x",
    .example = "  input @x : f32[2,3,4]\n"
               "  %0 = permute @x {order=[2,0,1]} : f32[4,2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .attrs = (const Attr[]){{"order", 'l', offsetof(OrderAttrs, order), ATTR_REQUIRED,
                             __builtin_nan(""), NULL, "axes of x"},
                            {0}},
    .attrs_size = sizeof(OrderAttrs),
    .shape = permute_shape,
    .grad = permute_grad,
    .cpu = cpu_permute,
    .cuda = cuda_permute,
};

static bool transpose_resolve(Lang *l, Err *e) {
    const Type *t = type_at(l->g, l->in[0]);
    if (t->rank < 2)
        return err_at(e, l->loc, "transpose: got %s, want two dimensions or more",
                      type_name(t).s);
    bool batch = l->g->value[l->in[0]]->batch && t->rank > 2;
    OrderAttrs at = {{.n = t->rank}};
    for (int i = 0; i < t->rank; i++) at.order.v[i] = i;
    at.order.v[t->rank - 2] = t->rank - 1;
    at.order.v[t->rank - 1] = t->rank - 2;
    l->pass_on = graph_op(l->g, &op_permute, &at, 1, l->in, e);
    if (l->pass_on == NO_ID) return false;
    l->g->value[l->pass_on]->batch = batch;
    return true;
}

const Op op_transpose = {
    .name = "transpose",
    .doc = "the last two axes exchanged; a permute in the graph",
    .example = "skew: {op: transpose, x: blocks}",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_YAML_ONLY,
    .resolve = transpose_resolve,
    .shape = shape_same,
};

/* ---- join_chunks ---- */

static bool join_resolve(Lang *l, Err *e) {
    const Type *like = type_at(l->g, l->in[1]);
    if (like->rank < 2)
        return err_at(e, l->loc, "join_chunks: 'like' is %s, want [batch, chunks, ...]",
                      type_name(like).s);
    ((ChunkAttrs *)l->attrs)->chunks = like->dim[1];
    return true;
}

static bool join_shape(Sig *s, Err *e) {
    int64_t n = ((const ChunkAttrs *)s->attrs)->chunks;
    Type t = s->in[0];
    if (t.rank != 3 || n < 1 || t.dim[0] % n || t.dim[1] < 3)
        return shape_error(
            e, "got %s in %lld chunks, want [batch * chunks, tokens, width]",
            type_name(&t).s, (long long)n);
    t.dim[0] /= n;
    t.dim[1] = n * (t.dim[1] - 2) + 2;
    s->out[0] = t;
    return true;
}

static bool join_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    (void)need;
    dx[0] = graph_op(g, &op_join_chunks_grad, n->attrs, 1, dy, e);
    return dx[0] != NO_ID;
}

#define CHUNKS                                                                         \
    .attrs = (const Attr[]){{"chunks", 'i', offsetof(ChunkAttrs, chunks), ATTR_IR, 1,  \
                             NULL, "chunks per sample"},                               \
                            {0}},                                                      \
    .attrs_size = sizeof(ChunkAttrs)

const Op op_join_chunks = {
    .name = "join_chunks",
    .doc =
        "[B*N, T, C] to [B, N*(T-2)+2, C]: the chunks of a sample behind each other, "
        "with the first chunk's begin and the last one's end token only",
    .example = "  input @x : f32[4,5,3]\n"
               "  %0 = join_chunks @x {chunks=2} : f32[2,8,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"like", IN_SHAPE}, {0}},
    .n_out = 1,
    CHUNKS,
    .resolve = join_resolve,
    .shape = join_shape,
    .grad = join_grad,
    .cpu = cpu_join_chunks,
    .cuda = cuda_join_chunks,
};

static bool join_grad_shape(Sig *s, Err *e) {
    int64_t n = ((const ChunkAttrs *)s->attrs)->chunks;
    Type t = s->in[0];
    if (t.rank != 3 || n < 1 || t.dim[1] < 3 || (t.dim[1] - 2) % n)
        return shape_error(e, "got %s, want [batch, %lld * tokens + 2, width]",
                           type_name(&t).s, (long long)n);
    t.dim[0] *= n;
    t.dim[1] = (t.dim[1] - 2) / n + 2;
    s->out[0] = t;
    return true;
}

static bool join_grad_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                           Id *dx, Err *e) {
    (void)need;
    dx[0] = graph_op(g, &op_join_chunks, n->attrs, 1, dy, e);
    return dx[0] != NO_ID;
}

const Op op_join_chunks_grad = {
    .name = "join_chunks_grad",
    .doc = "[B, N*(T-2)+2, C] to [B*N, T, C]: the gradient of join_chunks, 0 at the "
           "tokens "
           "that it left out",
    .example = "  input @x : f32[2,8,3]\n"
               "  %0 = join_chunks_grad @x {chunks=2} : f32[4,5,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"dy", 0}, {0}},
    .n_out = 1,
    CHUNKS,
    .shape = join_grad_shape,
    .grad = join_grad_grad,
    .cpu = cpu_join_chunks_grad,
    .cuda = cuda_join_chunks_grad,
};

/* ---- broadcast ---- */

static bool broadcast_shape(Sig *s, Err *e) {
    Type t = s->in[0], met;
    if (!list_to_type(&((const ShapeAttrs *)s->attrs)->shape, &t, e)) return false;
    if (!type_broadcast(&s->in[0], &t, &met) || !type_same_shape(&met, &t))
        return shape_error(e, "%s does not spread to %s", type_name(&s->in[0]).s,
                           type_name(&t).s);
    s->out[0] = t;
    return true;
}

static bool broadcast_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                           Id *dx, Err *e) {
    (void)need;
    dx[0] = add_reduce_to(g, dy[0], type_at(g, n->in[0]), e);
    return dx[0] != NO_ID;
}

const Op op_broadcast = {
    .name = "broadcast",
    .doc = "x repeated to `shape` by numpy's rule",
    .example = "  input @x : f32[2,1,3]\n"
               "  %0 = broadcast @x {shape=[4,2,5,3]} : f32[4,2,5,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR,
    .attrs = (const Attr[]){{"shape", 'l', offsetof(ShapeAttrs, shape), ATTR_IR,
                             __builtin_nan(""), NULL, "dimensions of the result"},
                            {0}},
    .attrs_size = sizeof(ShapeAttrs),
    .shape = broadcast_shape,
    .grad = broadcast_grad,
    .cpu = cpu_broadcast,
    .cuda = cuda_broadcast,
};
