/* Arenas: blocks of malloc'd memory, freed together. The one place in the compiler that
 * calls malloc, and the one that ends the program when there is none left. */
#include "graph/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { OWN_PAGES = false }; /* the sanitizer watches malloc */
#else
enum { OWN_PAGES = true };
#endif

typedef struct Block Block;
struct Block {
    Block *next;
    size_t used, size;
    bool own; /* pages of its own, not of malloc's */
};

struct Arena {
    Block *first;
};

enum {
    ALIGN = 16,
    FIRST_BYTES = 1 << 16, /* of the first block, and of those behind it */
    NEXT_BYTES = 1 << 18,
    OWN_BYTES = 1 << 17, /* from here on pages of its own, up to */
    MOST_PRESENT_BYTES = 1 << 24
};
/* the first object of a block stands behind its header, aligned */
static const size_t header = (sizeof(Block) + ALIGN - 1) / ALIGN * ALIGN;

static void *must_have(void *p, size_t n) {
    if (p) return p;
    fprintf(stderr, "graphrun: error: out of memory: %zu bytes wanted\n", n);
    exit(EXIT_FAILED);
}

/* Memory of a block: from malloc, or its own pages, zeroed and present at once: to fault
 * in page by page costs several times as much, most of all in a virtual machine. */
static Block *block_new(size_t payload) {
    size_t bytes = header + payload;
    bool own = OWN_PAGES && bytes >= OWN_BYTES && bytes <= MOST_PRESENT_BYTES;
    Block *b;
    if (own)
        b = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    else
        b = malloc(bytes);
    b = must_have(own && b == MAP_FAILED ? NULL : b, bytes);
    *b = (Block){.size = payload, .own = own};
    return b;
}

Arena *arena_new(void) {
    Arena *a = must_have(calloc(1, sizeof *a), sizeof *a);
    return a;
}

void arena_free(Arena *a) {
    if (!a) return;
    for (Block *b = a->first; b;) {
        Block *next = b->next;
        if (b->own)
            munmap(b, header + b->size);
        else
            free(b);
        b = next;
    }
    free(a);
}

void *arena_alloc(Arena *a, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX / 2)
        return must_have(NULL, SIZE_MAX);
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    Block *b = a->first;
    if (!b || b->size - b->used < bytes) {
        size_t usual = a->first ? NEXT_BYTES : FIRST_BYTES;
        b = block_new(bytes > usual ? bytes : usual);
        /* a block of its own for something big leaves the current one in use */
        if (bytes > usual && a->first) {
            b->next = a->first->next;
            a->first->next = b;
        } else {
            b->next = a->first;
            a->first = b;
        }
    }
    void *p = (char *)b + header + b->used;
    b->used += bytes;
    return b->own ? p : memset(p, 0, bytes);
}

void *arena_grow(Arena *a, const void *old, size_t old_n, size_t new_n, size_t size) {
    void *p = arena_alloc(a, new_n, size);
    if (old_n) memcpy(p, old, old_n * size);
    return p;
}

char *arena_strndup(Arena *a, const char *s, size_t n) {
    char *p = arena_alloc(a, n + 1, 1);
    memcpy(p, s, n);
    return p;
}

char *arena_strdup(Arena *a, const char *s) {
    return arena_strndup(a, s, strlen(s));
}

char *arena_printf(Arena *a, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *p = arena_alloc(a, (size_t)n + 1, 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}
