/* Products of matrices that are values themselves (adapters that build a weight), and two
 * constructions of adapters: Kronecker products (LoKr) and Cayley's rotations (OFT). */
#include "ops/heavy.h"

/* clang-format off */
static const OpIn ab_in[] = { { "a", 0 }, { "b", 0 }, { 0 } };
static const OpIn kron_grad_in[] = { { "a", 0 }, { "b", 0 }, { "dy", 0 }, { 0 } };
static const OpIn cayley_in[] = { { "x", 0 }, { 0 } };
static const OpIn cayley_grad_in[] = { { "x", 0 }, { "y", 0 }, { "dy", 0 }, { 0 } };
static const char *const kron_outs[] = { "da", "db", NULL };
static const Attr matmul_attrs[] = {
    { "ta", 'b', offsetof(MatmulAttrs, ta), ATTR_IR, 0, NULL, "a is read transposed" },
    { "tb", 'b', offsetof(MatmulAttrs, tb), ATTR_IR, 0, NULL, "b is read transposed" },
    ATTR_TO(MatmulAttrs),
    { 0 }
};
/* clang-format on */

static int64_t rows_of(const Type *t, bool turned) {
    return t->dim[t->rank - (turned ? 1 : 2)];
}
static int64_t cols_of(const Type *t, bool turned) {
    return t->dim[t->rank - (turned ? 2 : 1)];
}

static bool matmul_shape(Sig *s, Err *e) {
    const MatmulAttrs *m = s->attrs;
    const Type *a = &s->in[0], *b = &s->in[1];
    if (!need_float(s, 0, 2, e) || !need_float(s, 1, 2, e)) return false;
    const Type *batch = a->rank >= b->rank ? a : b, *other = batch == a ? b : a;
    bool fits = dtype_mix(a->dtype, b->dtype) &&
                cols_of(a, m->ta) == rows_of(b, m->tb) &&
                (other->rank == 2 || other->rank == batch->rank);
    for (int i = 0; fits && other->rank > 2 && i < batch->rank - 2; i++)
        fits = a->dim[i] == b->dim[i];
    if (!fits)
        return shape_error(e, "no product of %s%s and %s%s", type_name(a).s,
                           m->ta ? " transposed" : "", type_name(b).s,
                           m->tb ? " transposed" : "");
    Type y = *batch;
    y.dim[y.rank - 2] = rows_of(a, m->ta);
    y.dim[y.rank - 1] = cols_of(b, m->tb);
    s->out[0] = y;
    return type_stored(m->to, a->dtype, &s->out[0].dtype, e);
}

/* y = a b: da = dy b^T, db = a^T dy; of transposed operands the transposed of that. One
 * that served every sample of the other's batch gets their sum. */
static bool matmul_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    const MatmulAttrs *m = n->attrs;
    const Id a = n->in[0], b = n->in[1];
    const DType at = type_at(g, a)->dtype, bt = type_at(g, b)->dtype;
    const DType yt = type_at(g, dy[0])->dtype;
    if (need[0]) {
        Id d = m->ta ? graph_op(g, &op_matmul,
                                &(MatmulAttrs){m->tb, true, stored_as(at, bt)}, 2,
                                (Id[]){b, dy[0]}, e)
                     : graph_op(g, &op_matmul,
                                &(MatmulAttrs){false, !m->tb, stored_as(at, yt)}, 2,
                                (Id[]){dy[0], b}, e);
        dx[0] = add_reduce_to(g, d, type_at(g, a), e);
        if (dx[0] == NO_ID) return false;
    }
    if (need[1]) {
        Id d = m->tb ? graph_op(g, &op_matmul,
                                &(MatmulAttrs){true, m->ta, stored_as(bt, yt)}, 2,
                                (Id[]){dy[0], a}, e)
                     : graph_op(g, &op_matmul,
                                &(MatmulAttrs){!m->ta, false, stored_as(bt, at)}, 2,
                                (Id[]){a, dy[0]}, e);
        dx[1] = add_reduce_to(g, d, type_at(g, b), e);
        if (dx[1] == NO_ID) return false;
    }
    return true;
}
static uint64_t matmul_flops(const Sig *s) {
    const MatmulAttrs *m = s->attrs;
    return 2 * (uint64_t)type_count(&s->out[0]) * (uint64_t)cols_of(&s->in[0], m->ta);
}

static bool kron_operands(const Sig *s, Type *y, Err *e) {
    const Type *a = &s->in[0], *b = &s->in[1];
    if (!need_float(s, 0, 2, e) || !need_float(s, 1, 2, e)) return false;
    if (a->rank != 2 || b->rank != 2 || !dtype_mix(a->dtype, b->dtype))
        return shape_error(e, "'a' is %s and 'b' %s, want two matrices", type_name(a).s,
                           type_name(b).s);
    int64_t d[2];
    for (int i = 0; i < 2; i++)
        if (__builtin_mul_overflow(a->dim[i], b->dim[i], &d[i]) || d[i] > INT32_MAX)
            return shape_error(e, "the product of %s and %s is too large",
                               type_name(a).s, type_name(b).s);
    *y = type_of(a->dtype, 2, d);
    return true;
}
static bool kron_shape(Sig *s, Err *e) {
    return kron_operands(s, &s->out[0], e);
}
static bool kron_grad_shape(Sig *s, Err *e) {
    Type y;
    s->out[0] = s->in[0], s->out[1] = s->in[1];
    return kron_operands(s, &y, e) && need_weight(s, 2, y.dtype, y, e);
}
static bool kron_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                      Err *e) {
    Id in[] = {n->in[0], n->in[1], dy[0]};
    Node *d = graph_add(g, &op_kron_grad, NULL, 3, in, e);
    if (!d) return false;
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = d->out[i];
    return true;
}

