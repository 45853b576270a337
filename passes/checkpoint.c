/* checkpoint: activations that the backward pass reads are dropped after the forward pass
 * and computed again just before they are first needed.
 *
 * Needs: a scheduled graph. Guarantees: the same outputs bit for bit, because a copy has
 * its original's attributes and inputs (random streams are keyed by path, so it draws the
 * same numbers); with a budget, everything together is planned within it. Copies have the
 * phase `recompute`. Nodes with an effect, and what they read, never run twice.
 *
 *   per block   kept: what crosses the borders of templates marked `checkpoint: true`
 *   by budget   kept: what checkpoint_solver.c finds cheapest */
#include "passes/checkpoint.h"

#include <stdlib.h>
#include <string.h>

/* The model of time, in picoseconds, behind "how long would it take to make it again": a
 * roofline of two cores with AVX2 (100 GFLOP/s, 15 GB/s), and the start of a step. Only
 * ratios count. */
enum { PS_PER_FLOP = 10, PS_PER_BYTE = 67, PS_PER_NODE = 2000000 };

static uint64_t node_cost(Arena *a, const Graph *g, const Node *n) {
    if (n->op->flags & OP_VIEW) return 0;
    Sig s = node_sig(a, g, n);
    uint64_t flops = n->op->flops ? n->op->flops(&s)
                                  : (uint64_t)(n->n_out ? type_count(&s.out[0]) : 0);
    uint64_t bytes = 0;
    for (int i = 0; i < s.n_in; i++)
        if (s.in[i].rank >= 0) bytes += type_bytes(&s.in[i]);
    for (int o = 0; o < s.n_out; o++) bytes += type_bytes(&s.out[o]);
    uint64_t compute, memory;
    if (!mul_u64(flops, PS_PER_FLOP, &compute)) compute = UINT64_MAX / 4;
    if (!mul_u64(bytes, PS_PER_BYTE, &memory)) memory = UINT64_MAX / 4;
    return (compute > memory ? compute : memory) + PS_PER_NODE;
}

/* ---- what may be dropped ---- */

static bool is_backward(const Node *n) {
    return n->at.phase != FORWARD;
}

static bool same_segment(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

/* Nodes that may run again: of the forward pass, without an effect, before any effect. */
static void find_clones(Remat *r, bool *late) {
    bool effect = false;
    for (uint32_t p = 0; p < r->n_order; p++) {
        const Node *n = r->g->node[r->order[p]];
        effect |= (n->op->flags & OP_NO_FOLD) != 0;
        late[n->index] = effect;
        r->clone[n->index] = !effect && !is_backward(n);
    }
}

static void find_readers(Remat *r, const bool *late) {
    const Graph *g = r->g;
    bool *fixed = NEW(r->a, bool, g->n_value + 1);
    for (uint32_t p = 0; p < r->n_order; p++) {
        const Node *n = g->node[r->order[p]];
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == NO_ID) continue;
            Id b = r->base[n->in[i]];
            uint32_t maker = g->value[b]->node;
            if (maker == NO_ID || !r->clone[maker]) continue;
            if (late[n->index])
                fixed[b] = true;
            else if (is_backward(n))
                r->saved[b] = true;
            else
                r->read_to[b] = p + 1;
            if (!is_backward(n) && !(n->op->flags & OP_VIEW) &&
                !same_segment(n->at.segment, g->node[maker]->at.segment))
                r->border[b] = true;
            if (!g->node[maker]->at.segment) r->border[b] = true;
        }
    }
    for (uint32_t i = 0; i < g->n_output; i++)
        fixed[r->base[g->output[i].value]] = true;
    for (uint32_t i = 0; i < g->n_value; i++)
        if (fixed[i]) r->saved[i] = false;
    for (uint32_t i = 0; i < g->n_value; i++)
        if (fixed[i]) r->read_to[i] = UINT32_MAX; /* there at all times */
}

