/* A plan as text for people (inspect.h). The text is not stable; --json is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect/inspect_view.h"

const char *const inspect_parts[] = {INSPECT_PARTS, NULL};

const char *text_bytes(Arena *a, double x) {
    if (x < 10000) return arena_printf(a, "%.0f B", x);
    if (x < 1048576) return arena_printf(a, "%.1f KiB", x / 1024);
    if (x < 1073741824) return arena_printf(a, "%.1f MiB", x / 1048576);
    return arena_printf(a, "%.2f GiB", x / 1073741824);
}

const char *text_flops(Arena *a, double x) {
    if (x < 1e6) return arena_printf(a, "%.0f kFLOP", x / 1e3);
    if (x < 1e9) return arena_printf(a, "%.1f MFLOP", x / 1e6);
    if (x < 1e12) return arena_printf(a, "%.2f GFLOP", x / 1e9);
    return arena_printf(a, "%.2f TFLOP", x / 1e12);
}

const char *text_seconds(Arena *a, double x) {
    if (x < 1e-3) return arena_printf(a, "%.1f us", x * 1e6);
    return x < 1 ? arena_printf(a, "%.2f ms", x * 1e3) : arena_printf(a, "%.2f s", x);
}

void view_heading(View *v, const char *title) {
    str_printf(v->s, "%s%s\n", v->s->n ? "\n" : "", title);
}

static double step_seconds(const View *v, uint32_t k, bool *memory) {
    double model = plan_step_time(&v->roof, &v->p->step[k], memory);
    return v->times ? v->times->seconds[k] : model;
}

/* ---- totals ---- */
static double all_seconds(const View *v) {
    double sum = 0;
    bool memory;
    for (uint32_t k = 0; k < v->p->n_step; k++) sum += step_seconds(v, k, &memory);
    return sum;
}

static void line(View *v, const char *name, uint64_t bytes, const char *what) {
    str_printf(v->s, "  %-22s %12s  %s\n", name, text_bytes(v->a, (double)bytes), what);
}

static void totals(View *v) {
    PlanTotals t = plan_totals(v->p);
    view_heading(v, arena_printf(v->a, "plan %s", v->p->name));
    line(v, "weights", t.weights, "frozen, mapped from the checkpoint");
    line(v, "adapters and optimizer", t.state, "kept between steps");
    line(v, "activations", t.arena,
         arena_printf(v->a, "one arena; at least %s live at once (%.4f)",
                      text_bytes(v->a, (double)t.lower_bound),
                      t.lower_bound ? (double)t.arena / (double)t.lower_bound : 1));
    line(v, "  saved for backward", t.saved, "made by the forward pass, read after it");
    line(v, "workspace", t.work, "of one step at a time");
    line(v, "inputs and constants", t.other, "");
    line(v, "together", t.total, "");
    str_printf(v->s, "  %u nodes in %u steps: %s and %s moved; %s %s\n", t.nodes,
               t.steps, text_flops(v->a, (double)t.flops),
               text_bytes(v->a, (double)t.bytes), text_seconds(v->a, all_seconds(v)),
               v->times ? "measured" : "by the roofline of this machine");
}

static void passes(View *v) {
    view_heading(v, "what the passes did, and what they left alone");
    const char *at = v->p->report ? v->p->report : "";
    while (*at) {
        size_t n = strcspn(at, "\n");
        str_printf(v->s, "  %.*s\n", (int)n, at);
        at += n + (at[n] == '\n');
    }
}

/* ---- blocks ---- */
static void add_time(View *v, BlockSum *b, int n) {
    if (!v->times) return;
    for (int i = 0; i < n; i++) b[i].seconds = 0;
    for (uint32_t k = 0; k < v->p->n_step; k++)
        for (int i = 0; i < n; i++)
            if (b[i].block == v->p->step[k].at.block &&
                b[i].phase == v->p->step[k].at.phase)
                b[i].seconds += v->times->seconds[k];
}

