/* Binds a plan to memory and replays it. Binding does everything that can fail or takes
 * memory; exec_run walks a list of calls whose pointers are fixed.
 *
 * On a device of its own memory the first run launches step by step, which loads what the
 * kernels need; the second one captures the steps as a graph, and from then on a run is one
 * replay of it. Whatever changes from step to step lies in the device's memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/rng.h"
#include "runtime/store.h"

typedef struct Dying { /* activations that nobody reads after a step: poisoned there */
    uint32_t *value;
    uint32_t n, cap;
} Dying;

struct Exec {
    Arena *arena;
    Store *store;
    const Plan *plan;
    void **at;  /* per value: its address; NULL: a weight that nothing reads */
    Sig *sig;   /* per step */
    Call *call; /* per step */
    Room input, constant;
    NameTable names, outputs;
    Dying *dying;    /* with poison */
    uint64_t *times; /* with profile */
    bool poison, profile;
    bool ran;    /* step by step, with these addresses */
    void *graph; /* captured with these addresses, or NULL */
};

/* ---- addresses ---- */

static void *memory(const Exec *x, Mem m) {
    switch (m) {
    case MEM_ACT:
        return x->store->act.data;
    case MEM_INPUT:
        return x->input.data;
    case MEM_CONST:
        return x->constant.data;
    default:
        return NULL;
    }
}

/* What was captured has addresses in it. */
static void forget(Exec *x) {
    if (x->graph) x->store->dev->ops->forget(x->store->dev, x->graph);
    x->graph = NULL;
    x->ran = false;
}

/* Addresses in the arenas, and what hangs on them in every call. */
void exec_rebind(Exec *x) {
    const Plan *p = x->plan;
    forget(x);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        char *base = memory(x, v->mem);
        if (base)
            x->at[i] = base + v->offset;
        else
            x->at[i] = x->at[v->base]; /* persistent tensors and weights keep theirs */
    }
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        Tensor *in = (Tensor *)x->call[k].in, *out = (Tensor *)x->call[k].out;
        for (int i = 0; i < t->n_in; i++)
            if (t->in[i] != UINT32_MAX) in[i].data = x->at[t->in[i]];
        for (int o = 0; o < t->n_out; o++) out[o].data = x->at[t->out[o]];
        x->call[k].work = x->store->work.data;
    }
}

/* ---- binding ---- */

static void fill_constant(const PlanValue *v, void *dst) {
    int64_t n = type_count(&v->type);
    if (dtype_is_float(v->type.dtype)) convert(dst, v->type.dtype, v->data, F64, n);
    for (int64_t i = 0; i < n; i++) {
        if (v->type.dtype == I64) ((int64_t *)dst)[i] = (int64_t)v->data[i];
        if (v->type.dtype == I32) ((int32_t *)dst)[i] = (int32_t)v->data[i];
        if (v->type.dtype == U8) ((uint8_t *)dst)[i] = (uint8_t)v->data[i];
    }
}

/* Per value: a step reads it or it is an output. */
static bool *values_read(Arena *a, const Plan *p) {
    bool *read = NEW(a, bool, p->n_value + 1);
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        for (int i = 0; i < t->n_in; i++)
            if (t->in[i] != UINT32_MAX) read[p->value[t->in[i]].base] = true;
    }
    for (uint32_t i = 0; i < p->n_output; i++)
        read[p->value[p->output[i].value].base] = true;
    return read;
}

/* Tells the store what the values will take, so that they lie in one block. */
static void expect(Exec *x, const bool *read) {
    const Plan *p = x->plan;
    uint64_t bytes[SLABS] = {0};
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i) continue;
        if (v->mem == MEM_STATE) bytes[SLAB_STATE] += store_needs(x->store, v);
        if (v->mem == MEM_WEIGHT && read[i])
            bytes[SLAB_WEIGHT] += store_needs(x->store, v);
    }
    for (int k = 0; k < SLABS; k++) store_expect(x->store, (SlabKind)k, bytes[k]);
}

/* Constants, written by the host. */
static bool bind_constants(Exec *x, Err *e) {
    const Plan *p = x->plan;
    Device *d = x->store->dev;
    const size_t bytes = p->size[MEM_CONST];
    Arena *a = arena_new();
    char *at = d->ops ? arena_alloc(a, 1, bytes + 1) : x->constant.data;
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base == i && v->mem == MEM_CONST) fill_constant(v, at + v->offset);
    }
    bool ok = !d->ops || device_write(d, x->constant.data, at, bytes, e);
    arena_free(a);
    return ok;
}

