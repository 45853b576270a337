/* Facts about a plan (plan_facts.h). */
#include "cli/inspect/plan_facts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/version.h"

static bool owns_activation(const Plan *p, uint32_t i) {
    const PlanValue *v = &p->value[i];
    return v->base == i && v->mem == MEM_ACT;
}

/* Not the first step of phase BACKWARD: one that waits for nothing may stand anywhere. */
uint32_t plan_backward(const Plan *p) {
    for (uint32_t i = 0; i < p->n_output; i++)
        if (!strcmp(p->output[i].name, "loss")) {
            uint32_t made = p->value[p->output[i].value].first;
            return made < p->n_step ? made + 1 : p->n_step;
        }
    return p->n_step;
}

PlanTotals plan_totals(const Plan *p) {
    uint32_t backward = plan_backward(p);
    PlanTotals t = {.activation_peak = p->act_lower_bound,
                    .arena = p->size[MEM_ACT],
                    .lower_bound = p->act_lower_bound,
                    .state = p->size[MEM_STATE],
                    .work = p->size[MEM_WORK],
                    .other = p->size[MEM_INPUT] + p->size[MEM_CONST],
                    .nodes = p->n_step,
                    .steps = p->n_step};
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i) {
            t.nodes++;
            continue;
        }
        if (v->mem == MEM_WEIGHT) t.weights += v->bytes;
        if (v->mem == MEM_ACT && v->first < backward && v->last >= backward)
            t.saved += v->bytes;
    }
    for (uint32_t i = 0; i < p->n_step; i++) {
        t.flops += p->step[i].flops;
        t.bytes += p->step[i].bytes;
    }
    t.total = t.weights + t.state + t.arena + t.work + t.other;
    return t;
}

/* In-place outputs stand on what they replace: at the step where one takes over, both are
 * alive but only one has memory. */
static bool takes_over(const Plan *p, uint32_t i, uint32_t step) {
    const PlanValue *v = &p->value[i];
    if (v->last != step || v->first == step) return false;
    const PlanStep *t = &p->step[step];
    for (int o = 0; o < t->n_out; o++) {
        const PlanValue *y = &p->value[t->out[o]];
        if (y->mem == MEM_ACT && y->offset == v->offset && y->base != i) return true;
    }
    return false;
}

uint64_t *plan_timeline(Arena *a, const Plan *p) {
    uint64_t *change = NEW(a, uint64_t, (size_t)p->n_step + 2), live = 0;
    for (uint32_t i = 0; i < p->n_value; i++) {
        if (!owns_activation(p, i)) continue;
        const PlanValue *v = &p->value[i];
        uint32_t end = v->last < p->n_step ? v->last + 1 : p->n_step;
        if (v->last < p->n_step && takes_over(p, i, v->last)) end--;
        uint64_t bytes = (v->bytes + 63) / 64 * 64;
        change[v->first] += bytes;
        change[end] -= bytes; /* modulo 2^64 */
    }
    for (uint32_t k = 0; k < p->n_step; k++) {
        live += change[k];
        change[k] = live;
    }
    return change;
}

uint32_t plan_peak_step(const Plan *p, const uint64_t *timeline) {
    uint32_t best = 0;
    for (uint32_t k = 1; k < p->n_step; k++)
        if (timeline[k] > timeline[best]) best = k;
    return best;
}

typedef struct Sized {
    uint64_t bytes;
    uint32_t value;
} Sized;

static int larger_first(const void *a, const void *b) {
    const Sized *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->value < y->value ? -1 : 1;
}

uint32_t *plan_alive(Arena *a, const Plan *p, uint32_t step, uint32_t *n) {
    Sized *s = NEW(a, Sized, (size_t)p->n_value + 1);
    *n = 0;
    for (uint32_t i = 0; i < p->n_value; i++)
        if (owns_activation(p, i) && p->value[i].first <= step &&
            p->value[i].last >= step && !takes_over(p, i, step))
            s[(*n)++] = (Sized){p->value[i].bytes, i};
    qsort(s, *n, sizeof *s, larger_first);
    uint32_t *out = NEW(a, uint32_t, (size_t)*n + 1);
    for (uint32_t i = 0; i < *n; i++) out[i] = s[i].value;
    return out;
}

