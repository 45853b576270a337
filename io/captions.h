/* What becomes of a caption each time its image is drawn (training.md section 2.4). */
#ifndef GRAPHRUN_CAPTIONS_H
#define GRAPHRUN_CAPTIONS_H
#include "graph/base/base.h"

/* Texts that are NULL or empty do nothing, as numbers that are 0. */
typedef struct CaptionRule {
    bool shuffle;
    bool wildcard;              /* {a|b}, and lines, are alternatives */
    int keep_tokens;            /* pieces in front that stay there */
    const char *separator;      /* between pieces; not empty */
    const char *keep_separator; /* between kept, loose and kept pieces */
    const char *secondary;      /* becomes the separator at the very end */
    const char *prefix, *suffix;
    double dropout_rate;     /* of whole captions */
    int64_t dropout_every;   /* in every such epoch all captions are dropped */
    double tag_dropout_rate; /* of the loose pieces */
    int64_t warmup_min;      /* loose pieces at the first update */
    double warmup_step;      /* updates until all are there; below 1: a part of all */
} CaptionRule;

/* When a caption is drawn: epoch 1 …, finished updates, updates of the whole run. */
typedef struct CaptionTime {
    int64_t epoch, step, max_steps;
} CaptionTime;

/* The numbers that a caption is drawn with. */
typedef struct CaptionDraws {
    void *ctx;
    double (*uniform)(void *ctx);                  /* in [0, 1) */
    uint32_t (*choice)(void *ctx, uint32_t below); /* of an alternative */
    uint32_t (*place)(void *ctx, uint32_t below);  /* in a shuffle */
} CaptionDraws;

/* In this order: prefix and suffix; dropout of the whole; one of the alternatives, or the
 * first line; keep, warm-up, shuffle (Fisher and Yates' method from the back), dropout of
 * pieces, joined with ", "; the secondary separator. Lives in a. */
const char *caption_process(Arena *a, const char *caption, const CaptionRule *r,
                            const CaptionTime *t, const CaptionDraws *draw);
/* Is the result the same each time? */
bool caption_is_fixed(const CaptionRule *r, const char *caption);

/* A caption file's text as a caption: its first line, or with wildcards all lines that are
 * not blank, stripped. NUL bytes and a byte order mark are dropped. */
const char *caption_from_text(Arena *a, const char *text, size_t n, bool wildcard);

/* s[0..*n) without white space (Python's str.isspace) at both ends. */
const char *text_strip(const char *s, size_t *n);
#endif
