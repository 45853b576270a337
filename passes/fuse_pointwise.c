/* Pattern "merge": a pointwise node takes in the pointwise nodes that it alone reads. The
 * formula of the whole is evaluated tile by tile, every operation as before and in the same
 * type, so the numbers are the same bits; only in mixed precision a half in between is no
 * longer rounded.
 *
 * Rules: the producer's value is read by this node only, is wide (single values are worked
 * out in f64 once: taking one in would lose its rounding), is worked out in the type that
 * this node computes in, and has as many elements. What it reads must not stay alive much
 * longer than what is saved: inputs that would have died, times the nodes in between,
 * against the value itself. */
#include "passes/fuse.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_INPUTS = 48, /* of 64 */
    MOST_STEPS =
        160, /* of a formula; each is a tile of the first-level cache at worst */
    NEAR = 4 /* nodes: values may live this much longer for free */
};

typedef struct Merge {
    Fuse *f;
    Formula *formula;
    Id in[MOST_INPUTS]; /* new values, variable by variable */
    int n_in;
} Merge;

static const PointwiseAttrs *attrs_of(const Node *n) {
    return n->attrs;
}

/* ---- legality ---- */

static bool moves_alike(Phase a, Phase b) {
    return (a == RECOMPUTE) == (b == RECOMPUTE);
}

static bool persistent(const Graph *g, Id v) {
    return g->value[v]->role != ROLE_ACT;
}

/* Would reading the producer's inputs later keep more alive than its value does? */
bool fuse_keeps_more(const Fuse *f, const Node *producer, const Node *made,
                     const Node *n) {
    const uint32_t from = f->place[producer->index], to = f->place[n->index];
    uint64_t gap = to - from, longer = 0;
    if (gap <= NEAR) return false;
    for (int i = 0; i < made->n_in; i++) {
        Id v = fuse_from(f, made->in[i]);
        if (v == NO_ID || persistent(f->old, f->base[v])) continue;
        uint32_t until = f->last[f->base[v]];
        if (until < from) until = from;
        if (until < to)
            longer += type_bytes(&f->old->value[f->base[v]]->type) * (to - until);
    }
    return longer > type_bytes(&f->old->value[producer->out[0]]->type) * gap;
}

static bool lie_alike(const Graph *g, const Node *made, const Type *as) {
    for (int i = 0; i < made->n_in; i++) {
        int64_t count = type_count(&g->value[made->in[i]]->type);
        if (count != 1 && count != type_count(as)) return false;
    }
    return true;
}

/* May n take in the producer of its input v (behind a view: of what v views)? */
static FuseReason legal(const Fuse *f, const Node *n, Id v, const Node *producer) {
    const Graph *old = f->old;
    Id value = producer->out[0];
    const Type *t = &old->value[value]->type, *y = &old->value[n->out[0]]->type;
    if (f->pinned[value] || f->pinned[v]) return FUSE_GRAPH_OUTPUT;
    if (f->n_reader[value] > 1 || f->n_reader[v] > 1) {
        bool saved = producer->at.phase == FORWARD && f->backward[f->base[value]];
        return saved ? FUSE_SAVED_FOR_BWD : FUSE_MULTI_USE;
    }
    if (!moves_alike(producer->at.phase, n->at.phase)) return FUSE_BOUNDARY;
    bool as_computed = t->dtype == dtype_wide(t->dtype) ||
                       (f->skip_roundings && dtype_is_half(t->dtype));
    if (!as_computed || dtype_wide(t->dtype) != dtype_wide(y->dtype)) return FUSE_DTYPE;
    if (type_count(t) == 1 || type_count(t) != type_count(y)) return FUSE_LAYOUT;
    const Node *made = f->g->node[f->g->value[f->map[value]]->node];
    if (made->op != &op_pointwise) return FUSE_CYCLE;
    if (v != value && !lie_alike(f->g, made, t)) return FUSE_LAYOUT;
    if (!fuse_keeps_more(f, producer, made, n)) return FUSE_NONE;
    return producer->at.phase == FORWARD && n->at.phase == BACKWARD ? FUSE_SAVED_FOR_BWD
                                                                    : FUSE_COST;
}

/* The pointwise node behind input v, through a view. */
static const Node *producer_of(const Fuse *f, Id v) {
    const Node *view = fuse_maker(f, v, &op_view);
    return fuse_maker(f, view ? view->in[0] : v, &op_pointwise);
}

/* ---- one formula of two ---- */

static int variable(Merge *m, Id v) {
    int i = 0;
    while (i < m->n_in && m->in[i] != v) i++;
    if (i == MOST_INPUTS) return -1;
    m->in[i] = v;
    if (i == m->n_in) m->n_in++;
    return formula_var(m->formula, i);
}

/* The new value with another shape. */
static Id viewed(Merge *m, Id v, const Type *as) {
    Graph *g = m->f->g;
    Type t = *as;
    t.dtype = g->value[v]->type.dtype;
    if (type_count(&g->value[v]->type) == 1) t = type_scalar(t.dtype);
    Id made = graph_view(g, v, t, m->f->e);
    if (made != NO_ID && made != v) fuse_note_from(m->f, made, fuse_from(m->f, v));
    return made;
}

