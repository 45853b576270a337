/* schedule: an order of the nodes that keeps the peak of activations low; nodes with an
 * effect (updates) come last, because every other node reads what they overwrite. One that
 * alone reads what it overwrites, and whose result is read (a sum of gradients), may stand
 * anywhere.
 *
 * Needs: a verified graph. Guarantees: the same nodes, a legal order, and a peak that is
 * not above that of the order given. A few orders are made and measured with the lifetimes
 * that plan-memory will see; ties go to the given order. Nodes that only a parameter's
 * start needs do not run in the step and stand behind. */
#include "passes/private.h"

#include <string.h>

typedef struct Links { /* edges among nodes that run, through any base value */
    const Graph *g;
    Arena *a;
    const Id *base;
    uint32_t n; /* nodes of the graph */
    bool *runs;
    uint32_t **user, *n_user; /* per node: nodes that read its outputs, rising */
    uint32_t *n_before;       /* per node: producers it waits for */
    uint32_t *n_reader;       /* per value (base): readers among running nodes */
    const bool *last;         /* per node: it stands behind all that are not */
} Links;

/* Per node: does somebody else read a value that it overwrites, or nobody its results? */
static bool *find_last_ones(Arena *a, const Graph *g) {
    bool *last = NEW(a, bool, g->n_node + 1);
    uint32_t *read = NEW(a, uint32_t, g->n_value + 1);
    for (uint32_t k = 0; k < g->n_node; k++)
        for (int i = 0; i < g->node[k]->n_in; i++)
            if (g->node[k]->in[i] != NO_ID) read[g->node[k]->in[i]]++;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        if (!(n->op->flags & OP_NO_FOLD)) continue;
        bool results = false, shared = false;
        for (int o = 0; o < n->n_out; o++) results |= read[n->out[o]] > 0;
        for (const struct OpAlias *al = n->op->alias; al && al->out >= 0; al++)
            if (al->in < n->n_in && n->in[al->in] != NO_ID)
                shared |= read[n->in[al->in]] > 1;
        last[k] = shared || !results;
    }
    /* and what reads the result of one that is */
    for (uint32_t k = 0; k < g->n_node; k++)
        for (int i = 0; i < g->node[k]->n_in && !last[k]; i++) {
            Id in = g->node[k]->in[i];
            uint32_t from = in == NO_ID ? NO_ID : g->value[in]->node;
            last[k] = from != NO_ID && last[from];
        }
    return last;
}

/* Producers of n's inputs, each once. */
static int producers(const Links *l, const Node *n, uint32_t *out, int most) {
    int count = 0;
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == NO_ID || l->g->value[n->in[i]]->node == NO_ID) continue;
        uint32_t p = l->g->value[n->in[i]]->node;
        bool known = false;
        for (int k = 0; k < count && !known; k++) known = out[k] == p;
        if (!known && count < most) out[count++] = p;
    }
    return count;
}

static int most_inputs(const Graph *g) {
    int most = 1;
    for (uint32_t k = 0; k < g->n_node; k++)
        if (g->node[k]->n_in > most) most = g->node[k]->n_in;
    return most;
}

static Links find_links(Arena *a, const Graph *g, const Id *base, const bool *last,
                        const uint32_t *order, uint32_t n_order) {
    Links l = {.g = g, .a = a, .base = base, .n = g->n_node, .last = last};
    l.runs = NEW(a, bool, l.n + 1);
    l.user = NEW(a, uint32_t *, l.n + 1);
    l.n_user = NEW(a, uint32_t, l.n + 1);
    l.n_before = NEW(a, uint32_t, l.n + 1);
    l.n_reader = NEW(a, uint32_t, g->n_value + 1);
    uint32_t *cap = NEW(a, uint32_t, l.n + 1);
    int most = most_inputs(g);
    uint32_t *from = NEW(a, uint32_t, most);
    for (uint32_t p = 0; p < n_order; p++) {
        uint32_t k = order[p];
        const Node *n = g->node[k];
        l.runs[k] = true;
        int count = producers(&l, n, from, most);
        l.n_before[k] = (uint32_t)count;
        for (int i = 0; i < count; i++)
            PUSH(a, l.user[from[i]], l.n_user[from[i]], cap[from[i]], k);
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] != NO_ID) l.n_reader[base[n->in[i]]]++;
    }
    for (uint32_t i = 0; i < g->n_output; i++) l.n_reader[base[g->output[i].value]]++;
    return l;
}

