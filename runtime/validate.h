/* The loss on pictures that were held out. */
#ifndef GRAPHRUN_VALIDATE_H
#define GRAPHRUN_VALIDATE_H
#include "runtime/train.h"

enum { VALIDATION_TIMES = 4 /* as sd-scripts: at 200, 400, 600, 800 of 1000 */ };

typedef struct Validation {
    Feed feed;                                        /* at its first batch */
    Exec *(*exec)(void *ctx, const Shape *s, Err *e); /* a plan without updates */
    void *ctx;
    int batches; /* how many are looked at */
    uint64_t seed;
    int64_t min_timestep, max_timestep;
    int n_times; /* timesteps for each batch, where the objective has a node `t` */
} Validation;

/* Mean over all samples and timesteps; the same for the same weights. */
bool validate(const Validation *v, double *loss, Err *e);
#endif
