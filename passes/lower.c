/* lower: Graph -> Plan. For each node that runs the first kernel variant that fits; for
 * each value a memory and an offset; views become no step at all. What a parameter starts
 * as, if that is a value, becomes a plan of its own (Plan.init). */
#include "passes/private.h"

#include <string.h>

typedef struct Lower {
    const Graph *g;
    const Options *opt;
    Arena *a;
    Plan *p;
    uint32_t *order, n_order;
    Buffers buffers;
    uint32_t *index; /* per graph value: in Plan.value, or NO_ID */
    uint32_t cap_value;
    Err *e;
} Lower;

static Mem memory_of(Role r) {
    static const Mem of[] = {
        [ROLE_ACT] = MEM_ACT,     [ROLE_INPUT] = MEM_INPUT,   [ROLE_SCALAR] = MEM_INPUT,
        [ROLE_CONST] = MEM_CONST, [ROLE_FROZEN] = MEM_WEIGHT, [ROLE_TRAIN] = MEM_STATE,
        [ROLE_STATE] = MEM_STATE};
    return of[r];
}

/* ---- values ---- */

static uint64_t take_room(Plan *p, Mem m, uint64_t bytes) {
    uint64_t at = p->size[m];
    p->size[m] += (bytes + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
    return at;
}

/* The plan's value for v; what it views comes first. */
static uint32_t value_index(Lower *l, Id v) {
    if (l->index[v] != NO_ID) return l->index[v];
    Id base = l->buffers.base[v];
    uint32_t of = base == v ? l->p->n_value : value_index(l, base);
    const Value *x = l->g->value[v], *b = l->g->value[base];
    PlanValue y = {
        .type = x->type, .role = x->role, .mem = memory_of(b->role), .base = of};
    y.bytes = type_bytes(&x->type);
    y.name = x->role == ROLE_ACT ? NULL : x->name;
    y.data = x->data;
    y.param = x->param;
    if (base != v)
        y.offset = l->p->value[of].offset;
    else if (y.mem == MEM_ACT)
        y.offset = l->buffers.item[l->buffers.of[v]].offset;
    else if (y.mem == MEM_WEIGHT)
        l->p->size[MEM_WEIGHT] += y.bytes;
    else
        y.offset = take_room(l->p, y.mem, y.bytes);
    l->index[v] = l->p->n_value;
    PUSH(l->a, l->p->value, l->p->n_value, l->cap_value, y);
    return l->index[v];
}

/* ---- steps ---- */

const Kernel *kernel_choose(const Sig *s, const Options *opt) {
    const Kernel *k = opt->cuda ? s->op->cuda : s->op->cpu;
    if (!k || !k->name) return NULL;
    if (opt->reference_kernels)
        while (k[1].name) k++;
    while (k->name && k->fits && !k->fits(s)) k++;
    return k->name ? k : NULL;
}

static const uint32_t *operands(Lower *l, const Id *id, int n) {
    uint32_t *out = NEW(l->a, uint32_t, n + 1);
    for (int i = 0; i < n; i++)
        out[i] = id[i] == NO_ID ? UINT32_MAX : value_index(l, id[i]);
    return out;
}

/* Moves the lifetimes of what the step reads and writes. */
static void touch(Lower *l, const PlanStep *t, uint32_t k) {
    Plan *p = l->p;
    for (int i = 0; i < t->n_in; i++) {
        if (t->in[i] == UINT32_MAX) continue;
        PlanValue *v = &p->value[t->in[i]];
        v->last = p->value[v->base].last = k;
    }
    for (int o = 0; o < t->n_out; o++) {
        PlanValue *v = &p->value[t->out[o]];
        v->first = v->last = k;
    }
}

static uint64_t bytes_moved(const Sig *s) {
    uint64_t bytes = 0;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i].rank >= 0) bytes += type_bytes(&s->in[i]);
    for (int o = 0; o < s->n_out; o++) bytes += type_bytes(&s->out[o]);
    return bytes;
}

static bool add_step(Lower *l, const Node *n, uint32_t k) {
    Sig s = node_sig(l->a, l->g, n);
    PlanStep t = {.op = n->op, .attrs = n->attrs, .n_in = n->n_in, .n_out = n->n_out};
    t.kernel = kernel_choose(&s, l->opt);
    if (!t.kernel)
        return err_at(l->e, n->at.loc,
                      l->opt->cuda
                          ? "op '%s' has no CUDA kernel for these types, sizes "
                            "or for so long a formula"
                          : "op '%s' has no kernel for these types",
                      n->op->name);
    t.in = operands(l, n->in, n->n_in);
    t.out = operands(l, n->out, n->n_out);
    t.work_bytes = t.kernel->work ? t.kernel->work(&s) : 0;
    if (t.work_bytes > l->p->size[MEM_WORK]) l->p->size[MEM_WORK] = t.work_bytes;
    t.flops = n->op->flops ? n->op->flops(&s)
                           : (uint64_t)(n->n_out ? type_count(&s.out[0]) : 0);
    t.bytes = bytes_moved(&s);
    t.at = n->at;
    t.at.segment = NULL; /* only passes ask for it */
    touch(l, &t, k);
    l->p->step[k] = t;
    return true;
}

