/* Reasons that stand in a plan (plan_why.h). */
#include "cli/inspect/plan_why.h"

#include <stdlib.h>
#include <string.h>

/* ---- lines of the report ---- */
const char *plan_report_line(const Plan *p, const char *pass, const char **at,
                             size_t *n) {
    size_t name = strlen(pass);
    const char *line = *at ? *at : p->report ? p->report : "";
    while (*line) {
        size_t len = strcspn(line, "\n");
        const char *next = line + len + (line[len] == '\n');
        if (len > name + 2 && !strncmp(line, pass, name) && line[name] == ':') {
            *at = next;
            *n = len - name - 2;
            return line + name + 2;
        }
        line = next;
    }
    *at = line;
    return NULL;
}

/* Cuts "… BEFORE text AFTER …" out of a line; *line goes behind AFTER. */
static const char *cut(Arena *a, const char **line, const char *before,
                       const char *after) {
    const char *from = strstr(*line, before);
    if (!from) return NULL;
    from += strlen(before);
    const char *to = *after ? strstr(from, after) : from + strlen(from);
    if (!to) return NULL;
    *line = to + strlen(after);
    return arena_strndup(a, from, (size_t)(to - from));
}

FuseRefusal *plan_refusals(Arena *a, const Plan *p, uint32_t *n) {
    FuseRefusal *all = NULL;
    uint32_t cap = 0;
    const char *at = NULL, *line;
    size_t len;
    *n = 0;
    while ((line = plan_report_line(p, "fuse", &at, &len))) {
        const char *rest = arena_strndup(a, line, len);
        FuseRefusal r = {.pattern = cut(a, &rest, "", " left out at '")};
        if (!r.pattern) continue;
        r.path = cut(a, &rest, "", "'");
        r.place = *rest == ' ' ? cut(a, &rest, "(", ")") : "";
        r.reason = cut(a, &rest, ": ", ", ");
        r.more = rest;
        if (r.path && r.place && r.reason) PUSH(a, all, *n, cap, r);
    }
    return all;
}

/* ---- activity ---- */
uint32_t *plan_witnesses(Arena *a, const Plan *p) {
    uint32_t *from = NEW(a, uint32_t, (size_t)p->n_value + 1);
    for (uint32_t i = 0; i < p->n_value; i++)
        from[i] = p->value[i].role == ROLE_TRAIN ? i : UINT32_MAX;
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        uint32_t found = UINT32_MAX;
        for (int i = 0; i < t->n_in && found == UINT32_MAX; i++)
            if (t->in[i] != UINT32_MAX) found = from[p->value[t->in[i]].base];
        for (int o = 0; o < t->n_out; o++) {
            uint32_t *of = &from[p->value[t->out[o]].base];
            if (*of == UINT32_MAX) *of = found;
        }
    }
    return from;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **plan_backward_paths(Arena *a, const Plan *p, uint32_t *n) {
    const char **path = NEW(a, const char *, (size_t)p->n_step + 1);
    *n = 0;
    for (uint32_t k = 0; k < p->n_step; k++)
        if (p->step[k].at.phase == BACKWARD && p->step[k].at.path)
            path[(*n)++] = p->step[k].at.path;
    qsort(path, *n, sizeof *path, by_text);
    return path;
}

bool plan_has_path(const char **sorted, uint32_t n, const char *path) {
    return path && bsearch(&path, sorted, n, sizeof *sorted, by_text) != NULL;
}

/* ---- recomputation ---- */
static bool same_step(const Plan *p, const PlanStep *x, const PlanStep *y) {
    if (x->op != y->op || x->n_out != y->n_out || !x->at.path || !y->at.path ||
        strcmp(x->at.path, y->at.path))
        return false;
    for (int o = 0; o < x->n_out; o++)
        if (!type_equal(&p->value[x->out[o]].type, &p->value[y->out[o]].type))
            return false;
    return true;
}

/* Values that a step outside of recomputation reads. */
static bool *read_by_others(Arena *a, const Plan *p) {
    bool *read = NEW(a, bool, (size_t)p->n_value + 1);
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        for (int i = 0; i < t->n_in && t->at.phase != RECOMPUTE; i++)
            if (t->in[i] != UINT32_MAX) read[p->value[t->in[i]].base] = true;
    }
    return read;
}

Recomputed *plan_recomputed(Arena *a, const Plan *p, const Roofline *r, uint32_t *n) {
    Recomputed *all = NULL;
    uint32_t cap = 0, backward = plan_backward(p);
    const bool *read = read_by_others(a, p);
    bool *taken = NEW(a, bool, (size_t)p->n_step + 1);
    *n = 0;
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        if (t->at.phase != RECOMPUTE) continue;
        Recomputed x = {.step = k, .original = UINT32_MAX};
        bool memory;
        x.seconds = plan_step_time(r, t, &memory);
        for (uint32_t f = 0; f < backward && x.original == UINT32_MAX; f++)
            if (!taken[f] && p->step[f].at.phase == FORWARD &&
                same_step(p, t, &p->step[f]))
                x.original = f;
        if (x.original != UINT32_MAX) taken[x.original] = true;
        for (int o = 0; o < t->n_out; o++) {
            const PlanValue *v = &p->value[p->value[t->out[o]].base];
            if (read[v->base]) x.bytes += v->bytes;
        }
        PUSH(a, all, *n, cap, x);
    }
    return all;
}

/* ---- types ---- */
static void add_type(Str *s, const Type *t) {
    const char *name = dtype_name(t->dtype);
    if (!dtype_is_float(t->dtype) || (s->s && strstr(s->s, name))) return;
    str_printf(s, "%s%s", s->n ? " " : "", name);
}

TypesMet *plan_types_met(Arena *a, const Plan *p, int *n) {
    TypesMet *all = NULL;
    int cap = 0;
    *n = 0;
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        Str in = {0}, out = {0}, both = {0};
        for (int i = 0; i < t->n_in; i++) {
            if (t->in[i] == UINT32_MAX) continue;
            add_type(&in, &p->value[t->in[i]].type);
            add_type(&both, &p->value[t->in[i]].type);
        }
        for (int o = 0; o < t->n_out; o++) {
            add_type(&out, &p->value[t->out[o]].type);
            add_type(&both, &p->value[t->out[o]].type);
        }
        int i = 0;
        bool mixed = both.s && strchr(both.s, ' ') && in.s && out.s;
        while (mixed && i < *n &&
               (all[i].op != t->op || all[i].kernel != t->kernel ||
                strcmp(all[i].reads, in.s) || strcmp(all[i].makes, out.s)))
            i++;
        if (mixed && i == *n) {
            TypesMet x = {
                t->op, t->kernel, arena_strdup(a, in.s), arena_strdup(a, out.s), 0, 0};
            PUSH(a, all, *n, cap, x);
        }
        if (mixed) {
            all[i].steps++;
            all[i].bytes += t->bytes;
        }
        str_free(&in);
        str_free(&out);
        str_free(&both);
    }
    return all;
}
