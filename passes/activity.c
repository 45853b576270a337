/* Which values depend on a trainable, and which the loss depends on. Only values with both
 * get a gradient; everything else of the backward graph is never formed. The trainable is
 * kept as a witness, so that a report can say why a gradient is needed. O(nodes + edges). */
#include "passes/private.h"

#include <string.h>

bool differentiable(const Graph *g, const Node *n, int i) {
    if (n->in[i] == NO_ID || n->op->flags & OP_NO_GRAD) return false;
    if (!dtype_is_float(g->value[n->in[i]]->type.dtype)) return false;
    return !(op_in(n->op, i)->flags & IN_INDEX);
}

bool learns(const Value *v) {
    return v->role == ROLE_TRAIN && !(v->param && v->param->lr == 0);
}

static void go_forward(const Graph *g, Id *from) {
    for (uint32_t i = 0; i < g->n_value; i++) from[i] = learns(g->value[i]) ? i : NO_ID;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        Id witness = NO_ID;
        for (int i = 0; i < n->n_in && witness == NO_ID; i++)
            if (differentiable(g, n, i)) witness = from[n->in[i]];
        for (int o = 0; o < n->n_out; o++)
            if (dtype_is_float(g->value[n->out[o]]->type.dtype))
                from[n->out[o]] = witness;
    }
}

void gradient_reach(const Graph *g, bool *to) {
    for (uint32_t k = g->n_node; k-- > 0;) {
        const Node *n = g->node[k];
        bool reached = false;
        for (int o = 0; o < n->n_out; o++) reached |= to[n->out[o]];
        for (int i = 0; reached && i < n->n_in; i++)
            if (differentiable(g, n, i)) to[n->in[i]] = true;
    }
}

bool activity_find(Arena *a, const Graph *g, Activity *out, Err *e) {
    out->loss = graph_output_find(g, "loss");
    if (out->loss == NO_ID) return err_usage(e, "the graph has no output 'loss'");
    const Value *loss = g->value[out->loss];
    if (loss->type.dtype != F32 || loss->type.rank)
        return err_at(e, loss->loc, "the loss must be a number: got %s, want f32[]",
                      type_text(a, &loss->type));
    out->from = NEW(a, Id, g->n_value);
    out->to = NEW(a, bool, g->n_value);
    go_forward(g, out->from);
    out->to[out->loss] = true;
    gradient_reach(g, out->to);
    return true;
}
