/* What becomes of a caption each time its image is drawn (training.md section 2.4). */
#ifndef GRAPHRUN_CAPTIONS_H
#define GRAPHRUN_CAPTIONS_H
#include "graph/base.h"

typedef struct CaptionRule {
    bool shuffle;
    int keep_tokens; /* pieces in front that stay there; counts only with shuffle */
    const char *separator; /* not empty */
} CaptionRule;

/* A number from 0 to below - 1. */
typedef uint32_t CaptionDraw(void *ctx, uint32_t below);

/* The first line; with shuffle its pieces, stripped, in an order drawn by Fisher and
 * Yates' method from the back, joined with ", ". Lives in a. */
const char *caption_process(Arena *a, const char *caption, const CaptionRule *r,
                            CaptionDraw *draw, void *ctx);

/* s[0..*n) without white space (Python's str.isspace) at both ends. */
const char *text_strip(const char *s, size_t *n);
#endif
