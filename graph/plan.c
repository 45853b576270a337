/* The Plan's text form, and its checker, which trusts nothing that lower worked out. */
#define _GNU_SOURCE /* qsort_r */
#include "graph/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/text.h"

const char *mem_name(Mem m) {
    static const char *const names[] = {"act", "state", "input", "const", "weight", "work"};
    return m < MEMS ? names[m] : "?";
}

/* ---- text ---- */

static void print_operand(Str *s, const Plan *p, uint32_t v) {
    if (v == UINT32_MAX) {
        str_add(s, "_");
        return;
    }
    const PlanValue *x = &p->value[v];
    if (x->mem == MEM_WEIGHT) str_printf(s, "@%s", p->value[x->base].name);
    else if (x->name) str_printf(s, "@%s+%llu", x->name, (unsigned long long)x->offset);
    else str_printf(s, "%s+%llu", mem_name(x->mem), (unsigned long long)x->offset);
}

static void print_step(Str *s, const Plan *p, uint32_t k) {
    const PlanStep *t = &p->step[k];
    str_printf(s, "  %u %s/%s", k, t->op->name, t->kernel->name);
    for (int i = 0; i < t->n_in; i++) {
        str_add(s, i ? ", " : " ");
        print_operand(s, p, t->in[i]);
    }
    str_add(s, " ->");
    for (int i = 0; i < t->n_out; i++) {
        str_add(s, i ? ", " : " ");
        print_operand(s, p, t->out[i]);
        str_add(s, " ");
        type_print(s, &p->value[t->out[i]].type);
    }
    str_printf(s, " {flops=%llu, bytes=%llu", (unsigned long long)t->flops,
               (unsigned long long)t->bytes);
    if (t->work_bytes) str_printf(s, ", work=%llu", (unsigned long long)t->work_bytes);
    str_add(s, "}");
    place_print(s, &t->at, p->blocks);
    str_add(s, "\n");
}

void plan_print(Str *s, const Plan *p) {
    str_printf(s, "plan %s {\n  memory", p->name);
    for (Mem m = 0; m < MEMS; m++)
        str_printf(s, " %s=%llu", mem_name(m), (unsigned long long)p->size[m]);
    str_printf(s, " act_lower_bound=%llu\n", (unsigned long long)p->act_lower_bound);
    for (uint32_t k = 0; k < p->n_step; k++) print_step(s, p, k);
    for (uint32_t i = 0; i < p->n_output; i++) {
        str_printf(s, "  output %s = ", p->output[i].name);
        print_operand(s, p, p->output[i].value);
        str_add(s, "\n");
    }
    str_add(s, "}\n");
    if (p->init) plan_print(s, p->init);
}

/* ---- check ---- */

typedef struct Check {
    const Plan *p;
    Arena *a;
    Err *e;
    uint32_t *writer, *first, *last; /* per value, those of activations by base */
} Check;

#define NO_STEP UINT32_MAX

static bool fail(Check *c, const char *fmt, ...) PRINTF(2, 3);
static bool fail(Check *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char text[512];
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(c->e, "plan '%s': %s", c->p->name, text);
}

static bool check_value(Check *c, uint32_t i) {
    const Plan *p = c->p;
    const PlanValue *v = &p->value[i];
    if (v->mem >= MEMS || v->role >= ROLES || v->base >= p->n_value)
        return fail(c, "value %u is in no memory", i);
    if (v->bytes != type_bytes(&v->type)) return fail(c, "value %u has a wrong size", i);
    const PlanValue *b = &p->value[v->base];
    if (b->base != v->base || b->mem != v->mem || b->offset != v->offset || b->bytes != v->bytes)
        return fail(c, "value %u is not where value %u is", i, v->base);
    if (v->base == i && v->role != ROLE_ACT && !v->name)
        return fail(c, "value %u has no name", i);
    if (v->mem == MEM_WEIGHT) return true;
    uint64_t end;
    if (!add_u64(v->offset, v->bytes, &end) || end > p->size[v->mem])
        return fail(c, "value %u ends at %s+%llu, behind its memory of %llu bytes", i,
                    mem_name(v->mem), (unsigned long long)end,
                    (unsigned long long)p->size[v->mem]);
    return v->offset % 64 == 0 || fail(c, "value %u is not aligned", i);
}

