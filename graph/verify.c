/* The independent checker of graphs: what graph.h promises, proved again from the graph
 * alone. Run after every pass and on every graph that was read from text. A failure here
 * is a mistake of a pass or of whoever wrote the text, never of a YAML file. */
#include "graph/op.h"

#include <stdlib.h>
#include <string.h>

typedef struct Check {
    const Graph *g;
    Arena *a; /* for one call */
    Err *e;
} Check;

static Loc place(const Graph *g, uint32_t node) {
    return g->node[node]->at.loc;
}

static bool check_type(Check *c, const Value *v) {
    const Type *t = &v->type;
    bool fits = t->dtype < DTYPES && t->rank >= 0 && t->rank <= MAX_RANK;
    uint64_t count = 1;
    for (int i = 0; fits && i < t->rank; i++)
        fits = t->dim[i] > 0 && mul_u64(count, (uint64_t)t->dim[i], &count) &&
               count <= UINT64_C(1) << 47;
    if (!fits) return err_at(c->e, v->loc, "value %u has a type that cannot be", v->id);
    if (v->batch && !t->rank)
        return err_at(c->e, v->loc, "value %u counts samples but has no dimension",
                      v->id);
    return true;
}

static bool is_value(const Check *c, Id id) {
    return id < c->g->n_value;
}

static bool check_param(Check *c, const Value *v) {
    const Param *p = v->param;
    if (!p) return true;
    if (p->init.kind > INIT_VALUE ||
        (p->init.kind == INIT_VALUE && !is_value(c, p->init.value)))
        return err_at(c->e, v->loc, "'%s' starts as a value that is not there",
                      v->name);
    if (p->init.kind == INIT_VALUE &&
        !type_same_shape(&c->g->value[p->init.value]->type, &v->type))
        return err_at(c->e, v->loc,
                      "'%s' starts as a value of another shape: got %s, want %s",
                      v->name, type_text(c->a, &c->g->value[p->init.value]->type),
                      type_text(c->a, &v->type));
    if (p->slice_axis < 0) return true;
    if (p->slice_axis >= v->type.rank || p->slice_size < 1 ||
        v->type.dim[p->slice_axis] % p->slice_size)
        return err_at(c->e, v->loc, "'%s': slices of %lld on axis %d do not divide %s",
                      v->name, (long long)p->slice_size, p->slice_axis,
                      type_text(c->a, &v->type));
    if (p->slice_index == NO_ID) return true;
    if (!is_value(c, p->slice_index) ||
        type_count(&c->g->value[p->slice_index]->type) != 1)
        return err_at(c->e, v->loc, "'%s': the slice's index is no number", v->name);
    return true;
}

static bool check_value(Check *c, Id id) {
    const Graph *g = c->g;
    const Value *v = g->value[id];
    if (v->id != id) return err_at(c->e, v->loc, "value %u says it is %u", id, v->id);
    if (v->role >= ROLES) return err_at(c->e, v->loc, "value %u has no role", id);
    if (!check_type(c, v)) return false;
    if (v->role == ROLE_ACT) {
        bool made = v->node < g->n_node && v->out >= 0 &&
                    v->out < g->node[v->node]->n_out &&
                    g->node[v->node]->out[v->out] == id;
        return made || err_at(c->e, v->loc, "activation %u is made by no node", id);
    }
    if (v->node != NO_ID)
        return err_at(c->e, v->loc, "%s value %u is made by a node", role_name(v->role),
                      id);
    if (!v->name)
        return err_at(c->e, v->loc, "%s value %u has no name", role_name(v->role), id);
    if (graph_find(g, v->name) != id)
        return err_at(c->e, v->loc, "two values are called '%s'", v->name);
    if ((v->role == ROLE_CONST) != (v->data != NULL))
        return err_at(c->e, v->loc, "'%s': data and role '%s' do not go together",
                      v->name, role_name(v->role));
    return check_param(c, v);
}

