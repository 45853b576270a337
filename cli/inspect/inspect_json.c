/* A plan as JSON, version 1 of its schema: keys may be added, never changed. And as a
 * drawing for Graphviz. */
#include <math.h>
#include <string.h>

#include "cli/inspect/inspect_view.h"

enum { JSON_VERSION = 1 };

void inspect_json_text(Str *s, const char *key, const char *value) {
    str_printf(s, "\"%s\": ", key);
    if (value)
        str_json(s, value);
    else
        str_add(s, "null");
}

static void big(Str *s, const char *key, uint64_t x) {
    str_printf(s, "\"%s\": %llu", key, (unsigned long long)x);
}

void inspect_json_totals(Str *s, const Plan *p, const char *more) {
    PlanTotals t = plan_totals(p);
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {{"activation_peak_bytes", t.activation_peak},
                {"saved_bytes", t.saved},
                {"arena_bytes", t.arena},
                {"lower_bound_bytes", t.lower_bound},
                {"weights_bytes", t.weights},
                {"state_bytes", t.state},
                {"workspace_bytes", t.work},
                {"other_bytes", t.other},
                {"total_bytes", t.total},
                {"flops", t.flops},
                {"moved_bytes", t.bytes},
                {"nodes", t.nodes},
                {"steps", t.steps}};
    str_add(s, "\"totals\": {");
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (i) str_add(s, ", ");
        big(s, rows[i].key, rows[i].value);
    }
    str_printf(s, "%s}", more);
}

static void operand_list(Str *s, Arena *a, const Plan *p, const char *key,
                         const uint32_t *v, int n) {
    str_printf(s, ", \"%s\": [", key);
    for (int i = 0; i < n; i++) {
        if (i) str_add(s, ", ");
        if (v[i] == UINT32_MAX) {
            str_add(s, "null");
            continue;
        }
        str_printf(s, "{\"value\": %u, ", p->value[v[i]].base);
        inspect_json_text(s, "at", plan_value_text(a, p, v[i]));
        str_add(s, ", ");
        inspect_json_text(s, "type", type_text(a, &p->value[v[i]].type));
        str_add(s, "}");
    }
    str_add(s, "]");
}

static void node(Str *s, Arena *a, const Plan *p, uint32_t k, const Roofline *r,
                 const StepTimes *times) {
    const PlanStep *t = &p->step[k];
    bool memory;
    double seconds = plan_step_time(r, t, &memory);
    str_printf(s, "{\"step\": %u, ", k);
    inspect_json_text(s, "op", t->op->name);
    str_add(s, ", ");
    inspect_json_text(s, "kernel", t->kernel->name);
    str_add(s, ", ");
    inspect_json_text(s, "path", t->at.path);
    str_add(s, ", ");
    inspect_json_text(s, "place", t->at.loc.src ? plan_place(a, t) : NULL);
    str_printf(s, ", \"block\": %d, \"phase\": \"%s\"", t->at.block,
               phase_name(t->at.phase));
    operand_list(s, a, p, "in", t->in, t->n_in);
    operand_list(s, a, p, "out", t->out, t->n_out);
    str_add(s, ", ");
    big(s, "flops", t->flops);
    str_add(s, ", ");
    big(s, "bytes", t->bytes);
    str_add(s, ", ");
    big(s, "workspace_bytes", t->work_bytes);
    str_printf(s, ", \"bound\": \"%s\", \"estimate_us\": ", memory ? "memory" : "work");
    str_json_number(s, seconds * 1e6);
    if (times) {
        str_add(s, ", \"measured_us\": ");
        str_json_number(s, times->seconds[k] * 1e6);
    }
    str_add(s, "}");
}

static void block_list(Str *s, Arena *a, const Plan *p, const Roofline *r) {
    int n;
    BlockSum *b = plan_blocks(a, p, r, &n);
    str_add(s, ",\n\"blocks\": [");
    for (int i = 0; i < n; i++) {
        str_printf(s, "%s{\"block\": %d, ", i ? ",\n" : "", b[i].block);
        inspect_json_text(s, "name", b[i].block < 0 ? NULL : plan_block(p, b[i].block));
        str_printf(s, ", \"phase\": \"%s\", \"steps\": %u, ", phase_name(b[i].phase),
                   b[i].steps);
        big(s, "flops", b[i].flops);
        str_add(s, ", ");
        big(s, "bytes", b[i].bytes);
        str_add(s, ", ");
        big(s, "saved_bytes", b[i].saved);
        str_add(s, ", \"estimate_us\": ");
        str_json_number(s, b[i].seconds * 1e6);
        str_add(s, "}");
    }
    str_add(s, "]");
}

