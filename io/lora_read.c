/* Reading LoRA files. Every key is split into a module and a part of it by the table of
 * endings; the parts are sorted by module, and each module is put together and checked. */
#include "io/lora_read.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

enum { DOWN, UP, ALPHA, PARTS };

typedef struct Ending {
    const char *text;
    int part;
    LoraForm form;
} Ending;

static const Ending endings[] = {
    {".lora_down.weight", DOWN, LORA_KOHYA},
    {".lora_up.weight", UP, LORA_KOHYA},
    {".lora_A.weight", DOWN, LORA_PEFT},
    {".lora_B.weight", UP, LORA_PEFT},
    {".lora_A.default.weight", DOWN, LORA_PEFT},
    {".lora_B.default.weight", UP, LORA_PEFT},
    {".lora_linear_layer.down.weight", DOWN, LORA_DIFFUSERS},
    {".lora_linear_layer.up.weight", UP, LORA_DIFFUSERS},
    {".lora.down.weight", DOWN, LORA_DIFFUSERS},
    {".lora.up.weight", UP, LORA_DIFFUSERS},
    {"_lora.down.weight", DOWN, LORA_DIFFUSERS_OLD},
    {"_lora.up.weight", UP, LORA_DIFFUSERS_OLD},
    {"_lora.alpha", ALPHA, LORA_DIFFUSERS_OLD},
    {".alpha", ALPHA, LORA_KOHYA},
};

/* Adapters that are something else than up @ down: how their keys end, or what is in them. */
static const struct {
    const char *mark, *what;
    bool end;
} others[] = {
    {".dora_scale", "DoRA", true},
    {"lora_magnitude_vector", "DoRA by peft's names", false},
    {".hada_", "LyCORIS LoHa", false},
    {".lokr_", "LyCORIS LoKr", false},
    {".lora_mid.weight", "LyCORIS LoCon with a middle factor", true},
    {".oft_", "OFT", false},
    {".boft_", "BOFT", false},
    {".on_input", "IA3", true},
    {".diff_b", "full differences", true},
    {".diff", "full differences", true},
};

typedef struct Key {
    const char *name, *path; /* of the module; path NULL: not known */
    const TensorEntry *entry;
    int part;
    LoraForm form;
} Key;

/* What kind of other adapter a key is of, or NULL. */
static const char *other(const char *key) {
    for (size_t i = 0; i < COUNT(others); i++)
        if (others[i].end ? ends_with(key, others[i].mark)
                          : !!strstr(key, others[i].mark))
            return others[i].what;
    return NULL;
}

/* ---- keys ---- */

/* Old names of attention layers: "attn1.processor.to_out" is the layer "attn1.to_out.0", and
 * in a text encoder "self_attn.to_q" is "self_attn.q_proj". */
static const char *modern_path(Arena *a, const char *path) {
    static const char *const text[][2] = {{"self_attn.to_q", "self_attn.q_proj"},
                                          {"self_attn.to_k", "self_attn.k_proj"},
                                          {"self_attn.to_v", "self_attn.v_proj"},
                                          {"self_attn.to_out", "self_attn.out_proj"}};
    const char *processor = strstr(path, ".processor.");
    if (processor)
        path = arena_printf(a, "%.*s%s", (int)(processor - path), path,
                            processor + strlen(".processor"));
    for (size_t i = 0; i < COUNT(text); i++)
        if (ends_with(path, text[i][0]))
            return arena_printf(a, "%.*s%s", (int)(strlen(path) - strlen(text[i][0])),
                                path, text[i][1]);
    return ends_with(path, ".to_out") ? arena_printf(a, "%s.0", path) : path;
}

/* With the component in front, which some files leave out. */
static const char *full_path(Arena *a, const char *path) {
    static const char *const unet[] = {"down_blocks.", "up_blocks.", "mid_block.",
                                       "conv_in",      "conv_out",   "time_embedding."};
    if (starts_with(path, "base_model.model.")) path += strlen("base_model.model.");
    if (starts_with(path, "text_model."))
        return arena_printf(a, "text_encoder.%s", path);
    for (size_t i = 0; i < COUNT(unet); i++)
        if (starts_with(path, unet[i])) return arena_printf(a, "unet.%s", path);
    return path;
}

