/* inject-adapters: the recipe's adapters around the nodes they match (graph/lang/build.h does
 * both), and the check that training can do something with each: a gradient path from the
 * loss to every trainable. */
#include "passes/private.h"

#include <string.h>

/* Where the way from a trainable towards the loss stops: the last node that depends on it. */
static const Node *path_end(const Graph *g, Id train) {
    bool *reached = NEW(g->arena, bool, g->n_value);
    reached[train] = true;
    const Node *last = NULL;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        bool flows = false, touches = false;
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == NO_ID || !reached[n->in[i]]) continue;
            touches = true;
            flows |= differentiable(g, n, i);
        }
        if (touches) last = n;
        for (int o = 0; o < n->n_out; o++)
            reached[n->out[o]] =
                flows && dtype_is_float(g->value[n->out[o]]->type.dtype);
    }
    return last;
}

/* Does the loss need no node that v's module wraps? A layer behind `clip_skip` has modules,
 * which are saved and never learn. `plain`: the graph before adapters. */
static bool on_unused_node(const Graph *plain, const Modules *m, const Value *v) {
    const bool *needed = nodes_needed(plain->arena, plain, false);
    for (int i = 0; i < m->n; i++) {
        const Module *mod = &m->item[i];
        size_t n = strlen(mod->root);
        if (strncmp(v->name, mod->root, n) || v->name[n] != '.') continue;
        const char *path = arena_printf(plain->arena, "%s.%s", mod->network, mod->path);
        for (uint32_t k = 0; k < plain->n_node; k++)
            if (needed[k] && plain->node[k]->at.path &&
                !strcmp(plain->node[k]->at.path, path))
                return false;
        return true;
    }
    return false;
}

static bool no_path(const Graph *g, const Value *v, const char *to, Err *e) {
    const Node *end = path_end(g, v->id);
    err_at(e, v->loc, "trainable '%s' has no gradient path to %s", v->name, to);
    if (end)
        err_note(e, "note: the path ends at '%s' (%s)",
                 end->at.path ? end->at.path : "?", end->op->name);
    else
        err_note(e, "note: no node reads it");
    return false;
}

bool modules_learn(const Graph *g, const Graph *plain, const Modules *m, Err *e) {
    bool *reached = NEW(g->arena, bool, g->n_value);
    const Id loss = graph_output_find(g, "loss");
    for (uint32_t i = 0; i < g->n_output; i++)
        if (loss == NO_ID || g->output[i].value == loss)
            reached[g->output[i].value] = true;
    gradient_reach(g, reached);
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        const bool of_module =
            v->role == ROLE_TRAIN && graph_find(plain, v->name) == NO_ID;
        if (of_module && !reached[i] && !on_unused_node(plain, m, v))
            return no_path(g, v, loss == NO_ID ? "an output" : "the loss", e);
    }
    return true;
}

Graph *pass_inject_adapters(Graph *g, Options *opt, Err *e) {
    Modules *m = NEW(g->arena, Modules, 1);
    if (!modules_match(g->arena, g, opt->recipe, opt->net, opt->n_net, m, e))
        return NULL;
    m->given = opt->given_draws;
    Graph *out = adapters_inject(g, m, opt->train, e);
    if (!out) return NULL;
    out->report = g->report;
    opt->modules = m;
    opt->adapted = out;
    uint32_t trainables = 0;
    uint64_t elements = 0;
    if (opt->train && !modules_learn(out, g, m, e)) return NULL;
    for (uint32_t i = 0; i < out->n_value; i++) {
        const Value *v = out->value[i];
        if (!learns(v)) continue;
        trainables++;
        elements += (uint64_t)type_count(&v->type);
    }
    if (opt->train && !trainables) {
        err_at(e, opt->recipe->doc->root->loc,
               "recipe '%s' trains nothing: its adapters make no module (is a rank or "
               "a learning rate 0?) "
               "and no network is trained",
               opt->recipe->doc->name);
        return NULL;
    }
    report(out, "inject-adapters: %d modules, %u trainable tensors, %llu elements",
           m->n, trainables, (unsigned long long)elements);
    return out;
}
