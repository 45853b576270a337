/* Compiled plans kept between runs, by what they were made from. A plan that is not there,
 * damaged or of another version costs a compilation, nothing else: no function here fails.
 * Several processes may use one folder: files appear whole, and who comes second replaces
 * equal bytes by equal bytes. */
#ifndef GRAPHRUN_PLAN_CACHE_H
#define GRAPHRUN_PLAN_CACHE_H
#include "graph/plan/plan_file.h"

/* Collects what a plan depends on, part by part; parts are named for people. */
typedef struct PlanKey PlanKey;
PlanKey *plan_key_new(Arena *a);
void plan_key_add(PlanKey *k, const char *name, const void *data, size_t n);
/* XXH3-128 over all names and data, each with its length; and the parts with their own
 * hashes, which live in the arena. */
void plan_key_end(PlanKey *k, uint8_t key[16], const PlanPart **part, uint32_t *n);
/* What is different: "document lora.yaml, shape"; in a. */
const char *plan_key_diff(Arena *a, const PlanPart *x, uint32_t nx, const PlanPart *y,
                          uint32_t ny);

typedef struct PlanCache {
    const char *folder;  /* NULL: no cache */
    uint64_t most_bytes; /* of all files; the ones not used for longest go first */
} PlanCache;
/* $GRAPHRUN_CACHE/plans, else $XDG_CACHE_HOME/graphrun/plans, else ~/.cache/graphrun/plans;
 * an empty $GRAPHRUN_CACHE: no cache. 256 MiB. */
PlanCache plan_cache_default(Arena *a);
/* The plan with this key, in a; NULL: not there. A file that cannot be used is removed, and
 * a line about it goes to note. */
Plan *plan_cache_get(const PlanCache *c, Arena *a, const uint8_t key[16], Str *note);
/* Keeps a plan under its key. */
void plan_cache_put(const PlanCache *c, const Plan *p, Str *note);
#endif
