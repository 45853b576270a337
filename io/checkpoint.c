/* Base models, whatever form they are stored in, seen as one list of tensors with Diffusers
 * names: one file with LDM or Diffusers keys (.safetensors, or what torch.save wrote), or a
 * Diffusers folder with plain, fp16 or sharded files. Data stays in the mapped files; parts of joined tensors are views.
 * A name that two tensors claim is refused: which one is meant cannot be known. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "io/names.h"
#include "io/tensors.h"

typedef struct Item {
    const char *name, *key;
    Type type;
    const void *data;
} Item;

typedef struct Config {
    const char *component, *path, *text;
} Config;

struct Checkpoint {
    Arena *arena;
    const char *path;
    TensorFile **file;
    int n_file, cap_file;
    Item *item; /* sorted by name */
    int n, cap;
    Config *config;
    int n_config, cap_config;
    const char *tokenizer;
};

const char *const checkpoint_components[] = {"unet", "text_encoder", "vae", NULL};
static const char layers[] = "text_encoder.text_model.encoder.layers.";

/* OpenCLIP ViT-H without its last layer, which SD2 never runs */
enum { SD2_LAYERS = 23 };

const char *checkpoint_component(const char *name) {
    for (const char *const *k = checkpoint_components; *k; k++) {
        size_t n = strlen(*k);
        if (!strncmp(name, *k, n) && name[n] == '.') return *k;
    }
    return NULL;
}

/* ---- one tensor of a file ---- */
static bool add_item(Checkpoint *c, const TensorFile *f, const TensorEntry *x,
                     NamePart p, Err *e) {
    Type t = x->type;
    const char *data = x->data;
    if (p.parts > 1) {
        if (t.rank < 1 || t.dim[0] % p.parts)
            return err_fail(e, "'%s': tensor '%s' is %s, want rows in %d equal parts",
                            f->path, x->name, type_text(c->arena, &t), p.parts);
        t.dim[0] /= p.parts;
        data += type_bytes(&t) * (size_t)p.part;
    }
    Item item = {p.name, x->name, t, data};
    PUSH(c->arena, c->item, c->n, c->cap, item);
    return true;
}

/* component: that the file's keys lack, or NULL. Keys that are no names of ours are left
 * out: optimizer states, schedules, other networks. */
static bool add_tensor(Checkpoint *c, const Names *names, const TensorFile *f,
                       const TensorEntry *x, const char *component, Err *e) {
    const char *key =
        component ? arena_printf(c->arena, "%s.%s", component, x->name) : x->name;
    NamePart part[NAME_PARTS];
    bool dropped;
    int n = names_from_file(names, c->arena, key, part, &dropped);
    if (!n && !dropped && checkpoint_component(key)) part[n++] = (NamePart){key, 0, 1};
    for (int i = 0; i < n; i++)
        if (!add_item(c, f, x, part[i], e)) return false;
    return true;
}

static TensorFile *add_file(Checkpoint *c, const char *path, Err *e) {
    TensorFile *f = tensors_open(path, e);
    if (f) PUSH(c->arena, c->file, c->n_file, c->cap_file, f);
    return f;
}

/* ---- configs ---- */
static void add_config(Checkpoint *c, const char *component, const char *path,
                       const char *text) {
    Config x = {component, path, text};
    PUSH(c->arena, c->config, c->n_config, c->cap_config, x);
}

static bool folder_config(Checkpoint *c, const char *component, const char *name,
                          Err *e) {
    const char *path = arena_printf(c->arena, "%s/%s/%s", c->path, component, name);
    if (!file_exists(path)) return true;
    const Source *src;
    json_t *root = json_read(c->arena, path, &src, e);
    if (!root) return false;
    json_decref(root);
    add_config(c, component, path, src->text);
    return true;
}

/* NAME.config.json: one object per component; prediction_type, which a folder keeps in the
 * scheduler's config, stands at the top. */
