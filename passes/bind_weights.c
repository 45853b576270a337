/* bind-weights: every tensor "NETWORK.path.weight" of a network is looked up in the
 * checkpoint it comes from. Missing tensors and shapes that differ are errors that list all
 * of them; where only the element type differs, a frozen tensor takes the checkpoint's, and
 * one that is trained starts from the checkpoint's numbers in its own. A network without a
 * checkpoint keeps its tensors as declared. */
#include "passes/private.h"

#include <string.h>

enum { MOST_LISTED = 10 };

typedef struct Binding {
    Str problems;
    int n_problem, n_bound, n_unbound;
    uint64_t bytes;
    bool changed;
} Binding;

static const Net *network_of(const Options *opt, const char *name, const char **rest) {
    for (int i = 0; i < opt->n_net; i++) {
        size_t n = strlen(opt->net[i].name);
        if (strncmp(opt->net[i].name, name, n) || name[n] != '.') continue;
        *rest = name + n + 1;
        return &opt->net[i];
    }
    return NULL;
}

static void problem(Binding *b, const char *name, const char *what) {
    if (b->n_problem++ < MOST_LISTED)
        str_printf(&b->problems, "\n  '%s' %s", name, what);
}

static void bind(Binding *b, const Options *opt, Arena *a, Value *v) {
    const char *rest;
    const Net *net = network_of(opt, v->name, &rest);
    if (v->role == ROLE_TRAIN && !(net && net->train)) return; /* an adapter's */
    if (!net || !net->shapes) {
        b->n_unbound++;
        return;
    }
    Type t;
    if (!net->shapes->find(net->shapes->ctx, rest, &t)) {
        problem(b, v->name, "is missing");
    } else if (!type_same_shape(&t, &v->type)) {
        problem(b, v->name,
                arena_printf(a, "is %s, want %s", type_text(a, &t),
                             type_text(a, &v->type)));
    } else {
        if (v->role == ROLE_FROZEN) {
            b->changed |= t.dtype != v->type.dtype;
            v->type = t;
        }
        b->n_bound++;
        b->bytes += type_bytes(&t);
    }
}

/* Types of weights changed: everything behind them is inferred again. */
static Graph *infer_again(const Graph *g, Err *e) {
    Id *map;
    Graph *copy = graph_rewrite(g, &map);
    for (uint32_t k = 0; k < g->n_node; k++)
        if (!graph_copy_node(copy, g->node[k], g, map, e)) return NULL;
    graph_copy_outputs(copy, g, map);
    return copy;
}

Graph *pass_bind_weights(Graph *g, Options *opt, Err *e) {
    Binding b = {0};
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role == ROLE_FROZEN || g->value[i]->role == ROLE_TRAIN)
            bind(&b, opt, g->arena, g->value[i]);
    if (b.n_problem) {
        err_fail(e, "the checkpoint does not fit: %d tensors%s%s", b.n_problem,
                 b.problems.s, b.n_problem > MOST_LISTED ? "\n  …" : "");
        str_free(&b.problems);
        return NULL;
    }
    report(g, "bind-weights: %d tensors, %s; %d without a checkpoint", b.n_bound,
           bytes_text(g->arena, b.bytes), b.n_unbound);
    return b.changed ? infer_again(g, e) : g;
}