static const Ending *ending_of(const char *key) {
    for (size_t i = 0; i < COUNT(endings); i++)
        if (ends_with(key, endings[i].text)) return &endings[i];
    return NULL;
}

/* false: no part of a module that this program knows */
static bool split(Arena *a, const TensorEntry *x, Key *k) {
    const Ending *end = ending_of(x->name);
    if (!end) return false;
    const char *base = arena_strndup(a, x->name, strlen(x->name) - strlen(end->text));
    *k = (Key){.entry = x, .part = end->part, .form = end->form};
    if (starts_with(base, "lora_")) {
        k->name = base;
        k->path = lora_path_of(a, base);
        return starts_with(base, "lora_unet_") || starts_with(base, "lora_te");
    }
    if (k->form == LORA_KOHYA && k->part != ALPHA) return false;
    if (k->form == LORA_KOHYA) k->form = LORA_PEFT;
    k->path = full_path(a, base);
    if (k->form == LORA_DIFFUSERS_OLD) k->path = modern_path(a, k->path);
    k->name = lora_name_of(a, k->path);
    return k->name != NULL;
}

bool lora_is(const TensorFile *f) {
    Arena *a = arena_new();
    bool found = false;
    for (int i = 0; i < f->n && !found; i++) {
        Key k;
        found = split(a, &f->entry[i], &k) && k.part != ALPHA;
        found = found || other(f->entry[i].name);
    }
    arena_free(a);
    return found;
}

bool lora_is_part(const char *key) {
    Arena *a = arena_new();
    const TensorEntry x = {.name = key};
    Key k;
    bool is = split(a, &x, &k) && !other(key);
    arena_free(a);
    return is;
}

bool lora_only(const TensorFile *f) {
    bool only = f->n > 0;
    for (int i = 0; i < f->n && only; i++) only = lora_is_part(f->entry[i].name);
    return only;
}

/* ---- one module ---- */
PRINTF(3, 4) static bool bad(const LoraFile *f, Err *e, const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(e, "'%s': %s", f->file->path, text);
}

static bool is_factor(const Type *t) {
    bool ok = dtype_is_float(t->dtype) && (t->rank == 2 || t->rank == 4);
    for (int d = 0; d < t->rank; d++) ok = ok && t->dim[d] > 0;
    return ok;
}

/* up is [out, rank] or [out, rank, 1, 1], down [rank, in] or [rank, in, k, k]. */
static bool check_shapes(const LoraFile *f, LoraModule *m, Err *e) {
    const Type *d = &m->down.type, *u = &m->up.type;
    bool ok = is_factor(d) && is_factor(u) && d->dim[0] == u->dim[1] &&
              (u->rank == 2 || (u->dim[2] == 1 && u->dim[3] == 1)) &&
              (u->rank == 4 || d->rank == 2 || (d->dim[2] == 1 && d->dim[3] == 1));
    if (!ok)
        return bad(f, e,
                   "module '%.200s': factors %s and %s do not fit together, want "
                   "[rank, in, ...] and [out, rank, ...]",
                   m->name, type_text(f->arena, d), type_text(f->arena, u));
    m->rank = d->dim[0];
    m->in = d->dim[1];
    m->out = u->dim[0];
    m->kernel_h = d->rank == 4 ? d->dim[2] : 1;
    m->kernel_w = d->rank == 4 ? d->dim[3] : 1;
    return true;
}

static bool read_alpha(const LoraFile *f, LoraModule *m, Err *e) {
    const TensorEntry *x = m->has_alpha;
    m->alpha = (double)m->rank;
    if (!x) return true;
    if (type_count(&x->type) != 1)
        return bad(f, e, "'%.200s' is %s, want one number", x->name,
                   type_text(f->arena, &x->type));
    convert(&m->alpha, F64, x->data, x->type.dtype, 1);
    if (!isfinite(m->alpha))
        return bad(f, e, "'%.200s' is not a finite number", x->name);
    /* sd-scripts: 0 means the rank */
    if (m->alpha == 0) m->alpha = (double)m->rank;
    return true;
}

