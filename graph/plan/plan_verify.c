/* The independent checker of plans: it trusts neither lower nor a file. What holds after
 * it: every op is a row and its kernel one of the row's that fits this machine; types of
 * outputs are what the row says of the inputs; every value lies inside its memory and no
 * two that live at the same time share a byte (in-place outputs, where the row allows it,
 * apart); what is read was written before and not since; only persistent tensors outlive a
 * step, and only ops that say so write them. O((values + operands) log values). */
#define _GNU_SOURCE /* qsort_r */
#include "graph/plan/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

typedef struct Check {
    const Plan *p;
    Arena *a;
    Err *e;
    uint32_t *writer, *first, *last; /* per value, those of activations by base */
    uint32_t *alike, n_alike;        /* steps whose row was asked: index + 1, by hash */
} Check;

#define NO_STEP UINT32_MAX
enum { MOST_OUT = 64, ALIGNMENT = 64 };

static bool fail(Check *c, const char *fmt, ...) PRINTF(2, 3);
static bool fail(Check *c, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char text[512];
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(c->e, "plan '%s': %s", c->p->name, text);
}

/* ---- values ---- */
static bool possible_type(const Type *t) {
    uint64_t count = 1;
    if (t->dtype >= DTYPES || t->rank < 0 || t->rank > MAX_RANK) return false;
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 1 || !mul_u64(count, (uint64_t)t->dim[i], &count) ||
            count > UINT64_C(1) << 47)
            return false;
    return true;
}

/* A value that owns its memory: its role says which. */
static bool check_owner(Check *c, uint32_t i) {
    static const Mem of[] = {
        [ROLE_ACT] = MEM_ACT,     [ROLE_INPUT] = MEM_INPUT,   [ROLE_SCALAR] = MEM_INPUT,
        [ROLE_CONST] = MEM_CONST, [ROLE_FROZEN] = MEM_WEIGHT, [ROLE_TRAIN] = MEM_STATE,
        [ROLE_STATE] = MEM_STATE};
    const PlanValue *v = &c->p->value[i];
    if (v->mem != of[v->role])
        return fail(c, "value %u of role '%s' is in memory '%s'", i, role_name(v->role),
                    mem_name(v->mem));
    if (v->role == ROLE_ACT) return true;
    if (!v->name) return fail(c, "value %u has no name", i);
    if ((v->role == ROLE_CONST) != (v->data != NULL))
        return fail(c, "'%s': data and role '%s' do not go together", v->name,
                    role_name(v->role));
    if (v->role == ROLE_STATE && !v->param)
        return fail(c, "nothing says what '%s' starts as", v->name);
    return true;
}

static bool check_value(Check *c, uint32_t i) {
    const Plan *p = c->p;
    const PlanValue *v = &p->value[i];
    if ((unsigned)v->mem >= MEMS || (unsigned)v->role >= ROLES || v->base >= p->n_value)
        return fail(c, "value %u is in no memory", i);
    if (!possible_type(&v->type))
        return fail(c, "value %u has a type that cannot be", i);
    if (v->bytes != type_bytes(&v->type))
        return fail(c, "value %u has a wrong size", i);
    const PlanValue *b = &p->value[v->base];
    if (b->base != v->base || b->mem != v->mem || b->offset != v->offset ||
        b->bytes != v->bytes || b->type.dtype != v->type.dtype)
        return fail(c, "value %u is not where value %u is", i, v->base);
    if (v->base != i && v->role != ROLE_ACT)
        return fail(c, "value %u of role '%s' has no memory of its own", i,
                    role_name(v->role));
    if (v->base == i && !check_owner(c, i)) return false;
    if (v->mem == MEM_WEIGHT) return true;
    uint64_t end;
    if (!add_u64(v->offset, v->bytes, &end) || end > p->size[v->mem])
        return fail(c, "value %u ends at %s+%llu, behind its memory of %llu bytes", i,
                    mem_name(v->mem), (unsigned long long)end,
                    (unsigned long long)p->size[v->mem]);
    return v->offset % ALIGNMENT == 0 || fail(c, "value %u is not aligned", i);
}

