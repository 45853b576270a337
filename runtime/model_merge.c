/* Merging into a model (see model_merge.h). First every tensor of the result is listed with
 * the parts it comes from, then every module of the LoRAs is held against that list, and
 * only then does the file begin: its tensors are made one by one while it is written. */
#include "runtime/model_merge.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/model_write.h"
#include "io/safetensors.h"
#include "io/torch_file.h"

typedef struct Part {
    const char *lora; /* kohya name of the module that wraps this layer, or NULL */
    bool bias;        /* of the layer; else its weight */
    Type type;
    const void *data;
} Part;

typedef struct Target { /* a tensor of the file that is written */
    const char *key;
    Type type;
    Part part[NAME_PARTS]; /* of its rows, in order */
    int parts;
} Target;

typedef struct Place { /* where a module's weight or bias is */
    const char *lora;
    bool bias;
    const Part *part;
} Place;

typedef struct Job {
    Arena *arena;
    const ModelMerge *m;
    Device *dev;
    TensorFile *file; /* one of both */
    Checkpoint *checkpoint;
    const Names *names;
    bool sd2;
    Target *target;
    int n, cap;
    Place *place; /* sorted */
    int n_place, cap_place;
    float *sum; /* of the tensor being made */
    size_t room;
    ModelMerged *out;
} Job;

enum { ROWS = 256 }; /* of a product that is added at a time */

/* ---- the list of tensors ---- */

/* OpenCLIP's last layer is no part of the text encoder: it stays what it was. */
static bool unused_layer(const Job *j, const char *name) {
    return j->sd2 && starts_with(name, "text_encoder.text_model.encoder.layers.23.");
}

/* The module that wraps the layer whose tensor this is. */
static void set_module(Job *j, Part *p, const char *name) {
    const char *dot = strrchr(name, '.');
    p->bias = dot && !strcmp(dot, ".bias") && p->type.rank == 1;
    const bool weight = dot && !strcmp(dot, ".weight") && p->type.rank >= 2;
    if ((weight || p->bias) &&
        (starts_with(name, "unet.") || starts_with(name, "text_encoder.")))
        p->lora =
            lora_name_of(j->arena, arena_strndup(j->arena, name, (size_t)(dot - name)));
}

static Type as_convolution(Type t, bool yes) {
    if (yes && t.rank == 2) t.rank = 4, t.dim[2] = t.dim[3] = 1;
    return t;
}

/* A tensor of a single file, with the names it holds (n of them; 0: none of ours). */
static Target file_target(Job *j, const TensorEntry *x) {
    Target t = {.key = x->name, .type = x->type, .parts = 1};
    t.part[0] = (Part){.type = x->type, .data = x->data};
    NamePart name[NAME_PARTS];
    bool dropped;
    int n = names_from_file(j->names, j->arena, x->name, name, &dropped);
    if (n && (unused_layer(j, name[0].name) || x->type.rank < 1 || x->type.dim[0] % n))
        return t;
    NameTo to;
    if (n && names_to_file(j->names, j->arena, name[0].name, &to)) {
        t.key = to.key;
        t.type = as_convolution(t.type, to.conv_ldm);
    }
    if (!n && !dropped && checkpoint_component(x->name)) /* Diffusers' names */
        name[n++] = (NamePart){x->name, 0, 1};
    if (!n) return t;
    if (dtype_is_float(t.type.dtype)) t.type.dtype = j->m->save;
    t.parts = n;
    for (int i = 0; i < n; i++) {
        Part *p = &t.part[name[i].part];
        p->type = x->type;
        p->type.dim[0] /= n;
        p->data = (const char *)x->data + type_bytes(&p->type) * (size_t)name[i].part;
        set_module(j, p, name[i].name);
    }
    return t;
}

static Target *target_find(Job *j, const char *key) {
    for (int i = j->n - 1; i >= 0; i--)
        if (!strcmp(j->target[i].key, key)) return &j->target[i];
    return NULL;
}

