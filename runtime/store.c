/* Persistent tensors and weights, by name. Starting values are a function of the seed and
 * the tensor's name alone, so they do not depend on the order of plans or tensors. */
#include "runtime/store.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"

/* ---- names ---- */

static uint32_t slot_of(const NameTable *t, const char *name) {
    uint32_t mask = t->cap - 1, i = rng_stream(name, "") & mask;
    while (t->name[i] && strcmp(t->name[i], name)) i = (i + 1) & mask;
    return i;
}

void table_put(Arena *a, NameTable *t, const char *name, uint32_t index) {
    if (2 * (t->n + 1) > t->cap) {
        NameTable old = *t;
        t->cap = old.cap ? 2 * old.cap : 64;
        t->name = NEW(a, const char *, t->cap);
        t->index = NEW(a, uint32_t, t->cap);
        for (uint32_t i = 0; i < old.cap; i++) {
            if (!old.name[i]) continue;
            uint32_t slot = slot_of(t, old.name[i]);
            t->name[slot] = old.name[i];
            t->index[slot] = old.index[i];
        }
    }
    uint32_t slot = slot_of(t, name);
    if (!t->name[slot]) t->n++;
    t->name[slot] = name;
    t->index[slot] = index;
}

bool table_get(const NameTable *t, const char *name, uint32_t *index) {
    if (!t->cap) return false;
    uint32_t slot = slot_of(t, name);
    if (!t->name[slot]) return false;
    *index = t->index[slot];
    return true;
}

/* ---- memory ---- */

static void *block(Store *s, size_t bytes, const char *name, Err *e) {
    size_t room = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, room ? room : 64);
    if (!p) {
        err_fail(e, "no memory for '%s' (%.1f MiB)", name, (double)bytes / 1048576);
        return NULL;
    }
    PUSH(s->arena, s->block, s->n_block, s->cap_block, p);
    return p;
}

/* ---- starting values ---- */

/* Four standard normal numbers from four words (Box and Muller, 1958). */
static void normal4(const uint32_t w[4], double out[4]) {
    for (int i = 0; i < 4; i += 2) {
        double u = ((double)(w[i] >> 8) + 0.5) * 0x1p-24, v = rng_uniform(w[i + 1]);
        double r = sqrt(-2 * log(u)), angle = 2 * 3.14159265358979323846 * v;
        out[i] = r * cos(angle);
        out[i + 1] = r * sin(angle);
    }
}

/* Elements 4 * block ... of a drawn tensor. */
static void draw4(const Init *init, double bound, const int32_t *rng, uint32_t stream,
                  uint32_t at, double out[4]) {
    uint32_t w[4];
    rng_block(rng, stream, 0, at, w);
    if (init->kind == INIT_NORMAL) normal4(w, out);
    for (int i = 0; i < 4; i++)
        out[i] = init->kind == INIT_NORMAL
                     ? init->number * out[i]
                     : bound * (2 * (double)rng_uniform(w[i]) - 1);
}

/* torch.nn.init.kaiming_uniform_(a=sqrt(5)): the bound is 1/sqrt(fan_in). */
static double bound_of(const Init *init, const Type *t) {
    if (init->kind != INIT_KAIMING_UNIFORM) return init->number;
    double fan_in = 1;
    for (int i = 1; i < t->rank; i++) fan_in *= (double)t->dim[i];
    return 1 / sqrt(fan_in);
}

static void initialise(const Store *s, const char *name, const Init *init,
                       const Type *t, char *data) {
    int64_t n = type_count(t);
    size_t size = dtype_size(t->dtype);
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)s->seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(s->seed >> 32);
    uint32_t stream = rng_stream(name, "init");
    double same = init->kind == INIT_ONES       ? 1
                  : init->kind == INIT_CONSTANT ? init->number
                                                : 0;
    bool drawn = init->kind == INIT_UNIFORM || init->kind == INIT_NORMAL ||
                 init->kind == INIT_KAIMING_UNIFORM;
    double x[4] = {same, same, same, same}, bound = bound_of(init, t);
    for (int64_t i = 0; i < n; i += 4) {
        if (drawn) draw4(init, bound, rng, stream, (uint32_t)(i / 4), x);
        convert(data + (size_t)i * size, t->dtype, x, F64, n - i < 4 ? n - i : 4);
    }
}

/* ---- tensors ---- */

/* A tensor without an init: a network's weight that is trained, or zeros. */
static void from_weight(const Store *s, const char *name, const Type *t, void *data) {
    Tensor w;
    memset(data, 0, type_bytes(t));
    bool found = s->source.find && s->source.find(s->source.ctx, name, &w);
    if (found && type_same_shape(w.type, t))
        convert(data, t->dtype, w.data, w.type->dtype, type_count(t));
}