static void blocks(View *v) {
    int n;
    BlockSum *b = plan_blocks(v->a, v->p, &v->roof, &n);
    add_time(v, b, n);
    view_heading(v, "work by block");
    str_printf(v->s, "  %-8s %-9s %6s %14s %12s %12s %10s\n", "block", "phase", "steps",
               "work", "moved", "saved", v->times ? "measured" : "estimate");
    for (int i = 0; i < n; i++)
        str_printf(
            v->s, "  %-8s %-9s %6u %14s %12s %12s %10s\n", plan_block(v->p, b[i].block),
            phase_name(b[i].phase), b[i].steps, text_flops(v->a, (double)b[i].flops),
            text_bytes(v->a, (double)b[i].bytes), text_bytes(v->a, (double)b[i].saved),
            text_seconds(v->a, b[i].seconds));
}

/* ---- memory over time ---- */
static void timeline(View *v) {
    enum { COLUMNS = 80, ROWS = 12 };
    const Plan *p = v->p;
    uint64_t *t = plan_timeline(v->a, p), column[COLUMNS] = {0}, most = 1;
    for (uint32_t k = 0; k < p->n_step; k++) {
        uint64_t *c = &column[(uint64_t)k * COLUMNS / p->n_step];
        if (t[k] > *c) *c = t[k];
        if (t[k] > most) most = t[k];
    }
    view_heading(v, "activations over the step");
    for (int row = ROWS; row > 0; row--) {
        str_printf(v->s, "  %10s |", text_bytes(v->a, (double)most * row / ROWS));
        for (int c = 0; c < COLUMNS; c++)
            str_add(v->s,
                    (double)column[c] * ROWS > (double)most * (row - 0.5) ? "#" : " ");
        str_add(v->s, "\n");
    }
    str_printf(
        v->s, "  %10s +%.80s\n  %10s  ", "",
        "----------------------------------------------------------------------------"
        "----",
        "");
    Phase last = PHASES;
    for (int c = 0; c < COLUMNS; c++) {
        Phase now = p->step[(uint64_t)c * p->n_step / COLUMNS].at.phase;
        str_printf(v->s, "%c", now == last ? ' ' : "FBUR"[now]);
        last = now;
    }
    str_add(v->s, "\n              F forward, B backward, U update, R recompute\n");
}

static void memory(View *v) {
    enum { MOST_LISTED = 10 };
    const Plan *p = v->p;
    if (!p->n_step) return;
    timeline(v);
    uint32_t peak = plan_peak_step(p, plan_timeline(v->a, p)), n;
    const PlanStep *t = &p->step[peak];
    uint32_t *alive = plan_alive(v->a, p, peak, &n);
    str_printf(v->s, "  most in step %u: %s of %s (%s, %s)\n", peak, t->op->name,
               t->at.path ? t->at.path : "-", phase_name(t->at.phase),
               plan_place(v->a, t));
    str_printf(v->s, "  the largest of %u values there, and why they are there:\n", n);
    for (uint32_t i = 0; i < n && i < MOST_LISTED; i++) {
        const PlanValue *x = &p->value[alive[i]];
        const PlanStep *w = &p->step[x->first];
        str_printf(v->s, "  %12s %-24s %s of %s\n  %12s %s\n",
                   text_bytes(v->a, (double)x->bytes), type_text(v->a, &x->type),
                   w->op->name, w->at.path ? w->at.path : "-", "",
                   plan_why_alive(v->a, p, alive[i], peak));
    }
}

/* ---- adapters ---- */
static void number(Str *s, double x) {
    if (isnan(x))
        str_printf(s, " %8s", "-");
    else
        str_printf(s, " %8.6g", x);
}

static void adapter_line(View *v, const PlanAdapter *m) {
    str_printf(v->s, "  %-6s %-5s", m->kind, plan_block(v->p, m->block));
    number(v->s, m->rank);
    number(v->s, m->alpha);
    number(v->s, m->scale);
    str_printf(v->s, " %12llu  %s\n", (unsigned long long)m->parameters, m->path);
}

static void adapters(View *v) {
    view_heading(v, "adapters");
    str_printf(v->s, "  %-6s %-5s %8s %8s %8s %12s  %s\n", "kind", "block", "rank",
               "alpha", "scale", "parameters", "on");
    for (uint32_t i = 0; i < v->p->n_adapter; i++) adapter_line(v, &v->p->adapter[i]);
}

/* ---- ops and nodes ---- */
typedef struct OpSum {
    const Op *op;
    const Kernel *kernel;
    uint32_t steps;
    uint64_t flops, bytes;
    double seconds;
} OpSum;

