/* Two plans compared. Nodes are matched by where they come from: phase, path in the graph
 * files and op, and among equal ones by their turn; what has no partner was added or
 * removed, what has one with another type, kernel or attributes was changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/diff.h"
#include "cli/inspect/inspect.h"
#include "cli/job/job_plan.h"

typedef struct Origin { /* a step, by where it comes from */
    const PlanStep *step;
    uint32_t index, turn; /* turn: among steps of the same origin */
} Origin;

typedef struct PlanDiff {
    Arena *a;
    const Plan *x, *y;
    struct Pair {
        const PlanStep *x, *y; /* NULL: has no partner */
    } * pair;
    uint32_t n, cap;
    uint32_t added, removed, changed;
} PlanDiff;

bool diff_is_plan(const char *path) {
    char start[8];
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    size_t n = fread(start, 1, sizeof start, f);
    fclose(f);
    return plan_is_file(start, n);
}

/* ---- matching ---- */
static int compare_origin(const PlanStep *x, const PlanStep *y) {
    if (x->at.phase != y->at.phase) return x->at.phase < y->at.phase ? -1 : 1;
    const char *px = x->at.path ? x->at.path : "", *py = y->at.path ? y->at.path : "";
    int c = strcmp(px, py);
    return c ? c : strcmp(x->op->name, y->op->name);
}

static int by_origin(const void *a, const void *b) {
    const Origin *x = a, *y = b;
    int c = compare_origin(x->step, y->step);
    return c ? c : x->index < y->index ? -1 : x->index > y->index;
}

static Origin *origins(Arena *a, const Plan *p) {
    Origin *o = NEW(a, Origin, (size_t)p->n_step + 1);
    for (uint32_t k = 0; k < p->n_step; k++) o[k] = (Origin){&p->step[k], k, 0};
    qsort(o, p->n_step, sizeof *o, by_origin);
    for (uint32_t k = 1; k < p->n_step; k++)
        if (!compare_origin(o[k - 1].step, o[k].step)) o[k].turn = o[k - 1].turn + 1;
    return o;
}

static const char *types_of(Arena *a, const Plan *p, const PlanStep *t) {
    Str s = {0};
    for (int o = 0; o < t->n_out; o++) {
        if (o) str_add(&s, ", ");
        type_print(&s, &p->value[t->out[o]].type);
    }
    const char *text = arena_strndup(a, s.s ? s.s : "", s.n);
    str_free(&s);
    return text;
}

static bool same(const PlanDiff *d, const PlanStep *x, const PlanStep *y) {
    return !strcmp(x->kernel->name, y->kernel->name) &&
           attrs_equal(x->op, x->attrs, y->attrs) && x->flops == y->flops &&
           x->bytes == y->bytes &&
           !strcmp(types_of(d->a, d->x, x), types_of(d->a, d->y, y));
}

static void enter(PlanDiff *d, const PlanStep *x, const PlanStep *y) {
    if (x && y && same(d, x, y)) return;
    d->added += !x;
    d->removed += !y;
    d->changed += x && y;
    struct Pair p = {x, y};
    PUSH(d->a, d->pair, d->n, d->cap, p);
}

static void match(PlanDiff *d) {
    Origin *x = origins(d->a, d->x), *y = origins(d->a, d->y);
    uint32_t i = 0, j = 0;
    while (i < d->x->n_step || j < d->y->n_step) {
        int c = i == d->x->n_step ? 1 : j == d->y->n_step ? -1 : 0;
        if (!c) c = compare_origin(x[i].step, y[j].step);
        if (!c) c = x[i].turn < y[j].turn ? -1 : x[i].turn > y[j].turn;
        enter(d, c <= 0 ? x[i].step : NULL, c >= 0 ? y[j].step : NULL);
        i += c <= 0;
        j += c >= 0;
    }
}

/* ---- totals ---- */
typedef struct Total {
    const char *name, *key;
    uint64_t x, y;
    bool flops;
} Total;
enum { TOTALS = 7 };

static void totals(const PlanDiff *d, Total out[TOTALS]) {
    PlanTotals x = plan_totals(d->x), y = plan_totals(d->y);
    Total all[TOTALS] = {
        {"together", "total_bytes", x.total, y.total, false},
        {"weights", "weights_bytes", x.weights, y.weights, false},
        {"adapters, optimizer", "state_bytes", x.state, y.state, false},
        {"activations", "arena_bytes", x.arena, y.arena, false},
        {"saved for backward", "saved_bytes", x.saved, y.saved, false},
        {"moved", "moved_bytes", x.bytes, y.bytes, false},
        {"work", "flops", x.flops, y.flops, true},
    };
    memcpy(out, all, sizeof all);
}

static double seconds(const Plan *p) {
    Roofline r = roofline_here();
    double sum = 0;
    bool memory;
    for (uint32_t k = 0; k < p->n_step; k++)
        sum += plan_step_time(&r, &p->step[k], &memory);
    return sum;
}