static int by_module(const void *a, const void *b) {
    const Key *x = a, *y = b;
    int d = strcmp(x->name, y->name);
    return d ? d : x->part - y->part;
}

static LoraNet net_of(const char *name) {
    return starts_with(name, "lora_unet_")  ? LORA_UNET
           : starts_with(name, "lora_te2_") ? LORA_TEXT2
                                            : LORA_TEXT;
}

/* n keys of one module */
static bool add_module(LoraFile *f, const Key *k, int n, Err *e) {
    const Key *part[PARTS] = {0};
    for (int i = 0; i < n; i++) {
        if (part[k[i].part])
            return bad(f, e, "'%.200s' and '%.200s' are the same part of '%.200s'",
                       part[k[i].part]->entry->name, k[i].entry->name, k->name);
        part[k[i].part] = &k[i];
    }
    if (!part[DOWN] && !part[UP]) { /* an alpha alone belongs to nothing */
        f->unknown[f->n_unknown++] = k->entry->name;
        return true;
    }
    if (!part[DOWN] || !part[UP])
        return bad(f, e, "module '%.200s' has only one of its two factors, '%.200s'",
                   k->name, part[part[UP] ? UP : DOWN]->entry->name);
    LoraModule m = {.name = k->name,
                    .path = k->path,
                    .form = part[DOWN]->form,
                    .net = net_of(k->name),
                    .block = lora_block(k->name),
                    .down = *part[DOWN]->entry,
                    .up = *part[UP]->entry,
                    .has_alpha = part[ALPHA] ? part[ALPHA]->entry : NULL};
    if (m.net != LORA_UNET) m.block = -1;
    if (!check_shapes(f, &m, e) || !read_alpha(f, &m, e)) return false;
    f->module[f->n++] = m;
    return true;
}

/* ---- alphas that stand beside the tensors ---- */

/* lora_alpha and alpha_pattern of one component; keys have `prefix` in front. The scale of
 * rank-stabilised LoRA is lora_alpha / sqrt(rank) (Kalajdzievski 2023). */
static void config_alpha(json_t *config, const char *prefix, LoraModule *m) {
    Arena *a = arena_new();
    const char *path = m->path ? m->path : "";
    json_t *all = json_object_get(config, arena_printf(a, "%slora_alpha", prefix));
    json_t *some = json_object_get(config, arena_printf(a, "%salpha_pattern", prefix));
    json_t *stable = json_object_get(config, arena_printf(a, "%suse_rslora", prefix));
    double alpha = json_is_number(all) ? json_number_value(all) : (double)m->rank;
    const char *key;
    json_t *value;
    json_object_foreach(some, key, value) {
        bool mine = !strcmp(path, key) || ends_with(path, arena_printf(a, ".%s", key));
        if (mine && json_is_number(value)) alpha = json_number_value(value);
    }
    if (json_is_true(stable)) alpha *= sqrt((double)m->rank);
    if (isfinite(alpha) && alpha != 0) m->alpha = alpha;
    arena_free(a);
}

static json_t *config_beside(const LoraFile *f) {
    const char *slash = strrchr(f->file->path, '/');
    const char *path =
        arena_printf(f->arena, "%.*sadapter_config.json",
                     slash ? (int)(slash + 1 - f->file->path) : 0, f->file->path);
    Err ignored = {0};
    return file_exists(path) ? json_read(f->arena, path, NULL, &ignored) : NULL;
}

static void outside_alphas(LoraFile *f) {
    static const char *const prefix[] = {[LORA_UNET] = "unet.",
                                         [LORA_TEXT] = "text_encoder.",
                                         [LORA_TEXT2] = "text_encoder_2."};
    const char *text = lora_meta(f, "lora_adapter_metadata");
    json_t *inside = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    json_t *beside = config_beside(f);
    for (int i = 0; i < f->n; i++) {
        LoraModule *m = &f->module[i];
        if (m->has_alpha || m->form != LORA_PEFT) continue;
        if (json_is_object(inside))
            config_alpha(inside, prefix[m->net], m);
        else if (json_is_object(beside))
            config_alpha(beside, "", m);
    }
    json_decref(inside);
    json_decref(beside);
}

