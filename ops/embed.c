/* Tables: rows picked by index (word embeddings, schedules by step number), and the
 * sinusoidal embedding of the timestep. */
#include "ops/heavy.h"

/* clang-format off */
static const OpIn embedding_in[] = { { "ids", IN_INDEX }, { "weight", IN_PARAM }, { 0 } };
static const OpIn embedding_grad_in[] = { { "ids", IN_INDEX }, { "dy", 0 }, { 0 } };
static const OpIn timestep_in[] = { { "t", IN_INDEX }, { 0 } };
static const Attr embedding_attrs[] = {
    { "rows", 'i', offsetof(EmbeddingAttrs, rows), ATTR_YAML, 0, NULL, "rows of the table; needed unless a weight is given" },
    { "width", 'i', offsetof(EmbeddingAttrs, width), ATTR_YAML, 0, NULL, "columns of the table" },
    { 0 }
};
static const Attr embedding_grad_attrs[] = {
    { "rows", 'i', offsetof(EmbeddingAttrs, rows), ATTR_REQUIRED, 0, NULL, "rows of the table" },
    { 0 }
};
static const Attr timestep_attrs[] = {
    { "width", 'i', offsetof(EmbeddingAttrs, width), ATTR_REQUIRED, 0, NULL, "width of y, even" },
    { 0 }
};
/* clang-format on */

static bool need_index(const Sig *s, int i, Err *e) {
    DType t = s->in[i].dtype;
    if (t == I32 || t == F32 || t == F64) return true;
    return shape_error(e, "'%s' is %s, want i32, f32 or f64", s->op->in[i].name,
                       type_name(&s->in[i]).s);
}

static Own embedding_owns(const Lang *l, int in, Type *t, Err *e) {
    const EmbeddingAttrs *a = l->attrs;
    (void)in;
    if (a->rows < 1 || a->width < 1) {
        err_at(e, l->loc, "'rows' is %lld and 'width' %lld, want 1 or more",
               (long long)a->rows, (long long)a->width);
        return OWN_FAILED;
    }
    *t = type_of(F32, 2, (int64_t[]){a->rows, a->width});
    return OWN_YES;
}

static bool embedding_shape(Sig *s, Err *e) {
    const Type *ids = &s->in[0], *w = &s->in[1];
    if (!need_index(s, 0, e) || !need_float(s, 1, 1, e)) return false;
    if (w->dim[0] < 1)
        return shape_error(e, "'weight' is %s, want a row", type_name(w).s);
    if (ids->rank + w->rank - 1 > MAX_RANK)
        return shape_error(e, "'ids' is %s and 'weight' %s: more than %d dimensions",
                           type_name(ids).s, type_name(w).s, MAX_RANK);
    Type y = *ids;
    y.dtype = dtype_wide(w->dtype);
    for (int i = 1; i < w->rank; i++) y.dim[y.rank++] = w->dim[i];
    s->out[0] = y;
    return true;
}

static bool embedding_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                           Id *dx, Err *e) {
    if (!need[1]) return true;
    EmbeddingAttrs a = {.rows = type_at(g, n->in[1])->dim[0]};
    Id dw = graph_op(g, &op_embedding_grad, &a, 2, (Id[]){n->in[0], dy[0]}, e);
    dx[1] = add_cast(g, dw, type_at(g, n->in[1])->dtype, e);
    return dx[1] != NO_ID;
}

static bool embedding_grad_shape(Sig *s, Err *e) {
    const EmbeddingAttrs *a = s->attrs;
    const Type *ids = &s->in[0], *dy = &s->in[1];
    if (!need_index(s, 0, e) || !need_float(s, 1, ids->rank, e)) return false;
    if (a->rows < 1 || a->rows > INT32_MAX)
        return shape_error(e, "'rows' is %lld, want 1 to 2^31 - 1", (long long)a->rows);
    for (int i = 0; i < ids->rank; i++)
        if (ids->dim[i] != dy->dim[i])
            return shape_error(e, "'dy' is %s, want the dimensions of 'ids' %s first",
                               type_name(dy).s, type_name(ids).s);
    Type w = {.dtype = dtype_wide(dy->dtype), .rank = 1, .dim = {a->rows}};
    for (int i = ids->rank; i < dy->rank; i++) w.dim[w.rank++] = dy->dim[i];
    if (w.rank > MAX_RANK)
        return shape_error(e, "'dy' is %s: the table has more than %d dimensions",
                           type_name(dy).s, MAX_RANK);
    s->out[0] = w;
    return true;
}

static bool timestep_shape(Sig *s, Err *e) {
    const EmbeddingAttrs *a = s->attrs;
    const Type *t = &s->in[0];
    if (!need_index(s, 0, e)) return false;
    if (t->rank >= MAX_RANK)
        return shape_error(e, "'t' is %s, want at most %d dimensions", type_name(t).s,
                           MAX_RANK - 1);
    if (a->width < 2 || a->width % 2 || a->width > INT32_MAX)
        return shape_error(e, "'width' is %lld, want an even number of 2 or more",
                           (long long)a->width);
    Type y = *t;
    y.dtype = dtype_wide(t->dtype);
    y.dim[y.rank++] = a->width;
    s->out[0] = y;
    return true;
}

/* clang-format off */
const Op op_embedding = {
    .name = "embedding",
    .doc = "y[i..] = weight[ids[i..]]: rows of a table of any rank; an index is cut to an integer and to the "
           "rows there are; ids have no gradient",
    .example = "input %ids : i32[2,3]\n"
               "input %w : f64[7,4]\n"
               "%y = embedding %ids, %w : f64[2,3,4]\n"
               "output %y\n",
    .in = embedding_in, .n_out = 1, .flags = OP_WIDE,
    .attrs = embedding_attrs, .attrs_size = sizeof(EmbeddingAttrs),
    .owns = embedding_owns, .shape = embedding_shape, .grad = embedding_grad,
    .cpu = cpu_embedding, .cuda = cuda_embedding,
};

const Op op_embedding_grad = {
    .name = "embedding_grad",
    .doc = "dweight[r] = sum of dy[i..] where ids[i..] = r; gradients of gradients are not taken",
    .example = "input %ids : i32[2,3]\n"
               "input %dy : f64[2,3,4]\n"
               "%dw = embedding_grad %ids, %dy {rows=7} : f64[7,4]\n"
               "output %dw\n",
    .in = embedding_grad_in, .n_out = 1, .flags = OP_NO_GRAD | OP_WIDE,
    .attrs = embedding_grad_attrs, .attrs_size = sizeof(EmbeddingAttrs),
    .shape = embedding_grad_shape, .cpu = cpu_embedding_grad, .cuda = cuda_embedding_grad,
};

const Op op_timestep_embedding = {
    .name = "timestep_embedding",
    .doc = "y[.., i] = cos(t w_i), y[.., h + i] = sin(t w_i), w_i = 10000^(-i/h), h = width/2; angles in f32 as in "
           "Diffusers (flip_sin_to_cos, freq_shift 0); t has no gradient: timesteps are given or drawn",
    .example = "input %t : i32[3]\n"
               "%y = timestep_embedding %t {width=6} : f32[3,6]\n"
               "output %y\n",
    .in = timestep_in, .n_out = 1, .flags = OP_WIDE | OP_NO_GRAD,
    .attrs = timestep_attrs, .attrs_size = sizeof(EmbeddingAttrs),
    .shape = timestep_shape, .cpu = cpu_timestep_embedding, .cuda = cuda_timestep_embedding,
};
/* clang-format on */
