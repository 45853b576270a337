/* What recomputation buys: plans of one job for other memory budgets, for compile
 * --explain=recompute and train --dry-run. */
#ifndef GRAPHRUN_BUDGET_H
#define GRAPHRUN_BUDGET_H
#include "cli/inspect/plan_facts.h"
#include "cli/job/job_plan.h"

typedef struct BudgetPoint {
    bool fits;
    PlanTotals totals; /* if it fits */
    double extra; /* time more than without recomputation, by the model: 0.1 is 10 % */
    uint32_t again; /* steps that run again */
    uint64_t least; /* if it does not: bytes of everything that would do */
} BudgetPoint;

/* The plan of `like` by block (bytes 0) or within a budget; false: another failure. */
bool budget_point(Job *j, const Options *like, const PlanCache *cache, uint64_t bytes,
                  BudgetPoint *out, Err *e);
/* Without any recomputation. */
bool budget_none(Job *j, const Options *like, const PlanCache *cache, PlanTotals *out,
                 Err *e);
/* The curve at 90 … 20 % of the peak of activations, as a table. */
bool budget_curve(Str *s, Job *j, const Options *like, const PlanCache *cache, Err *e);
#endif
