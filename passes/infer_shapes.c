/* infer-shapes: every type worked out again from the inputs and compared with what the
 * graph says. The builder infers while it builds; this pass catches what came by other
 * ways (text, code) before anything relies on it. */
#include "passes/private.h"

Graph *pass_infer_shapes(Graph *g, Options *opt, Err *e) {
    (void)opt;
    Id *map;
    Graph *copy = graph_rewrite(g, &map);
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k], *c = graph_copy_node(copy, n, g, map, e);
        if (!c) return NULL;
        for (int o = 0; o < n->n_out; o++) {
            const Type *want = &copy->value[c->out[o]]->type,
                       *got = &g->value[n->out[o]]->type;
            if (c->n_out == n->n_out && type_equal(want, got)) continue;
            err_at(e, n->at.loc, "%s: got output type %s, want %s", n->op->name,
                   type_text(g->arena, got), type_text(g->arena, want));
            return NULL;
        }
    }
    graph_copy_outputs(copy, g, map);
    report(copy, "infer-shapes: %u values", copy->n_value);
    return copy;
}