typedef struct Name {
    uint64_t hash;
    const char *text;
} Name;

static int by_hash(const void *a, const void *b) {
    const Name *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return strcmp(x->text, y->text);
}

static Name name_of(const char *text) {
    return (Name){XXH3_64bits(text, strlen(text)), text};
}

/* By hash: names share long beginnings. */
static bool check_unique(Check *c, Name *name, uint32_t n, const char *what) {
    qsort(name, n, sizeof *name, by_hash);
    for (uint32_t i = 1; i < n; i++)
        if (by_hash(&name[i - 1], &name[i]) == 0)
            return fail(c, "two %s are called '%s'", what, name[i].text);
    return true;
}

/* Names are how the host finds values: each stands for one. */
static bool check_names(Check *c) {
    const Plan *p = c->p;
    Name *name = NEW(c->a, Name, (size_t)p->n_value + p->n_output + 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n_value; i++)
        if (p->value[i].base == i && p->value[i].name)
            name[n++] = name_of(p->value[i].name);
    if (!check_unique(c, name, n, "values")) return false;
    for (uint32_t i = 0; i < p->n_output; i++) {
        if (!p->output[i].name) return fail(c, "output %u has no name", i);
        name[i] = name_of(p->output[i].name);
    }
    return check_unique(c, name, p->n_output, "outputs");
}

/* ---- steps: the row, its kernel, types ---- */
static bool one_of(const Kernel *list, const Kernel *kernel) {
    for (; list && list->name; list++)
        if (list == kernel) return true;
    return false;
}

bool plan_is_cuda(const Plan *p) {
    return p->n_step && one_of(p->step[0].op->cuda, p->step[0].kernel);
}

static bool known_kernel(const Plan *p, const PlanStep *t) {
    return one_of(plan_is_cuda(p) ? t->op->cuda : t->op->cpu, t->kernel);
}

static bool operands_there(Check *c, uint32_t k) {
    const PlanStep *t = &c->p->step[k];
    int n = 0;
    bool variadic = false;
    for (; t->op->in[n].name; n++) variadic |= (t->op->in[n].flags & IN_VARIADIC) != 0;
    if (t->n_in < 0 || t->n_out < 0 || t->n_out > MOST_OUT ||
        (t->n_in > n && !variadic))
        return fail(c, "step %u (%s) has %d operands", k, t->op->name, t->n_in);
    for (int i = 0; i < t->n_in; i++)
        if (t->in[i] != UINT32_MAX && t->in[i] >= c->p->n_value)
            return fail(c, "step %u (%s) reads a value that is not there", k,
                        t->op->name);
    for (int o = 0; o < t->n_out; o++)
        if (t->out[o] >= c->p->n_value)
            return fail(c, "step %u (%s) writes a value that is not there", k,
                        t->op->name);
    for (int i = 0; i < n || i < t->n_in; i++) {
        unsigned flags = t->op->in[i < n ? i : n - 1].flags;
        bool there = i < t->n_in && t->in[i] != UINT32_MAX;
        if (there || flags & (IN_OPTIONAL | IN_SHAPE)) continue;
        if (i >= t->n_in && flags & IN_VARIADIC) continue;
        return fail(c, "step %u (%s) has no input '%s'", k, t->op->name,
                    t->op->in[i < n ? i : n - 1].name);
    }
    return true;
}

static bool attributes_fit(Check *c, uint32_t k) {
    const PlanStep *t = &c->p->step[k];
    for (const Attr *at = t->op->attrs; at && at->name; at++) {
        if (!t->attrs) return fail(c, "step %u (%s) has no attributes", k, t->op->name);
        const void *p = (const char *)t->attrs + at->offset;
        bool fits = true;
        uint32_t words = 0;
        while (at->words && at->words[words]) words++;
        if (at->kind == 'w') fits = *(const uint32_t *)p < words;
        if (at->kind == 'd') fits = *(const uint32_t *)p < DTYPES;
        if (at->kind == 'l') fits = (unsigned)((const IntList *)p)->n <= 8;
        if (!fits)
            return fail(c, "step %u (%s): attribute '%s' is out of range", k,
                        t->op->name, at->name);
    }
    return true;
}

