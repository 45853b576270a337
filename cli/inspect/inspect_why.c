/* `graphrun inspect PLAN why NODE`: everything a plan knows of a node, and the reasons:
 * where it was written, who reads it, why its memory is held, what bounds its time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect/inspect.h"
#include "cli/inspect/plan_why.h"

typedef struct Why {
    Str *s;
    Arena *a;
    const Plan *p;
    const StepTimes *times;
    /* looked up once, when the first step is printed */
    const uint32_t *witness;
    const char **backward;
    const FuseRefusal *refusal;
    const Recomputed *again;
    uint32_t n_backward, n_refusal, n_again;
} Why;

/* The line of the graph file, as it was when the plan was made. */
static void source_line(Why *w, const PlanStep *t) {
    const Source *src = t->at.loc.src;
    if (!src) return;
    const char *line = src->text, *end = src->text + src->len;
    for (uint32_t l = 1; l < t->at.loc.line; l++) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        if (!next) return;
        line = next + 1;
    }
    size_t n = strcspn(line, "\n");
    while (n && *line == ' ') line++, n--;
    str_printf(w->s, "    written at %s:%u: %.*s\n", src->path, t->at.loc.line, (int)n,
               line);
}

static void readers(Why *w, uint32_t value) {
    enum { MOST = 8 };
    const Plan *p = w->p;
    uint32_t n = 0;
    for (uint32_t k = 0; k < p->n_step; k++)
        for (int i = 0; i < p->step[k].n_in; i++) {
            uint32_t v = p->step[k].in[i];
            if (v == UINT32_MAX || p->value[v].base != value) continue;
            if (n++ < MOST)
                str_printf(w->s, "      read by step %u %s of %s (%s)\n", k,
                           p->step[k].op->name,
                           p->step[k].at.path ? p->step[k].at.path : "-",
                           phase_name(p->step[k].at.phase));
            break;
        }
    if (n > MOST) str_printf(w->s, "      and by %u more\n", n - MOST);
}

static void output(Why *w, uint32_t k, uint32_t v) {
    const Plan *p = w->p;
    uint32_t base = p->value[v].base;
    const PlanValue *x = &p->value[base];
    str_printf(w->s, "    makes %s in %s, %s", type_text(w->a, &p->value[v].type),
               plan_value_text(w->a, p, v), text_bytes(w->a, (double)x->bytes));
    if (x->mem != MEM_ACT) {
        str_add(w->s, ": written over what was there, for the next step\n");
        return;
    }
    str_printf(w->s, ", held from step %u to %u: %s\n", x->first, x->last,
               x->last == k
                   ? "nobody reads it later"
                   : plan_why_alive(w->a, p, base, k + 1 < x->last ? k + 1 : k));
    readers(w, base);
}

static void in_place(Why *w, uint32_t k) {
    const PlanStep *t = &w->p->step[k];
    for (int i = 0; t->n_out && i < t->n_in; i++) {
        if (t->in[i] == UINT32_MAX) continue;
        const PlanValue *x = &w->p->value[t->in[i]], *y = &w->p->value[t->out[0]];
        if (x->mem == MEM_ACT && y->mem == MEM_ACT && x->offset == y->offset &&
            x->base != y->base)
            str_printf(w->s, "    in place: over input %d, which nobody reads later\n",
                       i);
    }
}

/* ---- reasons ---- */
static void look_up(Why *w) {
    Roofline roof = roofline_here();
    w->witness = plan_witnesses(w->a, w->p);
    w->backward = plan_backward_paths(w->a, w->p, &w->n_backward);
    w->refusal = plan_refusals(w->a, w->p, &w->n_refusal);
    w->again = plan_recomputed(w->a, w->p, &roof, &w->n_again);
}

static void why_active(Why *w, const PlanStep *t) {
    if (t->at.phase != FORWARD || !t->n_out || !w->n_backward) return;
    uint32_t from = w->witness[w->p->value[t->out[0]].base];
    bool has = plan_has_path(w->backward, w->n_backward, t->at.path);
    if (from == UINT32_MAX)
        str_add(w->s, "    no gradient: nothing that is trained comes before it\n");
    else
        str_printf(w->s, "    %s: it depends on @%s\n",
                   has ? "has a gradient" : "no backward step of its own",
                   w->p->value[from].name);
}

/* The classes of the pass mixed-precision. */
static void why_type(Why *w, const PlanStep *t) {
    const char *at = NULL;
    size_t n;
    if (!t->n_out || t->at.phase == UPDATE ||
        !plan_report_line(w->p, "mixed-precision", &at, &n))
        return;
    DType d = w->p->value[t->out[0]].type.dtype;
    bool half = d == F16 || d == BF16;
    const char *why = t->op->flags & OP_LOW    ? "a product is stored in half"
                      : t->op->flags & OP_WIDE ? "the op needs f32"
                      : half                   ? "it follows what it reads"
                             : "not all that it reads is half, or only "
                               "ops that need f32 read it";
    if (dtype_is_float(d))
        str_printf(w->s, "    stored in %s: %s; it computes in f32\n", dtype_name(d),
                   why);
}