/* A tensor of a folder goes to its place in a file of the original form. */
static bool add_named(Job *j, const char *name, Err *e) {
    Part p = {0};
    NameTo to;
    checkpoint_find(j->checkpoint, name, &p.type, &p.data);
    if (!names_to_file(j->names, j->arena, name, &to))
        return err_fail(e, "'%s': tensor '%s' has no place in a checkpoint file",
                        j->m->model, name);
    set_module(j, &p, name);
    Target *t = target_find(j, to.key);
    if (!t) {
        Target fresh = {.key = to.key, .type = as_convolution(p.type, to.conv_ldm)};
        if (dtype_is_float(p.type.dtype)) fresh.type.dtype = j->m->save;
        fresh.type.dim[0] *= to.parts;
        fresh.parts = to.parts;
        PUSH(j->arena, j->target, j->n, j->cap, fresh);
        t = &j->target[j->n - 1];
    }
    t->part[to.part] = p;
    return true;
}

/* For a folder: the model's tensors as they are, by the names that a Checkpoint has. */
static bool list_names(Job *j, Err *e) {
    j->checkpoint = checkpoint_open(j->m->model, e);
    if (!j->checkpoint) return false;
    for (int i = 0; i < checkpoint_count(j->checkpoint); i++) {
        Target t = {.key = checkpoint_name(j->checkpoint, i, NULL), .parts = 1};
        Part *p = &t.part[0];
        checkpoint_find(j->checkpoint, t.key, &p->type, &p->data);
        t.type = p->type;
        set_module(j, p, t.key);
        PUSH(j->arena, j->target, j->n, j->cap, t);
    }
    return true;
}

static bool whole(const Job *j, Err *e) {
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < j->target[i].parts; k++)
            if (!j->target[i].part[k].data && type_count(&j->target[i].type))
                return err_fail(e, "'%s': part %d of '%s' is missing", j->m->model,
                                k + 1, j->target[i].key);
    return true;
}

static bool list_folder(Job *j, Err *e) {
    j->checkpoint = checkpoint_open(j->m->model, e);
    if (!j->checkpoint) return false;
    const int n = checkpoint_count(j->checkpoint);
    /* linear projections: only SD2's U-Net has them as matrices */
    Type t;
    const void *data;
    j->sd2 =
        checkpoint_find(j->checkpoint, "unet.down_blocks.0.attentions.0.proj_in.weight",
                        &t, &data) &&
        t.rank == 2;
    j->names = names_open(j->arena, j->sd2 ? "sd2" : "sd1", e);
    if (!j->names) return false;
    for (int i = 0; i < n; i++) {
        const char *key;
        if (!add_named(j, checkpoint_name(j->checkpoint, i, &key), e)) return false;
    }
    return whole(j, e);
}

static bool list_file(Job *j, Err *e) {
    j->file = tensors_open(j->m->model, e);
    if (!j->file) return false;
    const char **key = NEW(j->arena, const char *, j->file->n + 1);
    for (int i = 0; i < j->file->n; i++) key[i] = j->file->entry[i].name;
    const char *family = names_family(key, j->file->n);
    j->sd2 = !strcmp(family, "sd2");
    j->names = names_open(j->arena, family, e);
    if (!j->names) return false;
    for (int i = 0; i < j->file->n; i++) {
        Target t = file_target(j, &j->file->entry[i]);
        PUSH(j->arena, j->target, j->n, j->cap, t);
    }
    return true;
}

/* ---- the LoRAs against the list ---- */

static int by_lora(const void *a, const void *b) {
    const Place *x = a, *y = b;
    const int d = strcmp(x->lora, y->lora);
    return d ? d : x->bias - y->bias;
}

