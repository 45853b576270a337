/* Arenas: blocks of malloc'd memory, freed together. The one place in the compiler that
 * calls malloc, and the one that ends the program when there is none left. */
#include "graph/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Block Block;
struct Block {
    Block *next;
    size_t used, size;
};

struct Arena {
    Block *first;
};

enum { ALIGN = 16, BLOCK_BYTES = 1 << 16 };
/* the first object of a block stands behind its header, aligned */
static const size_t header = (sizeof(Block) + ALIGN - 1) / ALIGN * ALIGN;

static void *must_have(void *p, size_t n) {
    if (p) return p;
    fprintf(stderr, "graphrun: error: out of memory: %zu bytes wanted\n", n);
    exit(EXIT_FAILED);
}

static Block *block_new(size_t payload) {
    size_t size = payload > BLOCK_BYTES ? payload : BLOCK_BYTES;
    Block *b = must_have(malloc(header + size), header + size);
    b->next = NULL;
    b->used = 0;
    b->size = size;
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
        b = block_new(bytes);
        /* a block of its own for something big leaves the current one in use */
        if (bytes > BLOCK_BYTES && a->first) {
            b->next = a->first->next;
            a->first->next = b;
        } else {
            b->next = a->first;
            a->first = b;
        }
    }
    void *p = (char *)b + header + b->used;
    b->used += bytes;
    return memset(p, 0, bytes);
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