/* Trainables, states, weights, constants. *starts: some must be computed first. */
static bool bind_values(Exec *x, bool *starts, Err *e) {
    const Plan *p = x->plan;
    const bool *read = values_read(x->arena, p);
    *starts = false;
    if (x->store->dev->ops) expect(x, read);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i) continue;
        bool fresh;
        if (v->name) table_put(x->arena, &x->names, v->name, i);
        if (v->mem == MEM_STATE) {
            x->at[i] = store_tensor(x->store, v, &fresh, e);
            if (!x->at[i]) return false;
            *starts |= fresh && v->param && v->param->init.kind == INIT_VALUE;
        } else if (v->mem == MEM_WEIGHT && read[i]) {
            x->at[i] = (void *)store_weight(x->store, v->name, &v->type, e);
            if (!x->at[i]) return false;
        }
    }
    for (uint32_t i = 0; i < p->n_output; i++)
        table_put(x->arena, &x->outputs, p->output[i].name, p->output[i].value);
    return bind_constants(x, e);
}

static Sig sig_of(Arena *a, const Plan *p, const PlanStep *t) {
    Type *in = NEW(a, Type, t->n_in + 1), *out = NEW(a, Type, t->n_out + 1);
    for (int i = 0; i < t->n_in; i++) {
        in[i].rank = -1;
        if (t->in[i] != UINT32_MAX) in[i] = p->value[t->in[i]].type;
    }
    for (int o = 0; o < t->n_out; o++) out[o] = p->value[t->out[o]].type;
    return (Sig){t->op, t->attrs, in, t->n_in, out, t->n_out};
}

static bool bind_step(Exec *x, uint32_t k, Err *e) {
    const PlanStep *t = &x->plan->step[k];
    Sig *s = &x->sig[k];
    Call *c = &x->call[k];
    *s = sig_of(x->arena, x->plan, t);
    Tensor *in = NEW(x->arena, Tensor, t->n_in + 1),
           *out = NEW(x->arena, Tensor, t->n_out + 1);
    for (int i = 0; i < t->n_in; i++) in[i].type = &s->in[i];
    for (int o = 0; o < t->n_out; o++) out[o].type = &s->out[o];
    *c = (Call){in, out, t->n_in, t->n_out, t->attrs, NULL, NULL, x->store->dev};
    return !t->kernel->prepare || t->kernel->prepare(x->arena, s, &c->prep, e);
}

/* Runs the plan that computes starts and copies its outputs into their tensors. */
static bool run_starts(Exec *x, Err *e) {
    Exec *init = exec_open(x->store, x->plan->init, e);
    if (!init) return false;
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)x->store->seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(x->store->seed >> 32);
    bool ok = !exec_type(init, "rng") || exec_write(init, "rng", rng, sizeof rng, e);
    if (ok) exec_run(init);
    for (uint32_t i = 0; ok && i < init->plan->n_output; i++) {
        const Output *o = &init->plan->output[i];
        uint32_t v;
        if (table_get(&x->names, o->name, &v))
            ok = device_copy(x->store->dev, x->at[v], init->at[o->value],
                             x->plan->value[v].bytes, e);
    }
    exec_close(init);
    return ok;
}

static bool bind(Exec *x, Err *e) {
    const Plan *p = x->plan;
    Device *d = x->store->dev;
    bool starts;
    if (p->n_step && plan_is_cuda(p) != device_is_cuda(d))
        return err_fail(e, "the plan '%s' was compiled for another device than '%s'",
                        p->name, d->name);
    if (!room_open(d, &x->input, p->size[MEM_INPUT], "inputs", e) ||
        !room_open(d, &x->constant, p->size[MEM_CONST], "constants", e) ||
        !store_reserve(x->store, p->size[MEM_ACT], p->size[MEM_WORK], e) ||
        !bind_values(x, &starts, e))
        return false;
    for (uint32_t k = 0; k < p->n_step; k++)
        if (!bind_step(x, k, e)) return false;
    exec_rebind(x);
    store_add_exec(x->store, x);
    return !starts || !p->init || run_starts(x, e);
}

Exec *exec_open(Store *s, const Plan *p, Err *e) {
    Arena *a = arena_new();
    Exec *x = NEW(a, Exec, 1);
    x->arena = a;
    x->store = s;
    x->plan = p;
    x->at = NEW(a, void *, p->n_value + 1);
    x->sig = NEW(a, Sig, p->n_step + 1);
    x->call = NEW(a, Call, p->n_step + 1);
    if (bind(x, e)) return x;
    exec_close(x);
    return NULL;
}

