/* Work done ahead by threads, taken in order: a ring of slots between workers and one
 * reader.
 *
 * Position p (from … to - 1) is prepared under a lock, in order, then filled without it,
 * then taken by the reader, in order. What a slot holds depends on its position alone, never
 * on the number of threads. At most `slots` positions are ahead of the reader. */
#ifndef GRAPHRUN_AHEAD_H
#define GRAPHRUN_AHEAD_H
#include "graph/base/base.h"

typedef struct AheadWork {
    void *ctx;
    size_t slot_bytes; /* of a slot: zeroed at the start, then reused */
    /* Decides what position p is; one at a time, in order. */
    bool (*plan)(void *ctx, int64_t p, void *slot, Err *e);
    bool (*fill)(void *ctx, void *slot, Err *e); /* by several threads at once */
    void (*empty)(void *ctx, void *slot);        /* when all is done; may be NULL */
} AheadWork;

typedef struct Ahead Ahead;
/* threads: 1 … 64 are used. NULL: err_fail. */
Ahead *ahead_open(const AheadWork *w, int64_t from, int64_t to, int threads, Err *e);
/* The slot of the next position, valid until the next call. A position's failure shows
 * when it is taken; past the last one there is none to take: err_fail. */
bool ahead_next(Ahead *q, void **slot, Err *e);
void ahead_close(Ahead *q); /* NULL is allowed */
#endif
