/* LoRA files under other names: factors keep their numbers, except that folding multiplies
 * `up` by alpha/rank (in double, rounded once). */
#include "io/lora_write.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/model_write.h"

typedef struct Save {
    Arena *arena;
    const LoraFile *f;
    const LoraSave *how;
    bool fold;
    TensorOut *t;
    int n;
    Meta *meta;
    int n_meta;
} Save;

static const void *folded(Save *s, const LoraModule *m, Type *t) {
    int64_t n = type_count(t);
    double *x = arena_alloc(s->arena, (size_t)n, sizeof *x);
    convert(x, F64, m->up.data, t->dtype, n);
    for (int64_t i = 0; i < n; i++) x[i] *= m->alpha / (double)m->rank;
    if (s->how->precision != LORA_KEEP) t->dtype = (DType)s->how->precision;
    void *out = arena_alloc(s->arena, (size_t)n, dtype_size(t->dtype));
    convert(out, t->dtype, x, F64, n);
    return out;
}

static const void *cast(Save *s, const TensorEntry *x, Type *t) {
    int want = s->how->precision;
    if (want == LORA_KEEP || (int)t->dtype == want) return x->data;
    int64_t n = type_count(t);
    t->dtype = (DType)want;
    void *out = arena_alloc(s->arena, (size_t)n, dtype_size(t->dtype));
    convert(out, t->dtype, x->data, x->type.dtype, n);
    return out;
}

static void put(Save *s, const char *base, const char *end, Type t, const void *data) {
    s->t[s->n++] = (TensorOut){arena_printf(s->arena, "%s%s", base, end), t, data};
}

/* The file's own number where it still holds, else a new one of the factors' type. */
static void put_alpha(Save *s, const LoraModule *m) {
    double alpha = s->fold ? (double)m->rank : m->alpha, said = 0;
    const TensorEntry *x = m->has_alpha;
    if (x) convert(&said, F64, x->data, x->type.dtype, 1);
    if (x && said == alpha) {
        Type kept = x->type;
        const void *data = dtype_is_float(kept.dtype) ? cast(s, x, &kept) : x->data;
        put(s, m->name, ".alpha", kept, data);
        return;
    }
    Type t = type_scalar(s->how->precision != LORA_KEEP ? (DType)s->how->precision
                                                        : m->down.type.dtype);
    void *data = arena_alloc(s->arena, 1, dtype_size(t.dtype));
    convert(data, t.dtype, &alpha, F64, 1);
    put(s, m->name, ".alpha", t, data);
}

static bool put_module(Save *s, const LoraModule *m, Err *e) {
    Type down = m->down.type, up = m->up.type;
    const void *down_data = cast(s, &m->down, &down);
    const void *up_data = s->fold && m->alpha != (double)m->rank ? folded(s, m, &up)
                                                                 : cast(s, &m->up, &up);
    if (s->how->form == LORA_KOHYA) {
        put_alpha(s, m);
        put(s, m->name, ".lora_down.weight", down, down_data);
        put(s, m->name, ".lora_up.weight", up, up_data);
        return true;
    }
    if (!m->path)
        return err_fail(e, "'%s': module '%.200s' has no Diffusers name",
                        s->f->file->path, m->name);
    put(s, m->path, ".lora_A.weight", down, down_data);
    put(s, m->path, ".lora_B.weight", up, up_data);
    return true;
}

/* ---- metadata ---- */
static void set_meta(Save *s, const char *key, const char *value) {
    int i = 0;
    while (i < s->n_meta && strcmp(s->meta[i].key, key)) i++;
    s->meta[i] = (Meta){key, value};
    if (i == s->n_meta) s->n_meta++;
}

