/* The parts of a plan's JSON that say what passes decided and why; the counterpart of
 * cli/inspect/inspect_reasons.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/inspect/inspect_view.h"
#include "cli/inspect/plan_why.h"

static void fusion(Str *s, Arena *a, const Plan *p) {
    uint32_t n;
    FuseRefusal *r = plan_refusals(a, p, &n);
    const char *at = NULL, *line;
    size_t len;
    bool first = true;
    str_add(s, ",\n\"fusion\": {\"groups\": [");
    while ((line = plan_report_line(p, "fuse", &at, &len))) {
        char name[32];
        unsigned times;
        int end = 0;
        const char *copy = arena_strndup(a, line, len);
        if (sscanf(copy, "%31s %u times: %n", name, &times, &end) < 2 || !end) continue;
        str_add(s, first ? "{" : ", {");
        inspect_json_text(s, "pattern", name);
        str_printf(s, ", \"times\": %u, ", times);
        inspect_json_text(s, "what", copy + end);
        str_add(s, "}");
        first = false;
    }
    str_add(s, "], \"refused\": [");
    for (uint32_t i = 0; i < n; i++) {
        str_add(s, i ? ",\n{" : "{");
        inspect_json_text(s, "pattern", r[i].pattern);
        str_add(s, ", ");
        inspect_json_text(s, "path", r[i].path);
        str_add(s, ", ");
        inspect_json_text(s, "place", r[i].place);
        str_add(s, ", ");
        inspect_json_text(s, "reason", r[i].reason);
        str_add(s, ", ");
        inspect_json_text(s, "what", r[i].more);
        str_add(s, "}");
    }
    str_add(s, "]}");
}

static void casts(Str *s, Arena *a, const Plan *p) {
    int n;
    TypesMet *met = plan_types_met(a, p, &n);
    str_add(s, ",\n\"casts\": {\"between_types\": [");
    for (int i = 0; i < n; i++) {
        str_add(s, i ? ", {" : "{");
        inspect_json_text(s, "op", met[i].op->name);
        str_add(s, ", ");
        inspect_json_text(s, "kernel", met[i].kernel->name);
        str_add(s, ", ");
        inspect_json_text(s, "reads", met[i].reads);
        str_add(s, ", ");
        inspect_json_text(s, "makes", met[i].makes);
        str_printf(s, ", \"steps\": %u, \"bytes\": %llu}", met[i].steps,
                   (unsigned long long)met[i].bytes);
    }
    str_add(s, "]}");
}

static void recompute(Str *s, Arena *a, const Plan *p, const Roofline *r) {
    uint32_t n;
    Recomputed *x = plan_recomputed(a, p, r, &n);
    str_add(s, ",\n\"recompute\": [");
    for (uint32_t i = 0; i < n; i++) {
        str_printf(s, "%s{\"step\": %u, \"original\": ", i ? ",\n" : "", x[i].step);
        if (x[i].original == UINT32_MAX)
            str_add(s, "null, ");
        else
            str_printf(s, "%u, ", x[i].original);
        inspect_json_text(s, "path", p->step[x[i].step].at.path);
        str_printf(
            s, ", \"bytes\": %llu, \"estimate_us\": ", (unsigned long long)x[i].bytes);
        str_double(s, x[i].seconds * 1e6);
        str_add(s, "}");
    }
    str_add(s, "]");
}

/* The first step whose node has a gradient, and the trainable that is the reason. */
static void gradients(Str *s, Arena *a, const Plan *p) {
    uint32_t n, with = 0, without = 0, first = UINT32_MAX;
    const char **path = plan_backward_paths(a, p, &n);
    const uint32_t *from = plan_witnesses(a, p);
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        if (t->at.phase != FORWARD || !t->at.path) continue;
        bool has = plan_has_path(path, n, t->at.path);
        if (has && !with++) first = k;
        without += !has;
    }
    str_printf(s,
               ",\n\"gradients\": {\"steps_with\": %u, \"steps_without\": %u, "
               "\"first_step\": ",
               with, without);
    const PlanStep *t = first == UINT32_MAX ? NULL : &p->step[first];
    uint32_t why = t && t->n_out ? from[p->value[t->out[0]].base] : UINT32_MAX;
    if (t)
        str_printf(s, "%u, ", first);
    else
        str_add(s, "null, ");
    inspect_json_text(s, "path", t ? t->at.path : NULL);
    str_add(s, ", ");
    inspect_json_text(s, "because_of", why == UINT32_MAX ? NULL : p->value[why].name);
    str_add(s, "}");
}

void inspect_json_reasons(Str *s, Arena *a, const Plan *p, const Roofline *r) {
    fusion(s, a, p);
    casts(s, a, p);
    recompute(s, a, p, r);
    gradients(s, a, p);
}
