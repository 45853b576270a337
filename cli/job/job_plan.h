/* From a job to a plan: what a training step is compiled with, and the cache in front of
 * the compiler. What train and compile have in common. */
#ifndef GRAPHRUN_JOB_PLAN_H
#define GRAPHRUN_JOB_PLAN_H
#include "cli/job/job.h"
#include "runtime/plan_cache.h"
#include "runtime/train.h"

/* Inputs of objectives that nothing here writes; their defaults are constants. */
extern const char *const job_absent_inputs[];
/* Does the objective see pictures (an input `image`), not latents? */
bool job_wants_pixels(const Job *j);
/* The symbols of the objective: B, N, and H and W of its picture or latent. */
Args *job_dims(const Job *j, const Shape *s);
/* What a plan is compiled for without a data set: the recipe's data.resolution, batch and
 * chunks; 512 x 512, one sample, one chunk where it says nothing. */
bool job_shape(const Job *j, Shape *s, Err *e);
/* A training step of the recipe for that shape; everything else as Options{0}. */
bool job_step_options(const Job *j, Options *opt, Err *e);
/* A number of one of the recipe's sections. */
bool job_number(const Job *j, const Args *section, const char *key, double otherwise,
                double *out, Err *e);

/* "4194304", "512MiB", "6.5 GiB"; false: it is no size above 0. */
bool byte_size(const char *text, uint64_t *out);
/* --gradient_checkpointing and --memory_budget (NULL: not given), or what the recipe says
 * under `train` and `plan`, into opt. */
bool job_memory(const Job *j, const char *budget, bool checkpoint, Options *opt,
                Err *e);

/* All that a plan depends on: documents, bound arguments, weights' names and types, shapes,
 * options of passes, this program and the instruction set. Not: learning rates, seeds,
 * numbers of steps, threads, where weights lie. */
void job_key(const Job *j, const Options *opt, uint8_t key[16], const PlanPart **part,
             uint32_t *n);

typedef struct PlanOrigin {
    bool cached;
    Str note; /* warnings about the cache, a line each; str_free */
} PlanOrigin;
typedef struct PlanWish {
    const PlanCache *cache; /* NULL: none */
    Plan *given;            /* a plan that was read from a file, if it fits; or NULL */
    bool to_run;            /* fill opt->modules and opt->adapted, and the rates */
} PlanWish;
/* The plan for these options: the given one, one from the cache, or compiled; with its key,
 * its report and its adapters. */
Plan *job_plan(Job *j, Options *opt, const PlanWish *w, PlanOrigin *from, Err *e);
/* As job_network_plan, by way of the cache. */
Plan *job_network_plan_kept(Job *j, const Net *net, const Args *dims,
                            const Options *like, const PlanCache *cache, Str *note,
                            Err *e);
/* Fills opt->modules and opt->adapted without compiling, if they are not there. */
bool job_modules(Job *j, Options *opt, Err *e);
/* Gives the learning rates of `adapted`'s tensors to a plan that was read from a file.
 * false: its scalars are divided in another way; compile again. */
bool job_rates(Plan *p, const Graph *adapted);
/* A plan file; NULL with the reason in e, *old as in plan_read. */
Plan *job_plan_read(Arena *a, const char *path, bool *old, Err *e);
#endif