/* What the row says of the step's inputs is what its outputs are. */
static bool types_fit(Check *c, uint32_t k, Sig *s) {
    const PlanStep *t = &c->p->step[k];
    Type out[MOST_OUT] = {0};
    Sig again = *s;
    Err why = {0};
    again.out = out;
    again.n_out = t->op->n_out < 0 ? 0 : t->op->n_out;
    if (!t->op->shape(&again, &why)) {
        fail(c, "step %u (%s) does not fit its inputs", k, t->op->name);
        err_note(c->e, "note: %s", why.text);
        return false;
    }
    if (again.n_out != t->n_out)
        return fail(c, "step %u (%s) has %d outputs, want %d", k, t->op->name, t->n_out,
                    again.n_out);
    for (int o = 0; o < t->n_out; o++)
        if (!type_equal(&out[o], &s->out[o]))
            return fail(c, "step %u (%s) makes %s, its value says %s", k, t->op->name,
                        type_text(c->a, &out[o]), type_text(c->a, &s->out[o]));
    return true;
}

static uint64_t bytes_moved(const Sig *s) {
    uint64_t bytes = 0;
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i].rank >= 0) bytes += type_bytes(&s->in[i]);
    for (int o = 0; o < s->n_out; o++) bytes += type_bytes(&s->out[o]);
    return bytes;
}

static bool row_agrees(Check *c, uint32_t k, Sig *s) {
    const PlanStep *t = &c->p->step[k];
    if (!attributes_fit(c, k) || !types_fit(c, k, s)) return false;
    if (t->kernel->fits && !t->kernel->fits(s))
        return fail(c, "step %u: kernel '%s' of '%s' does not run on this machine", k,
                    t->kernel->name, t->op->name);
    uint64_t work = t->kernel->work ? t->kernel->work(s) : 0;
    uint64_t flops = t->op->flops ? t->op->flops(s)
                                  : (uint64_t)(t->n_out ? type_count(&s->out[0]) : 0);
    return (t->work_bytes == work && t->flops == flops && t->bytes == bytes_moved(s)) ||
           fail(c, "step %u (%s): its costs are not what the op says", k, t->op->name);
}

/* ---- steps that are alike: the row is asked once ---- */
static bool same_types(const Plan *p, const uint32_t *x, const uint32_t *y, int n) {
    for (int i = 0; i < n; i++) {
        if (x[i] == UINT32_MAX || y[i] == UINT32_MAX) {
            if (x[i] != y[i]) return false;
        } else if (!type_equal(&p->value[x[i]].type, &p->value[y[i]].type)) {
            return false;
        }
    }
    return true;
}

static bool alike(const Plan *p, const PlanStep *x, const PlanStep *y) {
    return x->op == y->op && x->kernel == y->kernel && x->attrs == y->attrs &&
           x->n_in == y->n_in && x->n_out == y->n_out &&
           x->work_bytes == y->work_bytes && x->flops == y->flops &&
           x->bytes == y->bytes && same_types(p, x->in, y->in, x->n_in) &&
           same_types(p, x->out, y->out, x->n_out);
}

static uint64_t scramble(uint64_t h, uint64_t x) { /* FNV-1a, by words */
    return (h ^ x) * UINT64_C(1099511628211);
}

