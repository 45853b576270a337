/* Guarded blocks by mmap: pages without access in front and behind. */
#define _GNU_SOURCE /* MAP_ANONYMOUS, madvise */
#include "runtime/guard.h"

#include <sys/mman.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

bool guard_open(Guard *g, uint64_t bytes, const char *what, Err *e) {
    *g = (Guard){0};
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), room, pages;
    if (!add_u64(bytes, page + 63, &room) || room > UINT64_C(1) << 47)
        return err_fail(e, "%s of %llu bytes: more than there is", what,
                        (unsigned long long)bytes);
    pages = (room & ~(uint64_t)63) / page * page; /* at least one, and all of bytes */
    if (pages < bytes || !pages) pages += page;
    size_t all = (size_t)(pages + 2 * page);
    char *map = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED ||
        mprotect(map + page, (size_t)pages, PROT_READ | PROT_WRITE)) {
        if (map != MAP_FAILED) munmap(map, all);
        return err_fail(e, "%s: no memory for %.1f MiB", what, (double)bytes / 1048576);
    }
    if (pages >= HUGE_PAGE) madvise(map + page, (size_t)pages, MADV_HUGEPAGE);
    uint64_t used = (bytes + 63) & ~(uint64_t)63;
    *g = (Guard){map + page + pages - used, bytes, map, all};
    return true;
}

void guard_close(Guard *g) {
    if (g->map) munmap(g->map, g->map_bytes);
    *g = (Guard){0};
}