static int slowest_first(const void *a, const void *b) {
    const OpSum *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? 1 : -1;
    return strcmp(x->op->name, y->op->name);
}

static void op_table(View *v) {
    OpSum *sum = NULL;
    int n = 0, cap = 0;
    double all = all_seconds(v);
    for (uint32_t k = 0; k < v->p->n_step; k++) {
        const PlanStep *t = &v->p->step[k];
        int i = 0;
        while (i < n && (sum[i].op != t->op || sum[i].kernel != t->kernel)) i++;
        if (i == n) {
            OpSum fresh = {.op = t->op, .kernel = t->kernel};
            PUSH(v->a, sum, n, cap, fresh);
        }
        bool bound;
        sum[i].steps++;
        sum[i].flops += t->flops;
        sum[i].bytes += t->bytes;
        sum[i].seconds += step_seconds(v, k, &bound);
    }
    if (n) qsort(sum, (size_t)n, sizeof *sum, slowest_first);
    view_heading(v, "work by op and kernel");
    str_printf(v->s, "  %-32s %6s %14s %12s %10s %6s\n", "op/kernel", "steps", "work",
               "moved", v->times ? "measured" : "estimate", "");
    for (int i = 0; i < n; i++)
        str_printf(v->s, "  %-32s %6u %14s %12s %10s %5.1f%%\n",
                   arena_printf(v->a, "%s/%s", sum[i].op->name, sum[i].kernel->name),
                   sum[i].steps, text_flops(v->a, (double)sum[i].flops),
                   text_bytes(v->a, (double)sum[i].bytes),
                   text_seconds(v->a, sum[i].seconds),
                   all > 0 ? 100 * sum[i].seconds / all : 0);
}

static void node_table(View *v) {
    view_heading(v, "nodes");
    str_printf(v->s, "  %5s %-24s %-24s %14s %11s %9s %-7s %-8s %s\n", "step",
               "op/kernel", "makes", "work", "moved",
               v->times ? "measured" : "estimate", "bound by", "block", "where");
    for (uint32_t k = 0; k < v->p->n_step; k++) {
        const PlanStep *t = &v->p->step[k];
        bool bound;
        double seconds = step_seconds(v, k, &bound);
        str_printf(v->s, "  %5u %-24s %-24s %14s %11s %9s %-7s %-8s %s %s\n", k,
                   arena_printf(v->a, "%s/%s", t->op->name, t->kernel->name),
                   t->n_out ? type_text(v->a, &v->p->value[t->out[0]].type) : "-",
                   text_flops(v->a, (double)t->flops),
                   text_bytes(v->a, (double)t->bytes), text_seconds(v->a, seconds),
                   bound ? "memory" : "work", plan_block(v->p, t->at.block),
                   t->at.path ? t->at.path : "-", plan_place(v->a, t));
    }
}

/* The totals, and of each pass its first lines. */
static void summary(View *v) {
    enum { MOST_LINES = 5 };
    totals(v);
    view_heading(v, "what the passes did");
    const char *last = "";
    int n = 0;
    for (const char *at = v->p->report ? v->p->report : ""; *at;) {
        size_t len = strcspn(at, "\n"), name = strcspn(at, ":");
        bool same = !strncmp(last, at, name + 1);
        n = same ? n + 1 : 1;
        if (n <= MOST_LINES) str_printf(v->s, "  %.*s\n", (int)len, at);
        last = at;
        at += len + (at[len] == '\n');
    }
}

/* `alone`: only when it is asked for. */
void inspect_text(Str *s, Arena *a, const Plan *p, const char *part,
                  const StepTimes *times) {
    static const struct {
        const char *name;
        void (*print)(View *v);
        bool alone;
    } parts[] = {{"summary", summary, false},
                 {"totals", totals, true},
                 {"passes", passes, true},
                 {"blocks", blocks, false},
                 {"memory", memory, false},
                 {"adapters", adapters, false},
                 {"gradients", view_gradients, false},
                 {"fusion", view_fusion, false},
                 {"casts", view_casts, false},
                 {"recompute", view_recompute, false},
                 {"ops", op_table, false},
                 {"nodes", node_table, true}};
    View v = {s, a, p, times, roofline_here()};
    for (size_t i = 0; i < COUNT(parts); i++)
        if (part ? !strcmp(part, parts[i].name) : !parts[i].alone) parts[i].print(&v);
}