static bool file_config(Checkpoint *c, Err *e) {
    const char *slash = strrchr(c->path, '/'), *dot = strrchr(c->path, '.');
    size_t n =
        dot && (!slash || dot > slash) ? (size_t)(dot - c->path) : strlen(c->path);
    const char *path = arena_printf(c->arena, "%.*s.config.json", (int)n, c->path);
    if (!file_exists(path)) return true;
    const Source *src;
    json_t *root = json_read(c->arena, path, &src, e);
    if (!root) return false;
    bool ok = true;
    for (const char *const *k = checkpoint_components; ok && *k; k++) {
        json_t *part = json_object_get(root, *k);
        if (!part) continue;
        ok = json_is_object(part) ||
             err_at(e, (Loc){src, 0, 0, 0}, "'%s' is not an object", *k);
        if (ok) add_config(c, *k, path, json_text(c->arena, part));
    }
    json_t *scheduler = json_object_get(root, "scheduler");
    add_config(c, "scheduler", path,
               json_text(c->arena, json_is_object(scheduler) ? scheduler : root));
    json_decref(root);
    return ok;
}

/* ---- a single file ---- */
/* How many layers of an OpenCLIP text encoder are used: what the config says; else all but
 * the last, unless the file is one that was stripped of it. */
static int used_layers(const Checkpoint *c, int in_file) {
    const char *text = checkpoint_config(c, "text_encoder");
    json_t *root = *text ? json_loads(text, 0, NULL) : NULL;
    json_t *n = json_object_get(root, "num_hidden_layers");
    int used = in_file == SD2_LAYERS ? in_file : in_file - 1;
    if (json_is_integer(n) && json_integer_value(n) >= 0 &&
        json_integer_value(n) <= in_file)
        used = (int)json_integer_value(n);
    json_decref(root);
    return used > 0 ? used : 0;
}

/* -1: not in a layer */
static int layer_of(const char *name) {
    enum { MOST = 1000 };
    size_t n = sizeof layers - 1;
    if (strncmp(name, layers, n)) return -1;
    long layer = strtol(name + n, NULL, 10);
    return layer < 0 ? -1 : layer > MOST ? MOST : (int)layer;
}

static void drop_unused_layers(Checkpoint *c) {
    int in_file = 0, kept = 0;
    for (int i = 0; i < c->n; i++)
        if (layer_of(c->item[i].name) >= in_file)
            in_file = layer_of(c->item[i].name) + 1;
    int used = used_layers(c, in_file);
    for (int i = 0; i < c->n; i++)
        if (layer_of(c->item[i].name) < used) c->item[kept++] = c->item[i];
    c->n = kept;
}

/* A file of a VAE alone has keys without a prefix: what stands before them in a whole model
 * of the same form. NULL: it is none. */
static const char *vae_alone(const TensorFile *f) {
    if (!tensors_find(f, "encoder.conv_in.weight")) return NULL;
    for (int i = 0; i < f->n; i++)
        if (!strncmp(f->entry[i].name, "encoder.down.", 13)) return "first_stage_model";
    return "vae";
}

static bool open_file(Checkpoint *c, Err *e) {
    if (!file_exists(c->path))
        return err_fail(e, "no model at '%s': %s", c->path, strerror(ENOENT));
    TensorFile *f = add_file(c, c->path, e);
    if (!f || !file_config(c, e)) return false;
    const char **key = NEW(c->arena, const char *, f->n);
    for (int i = 0; i < f->n; i++) key[i] = f->entry[i].name;
    const char *family = names_family(key, f->n), *alone = vae_alone(f);
    const Names *names = names_open(c->arena, family, e);
    if (!names) return false;
    for (int i = 0; i < f->n; i++)
        if (!add_tensor(c, names, f, &f->entry[i], alone, e)) return false;
    if (!c->n)
        return err_fail(
            e,
            "'%s' is no Stable Diffusion model: none of its %d tensors has a "
            "known name%s%.80s%s",
            c->path, f->n, f->n ? ", the first is '" : "", f->n ? f->entry[0].name : "",
            f->n ? "'" : "");
    if (!strcmp(family, "sd2")) drop_unused_layers(c);
    return true;
}

