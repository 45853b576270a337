/* Plans of one job for other memory budgets (budget.h). */
#include "cli/job/budget.h"

#include <stdlib.h>
#include <string.h>

#include "cli/inspect/inspect.h"
#include "cli/inspect/plan_why.h"

/* "…, time +4.88 % (model)", as the pass checkpoint says it. */
static double extra_time(Arena *a, const Plan *p) {
    const char *at = NULL, *line, *found;
    size_t n;
    while ((line = plan_report_line(p, "checkpoint", &at, &n)))
        if ((found = strstr(arena_strndup(a, line, n), "time +")))
            return strtod(found + strlen("time +"), NULL) / 100;
    return 0;
}

static Plan *plan_with(Job *j, Options *opt, const PlanCache *cache, Err *e) {
    PlanOrigin from;
    PlanWish wish = {.cache = cache};
    opt->report = NULL;
    opt->dump = NULL;
    opt->modules = NULL;
    Plan *p = job_plan(j, opt, &wish, &from, e);
    str_free(&from.note);
    return p;
}

bool budget_none(Job *j, const Options *like, const PlanCache *cache, PlanTotals *out,
                 Err *e) {
    Options opt = *like;
    opt.memory_budget = 0;
    opt.gradient_checkpointing = false;
    Plan *p = plan_with(j, &opt, cache, e);
    if (p) *out = plan_totals(p);
    return p != NULL;
}

bool budget_point(Job *j, const Options *like, const PlanCache *cache, uint64_t bytes,
                  BudgetPoint *out, Err *e) {
    Options opt = *like;
    Err why = {0};
    *out = (BudgetPoint){0};
    opt.memory_budget = bytes;
    opt.memory_least = 0;
    opt.gradient_checkpointing = !bytes;
    Plan *p = plan_with(j, &opt, cache, &why);
    out->least = opt.memory_least;
    if (!p && out->least) return true;
    if (!p) return err_fail(e, "%s", err_said(&why));
    out->fits = true;
    out->totals = plan_totals(p);
    out->extra = extra_time(j->arena, p);
    for (uint32_t k = 0; k < p->n_step; k++)
        out->again += p->step[k].at.phase == RECOMPUTE;
    return true;
}

static void row(Str *s, Arena *a, const char *what, const BudgetPoint *x) {
    str_printf(s, "  %-24s %12s %12s %9.1f %% %8u\n", what,
               text_bytes(a, (double)x->totals.arena),
               text_bytes(a, (double)x->totals.total), 100 * x->extra, x->again);
}

bool budget_curve(Str *s, Job *j, const Options *like, const PlanCache *cache, Err *e) {
    static const int percent[] = {90, 80, 75, 70, 60, 50, 40, 30, 25, 20};
    BudgetPoint x = {.fits = true};
    if (!budget_none(j, like, cache, &x.totals, e)) return false;
    uint64_t arena = x.totals.arena, rest = x.totals.total - arena;
    str_printf(s, "\nbudgets, as parts of the activations without recomputation\n");
    str_printf(s, "  %-24s %12s %12s %11s %8s\n", "", "activations", "together",
               "extra time", "again");
    row(s, j->arena, "100 %", &x);
    for (size_t i = 0; i < COUNT(percent); i++) {
        uint64_t bytes = rest + arena / 100 * (uint64_t)percent[i];
        if (!budget_point(j, like, cache, bytes, &x, e)) return false;
        const char *name = arena_printf(j->arena, "%d %%", percent[i]);
        if (x.fits)
            row(s, j->arena, name, &x);
        else
            str_printf(s, "  %-24s does not fit: at least %s together are needed\n",
                       name, text_bytes(j->arena, (double)x.least));
        if (!x.fits) break;
    }
    if (!budget_point(j, like, cache, 0, &x, e)) return false;
    row(s, j->arena, "--gradient_checkpointing", &x);
    return true;
}
