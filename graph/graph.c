/* The Graph's builder: values, nodes, and the walk that rewrites one graph into another.
 * Types of outputs come from the rows (op->shape); nothing here knows an operator except
 * the three that the rest of the program may not name: pointwise, view and cast. */
#include "graph/op.h"

#include <math.h>
#include <string.h>

const char *role_name(Role r) {
    static const char *const names[] = {"act",    "input", "scalar", "const",
                                        "frozen", "train", "state"};
    return r < ROLES ? names[r] : "?";
}

const char *phase_name(Phase p) {
    static const char *const names[] = {"forward", "backward", "update", "recompute"};
    return p < PHASES ? names[p] : "?";
}

Param *param_new(Arena *a) {
    Param *p = NEW(a, Param, 1);
    p->lr = 1;
    p->slice_axis = -1;
    p->slice_index = NO_ID;
    p->init.value = NO_ID;
    return p;
}

Graph *graph_new(Arena *a, const char *name) {
    Graph *g = NEW(a, Graph, 1);
    g->arena = a;
    g->name = arena_strdup(a, name);
    g->at.block = -1;
    return g;
}

/* ---- names: open addressing over ids ---- */

static uint32_t hash_text(const char *s) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static void names_put(Graph *g, Id id) {
    uint32_t mask = g->cap_by_name - 1;
    uint32_t i = hash_text(g->value[id]->name) & mask;
    while (g->by_name[i] != NO_ID) i = (i + 1) & mask;
    g->by_name[i] = id;
}

static void names_add(Graph *g, Id id) {
    if (2 * (g->n_by_name + 1) > g->cap_by_name) {
        uint32_t old_cap = g->cap_by_name;
        Id *old = g->by_name;
        g->cap_by_name = old_cap ? 2 * old_cap : 64;
        g->by_name = NEW(g->arena, Id, g->cap_by_name);
        memset(g->by_name, 0xff, g->cap_by_name * sizeof(Id));
        for (uint32_t i = 0; i < old_cap; i++)
            if (old[i] != NO_ID) names_put(g, old[i]);
    }
    names_put(g, id);
    g->n_by_name++;
}

Id graph_find(const Graph *g, const char *name) {
    if (!g->cap_by_name) return NO_ID;
    uint32_t mask = g->cap_by_name - 1;
    for (uint32_t i = hash_text(name) & mask; g->by_name[i] != NO_ID;
         i = (i + 1) & mask)
        if (!strcmp(g->value[g->by_name[i]]->name, name)) return g->by_name[i];
    return NO_ID;
}

/* ---- values ---- */

static Value *value_new(Graph *g, Role role, Type type) {
    Value *v = NEW(g->arena, Value, 1);
    v->id = g->n_value;
    v->type = type;
    v->role = role;
    v->node = NO_ID;
    PUSH(g->arena, g->value, g->n_value, g->cap_value, v);
    return v;
}

Id graph_value(Graph *g, Role role, Type type, const char *name, Loc loc) {
    Value *v = value_new(g, role, type);
    v->name = name ? arena_strdup(g->arena, name) : NULL;
    v->loc = loc;
    if (name && role != ROLE_ACT) names_add(g, v->id);
    return v->id;
}

/* The value that `dtype` can hold nearest to x. */
static double round_to(double x, DType t) {
    switch (t) {
    case F64:
        return x;
    case F32:
        return (float)x;
    case F16:
        return half_to_float(float_to_half((float)x));
    case BF16:
        return bf16_to_float(float_to_bf16((float)x));
    default:
        return trunc(x);
    }
}

Id graph_const(Graph *g, Type type, const double *data) {
    const char *name;
    do {
        name = arena_printf(g->arena, "$%u", g->n_const++);
    } while (graph_find(g, name) != NO_ID);
    Id id = graph_value(g, ROLE_CONST, type, name, g->at.loc);
    int64_t n = type_count(&type);
    double *copy = NEW(g->arena, double, n);
    for (int64_t i = 0; i < n; i++) copy[i] = round_to(data[i], type.dtype);
    g->value[id]->data = copy;
    return id;
}

Id graph_number(Graph *g, double x, DType t) {
    return graph_const(g, type_scalar(t), &x);
}

void graph_output(Graph *g, const char *name, Id value) {
    Output o = {arena_strdup(g->arena, name), value};
    PUSH(g->arena, g->output, g->n_output, g->cap_output, o);
}

Id graph_output_find(const Graph *g, const char *name) {
    for (uint32_t i = 0; i < g->n_output; i++)
        if (!strcmp(g->output[i].name, name)) return g->output[i].value;
    return NO_ID;
}

