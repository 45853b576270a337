/* Metadata of the files that the tools write (lora.md section 10): the ss_* entries that
 * programs ask for, and modelspec.* as sd-scripts fills it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "built.h"
#include "cli/files/file_tool.h"

void meta_put(MetaList *m, const char *key, const char *value) {
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->item[i].key, key)) {
            m->item[i].value = value;
            return;
        }
    Meta x = {key, value};
    PUSH(m->arena, m->item, m->n, m->cap, x);
}

const char *meta_get(const MetaList *m, const char *key) {
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->item[i].key, key)) return m->item[i].value;
    return NULL;
}

void meta_copy(MetaList *m, const LoraFile *f) {
    for (int i = 0; i < f->file->n_meta; i++)
        meta_put(m, f->file->meta_key[i], f->file->meta_value[i]);
}

const char *meta_float(Arena *a, double x) {
    if (x == floor(x) && fabs(x) < 1e15) return arena_printf(a, "%.1f", x);
    Str s = {0};
    str_double(&s, x);
    const char *out = arena_strdup(a, s.s);
    str_free(&s);
    return out;
}

const char *meta_base_name(Arena *a, const char *path) {
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    return dot && dot != base ? arena_strndup(a, base, (size_t)(dot - base))
                              : arena_strdup(a, base);
}

void meta_origin(MetaList *m, const MergeFiles *f) {
    static const char *const keys[] = {"ss_v2", "ss_base_model_version"};
    for (size_t k = 0; k < COUNT(keys); k++)
        for (int i = 0; i < f->n && !meta_get(m, keys[k]); i++) {
            const char *value = tensors_meta(merge_tensors(&f->in[i]), keys[k]);
            if (value) meta_put(m, keys[k], value);
        }
}

void meta_network(MetaList *m, const LoraSet *s) {
    const LoraItem *first = NULL;
    bool dims = true, alphas = true;
    for (int i = 0; i < s->n; i++) {
        const LoraItem *x = &s->item[i];
        if (!x->arena) continue;
        if (!first) first = x;
        dims = dims && lora_item_rank(x) == lora_item_rank(first);
        alphas = alphas && x->alpha == first->alpha;
    }
    meta_put(m, "ss_network_module", "networks.lora");
    meta_put(m, "ss_network_dim",
             first && dims
                 ? arena_printf(m->arena, "%lld", (long long)lora_item_rank(first))
                 : "Dynamic");
    meta_put(m, "ss_network_alpha",
             first && alphas ? meta_float(m->arena, first->alpha) : "Dynamic");
}

/* Local time, as Python's isoformat; of SOURCE_DATE_EPOCH where that is set. */
static const char *date(Arena *a) {
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t now = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm t;
    if (!(epoch ? gmtime_r(&now, &t) : localtime_r(&now, &t))) return "";
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    return arena_strdup(a, text);
}

void meta_modelspec(MetaList *m, const ModelSpec *s) {
    const char *family = !s->v2            ? "stable-diffusion-v1"
                         : s->v_prediction ? "stable-diffusion-v2-768-v"
                                           : "stable-diffusion-v2-512";
    meta_put(m, "modelspec.sai_model_spec", "1.0.1");
    meta_put(m, "modelspec.architecture",
             s->lora ? arena_printf(m->arena, "%s/lora", family) : family);
    meta_put(m, "modelspec.implementation",
             s->lora ? "diffusers"
                     : "https://github.com/Stability-AI/generative-models");
    meta_put(m, "modelspec.title",
             s->title ? s->title : meta_base_name(m->arena, s->save_to));
    meta_put(m, "modelspec.date", date(m->arena));
    meta_put(m, "modelspec.resolution",
             s->resolution              ? s->resolution
             : s->v2 && s->v_prediction ? "768x768"
                                        : "512x512");
    meta_put(m, "modelspec.prediction_type", s->v_prediction ? "v" : "epsilon");
    meta_put(m, "modelspec.implementation_version", "graphrun/" GRAPHRUN_VERSION);
    const struct {
        const char *key, *value;
    } more[] = {{"modelspec.merged_from", s->merged_from},
                {"modelspec.author", s->author},
                {"modelspec.description", s->description},
                {"modelspec.license", s->license},
                {"modelspec.tags", s->tags}};
    for (size_t i = 0; i < COUNT(more); i++)
        if (more[i].value) meta_put(m, more[i].key, more[i].value);
}

const char *meta_merged_from(Arena *a, const char *model, const MergeFiles *f) {
    Str s = {0};
    if (model) str_add(&s, meta_base_name(a, model));
    for (int i = 0; i < f->n; i++) {
        const char *title = tensors_meta(merge_tensors(&f->in[i]), "modelspec.title");
        if (s.n) str_add(&s, ", ");
        str_add(&s, title ? title : meta_base_name(a, merge_tensors(&f->in[i])->path));
    }
    const char *out = arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return out;
}