void *store_tensor(Store *s, const PlanValue *v, bool *fresh, Err *e) {
    uint32_t i;
    *fresh = false;
    if (table_get(&s->kept_names, v->name, &i)) {
        if (type_equal(&s->kept[i].type, &v->type)) return s->kept[i].data;
        err_fail(e, "'%s': got %s, the run so far has %s", v->name,
                 type_text(s->arena, &v->type), type_text(s->arena, &s->kept[i].type));
        return NULL;
    }
    if (s->restored) {
        err_fail(e, "the saved state has no tensor '%s'", v->name);
        return NULL;
    }
    Kept k = {arena_strdup(s->arena, v->name), v->type, block(s, v->bytes, v->name, e)};
    if (!k.data) return NULL;
    if (v->param && v->param->init.kind != INIT_NONE)
        initialise(s, k.name, &v->param->init, &k.type, k.data);
    else
        from_weight(s, k.name, &k.type, k.data);
    table_put(s->arena, &s->kept_names, k.name, s->n_kept);
    PUSH(s->arena, s->kept, s->n_kept, s->cap_kept, k);
    *fresh = true;
    return k.data;
}

bool store_restore(Store *s, const char *name, const Type *type, const void *data,
                   Err *e) {
    size_t bytes = type_bytes(type);
    Kept k = {arena_strdup(s->arena, name), *type, block(s, bytes, name, e)};
    if (!k.data) return false;
    memcpy(k.data, data, bytes);
    table_put(s->arena, &s->kept_names, k.name, s->n_kept);
    PUSH(s->arena, s->kept, s->n_kept, s->cap_kept, k);
    s->restored = true;
    return true;
}

/* The file's tensor; a plan may want f32 as halves: a cast that was folded into it. */
static bool find_weight(Store *s, const char *name, const Type *type, Tensor *t,
                        Err *e) {
    if (!s->source.find || !s->source.find(s->source.ctx, name, t))
        return err_fail(e, "weight '%s' is missing", name);
    bool folded = t->type->dtype == F32 && dtype_is_half(type->dtype);
    if (type_same_shape(t->type, type) && (folded || t->type->dtype == type->dtype))
        return true;
    return err_fail(e, "weight '%s': got %s, want %s", name,
                    type_text(s->arena, t->type), type_text(s->arena, type));
}

static bool usable(const Tensor *t, const Type *type) {
    return t->type->dtype == type->dtype &&
           (uintptr_t)t->data % dtype_size(type->dtype) == 0;
}

const void *store_weight(Store *s, const char *name, const Type *type, Err *e) {
    uint32_t i;
    char *key = arena_printf(s->arena, "%s %s", name, dtype_name(type->dtype));
    if (table_get(&s->copied_names, key, &i)) return s->copied[i].data;
    Tensor t;
    if (!find_weight(s, name, type, &t, e)) return NULL;
    if (usable(&t, type)) return t.data;
    Kept k = {key, *type, block(s, type_bytes(type), name, e)};
    if (!k.data) return NULL;
    convert(k.data, type->dtype, t.data, t.type->dtype, type_count(type));
    table_put(s->arena, &s->copied_names, k.name, s->n_copied);
    PUSH(s->arena, s->copied, s->n_copied, s->cap_copied, k);
    return k.data;
}

/* ---- shared arenas ---- */

bool store_reserve(Store *s, uint64_t act, uint64_t work, Err *e) {
    bool grows =
        act > s->act.bytes || work > s->work.bytes || !s->act.map || !s->work.map;
    if (!grows) return true;
    Guard new_act, new_work;
    uint64_t most_act = act > s->act.bytes ? act : s->act.bytes;
    uint64_t most_work = work > s->work.bytes ? work : s->work.bytes;
    guard_close(&s->act); /* first: both together may not fit */
    guard_close(&s->work);
    if (!guard_open(&new_act, most_act, "activations", e)) return false;
    if (!guard_open(&new_work, most_work, "workspace", e)) {
        guard_close(&new_act);
        return false;
    }
    s->act = new_act;
    s->work = new_work;
    for (uint32_t i = 0; i < s->n_exec; i++) exec_rebind(s->exec[i]);
    return true;
}

void store_add_exec(Store *s, Exec *x) {
    PUSH(s->arena, s->exec, s->n_exec, s->cap_exec, x);
}

void store_remove_exec(Store *s, Exec *x) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_exec; i++)
        if (s->exec[i] != x) s->exec[kept++] = s->exec[i];
    s->n_exec = kept;
}

Store *store_open(Device *dev, const WeightSource *w, uint64_t seed) {
    Arena *a = arena_new();
    Store *s = NEW(a, Store, 1);
    s->arena = a;
    s->dev = dev;
    if (w) s->source = *w;
    s->seed = seed;
    return s;
}

void store_close(Store *s) {
    if (!s) return;
    for (uint32_t i = 0; i < s->n_block; i++) free(s->block[i]);
    guard_close(&s->act);
    guard_close(&s->work);
    arena_free(s->arena);
}
