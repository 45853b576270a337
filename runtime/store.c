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

enum { ALIGN = 64, SLAB_LEAST = 1 << 20 };
static uint64_t whole(uint64_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* From the kind's block, or a new one that has room for all that is expected. */
static void *block_of_device(Store *s, SlabKind kind, uint64_t bytes, Err *e) {
    static const char *const what[] = {"trained tensors and their states", "weights"};
    Slab *b = &s->slab[kind];
    if (bytes > b->left) {
        void *p;
        uint64_t all = b->coming > bytes ? b->coming : bytes;
        if (all < SLAB_LEAST) all = SLAB_LEAST;
        if (!s->dev->ops->alloc(s->dev, all, what[kind], &p, e)) return NULL;
        PUSH(s->arena, s->block, s->n_block, s->cap_block, p);
        b->at = p, b->left = all;
    }
    void *p = b->at;
    b->at += bytes, b->left -= bytes;
    b->coming -= bytes < b->coming ? bytes : b->coming;
    return p;
}

static void *block(Store *s, SlabKind kind, size_t bytes, const char *name, Err *e) {
    const uint64_t room = bytes ? whole(bytes) : ALIGN;
    if (s->dev->ops) return block_of_device(s, kind, room, e);
    void *p = aligned_alloc(ALIGN, room);
    if (!p) {
        err_fail(e, "no memory for '%s' (%.1f MiB)", name, (double)bytes / 1048576);
        return NULL;
    }
    PUSH(s->arena, s->block, s->n_block, s->cap_block, p);
    return p;
}

uint64_t store_needs(const Store *s, const PlanValue *v) {
    uint32_t i;
    const bool weight = v->mem == MEM_WEIGHT;
    char key[512];
    snprintf(key, sizeof key, "%s %s", v->name, dtype_name(v->type.dtype));
    const bool there = weight ? table_get(&s->copied_names, key, &i)
                              : table_get(&s->kept_names, v->name, &i);
    return there ? 0 : v->bytes ? whole(v->bytes) : ALIGN;
}

void store_expect(Store *s, SlabKind kind, uint64_t bytes) {
    s->slab[kind].coming = bytes;
}

/* Where the host fills a new tensor: in place, or in t for send() to bring it there. */
static void *filling(const Store *s, Arena *t, void *data, size_t bytes) {
    return s->dev->ops ? arena_alloc(t, 1, bytes) : data;
}
static bool send(Store *s, void *data, const void *from, size_t bytes, Err *e) {
    return data == from || device_write(s->dev, data, from, bytes, e);
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
    Kept k = {arena_strdup(s->arena, v->name), v->type,
              block(s, SLAB_STATE, v->bytes, v->name, e)};
    if (!k.data) return NULL;
    Arena *a = arena_new();
    void *at = filling(s, a, k.data, v->bytes);
    if (v->param && v->param->init.kind != INIT_NONE)
        initialise(s, k.name, &v->param->init, &k.type, at);
    else
        from_weight(s, k.name, &k.type, at);
    bool ok = send(s, k.data, at, v->bytes, e);
    arena_free(a);
    if (!ok) return NULL;
    table_put(s->arena, &s->kept_names, k.name, s->n_kept);
    PUSH(s->arena, s->kept, s->n_kept, s->cap_kept, k);
    *fresh = true;
    return k.data;
}

bool store_restore(Store *s, const char *name, const Type *type, const void *data,
                   Err *e) {
    size_t bytes = type_bytes(type);
    Kept k = {arena_strdup(s->arena, name), *type,
              block(s, SLAB_STATE, bytes, name, e)};
    if (!k.data || !device_write(s->dev, k.data, data, bytes, e)) return false;
    table_put(s->arena, &s->kept_names, k.name, s->n_kept);
    PUSH(s->arena, s->kept, s->n_kept, s->cap_kept, k);
    s->restored = true;
    return true;
}

const void *store_bytes(const Store *s, const Kept *k, Arena *a, Err *e) {
    if (!s->dev->ops) return k->data;
    const size_t bytes = type_bytes(&k->type);
    void *copy = arena_alloc(a, 1, bytes);
    return device_read(s->dev, copy, k->data, bytes, e) ? copy : NULL;
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
    if (usable(&t, type) && !s->dev->ops) return t.data;
    const size_t bytes = type_bytes(type);
    Kept k = {key, *type, block(s, SLAB_WEIGHT, bytes, name, e)};
    if (!k.data) return NULL;
    Arena *a = arena_new();
    const void *from = t.data;
    if (!usable(&t, type)) {
        void *at = filling(s, a, k.data, bytes);
        convert(at, type->dtype, t.data, t.type->dtype, type_count(type));
        from = at;
    }
    bool ok = send(s, k.data, from, bytes, e);
    arena_free(a);
    if (!ok) return NULL;
    table_put(s->arena, &s->copied_names, k.name, s->n_copied);
    PUSH(s->arena, s->copied, s->n_copied, s->cap_copied, k);
    return k.data;
}

/* ---- shared arenas ---- */

bool store_reserve(Store *s, uint64_t act, uint64_t work, Err *e) {
    bool grows =
        act > s->act.bytes || work > s->work.bytes || !s->act.data || !s->work.data;
    if (!grows) return true;
    const uint64_t most_act = act > s->act.bytes ? act : s->act.bytes;
    const uint64_t most_work = work > s->work.bytes ? work : s->work.bytes;
    room_close(s->dev, &s->act); /* first: both together may not fit */
    room_close(s->dev, &s->work);
    if (!room_open(s->dev, &s->act, most_act, "activations", e)) {
        err_note(e,
                 "note: --gradient_checkpointing, --memory_budget or a smaller batch "
                 "makes activations fewer");
        return false;
    }
    if (!room_open(s->dev, &s->work, most_work, "workspace", e)) {
        room_close(s->dev, &s->act);
        return false;
    }
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
    for (uint32_t i = 0; i < s->n_block; i++)
        if (s->dev->ops)
            s->dev->ops->release(s->dev, s->block[i]);
        else
            free(s->block[i]);
    room_close(s->dev, &s->act);
    room_close(s->dev, &s->work);
    arena_free(s->arena);
}
