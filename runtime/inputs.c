/* Replayed micro-batches and recorded results. */
#include "runtime/inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/data.h"
#include "runtime/layout.h"

typedef struct Micro { /* all channels last */
    Shape shape;
    float *latent, *noise, *loss_weight;
    int32_t *timestep, *ids;
    Draw *draw;
    int n_draw;
} Micro;

struct Inputs {
    TensorFile *file;
    Arena *arena;
    Micro *micro;
    int64_t n, next;
};

/* ---- reading ---- */
static bool wrong_type(const Inputs *in, const char *name, const Type *got,
                       const char *want, Err *e) {
    return err_usage(e, "%s: '%s' is %s, want %s", in->file->path, name,
                     type_text(in->arena, got), want);
}

static const TensorEntry *field(const Inputs *in, int64_t i, const char *what,
                                DType dtype, int rank, const char *want, Err *e) {
    const char *name = arena_printf(in->arena, "m%lld.%s", (long long)i, what);
    const TensorEntry *t = tensors_find(in->file, name);
    if (!t) {
        err_usage(e, "%s: '%s' is missing", in->file->path, name);
        return NULL;
    }
    if (t->type.dtype != dtype || t->type.rank != rank) {
        wrong_type(in, name, &t->type, want, e);
        return NULL;
    }
    return t;
}

static void *copied(Arena *a, const TensorEntry *t) {
    return memcpy(arena_alloc(a, 1, type_bytes(&t->type)), t->data,
                  type_bytes(&t->type));
}

static float *channels_last(Arena *a, const TensorEntry *t) {
    float *raw = copied(a, t), *out = NEW(a, float, type_count(&t->type));
    const int64_t *d = t->type.dim;
    nchw_to_nhwc(out, raw, d[0], d[1], d[2] * d[3]);
    return out;
}

static bool read_micro(Inputs *in, int64_t i, Micro *m, Err *e) {
    const TensorEntry *x = field(in, i, "latents", F32, 4, "F32 [B,4,h,w]", e);
    const TensorEntry *n = x ? field(in, i, "noise", F32, 4, "F32 [B,4,h,w]", e) : NULL;
    const TensorEntry *t = n ? field(in, i, "timesteps", I32, 1, "I32 [B]", e) : NULL;
    const TensorEntry *k =
        t ? field(in, i, "input_ids", I32, 3, "I32 [B,n,77]", e) : NULL;
    const TensorEntry *w =
        k ? field(in, i, "loss_weights", F32, 1, "F32 [B]", e) : NULL;
    if (!w) return false;
    const int64_t *d = x->type.dim;
    for (int r = 0; r < 4; r++)
        if (d[r] < 1 || d[r] > 1 << 14)
            return wrong_type(in, x->name, &x->type, "F32 [B,4,h,w]", e);
    if (d[1] != 4) return wrong_type(in, x->name, &x->type, "F32 [B,4,h,w]", e);
    if (!type_equal(&x->type, &n->type))
        return wrong_type(in, n->name, &n->type, "the shape of the latents", e);
    if (t->type.dim[0] != d[0])
        return wrong_type(in, t->name, &t->type, "one per sample", e);
    if (w->type.dim[0] != d[0])
        return wrong_type(in, w->name, &w->type, "one per sample", e);
    const int64_t *q = k->type.dim;
    if (q[0] != d[0] || q[1] < 1 || q[1] > 64 || q[2] != TOKEN_ROW)
        return wrong_type(in, k->name, &k->type, "I32 [B,n,77]", e);
    m->shape = (Shape){(int)d[0], (int)d[2], (int)d[3], (int)q[1]};
    m->latent = channels_last(in->arena, x);
    m->noise = channels_last(in->arena, n);
    m->timestep = copied(in->arena, t);
    m->ids = copied(in->arena, k);
    m->loss_weight = copied(in->arena, w);
    for (int64_t b = 0; b < d[0]; b++)
        if (m->timestep[b] < 0 || m->timestep[b] > 999)
            return err_usage(e, "%s: '%s' holds %d, want 0 … 999", in->file->path,
                             t->name, m->timestep[b]);
    return true;
}

/* ---- ranks ---- */
static bool is_rank(const char *name) {
    size_t digits = strspn(name + (name[0] == 'm'), "0123456789");
    return name[0] == 'm' && digits && !strncmp(name + 1 + digits, ".rank.", 6);
}

