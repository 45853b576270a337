/* plan-memory: offsets of buffers with known lifetimes, so that two that live at the same
 * time never overlap and the top is low. The problem is NP-hard; a few greedy orders are
 * tried and the best is improved by moving buffers near the top to an earlier turn. All
 * limits count work, never time, so equal graphs get equal plans on any machine.
 *
 * Lower bound: the largest sum of live bytes. Goal: at most 1.005 of it. */
#include "passes/private.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TRIES = 2000 };
static const uint64_t most_work =
    25000000; /* comparisons of two buffers: about 40 ms */

typedef struct Slot { /* a placed buffer, what a scan reads of it */
    uint32_t first, last;
    uint64_t offset, end;
} Slot;

typedef struct Placer {
    const Buffers *b;
    Slot *slot;       /* placed so far, by offset */
    uint64_t *offset; /* per buffer, of the last placement */
    uint64_t work;
} Placer;

/* The gap for x among the placed ones: the lowest, or with best_fit the smallest. */
static uint64_t find_gap(Placer *p, uint32_t n, const Buffer *x, bool best_fit) {
    uint64_t at = 0, best = UINT64_MAX, smallest = UINT64_MAX;
    for (uint32_t k = 0; k < n; k++) {
        const Slot *s = &p->slot[k];
        if (s->last < x->first || s->first > x->last) continue;
        if (s->offset >= at + x->bytes) {
            uint64_t gap = s->offset - at;
            if (gap < smallest) {
                smallest = gap;
                best = at;
            }
            if (!best_fit) break;
        }
        if (s->end > at) at = s->end;
    }
    p->work += n;
    return best == UINT64_MAX ? at : best;
}

static void insert(Placer *p, uint32_t n, const Buffer *x, uint64_t offset) {
    uint32_t low = 0, high = n;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (p->slot[mid].offset <= offset)
            low = mid + 1;
        else
            high = mid;
    }
    memmove(p->slot + low + 1, p->slot + low, (n - low) * sizeof *p->slot);
    p->slot[low] = (Slot){x->first, x->last, offset, offset + x->bytes};
}

/* Places all in the given turn; returns the top, or early something not below `limit`. */
static uint64_t place(Placer *p, const uint32_t *turn, bool best_fit, uint64_t limit) {
    uint64_t top = 0;
    for (uint32_t k = 0; k < p->b->n; k++) {
        const Buffer *x = &p->b->item[turn[k]];
        uint64_t offset = find_gap(p, k, x, best_fit);
        if (offset + x->bytes > top) top = offset + x->bytes;
        if (top >= limit) return top;
        insert(p, k, x, offset);
        p->offset[turn[k]] = offset;
    }
    return top;
}

/* ---- turns ---- */

typedef struct Key {
    double by, bytes; /* larger first; ties: the second, then the first buffer */
    uint32_t index;
} Key;