static void list_places(Job *j) {
    for (int i = 0; i < j->n; i++)
        for (int k = 0; k < j->target[i].parts; k++) {
            const Part *p = &j->target[i].part[k];
            Place place = {p->lora, p->bias, p};
            if (p->lora) PUSH(j->arena, j->place, j->n_place, j->cap_place, place);
        }
    if (j->n_place) qsort(j->place, (size_t)j->n_place, sizeof *j->place, by_lora);
}

static const Part *place_of(const Job *j, const char *lora, bool bias) {
    Place key = {lora, bias, NULL};
    const Place *p = j->n_place ? bsearch(&key, j->place, (size_t)j->n_place,
                                          sizeof *j->place, by_lora)
                                : NULL;
    return p ? p->part : NULL;
}

static bool fits(const Part *p, const LoraModule *m) {
    return p->type.dim[0] == m->out &&
           type_count(&p->type) == m->out * m->in * m->kernel_h * m->kernel_w;
}

enum { SHOWN = 8 }; /* names in a message */

/* A module that has no place is listed. */
static const Part *weight_of(Job *j, const char *lora, int *cap) {
    const Part *p = place_of(j, lora, false);
    if (p)
        j->out->modules++;
    else
        PUSH(j->arena, j->out->unmatched, j->out->n_unmatched, *cap, lora);
    return p;
}

static bool none_found(Job *j, const char *path, int n, int first_unmatched, Err *e) {
    Str bad = {0};
    for (int i = 0; i < SHOWN && first_unmatched + i < j->out->n_unmatched; i++)
        str_printf(&bad, "\n  %s", j->out->unmatched[first_unmatched + i]);
    err_fail(e, "none of the %d modules of '%s' is in '%s'%s%s", n, path, j->m->model,
             bad.s ? bad.s : "", n > SHOWN ? "\n  ..." : "");
    str_free(&bad);
    return false;
}

static bool check_lora(Job *j, const LoraFile *f, int *cap, Err *e) {
    Str bad = {0};
    int n_bad = 0, n_before = j->out->modules, first = j->out->n_unmatched;
    for (int i = 0; i < f->n; i++) {
        const LoraModule *m = &f->module[i];
        const Part *p = weight_of(j, m->name, cap);
        if (p && !fits(p, m) && n_bad++ < SHOWN)
            str_printf(&bad, "\n  %s: %s x %s for a weight of %s", m->name,
                       type_text(j->arena, &m->up.type),
                       type_text(j->arena, &m->down.type),
                       type_text(j->arena, &p->type));
    }
    if (n_bad)
        err_fail(
            e,
            "'%s' is made for another model: %d of its %d modules do not fit '%s'%s%s",
            f->file->path, n_bad, f->n, j->m->model, bad.s,
            n_bad > SHOWN ? "\n  ..." : "");
    str_free(&bad);
    return !n_bad &&
           (j->out->modules > n_before || none_found(j, f->file->path, f->n, first, e));
}

/* Whether tensors fit their layer is for the adapter to say, when it is applied. */
static bool check_adapter(Job *j, const ModelAdapter *f, int *cap, Err *e) {
    int n_before = j->out->modules, first = j->out->n_unmatched;
    for (int i = 0; i < f->n; i++) weight_of(j, f->module[i], cap);
    return j->out->modules > n_before || none_found(j, f->file->path, f->n, first, e);
}

/* ---- making tensors ---- */

/* sum[rows of a part] += f up down, some rows at a time */
static bool add_product(Job *j, float *sum, const LoraModule *m, double f, Err *e) {
    Arena *t = arena_new();
    const DType to = j->m->precision;
    const int64_t row = m->in * m->kernel_h * m->kernel_w, r = m->rank;
    float *up = lora_floats(t, j->dev, &m->up.type, m->up.data, to);
    const float *down = lora_floats(t, j->dev, &m->down.type, m->down.data, to);
    float *delta = NEW(t, float, (m->out < ROWS ? m->out : ROWS) * row);
    for (int64_t i = 0; i < m->out * r; i++) up[i] *= (float)f;
    bool ok = true;
    for (int64_t at = 0; ok && at < m->out; at += ROWS) {
        const int64_t rows = m->out - at < ROWS ? m->out - at : ROWS;
        ok =
            matrix_mul(j->dev, false, false, rows, r, row, up + at * r, down, delta, e);
        float *y = sum + at * row;
        for (int64_t i = 0; ok && i < rows * row; i++) y[i] += delta[i];
    }
    matrix_round(j->dev, sum, to, m->out * row);
    arena_free(t);
    return ok;
}