bool inputs_have_ranks(const Inputs *in) {
    for (int i = 0; i < in->file->n; i++)
        if (is_rank(in->file->entry[i].name)) return true;
    return false;
}

/* The unit that learns, from its first row. NULL args: the module draws nothing. */
static bool read_rank(Inputs *in, int64_t i, const Module *m, Micro *micro, Err *e) {
    const Val *unit = args_get(m->args, "unit"), *rank = args_get(m->args, "rank");
    if (!unit || !rank || unit->kind != VAL_INT || rank->kind != VAL_INT) return true;
    const char *what = arena_printf(in->arena, "rank.%s", m->name);
    const TensorEntry *t = field(in, i, what, I32, 1, "I32 [1]", e);
    if (!t) return false;
    if (type_count(&t->type) != 1)
        return wrong_type(in, t->name, &t->type, "I32 [1]", e);
    int32_t first = *(int32_t *)copied(in->arena, t);
    if (first < 0 || first >= rank->i || first % unit->i)
        return err_usage(e, "%s: '%s' is %d, want a multiple of %lld below %lld",
                         in->file->path, t->name, first, (long long)unit->i,
                         (long long)rank->i);
    micro->draw[micro->n_draw++] =
        (Draw){arena_printf(in->arena, "%s.k", m->root), first / (int32_t)unit->i};
    return true;
}

static bool read_ranks(Inputs *in, const Modules *m, Err *e) {
    for (int64_t i = 0; i < in->n; i++) {
        in->micro[i].draw = NEW(in->arena, Draw, m->n + 1);
        for (int k = 0; k < m->n; k++)
            if (!read_rank(in, i, &m->item[k], &in->micro[i], e)) return false;
    }
    return true;
}

static bool is_drawn(const Inputs *in, int64_t i, const char *name) {
    for (int k = 0; k < in->micro[i].n_draw; k++) {
        const char *drawn = in->micro[i].draw[k].name;
        size_t n = strlen(drawn) - 2; /* without ".k" */
        if (strlen(name) == n && !memcmp(name, drawn, n)) return true;
    }
    return false;
}

static bool is_known(const Inputs *in, const char *name, const LoraTensors *lora) {
    static const char *const known[] = {"latents", "noise", "timesteps", "input_ids",
                                        "loss_weights"};
    if (!strncmp(name, "w0.", 3)) return lora_tensor_find(lora, name + 3) != NULL;
    char *end;
    if (name[0] != 'm') return false;
    long long i = strtoll(name + 1, &end, 10);
    if (end == name + 1 || *end != '.' || i < 0 || i >= in->n) return false;
    if (!strncmp(end + 1, "rank.", 5)) return is_drawn(in, i, end + 6);
    for (size_t k = 0; k < COUNT(known); k++)
        if (!strcmp(end + 1, known[k])) return true;
    return false;
}

Inputs *inputs_open(Arena *a, const char *path, int64_t micro, Err *e) {
    Inputs *in = NEW(a, Inputs, 1);
    in->arena = a;
    in->file = safetensors_open(path, e);
    if (!in->file) return NULL;
    /* no more are read than the file can have */
    in->n = micro;
    in->micro = NEW(a, Micro, micro < in->file->n ? micro : in->file->n + 1);
    for (int64_t i = 0; i < micro; i++) {
        if (read_micro(in, i, &in->micro[i], e)) continue;
        inputs_close(in);
        return NULL;
    }
    return in;
}

bool inputs_check(Inputs *in, const Modules *m, const LoraTensors *lora, Err *e) {
    if (inputs_have_ranks(in) && !read_ranks(in, m, e)) return false;
    for (int i = 0; i < in->file->n; i++)
        if (!is_known(in, in->file->entry[i].name, lora))
            return err_usage(
                e, "%s: unknown key '%s' (%lld micro-batches, %d LoRA tensors)",
                in->file->path, in->file->entry[i].name, (long long)in->n, lora->n);
    return true;
}

void inputs_close(Inputs *in) {
    if (in) tensors_close(in->file);
}

Shape inputs_shape(const Inputs *in, int64_t micro) {
    return in->micro[micro].shape;
}

