/* Prompts with choices in them, as sd-scripts takes them (after sd-dynamic-prompts):
 *   {a|b|c}              one of them, drawn at random
 *   {2$$a|b|c}           two of them; {1-2$$a|b|c}: one or two
 *   {2$$ and $$a|b|c}    joined by " and ", not by ", "
 *   {e$$a|b|c}           all of them, a prompt each; {e$$2$$a|b|c}: all pairs */
#ifndef GRAPHRUN_PROMPT_VARIANTS_H
#define GRAPHRUN_PROMPT_VARIANTS_H
#include "graph/base/base.h"

enum { PROMPT_VARIANTS_MAX = 4096 };
/* The prompts that `text` stands for; its own if nothing in it is to be chosen. Without
 * {e$$...} there are `repeat` of them, with it as many as there are ways (the last group
 * varies fastest). What is drawn at random depends on seed and place alone. Errors: more
 * than PROMPT_VARIANTS_MAX ways. */
bool prompt_variants(Arena *a, const char *text, int64_t repeat, uint64_t seed,
                     const char ***out, int *n, Err *e);
#endif