static bool known_kernel(const PlanStep *t) {
    for (const Kernel *k = t->op->cpu; k && k->name; k++)
        if (k == t->kernel) return true;
    for (const Kernel *k = t->op->cuda; k && k->name; k++)
        if (k == t->kernel) return true;
    return false;
}

static bool overwrites(const PlanStep *t, int out, const uint32_t *in_base, uint32_t base) {
    for (const struct OpAlias *al = t->op->alias; al && al->out >= 0; al++)
        if (al->out == out && al->in < t->n_in && in_base[al->in] == base) return true;
    return false;
}

/* Reads of values written before, writes of values not written yet; fills the lifetimes. */
static bool check_step(Check *c, uint32_t k) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[k];
    if (!known_kernel(t)) return fail(c, "step %u has no kernel of its op", k);
    if (t->work_bytes > p->size[MEM_WORK]) return fail(c, "step %u: workspace too small", k);
    uint32_t *base = NEW(c->a, uint32_t, t->n_in + 1);
    for (int i = 0; i < t->n_in; i++) {
        base[i] = NO_STEP;
        if (t->in[i] == UINT32_MAX) continue;
        if (t->in[i] >= p->n_value) return fail(c, "step %u reads a value that is not there", k);
        base[i] = p->value[t->in[i]].base;
        if (p->value[base[i]].role == ROLE_ACT && c->writer[base[i]] == NO_STEP)
            return fail(c, "step %u (%s) reads value %u, which nothing wrote", k, t->op->name,
                        t->in[i]);
        if (p->value[base[i]].role != ROLE_ACT && c->writer[base[i]] != NO_STEP)
            return fail(c, "step %u (%s) reads '%s', which step %u overwrote", k, t->op->name,
                        p->value[base[i]].name, c->writer[base[i]]);
        c->last[base[i]] = k;
    }
    for (int o = 0; o < t->n_out; o++) {
        if (t->out[o] >= p->n_value) return fail(c, "step %u writes a value that is not there", k);
        uint32_t b = p->value[t->out[o]].base;
        if (p->value[b].role != ROLE_ACT) {
            if (p->value[b].mem != MEM_STATE || !overwrites(t, o, base, b))
                return fail(c, "step %u (%s) writes '%s'", k, t->op->name, p->value[b].name);
            c->writer[b] = k;
            continue;
        }
        if (c->writer[b] != NO_STEP) return fail(c, "step %u writes value %u again", k, b);
        c->writer[b] = c->first[b] = c->last[b] = k;
    }
    return true;
}

static bool meet(const PlanValue *a, const PlanValue *b) {
    return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* b, written at the step where a is read last, stands exactly on a: allowed by the row? */
static bool in_place(const Check *c, uint32_t a, uint32_t b) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[c->first[b]];
    const PlanValue *x = &p->value[a], *y = &p->value[b];
    if (c->last[a] != c->first[b] || x->offset != y->offset || x->bytes != y->bytes) return false;
    if (t->n_out < 1 || p->value[t->out[0]].base != b) return false;
    for (int i = 0; i < t->n_in && i < 64; i++)
        if (t->in[i] != UINT32_MAX && p->value[t->in[i]].base == a)
            return t->op->inplace >> i & 1;
    return false;
}

