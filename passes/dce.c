/* dce: what no output, no effect and no parameter's start needs is left out, declared
 * values among it: an input that nobody reads is not part of the plan. Trainables and
 * their state stay, because they are saved. Ends: one walk; a second finds nothing. */
#include "passes/private.h"

#include <string.h>

static void need_value(const Graph *g, bool *need, Id v) {
    if (v != NO_ID && g->value[v]->node != NO_ID) need[g->value[v]->node] = true;
}

bool *nodes_needed(Arena *a, const Graph *g, bool with_init) {
    bool *need = NEW(a, bool, g->n_node + 1);
    for (uint32_t i = 0; i < g->n_output; i++) need_value(g, need, g->output[i].value);
    for (uint32_t i = 0; with_init && i < g->n_value; i++) {
        const Param *p = g->value[i]->param;
        if (!p) continue;
        if (p->init.kind == INIT_VALUE) need_value(g, need, p->init.value);
        if (p->slice_axis >= 0) need_value(g, need, p->slice_index);
    }
    for (uint32_t k = g->n_node; k-- > 0;) {
        const Node *n = g->node[k];
        if (n->op->flags & OP_NO_FOLD) need[k] = true;
        for (int i = 0; need[k] && i < n->n_in; i++) need_value(g, need, n->in[i]);
    }
    return need;
}

static bool *values_needed(const Graph *g, const bool *node) {
    bool *need = NEW(g->arena, bool, g->n_value + 1);
    for (uint32_t k = 0; k < g->n_node; k++)
        for (int i = 0; node[k] && i < g->node[k]->n_in; i++)
            if (g->node[k]->in[i] != NO_ID) need[g->node[k]->in[i]] = true;
    for (uint32_t i = 0; i < g->n_output; i++) need[g->output[i].value] = true;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role == ROLE_TRAIN || v->role == ROLE_STATE) need[i] = true;
        if (!v->param) continue;
        if (v->param->init.kind == INIT_VALUE) need[v->param->init.value] = true;
        if (v->param->slice_axis >= 0 && v->param->slice_index != NO_ID)
            need[v->param->slice_index] = true;
    }
    return need;
}

/* The declared values that somebody needs, in a new graph. */
static Graph *keep_values(const Graph *g, const bool *need, Id *map) {
    Graph *kept = graph_new(g->arena, g->name);
    kept->blocks = g->blocks;
    kept->report = g->report;
    kept->n_const = g->n_const;
    kept->at = g->at;
    memset(map, 0xff, g->n_value * sizeof(Id));
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role == ROLE_ACT || !need[i]) continue;
        map[i] = graph_value(kept, v->role, v->type, v->name, v->loc);
        Value *copy = kept->value[map[i]];
        copy->batch = v->batch;
        copy->data = v->data;
        if (v->param) {
            copy->param = NEW(g->arena, Param, 1);
            *copy->param = *v->param;
        }
    }
    return kept;
}

Graph *pass_dce(Graph *g, Options *opt, Err *e) {
    (void)opt;
    bool *node = nodes_needed(g->arena, g, true), *value = values_needed(g, node);
    Id *map = NEW(g->arena, Id, g->n_value + 1);
    Graph *kept = keep_values(g, value, map);
    uint32_t declared = kept->n_value, before = 0;
    for (uint32_t i = 0; i < g->n_value; i++) before += g->value[i]->role != ROLE_ACT;
    for (uint32_t k = 0; k < g->n_node; k++)
        if (node[k] && !graph_copy_node(kept, g->node[k], g, map, e)) return NULL;
    graph_copy_outputs(kept, g, map);
    report(kept, "dce: %u nodes and %u declared values removed; %u nodes left",
           g->n_node - kept->n_node, before - declared, kept->n_node);
    return kept;
}
