/* Kept sorted by the hash of their ids; equal ids, not equal hashes, make two captions the
 * same. */
#include "runtime/text_states.h"

#include <string.h>
#include <xxhash.h>

#include "io/data.h"

typedef struct Caption {
    uint64_t hash;
    const int32_t *ids;
    const void *states;
} Caption;

struct TextStates {
    Arena *arena;
    TextSource source;
    Caption *caption; /* by hash */
    int n, cap;
    size_t bytes; /* of one caption's states */
};

TextStates *text_states_new(Arena *a, const TextSource *source) {
    TextStates *s = NEW(a, TextStates, 1);
    *s = (TextStates){.arena = a, .source = *source};
    return s;
}

static size_t ids_bytes(const TextStates *s) {
    return (size_t)s->source.chunks * TOKEN_ROW * sizeof(int32_t);
}

/* The first caption whose hash is not below. */
static int first_from(const TextStates *s, uint64_t hash) {
    int low = 0, high = s->n;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (s->caption[middle].hash < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static const void *encoded(TextStates *s, const int32_t *ids, Err *e) {
    Exec *x = s->source.exec(s->source.ctx, e);
    if (!x || !exec_write(x, "ids", ids, ids_bytes(s), e)) return NULL;
    exec_run(x);
    const Type *t = exec_type(x, s->source.output);
    if (!t) {
        err_fail(e, "the text encoder has no output '%s'", s->source.output);
        return NULL;
    }
    s->bytes = type_bytes(t);
    void *states = arena_alloc(s->arena, s->bytes, 1);
    return exec_read(x, s->source.output, states, s->bytes, e) ? states : NULL;
}

const void *text_states(TextStates *s, const int32_t *ids, size_t *bytes, Err *e) {
    uint64_t hash = XXH3_64bits(ids, ids_bytes(s));
    int at = first_from(s, hash);
    for (int i = at; i < s->n && s->caption[i].hash == hash; i++)
        if (!memcmp(s->caption[i].ids, ids, ids_bytes(s))) {
            *bytes = s->bytes;
            return s->caption[i].states;
        }
    const void *states = encoded(s, ids, e);
    if (!states) return NULL;
    int32_t *own = arena_alloc(s->arena, ids_bytes(s), 1);
    memcpy(own, ids, ids_bytes(s));
    PUSH(s->arena, s->caption, s->n, s->cap, ((Caption){hash, own, states}));
    memmove(s->caption + at + 1, s->caption + at,
            (size_t)(s->n - 1 - at) * sizeof *s->caption);
    s->caption[at] = (Caption){hash, own, states};
    *bytes = s->bytes;
    return states;
}