/* Was a step like k found right? Otherwise it is entered: whoever enters it checks it. */
static bool known(Check *c, uint32_t k) {
    const PlanStep *t = &c->p->step[k];
    uint64_t h = scramble(UINT64_C(14695981039346656037), (uintptr_t)t->attrs);
    h = scramble(scramble(h, (uintptr_t)t->kernel), t->flops);
    h = scramble(h, t->bytes);
    uint32_t at = (uint32_t)(h >> 32) & (c->n_alike - 1);
    for (int tries = 0; tries < 16; tries++, at = (at + 1) & (c->n_alike - 1)) {
        if (!c->alike[at]) {
            c->alike[at] = k + 1;
            return false;
        }
        if (alike(c->p, t, &c->p->step[c->alike[at] - 1])) return true;
    }
    return false;
}

static bool check_signature(Check *c, uint32_t k) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[k];
    Type *in = NEW(c->a, Type, t->n_in + 1), out[MOST_OUT];
    Sig s = {t->op, t->attrs, in, t->n_in, out, t->n_out};
    for (int i = 0; i < t->n_in; i++) {
        in[i].rank = -1;
        if (t->in[i] != UINT32_MAX) in[i] = p->value[t->in[i]].type;
    }
    for (int o = 0; o < t->n_out; o++) out[o] = p->value[t->out[o]].type;
    return known(c, k) || row_agrees(c, k, &s);
}

/* ---- steps: what is read and written ---- */
static bool overwrites(const PlanStep *t, int out, const uint32_t *in_base,
                       uint32_t base) {
    for (const OpAlias *al = t->op->alias; al && al->out >= 0; al++)
        if (al->out == out && al->in < t->n_in && in_base[al->in] == base) return true;
    return false;
}

static bool aliased(const PlanStep *t, int out) {
    for (const OpAlias *al = t->op->alias; al && al->out >= 0; al++)
        if (al->out == out && al->in < t->n_in && t->in[al->in] != UINT32_MAX)
            return true;
    return false;
}

/* Is value v what step k wrote, and not what stood there before? */
static bool wrote(const PlanStep *t, uint32_t v) {
    for (int o = 0; o < t->n_out; o++)
        if (t->out[o] == v) return true;
    return false;
}

static bool check_reads(Check *c, uint32_t k, uint32_t *base) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[k];
    for (int i = 0; i < t->n_in; i++) {
        base[i] = NO_STEP;
        if (t->in[i] == UINT32_MAX) continue;
        base[i] = p->value[t->in[i]].base;
        bool act = p->value[base[i]].role == ROLE_ACT;
        if (act && c->writer[base[i]] == NO_STEP)
            return fail(c, "step %u (%s) reads value %u, which nothing wrote", k,
                        t->op->name, t->in[i]);
        uint32_t writer = c->writer[base[i]];
        if (!act && writer != NO_STEP && !wrote(&p->step[writer], t->in[i]))
            return fail(c, "step %u (%s) reads '%s', which step %u overwrote", k,
                        t->op->name, p->value[base[i]].name, writer);
        c->last[base[i]] = k;
    }
    return true;
}

/* A persistent tensor may be written again, over what was written before: check_reads has
 * seen that nothing older is read. */
static bool check_writes(Check *c, uint32_t k, const uint32_t *base) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[k];
    for (int o = 0; o < t->n_out; o++) {
        uint32_t b = p->value[t->out[o]].base;
        bool again = c->writer[b] == k ||
                     (p->value[b].role == ROLE_ACT && c->writer[b] != NO_STEP);
        if (again)
            return fail(c, "step %u (%s) writes value %u again", k, t->op->name, b);
        if (p->value[b].role == ROLE_ACT) {
            if (aliased(t, o))
                return fail(c, "step %u (%s) writes beside its input", k, t->op->name);
            c->first[b] = c->last[b] = k;
        } else if (p->value[b].mem != MEM_STATE || !overwrites(t, o, base, b)) {
            return fail(c, "step %u (%s) writes '%s'", k, t->op->name,
                        p->value[b].name);
        }
        c->writer[b] = k;
    }
    return true;
}

