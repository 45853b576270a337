/* For train --dry-run: an estimate of the time, and of the memory whether this machine has
 * it and what would need less (cli/train/train.h). */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/inspect/inspect.h"
#include "cli/job/budget.h"
#include "cli/train/train.h"

const BucketPlan *train_largest(const Trainer *t) {
    const BucketPlan *most = &t->plan[0];
    uint64_t bytes = 0;
    for (int i = 0; i < t->n_plan; i++) {
        uint64_t total = plan_totals(t->plan[i].plan).total;
        if (total <= bytes) continue;
        bytes = total;
        most = &t->plan[i];
    }
    return most;
}

/* Of one update, the mean over the shapes; a floor: the roofline's. */
static double update_seconds(const Trainer *t) {
    Roofline r = roofline_here();
    double sum = 0;
    bool memory;
    for (int i = 0; i < t->n_plan; i++) {
        const Plan *p = t->plan[i].plan;
        for (uint32_t k = 0; k < p->n_step; k++)
            sum += plan_step_time(&r, &p->step[k], &memory);
    }
    return sum / (t->n_plan ? t->n_plan : 1) * (t->accumulate > 1 ? t->accumulate : 1);
}

static uint64_t machine_bytes(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

/* ---- what would need less ---- */
enum { MOST_WAYS = 4 };
typedef struct Way {
    const char *option;
    uint64_t total;
    double extra; /* time */
} Way;

typedef struct Ways {
    Way item[MOST_WAYS];
    int n;
} Ways;

static void add_way(Ways *w, const char *option, const BudgetPoint *x) {
    w->item[w->n++] = (Way){option, x->totals.total, x->extra};
}

/* Recomputation by block, and the least there is. */
static bool by_recomputing(Trainer *t, const Options *like, Ways *w, Err *e) {
    BudgetPoint x;
    if (!budget_point(&t->job, like, &t->cache, 0, &x, e)) return false;
    if (!like->gradient_checkpointing) add_way(w, "--gradient_checkpointing", &x);
    if (!budget_point(&t->job, like, &t->cache, 1, &x, e)) return false;
    uint64_t least = x.least;
    if (!budget_point(&t->job, like, &t->cache, least, &x, e)) return false;
    if (x.fits)
        add_way(w,
                arena_printf(t->arena, "--memory_budget %lluMiB",
                             (unsigned long long)((least >> 20) + 1)),
                &x);
    return true;
}

static bool find_ways(Trainer *t, Ways *w, Err *e) {
    const BucketPlan *most = train_largest(t);
    Options like;
    BudgetPoint x = {0};
    *w = (Ways){0};
    if (!train_options_of_plan(t, &most->shape, &like, e)) return false;
    if (!by_recomputing(t, &like, w, e)) return false;
    if (like.mixed_precision == PRECISION_NO) {
        Options half = like;
        half.mixed_precision = PRECISION_FP16;
        if (!budget_none(&t->job, &half, &t->cache, &x.totals, e)) return false;
        add_way(w, "--mixed_precision fp16", &x);
    }
    if (most->shape.batch > 1) {
        Shape one = most->shape;
        one.batch = 1;
        Options single;
        if (!train_options_of_plan(t, &one, &single, e)) return false;
        if (!budget_none(&t->job, &single, &t->cache, &x.totals, e)) return false;
        add_way(w, "--train_batch_size 1", &x);
    }
    return true;
}

/* ---- as text and as JSON ---- */
static const char *duration(Arena *a, double seconds) {
    if (seconds < 120) return arena_printf(a, "%.1f s", seconds);
    if (seconds < 7200) return arena_printf(a, "%.0f min", seconds / 60);
    return arena_printf(a, "%.1f h", seconds / 3600);
}

bool train_fit_text(Trainer *t, Str *s, Err *e) {
    Arena *a = t->arena;
    double one = update_seconds(t);
    uint64_t have = machine_bytes(), need = plan_totals(train_largest(t)->plan).total;
    str_printf(s,
               "time: at least %s, %s for each of %lld steps, by the roofline of this "
               "machine\n",
               duration(a, one * (double)t->steps), text_seconds(a, one),
               (long long)t->steps);
    str_printf(s, "this machine has %s: %s\n", text_bytes(a, (double)have),
               need <= have ? "it fits" : "it does not fit");
    Ways w;
    if (!find_ways(t, &w, e)) return false;
    for (int i = 0; i < w.n; i++)
        str_printf(s, "  with %-28s %10s%s\n", w.item[i].option,
                   text_bytes(a, (double)w.item[i].total),
                   w.item[i].extra > 0
                       ? arena_printf(a, ", time +%.1f %%", 100 * w.item[i].extra)
                       : "");
    return true;
}

bool train_fit_json(Trainer *t, Str *s, Err *e) {
    double one = update_seconds(t);
    uint64_t have = machine_bytes(), need = plan_totals(train_largest(t)->plan).total;
    Ways w;
    if (!find_ways(t, &w, e)) return false;
    str_add(s, "\"estimate\": {\"step_us\": ");
    str_double(s, one * 1e6);
    str_add(s, ", \"seconds\": ");
    str_double(s, one * (double)t->steps);
    str_printf(s, "},\n\"machine_bytes\": %llu, \"fits\": %s,\n\"less_memory\": [",
               (unsigned long long)have, need <= have ? "true" : "false");
    for (int i = 0; i < w.n; i++) {
        str_add(s, i ? ", {\"option\": " : "{\"option\": ");
        str_json(s, w.item[i].option);
        str_printf(s, ", \"total_bytes\": %llu, \"extra_time\": ",
                   (unsigned long long)w.item[i].total);
        str_double(s, w.item[i].extra);
        str_add(s, "}");
    }
    str_add(s, "]");
    return true;
}
