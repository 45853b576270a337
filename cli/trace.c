/* Chrome traces of plans (trace.h). The numbers that inspect wants stand in one more key
 * of the file, which other readers ignore. */
#include "cli/trace.h"

#include <string.h>
#include <time.h>

#include "io/json.h"
#include "io/tensors.h"

typedef struct PlanTimes {
    const Plan *plan;
    int runs;
    uint64_t *sum;  /* ns over runs 2 … */
    uint64_t *last; /* of the last run */
} PlanTimes;

struct Trace {
    Arena *arena;
    PlanTimes *plan;
    int n, cap;
};

Trace *trace_new(Arena *a) {
    Trace *t = NEW(a, Trace, 1);
    t->arena = a;
    return t;
}

void trace_add(Trace *t, const Exec *x) {
    const Plan *p = exec_plan(x);
    const uint64_t *ns = exec_times(x);
    int i = 0;
    if (!ns) return;
    while (i < t->n && t->plan[i].plan != p) i++;
    if (i == t->n) {
        PlanTimes fresh = {p, 0, NEW(t->arena, uint64_t, (size_t)p->n_step + 1),
                           NEW(t->arena, uint64_t, (size_t)p->n_step + 1)};
        PUSH(t->arena, t->plan, t->n, t->cap, fresh);
    }
    PlanTimes *y = &t->plan[i];
    for (uint32_t k = 0; k < p->n_step; k++)
        if (y->runs) y->sum[k] += ns[k];
    memcpy(y->last, ns, p->n_step * sizeof *ns);
    y->runs++;
}

static const PlanTimes *most_run(const Trace *t) {
    const PlanTimes *best = NULL;
    for (int i = 0; i < t->n; i++)
        if (!best || t->plan[i].runs > best->runs) best = &t->plan[i];
    return best;
}

static void key_text(const Plan *p, char hex[33]) {
    for (int i = 0; i < 16; i++) {
        hex[2 * i] = "0123456789abcdef"[p->key[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[p->key[i] & 15];
    }
    hex[32] = 0;
}

static void event(Str *s, const Plan *p, uint32_t k, uint64_t from, uint64_t ns) {
    const PlanStep *t = &p->step[k];
    const char *block = p->blocks && t->at.block >= 0 ? p->blocks[t->at.block] : "";
    str_add(s, k ? ",\n{\"name\": " : "\n{\"name\": ");
    str_json(s, t->op->name);
    str_printf(
        s,
        ", \"cat\": \"%s\", \"ph\": \"X\", \"pid\": 1, \"tid\": 1, \"ts\": %.3f, "
        "\"dur\": %.3f, \"args\": {\"step\": %u, \"kernel\": ",
        phase_name(t->at.phase), (double)from / 1e3, (double)ns / 1e3, k);
    str_json(s, t->kernel->name);
    str_add(s, ", \"path\": ");
    str_json(s, t->at.path ? t->at.path : "");
    str_add(s, ", \"block\": ");
    str_json(s, block);
    if (t->at.loc.src) {
        Arena *a = arena_new();
        str_add(s, ", \"place\": ");
        str_json(s, arena_printf(a, "%s:%u", t->at.loc.src->path, t->at.loc.line));
        arena_free(a);
    }
    str_printf(s, ", \"flops\": %llu, \"bytes\": %llu}}", (unsigned long long)t->flops,
               (unsigned long long)t->bytes);
}

bool trace_write(const Trace *t, const char *path, Err *e) {
    const PlanTimes *x = most_run(t);
    Str s = {0};
    char key[33];
    uint64_t at = 0;
    if (!x) return err_fail(e, "no step was run: there is no trace to write");
    str_add(&s, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [");
    for (uint32_t k = 0; k < x->plan->n_step; k++) {
        event(&s, x->plan, k, at, x->last[k]);
        at += x->last[k];
    }
    key_text(x->plan, key);
    str_printf(&s, "],\n\"graphrun\": {\"key\": \"%s\", \"runs\": %d, \"mean_ns\": [",
               key, x->runs);
    for (uint32_t k = 0; k < x->plan->n_step; k++) {
        uint64_t mean = x->runs > 1 ? x->sum[k] / (uint64_t)(x->runs - 1) : x->last[k];
        str_printf(&s, "%s%llu", k ? "," : "", (unsigned long long)mean);
    }
    str_add(&s, "]}}\n");
    bool ok = file_write(path, s.s, s.n, e);
    str_free(&s);
    return ok;
}

const double *trace_read(Arena *a, const char *path, const Plan *p, int *runs, Err *e) {
    const Source *src;
    json_t *root = json_read(a, path, &src, e);
    if (!root) return NULL;
    json_t *own = json_object_get(root, "graphrun"),
           *mean = json_object_get(own, "mean_ns");
    const char *key = json_string_value(json_object_get(own, "key"));
    char want[33];
    key_text(p, want);
    double *out = NULL;
    if (!json_is_array(mean) || !key)
        err_usage(e, "'%s' is no trace of `graphrun train --profile`", path);
    else if (strcmp(key, want) || json_array_size(mean) != p->n_step)
        err_usage(e, "'%s' was measured with another plan", path);
    else
        out = NEW(a, double, (size_t)p->n_step + 1);
    for (uint32_t k = 0; out && k < p->n_step; k++)
        out[k] = json_number_value(json_array_get(mean, k)) / 1e9;
    *runs = (int)json_integer_value(json_object_get(own, "runs"));
    json_decref(root);
    return out;
}
