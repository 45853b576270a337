/* In which types a step computes: the command line's words, else the recipe's. */
#include "cli/job/mixed_precision.h"

#include <string.h>

#include "cli/job/job_plan.h"

const char *const mixed_precision_words[] = {"no", "fp16", "bf16", NULL};

Precision mixed_precision_of(const char *word) {
    for (int i = 0; word && mixed_precision_words[i]; i++)
        if (!strcmp(mixed_precision_words[i], word)) return (Precision)i;
    return PRECISION_NO;
}

const char *mixed_precision_word(Precision p) {
    return mixed_precision_words[p];
}

static bool from_recipe(const Job *j, Precision *out, Err *e) {
    const Val *v = args_get(j->recipe.train, "mixed_precision");
    if (!v) return true;
    *out = v->kind == VAL_WORD ? mixed_precision_of(v->word) : PRECISION_NO;
    return (v->kind == VAL_WORD && !strcmp(v->word, mixed_precision_word(*out))) ||
           err_at(e, v->loc, "'mixed_precision' of recipe '%s': want no, fp16 or bf16",
                  j->recipe.doc->name);
}

/* sd-scripts' rule: full_X goes with mixed_precision X only. */
static bool full(const Job *j, const char *key, bool asked, Precision with,
                 Options *opt, Err *e) {
    double on = 0;
    if (!job_number(j, j->recipe.train, key, 0, &on, e)) return false;
    if (!asked && on == 0) return true;
    opt->full_half = true;
    return opt->mixed_precision == with ||
           err_usage(e, "--%s needs --mixed_precision %s, got %s", key,
                     mixed_precision_word(with),
                     mixed_precision_word(opt->mixed_precision));
}

bool job_precision(const Job *j, const char *text, bool full_fp16, bool full_bf16,
                   Options *opt, Err *e) {
    opt->mixed_precision = mixed_precision_of(text);
    return (text || from_recipe(j, &opt->mixed_precision, e)) &&
           full(j, "full_fp16", full_fp16, PRECISION_FP16, opt, e) &&
           full(j, "full_bf16", full_bf16, PRECISION_BF16, opt, e);
}
