/* in-place: which activations share memory, given an order. A view has the memory of what
 * it views, an output written over a persistent input has the input's, and an output whose
 * row allows it may take over the buffer of an input that nobody reads later. Used by
 * schedule (to compare orders) and by lower, so both count the same bytes. */
#include "passes/private.h"

#include <string.h>

uint32_t *nodes_run(Arena *a, const Graph *g, uint32_t *n) {
    bool *needed = nodes_needed(a, g, false);
    uint32_t *order = NEW(a, uint32_t, g->n_node + 1);
    *n = 0;
    for (uint32_t k = 0; k < g->n_node; k++)
        if (needed[k]) order[(*n)++] = k;
    return order;
}

/* Whose memory each value is. Inputs stand before outputs, so one walk follows chains. */
static Id *find_bases(Arena *a, const Graph *g) {
    Id *base = NEW(a, Id, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) base[i] = i;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        if (n->op->flags & OP_VIEW) base[n->out[0]] = base[n->in[0]];
        for (const OpAlias *al = n->op->alias; al && al->out >= 0; al++)
            if (al->out < n->n_out && al->in < n->n_in && n->in[al->in] != NO_ID)
                base[n->out[al->out]] = base[n->in[al->in]];
    }
    return base;
}

/* The last place at which each base is read; outputs of the graph outlive the step. */
static uint32_t *find_last(Arena *a, const Graph *g, const Id *base,
                           const uint32_t *order, uint32_t n_order) {
    uint32_t *last = NEW(a, uint32_t, g->n_value + 1);
    for (uint32_t p = 0; p < n_order; p++) {
        const Node *n = g->node[order[p]];
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] != NO_ID) last[base[n->in[i]]] = p;
        for (int o = 0; o < n->n_out; o++)
            if (last[base[n->out[o]]] < p) last[base[n->out[o]]] = p;
    }
    for (uint32_t i = 0; i < g->n_output; i++) last[base[g->output[i].value]] = n_order;
    return last;
}

/* May output 0 of n be written over input i, which is in buffer b? The other operands must
 * be elsewhere: a kernel promises only that it reads an element of input i before it
 * writes the same element. */
static bool may_take(const Graph *g, const Node *n, int i, const Buffers *b,
                     uint32_t place) {
    if (i >= 64 || !(n->op->inplace >> i & 1) || n->in[i] == NO_ID) return false;
    uint32_t of = b->of[b->base[n->in[i]]];
    if (of == NO_ID || b->item[of].last != place) return false;
    const Type *x = &g->value[n->in[i]]->type, *y = &g->value[n->out[0]]->type;
    const Type *whole = &g->value[b->item[of].root]->type;
    if (dtype_size(x->dtype) != dtype_size(y->dtype)) return false;
    if (type_bytes(x) != type_bytes(y) || type_bytes(whole) != type_bytes(y))
        return false;
    for (int j = 0; j < n->n_in; j++)
        if (j != i && n->in[j] != NO_ID && b->of[b->base[n->in[j]]] == of) return false;
    return true;
}

static uint64_t round_up(uint64_t n) {
    return (n + MEMORY_ALIGN - 1) / MEMORY_ALIGN * MEMORY_ALIGN;
}

static void make_buffer(Buffers *b, const Graph *g, Id v, uint32_t place,
                        uint32_t last) {
    Buffer x = {.first = place, .last = last, .root = v};
    x.bytes = round_up(type_bytes(&g->value[v]->type));
    b->of[v] = b->n;
    b->item[b->n++] = x;
}

static void give_buffers(Buffers *b, const Graph *g, const Node *n, uint32_t place,
                         const uint32_t *last, bool in_place) {
    for (int o = 0; o < n->n_out; o++) {
        Id v = n->out[o];
        if (b->base[v] != v) continue; /* a view, or persistent */
        int i = 0;
        if (o || !in_place) i = n->n_in;
        while (i < n->n_in && !may_take(g, n, i, b, place)) i++;
        if (i == n->n_in) {
            make_buffer(b, g, v, place, last[v]);
            continue;
        }
        b->of[v] = b->of[b->base[n->in[i]]];
        b->item[b->of[v]].last = last[v];
        b->n_in_place++;
    }
}

Buffers buffers_find(Arena *a, const Graph *g, const uint32_t *order, uint32_t n_order,
                     bool in_place) {
    Buffers b = {.item = NEW(a, Buffer, g->n_value + 1),
                 .of = NEW(a, uint32_t, g->n_value + 1)};
    memset(b.of, 0xff, g->n_value * sizeof *b.of);
    b.base = find_bases(a, g);
    uint32_t *last = find_last(a, g, b.base, order, n_order);
    for (uint32_t p = 0; p < n_order; p++)
        give_buffers(&b, g, g->node[order[p]], p, last, in_place);
    for (uint32_t i = 0; i < g->n_value; i++) b.of[i] = b.of[b.base[i]];
    return b;
}

uint64_t buffers_peak(const Buffers *b, uint32_t n_order) {
    Arena *a = arena_new();
    uint64_t *change = NEW(a, uint64_t, n_order + 2), live = 0, peak = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        change[b->item[i].first] += b->item[i].bytes;
        change[b->item[i].last + 1] -= b->item[i].bytes; /* modulo 2^64 */
    }
    for (uint32_t p = 0; p <= n_order; p++) {
        live += change[p];
        if (live > peak) peak = live;
    }
    arena_free(a);
    return peak;
}
