/* Writing a Diffusers folder. It is made beside its place under another name and renamed
 * when every file is on the disk. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "io/model_write.h"
#include "io/tokenizer_write.h"
#include "io/vocabulary.h"

typedef struct Save {
    Arena *arena;
    FolderOut *out;
    const char *folder; /* the temporary one */
    const Checkpoint *c;
    const Names *names;
    const DiffusersSave *how;
    int64_t overflow;
    bool tokenizer; /* the folder has one */
    Err *e;
} Save;

typedef struct Component {
    const char *name, *file, *bin, *library, *class;
} Component;
static const Component components[] = {
    {"text_encoder", "model.safetensors", "pytorch_model.bin", "transformers",
     "CLIPTextModel"},
    {"unet", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
     "diffusers", "UNet2DConditionModel"},
    {"vae", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin",
     "diffusers", "AutoencoderKL"},
};
static const char *const tokenizer_files[] = {
    "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};

static const char *in_folder(const Save *s, const char *name) {
    return arena_printf(s->arena, "%s/%s", s->folder, name);
}

/* ---- configs ---- */
static bool put_json(const Save *s, const char *name, const json_t *j) {
    char *text =
        json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    if (!text) return err_fail(s->e, "no memory for '%s'", name);
    Str out = {0};
    str_printf(&out, "%s\n", text);
    free(text);
    bool ok = file_write(in_folder(s, name), out.s, out.n, s->e);
    str_free(&out);
    return ok;
}

/* The source's fields over those that follow from the shapes. */
static bool put_config(const Save *s, const Component *k) {
    const char *made = diffusers_config(s->arena, s->c, k->name, s->how->family);
    json_t *j = made ? json_loads(made, 0, NULL) : json_object();
    json_t *given = json_loads(checkpoint_config(s->c, k->name), 0, NULL);
    if (json_is_object(given)) json_object_update(j, given);
    json_decref(given);
    bool ok = put_json(s, arena_printf(s->arena, "%s/config.json", k->name), j);
    json_decref(j);
    return ok;
}

/* Of a folder its own; NAME.config.json has at most prediction_type in it. */
static bool put_scheduler(const Save *s) {
    json_t *j =
        json_pack("{s:s, s:s, s:f, s:s, s:f, s:b, s:i, s:s, s:b, s:b, s:i}",
                  "_class_name", "PNDMScheduler", "_diffusers_version", "0.32.1",
                  "beta_end", 0.012, "beta_schedule", "scaled_linear", "beta_start",
                  0.00085, "clip_sample", 0, "num_train_timesteps", 1000,
                  "prediction_type", s->how->v_prediction ? "v_prediction" : "epsilon",
                  "set_alpha_to_one", 0, "skip_prk_steps", 1, "steps_offset", 1);
    json_t *given = json_loads(checkpoint_config(s->c, "scheduler"), 0, NULL);
    json_t *type = json_object_get(given, "prediction_type");
    if (json_object_get(given, "_class_name"))
        json_object_update(j, given);
    else if (json_is_string(type))
        json_object_set(j, "prediction_type", type);
    json_decref(given);
    bool ok = folder_make(in_folder(s, "scheduler"), s->e) &&
              put_json(s, "scheduler/scheduler_config.json", j);
    json_decref(j);
    return ok;
}

static bool put_index(const Save *s, const bool *there) {
    static const char *const absent[] = {"safety_checker", "feature_extractor",
                                         "image_encoder"};
    json_t *j = json_pack("{s:s, s:s, s:b}", "_class_name", "StableDiffusionPipeline",
                          "_diffusers_version", "0.32.1", "requires_safety_checker", 0);
    for (size_t i = 0; i < COUNT(components); i++)
        json_object_set_new(
            j, components[i].name,
            there[i] ? json_pack("[s,s]", components[i].library, components[i].class)
                     : json_pack("[n,n]"));
    json_object_set_new(j, "scheduler",
                        json_pack("[s,s]", "diffusers", "PNDMScheduler"));
    json_object_set_new(j, "tokenizer",
                        s->tokenizer
                            ? json_pack("[s,s]", "transformers", "CLIPTokenizer")
                            : json_pack("[n,n]"));
    for (size_t i = 0; i < COUNT(absent); i++)
        json_object_set_new(j, absent[i], json_pack("[n,n]"));
    bool ok = put_json(s, "model_index.json", j);
    json_decref(j);
    return ok;
}

static bool copy_tokenizer(const Save *s, const char *from) {
    bool ok = folder_make(in_folder(s, "tokenizer"), s->e);
    for (size_t i = 0; ok && i < COUNT(tokenizer_files); i++) {
        const char *path = arena_printf(s->arena, "%s/%s", from, tokenizer_files[i]);
        if (!file_exists(path)) continue;
        void *map;
        size_t n;
        ok = file_map(path, &map, &n, s->e);
        if (!ok) break;
        ok = file_write(
            in_folder(s, arena_printf(s->arena, "tokenizer/%s", tokenizer_files[i])),
            map, n, s->e);
        file_unmap(map, n);
    }
    return ok;
}

/* Whether CLIP's own tokenizer is the model's: by the size of the vocabulary. */
static bool is_clip(const Checkpoint *c) {
    Type t;
    const void *data;
    return checkpoint_find(c,
                           "text_encoder.text_model.embeddings.token_embedding.weight",
                           &t, &data) &&
           t.rank == 2 && t.dim[0] == CLIP_VOCABULARY;
}

/* The source's; else CLIP's, if the model's vocabulary is CLIP's and this build has it. */
static bool put_tokenizer(Save *s) {
    const char *from = checkpoint_tokenizer(s->c), *pad = "<|endoftext|>";
    s->tokenizer = from != NULL;
    if (from) return copy_tokenizer(s, from);
    Arena *scratch = arena_new();
    Source text;
    Err none = {0};
    bool have = is_clip(s->c) && vocabulary_text(scratch, &text, &none);
    arena_free(scratch);
    if (!have) return true;
    s->tokenizer = true;
    if (!strcmp(s->how->family, "sd2")) pad = "!"; /* id 0 */
    return folder_make(in_folder(s, "tokenizer"), s->e) &&
           tokenizer_write(in_folder(s, "tokenizer"), pad, NULL, s->e);
}

/* ---- weights ---- */
static bool is_one(const Type *t) {
    return t->rank == 4 && t->dim[2] == 1 && t->dim[3] == 1;
}

const char *diffusers_key(const Names *names, Arena *a, const char *name,
                          const char *component, Type *t) {
    size_t n = strlen(component);
    if (strncmp(name, component, n) || name[n] != '.') return NULL;
    NameTo to;
    if (names_to_file(names, a, name, &to)) {
        if ((to.matrix || (to.conv_ldm && !to.conv_diffusers)) && is_one(t))
            t->rank = 2;
        if (to.conv_diffusers && t->rank == 2) {
            t->rank = 4;
            t->dim[2] = t->dim[3] = 1;
        }
    }
    return name + n + 1;
}

static bool put_weights(Save *s, const Component *k, bool *there) {
    StoredList list = {
        .arena = s->arena, .model = s->c, .change = s->how->change, .folder = s->out};
    for (int i = 0; i < checkpoint_count(s->c); i++) {
        const char *name = checkpoint_name(s->c, i, NULL);
        TensorEntry x = {.name = name};
        checkpoint_find(s->c, name, &x.type, &x.data);
        const char *key = diffusers_key(s->names, s->arena, name, k->name, &x.type);
        if (key) stored_add(&list, key, &x, s->how->precision);
    }
    *there = list.n > 0;
    if (!*there) return true;
    const char *file = s->how->bin ? k->bin : k->file;
    const char *path = in_folder(s, arena_printf(s->arena, "%s/%s", k->name, file));
    bool ok = folder_make(in_folder(s, k->name), s->e) && put_config(s, k) &&
              stored_write(path, &list, &(Meta){"format", "pt"}, 1, NULL, s->e);
    s->overflow += list.overflow;
    return ok;
}

static bool put_all(Save *s) {
    bool there[COUNT(components)];
    for (size_t i = 0; i < COUNT(components); i++)
        if (!put_weights(s, &components[i], &there[i])) return false;
    return put_scheduler(s) && put_tokenizer(s) && put_index(s, there);
}

bool diffusers_write(const char *path, const Checkpoint *c, const DiffusersSave *how,
                     int64_t *overflow, Err *e) {
    Arena *a = arena_new();
    Save s = {
        .arena = a, .c = c, .names = names_open(a, how->family, e), .how = how, .e = e};
    if (s.names) s.out = folder_begin(path, false, e);
    if (s.out) s.folder = folder_place(s.out);
    bool ok = s.out && put_all(&s);
    if (ok)
        ok = folder_commit(s.out, e);
    else
        folder_abort(s.out);
    *overflow = s.overflow;
    arena_free(a);
    return ok;
}