static int by_first(const void *a, const void *b, void *ctx) {
    const Check *c = ctx;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (c->first[x] != c->first[y]) return c->first[x] < c->first[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* No two activations that live at the same time share a byte, in-place outputs apart. */
static bool check_activations(Check *c) {
    const Plan *p = c->p;
    uint32_t *order = NEW(c->a, uint32_t, p->n_value + 1), n = 0, n_live = 0;
    uint32_t *live = NEW(c->a, uint32_t, p->n_value + 1);
    for (uint32_t i = 0; i < p->n_value; i++)
        if (p->value[i].base == i && p->value[i].mem == MEM_ACT && c->first[i] != NO_STEP)
            order[n++] = i;
    qsort_r(order, n, sizeof *order, by_first, c);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t b = order[k], kept = 0;
        for (uint32_t j = 0; j < n_live; j++)
            if (c->last[live[j]] >= c->first[b]) live[kept++] = live[j];
        n_live = kept;
        for (uint32_t j = 0; j < n_live; j++)
            if (meet(&p->value[live[j]], &p->value[b]) && !in_place(c, live[j], b))
                return fail(c, "values %u and %u share memory in step %u", live[j], b,
                            c->first[b]);
        live[n_live++] = b;
    }
    return true;
}

static int by_offset(const void *a, const void *b, void *ctx) {
    const Plan *p = ctx;
    const PlanValue *x = &p->value[*(const uint32_t *)a], *y = &p->value[*(const uint32_t *)b];
    if (x->mem != y->mem) return x->mem < y->mem ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Declared values keep their place for the whole run. */
static bool check_declared(Check *c) {
    const Plan *p = c->p;
    uint32_t *order = NEW(c->a, uint32_t, p->n_value + 1), n = 0;
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base == i && v->role != ROLE_ACT && v->mem != MEM_WEIGHT) order[n++] = i;
        if (v->role != ROLE_ACT && v->mem == MEM_ACT)
            return fail(c, "'%s' is among the activations", v->name);
    }
    qsort_r(order, n, sizeof *order, by_offset, (void *)p);
    for (uint32_t k = 1; k < n; k++) {
        const PlanValue *x = &p->value[order[k - 1]], *y = &p->value[order[k]];
        if (x->mem == y->mem && meet(x, y))
            return fail(c, "'%s' and '%s' share memory", x->name, y->name);
    }
    return true;
}

static bool check_lifetimes(Check *c) {
    const Plan *p = c->p;
    for (uint32_t i = 0; i < p->n_output; i++) {
        if (p->output[i].value >= p->n_value)
            return fail(c, "output '%s' is not there", p->output[i].name);
        uint32_t b = p->value[p->output[i].value].base;
        if (p->value[b].role == ROLE_ACT && c->writer[b] == NO_STEP)
            return fail(c, "nothing writes output '%s'", p->output[i].name);
        c->last[b] = p->n_step;
    }
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || v->mem != MEM_ACT) continue;
        if (v->first != c->first[i] || v->last != c->last[i])
            return fail(c, "value %u lives from step %u to %u, the plan says %u to %u", i,
                        c->first[i], c->last[i], v->first, v->last);
    }
    return true;
}

static bool check_all(Check *c) {
    const Plan *p = c->p;
    c->writer = NEW(c->a, uint32_t, p->n_value + 1);
    c->first = NEW(c->a, uint32_t, p->n_value + 1);
    c->last = NEW(c->a, uint32_t, p->n_value + 1);
    memset(c->writer, 0xff, p->n_value * sizeof(uint32_t));
    memset(c->first, 0xff, p->n_value * sizeof(uint32_t));
    for (uint32_t i = 0; i < p->n_value; i++)
        if (!check_value(c, i)) return false;
    for (uint32_t k = 0; k < p->n_step; k++)
        if (!check_step(c, k)) return false;
    return check_lifetimes(c) && check_activations(c) && check_declared(c);
}

bool plan_verify(const Plan *p, Err *e) {
    Check c = {.p = p, .a = arena_new(), .e = e};
    bool ok = check_all(&c);
    arena_free(c.a);
    return ok && (!p->init || plan_verify(p->init, e));
}
