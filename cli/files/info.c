/* `graphrun info FILE`: what is in a LoRA, a model or another file of tensors. Text for
 * people, --json for programs; both come from the same counts. */
#include "cli/files/info.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/files/adapter_file.h"
#include "cli/opt.h"
#include "io/file.h"
#include "io/model_write.h"

typedef struct Info {
    const char *adapter, *sd_model;
    bool strict_pickle;
} Info;

/* ---- metadata ---- */
static bool is_hash(const char *key) {
    return !strncmp(key, "sshs_", 5);
}

void info_meta(Str *s, const TensorFile *f) {
    enum { MOST_SHOWN = 160 };
    if (f->n_meta) str_add(s, "metadata\n");
    for (int i = 0; i < f->n_meta; i++) {
        if (is_hash(f->meta_key[i])) continue;
        size_t n = strlen(f->meta_value[i]);
        str_printf(s, "  %s: %.*s%s\n", f->meta_key[i], MOST_SHOWN, f->meta_value[i],
                   n > MOST_SHOWN ? "..." : "");
    }
}

void info_meta_json(Str *s, const TensorFile *f) {
    str_add(s, "\"metadata\": {");
    for (int i = 0; i < f->n_meta; i++) {
        if (i) str_add(s, ", ");
        str_json(s, f->meta_key[i]);
        str_add(s, ": ");
        str_json(s, f->meta_value[i]);
    }
    str_add(s, "}");
}

/* ---- counts ---- */
typedef struct Count {
    int tensors;
    uint64_t parameters, bytes;
    int dtype[DTYPES];
} Count;

static void count(Count *c, const Type *t) {
    c->tensors++;
    c->parameters += (uint64_t)type_count(t);
    c->bytes += type_bytes(t);
    c->dtype[t->dtype]++;
}

static void put_dtypes(Str *s, const Count *c) {
    const char *between = "";
    for (int t = 0; t < DTYPES; t++) {
        if (!c->dtype[t]) continue;
        str_printf(s, "%s%s %d", between, dtype_name((DType)t), c->dtype[t]);
        between = ", ";
    }
}

static void put_count(Str *s, const char *name, const Count *c) {
    str_printf(s, "%-14s %5d tensors, %12llu parameters, %8.1f MB: ", name, c->tensors,
               (unsigned long long)c->parameters, (double)c->bytes / 1e6);
    put_dtypes(s, c);
    str_add(s, "\n");
}

static void put_count_json(Str *s, const Count *c) {
    str_printf(
        s, "{\"tensors\": %d, \"parameters\": %llu, \"bytes\": %llu, \"dtypes\": {",
        c->tensors, (unsigned long long)c->parameters, (unsigned long long)c->bytes);
    const char *between = "";
    for (int t = 0; t < DTYPES; t++) {
        if (!c->dtype[t]) continue;
        str_printf(s, "%s\"%s\": %d", between, dtype_name((DType)t), c->dtype[t]);
        between = ", ";
    }
    str_add(s, "}}");
}

/* ---- models ---- */
static const char *const components[] = {"text_encoder", "unet", "vae"};

static Count count_component(const Checkpoint *c, const char *component) {
    Count n = {0};
    size_t len = strlen(component);
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *name = checkpoint_name(c, i, NULL);
        Type t;
        const void *data;
        if (strncmp(name, component, len) || name[len] != '.') continue;
        checkpoint_find(c, name, &t, &data);
        count(&n, &t);
    }
    return n;
}

static void model_json(Str *s, const Checkpoint *c, const char *family,
                       const TensorFile *f) {
    str_add(s, "{\"file\": ");
    str_json(s, checkpoint_path(c));
    str_printf(s, ", \"kind\": \"model\", \"family\": \"%s\", \"components\": {",
               family);
    for (size_t k = 0; k < COUNT(components); k++) {
        Count n = count_component(c, components[k]);
        str_printf(s, "%s\"%s\": ", k ? ", " : "", components[k]);
        put_count_json(s, &n);
    }
    str_add(s, "}");
    if (f) {
        Count all = {0};
        for (int i = 0; i < f->n; i++) count(&all, &f->entry[i].type);
        str_add(s, ", \"all\": ");
        put_count_json(s, &all);
        str_add(s, ", ");
        info_meta_json(s, f);
    }
    str_add(s, "}\n");
}