static bool check_step(Check *c, uint32_t k) {
    const PlanStep *t = &c->p->step[k];
    if (t->op->flags & (OP_VIEW | OP_YAML_ONLY) || !known_kernel(c->p, t))
        return fail(c, "step %u has no kernel of its op", k);
    if (t->work_bytes > c->p->size[MEM_WORK])
        return fail(c, "step %u (%s): workspace too small", k, t->op->name);
    if ((unsigned)t->at.phase >= PHASES)
        return fail(c, "step %u (%s) is in no phase", k, t->op->name);
    if (!operands_there(c, k) || !check_signature(c, k)) return false;
    uint32_t *base = NEW(c->a, uint32_t, t->n_in + 1);
    return check_reads(c, k, base) && check_writes(c, k, base);
}

/* ---- lifetimes ---- */
static bool check_lifetimes(Check *c) {
    const Plan *p = c->p;
    for (uint32_t i = 0; i < p->n_output; i++) {
        if (p->output[i].value >= p->n_value)
            return fail(c, "output '%s' is not there", p->output[i].name);
        const PlanValue *b = &p->value[p->value[p->output[i].value].base];
        uint32_t at = (uint32_t)(b - p->value);
        if (b->role == ROLE_ACT && c->writer[at] == NO_STEP)
            return fail(c, "nothing writes output '%s'", p->output[i].name);
        c->last[at] = p->n_step;
    }
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || v->mem != MEM_ACT) continue;
        if (v->first != c->first[i] || v->last != c->last[i])
            return fail(c, "value %u lives from step %u to %u, the plan says %u to %u",
                        i, c->first[i], c->last[i], v->first, v->last);
    }
    return true;
}

/* b, written at the step where a is read last, stands exactly on a: allowed by the row? */
static bool in_place(const Check *c, uint32_t a, uint32_t b) {
    const Plan *p = c->p;
    const PlanStep *t = &p->step[c->first[b]];
    const PlanValue *x = &p->value[a], *y = &p->value[b];
    if (c->last[a] != c->first[b] || x->offset != y->offset || x->bytes != y->bytes ||
        dtype_size(x->type.dtype) != dtype_size(y->type.dtype))
        return false;
    if (t->n_out < 1 || p->value[t->out[0]].base != b) return false;
    int uses = 0, at = -1;
    for (int i = 0; i < t->n_in; i++) {
        if (t->in[i] == UINT32_MAX || p->value[t->in[i]].base != a) continue;
        uses++;
        at = i;
    }
    return uses == 1 && at < 64 && t->op->inplace >> at & 1;
}

/* ---- the sweep over time: live activations, disjoint, as a treap by offset ---- */
typedef struct Live {
    const Check *c;
    uint32_t *left, *right; /* per value */
    uint32_t root;
} Live;

static uint64_t offset_of(const Live *l, uint32_t i) {
    return l->c->p->value[i].offset;
}

/* A fixed scramble of the index is the heap's priority: the tree is balanced and always
 * the same (Knuth's multiplicative hash). */
static uint32_t priority(uint32_t i) {
    return i * 2654435761u ^ i >> 7;
}

/* Splits t by offset: those below `at`, and the rest. */
static void split(Live *l, uint32_t t, uint64_t at, uint32_t *low, uint32_t *high) {
    while (t != NO_STEP) {
        if (offset_of(l, t) < at) {
            *low = t;
            low = &l->right[t];
            t = *low;
        } else {
            *high = t;
            high = &l->left[t];
            t = *high;
        }
    }
    *low = *high = NO_STEP;
}

static void insert(Live *l, uint32_t i) {
    uint32_t *at = &l->root;
    while (*at != NO_STEP && priority(*at) >= priority(i))
        at = offset_of(l, *at) < offset_of(l, i) ? &l->right[*at] : &l->left[*at];
    uint32_t below = *at;
    *at = i;
    split(l, below, offset_of(l, i), &l->left[i], &l->right[i]);
}

