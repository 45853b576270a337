/* plan-memory: offsets of buffers with known lifetimes, so that two that live at the same
 * time never overlap and the top is low. The problem is NP-hard. A few greedy orders are
 * tried; if none is good, the order by lifetime is improved: whatever ended too high gets
 * its turn first in the next round ("squeaky wheel", Joslin and Clements 1999). On a step's
 * graph, where the forward pass piles up and the backward pass takes down, this reaches
 * the bound where moves of single buffers do not. Limits count work, never time, so equal
 * graphs get equal plans on any machine.
 *
 * Lower bound: the largest sum of live bytes. Goal: at most 1.005 of it. */
#include "passes/private.h"

#include <stdlib.h>
#include <string.h>

/* Comparisons of two buffers, some 2 ns each. Seen on tiny networks with checkpoints, the
 * hardest: 10 to 114 million. */
static const uint64_t most_work = 160000000;

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

/* The lowest gap for x among the n placed ones. */
static uint64_t find_gap(Placer *p, uint32_t n, const Buffer *x) {
    uint64_t at = 0;
    uint32_t k = 0;
    for (; k < n; k++) {
        const Slot *s = &p->slot[k];
        if (s->last < x->first || s->first > x->last) continue;
        if (s->offset >= at + x->bytes) break;
        if (s->end > at) at = s->end;
    }
    p->work += k;
    return at;
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

/* Places all in the given turn; returns the top. */
static uint64_t place(Placer *p, const uint32_t *turn) {
    uint64_t top = 0;
    for (uint32_t k = 0; k < p->b->n; k++) {
        const Buffer *x = &p->b->item[turn[k]];
        uint64_t offset = find_gap(p, k, x);
        if (offset + x->bytes > top) top = offset + x->bytes;
        insert(p, k, x, offset);
        p->offset[turn[k]] = offset;
    }
    return top;
}

/* ---- turns ---- */

typedef struct Key {
    double by, then; /* larger first; ties: the first buffer */
    uint32_t index;
} Key;

static int by_key(const void *a, const void *b) {
    const Key *x = a, *y = b;
    if (x->by != y->by) return x->by < y->by ? 1 : -1;
    if (x->then != y->then) return x->then < y->then ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

typedef enum Turn { BY_BYTES, BY_LOAD, BY_TIME, BY_LOAD_AREA, BY_START, TURNS } Turn;

/* How many rounds an order is improved. Measured over 55 plans of SD 1.5 and of tiny
 * networks: by lifetime 1 to 20 rounds reach the goal in nine of ten; the others in 3 to 5
 * where they do at all. */
static const uint32_t rounds[TURNS] = {
    [BY_TIME] = 24, [BY_LOAD_AREA] = 6, [BY_START] = 6};

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

static double measure(const Buffer *x, uint64_t load, Turn how) {
    switch (how) {
    case BY_BYTES:
        return (double)x->bytes;
    case BY_TIME:
        return (double)(x->last - x->first);
    case BY_START:
        return -(double)x->first;
    default:
        return (double)load;
    }
}

static void sort_turn(const Buffers *b, const uint64_t *load, Turn how, Key *key,
                      uint32_t *turn) {
    for (uint32_t i = 0; i < b->n; i++) {
        const Buffer *x = &b->item[i];
        double second = (double)x->bytes;
        if (how == BY_LOAD_AREA) second *= (double)(x->last - x->first) + 1;
        key[i] = (Key){measure(x, load[i], how), second, i};
    }
    qsort(key, b->n, sizeof *key, by_key);
    for (uint32_t i = 0; i < b->n; i++) turn[i] = key[i].index;
}

/* ---- improvement ---- */

typedef struct Search {
    Placer p;
    uint32_t *turn, *next;
    uint64_t *best; /* offsets of the best placement */
    uint64_t top, good;
} Search;

/* One placement in the present turn; kept if it is the lowest so far. */
static void try_turn(Search *s) {
    uint64_t top = place(&s->p, s->turn);
    if (top >= s->top) return;
    s->top = top;
    memcpy(s->best, s->p.offset, s->p.b->n * sizeof *s->best);
}

/* Those that ended too high first, then the others; both in the turn they had. */
static void raise_wheels(Search *s) {
    const Buffers *b = s->p.b;
    uint32_t m = 0;
    for (int low = 0; low < 2; low++)
        for (uint32_t k = 0; k < b->n; k++) {
            uint32_t i = s->turn[k];
            bool fits = s->p.offset[i] + b->item[i].bytes <= s->good;
            if (fits == low) s->next[m++] = i;
        }
    uint32_t *old = s->turn;
    s->turn = s->next;
    s->next = old;
}

uint64_t buffers_place(Buffers *b, uint64_t lower_bound) {
    if (!b->n) return 0;
    Arena *a = arena_new();
    Search s = {.top = UINT64_MAX, .good = lower_bound + lower_bound / 2000};
    s.p = (Placer){
        .b = b, .slot = NEW(a, Slot, b->n + 1), .offset = NEW(a, uint64_t, b->n)};
    s.turn = NEW(a, uint32_t, b->n);
    s.next = NEW(a, uint32_t, b->n);
    s.best = NEW(a, uint64_t, b->n);
    const uint64_t *load = loads(a, b);
    Key *key = NEW(a, Key, b->n);
    for (Turn how = 0; how < TURNS && s.top > s.good; how++) {
        if (s.p.work > most_work) break;
        sort_turn(b, load, how, key, s.turn);
        try_turn(&s);
        for (uint32_t i = 0; i < rounds[how] && s.top > s.good; i++) {
            if (s.p.work > most_work) break;
            raise_wheels(&s);
            try_turn(&s);
        }
    }
    for (uint32_t i = 0; i < b->n; i++) b->item[i].offset = s.best[i];
    arena_free(a);
    return s.top;
}
