/* Objectives: the document around whole networks, whose value is the loss. */
#include "graph/lang/build_private.h"

#include <string.h>

bool doc_bind(Arena *a, const Doc *d, const Args *given, Args *out, Err *e) {
    const char *what = arena_printf(a, "%s '%s'", doc_kind_name(d->kind), d->name);
    const Args *some = given ? given : args_new(a);
    return args_bind(a, yaml_get(d->root, "args"), some, what, d->root->loc, out, e) &&
           let_bind(a, d, out, e);
}

static bool all_given(const Build *b, const bool *seen, const Doc *d, Err *e) {
    for (int i = 0; b->given && b->given[i]; i++)
        if (!seen[i])
            return err_usage(e, "objective '%s' has no node '%s' to give", d->name,
                             b->given[i]);
    return true;
}

static bool loss_outputs(Ctx *c, Level *l, const Doc *d, Err *e) {
    const YNode *loss = yaml_get(d->root, "loss"), *log = yaml_get(d->root, "log");
    Id id;
    if (!loss) return err_at(e, d->root->loc, "objective '%s' has no 'loss'", d->name);
    if (!formula_eval(c, l, loss, &id, e)) return false;
    const Type *t = &c->g->value[id]->type;
    if (t->rank)
        return err_at(e, loss->loc, "the loss must be one number, got %s",
                      shape_text(c->a, t));
    graph_output(c->g, "loss", id);
    for (int i = 0; log && i < log->n; i++) {
        if (!formula_eval(c, l, log->item[i], &id, e)) return false;
        graph_output(c->g, arena_printf(c->a, "log.%s", log->key[i]->s), id);
    }
    return true;
}

bool build_objective(Build *b, const Doc *d, const Args *args, const Args *dims,
                     Err *e) {
    Ctx c = ctx_new(b, NULL);
    Args *bound = args_new(c.a);
    Named *in;
    int n_in, n_given = 0;
    if (!doc_bind(c.a, d, args, bound, e)) return false;
    if (!build_inputs(b, d, bound, dims, "", &in, &n_in, e)) return false;
    while (b->given && b->given[n_given]) n_given++;
    c.given = b->given;
    c.given_seen = NEW(c.a, bool, n_given + 1);
    c.dims = dims;
    c.record = c.calls = true;
    Level l = {.doc = d, .scope = scope_new(c.a), .args = bound, .prefix = ""};
    for (int i = 0; i < n_in; i++) scope_set(l.scope, in[i].name, in[i].value);
    const YNode *nodes = yaml_get(d->root, "nodes");
    return run_nodes(&c, &l, nodes, e) && stacks_empty(&c, d->root->loc, e) &&
           all_given(b, c.given_seen, d, e) && loss_outputs(&c, &l, d, e);
}