static void erase(Live *l, uint32_t i) {
    uint32_t *at = &l->root;
    while (*at != i)
        at = offset_of(l, *at) < offset_of(l, i) ? &l->right[*at] : &l->left[*at];
    uint32_t a = l->left[i], b = l->right[i];
    while (a != NO_STEP && b != NO_STEP) {
        if (priority(a) >= priority(b)) {
            *at = a;
            at = &l->right[a];
            a = *at;
        } else {
            *at = b;
            at = &l->left[b];
            b = *at;
        }
    }
    *at = a != NO_STEP ? a : b;
}

/* A live value that meets i, or NO_STEP: the last one that starts before the end of i. */
static uint32_t meeting(const Live *l, uint32_t i) {
    const PlanValue *v = &l->c->p->value[i];
    uint32_t found = NO_STEP;
    for (uint32_t t = l->root; t != NO_STEP;) {
        if (offset_of(l, t) < v->offset + v->bytes) {
            found = t;
            t = l->right[t];
        } else {
            t = l->left[t];
        }
    }
    if (found == NO_STEP) return NO_STEP;
    const PlanValue *x = &l->c->p->value[found];
    return x->offset + x->bytes > v->offset ? found : NO_STEP;
}

/* The n values of `from` by step, those of one step in their order: counting sort. */
static uint32_t *by_step(Check *c, const uint32_t *from, uint32_t n,
                         const uint32_t *step) {
    uint32_t *count = NEW(c->a, uint32_t, (size_t)c->p->n_step + 2);
    uint32_t *to = NEW(c->a, uint32_t, (size_t)n + 1);
    for (uint32_t i = 0; i < n; i++) count[step[from[i]] + 1]++;
    for (uint32_t k = 0; k < c->p->n_step; k++) count[k + 1] += count[k];
    for (uint32_t i = 0; i < n; i++) to[count[step[from[i]]]++] = from[i];
    return to;
}

/* Enters value b; what it is written over leaves now and not at its end. */
static bool enter(Check *c, Live *l, uint32_t b, bool *gone) {
    uint32_t a;
    while ((a = meeting(l, b)) != NO_STEP) {
        if (!in_place(c, a, b))
            return fail(c, "values %u and %u share memory in step %u", a, b,
                        c->first[b]);
        erase(l, a);
        gone[a] = true;
    }
    insert(l, b);
    return true;
}

/* No two activations that live at the same time share a byte, in-place outputs apart. */
static bool check_activations(Check *c) {
    const Plan *p = c->p;
    uint32_t *all = NEW(c->a, uint32_t, p->n_value + 1), n = 0;
    bool *gone = NEW(c->a, bool, p->n_value + 1);
    Live l = {c, NEW(c->a, uint32_t, p->n_value + 1),
              NEW(c->a, uint32_t, p->n_value + 1), NO_STEP};
    for (uint32_t i = 0; i < p->n_value; i++)
        if (p->value[i].base == i && p->value[i].mem == MEM_ACT &&
            c->first[i] != NO_STEP)
            all[n++] = i;
    const uint32_t *in = by_step(c, all, n, c->first),
                   *out = by_step(c, all, n, c->last);
    for (uint32_t k = 0, dead = 0; k < n; k++) {
        for (; dead < n && c->last[out[dead]] < c->first[in[k]]; dead++)
            if (!gone[out[dead]]) erase(&l, out[dead]);
        if (!enter(c, &l, in[k], gone)) return false;
    }
    return true;
}

/* ---- declared values, starts, totals ---- */
static int by_offset(const void *a, const void *b, void *ctx) {
    const Plan *p = ctx;
    const PlanValue *x = &p->value[*(const uint32_t *)a],
                    *y = &p->value[*(const uint32_t *)b];
    if (x->mem != y->mem) return x->mem < y->mem ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Declared values keep their place for the whole run. */
static bool check_declared(Check *c) {
    const Plan *p = c->p;
    uint32_t *order = NEW(c->a, uint32_t, p->n_value + 1), n = 0;
    uint64_t end[MEMS] = {0};
    bool rising = true; /* each behind the one before it, as lower puts them */
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || v->role == ROLE_ACT || v->mem == MEM_WEIGHT) continue;
        order[n++] = i;
        rising &= v->offset >= end[v->mem];
        end[v->mem] = v->offset + v->bytes;
    }
    if (rising) return true;
    qsort_r(order, n, sizeof *order, by_offset, (void *)p);
    for (uint32_t k = 1; k < n; k++) {
        const PlanValue *x = &p->value[order[k - 1]], *y = &p->value[order[k]];
        if (x->mem == y->mem && y->offset < x->offset + x->bytes)
            return fail(c, "'%s' and '%s' share memory", x->name, y->name);
    }
    return true;
}