/* ---- nodes ---- */

enum { MOST_OUTPUTS = 64 };

static void *copy_attrs(Graph *g, const Op *op, const void *attrs) {
    if (!op->attrs_size) return NULL;
    if (!attrs) return attrs_new(g->arena, op);
    void *copy = arena_alloc(g->arena, 1, op->attrs_size);
    memcpy(copy, attrs, op->attrs_size);
    return copy;
}

static bool check_inputs(const Graph *g, const Op *op, int n_in, const Id *in, Err *e) {
    int n = 0;
    bool variadic = false;
    for (; op->in[n].name; n++) variadic = op->in[n].flags & IN_VARIADIC;
    if (n_in > n && !variadic)
        return err_at(e, g->at.loc, "%s: got %d inputs, want at most %d", op->name,
                      n_in, n);
    for (int i = 0; i < n_in; i++) {
        if (in[i] != NO_ID && in[i] >= g->n_value)
            return err_at(e, g->at.loc, "%s: input %d is no value of the graph",
                          op->name, i);
        unsigned flags = op->in[i < n ? i : n - 1].flags;
        if (in[i] == NO_ID && !(flags & IN_OPTIONAL))
            return err_at(e, g->at.loc, "%s: input '%s' is missing", op->name,
                          op->in[i < n ? i : n - 1].name);
    }
    for (int i = n_in; i < n; i++)
        if (!(op->in[i].flags & (IN_OPTIONAL | IN_VARIADIC | IN_SHAPE)))
            return err_at(e, g->at.loc, "%s: input '%s' is missing", op->name,
                          op->in[i].name);
    return true;
}

/* An op's message, with the place and the op's name in front. */
static bool shape_failed(const Graph *g, const Op *op, const Err *why, Err *e) {
    const char *text = why->set ? err_said(why) : "the inputs do not fit";
    return err_at(e, g->at.loc, "%s: %s", op->name, text);
}

static bool counts_samples(const Graph *g, int n_in, const Id *in, const Type *out) {
    for (int i = 0; i < n_in; i++) {
        if (in[i] == NO_ID) continue;
        const Value *v = g->value[in[i]];
        if (v->batch && v->type.rank && out->rank && v->type.dim[0] == out->dim[0])
            return true;
    }
    return false;
}

Node *graph_add(Graph *g, const Op *op, const void *attrs, int n_in, const Id *in,
                Err *e) {
    if (!check_inputs(g, op, n_in, in, e)) return NULL;
    Node *n = NEW(g->arena, Node, 1);
    n->op = op;
    n->attrs = copy_attrs(g, op, attrs);
    n->in = NEW(g->arena, Id, n_in ? n_in : 1);
    if (n_in) memcpy(n->in, in, (size_t)n_in * sizeof(Id));
    n->n_in = n_in;
    n->at = g->at;
    Type out[MOST_OUTPUTS] = {0};
    Sig s = node_sig(g->arena, g, n);
    s.out = out;
    s.n_out = op->n_out < 0 ? 0 : op->n_out;
    Err why = {0};
    if (!op->shape(&s, &why)) return shape_failed(g, op, &why, e), NULL;
    n->n_out = s.n_out;
    n->out = NEW(g->arena, Id, s.n_out ? s.n_out : 1);
    n->index = g->n_node;
    for (int i = 0; i < s.n_out; i++) {
        Value *v = value_new(g, ROLE_ACT, out[i]);
        v->node = n->index;
        v->out = i;
        v->batch = counts_samples(g, n_in, in, &out[i]);
        v->loc = g->at.loc;
        n->out[i] = v->id;
    }
    PUSH(g->arena, g->node, g->n_node, g->cap_node, n);
    return n;
}

Id graph_op(Graph *g, const Op *op, const void *attrs, int n_in, const Id *in, Err *e) {
    Node *n = graph_add(g, op, attrs, n_in, in, e);
    return n ? n->out[0] : NO_ID;
}

/* ---- the three rows that others reach through functions ---- */

static const Op *row(const Graph *g, const char *name, Err *e) {
    const Op *op = op_find(name);
    if (!op) err_at(e, g->at.loc, "no op '%s' in this program", name);
    return op;
}

static void *attr_at(const Op *op, void *attrs, const char *name) {
    return (char *)attrs + attr_find(op, name)->offset;
}

/* What a formula over these inputs computes in: f64 only among constants in f64. */
static DType formula_dtype(const Graph *g, int n_in, const Id *in) {
    bool wide = n_in > 0;
    for (int i = 0; i < n_in; i++) {
        DType t = g->value[in[i]]->type.dtype;
        if (dtype_is_float(t) && t != F64) return F32;
        if (t != F64) wide = false;
    }
    return wide ? F64 : F32;
}

