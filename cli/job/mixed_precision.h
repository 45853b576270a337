/* The words of --mixed_precision, and what a recipe says of it. */
#ifndef GRAPHRUN_MIXED_PRECISION_H
#define GRAPHRUN_MIXED_PRECISION_H
#include "cli/job/job.h"

extern const char
    *const mixed_precision_words[]; /* "no", "fp16", "bf16"; NULL-terminated */
Precision mixed_precision_of(const char *word); /* one of the words; NULL is "no" */
const char *mixed_precision_word(Precision p);
/* Fills opt->mixed_precision and full_half: from the command line (text NULL: it says
 * nothing), else from the recipe's train section. */
bool job_precision(const Job *j, const char *text, bool full_fp16, bool full_bf16,
                   Options *opt, Err *e);
#endif