/* ---- a Diffusers folder ---- */
static bool add_whole_file(Checkpoint *c, const Names *names, const char *path,
                           const char *component, Err *e) {
    const TensorFile *f = add_file(c, path, e);
    for (int i = 0; f && i < f->n; i++)
        if (!add_tensor(c, names, f, &f->entry[i], component, e)) return false;
    return f != NULL;
}

/* A shard named by an index: a plain name beside it. */
static TensorFile *open_shard(Checkpoint *c, const Source *index, const char *folder,
                              const char *name, Err *e) {
    if (!name || strchr(name, '/') || *name == '.' ||
        !(ends_with(name, ".safetensors") || ends_with(name, ".bin"))) {
        err_at(e, (Loc){index, 0, 0, 0},
               "'weight_map' names '%.100s', want a .safetensors or .bin "
               "file of this folder",
               name ? name : "something that is not text");
        return NULL;
    }
    const char *path = arena_printf(c->arena, "%s/%s", folder, name);
    for (int i = 0; i < c->n_file; i++)
        if (!strcmp(c->file[i]->path, path)) return c->file[i];
    return add_file(c, path, e);
}

static bool add_shards(Checkpoint *c, const Names *names, const char *path,
                       const char *folder, const char *component, Err *e) {
    const Source *src;
    json_t *root = json_read(c->arena, path, &src, e), *shard;
    if (!root) return false;
    json_t *map = json_object_get(root, "weight_map");
    bool ok = json_is_object(map) || err_at(e, (Loc){src, 0, 0, 0},
                                            "'weight_map' is missing or not an object");
    const char *key;
    json_object_foreach(map, key, shard) {
        const TensorFile *f = open_shard(c, src, folder, json_string_value(shard), e);
        const TensorEntry *x = f ? tensors_find(f, key) : NULL;
        if (f && !x)
            err_fail(e, "'%s' has no tensor '%.100s', which '%s' promises", f->path,
                     key, path);
        ok = x && add_tensor(c, names, f, x, component, e);
        if (!ok) break;
    }
    json_decref(root);
    return ok;
}

/* The order of Diffusers: safetensors before .bin, one file before its shards, the fp16
 * variant when there is no other. %s: the base name. */
static bool open_component(Checkpoint *c, const Names *names, const char *component,
                           Err *e) {
    static const struct {
        bool bin;
        const char *ending;
    } form[] = {{false, ".safetensors"},
                {false, ".safetensors.index.json"},
                {true, ".bin"},
                {true, ".bin.index.json"},
                {false, ".fp16.safetensors"},
                {false, ".safetensors.index.fp16.json"},
                {true, ".fp16.bin"},
                {true, ".bin.index.fp16.json"}};
    const char *folder = arena_printf(c->arena, "%s/%s", c->path, component);
    bool text = !strcmp(component, "text_encoder");
    const char *const base[] = {text ? "model" : "diffusion_pytorch_model",
                                text ? "pytorch_model" : "diffusion_pytorch_model"};
    for (size_t i = 0; i < COUNT(form); i++) {
        const char *path = arena_printf(c->arena, "%s/%s%s", folder, base[form[i].bin],
                                        form[i].ending);
        if (!file_exists(path)) continue;
        return ends_with(path, ".json")
                   ? add_shards(c, names, path, folder, component, e)
                   : add_whole_file(c, names, path, component, e);
    }
    return err_fail(e,
                    "no weights in '%s': want %s.safetensors, %s.bin, their .fp16 "
                    "variants or an index of shards",
                    folder, base[0], base[1]);
}

