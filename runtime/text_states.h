/* Captions as the text encoder's states: while the text encoder is not trained, each caption
 * is encoded the first time it is drawn and kept.
 *
 * The states are what the step's own text encoder would have given, byte for byte: the same
 * network, weights and precision, one caption at a time. */
#ifndef GRAPHRUN_TEXT_STATES_H
#define GRAPHRUN_TEXT_STATES_H
#include "runtime/exec.h"

/* The plan of the text encoder for one caption: input "ids" [1,N,77], output `output`. */
typedef struct TextSource {
    Exec *(*exec)(void *ctx, Err *e);
    void *ctx;
    const char *output;
    int chunks; /* N */
} TextSource;

typedef struct TextStates TextStates;
TextStates *text_states_new(Arena *a, const TextSource *source);
/* The states of one caption's ids[N,77], *bytes long, of the output's type; valid as long as
 * the arena. NULL with e: no plan, or its output cannot be read. */
const void *text_states(TextStates *s, const int32_t *ids, size_t *bytes, Err *e);
#endif
