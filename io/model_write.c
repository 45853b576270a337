/* Lists of tensors on their way into a file, and the LDM form of a model (io/names holds
 * the names). */
#include "io/model_write.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char layers[] = "text_encoder.text_model.encoder.layers.";
static const char positions[] =
    "text_encoder.text_model.embeddings.position_embedding.weight";

/* ---- writing ---- */
void stored_add(StoredList *l, const char *key, const TensorEntry *x, int precision) {
    Stored s = {.key = key, .type = x->type, .parts = 1};
    s.part[0] = *x;
    if (precision != STORED_KEEP && dtype_is_float(x->type.dtype))
        s.type.dtype = (DType)precision;
    PUSH(l->arena, l->item, l->n, l->cap, s);
}

/* Largest finite f16 is 65504: larger numbers become infinite. */
static int64_t count_overflow(const uint16_t *half, const void *from, DType dtype,
                              int64_t n) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if ((half[i] & 0x7FFF) != 0x7C00) continue;
        double x;
        convert(&x, F64, (const char *)from + (size_t)i * dtype_size(dtype), dtype, 1);
        count += isfinite(x);
    }
    return count;
}

static void forget(const StoredList *l, const void *p, size_t n) {
    if (l->model) checkpoint_forget(l->model, p, n);
    if (l->file) file_forget(l->file->map, l->file->map_bytes, p, n);
}

/* Where a part's numbers are, from the i-th on; at 0 they may have to be made. */
static bool numbers(StoredList *l, const TensorEntry *p, int64_t i, const char **from,
                    DType *type, Err *e) {
    if (!i) l->now = l->change ? l->change->make(l->change->ctx, p->name, e) : NULL;
    *type = l->now ? F32 : p->type.dtype;
    *from = (l->now ? (const char *)l->now : (const char *)p->data) +
            (size_t)i * dtype_size(*type);
    return !e->set;
}

static bool make(void *ctx, int index, int64_t first, int64_t n, void *buf, Err *e) {
    StoredList *l = ctx;
    const Stored *s = &l->item[index];
    int64_t per_part = type_count(&s->type) / s->parts;
    size_t size = dtype_size(s->type.dtype);
    for (int64_t done = 0, some; done < n; done += some) {
        int64_t i = first + done, k = i / per_part, left = (k + 1) * per_part - i;
        some = n - done < left ? n - done : left;
        const TensorEntry *p = &s->part[k];
        const char *from;
        DType type;
        if (l->folder && folder_stopped(l->folder))
            return err_fail(e, "stopped by a signal");
        if (!numbers(l, p, i - k * per_part, &from, &type, e)) return false;
        char *to = (char *)buf + (size_t)done * size;
        convert(to, s->type.dtype, from, type, some);
        if (s->type.dtype == F16 && type != F16)
            l->overflow += count_overflow((const uint16_t *)to, from, type, some);
        if (!l->now) forget(l, from, (size_t)some * dtype_size(type));
    }
    return true;
}

bool stored_write(const char *path, StoredList *l, const Meta *meta, int n_meta,
                  const TorchTop *top, Err *e) {
    TensorOut *t = NEW(l->arena, TensorOut, l->n + 1);
    for (int i = 0; i < l->n; i++) {
        t[i] = (TensorOut){l->item[i].key, l->item[i].type, NULL};
    }
    TensorFill fill = {l, make};
    return tensors_write_made(path, t, l->n, meta, n_meta, top, &fill, e);
}

/* ---- which family ---- */
static bool config_says(const Checkpoint *c, const char *component, const char *key,
                        const char *want) {
    json_t *root = json_loads(checkpoint_config(c, component), 0, NULL);
    json_t *j = json_object_get(root, key);
    bool yes = want ? json_is_string(j) && !strcmp(json_string_value(j), want)
                    : json_is_true(j);
    json_decref(root);
    return yes;
}