static bool make_room(Job *j, const Target *t, Err *e) {
    const size_t n = (size_t)type_count(&t->type);
    if (n <= j->room) return true;
    free(j->sum);
    j->sum = malloc(n * sizeof *j->sum);
    j->room = n;
    return j->sum || err_fail(e, "no memory for tensor '%s' of %zu numbers", t->key, n);
}

static int by_text(const void *a, const void *b) {
    return strcmp(a, *(const char *const *)b);
}

/* Does file k change this layer? */
static bool touches(const Job *j, int k, const Part *p) {
    const MergeInput *in = &j->m->in[k];
    if (!p->lora) return false;
    if (in->file) return !p->bias && lora_find(in->file, p->lora);
    const ModelAdapter *f = in->adapter;
    return bsearch(p->lora, f->module, (size_t)f->n, sizeof *f->module, by_text);
}

static bool touched(const Job *j, const Part *p, int from) {
    for (int k = from; k < j->m->n; k++)
        if (touches(j, k, p)) return true;
    return false;
}

/* A tensor's numbers in `precision`. */
static void load(Job *j, const Part *p, float *y) {
    const int64_t n = type_count(&p->type);
    matrix_convert(j->dev, y, F32, p->data, p->type.dtype, n);
    matrix_round(j->dev, y, j->m->precision, n);
}

/* File k on the layer of which y is the part p; `other`: the layer's other tensor, or NULL
 * (which no LoRA needs). */
static bool change(Job *j, int k, const Part *p, float *y, const Part *weight,
                   float *other, Err *e) {
    const MergeInput *in = &j->m->in[k];
    const double ratio = merge_ratio(in, p->lora);
    AdaptedLayer l = {weight->type, p->bias ? other : y, p->bias ? y : other};
    l.weight.dtype = F32;
    if (in->file) {
        const LoraModule *m = lora_find(in->file, p->lora);
        return !m || add_product(j, l.w, m, ratio * m->alpha / (double)m->rank, e);
    }
    const bool last = !touched(j, p, k + 1);
    if (!in->adapter->apply(in->adapter->ctx, p->lora, ratio, p->bias && last, &l,
                            j->dev, e))
        return false;
    matrix_round(j->dev, l.w, j->m->precision, type_count(&l.weight));
    if (l.b) matrix_round(j->dev, l.b, j->m->precision, l.weight.dim[0]);
    return true;
}

/* An adapter may make the bias from the weight and the other way round: both are there,
 * and LoRAs before it change the weight for the bias too. */
static bool change_all(Job *j, const Part *p, float *y, Err *e) {
    bool own = false;
    for (int k = 0; k < j->m->n; k++)
        own = own || (j->m->in[k].adapter && touches(j, k, p));
    if (!own && p->bias) return true;
    const Part *weight = p->bias ? place_of(j, p->lora, false) : p;
    const Part *with = p->bias ? weight : own ? place_of(j, p->lora, true) : NULL;
    float *other =
        with ? malloc(sizeof *other * (size_t)type_count(&with->type)) : NULL;
    if (with && !other) return err_fail(e, "no memory for the layer '%s'", p->lora);
    if (with) load(j, with, other);
    bool ok = weight != NULL;
    for (int k = 0; ok && k < j->m->n; k++)
        ok = !touches(j, k, weight) || change(j, k, p, y, weight, other, e);
    free(other);
    return ok;
}