static Remat remat_new(const Graph *g, bool in_place) {
    Arena *a = g->arena;
    Remat r = {.g = g, .a = a, .in_place = in_place};
    r.order = nodes_run(a, g, &r.n_order);
    Buffers b = buffers_find(a, g, r.order, r.n_order, in_place);
    r.base = b.base;
    r.clone = NEW(a, bool, g->n_node + 1);
    r.cost = NEW(a, uint64_t, g->n_node + 1);
    r.bytes = NEW(a, uint64_t, g->n_value + 1);
    r.read_to = NEW(a, uint32_t, g->n_value + 1);
    r.saved = NEW(a, bool, g->n_value + 1);
    r.border = NEW(a, bool, g->n_value + 1);
    r.keep = NEW(a, bool, g->n_value + 1);
    bool *late = NEW(a, bool, g->n_node + 1);
    find_clones(&r, late);
    find_readers(&r, late);
    r.again = NEW(a, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) {
        uint32_t maker = g->value[i]->node, root = g->value[r.base[i]]->node;
        r.again[i] = maker != NO_ID && root != NO_ID && r.clone[maker] && r.clone[root];
    }
    for (uint32_t p = 0; p < r.n_order; p++) {
        const Node *n = g->node[r.order[p]];
        r.cost[n->index] = node_cost(a, g, n);
        r.base_cost += r.cost[n->index];
    }
    for (uint32_t i = 0; i < g->n_value; i++) {
        r.bytes[i] = type_bytes(&g->value[i]->type);
        r.keep[i] = r.saved[i];
    }
    return r;
}

void remat_keep_borders(Remat *r) {
    for (uint32_t i = 0; i < r->g->n_value; i++)
        r->keep[i] = r->border[i] || (r->saved[i] && r->g->value[i]->node == NO_ID);
}

/* ---- the sequence of a set ---- */

typedef struct Emit {
    const Remat *r;
    Sequence *s;
    Arena *a;
    Id *copy;     /* per old value: its copy, or NO_ID */
    bool *gone;   /* per old value: dropped behind the last read of the forward pass */
    bool forward; /* a node of the forward pass: it always has the originals */
    uint32_t now; /* place of the node that wants something */
    uint32_t *stack;
    uint32_t n_stack, cap_stack;
} Emit;

static bool there(const Emit *x, Id v) {
    return x->forward || !x->gone[v] || x->r->read_to[x->r->base[v]] > x->now;
}

static Id now_as(const Emit *x, Id v) {
    return v == NO_ID || there(x, v) ? v : x->copy[v];
}

/* The node with what its inputs are now; its index stays the old graph's. */
static Node *changed(Emit *x, const Node *n) {
    Node *copy = NEW(x->a, Node, 1);
    *copy = *n;
    copy->in = NEW(x->a, Id, n->n_in + 1);
    for (int i = 0; i < n->n_in; i++) copy->in[i] = now_as(x, n->in[i]);
    return copy;
}

static void append(Emit *x, Node *n) {
    Graph *g = &x->s->g;
    bool same = true;
    for (int i = 0; i < n->n_in; i++) same &= now_as(x, n->in[i]) == n->in[i];
    PUSH(x->a, g->node, g->n_node, g->cap_node, same ? n : changed(x, n));
}

/* A copy's output is known by the value that it is like: only types are read of it. */
static void append_copy(Emit *x, const Node *n) {
    Graph *g = &x->s->g;
    Node *copy = changed(x, n);
    copy->at.phase = RECOMPUTE;
    copy->out = NEW(x->a, Id, n->n_out + 1);
    for (int o = 0; o < n->n_out; o++) {
        x->copy[n->out[o]] = copy->out[o] = g->n_value;
        PUSH(x->a, g->value, g->n_value, g->cap_value, x->r->g->value[n->out[o]]);
    }
    PUSH(x->a, g->node, g->n_node, g->cap_node, copy);
}

/* Copies what v needs and v: producers first, without recursion. */
static void make_again(Emit *x, Id v) {
    const Graph *g = x->r->g;
    x->n_stack = 0;
    PUSH(x->a, x->stack, x->n_stack, x->cap_stack, g->value[v]->node);
    while (x->n_stack) {
        const Node *n = g->node[x->stack[x->n_stack - 1]];
        uint32_t before = x->n_stack;
        for (int i = n->n_in; i-- > 0;) {
            if (n->in[i] == NO_ID || there(x, n->in[i]) || x->copy[n->in[i]] != NO_ID)
                continue;
            PUSH(x->a, x->stack, x->n_stack, x->cap_stack, g->value[n->in[i]]->node);
        }
        if (x->n_stack > before) continue;
        x->n_stack--;
        if (x->copy[n->out[0]] == NO_ID) append_copy(x, n);
    }
}

/* Originals that nobody reads any more, because all readers have copies. */
static void drop_unread(Emit *x) {
    Graph *g = &x->s->g;
    bool *need = NEW(x->a, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_output; i++) need[g->output[i].value] = true;
    uint32_t kept = g->n_node;
    for (uint32_t k = g->n_node; k-- > 0;) {
        Node *n = g->node[k];
        bool here = n->op->flags & OP_NO_FOLD;
        for (int o = 0; o < n->n_out; o++) here |= need[n->out[o]];
        for (int i = 0; here && i < n->n_in; i++)
            if (n->in[i] != NO_ID) need[n->in[i]] = true;
        if (here) g->node[--kept] = n;
    }
    g->node += kept;
    g->n_node -= kept;
}