void exec_close(Exec *x) {
    if (!x) return;
    store_remove_exec(x->store, x);
    forget(x);
    room_close(x->store->dev, &x->input);
    room_close(x->store->dev, &x->constant);
    arena_free(x->arena);
}

/* ---- values by name ---- */

const Plan *exec_plan(const Exec *x) {
    return x->plan;
}

static bool find(const Exec *x, const char *name, uint32_t *v) {
    return table_get(&x->names, name, v) || table_get(&x->outputs, name, v);
}

const Type *exec_type(const Exec *x, const char *name) {
    uint32_t v;
    return find(x, name, &v) ? &x->plan->value[v].type : NULL;
}

static bool check(const Exec *x, const char *name, size_t n_bytes, uint32_t *v,
                  Err *e) {
    if (!find(x, name, v)) return err_fail(e, "the plan has no value '%s'", name);
    uint64_t want = x->plan->value[*v].bytes;
    return n_bytes == want || err_fail(e, "'%s': got %zu bytes, want %llu", name,
                                       n_bytes, (unsigned long long)want);
}

bool exec_write(Exec *x, const char *name, const void *data, size_t n_bytes, Err *e) {
    uint32_t v;
    if (!check(x, name, n_bytes, &v, e)) return false;
    const PlanValue *y = &x->plan->value[v];
    if (y->role != ROLE_INPUT && y->role != ROLE_SCALAR && y->role != ROLE_TRAIN &&
        y->role != ROLE_STATE)
        return err_fail(e, "'%s' cannot be written", name);
    return device_write(x->store->dev, x->at[v], data, n_bytes, e);
}

bool exec_read(Exec *x, const char *name, void *data, size_t n_bytes, Err *e) {
    uint32_t v;
    if (!check(x, name, n_bytes, &v, e)) return false;
    if (!x->at[v]) return err_fail(e, "'%s' is only there in a kernel's form", name);
    return device_read(x->store->dev, data, x->at[v], n_bytes, e);
}

static bool check_floats(const Exec *x, const char *name, int64_t n, const Type **t,
                         Err *e) {
    *t = exec_type(x, name);
    if (!*t) return err_fail(e, "the plan has no value '%s'", name);
    return (dtype_is_float((*t)->dtype) && type_count(*t) == n) ||
           err_fail(e, "'%s': got %lld floats, want %s", name, (long long)n,
                    type_text(x->arena, *t));
}

bool exec_write_f32(Exec *x, const char *name, const float *data, int64_t n, Err *e) {
    const Type *t;
    if (!check_floats(x, name, n, &t, e)) return false;
    if (t->dtype == F32) return exec_write(x, name, data, type_bytes(t), e);
    Arena *a = arena_new();
    void *own = arena_alloc(a, 1, type_bytes(t));
    convert(own, t->dtype, data, F32, n);
    bool ok = exec_write(x, name, own, type_bytes(t), e);
    arena_free(a);
    return ok;
}

bool exec_read_f32(Exec *x, const char *name, float *data, int64_t n, Err *e) {
    const Type *t;
    if (!check_floats(x, name, n, &t, e)) return false;
    if (t->dtype == F32) return exec_read(x, name, data, type_bytes(t), e);
    Arena *a = arena_new();
    void *own = arena_alloc(a, 1, type_bytes(t));
    bool ok = exec_read(x, name, own, type_bytes(t), e);
    if (ok) convert(data, F32, own, t->dtype, n);
    arena_free(a);
    return ok;
}

/* ---- replay ---- */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A failure of a device is told by the next call that can tell. */
static void poison(const Exec *x, void *at, uint64_t bytes) {
    Err later = {0};
    device_fill(x->store->dev, at, 0xff, bytes, &later); /* NaN in every float type */
}

static void poison_arenas(const Exec *x) {
    poison(x, x->store->act.data, x->store->act.bytes);
    poison(x, x->store->work.data, x->store->work.bytes);
}

static void wait_for(Device *d) {
    Err later = {0};
    if (d->ops) d->ops->wait(d, &later);
}

static void run_step(const Exec *x, uint32_t k) {
    Device *d = x->store->dev;
    if (d->ops) d->ops->at(d, &x->plan->step[k]);
    x->plan->step[k].kernel->run(&x->call[k]);
    if (d->ops) d->ops->at(d, NULL);
}

/* With times, on any device: each step is waited for. */
static void run_steps(Exec *x) {
    const Plan *p = x->plan;
    if (x->poison) poison_arenas(x);
    for (uint32_t k = 0; k < p->n_step; k++) {
        uint64_t start = x->profile ? now() : 0;
        run_step(x, k);
        if (x->profile) wait_for(x->store->dev);
        if (x->profile) x->times[k] = now() - start;
        if (!x->poison) continue;
        poison(x, x->store->work.data, x->store->work.bytes);
        for (uint32_t i = 0; i < x->dying[k].n; i++) {
            const uint32_t v = x->dying[k].value[i];
            poison(x, x->at[v], p->value[v].bytes);
        }
    }
}