/* One text for all modules, or "Dynamic". */
static const char *common(Save *s, bool alpha) {
    const LoraModule *m = s->f->module;
    for (int i = 0; i < s->f->n; i++) {
        double a = s->fold ? (double)m[i].rank : m[i].alpha;
        double first = s->fold ? (double)m[0].rank : m[0].alpha;
        if (alpha ? a != first : m[i].rank != m[0].rank) return "Dynamic";
    }
    if (!alpha) return arena_printf(s->arena, "%lld", (long long)m[0].rank);
    Str t = {0};
    str_double(&t, s->fold ? (double)m[0].rank : m[0].alpha);
    if (!strchr(t.s, '.') && !strchr(t.s, 'e')) str_add(&t, ".0");
    const char *out = arena_strdup(s->arena, t.s);
    str_free(&t);
    return out;
}

/* conv_alpha of the training options: after folding it is conv_dim. */
static void fold_args(Save *s) {
    const char *text = lora_meta(s->f, "ss_network_args");
    json_t *args = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *dim = json_object_get(args, "conv_dim");
    if (dim && json_object_get(args, "conv_alpha")) {
        json_object_set(args, "conv_alpha", dim);
        set_meta(s, "ss_network_args", json_text(s->arena, args));
    }
    json_decref(args);
}

/* What programs look for, where the source says nothing (kohya's minimum set). */
static void add_missing(Save *s) {
    const char *family = s->how->family ? s->how->family : s->f->family;
    if (!lora_meta(s->f, "ss_network_module"))
        set_meta(s, "ss_network_module", "networks.lora");
    if (!lora_meta(s->f, "ss_network_dim"))
        set_meta(s, "ss_network_dim", common(s, false));
    if (!lora_meta(s->f, "ss_network_alpha"))
        set_meta(s, "ss_network_alpha", common(s, true));
    if (!lora_meta(s->f, "ss_network_args")) set_meta(s, "ss_network_args", "{}");
    if (family && !strcmp(family, "sdxl")) return;
    if (family && !lora_meta(s->f, "ss_v2"))
        set_meta(s, "ss_v2", strcmp(family, "sd2") ? "False" : "True");
    if (family && !lora_meta(s->f, "ss_base_model_version"))
        set_meta(s, "ss_base_model_version", strcmp(family, "sd2") ? "sd_v1" : "sd_v2");
}

/* Hashes describe the source's bytes; alphas beside the tensors are folded in or tensors
 * now. */
static void make_meta(Save *s) {
    const TensorFile *t = s->f->file;
    enum { ADDED = 8 };
    s->meta = NEW(s->arena, Meta, t->n_meta + ADDED);
    for (int i = 0; i < t->n_meta; i++)
        if (strncmp(t->meta_key[i], "sshs_", 5) &&
            strcmp(t->meta_key[i], "lora_adapter_metadata") &&
            (s->how->form == LORA_PEFT || strcmp(t->meta_key[i], "format")))
            s->meta[s->n_meta++] = (Meta){t->meta_key[i], t->meta_value[i]};
    if (s->how->form == LORA_PEFT)
        set_meta(s, "format", "pt");
    else
        add_missing(s);
    if (!s->fold) return;
    if (lora_meta(s->f, "ss_network_alpha"))
        set_meta(s, "ss_network_alpha", common(s, true));
    fold_args(s);
}

bool lora_save(const LoraFile *f, const char *path, const LoraSave *how, Err *e) {
    Arena *a = arena_new();
    Save s = {a,
              f,
              how,
              how->fold || how->form == LORA_PEFT,
              NEW(a, TensorOut, 3 * (size_t)f->n),
              0,
              NULL,
              0};
    bool ok = true;
    for (int i = 0; ok && i < f->n; i++) ok = put_module(&s, &f->module[i], e);
    if (ok) make_meta(&s);
    if (ok && how->form == LORA_KOHYA)
        ok = lora_file_write(path, s.t, s.n, LORA_KEEP, s.meta, s.n_meta, e);
    else if (ok)
        ok = tensors_write_made(path, s.t, s.n, s.meta, s.n_meta, NULL, NULL, e);
    arena_free(a);
    return ok;
}
