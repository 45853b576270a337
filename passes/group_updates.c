/* group-updates: an optimizer's steps of several tensors become one.
 *
 * Needs: `update` nodes behind each other, as pass `optimizer` leaves them: whole tensors,
 * one program, one learning rate. Guarantees: the same bits, in fewer launches; so it is for
 * GPUs. Nodes whose tensors learn in slices stay, and so does one by itself. Ends: one walk;
 * a second finds none. */
#include "ops/ops.h"
#include "ops/optim.h"
#include "passes/private.h"

typedef struct Updates {
    const Graph *old;
    Graph *g;
    Id *map;
    const Options *opt;
    const Node *run[UPS_OUTS]; /* that wait for more of their kind */
    int n_run;
    uint32_t n_before, n_after, n_sliced;
    Err *e;
} Updates;

static int over(const Node *n) { /* tensors that it writes over */
    return 1 + n->n_in - UP_STATE;
}

static bool same_kind(const Graph *g, const Node *a, const Node *b) {
    if (a->n_in != b->n_in || !attrs_equal(a->op, a->attrs, b->attrs)) return false;
    for (int i = UP_LR; i <= UP_OK; i++)
        if (a->in[i] != b->in[i]) return false;
    for (int i = UP_STATE; i < a->n_in; i++)
        if (type_same_shape(type_at(g, a->in[i]), type_at(g, a->in[UP_P])) !=
            type_same_shape(type_at(g, b->in[i]), type_at(g, b->in[UP_P])))
            return false;
    return true;
}

/* Does n read what one of the waiting nodes writes? */
static bool depends(const Updates *u, const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        for (int k = 0; k < u->n_run; k++)
            for (int o = 0; o < u->run[k]->n_out; o++)
                if (n->in[i] == u->run[k]->out[o]) return true;
    return false;
}

static bool copy_all(Updates *u) {
    for (int i = 0; i < u->n_run; i++)
        if (!graph_copy_node(u->g, u->run[i], u->old, u->map, u->e)) return false;
    u->n_after += (uint32_t)u->n_run;
    u->n_run = 0;
    return true;
}

static bool has_kernel(const Updates *u, const void *attrs, int n, const Id *in) {
    Arena *a = u->old->arena;
    Type *t = NEW(a, Type, n), *out = NEW(a, Type, UPS_OUTS);
    for (int i = 0; i < n; i++) t[i] = u->g->value[in[i]]->type;
    Sig s = {&op_updates, attrs, t, n, out, 0};
    Err e = {0};
    return op_updates.shape(&s, &e) && kernel_choose(&s, u->opt);
}

static bool put_out(Updates *u) {
    const int n = u->n_run, per = n ? over(u->run[0]) : 0;
    if (n < 2) return copy_all(u);
    const int n_in = UPS_OVER + n * (per + 1);
    Id *in = NEW(u->old->arena, Id, n_in);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < u->run[i]->n_in; k++) {
            const int at = updates_input(n, per, i, k);
            if (at >= 0) in[at] = u->map[u->run[i]->in[k]];
        }
    const void *attrs = u->run[0]->attrs;
    if (!has_kernel(u, attrs, n_in, in)) return copy_all(u);
    u->g->at = u->run[0]->at;
    const Node *made = graph_add(u->g, &op_updates, attrs, n_in, in, u->e);
    if (!made) return false;
    for (int i = 0; i < n; i++)
        for (int o = 0; o < per; o++) {
            const Value *was = u->old->value[u->run[i]->out[o]];
            Value *v = u->g->value[made->out[i * per + o]];
            v->batch = was->batch;
            v->name = was->name;
            v->loc = was->loc;
            u->map[was->id] = v->id;
        }
    u->n_after++;
    u->n_run = 0;
    return true;
}

static bool sliced(const Node *n) {
    return n->in[UP_ACTIVE] != NO_ID || ((const UpdateAttrs *)n->attrs)->axis >= 0;
}

static bool walk(Updates *u, const Node *n) {
    const bool one = n->op == &op_update && !sliced(n);
    u->n_before += n->op == &op_update;
    u->n_sliced += n->op == &op_update && !one;
    const bool more = one && u->n_run && same_kind(u->old, u->run[0], n) &&
                      !depends(u, n) && (u->n_run + 1) * over(n) <= UPS_OUTS &&
                      u->n_run < UPS_TENSORS;
    if (!more && (one || n->op->alias || depends(u, n)) && !put_out(u)) return false;
    if (one)
        u->run[u->n_run++] = n;
    else if (!graph_copy_node(u->g, n, u->old, u->map, u->e))
        return false;
    return true;
}

Graph *pass_group_updates(Graph *g, Options *opt, Err *e) {
    Updates u = {.old = g, .opt = opt, .e = e};
    u.g = graph_rewrite(g, &u.map);
    for (uint32_t k = 0; k < g->n_node; k++)
        if (!walk(&u, g->node[k])) return NULL;
    if (!put_out(&u)) return NULL;
    u.g->at = g->at;
    graph_copy_outputs(u.g, g, u.map);
    report(g, "group-updates: %u updates in %u steps", u.n_before,
           u.n_after + u.n_sliced);
    if (u.n_sliced)
        report(g, "group-updates: %u left as they are: tensors in slices", u.n_sliced);
    return u.g;
}