static void find_peak(Sequence *s, Arena *a) {
    uint32_t n = s->g.n_node;
    uint64_t *change = NEW(a, uint64_t, n + 2), live = 0;
    for (uint32_t i = 0; i < s->buffers.n; i++) {
        change[s->buffers.item[i].first] += s->buffers.item[i].bytes;
        change[s->buffers.item[i].last + 1] -= s->buffers.item[i].bytes; /* mod 2^64 */
    }
    for (uint32_t p = 0; p <= n; p++) {
        live += change[p];
        if (live <= s->peak) continue;
        s->peak = live;
        s->at = p;
    }
}

static void measure(const Remat *r, Arena *a, Sequence *s) {
    s->place = NEW(a, uint32_t, r->g->n_node + 1);
    memset(s->place, 0xff, r->g->n_node * sizeof *s->place);
    s->order = NEW(a, uint32_t, s->g.n_node + 1);
    for (uint32_t k = 0; k < s->g.n_node; k++) {
        const Node *n = s->g.node[k];
        s->order[k] = k;
        s->cost += r->cost[n->index];
        if (n->at.phase != RECOMPUTE)
            s->place[n->index] = k;
        else
            s->n_copy += !(n->op->flags & OP_VIEW);
    }
    s->buffers = buffers_find(a, &s->g, s->order, s->g.n_node, r->in_place);
    find_peak(s, a);
}

void remat_sequence(const Remat *r, Arena *a, Sequence *s) {
    const Graph *g = r->g;
    *s = (Sequence){.g = *g};
    Emit x = {.r = r, .s = s, .a = a};
    s->g.cap_value = g->n_value + g->n_value / 2 + 1;
    s->g.value = NEW(a, Value *, s->g.cap_value);
    memcpy(s->g.value, g->value, g->n_value * sizeof *g->value);
    s->g.n_node = 0;
    s->g.cap_node = r->n_order + r->n_order / 2 + 1;
    s->g.node = NEW(a, Node *, s->g.cap_node);
    x.copy = NEW(a, Id, g->n_value + 1);
    memset(x.copy, 0xff, g->n_value * sizeof *x.copy);
    x.gone = NEW(a, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++)
        x.gone[i] = r->again[i] && !r->keep[r->base[i]];
    for (uint32_t p = 0; p < r->n_order; p++) {
        Node *n = g->node[r->order[p]];
        x.now = p;
        x.forward = !is_backward(n);
        for (int i = 0; !x.forward && i < n->n_in; i++)
            if (n->in[i] != NO_ID && !there(&x, n->in[i]) && x.copy[n->in[i]] == NO_ID)
                make_again(&x, n->in[i]);
        append(&x, n);
    }
    drop_unread(&x);
    measure(r, a, s);
}

/* ---- the pass ---- */

/* What is there beside activations, whatever is recomputed. */
typedef struct Fixed {
    uint64_t weights, state, work, other, all;
} Fixed;

static Fixed fixed_memory(const Remat *r, const Options *opt) {
    Fixed f = {0};
    const Graph *g = r->g;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        uint64_t bytes = type_bytes(&v->type), whole = (bytes + 63) / 64 * 64;
        if (v->role == ROLE_FROZEN)
            f.weights += bytes;
        else if (v->role == ROLE_TRAIN || v->role == ROLE_STATE)
            f.state += whole;
        else if (v->role != ROLE_ACT)
            f.other += whole;
    }
    for (uint32_t p = 0; p < r->n_order; p++) {
        Sig s = node_sig(r->a, g, g->node[r->order[p]]);
        const Kernel *k = kernel_choose(&s, opt);
        uint64_t work = k && k->work ? k->work(&s) : 0;
        if (work > f.work) f.work = work;
    }
    f.all = f.weights + f.state + f.work + f.other;
    return f;
}

static const char *node_text(const Graph *g, const Node *n) {
    return arena_printf(g->arena, "'%s' (%s)", n->at.path ? n->at.path : "?",
                        n->op->name);
}

static uint64_t placed(const Sequence *s) {
    Buffers b = s->buffers;
    return buffers_place(&b, s->peak);
}

/* Solves for a budget of placed bytes: fragments between buffers count too, and another
 * set may have more of them, so each round aims lower by twice as much. */
