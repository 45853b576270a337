/* libFuzzer entry: any bytes as a JSON file and as lines of JSON; every failure has a
 * message, and every value's place lies in the text. */
#include "io/json_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const Toml *t, const Source *src, int depth) {
    if (t->loc.src != src || depth > JSON_TREE_DEPTH_MAX) __builtin_trap();
    for (int i = 0; i < t->n; i++) check(&t->item[i], src, depth + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const Toml *(*const read[])(Arena *, const Source *, Err *) = {json_tree,
                                                                   json_lines};
    for (size_t i = 0; i < COUNT(read); i++) {
        Arena *a = arena_new();
        Source src = {"fuzz.json", arena_strndup(a, (const char *)data, n), n};
        Err e = {0};
        const Toml *top = read[i](a, &src, &e);
        if (top)
            check(top, &src, 0);
        else if (!e.set)
            __builtin_trap();
        arena_free(a);
    }
    return 0;
}
