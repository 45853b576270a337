/* Tensors of adapters and what belongs to them: bare tensors (param), the wrapped op with
 * another width (like), a counting vector (index), and slices that learn alone (active). */
#include "ops/ops.h"

/* ---- param ---- */

static Own param_owns(const Lang *l, int in, Type *t, Err *e) {
    (void)in;
    const IntList *shape = &((const ShapeAttrs *)l->attrs)->shape;
    if (shape->n > MAX_RANK) {
        err_at(e, l->loc, "'shape' has %d dimensions, at most %d", shape->n, MAX_RANK);
        return OWN_FAILED;
    }
    uint64_t count = 1;
    *t = type_of(F32, shape->n, shape->v);
    for (int i = 0; i < shape->n; i++) {
        int64_t d = shape->v[i];
        if (d >= 1 && mul_u64(count, (uint64_t)d, &count) && !(count >> 40)) continue;
        err_at(e, l->loc, "dimension %d of 'shape' is %lld", i, (long long)d);
        return OWN_FAILED;
    }
    return OWN_YES;
}

static bool param_resolve(Lang *l, Err *e) {
    (void)e;
    l->pass_on = l->in[0];
    return true;
}

const Op op_param = {
    .name = "param",
    .doc = "a tensor of its own; its value is the tensor",
    .example = "scale: {op: param, shape: [$rank], init: ones}",
    .in = (const OpIn[]){{"", IN_PARAM}, {0}},
    .n_out = 1,
    .flags = OP_YAML_ONLY,
    .attrs = (const Attr[]){{"shape", 'l', offsetof(ShapeAttrs, shape),
                             ATTR_REQUIRED | ATTR_YAML, __builtin_nan(""), NULL,
                             "dimensions of the tensor"},
                            {0}},
    .attrs_size = sizeof(ShapeAttrs),
    .resolve = param_resolve,
    .owns = param_owns,
    .shape = shape_same,
};

/* ---- like ---- */

static bool like_resolve(Lang *l, Err *e) {
    return err_at(e, l->loc, "op 'like' outside an adapter: there is no wrapped node");
}

const Op op_like = {
    .name = "like",
    .doc = "in an adapter, the wrapped op (kernel, stride, padding) with a weight of "
           "its own "
           "and another `out`; the graph holds that op",
    .example = "lora_down: {op: like, x: x, out: $rank, bias: false}",
    .in =
        (const OpIn[]){
            {"x", 0}, {"weight", IN_PARAM}, {"bias", IN_PARAM | IN_OPTIONAL}, {0}},
    .n_out = 1,
    .flags = OP_YAML_ONLY,
    .attrs = (const Attr[]){{"out", 'i', offsetof(LikeAttrs, out), ATTR_YAML, 0, NULL,
                             "width of the result"},
                            {"bias", 'b', offsetof(LikeAttrs, bias), ATTR_YAML, 0, NULL,
                             "owns a bias"},
                            {0}},
    .attrs_size = sizeof(LikeAttrs),
    .resolve = like_resolve,
    .shape = shape_same,
};

/* ---- index ---- */

static bool index_shape(Sig *s, Err *e) {
    int64_t n = ((const IndexAttrs *)s->attrs)->n;
    if (n < 1 || n > 1 << 24)
        return shape_error(e, "'n' is %lld, want 1 ... %d", (long long)n, 1 << 24);
    s->out[0] = type_of(F64, 1, &n);
    return true;
}

const Op op_index = {
    .name = "index",
    .doc = "0, 1, ... n-1 in f64; a constant, no gradient",
    .example = "  %0 = index {n=5} : f64[5]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{0}},
    .n_out = 1,
    .flags = OP_CONST | OP_NO_GRAD,
    .attrs = (const Attr[]){{"n", 'i', offsetof(IndexAttrs, n), ATTR_REQUIRED, 1, NULL,
                             "how many"},
                            {0}},
    .attrs_size = sizeof(IndexAttrs),
    .shape = index_shape,
    .cpu = cpu_index,
    .cuda = cuda_index,
};

/* ---- active ---- */

static bool active_shape(Sig *s, Err *e) {
    const ActiveAttrs *at = s->attrs;
    int axis;
    if (!shape_axis(at->axis, s->in[0].rank, &axis, e)) return false;
    if (at->size < 1 || s->in[0].dim[axis] % at->size)
        return shape_error(e, "'size' must divide the axis: %lld does not divide %lld",
                           (long long)at->size, (long long)s->in[0].dim[axis]);
    if (type_count(&s->in[1]) != 1 || s->in[1].dtype != I32)
        return shape_error(e, "'index' is %s, want i32[]", type_name(&s->in[1]).s);
    return shape_same(s, e);
}

static bool active_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    (void)need;
    dx[0] = graph_op(g, &op_active_grad, n->attrs, 2, (Id[]){dy[0], n->in[1]}, e);
    return dx[0] != NO_ID;
}

/* clang-format off */
#define SLICES                                                                             \
    .attrs = (const Attr[]){{"axis", 'i', offsetof(ActiveAttrs, axis), 0, 0, NULL,         \
                             "axis that is cut into slices"},                              \
                            {"size", 'i', offsetof(ActiveAttrs, size), 0, 1, NULL,         \
                             "width of a slice"},                                          \
                            {0}},                                                          \
    .attrs_size = sizeof(ActiveAttrs)
/* clang-format on */

const Op op_active = {
    .name = "active",
    .doc =
        "x, of which only slice `index` (of width `size` along `axis`) gets a gradient",
    .example = "  input @x : f32[4,3]\n"
               "  scalar @k : i32[]\n"
               "  %0 = active @x, @k {axis=0, size=2} : f32[4,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"index", IN_INDEX}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_VIEW,
    SLICES,
    .shape = active_shape,
    .grad = active_grad,
    .cpu = cpu_active,
};

const Op op_active_grad = {
    .name = "active_grad",
    .doc = "dy inside slice `index`, 0 elsewhere",
    .example = "  input @x : f32[4,3]\n"
               "  scalar @k : i32[]\n"
               "  %0 = active_grad @x, @k {axis=0, size=2} : f32[4,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"dy", 0}, {"index", IN_INDEX}, {0}},
    .n_out = 1,
    SLICES,
    .shape = active_shape,
    .grad = active_grad,
    .inplace = 1,
    .cpu = cpu_active_grad,
    .cuda = cuda_active_grad,
};