static int by_output(const void *key, const void *o) {
    return strcmp(key, ((const Output *)o)->name);
}

static int outputs_by_name(const void *a, const void *b) {
    return strcmp(((const Output *)a)->name, ((const Output *)b)->name);
}

/* A tensor that starts as a value gets it from an output of `init` with its name and type. */
static bool check_starts(Check *c) {
    const Plan *p = c->p, *init = p->init;
    if (init && init->init) return fail(c, "the plan of starts has starts itself");
    uint32_t n = init ? init->n_output : 0;
    Output *sorted = NEW(c->a, Output, n + 1);
    if (n) memcpy(sorted, init->output, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, outputs_by_name);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || !v->name) continue;
        const Output *o =
            n ? bsearch(v->name, sorted, n, sizeof *sorted, by_output) : NULL;
        bool wants = v->param && v->param->init.kind == INIT_VALUE;
        if (wants && !o) return fail(c, "nothing computes the start of '%s'", v->name);
        if (o && (v->mem != MEM_STATE || init->value[o->value].bytes != v->bytes ||
                  init->value[o->value].type.dtype != v->type.dtype))
            return fail(c, "the start of '%s' is of another type", v->name);
    }
    return true;
}

/* act_lower_bound: the largest sum of live bytes, with each buffer rounded up. A buffer is
 * a chain of values written over each other. */
static bool check_totals(Check *c) {
    const Plan *p = c->p;
    if (p->act_lower_bound > p->size[MEM_ACT])
        return fail(c, "activations need %llu bytes, their memory has %llu",
                    (unsigned long long)p->act_lower_bound,
                    (unsigned long long)p->size[MEM_ACT]);
    uint64_t weights = 0;
    for (uint32_t i = 0; i < p->n_value; i++)
        if (p->value[i].base == i && p->value[i].mem == MEM_WEIGHT &&
            !add_u64(weights, p->value[i].bytes, &weights))
            return fail(c, "weights of more than 2^64 bytes");
    return weights == p->size[MEM_WEIGHT] ||
           fail(c, "weights have %llu bytes together, the plan says %llu",
                (unsigned long long)weights, (unsigned long long)p->size[MEM_WEIGHT]);
}

static bool check_all(Check *c) {
    const Plan *p = c->p;
    uint32_t **lists[] = {&c->writer, &c->first, &c->last};
    for (size_t i = 0; i < COUNT(lists); i++) {
        *lists[i] = NEW(c->a, uint32_t, p->n_value + 1);
        memset(*lists[i], 0xff, p->n_value * sizeof(uint32_t));
    }
    for (c->n_alike = 64; c->n_alike < 2 * p->n_step;) c->n_alike *= 2;
    c->alike = NEW(c->a, uint32_t, c->n_alike);
    for (uint32_t i = 0; i < p->n_value; i++)
        if (!check_value(c, i)) return false;
    if (!check_names(c)) return false;
    for (uint32_t k = 0; k < p->n_step; k++)
        if (!check_step(c, k)) return false;
    return check_lifetimes(c) && check_activations(c) && check_declared(c) &&
           check_totals(c);
}

bool plan_verify(const Plan *p, Err *e) {
    Check c = {.p = p, .a = arena_new(), .e = e};
    bool ok =
        check_all(&c) && (!p->init || plan_verify(p->init, e)) && check_starts(&c);
    arena_free(c.a);
    return ok;
}