/* The root of a node's formula over the values that `names` gives its inputs. */
static int read_formula(Merge *m, const char *text, FNames *names) {
    int root;
    Err ignored = {0};
    return formula_parse(m->formula, text, names, &root, &ignored) ? root : -1;
}

static void name_input(Merge *m, FNames *names, int i, int node) {
    char name[16];
    snprintf(name, sizeof name, "x%d", i);
    fnames_set(m->formula->arena, names, name, node);
}

/* The producer's formula, over its inputs as seen from a value of type `as`. */
static int taken_in(Merge *m, const Node *made, const Type *as, bool view) {
    FNames names = {0};
    for (int i = 0; i < made->n_in; i++) {
        Id in = view ? viewed(m, made->in[i], as) : made->in[i];
        int var = in == NO_ID ? -1 : variable(m, in);
        if (var < 0) return -1;
        name_input(m, &names, i, var);
    }
    return read_formula(m, attrs_of(made)->f, &names);
}

static int steps_of(const Formula *f, int root) {
    Arena *a = arena_new();
    bool *used = NEW(a, bool, f->n);
    int steps = 0;
    formula_reach(f, root, used);
    for (int i = 0; i < f->n; i++) steps += used[i] && formula_arity(f->node[i].op);
    arena_free(a);
    return steps;
}

/* The formula of n with the producers that `take` names in their places; -1: too large. */
static int whole(Merge *m, const Node *n, const bool *take) {
    Fuse *f = m->f;
    FNames names = {0};
    for (int i = 0; i < n->n_in; i++) {
        int node;
        if (take[i]) {
            const Node *p = producer_of(f, n->in[i]);
            const Node *made = f->g->node[f->g->value[f->map[p->out[0]]]->node];
            node = taken_in(m, made, &f->old->value[n->in[i]]->type,
                            p->out[0] != n->in[i]);
        } else {
            node = variable(m, f->map[n->in[i]]);
        }
        if (node < 0) return -1;
        name_input(m, &names, i, node);
    }
    int root = read_formula(m, attrs_of(n)->f, &names);
    return root >= 0 && steps_of(m->formula, root) <= MOST_STEPS ? root : -1;
}

/* A GPU's kernels take shorter formulas. */
static bool has_kernel(const Fuse *f, Arena *a, Id y) {
    const Sig s = node_sig(a, f->g, f->g->node[f->g->value[y]->node]);
    return kernel_choose(&s, f->opt) != NULL;
}

/* The node for the formula, reading only what the formula does. */
static Fused emit(Merge *m, const Node *n, int root) {
    Fuse *f = m->f;
    int number[MOST_INPUTS] = {0}, n_in = 0;
    Id in[MOST_INPUTS];
    bool *used = NEW(m->formula->arena, bool, m->formula->n);
    formula_reach(m->formula, root, used);
    for (int v = 0; v < m->n_in; v++)
        if (used[formula_var(m->formula, v)]) {
            number[v] = n_in;
            in[n_in++] = m->in[v];
        }
    Str text = {0};
    formula_print(&text, m->formula, root, number);
    Id y = add_formula(f->g, attrs_of(n)->dtype, text.s, n_in, in, f->e);
    str_free(&text);
    if (y == NO_ID) return FUSED_FAILED;
    const Type *t = &f->old->value[n->out[0]]->type;
    /* an input that is gone made the shape */
    if (!type_equal(&f->g->value[y]->type, t)) return FUSED_NO;
    if (f->opt->cuda && !has_kernel(f, m->formula->arena, y)) {
        fuse_miss(f, "merge", n, n->in[0], FUSE_NO_KERNEL);
        return FUSED_NO;
    }
    fuse_stands(f, n, 0, y);
    return FUSED_YES;
}

Fused fuse_merge(Fuse *f, const Node *n) {
    if (n->op != &op_pointwise || n->n_in > MOST_INPUTS) return FUSED_NO;
    bool take[MOST_INPUTS] = {0}, any = false;
    Id missed = NO_ID;
    FuseReason why = FUSE_NONE;
    for (int i = 0; i < n->n_in; i++) {
        const Node *p = producer_of(f, n->in[i]);
        if (!p || f->map[p->out[0]] == NO_ID || f->map[n->in[i]] == NO_ID) continue;
        FuseReason r = legal(f, n, n->in[i], p);
        take[i] = r == FUSE_NONE;
        any |= take[i];
        if (r == FUSE_NONE || missed != NO_ID) continue;
        missed = n->in[i];
        why = r;
    }
    if (missed != NO_ID) fuse_miss(f, "merge", n, missed, why);
    if (!any) return FUSED_NO;
    Arena *a = arena_new();
    Merge m = {.f = f, .formula = formula_new(a)};
    int root = whole(&m, n, take);
    Fused done = FUSED_NO;
    if (root >= 0)
        done = emit(&m, n, root);
    else if (missed == NO_ID)
        fuse_miss(f, "merge", n, n->in[0], FUSE_SHAPE_LIMIT);
    arena_free(a);
    return done;
}