static bool open_folder(Checkpoint *c, Err *e) {
    const Names *names = names_open(c->arena, "sd1", e);
    if (!names) return false;
    bool any = false;
    for (const char *const *k = checkpoint_components; *k; k++) {
        if (!folder_exists(arena_printf(c->arena, "%s/%s", c->path, *k))) continue;
        any = true;
        if (!open_component(c, names, *k, e) || !folder_config(c, *k, "config.json", e))
            return false;
    }
    if (!any)
        return err_fail(
            e, "'%s' is no model folder: no unet, text_encoder or vae in it", c->path);
    const char *t = arena_printf(c->arena, "%s/tokenizer", c->path);
    if (file_exists(arena_printf(c->arena, "%s/vocab.json", t)) &&
        file_exists(arena_printf(c->arena, "%s/merges.txt", t)))
        c->tokenizer = t;
    return folder_config(c, "scheduler", "scheduler_config.json", e);
}

/* ---- the list ---- */
static int by_name(const void *a, const void *b) {
    return strcmp(((const Item *)a)->name, ((const Item *)b)->name);
}

static bool sort_items(Checkpoint *c, Err *e) {
    if (c->n) qsort(c->item, (size_t)c->n, sizeof *c->item, by_name);
    for (int i = 1; i < c->n; i++)
        if (!strcmp(c->item[i - 1].name, c->item[i].name))
            return err_fail(e, "'%s': tensors '%s' and '%s' are both '%s'", c->path,
                            c->item[i - 1].key, c->item[i].key, c->item[i].name);
    return true;
}

Checkpoint *checkpoint_open(const char *path, Err *e) {
    Arena *a = arena_new();
    Checkpoint *c = NEW(a, Checkpoint, 1);
    c->arena = a;
    c->path = arena_strdup(a, path);
    bool ok = folder_exists(path) ? open_folder(c, e) : open_file(c, e);
    if (ok && sort_items(c, e)) return c;
    checkpoint_close(c);
    return NULL;
}

void checkpoint_close(Checkpoint *c) {
    if (!c) return;
    for (int i = 0; i < c->n_file; i++) tensors_close(c->file[i]);
    arena_free(c->arena);
}

void checkpoint_release(const Checkpoint *c, const void *data, size_t n) {
    for (int i = 0; i < c->n_file; i++) tensors_release(c->file[i], data, n);
}

const char *checkpoint_path(const Checkpoint *c) {
    return c->path;
}

bool checkpoint_find(const Checkpoint *c, const char *name, Type *type,
                     const void **data) {
    Item key = {.name = name};
    const Item *x =
        c->n ? bsearch(&key, c->item, (size_t)c->n, sizeof key, by_name) : NULL;
    if (!x) return false;
    *type = x->type;
    *data = x->data;
    return true;
}

bool checkpoint_replace(Checkpoint *c, const char *name, Type t, const void *data) {
    Item key = {.name = name};
    Item *x = c->n ? bsearch(&key, c->item, (size_t)c->n, sizeof key, by_name) : NULL;
    if (!x || !type_same_shape(&x->type, &t)) return false;
    x->type = t;
    x->data = data;
    return true;
}

void checkpoint_forget(const Checkpoint *c, const void *p, size_t n) {
    for (int i = 0; i < c->n_file; i++)
        file_forget(c->file[i]->map, c->file[i]->map_bytes, p, n);
}

int checkpoint_count(const Checkpoint *c) {
    return c->n;
}

const char *checkpoint_name(const Checkpoint *c, int i, const char **file_key) {
    if (file_key) *file_key = c->item[i].key;
    return c->item[i].name;
}

static const Config *config_of(const Checkpoint *c, const char *component) {
    static const Config none = {"", "", ""};
    for (int i = 0; i < c->n_config; i++)
        if (!strcmp(c->config[i].component, component)) return &c->config[i];
    return &none;
}

const char *checkpoint_config(const Checkpoint *c, const char *component) {
    return config_of(c, component)->text;
}

const char *checkpoint_config_path(const Checkpoint *c, const char *component) {
    return config_of(c, component)->path;
}

const char *checkpoint_tokenizer(const Checkpoint *c) {
    return c->tokenizer;
}