static bool make_sum(Job *j, const Target *t, Err *e) {
    if (!make_room(j, t, e)) return false;
    float *y = j->sum;
    for (int i = 0; i < t->parts; i++) {
        const Part *p = &t->part[i];
        load(j, p, y);
        if (touched(j, p, 0) && !change_all(j, p, y, e)) return false;
        y += type_count(&p->type);
    }
    return true;
}

/* The pages of a part that was read are not wanted again. */
static void release(const Job *j, const Part *p) {
    if (j->file)
        tensors_release(j->file, p->data, type_bytes(&p->type));
    else
        checkpoint_release(j->checkpoint, p->data, type_bytes(&p->type));
}

static bool changed(const Job *j, const Target *t) {
    for (int i = 0; i < t->parts; i++)
        if (touched(j, &t->part[i], 0)) return true;
    return false;
}

static bool make_piece(void *ctx, int index, int64_t first, int64_t n, void *buf,
                       Err *e) {
    Job *j = ctx;
    const Target *t = &j->target[index];
    const bool direct = t->parts == 1 && !changed(j, t);
    if (!direct && !first && !make_sum(j, t, e)) return false;
    const DType from = direct ? t->part[0].type.dtype : F32;
    const char *src = direct ? t->part[0].data : (const char *)j->sum;
    matrix_convert(j->dev, buf, t->type.dtype, src + (size_t)first * dtype_size(from),
                   from, n);
    if (first + n == type_count(&t->type))
        for (int i = 0; i < t->parts; i++) release(j, &t->part[i]);
    return true;
}

static bool write_model(Job *j, Err *e) {
    TensorOut *t = NEW(j->arena, TensorOut, j->n + 1);
    for (int i = 0; i < j->n; i++)
        t[i] = (TensorOut){j->target[i].key, j->target[i].type, NULL};
    TensorFill fill = {j, make_piece};
    const bool kept = j->file && j->file->wrapped;
    const TorchTop top = {kept ? j->file->epoch : 0, kept ? j->file->global_step : 0};
    return tensors_write_made(j->m->save_to, t, j->n, j->m->meta, j->m->n_meta, &top,
                              &fill, e);
}

/* A tensor of a folder with its LoRAs; NULL: none changes it. */
static const float *make_named(void *ctx, const char *name, Err *e) {
    Job *j = ctx;
    const Target *t = target_find(j, name);
    const bool made = t && changed(j, t) && make_sum(j, t, e);
    if (made) release(j, &t->part[0]);
    return made ? j->sum : NULL;
}

static bool write_folder(Job *j, Err *e) {
    const ModelChange change = {j, make_named};
    const DiffusersSave how = {.family = model_family(j->checkpoint),
                               .precision = (int)j->m->save,
                               .v_prediction = j->m->v_prediction,
                               .change = &change};
    return diffusers_write(j->m->save_to, j->checkpoint, &how, &j->out->overflow, e);
}

bool model_merge(Arena *a, const ModelMerge *m, Device *dev, ModelMerged *out, Err *e) {
    Job j = {.arena = a, .m = m, .dev = dev, .out = out};
    *out = (ModelMerged){0};
    int cap = 0;
    const bool folder = !path_is_tensors(m->save_to);
    bool ok = folder                    ? list_names(&j, e)
              : folder_exists(m->model) ? list_folder(&j, e)
                                        : list_file(&j, e);
    if (ok) list_places(&j);
    for (int i = 0; ok && i < m->n; i++)
        ok = m->in[i].file ? check_lora(&j, m->in[i].file, &cap, e)
                           : check_adapter(&j, m->in[i].adapter, &cap, e);
    ok = ok && (folder ? write_folder(&j, e) : write_model(&j, e));
    out->tensors = j.n;
    free(j.sum);
    tensors_close(j.file);
    if (j.checkpoint) checkpoint_close(j.checkpoint);
    return ok;
}