const char *model_family(const Checkpoint *c) {
    Arena *a = arena_new();
    int n = checkpoint_count(c);
    const char **key = NEW(a, const char *, n + 1);
    for (int i = 0; i < n; i++) checkpoint_name(c, i, &key[i]);
    const char *family = names_family(key, n);
    arena_free(a);
    if (!strcmp(family, "sd2") ||
        config_says(c, "unet", "use_linear_projection", NULL) ||
        config_says(c, "text_encoder", "hidden_act", "gelu"))
        return "sd2";
    enum { SD2_WIDTH = 1024 };
    Type t;
    const void *data;
    if (checkpoint_find(c, positions, &t, &data) && t.rank == 2 &&
        t.dim[1] == SD2_WIDTH)
        return "sd2";
    if (checkpoint_find(c, "unet.down_blocks.0.attentions.0.proj_in.weight", &t,
                        &data) &&
        t.rank == 2)
        return "sd2";
    return "sd1";
}

/* ---- the LDM form ---- */
typedef struct Ldm {
    StoredList *out;
    const Checkpoint *c;
    const Names *names;
    int precision;
    Err *e;
} Ldm;

static bool is_one(const Type *t) {
    return t->rank == 4 && t->dim[2] == 1 && t->dim[3] == 1;
}

static void as_matrix(Type *t, bool matrix) {
    if (matrix && is_one(t)) t->rank = 2;
    if (!matrix && t->rank == 2) {
        t->rank = 4;
        t->dim[2] = t->dim[3] = 1;
    }
}

static Stored *find(StoredList *l, const char *key) {
    for (int i = l->n - 1; i >= 0; i--)
        if (!strcmp(l->item[i].key, key)) return &l->item[i];
    return NULL;
}

/* x under the name `name`; parts of a joined tensor come together under its key */
static bool add_ldm(Ldm *m, const char *name, const TensorEntry *x) {
    Arena *a = m->out->arena;
    NameTo to;
    if (!names_to_file(m->names, a, name, &to))
        return err_fail(m->e, "'%s': tensor '%s' has no name in LDM files",
                        checkpoint_path(m->c), name);
    TensorEntry part = *x;
    if (to.conv_ldm) as_matrix(&part.type, false);
    if (to.matrix) as_matrix(&part.type, true);
    Stored *s = to.parts > 1 ? find(m->out, to.key) : NULL;
    if (!s) {
        stored_add(m->out, to.key, &part, m->precision);
        s = &m->out->item[m->out->n - 1];
        s->parts = to.parts;
        if (to.parts > 1) s->type.dim[0] *= to.parts;
        memset(s->part, 0, sizeof s->part);
    }
    Type whole = part.type;
    if (to.parts > 1) whole.dim[0] *= to.parts;
    if (!type_same_shape(&whole, &s->type))
        return err_fail(m->e, "'%s': the parts of '%s' have different shapes",
                        checkpoint_path(m->c), to.key);
    s->part[to.part] = part;
    return true;
}

static bool all_parts(const Ldm *m) {
    for (int i = 0; i < m->out->n; i++)
        for (int k = 0; k < m->out->item[i].parts; k++)
            if (!m->out->item[i].part[k].data && type_count(&m->out->item[i].type))
                return err_fail(m->e, "'%s': a part of '%s' is missing",
                                checkpoint_path(m->c), m->out->item[i].key);
    return true;
}

static int last_layer(const Checkpoint *c) {
    int last = -1, number;
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *name = checkpoint_name(c, i, NULL);
        if (!strncmp(name, layers, sizeof layers - 1) &&
            sscanf(name + sizeof layers - 1, "%d", &number) == 1 && number > last)
            last = number;
    }
    return last;
}

static void entry_of(const Ldm *m, int i, TensorEntry *x) {
    x->name = checkpoint_name(m->c, i, NULL);
    checkpoint_find(m->c, x->name, &x->type, &x->data);
}

static void add_value(Ldm *m, const char *key, Type t, const void *data) {
    TensorEntry x = {key, t, data};
    stored_add(m->out, key, &x, STORED_KEEP);
}

