/* Learning-rate schedules: the factor on every learning rate, update by update
 * (training.md section 6.8). Nothing of them is in a plan: the host writes the rates. */
#ifndef GRAPHRUN_LR_H
#define GRAPHRUN_LR_H
#include "graph/base/base.h"

enum { LR_RULES = 64 /* most pieces of piecewise_constant */ };

typedef struct LrFormula LrFormula;
typedef struct LrSchedule {
    /* what is asked for */
    const char *name;     /* "cosine" */
    int64_t steps;        /* updates of the whole run */
    double warmup, decay; /* updates; below 1: a part of `steps` */
    double cycles, power;
    double timescale;  /* inverse_sqrt; 0: the warm-up, or 10000 */
    double min_ratio;  /* where cosine_with_min_lr and warmup_stable_decay end */
    double base;       /* polynomial ends at a rate of 1e-7: seen from this one */
    const char *rules; /* piecewise_constant: "1:10,0.1:20,0.05"; or NULL */
    /* what lr_schedule makes of it */
    const LrFormula *formula;
    double factor[LR_RULES], until[LR_RULES]; /* the last has no end */
    int n_rule;
} LrSchedule;

/* Checks what is asked for and makes it ready. Errors: misuse, with the nearest name. */
bool lr_schedule(Arena *a, LrSchedule *s, Err *e);
/* The factor of update i = 0, 1, … */
double lr_factor(const LrSchedule *s, int64_t i);
#endif