/* ---- the file ---- */

/* The width of the text embedding tells the model: 768 SD1, 1024 SD2, 2048 SDXL. */
static const char *family_of(const LoraFile *f) {
    for (int i = 0; i < f->n; i++) {
        const LoraModule *m = &f->module[i];
        const char *name = m->name;
        if (m->net == LORA_TEXT2 || starts_with(name, "lora_te1_") ||
            strstr(name, "lora_unet_input_blocks_") ||
            strstr(name, "_transformer_blocks_9_"))
            return "sdxl";
        bool cross = ends_with(name, "attn2_to_k") || ends_with(name, "attn2_to_v");
        bool text = m->net == LORA_TEXT && strstr(name, "self_attn_q_proj");
        if (cross && m->in == 2048) return "sdxl";
        if ((cross || text) && m->in == 1024) return "sd2";
        if (cross && m->in == 768) return "sd1";
    }
    const char *v2 = lora_meta(f, "ss_v2");
    return !v2                    ? NULL
           : !strcmp(v2, "True")  ? "sd2"
           : !strcmp(v2, "False") ? "sd1"
                                  : NULL;
}

static bool refuse_others(const LoraFile *f, Err *e) {
    for (int i = 0; i < f->file->n; i++) {
        const char *what = other(f->file->entry[i].name);
        if (what)
            return bad(f, e, "'%.200s' belongs to %s, which is not supported",
                       f->file->entry[i].name, what);
    }
    return true;
}

static bool read_modules(LoraFile *f, Err *e) {
    const TensorFile *t = f->file;
    Key *key = NEW(f->arena, Key, t->n + 1);
    f->module = NEW(f->arena, LoraModule, t->n + 1);
    f->unknown = NEW(f->arena, const char *, t->n + 1);
    int n = 0;
    for (int i = 0; i < t->n; i++)
        if (split(f->arena, &t->entry[i], &key[n]))
            n++;
        else
            f->unknown[f->n_unknown++] = t->entry[i].name;
    qsort(key, (size_t)n, sizeof *key, by_module);
    for (int i = 0, to; i < n; i = to) {
        for (to = i + 1; to < n && !strcmp(key[to].name, key[i].name);) to++;
        if (!add_module(f, key + i, to - i, e)) return false;
    }
    if (!f->n)
        return bad(f, e,
                   "no LoRA file: none of its %d tensors is part of a module%s%.80s%s",
                   t->n, t->n ? ", the first is '" : "", t->n ? t->entry[0].name : "",
                   t->n ? "'" : "");
    return true;
}

LoraFile *lora_from(TensorFile *t, Err *e) {
    LoraFile *f = NEW(t->arena, LoraFile, 1);
    f->arena = t->arena;
    f->file = t;
    if (!refuse_others(f, e) || !read_modules(f, e)) {
        tensors_close(t);
        return NULL;
    }
    f->form = f->module[0].form;
    for (int i = 1; i < f->n; i++)
        if (f->module[i].form != f->form) f->form = LORA_MIXED;
    outside_alphas(f);
    f->family = family_of(f);
    return f;
}

LoraFile *lora_open(const char *path, Err *e) {
    TensorFile *t = tensors_open(path, e);
    return t ? lora_from(t, e) : NULL;
}

void lora_close(LoraFile *f) {
    if (f) tensors_close(f->file);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const LoraModule *)a)->name, ((const LoraModule *)b)->name);
}

const LoraModule *lora_find(const LoraFile *f, const char *name) {
    LoraModule key = {.name = name};
    return bsearch(&key, f->module, (size_t)f->n, sizeof key, by_name);
}

const char *lora_meta(const LoraFile *f, const char *key) {
    return tensors_meta(f->file, key);
}

bool lora_is_whole(const LoraFile *f, Err *e) {
    return !f->n_unknown ||
           err_fail(
               e,
               "'%s': %d tensors are no part of a LoRA and would be lost, the first "
               "is '%s'",
               f->file->path, f->n_unknown, f->unknown[0]);
}