static void why_not_fused(Why *w, const PlanStep *t) {
    const char *place = plan_place(w->a, t);
    for (uint32_t i = 0; i < w->n_refusal; i++) {
        const FuseRefusal *r = &w->refusal[i];
        bool here = t->at.path && !strcmp(r->path, t->at.path);
        bool line = *place && !strncmp(r->place, place, strlen(place)) &&
                    r->place[strlen(place)] == ':';
        if (here || line)
            str_printf(w->s, "    not fused (%s%s): %s, %s\n", r->pattern,
                       here ? "" : ", at another node of this line", r->reason,
                       r->more);
    }
}

static void why_again(Why *w, uint32_t k) {
    for (uint32_t i = 0; i < w->n_again; i++) {
        const Recomputed *x = &w->again[i];
        if (x->step != k && x->original != k) continue;
        if (x->original == k)
            str_printf(w->s, "    computed again in step %u\n", x->step);
        else if (x->bytes)
            str_printf(w->s, "    runs again, for %s: so %s need not be kept%s\n",
                       text_seconds(w->a, x->seconds),
                       text_bytes(w->a, (double)x->bytes),
                       x->original == UINT32_MAX
                           ? ""
                           : arena_printf(w->a, " from step %u to here", x->original));
        else
            str_printf(w->s, "    runs again, for %s, because other copies read it\n",
                       text_seconds(w->a, x->seconds));
    }
}

static void step(Why *w, uint32_t k) {
    if (!w->witness) look_up(w);
    const Plan *p = w->p;
    const PlanStep *t = &p->step[k];
    Roofline roof = roofline_here();
    bool memory;
    double seconds = plan_step_time(&roof, t, &memory);
    str_printf(w->s, "  step %u of %u: %s/%s, %s, block %s, %s\n", k, p->n_step,
               t->op->name, t->kernel->name, phase_name(t->at.phase),
               plan_block(p, t->at.block), t->at.path ? t->at.path : "-");
    if (t->attrs && t->op->attrs) {
        str_add(w->s, "    ");
        attrs_print(w->s, t->op, t->attrs);
        str_add(w->s, "\n");
    }
    source_line(w, t);
    for (int i = 0; i < t->n_in; i++)
        if (t->in[i] != UINT32_MAX)
            str_printf(w->s, "    reads %s %s\n", plan_value_text(w->a, p, t->in[i]),
                       type_text(w->a, &p->value[t->in[i]].type));
    for (int o = 0; o < t->n_out; o++) output(w, k, t->out[o]);
    in_place(w, k);
    why_active(w, t);
    why_type(w, t);
    why_not_fused(w, t);
    why_again(w, k);
    str_printf(w->s, "    %s, %s moved: at least %s, bound by %s",
               text_flops(w->a, (double)t->flops), text_bytes(w->a, (double)t->bytes),
               text_seconds(w->a, seconds), memory ? "memory" : "arithmetic");
    if (w->times)
        str_printf(w->s, "; measured %s", text_seconds(w->a, w->times->seconds[k]));
    str_add(w->s, "\n");
}

static bool adapter(Why *w, const char *node) {
    for (uint32_t i = 0; i < w->p->n_adapter; i++) {
        const PlanAdapter *m = &w->p->adapter[i];
        if (strcmp(m->name, node) && strcmp(m->path, node)) continue;
        str_printf(w->s, "%s is wrapped by adapter '%s' (%s)\n", m->path, m->kind,
                   m->name);
        str_printf(w->s, "  rank %g, alpha %g, scale %g, %llu parameters, block %s\n",
                   m->rank, m->alpha, m->scale, (unsigned long long)m->parameters,
                   plan_block(w->p, m->block));
        return true;
    }
    return false;
}

/* The node itself and what stands inside it. */
static bool inside(const char *path, const char *node) {
    size_t n = strlen(node);
    return path && !strncmp(path, node, n) && (!path[n] || path[n] == '.');
}

bool inspect_why(Str *s, Arena *a, const Plan *p, const char *node,
                 const StepTimes *times, Err *e) {
    Why w = {.s = s, .a = a, .p = p, .times = times};
    char *end;
    unsigned long k = strtoul(node, &end, 10);
    if (*node && !*end) {
        if (k >= p->n_step)
            return err_usage(e, "no step %s: the plan's are 0 ... %u", node,
                             p->n_step - 1);
        step(&w, (uint32_t)k);
        return true;
    }
    bool any = adapter(&w, node);
    const char **names = NEW(a, const char *, (size_t)p->n_step + 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_step; i++) {
        if (p->step[i].at.path) names[n++] = p->step[i].at.path;
        if (!inside(p->step[i].at.path, node)) continue;
        step(&w, i);
        any = true;
    }
    return any || err_usage(e, "no node '%s' in plan '%s'%s", node, p->name,
                            did_you_mean(a, node, names));
}
