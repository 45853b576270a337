/* Weights of words in captions and prompts (training.md 5.4). */
#ifndef GRAPHRUN_TOKEN_WEIGHTS_H
#define GRAPHRUN_TOKEN_WEIGHTS_H
#include "graph/base/base.h"

typedef struct WeightedText {
    const char *text; /* without brackets and escapes */
    double weight;
} WeightedText;
/* (x) weighs 1.1, [x] 1/1.1, (x:1.3) 1.3, nested they multiply; \( \) \[ \] \\ are the
 * characters themselves; an open bracket reaches to the end. Runs of equal weight are one
 * piece; an empty text is one empty piece. */
int weights_parse(Arena *a, const char *text, WeightedText **out);
#endif
