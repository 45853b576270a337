/* Which forward values to keep, so that the peak stays within a budget and little is
 * computed twice. Two ways, the cheaper wins (passes.md section 8):
 *
 *   greedy   keep all; while the peak is too high, drop what lives across it and gives the
 *            most bytes for the least time; last, take back what turns out to fit
 *   borders  keep what crosses segments, the least of per-block checkpointing; then take
 *            back what costs the most time for its bytes while the peak stays within the
 *            budget: never worse than per block
 *
 * The peak of a set is exact: the sequence is made and its buffers found as plan-memory
 * will find them. Limits count evaluations, never time. */
#include "passes/checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DROPS = 200, MOST_TAKES = 160, LARGEST_BATCH = 64 };

static const uint64_t most_cost = UINT64_MAX / 4;

void remat_chain_costs(const Remat *r, Arena *a, uint64_t *out) {
    (void)a;
    const Graph *g = r->g;
    for (uint32_t p = 0; p < r->n_order; p++) {
        const Node *n = g->node[r->order[p]];
        if (!r->clone[n->index]) continue;
        uint64_t cost = r->cost[n->index];
        for (int i = 0; i < n->n_in && cost < most_cost; i++) {
            Id b = n->in[i] == NO_ID ? NO_ID : r->base[n->in[i]];
            bool again = false;
            for (int j = 0; j < i && b != NO_ID; j++)
                again |= n->in[j] != NO_ID && r->base[n->in[j]] == b;
            if (b == NO_ID || again || r->keep[b] || r->read_to[b] == UINT32_MAX)
                continue;
            cost += out[b];
        }
        for (int o = 0; o < n->n_out; o++)
            if (r->base[n->out[o]] == n->out[o])
                out[n->out[o]] = cost < most_cost ? cost : most_cost;
    }
}

typedef struct Score {
    uint64_t bytes, time;
    Id value;
} Score;

/* Most bytes for its time first; ties: the smaller id. */
static int by_bytes(const void *a, const void *b) {
    const Score *x = a, *y = b;
    unsigned __int128 l = (unsigned __int128)x->bytes * y->time,
                      r = (unsigned __int128)y->bytes * x->time;
    if (l != r) return l > r ? -1 : 1;
    return x->value < y->value ? -1 : 1;
}
/* Most time for its bytes first. */
static int by_time(const void *a, const void *b) {
    const Score *x = a, *y = b;
    unsigned __int128 l = (unsigned __int128)x->bytes * y->time,
                      r = (unsigned __int128)y->bytes * x->time;
    if (l != r) return l < r ? -1 : 1;
    return x->value < y->value ? -1 : 1;
}

static uint64_t peak_now(const Remat *r, uint64_t *cost) {
    Arena *a = arena_new();
    Sequence s;
    remat_sequence(r, a, &s);
    uint64_t peak = s.peak;
    if (cost) *cost = s.cost;
    arena_free(a);
    return peak;
}

/* Where the backward pass first reads each base, NO_ID: nowhere. */
static uint32_t *first_reads(const Remat *r, const Sequence *s, Arena *a) {
    uint32_t *first = NEW(a, uint32_t, r->g->n_value + 1);
    memset(first, 0xff, r->g->n_value * sizeof *first);
    for (uint32_t k = 0; k < s->g.n_node; k++) {
        const Node *n = s->g.node[k];
        if (n->at.phase == FORWARD) continue;
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == NO_ID || n->in[i] >= r->g->n_value) continue;
            Id b = r->base[n->in[i]];
            if (first[b] == NO_ID) first[b] = k;
        }
    }
    return first;
}

/* Kept values that lie idle at the peak: read by the forward before it, by the backward
 * behind it. */
static uint32_t idle_at_peak(const Remat *r, const Sequence *s, Arena *a, Score *out) {
    const Graph *g = r->g;
    uint64_t *chain = NEW(a, uint64_t, g->n_value + 1);
    remat_chain_costs(r, a, chain);
    uint32_t *first = first_reads(r, s, a), n = 0;
    for (uint32_t i = 0; i < g->n_value; i++) {
        if (!r->saved[i] || !r->keep[i] || first[i] == NO_ID) continue;
        uint32_t last = g->value[i]->node;
        if (r->read_to[i]) last = g->node[r->order[r->read_to[i] - 1]]->index;
        if (s->place[last] == NO_ID || s->place[last] >= s->at || first[i] <= s->at)
            continue;
        out[n++] = (Score){r->bytes[i], chain[i] + 1, i};
    }
    return n;
}