/* ---- list scheduling ---- */

typedef struct List {
    const Links *l;
    uint32_t *waits; /* producers that have not run */
    uint32_t *reads; /* per base: readers that have not run */
    bool *done;
    uint32_t *order, n_order;
    uint32_t *ready, n_ready; /* rising */
} List;

static List list_new(Arena *a, const Links *l) {
    List s = {.l = l};
    s.waits = NEW(a, uint32_t, l->n + 1);
    s.reads = NEW(a, uint32_t, l->g->n_value + 1);
    s.done = NEW(a, bool, l->n + 1);
    s.order = NEW(a, uint32_t, l->n + 1);
    s.ready = NEW(a, uint32_t, l->n + 1);
    memcpy(s.waits, l->n_before, l->n * sizeof *s.waits);
    memcpy(s.reads, l->n_reader, l->g->n_value * sizeof *s.reads);
    for (uint32_t k = 0; k < l->n; k++)
        if (l->runs[k] && !s.waits[k] && !l->last[k]) s.ready[s.n_ready++] = k;
    return s;
}

/* Bytes that are live after the node has run and were not before. */
static int64_t growth(const List *s, uint32_t k) {
    const Graph *g = s->l->g;
    const Node *n = g->node[k];
    int64_t d = 0;
    for (int o = 0; o < n->n_out; o++)
        if (s->l->base[n->out[o]] == n->out[o] && s->reads[n->out[o]])
            d += (int64_t)type_bytes(&g->value[n->out[o]]->type);
    for (int i = 0; i < n->n_in; i++) {
        Id b = n->in[i] == NO_ID ? NO_ID : s->l->base[n->in[i]];
        if (b == NO_ID || g->value[b]->role != ROLE_ACT) continue;
        uint32_t here = 0;
        bool first = true;
        for (int j = 0; j < n->n_in; j++) {
            if (n->in[j] == NO_ID || s->l->base[n->in[j]] != b) continue;
            if (j < i) first = false;
            here++;
        }
        if (first && s->reads[b] == here) d -= (int64_t)type_bytes(&g->value[b]->type);
    }
    return d;
}

static void insert_ready(List *s, uint32_t k) {
    uint32_t i = s->n_ready++;
    while (i > 0 && s->ready[i - 1] > k) {
        s->ready[i] = s->ready[i - 1];
        i--;
    }
    s->ready[i] = k;
}

static void run_ready(List *s, uint32_t at) {
    uint32_t k = s->ready[at];
    memmove(s->ready + at, s->ready + at + 1, (--s->n_ready - at) * sizeof *s->ready);
    s->done[k] = true;
    s->order[s->n_order++] = k;
    const Node *n = s->l->g->node[k];
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != NO_ID) s->reads[s->l->base[n->in[i]]]--;
    for (uint32_t u = 0; u < s->l->n_user[k]; u++) {
        uint32_t user = s->l->user[k][u];
        if (--s->waits[user] == 0 && !s->l->last[user]) insert_ready(s, user);
    }
}

static void append_effects(List *s, const uint32_t *given, uint32_t n) {
    for (uint32_t p = 0; p < n; p++)
        if (s->l->last[given[p]]) s->order[s->n_order++] = given[p];
}

enum { MOST_READY = 256 /* looked at for one choice */ };

/* Always the ready node that adds the least; ties: the first in the graph. */
static void greedy(List *s) {
    while (s->n_ready) {
        uint32_t best = 0, n = s->n_ready < MOST_READY ? s->n_ready : MOST_READY;
        int64_t least = INT64_MAX;
        for (uint32_t i = 0; i < n; i++) {
            int64_t d = growth(s, s->ready[i]);
            if (d < least) {
                least = d;
                best = i;
            }
        }
        run_ready(s, best);
    }
}

/* The given order, but what frees more than it makes runs as soon as it can: gradients of
 * weights, so that the activations they read can go. */
static void eager(List *s) {
    while (s->n_ready) {
        uint32_t best = 0, n = s->n_ready < MOST_READY ? s->n_ready : MOST_READY;
        for (uint32_t i = 1; i < n && best == 0; i++)
            if (growth(s, s->ready[i]) < 0) best = i;
        run_ready(s, best);
    }
}

