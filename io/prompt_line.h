/* A prompt with options behind it, as sd-scripts takes them from files and lines:
 * "a cat --n dog --w 512 --s 20". */
#ifndef GRAPHRUN_PROMPT_LINE_H
#define GRAPHRUN_PROMPT_LINE_H
#include "graph/base/base.h"

enum { PROMPT_UNSET = -1, PROMPT_SEEDS = 64, PROMPT_MULTIPLIERS = 16 };
typedef struct PromptLine {
    const char *prompt, *negative, *sampler,
        *clip;              /* NULL: not given (prompt always is) */
    const char *line;       /* what it was read from; NULL: a table of a file */
    int64_t w, h, steps;    /* PROMPT_UNSET: not given */
    double scale, strength; /* NAN: not given */
    double negative_scale;  /* NAN: not given; -1: "none" */
    int64_t seed[PROMPT_SEEDS];
    int n_seed;
    double multiplier[PROMPT_MULTIPLIERS];
    int n_multiplier;
    const char **ignored; /* options that are none, or that have no good value */
    int n_ignored;
} PromptLine;

/* Nothing given. */
PromptLine prompt_unset(void);
/* --w --h --s (1 ... 1000; others become the nearest) --d (several between commas) --l --n
 * --ss --am, and not while training --nl --c --t; capitals are the same. while_training: the first piece is
 * tried as an option too, and one seed is all there is, as sd-scripts' samples have it. */
void prompt_line(Arena *a, const char *line, bool while_training, PromptLine *out);
/* Lines of a text, without blank ones and those that begin with '#'; NULL-terminated. */
const char **prompt_lines(Arena *a, const char *text, size_t n);
/* Prompts of a file, at least one. FILE.toml: [prompt] with what all have in common, and
 * [[prompt.subset]]; FILE.json: a list of lines and tables, with the keys prompt,
 * negative_prompt, width, height, sample_steps, scale, seed, sample_sampler; any other:
 * lines. */
bool prompt_file(Arena *a, const char *path, bool while_training, PromptLine **out,
                 int *n, Err *e);
#endif