/* ---- text ---- */
static void text_totals(const PlanDiff *d, Str *s) {
    Total t[TOTALS];
    totals(d, t);
    for (int i = 0; i < TOTALS; i++) {
        const char *(*text)(Arena *, double) = t[i].flops ? text_flops : text_bytes;
        double by = (double)t[i].y - (double)t[i].x;
        str_printf(s, "  %-20s %12s %12s", t[i].name, text(d->a, (double)t[i].x),
                   text(d->a, (double)t[i].y));
        if (by != 0)
            str_printf(s, "  %s%s (%+.1f %%)", by < 0 ? "-" : "+",
                       text(d->a, by < 0 ? -by : by),
                       t[i].x ? 100 * by / (double)t[i].x : 100);
        str_add(s, "\n");
    }
    double x = seconds(d->x), y = seconds(d->y);
    str_printf(s, "  %-20s %12s %12s  %+.1f %%\n", "estimate", text_seconds(d->a, x),
               text_seconds(d->a, y), x > 0 ? 100 * (y - x) / x : 0);
    str_printf(s, "  %-20s %12u %12u\n", "steps", d->x->n_step, d->y->n_step);
}

static void text_pair(const PlanDiff *d, Str *s, const PlanStep *x, const PlanStep *y) {
    const PlanStep *t = x ? x : y;
    str_printf(s, "  %c %-9s %-20s %s (%s)\n",
               !x   ? '+'
               : !y ? '-'
                    : '~',
               phase_name(t->at.phase), t->op->name, t->at.path ? t->at.path : "-",
               plan_place(d->a, t));
    if (!x || !y) {
        str_printf(s, "      %s, %s, %s\n", types_of(d->a, x ? d->x : d->y, t),
                   text_flops(d->a, (double)t->flops),
                   text_bytes(d->a, (double)t->bytes));
        return;
    }
    const char *tx = types_of(d->a, d->x, x), *ty = types_of(d->a, d->y, y);
    if (strcmp(tx, ty)) str_printf(s, "      makes %s -> %s\n", tx, ty);
    if (strcmp(x->kernel->name, y->kernel->name))
        str_printf(s, "      kernel %s -> %s\n", x->kernel->name, y->kernel->name);
    if (x->flops != y->flops || x->bytes != y->bytes)
        str_printf(
            s, "      work %s -> %s, moved %s -> %s\n",
            text_flops(d->a, (double)x->flops), text_flops(d->a, (double)y->flops),
            text_bytes(d->a, (double)x->bytes), text_bytes(d->a, (double)y->bytes));
}

static void text(const PlanDiff *d, Str *s, uint32_t most) {
    str_printf(s, "plan %s against plan %s\n", d->x->name, d->y->name);
    const char *parts =
        plan_key_diff(d->a, d->x->part, d->x->n_part, d->y->part, d->y->n_part);
    str_printf(s, "  made from the same but for: %s\n", *parts ? parts : "nothing");
    text_totals(d, s);
    str_printf(s, "nodes: %u added, %u removed, %u changed\n", d->added, d->removed,
               d->changed);
    for (uint32_t i = 0; i < d->n && i < most; i++)
        text_pair(d, s, d->pair[i].x, d->pair[i].y);
    if (d->n > most)
        str_printf(s, "  … and %u more: --verbose or --json\n", d->n - most);
}

/* ---- JSON ---- */
static void json_step(const PlanDiff *d, Str *s, const char *key, const Plan *p,
                      const PlanStep *t) {
    str_printf(s, ", \"%s\": ", key);
    if (!t) {
        str_add(s, "null");
        return;
    }
    str_printf(s, "{\"step\": %u, \"kernel\": ", (unsigned)(t - p->step));
    str_json(s, t->kernel->name);
    str_add(s, ", \"makes\": ");
    str_json(s, types_of(d->a, p, t));
    str_printf(s, ", \"flops\": %llu, \"bytes\": %llu}", (unsigned long long)t->flops,
               (unsigned long long)t->bytes);
}

static void json(const PlanDiff *d, Str *s) {
    Total t[TOTALS];
    totals(d, t);
    str_add(s, "{\"version\": 1, \"parts\": ");
    str_json(s,
             plan_key_diff(d->a, d->x->part, d->x->n_part, d->y->part, d->y->n_part));
    str_add(s, ", \"totals\": {");
    for (int i = 0; i < TOTALS; i++)
        str_printf(s, "%s\"%s\": [%llu, %llu]", i ? ", " : "", t[i].key,
                   (unsigned long long)t[i].x, (unsigned long long)t[i].y);
    str_printf(s, "},\n\"added\": %u, \"removed\": %u, \"changed\": %u, \"nodes\": [",
               d->added, d->removed, d->changed);
    for (uint32_t i = 0; i < d->n; i++) {
        const PlanStep *x = d->pair[i].x, *y = d->pair[i].y, *any = x ? x : y;
        str_printf(s, "%s{\"phase\": \"%s\", \"op\": ", i ? ",\n" : "\n",
                   phase_name(any->at.phase));
        str_json(s, any->op->name);
        str_add(s, ", \"path\": ");
        str_json(s, any->at.path ? any->at.path : "");
        json_step(d, s, "a", d->x, x);
        json_step(d, s, "b", d->y, y);
        str_add(s, "}");
    }
    str_add(s, "]}\n");
}

bool diff_plan(const Common *c, const DiffFiles *f, Err *e) {
    enum { MOST_LISTED = 40 };
    PlanDiff d = {.a = arena_new()};
    bool old;
    d.x = job_plan_read(d.a, f->a, &old, e);
    d.y = d.x ? job_plan_read(d.a, f->b, &old, e) : NULL;
    if (d.y) {
        Str s = {0};
        match(&d);
        if (c->json)
            json(&d, &s);
        else
            text(&d, &s, c->verbose ? UINT32_MAX : MOST_LISTED);
        fputs(s.s, stdout);
        str_free(&s);
    }
    bool ok = d.y != NULL;
    arena_free(d.a);
    return ok;
}
