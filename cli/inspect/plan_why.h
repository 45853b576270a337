/* Reasons that stand in a plan: lines of the passes' report, the trainable behind a value,
 * what was recomputed and what that bought, where types meet. */
#ifndef GRAPHRUN_PLAN_WHY_H
#define GRAPHRUN_PLAN_WHY_H
#include "cli/inspect/plan_facts.h"

/* The next line of the report that begins with "PASS: ", without that; *n: its length.
 * *at: NULL to begin with. NULL: no more. */
const char *plan_report_line(const Plan *p, const char *pass, const char **at,
                             size_t *n);

/* A near miss of fusion: "merge left out at 'PATH' (PLACE): REASON, more". Texts may be
 * cut out of the report: lengths count. */
typedef struct FuseRefusal {
    const char *pattern, *path, *place, *reason, *more;
} FuseRefusal;
/* All of them, in a; *n: how many. */
FuseRefusal *plan_refusals(Arena *a, const Plan *p, uint32_t *n);

/* Per value: a trainable that it depends on, the first found; UINT32_MAX: on none. */
uint32_t *plan_witnesses(Arena *a, const Plan *p);

/* A step that runs a second time. */
typedef struct Recomputed {
    uint32_t step, original; /* original: UINT32_MAX if it was not found */
    uint64_t bytes; /* that were not kept for it; 0: only other copies read it */
    double seconds; /* by the roofline */
} Recomputed;
Recomputed *plan_recomputed(Arena *a, const Plan *p, const Roofline *r, uint32_t *n);

/* Steps whose operands are of more than one floating type, those alike together. */
typedef struct TypesMet {
    const Op *op;
    const Kernel *kernel;
    const char *reads, *makes; /* "f32 f16", "f16" */
    uint32_t steps;
    uint64_t bytes; /* moved */
} TypesMet;
TypesMet *plan_types_met(Arena *a, const Plan *p, int *n);

/* Paths of steps in the backward pass, sorted; and whether one is among them. */
const char **plan_backward_paths(Arena *a, const Plan *p, uint32_t *n);
bool plan_has_path(const char **sorted, uint32_t n, const char *path);
#endif