static void run_captured(Exec *x) {
    Device *d = x->store->dev;
    Err later = {0};
    if (!x->ran) {
        run_steps(x);
        x->ran = true;
        return;
    }
    if (!x->graph) {
        if (!d->ops->capture(d, &later)) return;
        run_steps(x);
        if (!d->ops->captured(d, &x->graph, &later)) return;
    }
    d->ops->replay(d, x->graph);
}

void exec_run(Exec *x) {
    if (x->store->dev->ops && !x->poison && !x->profile)
        run_captured(x);
    else
        run_steps(x);
}

/* ---- not a number ---- */

#define ALL_FINITE(T, of)                                                              \
    do {                                                                               \
        const T *q = data;                                                             \
        for (int64_t i = 0; i < n; i++)                                                \
            if (!isfinite(of(q[i]))) return false;                                     \
        return true;                                                                   \
    } while (0)

static bool all_finite(const void *data, const Type *t) {
    int64_t n = type_count(t);
    switch (t->dtype) {
    case F64:
        ALL_FINITE(double, );
    case F32:
        ALL_FINITE(float, );
    case F16:
        ALL_FINITE(uint16_t, half_to_float);
    case BF16:
        ALL_FINITE(uint16_t, bf16_to_float);
    default:
        return true;
    }
}

/* A device's numbers are read first; ones that cannot be read are none that are looked for. */
static bool tensor_finite(Device *d, const Tensor *t) {
    if (!t->data) return true;
    if (!d->ops) return all_finite(t->data, t->type);
    Arena *a = arena_new();
    const size_t bytes = type_bytes(t->type);
    void *copy = arena_alloc(a, 1, bytes);
    Err later = {0};
    bool finite =
        !device_read(d, copy, t->data, bytes, &later) || all_finite(copy, t->type);
    arena_free(a);
    return finite;
}

static bool tensors_finite(Device *d, const Tensor *t, int n) {
    for (int i = 0; i < n; i++)
        if (!tensor_finite(d, &t[i])) return false;
    return true;
}

/* Weights do not count: the op that reads a broken one is the first with a bad result. */
static bool made_of_finite(const Plan *p, uint32_t k, const Call *c) {
    for (int i = 0; i < c->n_in; i++) {
        uint32_t v = p->step[k].in[i];
        if (v == UINT32_MAX) continue;
        Mem mem = p->value[v].mem;
        if (mem != MEM_WEIGHT && mem != MEM_STATE && !tensor_finite(c->dev, &c->in[i]))
            return false;
    }
    return true;
}

const PlanStep *exec_trace_nan(Exec *x) {
    const Plan *p = x->plan;
    for (uint32_t k = 0; k < p->n_step; k++) {
        const Call *c = &x->call[k];
        bool clean = made_of_finite(p, k, c);
        run_step(x, k);
        if (clean && !tensors_finite(c->dev, c->out, c->n_out)) return &p->step[k];
    }
    return NULL;
}

/* ---- measuring and testing ---- */

void exec_profile(Exec *x, bool on) {
    if (on && !x->times) x->times = NEW(x->arena, uint64_t, x->plan->n_step + 1);
    x->profile = on;
}

const uint64_t *exec_times(const Exec *x) {
    return x->times;
}

/* Does a value written at step k stand where `v` stood? Then it is no longer v's memory. */
static bool taken(const Plan *p, uint32_t v, uint32_t k) {
    const PlanStep *t = &p->step[k];
    for (int o = 0; o < t->n_out; o++) {
        const PlanValue *y = &p->value[p->value[t->out[o]].base];
        if (y->mem == MEM_ACT && y != &p->value[v] &&
            y->offset < p->value[v].offset + p->value[v].bytes &&
            p->value[v].offset < y->offset + y->bytes)
            return true;
    }
    return false;
}

void exec_poison(Exec *x, bool on) {
    const Plan *p = x->plan;
    x->poison = on;
    if (!on || x->dying) return;
    x->dying = NEW(x->arena, Dying, p->n_step + 1);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || v->mem != MEM_ACT || v->last >= p->n_step ||
            taken(p, i, v->last))
            continue;
        Dying *d = &x->dying[v->last];
        PUSH(x->arena, d->value, d->n, d->cap, i);
    }
}
