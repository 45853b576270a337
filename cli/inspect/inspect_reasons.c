/* The parts of a plan's text that say what passes decided and why: fusion, casts,
 * recomputation, the gradient's frontier. */
#include <string.h>

#include "cli/inspect/inspect_view.h"
#include "cli/inspect/plan_why.h"

static void lines_of(View *v, const char *pass) {
    const char *at = NULL, *line;
    size_t n;
    while ((line = plan_report_line(v->p, pass, &at, &n)))
        str_printf(v->s, "  %.*s\n", (int)n, line);
}

/* ---- fusion ---- */
static void reasons(View *v, const FuseRefusal *r, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t same = 0;
        bool first = true;
        for (uint32_t j = 0; j < n; j++) {
            if (strcmp(r[i].reason, r[j].reason)) continue;
            first &= j >= i;
            same++;
        }
        if (first) str_printf(v->s, "    %-16s %5u\n", r[i].reason, same);
    }
}

void view_fusion(View *v) {
    const char *at = NULL, *line;
    size_t len;
    uint32_t n;
    FuseRefusal *r = plan_refusals(v->a, v->p, &n);
    view_heading(v, "fusion");
    while ((line = plan_report_line(v->p, "fuse", &at, &len)))
        if (!strstr(arena_strndup(v->a, line, len), " left out at "))
            str_printf(v->s, "  %.*s\n", (int)len, line);
    str_printf(v->s, "  near misses: %u\n", n);
    reasons(v, r, n);
    for (uint32_t i = 0; i < n; i++)
        str_printf(v->s, "  %s at %s (%s): %s, %s\n", r[i].pattern, r[i].path,
                   r[i].place, r[i].reason, r[i].more);
}

/* ---- casts ---- */
void view_casts(View *v) {
    int n;
    uint64_t bytes[DTYPES] = {0};
    TypesMet *met = plan_types_met(v->a, v->p, &n);
    view_heading(v, "casts");
    lines_of(v, "mixed-precision");
    for (uint32_t i = 0; i < v->p->n_value; i++)
        if (v->p->value[i].base == i && v->p->value[i].mem == MEM_ACT)
            bytes[v->p->value[i].type.dtype] += v->p->value[i].bytes;
    str_add(v->s, "  activations by type:");
    for (DType d = 0; d < DTYPES; d++)
        if (bytes[d])
            str_printf(v->s, " %s %s", dtype_name(d),
                       text_bytes(v->a, (double)bytes[d]));
    str_add(v->s, "\n");
    if (!n) return;
    str_printf(v->s, "  %-32s %-12s %-12s %6s %12s\n", "kernels between types", "reads",
               "makes", "steps", "moved");
    for (int i = 0; i < n; i++)
        str_printf(v->s, "  %-32s %-12s %-12s %6u %12s\n",
                   arena_printf(v->a, "%s/%s", met[i].op->name, met[i].kernel->name),
                   met[i].reads, met[i].makes, met[i].steps,
                   text_bytes(v->a, (double)met[i].bytes));
}

/* ---- recomputation ---- */
static void recomputed_line(View *v, const Recomputed *x) {
    const PlanStep *t = &v->p->step[x->step];
    str_printf(v->s, "  %5u %-24s %10s %12s ", x->step,
               arena_printf(v->a, "%s/%s", t->op->name, t->kernel->name),
               text_seconds(v->a, x->seconds),
               x->bytes ? text_bytes(v->a, (double)x->bytes) : "on the way");
    if (x->original == UINT32_MAX)
        str_printf(v->s, "%7s", "-");
    else
        str_printf(v->s, "%7u", x->original);
    str_printf(v->s, "  %s %s\n", t->at.path ? t->at.path : "-", plan_place(v->a, t));
}

void view_recompute(View *v) {
    uint32_t n;
    Recomputed *x = plan_recomputed(v->a, v->p, &v->roof, &n);
    uint64_t bytes = 0;
    double seconds = 0;
    view_heading(v, "recomputation");
    lines_of(v, "checkpoint");
    if (!n) {
        str_add(v->s, "  nothing is computed twice; --gradient_checkpointing and "
                      "--memory_budget ask for it\n");
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        bytes += x[i].bytes;
        seconds += x[i].seconds;
    }
    str_printf(
        v->s,
        "  %u steps run again, %s by the roofline; %s of values were not kept for "
        "it\n",
        n, text_seconds(v->a, seconds), text_bytes(v->a, (double)bytes));
    str_printf(v->s, "  %5s %-24s %10s %12s %7s  %s\n", "step", "op/kernel", "costs",
               "not kept", "first", "where");
    for (uint32_t i = 0; i < n; i++) recomputed_line(v, &x[i]);
}

/* ---- the gradient's frontier ---- */
void view_gradients(View *v) {
    const Plan *p = v->p;
    uint32_t n, with = 0, without = 0, listed = 0;
    const char **path = plan_backward_paths(v->a, p, &n);
    const uint32_t *from = plan_witnesses(v->a, p);
    view_heading(v, "the gradient's frontier");
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        if (t->at.phase != FORWARD || !t->at.path) continue;
        bool active = plan_has_path(path, n, t->at.path);
        without += !active;
        if (!active || with++ || !t->n_out) continue;
        str_printf(v->s,
                   "  the first node that a gradient reaches: step %u, %s of %s (%s)\n",
                   k, t->op->name, t->at.path, plan_place(v->a, t));
        uint32_t witness = from[p->value[t->out[0]].base];
        if (witness != UINT32_MAX)
            str_printf(v->s, "    because of @%s\n", p->value[witness].name);
    }
    str_printf(v->s, "  forward steps whose node has a gradient: %u; without one: %u\n",
               with, without);
    for (uint32_t k = 0; k < p->n_step && listed < 20; k++) {
        const PlanStep *t = &p->step[k];
        if (t->at.phase != FORWARD || !t->at.path || plan_has_path(path, n, t->at.path))
            continue;
        str_printf(v->s, "    %s of %s\n", t->op->name, t->at.path);
        listed++;
    }
    if (listed < without) str_printf(v->s, "    … and %u more\n", without - listed);
}