/* Nodes that make more than they free move down to just before their first reader. */
static uint32_t *sink(Arena *a, const Links *l, const uint32_t *given, uint32_t n) {
    uint32_t *key = NEW(a, uint32_t, l->n + 1), *order = NEW(a, uint32_t, n + 1);
    uint32_t *head = NEW(a, uint32_t, n + 2), *next = NEW(a, uint32_t, l->n + 1);
    memset(head, 0xff, (n + 1) * sizeof *head);
    List s = list_new(a, l);
    for (uint32_t p = n; p-- > 0;) {
        uint32_t k = given[p], first = n;
        key[k] = p;
        for (uint32_t u = 0; u < l->n_user[k]; u++)
            if (key[l->user[k][u]] < first) first = key[l->user[k][u]];
        bool sinks =
            l->n_user[k] && first < n && growth(&s, k) > 0 && l->n_before[k] == 0;
        if (sinks) key[k] = first;
        next[k] = head[key[k]]; /* what sinks to p runs before p, in the given order */
        head[key[k]] = k;
    }
    uint32_t m = 0;
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t k = head[p]; k != NO_ID; k = next[k]) order[m++] = k;
    return order;
}

/* ---- choice ---- */

static uint64_t peak_of(const Graph *g, const uint32_t *order, uint32_t n,
                        bool in_place) {
    Arena *a = arena_new();
    Buffers b = buffers_find(a, g, order, n, in_place);
    uint64_t peak = buffers_peak(&b, n);
    arena_free(a);
    return peak;
}

static uint32_t *effects_last(Arena *a, const bool *last, const uint32_t *given,
                              uint32_t n) {
    uint32_t *order = NEW(a, uint32_t, n + 1), m = 0;
    for (int effects = 0; effects < 2; effects++)
        for (uint32_t p = 0; p < n; p++)
            if (last[given[p]] == effects) order[m++] = given[p];
    return order;
}

static Graph *reorder(const Graph *g, const bool *runs, const uint32_t *order,
                      uint32_t n, Err *e) {
    Id *map;
    Graph *out = graph_rewrite(g, &map);
    for (uint32_t p = 0; p < n; p++)
        if (!graph_copy_node(out, g->node[order[p]], g, map, e)) return NULL;
    for (uint32_t k = 0; k < g->n_node; k++)
        if (!runs[k] && !graph_copy_node(out, g->node[k], g, map, e)) return NULL;
    graph_copy_outputs(out, g, map);
    return out;
}

/* One round: the best of the orders. *improved: it is lower than the given one. */
static Graph *improve(const Graph *g, bool in_place, bool *improved, Err *e) {
    Arena *a = arena_new();
    uint32_t n;
    uint32_t *run = nodes_run(a, g, &n), *given;
    const bool *last = find_last_ones(a, g);
    given = effects_last(a, last, run, n);
    Buffers b = buffers_find(a, g, given, n, in_place);
    Links l = find_links(a, g, b.base, last, given, n);
    uint64_t before = buffers_peak(&b, n), best_peak = before;
    List lists[2] = {list_new(a, &l), list_new(a, &l)};
    greedy(&lists[0]);
    eager(&lists[1]);
    for (int i = 0; i < 2; i++) append_effects(&lists[i], given, n);
    uint32_t *order[] = {given, lists[0].order, lists[1].order, sink(a, &l, given, n),
                         sink(a, &l, lists[1].order, n)};
    static const char *const names[] = {"as given", "greedy", "eager", "late",
                                        "eager, late"};
    int best = 0;
    for (int i = 1; i < (int)COUNT(order); i++) {
        uint64_t peak = peak_of(g, order[i], n, in_place);
        if (peak >= best_peak) continue;
        best_peak = peak;
        best = i;
    }
    *improved = best > 0;
    report(g, "schedule: %s; peak of activations %s, before %s", names[best],
           bytes_text(a, best_peak), bytes_text(a, before));
    Graph *out = reorder(g, l.runs, order[best], n, e);
    arena_free(a);
    return out;
}

/* Until no order is better: a lower order is a new start for the others. */
Graph *pass_schedule(Graph *g, Options *opt, Err *e) {
    enum { MOST_ROUNDS = 16 };
    bool again = true;
    for (int round = 0; g && again && round < MOST_ROUNDS; round++)
        g = improve(g, !pass_disabled(opt, "in-place"), &again, e);
    return g;
}
