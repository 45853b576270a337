/* libFuzzer entry: any bytes as a caption, in every form; ids stay inside the
 * vocabulary and the two ways to encode agree. */
#include <string.h>

#include "io/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { IDS = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static Tokenizer *t;
    static int32_t ids[IDS], rows[3 * 77];
    Err e = {0};
    if (!t && !(t = tokenizer_open(NULL, &e))) __builtin_trap();
    Arena *a = arena_new();
    char *text = arena_strndup(a, (const char *)data, n);
    int count = tokenizer_encode(t, text, ids, IDS);
    for (int i = 0; i < count && i < IDS; i++)
        if (ids[i] < 0 || ids[i] > 49407) __builtin_trap();
    for (int chunks = 1; chunks <= 3; chunks++) {
        if (tokenizer_chunks(t, text, chunks, 49407, rows) != count) __builtin_trap();
        int kept = count < 75 ? count : 75;
        if (rows[0] != 49406 || memcmp(rows + 1, ids, (size_t)kept * sizeof *ids))
            __builtin_trap();
        tokenizer_chunks(t, text, chunks, 0, rows);
    }
    arena_free(a);
    return 0;
}