static bool fit(Remat *r, uint64_t budget, const char **how, uint64_t *least) {
    enum { MOST_ROUNDS = 6, MARGIN = 1500 };
    uint64_t aim = budget - budget / MARGIN;
    for (int round = 0; round < MOST_ROUNDS; round++) {
        if (!remat_solve(r, aim, how, least)) return false;
        Arena *a = arena_new();
        Sequence s;
        remat_sequence(r, a, &s);
        uint64_t top = placed(&s);
        *least = top;
        arena_free(a);
        if (top <= budget) return true;
        uint64_t over = (top - budget) << round;
        if (over >= aim) return false;
        aim -= over;
    }
    return false;
}

static bool too_small(const Remat *r, Options *opt, const Fixed *f, uint64_t least,
                      Err *e) {
    Arena *a = r->a;
    Sequence s;
    remat_sequence(r, a, &s);
    uint32_t at = s.at < s.g.n_node ? s.at : s.g.n_node - 1;
    uint64_t top = placed(&s);
    if (top < least) least = top;
    opt->memory_least = f->all + least;
    return err_fail(
        e,
        "memory budget of %s is too small: at least %s are needed, for weights %s, "
        "adapters and optimizer %s, workspace %s, inputs %s and activations %s, which "
        "%s sets",
        bytes_text(a, opt->memory_budget), bytes_text(a, f->all + least),
        bytes_text(a, f->weights), bytes_text(a, f->state), bytes_text(a, f->work),
        bytes_text(a, f->other), bytes_text(a, least), node_text(r->g, s.g.node[at]));
}

static Graph *emit(const Remat *r, const Sequence *s, Err *e) {
    const Graph *g = r->g;
    Id *map;
    Graph *out = graph_rewrite(g, &map);
    map = arena_grow(r->a, map, g->n_value, s->g.n_value, sizeof *map);
    for (uint32_t k = 0; k < s->g.n_node; k++)
        if (!graph_copy_node(out, s->g.node[k], &s->g, map, e)) return NULL;
    bool *ran = NEW(r->a, bool, g->n_node + 1);
    for (uint32_t p = 0; p < r->n_order; p++) ran[r->order[p]] = true;
    for (uint32_t k = 0; k < g->n_node; k++)
        if (!ran[k] && !graph_copy_node(out, g->node[k], g, map, e)) return NULL;
    graph_copy_outputs(out, g, map);
    return out;
}

static void explain(const Remat *r, const Sequence *s, uint64_t before,
                    const char *how) {
    const Graph *g = r->g;
    uint32_t n_saved = 0, n_dropped = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->n_value; i++) {
        n_saved += r->saved[i];
        if (!r->saved[i] || r->keep[i]) continue;
        n_dropped++;
        bytes += r->bytes[i];
    }
    uint64_t extra = s->cost > r->base_cost ? s->cost - r->base_cost : 0;
    report(g,
           "checkpoint: %s; %u of %u saved activations (%s) dropped, %u nodes "
           "recomputed, time +%.2f %% (model)",
           how, n_dropped, n_saved, bytes_text(r->a, bytes), s->n_copy,
           100.0 * (double)extra / (double)(r->base_cost ? r->base_cost : 1));
    report(g, "checkpoint: peak of activations %s, before %s; %s sets it",
           bytes_text(r->a, s->peak), bytes_text(r->a, before),
           node_text(g, s->g.node[s->at < s->g.n_node ? s->at : s->g.n_node - 1]));
}

Graph *pass_checkpoint(Graph *g, Options *opt, Err *e) {
    Remat r = remat_new(g, !pass_disabled(opt, "in-place"));
    if (!r.n_order) return g;
    Sequence s;
    remat_sequence(&r, r.a, &s);
    uint64_t before = s.peak, least = 0;
    const char *how = "by block";
    if (opt->memory_budget) {
        Fixed f = fixed_memory(&r, opt);
        uint64_t left = opt->memory_budget > f.all ? opt->memory_budget - f.all : 0;
        report(g,
               "checkpoint: of %s, weights take %s, adapters and optimizer %s, "
               "workspace %s, inputs %s; %s are left for activations",
               bytes_text(r.a, opt->memory_budget), bytes_text(r.a, f.weights),
               bytes_text(r.a, f.state), bytes_text(r.a, f.work),
               bytes_text(r.a, f.other), bytes_text(r.a, left));
        if (opt->cuda) left -= left / 64; /* room for what pass `group` moves */
        if (!fit(&r, left, &how, &least)) {
            if (opt->cuda) least += least / 63 + 1;
            return too_small(&r, opt, &f, least, e), NULL;
        }
    } else {
        remat_keep_borders(&r);
    }
    remat_sequence(&r, r.a, &s);
    explain(&r, &s, before, how);
    return s.n_copy ? emit(&r, &s, e) : g;
}