static bool check_attrs(Check *c, const Node *n) {
    for (const Attr *at = n->op->attrs; at && at->name; at++) {
        const void *p = (const char *)n->attrs + at->offset;
        bool fits = true;
        int words = 0;
        while (at->words && at->words[words]) words++;
        if (at->kind == 'w') fits = *(const uint32_t *)p < (uint32_t)words;
        if (at->kind == 'd') fits = *(const uint32_t *)p < DTYPES;
        if (at->kind == 'l') fits = (unsigned)((const IntList *)p)->n <= 8;
        if (!fits)
            return err_at(c->e, n->at.loc,
                          "node %u (%s): attribute '%s' is out of range", n->index,
                          n->op->name, at->name);
    }
    return true;
}

static bool check_inputs(Check *c, const Node *n) {
    const Graph *g = c->g;
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == NO_ID) continue;
        if (!is_value(c, n->in[i]))
            return err_at(c->e, n->at.loc,
                          "node %u (%s) reads value %u, which is not there", n->index,
                          n->op->name, n->in[i]);
        const Value *v = g->value[n->in[i]];
        if (v->role == ROLE_ACT && v->node >= n->index)
            return err_at(c->e, n->at.loc,
                          "node %u (%s) reads what node %u makes later", n->index,
                          n->op->name, v->node);
    }
    return true;
}

static bool check_types(Check *c, const Node *n) {
    Type out[64] = {0};
    Sig s = node_sig(c->a, c->g, n);
    s.out = out;
    s.n_out = n->op->n_out < 0 ? 0 : n->op->n_out;
    Err why = {0};
    if (!n->op->shape(&s, &why)) {
        err_at(c->e, n->at.loc, "node %u (%s) does not fit its inputs", n->index,
               n->op->name);
        err_note(c->e, "note: %s", why.text);
        return false;
    }
    if (s.n_out != n->n_out)
        return err_at(c->e, n->at.loc, "node %u (%s) has %d outputs, want %d", n->index,
                      n->op->name, n->n_out, s.n_out);
    for (int i = 0; i < n->n_out; i++) {
        const Type *got = &c->g->value[n->out[i]]->type;
        if (!type_equal(got, &out[i]))
            return err_at(c->e, n->at.loc, "node %u (%s) makes %s, its value says %s",
                          n->index, n->op->name, type_text(c->a, &out[i]),
                          type_text(c->a, got));
    }
    return true;
}

static bool check_node(Check *c, uint32_t index) {
    const Node *n = c->g->node[index];
    if (n->index != index)
        return err_at(c->e, n->at.loc, "node %u says it is %u", index, n->index);
    if (n->op->flags & OP_YAML_ONLY)
        return err_at(c->e, n->at.loc, "op '%s' cannot stand in a graph", n->op->name);
    for (int i = 0; i < n->n_out; i++)
        if (!is_value(c, n->out[i]) || c->g->value[n->out[i]]->node != index)
            return err_at(c->e, n->at.loc, "output %d of node %u is not its own", i,
                          index);
    int blocks = 0;
    while (c->g->blocks && c->g->blocks[blocks]) blocks++;
    if (n->at.phase >= PHASES || (c->g->blocks && n->at.block >= blocks))
        return err_at(c->e, place(c->g, index), "node %u has no such phase or block",
                      index);
    return check_inputs(c, n) && check_attrs(c, n) && check_types(c, n);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_outputs(Check *c) {
    const Graph *g = c->g;
    const char **name = NEW(c->a, const char *, g->n_output + 1);
    for (uint32_t i = 0; i < g->n_output; i++) {
        name[i] = g->output[i].name;
        if (!is_value(c, g->output[i].value))
            return err_at(c->e, loc_none(), "output '%s' is a value that is not there",
                          name[i]);
    }
    qsort(name, g->n_output, sizeof *name, by_name);
    for (uint32_t i = 1; i < g->n_output; i++)
        if (!strcmp(name[i - 1], name[i]))
            return err_at(c->e, loc_none(), "two outputs are called '%s'", name[i]);
    return true;
}

static bool check_all(Check *c) {
    for (uint32_t i = 0; i < c->g->n_value; i++)
        if (!check_value(c, i)) return false;
    for (uint32_t i = 0; i < c->g->n_node; i++)
        if (!check_node(c, i)) return false;
    return check_outputs(c);
}

bool graph_verify(const Graph *g, Err *e) {
    Check c = {g, arena_new(), e};
    bool ok = check_all(&c);
    arena_free(c.a);
    return ok;
}