static bool add_steps(Lower *l) {
    Plan *p = l->p;
    p->step = NEW(l->a, PlanStep, l->n_order + 1);
    for (uint32_t i = 0; i < l->n_order; i++) {
        const Node *n = l->g->node[l->order[i]];
        if (n->op->flags & OP_VIEW) continue;
        if (!add_step(l, n, p->n_step)) return false;
        p->n_step++;
    }
    return true;
}

static void add_outputs(Lower *l) {
    Plan *p = l->p;
    p->output = NEW(l->a, Output, l->g->n_output + 1);
    for (uint32_t i = 0; i < l->g->n_output; i++) {
        uint32_t v = value_index(l, l->g->output[i].value);
        p->output[p->n_output++] = (Output){l->g->output[i].name, v};
        p->value[v].last = p->value[p->value[v].base].last = p->n_step;
    }
}

/* ---- starts ---- */

static void mark(const Graph *g, bool *need, Id v) {
    if (v != NO_ID && g->value[v]->node != NO_ID) need[g->value[v]->node] = true;
}

static bool check_start(const Graph *g, Err *e) {
    for (uint32_t k = 0; k < g->n_node; k++)
        for (int i = 0; i < g->node[k]->n_in; i++) {
            Id v = g->node[k]->in[i];
            if (v == NO_ID || g->value[v]->role != ROLE_INPUT) continue;
            return err_at(e, g->node[k]->at.loc,
                          "a tensor's start cannot depend on '%s'", g->value[v]->name);
        }
    return true;
}

/* The nodes behind trainables that start as a value; NULL with *any false: there are none. */
static Graph *init_graph(const Graph *g, bool *any, Err *e) {
    Id *map;
    Graph *out = graph_rewrite(g, &map);
    bool *need = NEW(g->arena, bool, g->n_node + 1);
    *any = false;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Param *p = g->value[i]->param;
        if (!p || p->init.kind != INIT_VALUE) continue;
        *any = true;
        mark(g, need, p->init.value);
    }
    if (!*any) return NULL;
    for (uint32_t k = g->n_node; k-- > 0;)
        for (int i = 0; need[k] && i < g->node[k]->n_in; i++)
            mark(g, need, g->node[k]->in[i]);
    for (uint32_t k = 0; k < g->n_node; k++)
        if (need[k] && !graph_copy_node(out, g->node[k], g, map, e)) return NULL;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (!v->param || v->param->init.kind != INIT_VALUE) continue;
        Id start = graph_cast(out, map[v->param->init.value], v->type.dtype, e);
        if (start == NO_ID) return NULL;
        graph_output(out, v->name, start);
    }
    return check_start(out, e) ? out : NULL;
}

/* ---- the whole ---- */

static Plan *lower(const Graph *g, const Options *opt, bool start, Err *e) {
    Lower l = {.g = g, .opt = opt, .a = g->arena, .e = e};
    l.p = NEW(l.a, Plan, 1);
    l.p->arena = l.a;
    l.p->name = g->name;
    l.p->blocks = g->blocks;
    l.order = nodes_run(l.a, g, &l.n_order);
    l.buffers =
        buffers_find(l.a, g, l.order, l.n_order, !pass_disabled(opt, "in-place"));
    l.p->act_lower_bound = buffers_peak(&l.buffers, l.n_order);
    l.p->size[MEM_ACT] = buffers_place(&l.buffers, l.p->act_lower_bound);
    l.index = NEW(l.a, uint32_t, g->n_value + 1);
    memset(l.index, 0xff, g->n_value * sizeof *l.index);
    for (uint32_t i = 0; i < g->n_value && !start; i++)
        if (g->value[i]->role != ROLE_ACT) value_index(&l, i);
    if (!add_steps(&l)) return NULL;
    add_outputs(&l);
    report(g, "in-place: %u outputs over their input", l.buffers.n_in_place);
    report(g, "plan-memory: activations %s, at least %s (%.4f)",
           bytes_text(l.a, l.p->size[MEM_ACT]), bytes_text(l.a, l.p->act_lower_bound),
           l.p->act_lower_bound
               ? (double)l.p->size[MEM_ACT] / (double)l.p->act_lower_bound
               : 1);
    return l.p;
}

Plan *plan_lower(const Graph *g, const Options *opt, Err *e) {
    bool starts;
    Graph *init = init_graph(g, &starts, e);
    if (starts && !init) return NULL;
    Plan *p = lower(g, opt, false, e);
    if (p && starts) {
        p->init = lower(init, opt, true, e);
        if (!p->init) return NULL;
    }
    if (!p || !plan_verify(p, e)) return NULL;
    report(g, "lower: %u steps, persistent %s, weights %s, workspace %s", p->n_step,
           bytes_text(g->arena, p->size[MEM_STATE]),
           bytes_text(g->arena, p->size[MEM_WEIGHT]),
           bytes_text(g->arena, p->size[MEM_WORK]));
    return p;
}