/* One round of dropping; false: nothing to drop, or the peak is low enough. */
static bool drop_some(Remat *r, uint64_t budget, uint64_t *peak) {
    Arena *a = arena_new();
    Sequence s;
    remat_sequence(r, a, &s);
    *peak = s.peak;
    uint32_t n = 0;
    if (s.peak > budget) {
        Score *score = NEW(a, Score, r->g->n_value + 1);
        n = idle_at_peak(r, &s, a, score);
        qsort(score, n, sizeof *score, by_bytes);
        uint64_t need = (s.peak - budget) / 4 + 1, got = 0;
        for (uint32_t i = 0; i < n && got < need; i++) {
            r->keep[score[i].value] = false;
            got += score[i].bytes;
        }
    }
    arena_free(a);
    return n > 0;
}

/* Keeps more while the peak stays within the budget, dearest first, in batches that are
 * halved when they do not fit. */
static void take_back(Remat *r, uint64_t budget) {
    Arena *a = arena_new();
    Score *score = NEW(a, Score, r->g->n_value + 1);
    uint64_t *chain = NEW(a, uint64_t, r->g->n_value + 1);
    remat_chain_costs(r, a, chain);
    uint32_t n = 0, batch = LARGEST_BATCH;
    for (uint32_t i = 0; i < r->g->n_value; i++)
        if (r->saved[i] && !r->keep[i])
            score[n++] = (Score){r->bytes[i] + 1, chain[i], i};
    qsort(score, n, sizeof *score, by_time);
    uint32_t at = 0;
    for (int tries = 0; at < n && tries < MOST_TAKES; tries++) {
        uint32_t end = at + batch < n ? at + batch : n;
        for (uint32_t i = at; i < end; i++) r->keep[score[i].value] = true;
        if (peak_now(r, NULL) <= budget) {
            at = end;
            if (batch < LARGEST_BATCH) batch *= 2;
            continue;
        }
        for (uint32_t i = at; i < end; i++) r->keep[score[i].value] = false;
        if (batch == 1) at++;
        batch = (batch + 1) / 2;
    }
    arena_free(a);
}

/* Drops from the present set whatever lies idle at the peak, as long as there is something;
 * keeps the best set on the way if its peak is below *least. */
static void drop_all(Remat *r, bool *best, uint64_t *least) {
    uint64_t peak;
    bool more = true;
    for (int i = 0; more && i < MOST_DROPS; i++) {
        bool *before = NEW(r->a, bool, r->g->n_value + 1);
        memcpy(before, r->keep, r->g->n_value * sizeof *before);
        more = drop_some(r, 0, &peak);
        if (peak >= *least) continue;
        *least = peak;
        memcpy(best, before, r->g->n_value * sizeof *best);
    }
}

/* The lowest peak that can be found, whatever it costs. */
static void find_least(Remat *r, uint64_t *least) {
    uint32_t n = r->g->n_value;
    bool *best = NEW(r->a, bool, n + 1);
    *least = UINT64_MAX;
    memcpy(r->keep, r->saved, n * sizeof *r->keep);
    drop_all(r, best, least);
    remat_keep_borders(r);
    drop_all(r, best, least);
    memcpy(r->keep, best, n * sizeof *best);
}

bool remat_solve(Remat *r, uint64_t budget, const char **how, uint64_t *least) {
    uint32_t n = r->g->n_value;
    bool *greedy = NEW(r->a, bool, n + 1);
    uint64_t peak, cost[2] = {UINT64_MAX, UINT64_MAX};
    memcpy(r->keep, r->saved, n * sizeof *r->keep);
    for (int i = 0; i < MOST_DROPS && drop_some(r, budget, &peak); i++) continue;
    if (peak_now(r, NULL) <= budget) {
        take_back(r, budget);
        peak_now(r, &cost[0]);
    }
    memcpy(greedy, r->keep, n * sizeof *greedy);

    remat_keep_borders(r);
    uint64_t per_block, borders = peak_now(r, &per_block);
    /* with much room to spare, keeping all is the better start */
    bool far = budget / 3 * 2 > borders && cost[0] <= per_block;
    if (borders <= budget && !far) {
        take_back(r, budget);
        peak_now(r, &cost[1]);
    }
    if (cost[0] == UINT64_MAX && cost[1] == UINT64_MAX) {
        find_least(r, least);
        if (*least > budget) return false;
        *how = "by budget, the least there is";
        return true;
    }
    *how = cost[1] < cost[0] ? "by budget, from the borders" : "by budget, greedy";
    if (cost[0] <= cost[1]) memcpy(r->keep, greedy, n * sizeof *greedy);
    return true;
}
