/* libFuzzer entry: any bytes as the text of a graph. A graph that was taken prints as text
 * that is taken again and prints the same; every failure has a message. */
#include <stdio.h>
#include <string.h>

#include "graph/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void round_trip(Arena *a, const Graph *g) {
    Str once = {0}, twice = {0};
    Err e = {0};
    graph_print(&once, g);
    Source src = {"printed", once.s, once.n};
    const Graph *again = graph_parse(a, &src, &e);
    if (!again) {
        fprintf(stderr, "taken, but not again: %s\n%s", e.text, once.s);
        __builtin_trap();
    }
    graph_print(&twice, again);
    if (once.n != twice.n || memcmp(once.s, twice.s, once.n)) {
        fprintf(stderr, "%s\n%s", once.s, twice.s);
        __builtin_trap();
    }
    str_free(&once);
    str_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    Source src = {"fuzz.gr", arena_strndup(a, (const char *)data, n), n};
    Err e = {0};
    const Graph *g = graph_parse(a, &src, &e);
    if (g)
        round_trip(a, g);
    else if (!e.set)
        __builtin_trap();
    arena_free(a);
    return 0;
}