/* text_projection [width, width] of ones and logit_scale 1, which nothing reads */
static void add_unused(Ldm *m, Type like) {
    int64_t width = like.dim[like.rank - 1], count = width * width;
    Type t = {.dtype = m->precision == STORED_KEEP ? like.dtype : (DType)m->precision,
              .rank = 2,
              .dim = {width, width}};
    char *ones = arena_alloc(m->out->arena, (size_t)count, dtype_size(t.dtype));
    const float one = 1;
    for (int64_t i = 0; i < count; i++)
        convert(ones + (size_t)i * dtype_size(t.dtype), t.dtype, &one, F32, 1);
    add_value(m, "cond_stage_model.model.text_projection", t, ones);
    add_value(m, "cond_stage_model.model.logit_scale", type_scalar(t.dtype), ones);
}

/* SD2: one layer more than is run, under the next number. */
static bool add_last_again(Ldm *m, int last) {
    int count = checkpoint_count(m->c), number, used;
    for (int i = 0; i < count; i++) {
        TensorEntry x;
        entry_of(m, i, &x);
        if (strncmp(x.name, layers, sizeof layers - 1) ||
            sscanf(x.name + sizeof layers - 1, "%d%n", &number, &used) != 1 ||
            number != last)
            continue;
        const char *name = arena_printf(m->out->arena, "%s%d%s", layers, last + 1,
                                        x.name + sizeof layers - 1 + used);
        if (!add_ldm(m, name, &x)) return false;
    }
    return true;
}

static void add_position_ids(Ldm *m, int64_t n) {
    int64_t *id = NEW(m->out->arena, int64_t, n);
    for (int64_t i = 0; i < n; i++) id[i] = i;
    add_value(m, "cond_stage_model.transformer.text_model.embeddings.position_ids",
              type_of(I64, 2, (int64_t[]){1, n}), id);
}

static double number(json_t *root, const char *key, double otherwise) {
    json_t *j = json_object_get(root, key);
    return json_is_number(j) ? json_number_value(j) : otherwise;
}

/* The schedule of latent diffusion: betas linear in their square roots; computed in double
 * and stored as f32, as the original does. */
static void add_schedule(Ldm *m) {
    enum { STEPS = 1000, MOST_STEPS = 100000 };
    json_t *root = json_loads(checkpoint_config(m->c, "scheduler"), 0, NULL);
    double n_said = number(root, "num_train_timesteps", STEPS);
    int n = n_said >= 2 && n_said <= MOST_STEPS ? (int)n_said : STEPS;
    double from = sqrt(number(root, "beta_start", 0.00085));
    double to = sqrt(number(root, "beta_end", 0.012)), product = 1;
    json_decref(root);
    static const char *const key[] = {"betas", "alphas_cumprod", "sqrt_alphas_cumprod",
                                      "sqrt_one_minus_alphas_cumprod"};
    float *x[COUNT(key)];
    for (size_t k = 0; k < COUNT(key); k++) x[k] = NEW(m->out->arena, float, n);
    for (int i = 0; i < n; i++) {
        double root_beta = i == n - 1 ? to : from + i * ((to - from) / (n - 1));
        double beta = root_beta * root_beta;
        product *= 1 - beta;
        x[0][i] = (float)beta;
        x[1][i] = (float)product;
        x[2][i] = (float)sqrt(product);
        x[3][i] = (float)sqrt(1 - product);
    }
    for (size_t k = 0; k < COUNT(key); k++)
        add_value(m, key[k], type_of(F32, 1, (int64_t[]){n}), x[k]);
}

bool model_to_ldm(StoredList *out, const Checkpoint *c, const char *family,
                  int precision, Err *e) {
    Ldm m = {out, c, names_open(out->arena, family, e), precision, e};
    if (!m.names) return false;
    for (int i = 0; i < checkpoint_count(c); i++) {
        TensorEntry x;
        entry_of(&m, i, &x);
        if (!add_ldm(&m, x.name, &x)) return false;
    }
    bool sd2 = !strcmp(family, "sd2");
    int last = last_layer(c);
    if (sd2 && last >= 0 && !add_last_again(&m, last)) return false;
    if (!all_parts(&m)) return false;
    Type t;
    const void *data;
    if (checkpoint_find(c, positions, &t, &data) && t.rank == 2) {
        if (sd2)
            add_unused(&m, t);
        else
            add_position_ids(&m, t.dim[0]);
    }
    if (checkpoint_find(c, "unet.conv_in.weight", &t, &data)) add_schedule(&m);
    return true;
}
