/* Patterns of gradients.
 *
 * "again": a pointwise value that the backward reads, of values that it keeps for longer
 * anyway (GEGLU's product, read by the adapter behind it; value and gate are kept for their
 * own gradients), is made a second time where the backward first reads it: one more pass
 * over memory for what would have been kept all the way.
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

/* ---- again ---- */

enum { LEAST_BYTES = 1 << 12 }; /* less is not worth a node */

static bool views_it(const Fuse *f, Id v) {
    for (uint32_t r = 0; r < f->n_reader[v]; r++)
        if (f->old->node[f->reader[v][r]]->op->flags & OP_VIEW) return true;
    return false;
}

/* Is v still there at node n, whatever becomes of the nodes that read it before? */
static bool lives_at(const Fuse *f, Id v, const Node *n) {
    Id base = f->base[v];
    return f->old->value[base]->role != ROLE_ACT || f->last[base] >= f->place[n->index];
}

/* The formula that makes v, if the backward, whose node n is the first to read v, had
 * better work it out again. */
static const Node *makes_again(const Fuse *f, const Node *n, Id v) {
    const Node *p = fuse_maker(f, v, &op_pointwise);
    if (!p || p->at.phase != FORWARD || f->pinned[v] || f->map[v] == NO_ID) return NULL;
    if (type_bytes(&f->old->value[v]->type) < LEAST_BYTES || views_it(f, v))
        return NULL;
    uint32_t first = 0; /* reader in the backward */
    while (f->old->node[f->reader[v][first]]->at.phase == FORWARD) first++;
    if (!first || f->old->node[f->reader[v][first]] != n) return NULL;
    for (int i = 0; i < p->n_in; i++)
        if (f->map[p->in[i]] == NO_ID || !lives_at(f, p->in[i], n)) return NULL;
    return p;
}

Fused fuse_again(Fuse *f, const Node *n) {
    Fused done = FUSED_NO;
    for (int i = 0; n->at.phase == BACKWARD && i < n->n_in; i++) {
        const Node *p = n->in[i] == NO_ID ? NULL : makes_again(f, n, n->in[i]);
        if (!p) continue;
        Id *in = NEW(f->g->arena, Id, p->n_in + 1);
        for (int k = 0; k < p->n_in; k++) in[k] = f->map[p->in[k]];
        f->g->at = p->at;
        f->g->at.phase = BACKWARD;
        Id made = graph_op(f->g, p->op, p->attrs, p->n_in, in, f->e);
        f->g->at = n->at;
        if (made == NO_ID) return FUSED_FAILED;
        fuse_stands(f, p, 0, made);
        done = FUSED_BEFORE;
    }
    return done;
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
bool fuse_constant_factor(const Node *n) {
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

/* Is what the readers of v make smaller than v? Else there is nothing to gain. */
static bool shrinks(const Fuse *f, Id v) {
    uint64_t results = 0;
    for (uint32_t r = 0; r < f->n_reader[v]; r++) {
        const Node *n = f->old->node[f->reader[v][r]];
        if (dy_of(n) >= 0) results += type_bytes(&f->old->value[n->out[0]]->type);
    }
    return results < type_bytes(&f->old->value[v]->type);
}

static FuseReason scale_legal(const Fuse *f, const Node *scale) {
    Id v = scale->out[0];
    if (f->pinned[v]) return FUSE_GRAPH_OUTPUT;
    const Type *t = &f->old->value[v]->type, *x = &f->old->value[scale->in[0]]->type;
    if (t->dtype != x->dtype || !dtype_is_float(t->dtype)) return FUSE_DTYPE;
    for (uint32_t r = 0; r < f->n_reader[v]; r++) {
        const Node *n = f->old->node[f->reader[v][r]];
        int dy = dy_of(n);
        bool alone = dy >= 0 && n->in[dy] == v && n->in[1 - dy] != v;
        if (!alone) return FUSE_MULTI_USE;
    }
    return FUSE_NONE;
}

Fused fuse_scale(Fuse *f, const Node *n) {
    int dy = dy_of(n);
    const Node *scale = dy < 0 ? NULL : fuse_maker(f, n->in[dy], &op_pointwise);
    if (!scale || !fuse_constant_factor(scale) || !shrinks(f, n->in[dy]))
        return FUSED_NO;
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