enum { MOST_OPERANDS = 64 };

Id graph_formula(Graph *g, const char *formula, int n_in, const Id *in, Err *e) {
    const Op *op = row(g, "pointwise", e);
    if (!op) return NO_ID;
    if (n_in > MOST_OPERANDS) {
        err_at(e, g->at.loc, "a formula with %d operands, at most %d", n_in,
               MOST_OPERANDS);
        return NO_ID;
    }
    DType t = formula_dtype(g, n_in, in);
    Id operand[MOST_OPERANDS];
    for (int i = 0; i < n_in; i++) {
        bool narrow = t == F32 && g->value[in[i]]->type.dtype == F64;
        operand[i] = narrow ? graph_cast(g, in[i], F32, e) : in[i];
        if (operand[i] == NO_ID) return NO_ID;
    }
    void *attrs = attrs_new(g->arena, op);
    *(const char **)attr_at(op, attrs, "f") = arena_strdup(g->arena, formula);
    *(DType *)attr_at(op, attrs, "dtype") = t;
    return graph_op(g, op, attrs, n_in, operand, e);
}

Id graph_view(Graph *g, Id value, Type shape, Err *e) {
    const Type *t = &g->value[value]->type;
    if (type_same_shape(t, &shape)) return value;
    const Op *op = row(g, "view", e);
    if (!op) return NO_ID;
    void *attrs = attrs_new(g->arena, op);
    IntList *list = attr_at(op, attrs, "shape");
    list->n = shape.rank;
    for (int i = 0; i < shape.rank; i++) list->v[i] = shape.dim[i];
    return graph_op(g, op, attrs, 1, &value, e);
}

Id graph_cast(Graph *g, Id value, DType to, Err *e) {
    if (g->value[value]->type.dtype == to) return value;
    const Op *op = row(g, "cast", e);
    if (!op) return NO_ID;
    void *attrs = attrs_new(g->arena, op);
    *(DType *)attr_at(op, attrs, "to") = to;
    return graph_op(g, op, attrs, 1, &value, e);
}

/* ---- rewriting ---- */

static void copy_value(Graph *g, const Value *v, Id *map) {
    Id id = graph_value(g, v->role, v->type, v->name, v->loc);
    Value *copy = g->value[id];
    copy->batch = v->batch;
    copy->data = v->data;
    if (v->param) {
        copy->param = NEW(g->arena, Param, 1);
        *copy->param = *v->param;
    }
    map[v->id] = id;
}

Graph *graph_rewrite(const Graph *old, Id **map) {
    Graph *g = graph_new(old->arena, old->name);
    g->blocks = old->blocks;
    g->report = old->report;
    g->n_const = old->n_const;
    g->at = old->at;
    *map = NEW(old->arena, Id, old->n_value ? old->n_value : 1);
    memset(*map, 0xff, old->n_value * sizeof(Id));
    for (uint32_t i = 0; i < old->n_value; i++)
        if (old->value[i]->role != ROLE_ACT) copy_value(g, old->value[i], *map);
    return g;
}

Node *graph_copy_node(Graph *g, const Node *node, const Graph *old, Id *map, Err *e) {
    Id few[16], *in = node->n_in <= 16 ? few : NEW(g->arena, Id, node->n_in);
    for (int i = 0; i < node->n_in; i++)
        in[i] = node->in[i] == NO_ID ? NO_ID : map[node->in[i]];
    Place keep = g->at;
    g->at = node->at;
    Node *n = graph_add(g, node->op, node->attrs, node->n_in, in, e);
    g->at = keep;
    if (!n) return NULL;
    for (int i = 0; i < n->n_out; i++) {
        const Value *from = old->value[node->out[i]];
        Value *v = g->value[n->out[i]];
        v->batch = from->batch;
        v->name = from->name;
        v->loc = from->loc;
        map[node->out[i]] = v->id;
    }
    return n;
}

void graph_copy_outputs(Graph *g, const Graph *old, const Id *map) {
    for (uint32_t i = 0; i < old->n_output; i++)
        graph_output(g, old->output[i].name, map[old->output[i].value]);
    for (uint32_t i = 0; i < old->n_value; i++) {
        const Param *p = old->value[i]->param;
        if (!p || map[i] == NO_ID) continue;
        Param *copy = g->value[map[i]]->param;
        if (p->init.kind == INIT_VALUE) copy->init.value = map[p->init.value];
        if (p->slice_index != NO_ID) copy->slice_index = map[p->slice_index];
    }
}