static bool next(void *ctx, MicroBatch *out, Err *e) {
    Inputs *in = ctx;
    if (in->next >= in->n)
        return err_usage(e, "%s: no further micro-batch", in->file->path);
    const Micro *m = &in->micro[in->next++];
    *out = (MicroBatch){.shape = m->shape,
                        .latent = m->latent,
                        .ids = m->ids,
                        .loss_weight = m->loss_weight,
                        .noise = m->noise,
                        .timestep = m->timestep,
                        .draw = m->draw,
                        .n_draw = m->n_draw,
                        .epoch = 1,
                        .last_of_epoch = in->next == in->n};
    return true;
}

static bool seek(void *ctx, int64_t micro, Err *e) {
    Inputs *in = ctx;
    if (micro > in->n)
        return err_usage(e, "%s: no micro-batch %lld", in->file->path,
                         (long long)micro);
    in->next = micro;
    return true;
}

Feed inputs_feed(Inputs *in) {
    return (Feed){in, next, seek};
}

static bool start_one(const Inputs *in, Exec *x, const LoraTensor *l,
                      const TensorEntry *t, Err *e) {
    int64_t n = type_count(&t->type);
    if (n != type_count(&l->type) || !dtype_is_float(t->type.dtype))
        return wrong_type(in, t->name, &t->type, type_text(in->arena, &l->type), e);
    float *f = NEW(in->arena, float, n);
    convert(f, F32, copied(in->arena, t), t->type.dtype, n);
    if (l->value) return exec_write_f32(x, l->value, f, n, e);
    if (f[0] == (float)l->number) return true;
    return err_usage(e, "%s: '%s' is %g, the options say %g", in->file->path, t->name,
                     f[0], l->number);
}

bool inputs_start(const Inputs *in, Exec *x, const LoraTensors *lora, Err *e) {
    bool any = false;
    for (int i = 0; i < in->file->n; i++)
        any |= !strncmp(in->file->entry[i].name, "w0.", 3);
    for (int i = 0; any && i < lora->n; i++) {
        const LoraTensor *l = &lora->item[i];
        const TensorEntry *t =
            tensors_find(in->file, arena_printf(in->arena, "w0.%s", l->key));
        if (t && !start_one(in, x, l, t, e)) return false;
        if (!t && l->value)
            return err_usage(e, "%s: 'w0.%s' is missing", in->file->path, l->key);
    }
    return true;
}

/* ---- recording ---- */
struct Record {
    Arena *arena;
    TensorOut *item;
    int n, cap;
};

Record *record_new(Arena *a) {
    Record *r = NEW(a, Record, 1);
    r->arena = a;
    return r;
}

void record_data(Record *r, const char *key, Type type, const void *data) {
    void *copy =
        memcpy(arena_alloc(r->arena, 1, type_bytes(&type)), data, type_bytes(&type));
    TensorOut t = {arena_strdup(r->arena, key), type, copy};
    PUSH(r->arena, r->item, r->n, r->cap, t);
}

static float *read_value(Record *r, Exec *x, const char *value, Type *t, Err *e) {
    const Type *type = exec_type(x, value);
    if (!type || !dtype_is_float(type->dtype)) {
        err_fail(e, "'%s' cannot be recorded: %s", value,
                 type ? "no floating numbers" : "no such value");
        return NULL;
    }
    *t = *type;
    t->dtype = F32;
    float *f = NEW(r->arena, float, type_count(type));
    return exec_read_f32(x, value, f, type_count(type), e) ? f : NULL;
}

bool record_plain(Record *r, Exec *x, const char *value, const char *key, Err *e) {
    Type t;
    float *f = read_value(r, x, value, &t, e);
    if (f) record_data(r, key, t, f);
    return f != NULL;
}

bool record_tensor(Record *r, Exec *x, const char *value, const char *key, Type as,
                   Err *e) {
    Type t;
    float *f = read_value(r, x, value, &t, e);
    if (f) record_data(r, key, as, f);
    return f != NULL;
}

bool record_picture(Record *r, Exec *x, const char *value, const char *key, Err *e) {
    Type t;
    float *f = read_value(r, x, value, &t, e);
    if (!f) return false;
    if (t.rank == 4) {
        float *out = NEW(r->arena, float, type_count(&t));
        nhwc_to_nchw(out, f, t.dim[0], t.dim[3], t.dim[1] * t.dim[2]);
        const int64_t d[4] = {t.dim[0], t.dim[3], t.dim[1], t.dim[2]};
        t = type_of(F32, 4, d);
        f = out;
    }
    record_data(r, key, t, f);
    return true;
}

bool record_write(const Record *r, const char *path, Err *e) {
    return safetensors_write(path, r->item, r->n, NULL, 0, e);
}