static int by_key(const void *a, const void *b) {
    const Key *x = a, *y = b;
    if (x->by != y->by) return x->by < y->by ? 1 : -1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

enum { BY_BYTES, BY_AREA, BY_START, BY_TIME, BY_LOAD, BY_LOAD_AREA, TURNS };

/* Per buffer: the largest sum of live bytes while it lives. Those of the tightest moment
 * first, and they can be stacked without a gap. */
static uint64_t *loads(Arena *a, const Buffers *b) {
    uint32_t end = 0;
    for (uint32_t i = 0; i < b->n; i++)
        if (b->item[i].last > end) end = b->item[i].last;
    uint64_t *live = NEW(a, uint64_t, end + 2), *load = NEW(a, uint64_t, b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        live[b->item[i].first] += b->item[i].bytes;
        live[b->item[i].last + 1] -= b->item[i].bytes; /* modulo 2^64 */
    }
    for (uint32_t p = 0; p < end; p++) live[p + 1] += live[p];
    for (uint32_t i = 0; i < b->n; i++)
        for (uint32_t p = b->item[i].first; p <= b->item[i].last; p++)
            if (live[p] > load[i]) load[i] = live[p];
    return load;
}

static void sort_turn(const Buffers *b, const uint64_t *load, int how, Key *key,
                      uint32_t *turn) {
    for (uint32_t i = 0; i < b->n; i++) {
        const Buffer *x = &b->item[i];
        double time = (double)(x->last - x->first) + 1, bytes = (double)x->bytes;
        double by = how == BY_BYTES   ? bytes
                    : how == BY_AREA  ? bytes * time
                    : how == BY_START ? -(double)x->first
                    : how == BY_TIME  ? time
                                      : (double)load[i];
        key[i] = (Key){by, how == BY_LOAD_AREA ? bytes * time : bytes, i};
    }
    qsort(key, b->n, sizeof *key, by_key);
    for (uint32_t i = 0; i < b->n; i++) turn[i] = key[i].index;
}

/* ---- improvement ---- */

typedef struct Search {
    Placer p;
    uint32_t *turn, *trial; /* the best turn, and the one being tried */
    uint64_t *best;         /* offsets of the best placement */
    uint64_t top, lower;
    bool best_fit;
    uint64_t random;
} Search;

static uint32_t draw(Search *s, uint32_t below) { /* xorshift64 */
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)((s->random >> 11) % below);
}

static void keep(Search *s, const uint32_t *turn, uint64_t top) {
    s->top = top;
    memcpy(s->best, s->p.offset, s->p.b->n * sizeof *s->best);
    if (turn != s->turn) memcpy(s->turn, turn, s->p.b->n * sizeof *turn);
}

/* Moves a buffer whose end is in the upper half of the excess to an earlier turn. */
static void try_move(Search *s) {
    const Buffers *b = s->p.b;
    uint64_t high = s->top - (s->top - s->lower) / 2;
    uint32_t pick = NO_ID, seen = 0;
    for (uint32_t k = 0; k < b->n; k++) {
        uint32_t i = s->turn[k];
        if (s->best[i] + b->item[i].bytes >= high && draw(s, ++seen) == 0) pick = k;
    }
    if (pick == NO_ID || pick == 0) return;
    uint32_t to = draw(s, pick), moved = s->turn[pick];
    memcpy(s->trial, s->turn, b->n * sizeof *s->trial);
    memmove(s->trial + to + 1, s->trial + to, (pick - to) * sizeof *s->trial);
    s->trial[to] = moved;
    uint64_t top = place(&s->p, s->trial, s->best_fit, s->top + 1);
    if (top <= s->top) keep(s, s->trial, top);
}

static bool good_enough(const Search *s) {
    return s->top <= s->lower + s->lower / 2000;
}

static void portfolio(Search *s, const uint64_t *load, Key *key) {
    for (int how = 0; how < TURNS && !good_enough(s); how++) {
        sort_turn(s->p.b, load, how, key, s->trial);
        for (int fit = 0; fit < 2 && !good_enough(s); fit++) {
            if (s->top != UINT64_MAX && s->p.work > most_work) return;
            uint64_t top = place(&s->p, s->trial, fit, s->top);
            if (top >= s->top) continue;
            s->best_fit = fit;
            keep(s, s->trial, top);
        }
    }
}

uint64_t buffers_place(Buffers *b, uint64_t lower_bound) {
    if (!b->n) return 0;
    Arena *a = arena_new();
    Search s = {.top = UINT64_MAX, .lower = lower_bound, .random = 88172645463325252u};
    s.p = (Placer){
        .b = b, .slot = NEW(a, Slot, b->n + 1), .offset = NEW(a, uint64_t, b->n)};
    s.turn = NEW(a, uint32_t, b->n);
    s.trial = NEW(a, uint32_t, b->n);
    s.best = NEW(a, uint64_t, b->n);
    portfolio(&s, loads(a, b), NEW(a, Key, b->n));
    for (int i = 0; i < MOST_TRIES && !good_enough(&s) && s.p.work < most_work; i++)
        try_move(&s);
    for (uint32_t i = 0; i < b->n; i++) b->item[i].offset = s.best[i];
    arena_free(a);
    return s.top;
}
