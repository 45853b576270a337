/* Blocks of memory between two pages that nobody may touch: a kernel that runs over the
 * end of an arena stops at once instead of ruining a neighbour. */
#ifndef GRAPHRUN_GUARD_H
#define GRAPHRUN_GUARD_H
#include "graph/base/base.h"

typedef struct Guard {
    void *data; /* 64-byte aligned; the block ends where the page behind it begins */
    uint64_t bytes; /* asked for */
    void *map;
    size_t map_bytes;
} Guard;
/* Zeroed. Fails if the system has no room for it. */
bool guard_open(Guard *g, uint64_t bytes, const char *what, Err *e);
void guard_close(Guard *g); /* a zeroed Guard is allowed */
#endif