static bool cayley_shape(Sig *s, Err *e) {
    const Type *x = &s->in[0];
    if (!need_float(s, 0, 2, e)) return false;
    if (rows_of(x, false) != cols_of(x, false))
        return shape_error(e, "'x' is %s, want square matrices", type_name(x).s);
    for (int i = 1; i < s->n_in; i++)
        if (!need_weight(s, i, x->dtype, *x, e)) return false;
    s->out[0] = *x;
    if (s->op->flags & OP_WIDE) s->out[0].dtype = dtype_wide(x->dtype);
    return true;
}
static bool cayley_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    if (!need[0]) return true;
    Id in[] = {n->in[0], n->out[0], dy[0]};
    dx[0] = graph_op(g, &op_cayley_grad, NULL, 3, in, e);
    return dx[0] != NO_ID;
}
/* LU of one matrix and n right-hand sides: 2/3 n^3 + 2 n^3. */
static uint64_t cayley_flops(const Sig *s) {
    return (uint64_t)type_count(&s->in[0]) * (uint64_t)type_last(&s->in[0]) * 8 / 3;
}

/* clang-format off */
const Op op_matmul = {
    .name = "matmul",
    .doc = "y = a b over the last two dimensions; the dimensions before them are equal, or one operand is a plain "
           "matrix and serves them all",
    .example = "input %a : f64[2,4,3]\n"
               "input %b : f64[5,4]\n"
               "%y = matmul %a, %b {ta=true, tb=true} : f64[2,3,5]\n"
               "output %y\n",
    .in = ab_in, .n_out = 1, .flags = OP_LOW,
    .attrs = matmul_attrs, .attrs_size = sizeof(MatmulAttrs),
    .shape = matmul_shape, .grad = matmul_grad, .flops = matmul_flops, .cpu = cpu_matmul, .cuda = cuda_matmul,
};

const Op op_kron = {
    .name = "kron",
    .doc = "y[i p + k, j q + l] = a[i, j] b[k, l], b of p rows and q columns",
    .example = "input %a : f64[2,3]\n"
               "input %b : f64[4,2]\n"
               "%y = kron %a, %b : f64[8,6]\n"
               "output %y\n",
    .in = ab_in, .n_out = 1,
    .shape = kron_shape, .grad = kron_grad, .cpu = cpu_kron, .cuda = cuda_kron,
};

const Op op_kron_grad = {
    .name = "kron_grad",
    .doc = "da[i, j] = sum over k,l of dy[i p + k, j q + l] b[k, l], db[k, l] = sum over i,j of dy[i p + k, j q + l] "
           "a[i, j]; gradients of gradients are not taken",
    .example = "input %a : f64[2,3]\n"
               "input %b : f64[4,2]\n"
               "input %dy : f64[8,6]\n"
               "%da, %db = kron_grad %a, %b, %dy : f64[2,3], f64[4,2]\n"
               "output %da\n",
    .in = kron_grad_in, .n_out = 2, .outs = kron_outs, .flags = OP_NO_GRAD,
    .shape = kron_grad_shape, .cpu = cpu_kron_grad, .cuda = cuda_kron_grad,
};

const Op op_cayley = {
    .name = "cayley",
    .doc = "y = (I - q)^-1 (I + q), q = x - x^T, a rotation: per matrix of the last two dimensions",
    .example = "input %x : f64[2,3,3]\n"
               "%y = cayley %x : f64[2,3,3]\n"
               "output %y\n",
    .in = cayley_in, .n_out = 1, .flags = OP_WIDE,
    .shape = cayley_shape, .grad = cayley_grad, .flops = cayley_flops, .cpu = cpu_cayley, .cuda = cuda_cayley,
};

const Op op_cayley_grad = {
    .name = "cayley_grad",
    .doc = "g = (I - q)^-T dy (y + I)^T: dx = g - g^T; gradients of gradients are not taken",
    .example = "input %x : f64[2,3,3]\n"
               "input %y : f64[2,3,3]\n"
               "input %dy : f64[2,3,3]\n"
               "%dx = cayley_grad %x, %y, %dy : f64[2,3,3]\n"
               "output %dx\n",
    .in = cayley_grad_in, .n_out = 1, .flags = OP_NO_GRAD,
    .shape = cayley_shape, .flops = cayley_flops, .cpu = cpu_cayley_grad, .cuda = cuda_cayley_grad,
};
/* clang-format on */
