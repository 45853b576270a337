/* Patterns of gradients.
 *
 * "pads": the gradient of two slices that make up a whole is a sum of two padded values:
 * a concat of them (except that -0 + 0 is +0).
 * "scale": an adapter's factor reaches the gradient as a wide value s * dy that only
 * gradient rows of linear read, with smaller results: the factor goes to those results. A
 * power of two changes no bit of it. */
#include "passes/fuse.h"

#include <stdlib.h>
#include <string.h>

static const char *formula_of(const Node *n) {
    return ((const PointwiseAttrs *)n->attrs)->f;
}

/* ---- pads ---- */

static const Node *lone_pad(Fuse *f, const Node *n, Id v, FuseReason *why) {
    const Node *pad = fuse_maker(f, v, &op_pad);
    if (!pad) return NULL;
    if (f->n_reader[v] > 1) *why = FUSE_MULTI_USE;
    if (f->pinned[v]) *why = FUSE_GRAPH_OUTPUT;
    if (!type_equal(&f->old->value[v]->type, &f->old->value[n->out[0]]->type))
        *why = FUSE_LAYOUT;
    return pad;
}

Fused fuse_pads(Fuse *f, const Node *n) {
    if (n->op != &op_pointwise || n->n_in != 2 || strcmp(formula_of(n), "x0 + x1"))
        return FUSED_NO;
    FuseReason why = FUSE_NONE;
    const Node *pad[2] = {lone_pad(f, n, n->in[0], &why),
                          lone_pad(f, n, n->in[1], &why)};
    if (!pad[0] || !pad[1]) return FUSED_NO;
    const PadAttrs *p = pad[0]->attrs, *q = pad[1]->attrs;
    const int rank = f->old->value[n->out[0]]->type.rank;
    const int64_t axis = p->axis < 0 ? p->axis + rank : p->axis;
    const Type *x = &f->old->value[pad[0]->in[0]]->type,
               *y = &f->old->value[pad[1]->in[0]]->type;
    bool first = !p->before && p->after == y->dim[axis] && !q->after &&
                 q->before == x->dim[axis];
    bool second = !q->before && q->after == x->dim[axis] && !p->after &&
                  p->before == y->dim[axis];
    if (!why &&
        (axis != (q->axis < 0 ? q->axis + rank : q->axis) || (!first && !second)))
        why = FUSE_LAYOUT;
    if (!why && x->dtype != ((const PointwiseAttrs *)n->attrs)->dtype) why = FUSE_DTYPE;
    if (why) {
        fuse_miss(f, "pads", n, n->in[0], why);
        return FUSED_NO;
    }
    AxisAttrs at = {axis};
    Id in[] = {f->map[pad[first ? 0 : 1]->in[0]], f->map[pad[first ? 1 : 0]->in[0]]};
    Id joined = graph_op(f->g, &op_concat, &at, 2, in, f->e);
    if (joined == NO_ID) return FUSED_FAILED;
    fuse_stands(f, n, 0, joined);
    return FUSED_YES;
}

/* ---- scale ---- */

/* x0 * NUMBER */
static bool constant_factor(const Node *n) {
    if (n->n_in != 1) return false;
    const char *text = formula_of(n);
    char *end;
    if (strncmp(text, "x0 * ", 5) || !strchr("0123456789.", text[5])) return false;
    strtod(text + 5, &end);
    return end > text + 5 && !*end;
}

/* Which input of a gradient row carries dy; -1: not such a row. */
static int dy_of(const Node *n) {
    return n->op == &op_linear_grad_x ? 0 : n->op == &op_linear_grad_w ? 1 : -1;
}

static FuseReason scale_legal(const Fuse *f, const Node *scale) {
    Id v = scale->out[0];
    uint64_t results = 0;
    if (f->pinned[v]) return FUSE_GRAPH_OUTPUT;
    const Type *t = &f->old->value[v]->type, *x = &f->old->value[scale->in[0]]->type;
    if (t->dtype != x->dtype || !dtype_is_float(t->dtype)) return FUSE_DTYPE;
    for (uint32_t r = 0; r < f->n_reader[v]; r++) {
        const Node *n = f->old->node[f->reader[v][r]];
        int dy = dy_of(n);
        bool alone = dy >= 0 && n->in[dy] == v && n->in[1 - dy] != v;
        if (!alone) return FUSE_MULTI_USE;
        results += type_bytes(&f->old->value[n->out[0]]->type);
    }
    return results < type_bytes(t) ? FUSE_NONE : FUSE_COST;
}

Fused fuse_scale(Fuse *f, const Node *n) {
    int dy = dy_of(n);
    const Node *scale = dy < 0 ? NULL : fuse_maker(f, n->in[dy], &op_pointwise);
    if (!scale || !constant_factor(scale)) return FUSED_NO;
    FuseReason why = scale_legal(f, scale);
    if (why) {
        fuse_miss(f, "scale", n, n->in[dy], why);
        return FUSED_NO;
    }
    Id in[2];
    for (int i = 0; i < 2; i++) in[i] = f->map[i == dy ? scale->in[0] : n->in[i]];
    Id raw = graph_op(f->g, n->op, n->attrs, 2, in, f->e);
    DType t = f->old->value[n->out[0]]->type.dtype;
    Id y = add_formula(f->g, t, formula_of(scale), 1, &raw, f->e);
    if (y == NO_ID) return FUSED_FAILED;
    fuse_stands(f, n, 0, y);
    return FUSED_YES;
}