static void adapter_list(Str *s, const Plan *p) {
    str_add(s, ",\n\"adapters\": [");
    for (uint32_t i = 0; i < p->n_adapter; i++) {
        const PlanAdapter *m = &p->adapter[i];
        str_add(s, i ? ",\n{" : "{");
        inspect_json_text(s, "name", m->name);
        str_add(s, ", ");
        inspect_json_text(s, "adapter", m->kind);
        str_add(s, ", ");
        inspect_json_text(s, "path", m->path);
        str_printf(s, ", \"block\": %d, \"rank\": ", m->block);
        str_json_number(s, m->rank);
        str_add(s, ", \"alpha\": ");
        str_json_number(s, m->alpha);
        str_add(s, ", \"scale\": ");
        str_json_number(s, m->scale);
        str_add(s, ", ");
        big(s, "parameters", m->parameters);
        str_add(s, "}");
    }
    str_add(s, "]");
}

static void memory_part(Str *s, Arena *a, const Plan *p) {
    uint64_t *t = plan_timeline(a, p);
    uint32_t peak = p->n_step ? plan_peak_step(p, t) : 0, n;
    str_printf(s, ",\n\"memory\": {\"peak_step\": %u, \"live_bytes\": [", peak);
    for (uint32_t k = 0; k < p->n_step; k++)
        str_printf(s, "%s%llu", k ? "," : "", (unsigned long long)t[k]);
    str_add(s, "],\n\"at_peak\": [");
    uint32_t *alive = plan_alive(a, p, peak, &n);
    for (uint32_t i = 0; i < n; i++) {
        const PlanValue *v = &p->value[alive[i]];
        str_printf(s, "%s{\"value\": %u, ", i ? ",\n" : "", alive[i]);
        inspect_json_text(s, "type", type_text(a, &v->type));
        str_add(s, ", ");
        big(s, "bytes", v->bytes);
        str_add(s, ", ");
        big(s, "offset", v->offset);
        str_printf(s, ", \"first\": %u, \"last\": %u, ", v->first, v->last);
        inspect_json_text(s, "why", plan_why_alive(a, p, alive[i], peak));
        str_add(s, "}");
    }
    str_add(s, "]}");
}

static void report_list(Str *s, Arena *a, const Plan *p) {
    str_add(s, ",\n\"passes\": [");
    const char *at = p->report ? p->report : "";
    for (bool first = true; *at; first = false) {
        size_t n = strcspn(at, "\n");
        str_add(s, first ? "" : ", ");
        str_json(s, arena_strndup(a, at, n));
        at += n + (at[n] == '\n');
    }
    str_add(s, "]");
}

void inspect_json(Str *s, Arena *a, const Plan *p, const char *more,
                  const StepTimes *times) {
    Roofline r = roofline_here();
    str_printf(s, "{\"version\": %d, ", JSON_VERSION);
    inspect_json_text(s, "name", p->name);
    str_add(s, ",\n");
    inspect_json_totals(s, p, more);
    report_list(s, a, p);
    block_list(s, a, p, &r);
    memory_part(s, a, p);
    adapter_list(s, p);
    inspect_json_reasons(s, a, p, &r);
    str_add(s, ",\n\"nodes\": [");
    for (uint32_t k = 0; k < p->n_step; k++) {
        str_add(s, k ? ",\n" : "\n");
        node(s, a, p, k, &r, times);
    }
    str_add(s, "]}\n");
}

/* ---- Graphviz ---- */
static void dot_node(Str *s, Arena *a, const Plan *p, uint32_t k) {
    static const char *const color[PHASES] = {"#dbe9f6", "#fbe3d0", "#e2f0d9",
                                              "#eee0f2"};
    const PlanStep *t = &p->step[k];
    str_printf(s, "  s%u [fillcolor=\"%s\", label=", k, color[t->at.phase]);
    str_json(s, arena_printf(a, "%u %s\n%s\n%s", k, t->op->name,
                             t->at.path ? t->at.path : "",
                             t->n_out ? type_text(a, &p->value[t->out[0]].type) : ""));
    str_add(s, "];\n");
}

void inspect_dot(Str *s, Arena *a, const Plan *p) {
    uint32_t *writer = NEW(a, uint32_t, (size_t)p->n_value + 1);
    memset(writer, 0xff, p->n_value * sizeof *writer);
    str_add(s, "digraph ");
    str_json(s, p->name);
    str_add(s, " {\n  node [shape=box, style=filled, fontname=\"sans-serif\", "
               "fontsize=10];\n");
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        dot_node(s, a, p, k);
        for (int i = 0; i < t->n_in; i++) {
            if (t->in[i] == UINT32_MAX) continue;
            uint32_t from = writer[p->value[t->in[i]].base];
            if (from != UINT32_MAX) str_printf(s, "  s%u -> s%u;\n", from, k);
        }
        for (int o = 0; o < t->n_out; o++) writer[p->value[t->out[o]].base] = k;
    }
    str_add(s, "}\n");
}