static void model_text(Str *s, const Checkpoint *c, const char *family,
                       const TensorFile *f) {
    str_printf(s, "%s: a model, family %s%s\n", checkpoint_path(c), family,
               f ? f->wrapped ? ", in \"state_dict\"" : "" : ", a Diffusers folder");
    if (f && f->wrapped)
        str_printf(s, "epoch %lld, global_step %lld\n", (long long)f->epoch,
                   (long long)f->global_step);
    for (size_t k = 0; k < COUNT(components); k++) {
        Count n = count_component(c, components[k]);
        if (n.tensors)
            put_count(s, components[k], &n);
        else
            str_printf(s, "%-14s not in the file\n", components[k]);
    }
    if (!f) return;
    Count all = {0};
    for (int i = 0; i < f->n; i++) count(&all, &f->entry[i].type);
    put_count(s, "whole file", &all);
    info_meta(s, f);
}

/* f: the file, or NULL for a folder */
static bool model_info(const Common *c, const char *path, const TensorFile *f, Err *e) {
    Checkpoint *m = checkpoint_open(path, e);
    if (!m) return false;
    const char *family = model_family(m);
    Str s = {0};
    if (c->json)
        model_json(&s, m, family, f);
    else
        model_text(&s, m, family, f);
    fputs(s.s, stdout);
    str_free(&s);
    checkpoint_close(m);
    return true;
}

/* ---- anything else ---- */
static void tensors_info(const Common *c, const TensorFile *f) {
    Str s = {0};
    if (c->json) {
        str_add(&s, "{\"file\": ");
        str_json(&s, f->path);
        str_add(&s, ", \"kind\": \"tensors\", \"tensors\": {");
        for (int i = 0; i < f->n; i++) {
            str_add(&s, i ? ", " : "");
            str_json(&s, f->entry[i].name);
            str_add(&s, ": ");
            str_json(&s, type_text(f->arena, &f->entry[i].type));
        }
        str_add(&s, "}, ");
        info_meta_json(&s, f);
        str_add(&s, "}\n");
    } else {
        Count all = {0};
        for (int i = 0; i < f->n; i++) count(&all, &f->entry[i].type);
        str_printf(&s, "%s: tensors, neither a model nor a LoRA\n", f->path);
        put_count(&s, "whole file", &all);
        for (int i = 0; i < f->n; i++)
            str_printf(&s, "  %s: %s\n", f->entry[i].name,
                       type_text(f->arena, &f->entry[i].type));
        info_meta(&s, f);
    }
    fputs(s.s, stdout);
    str_free(&s);
}

static bool is_model(const TensorFile *f, const char *path) {
    Err ignored = {0};
    Checkpoint *m = checkpoint_open(path, &ignored);
    checkpoint_close(m);
    (void)f;
    return m != NULL;
}

static bool file_info(const Common *c, const Info *o, const char *path, Err *e) {
    TensorFile *f = o->strict_pickle && path_is_torch(path) ? torch_open(path, true, e)
                                                            : tensors_open(path, e);
    if (!f) return false;
    for (int i = 0; i < f->n_note && !c->quiet; i++)
        fprintf(stderr, "note: %s: %s\n", path, f->note[i]);
    if (adapter_file_is(f) || (o->adapter && lora_is(f)))
        return info_adapter(c, f, &(InfoAdapter){o->adapter, o->sd_model}, e);
    if (lora_is(f)) {
        LoraFile *l = lora_from(f, e);
        bool ok = l && info_lora(c, l, e);
        lora_close(l);
        return ok;
    }
    bool ok = true;
    if (is_model(f, path))
        ok = model_info(c, path, f, e);
    else
        tensors_info(c, f);
    tensors_close(f);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    const char *path = words->word[0];
    bool ok = folder_exists(path) ? model_info(c, path, NULL, e)
                                  : file_info(c, opts, path, e);
    return ok ? EXIT_DONE : e->code;
}

static const Info defaults = {.strict_pickle = false};
static const Opt options[] = {
    OPT(Info, TEXT, adapter, "GRAPH",
        "the adapter's graph file, by name or path; without it the file's keys tell"),
    OPT(Info, TEXT, sd_model, "FILE",
        "of an adapter that is no plain LoRA: norms of what it changes in this model's "
        "weights, not of its own tensors"),
    OPT(Info, FLAG, strict_pickle, NULL,
        "refuse a .ckpt that names anything but tensors, which otherwise is left out"),
    OPT_END,
};

const Command cmd_info = {
    .name = "info",
    .args = "FILE",
    .doc = "Show what is in a LoRA, adapter or model file: metadata, modules, ranks, "
           "scales, "
           "norms, "
           "hashes.",
    .options = options,
    .size = sizeof(Info),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
