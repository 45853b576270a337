/* Pattern "norm": what is pointwise of a group norm's result alone goes into the norm, and
 * its gradient into the norm's gradient:
 *
 *     y = group_norm(x)         d = g(y, dz)                   z = group_norm(x) {f}
 *     z = f(y)                  dx = group_norm_grad(.., d)    dx = group_norm_grad(.., dz) {g}
 *
 * y is worked out again from x, mean and rstd where the gradient needs it, so it is not
 * saved. f and g are the formulas of the graph, and y is made by the same operations, so
 * the numbers are the same bits. */
#include <string.h>

#include "ops/heavy.h"
#include "passes/fuse.h"

enum { MOST_STEPS = 48 }; /* of a formula behind a norm */

typedef struct Group { /* nodes of the old graph */
    const Node *norm, *formula;
    const Node *d, *grad; /* or NULL: the gradient is not wanted */
} Group;

static bool small_enough(const Node *n) {
    return strlen(((const PointwiseAttrs *)n->attrs)->f) < 16 * MOST_STEPS;
}

/* The only reader of v, if its row is op. */
static const Node *lone_reader(const Fuse *f, Id v, const Op *op) {
    if (f->n_reader[v] != 1 || f->pinned[v]) return NULL;
    const Node *n = f->old->node[f->reader[v][0]];
    return n->op == op ? n : NULL;
}

static bool same_type(const Fuse *f, Id a, Id b) {
    return type_equal(&f->old->value[a]->type, &f->old->value[b]->type);
}

/* d = g(y, dz) that only the norm's own gradient reads */
static bool find_gradient(const Fuse *f, Group *z, const Node *d) {
    const Node *norm = z->norm;
    Id y = norm->out[0];
    if (d->n_in != 2 || (d->in[0] == y) == (d->in[1] == y)) return false;
    const Node *grad = lone_reader(f, d->out[0], &op_group_norm_grad);
    if (!grad || ((const NormAttrs *)grad->attrs)->f || grad->in[4] != d->out[0])
        return false;
    bool own = grad->in[0] == norm->in[0] && grad->in[1] == norm->in[1] &&
               grad->in[2] == norm->out[1] && grad->in[3] == norm->out[2];
    if (!own || !same_type(f, d->in[0], d->in[1]) || !same_type(f, y, d->out[0]))
        return false;
    z->d = d;
    z->grad = grad;
    return true;
}

static FuseReason find_group(const Fuse *f, Group *z) {
    Id y = z->norm->out[0];
    if (f->pinned[y]) return FUSE_GRAPH_OUTPUT;
    for (uint32_t r = 0; r < f->n_reader[y]; r++) {
        const Node *n = f->old->node[f->reader[y][r]];
        if (n->op != &op_pointwise)
            return n->at.phase == BACKWARD ? FUSE_SAVED_FOR_BWD : FUSE_MULTI_USE;
        if (!small_enough(n)) return FUSE_SHAPE_LIMIT;
        if (n->n_in == 1 && !z->formula) {
            if (!same_type(f, y, n->out[0])) return FUSE_DTYPE;
            z->formula = n;
        } else if (z->d || !find_gradient(f, z, n)) {
            return n->at.phase == BACKWARD ? FUSE_SAVED_FOR_BWD : FUSE_MULTI_USE;
        }
    }
    return z->formula ? FUSE_NONE : FUSE_MULTI_USE;
}

static Fused emit_norm(Fuse *f, const Group *z) {
    const Node *n = z->norm;
    NormAttrs at = *(const NormAttrs *)n->attrs;
    at.f = arena_strdup(f->g->arena, ((const PointwiseAttrs *)z->formula->attrs)->f);
    Id in[3];
    for (int i = 0; i < 3; i++) in[i] = f->map[n->in[i]];
    Node *made = graph_add(f->g, &op_group_norm, &at, 3, in, f->e);
    if (!made) return FUSED_FAILED;
    for (int o = 1; o < 3; o++) fuse_stands(f, n, o, made->out[o]);
    fuse_stands(f, z->formula, 0, made->out[0]);
    f->group[z->formula->index] = n->index;
    if (z->d) f->group[z->d->index] = f->group[z->grad->index] = n->index;
    return FUSED_YES;
}

/* g with y as x0 and dz as x1 */
static const char *in_order(Fuse *f, const Node *d, Id y) {
    const char *text = ((const PointwiseAttrs *)d->attrs)->f;
    if (d->in[0] == y) return arena_strdup(f->g->arena, text);
    Arena *a = arena_new();
    Formula *formula = formula_new(a);
    FNames names = {0};
    int root;
    fnames_inputs(formula, &names, 2);
    Str s = {0};
    if (formula_parse(formula, text, &names, &root, f->e))
        formula_print(&s, formula, root, (const int[]){1, 0});
    const char *turned = s.s ? arena_strdup(f->g->arena, s.s) : NULL;
    str_free(&s);
    arena_free(a);
    return turned;
}

static Fused emit_grad(Fuse *f, const Node *grad, const Node *norm) {
    const Node *d = f->old->node[f->old->value[grad->in[4]]->node];
    Id y = norm->out[0], dz = d->in[d->in[0] == y ? 1 : 0];
    NormAttrs at = *(const NormAttrs *)grad->attrs;
    at.f = in_order(f, d, y);
    if (!at.f) return FUSED_FAILED;
    Id in[6];
    for (int i = 0; i < 4; i++) in[i] = f->map[grad->in[i]];
    in[4] = f->map[dz];
    in[5] = f->map[norm->in[2]];
    Node *made = graph_add(f->g, &op_group_norm_grad, &at, 6, in, f->e);
    if (!made) return FUSED_FAILED;
    for (int o = 0; o < made->n_out; o++) fuse_stands(f, grad, o, made->out[o]);
    return FUSED_YES;
}

Fused fuse_norm(Fuse *f, const Node *n) {
    Id leader = f->group[n->index];
    if (leader != NO_ID) /* in a group already: its formula and d are gone */
        return n->op == &op_group_norm_grad ? emit_grad(f, n, f->old->node[leader])
                                            : FUSED_INSIDE;
    if (n->op != &op_group_norm || ((const NormAttrs *)n->attrs)->f) return FUSED_NO;
    bool near = false;
    for (uint32_t r = 0; r < f->n_reader[n->out[0]]; r++)
        near |= f->old->node[f->reader[n->out[0]][r]]->op == &op_pointwise;
    if (!near) return FUSED_NO;
    Group z = {.norm = n};
    FuseReason why = find_group(f, &z);
    if (!why) return emit_norm(f, &z);
    fuse_miss(f, "norm", n, n->out[0], why);
    return FUSED_NO;
}
