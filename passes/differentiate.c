/* differentiate: the backward graph, appended in reverse order of the forward one.
 *
 * Needs: an output "loss", f32[]. Guarantees: one output "grad.NAME" per trainable, f32, of
 * the trainable's shape, a slice that does not learn in this step exactly zero; no gradient
 * of anything that does not depend on a trainable (activity.c). Sums of gradients are a
 * left fold in the order in which they arise, so bits do not depend on chance. They start
 * from the constant 1, in fp16 from the loss scale (passes/loss_scale.c), by which all are
 * then too large. A half trainable has a half gradient. Ends: one walk. */
#include "ops/ops.h"
#include "passes/private.h"

#include <string.h>

typedef struct Backward {
    Graph *g;
    Activity y;
    Id *grad;         /* per forward value: its gradient so far, or NO_ID */
    uint32_t n_value; /* of the forward graph */
} Backward;

/* In the type of what it belongs to; a trainable's sum is never a half. */
static Id accumulate(Graph *g, const Value *v, Id sum, Id more, Err *e) {
    if (sum == NO_ID) return more;
    DType t = v->role == ROLE_TRAIN ? dtype_wide(v->type.dtype) : v->type.dtype;
    return add_formula(g, t, "x0 + x1", 2, (Id[]){sum, more}, e);
}

/* A gradient has the type of what it belongs to. */
static bool check_grad(const Graph *g, const Node *n, int i, Id dx, Err *e) {
    const Type *want = &g->value[n->in[i]]->type, *got = &g->value[dx]->type;
    bool cast_later = g->value[n->in[i]]->role == ROLE_TRAIN;
    if (type_same_shape(want, got) && (cast_later || want->dtype == got->dtype))
        return true;
    return err_at(e, n->at.loc, "gradient of input %d of %s: got %s, want %s", i,
                  n->op->name, type_text(g->arena, got), type_text(g->arena, want));
}

static bool enter(Backward *b, const Node *n, int i, Id dx, Err *e) {
    if (dx == NO_ID) return true;
    if (!check_grad(b->g, n, i, dx, e)) return false;
    Id *sum = &b->grad[n->in[i]];
    *sum = accumulate(b->g, b->g->value[n->in[i]], *sum, dx, e);
    return *sum != NO_ID;
}

static bool run_rule(Backward *b, const Node *n, Err *e) {
    Graph *g = b->g;
    Arena *a = g->arena;
    Id *dy = NEW(a, Id, n->n_out), *dx = NEW(a, Id, n->n_in + 1);
    bool *need = NEW(a, bool, n->n_in + 1), given = false, wanted = false;
    for (int o = 0; o < n->n_out; o++) {
        dy[o] = b->grad[n->out[o]];
        given |= dy[o] != NO_ID;
    }
    for (int i = 0; i < n->n_in; i++) {
        dx[i] = NO_ID;
        need[i] =
            n->in[i] != NO_ID && differentiable(g, n, i) && active(&b->y, n->in[i]);
        wanted |= need[i];
    }
    if (!given || !wanted) return true;
    if (!n->op->grad)
        return err_at(e, n->at.loc, "op '%s' has no gradient rule", n->op->name);
    g->at = n->at;
    g->at.phase = BACKWARD;
    if (!n->op->grad(g, n, dy, need, dx, e)) return false;
    for (int i = 0; i < n->n_in; i++)
        if (need[i] && !enter(b, n, i, dx[i], e)) return false;
    return true;
}

/* ---- gradients of trainables ---- */

/* Zero outside the slice that learns: norms and sums must not see the rest. Most often the
 * row `active` stands before every use and has seen to it. */
static Id masked(Graph *g, const Value *v, Id dx, Err *e) {
    const Param *p = v->param;
    if (!p || p->slice_axis < 0 || p->slice_index == NO_ID) return dx;
    if (g->value[dx]->role == ROLE_CONST) return dx; /* zeros: it has no gradient */
    Id maker = g->value[dx]->node;
    if (maker != NO_ID && g->node[maker]->op == &op_active_grad) return dx;
    ActiveAttrs at = {p->slice_axis, p->slice_size};
    return graph_op(g, &op_active_grad, &at, 2, (Id[]){dx, p->slice_index}, e);
}

static Id zeros(Graph *g, const Type *t) {
    return graph_const(g, *t, NEW(g->arena, double, type_count(t)));
}

static bool finish(Backward *b, const Value *v, Err *e) {
    Graph *g = b->g;
    const DType t = dtype_is_half(v->type.dtype) ? v->type.dtype : F32;
    Type want = type_of(t, v->type.rank, v->type.dim);
    Id dx = b->grad[v->id];
    g->at = (Place){.loc = v->loc, .block = -1, .phase = BACKWARD};
    if (dx == NO_ID) {
        dx = zeros(g, &want); /* every rule on the way said that it is nothing */
        if (learns(v))
            report(g, "differentiate: the gradient of '%s' is always zero", v->name);
    } else if (g->value[dx]->node != NO_ID) {
        g->at = g->node[g->value[dx]->node]->at;
    }
    dx = graph_cast(g, dx, t, e);
    if (dx != NO_ID) dx = graph_view(g, dx, want, e);
    if (dx != NO_ID) dx = masked(g, v, dx, e);
    if (dx == NO_ID) return false;
    graph_output(g, arena_printf(g->arena, "grad.%s", v->name), dx);
    return true;
}

static void explain(const Backward *b, uint32_t n_node) {
    const Graph *g = b->g;
    uint32_t with = 0, without = 0, first = NO_ID;
    for (uint32_t k = 0; k < n_node; k++) {
        bool any = false;
        for (int o = 0; o < g->node[k]->n_out; o++)
            any |= active(&b->y, g->node[k]->out[o]);
        if (any && first == NO_ID) first = k;
        if (any)
            with++;
        else
            without++;
    }
    report(g,
           "differentiate: %u backward nodes; %u forward nodes with a gradient, %u "
           "without",
           g->n_node - n_node, with, without);
    if (first == NO_ID) return;
    const Node *n = g->node[first];
    report(g, "differentiate: the first is '%s' (%s), because of '%s'",
           n->at.path ? n->at.path : "?", n->op->name,
           g->value[b->y.from[n->out[0]]]->name);
}

Graph *pass_differentiate(Graph *g, Options *opt, Err *e) {
    Backward b = {.g = g, .n_value = g->n_value};
    uint32_t n_node = g->n_node, n_value = g->n_value;
    if (!activity_find(g->arena, g, &b.y, e)) return NULL;
    b.grad = NEW(g->arena, Id, n_value);
    memset(b.grad, 0xff, n_value * sizeof(Id));
    Place keep = g->at;
    g->at = (Place){.block = -1, .phase = BACKWARD};
    b.grad[b.y.loss] = scales_loss(opt) ? loss_scale_new(g) : graph_number(g, 1, F32);
    for (uint32_t k = n_node; k-- > 0;)
        if (!run_rule(&b, g->node[k], e)) return NULL;
    for (uint32_t i = 0; i < n_value; i++)
        if (g->value[i]->role == ROLE_TRAIN && !finish(&b, g->value[i], e)) return NULL;
    for (uint32_t i = n_value; i < g->n_value; i++) g->value[i]->batch = false;
    g->at = keep;
    explain(&b, n_node);
    return g;
}