static const char *step_text(Arena *a, const Plan *p, uint32_t k) {
    const PlanStep *t = &p->step[k];
    return arena_printf(a, "step %u %s%s%s", k, t->op->name, t->at.path ? " of " : "",
                        t->at.path ? t->at.path : "");
}

const char *plan_why_alive(Arena *a, const Plan *p, uint32_t value, uint32_t step) {
    const PlanValue *v = &p->value[value];
    uint32_t backward = plan_backward(p);
    if (v->last >= p->n_step) {
        for (uint32_t i = 0; i < p->n_output; i++)
            if (p->value[p->output[i].value].base == value)
                return arena_printf(a, "output '%s'", p->output[i].name);
        return "output";
    }
    const char *reader = step_text(a, p, v->last);
    if (v->first == step)
        return arena_printf(a, "written here; last read by %s", reader);
    if (v->last == step) return "read here for the last time";
    if (v->first < backward && v->last >= backward)
        return arena_printf(a, "saved for the backward pass: last read by %s", reader);
    return arena_printf(a, "last read by %s", reader);
}

const char *plan_value_text(Arena *a, const Plan *p, uint32_t value) {
    if (value == UINT32_MAX) return "_";
    const PlanValue *v = &p->value[value];
    const char *name = p->value[v->base].name;
    if (name) return arena_printf(a, "@%s", name);
    return arena_printf(a, "%s+%llu", mem_name(v->mem), (unsigned long long)v->offset);
}

const char *plan_place(Arena *a, const PlanStep *t) {
    if (!t->at.loc.src) return "";
    return arena_printf(a, "%s:%u", t->at.loc.src->path, t->at.loc.line);
}

const char *plan_block(const Plan *p, int block) {
    return p->blocks && block >= 0 ? p->blocks[block] : "-";
}

/* ---- estimates ---- */

/* Multiply-adds per cycle and core with two vector units, at 3 GHz, and what is left of it
 * in convolutions of the usual sizes (70 %); 10 GB/s a core from memory. */
Roofline roofline_here(void) {
    const char *isa = version_isa();
    double lanes = !strcmp(isa, "avx512") ? 16 : !strcmp(isa, "avx2") ? 8 : 4;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1) cores = 1;
    return (Roofline){(double)cores * lanes * 2 * 2 * 3e9 * 0.7, (double)cores * 10e9};
}

double plan_step_time(const Roofline *r, const PlanStep *t, bool *memory) {
    double work = (double)t->flops / r->flops, move = (double)t->bytes / r->bytes;
    *memory = move > work;
    return *memory ? move : work;
}

static BlockSum *sum_of(BlockSum *all, const PlanStep *t) {
    return &all[(size_t)(t->at.block + 1) * PHASES + t->at.phase];
}

BlockSum *plan_blocks(Arena *a, const Plan *p, const Roofline *r, int *n) {
    int blocks = 1;
    while (p->blocks && p->blocks[blocks - 1]) blocks++;
    BlockSum *all = NEW(a, BlockSum, (size_t)blocks * PHASES);
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        BlockSum *s = sum_of(all, t);
        bool memory;
        s->steps++;
        s->flops += t->flops;
        s->bytes += t->bytes;
        s->seconds += plan_step_time(r, t, &memory);
    }
    uint32_t backward = plan_backward(p);
    for (uint32_t i = 0; i < p->n_value; i++)
        if (owns_activation(p, i) && p->value[i].first < backward &&
            p->value[i].last >= backward)
            sum_of(all, &p->step[p->value[i].first])->saved += p->value[i].bytes;
    *n = 0;
    for (int i = 0; i < blocks * PHASES; i++) {
        if (!all[i].steps) continue;
        all[i].block = i / PHASES - 1;
        all[i].phase = (Phase)(i % PHASES);
        all[(*n)++] = all[i];
    }
    return all;
}
