/* config.json fields -> arguments of network files: a table per component, and one rule
 * for `depth`, which Diffusers spells as block class names. */
#include "io/model_config.h"

#include <jansson.h>
#include <string.h>

typedef struct Field {
    const char *component, *arg;
    const char *name[2]; /* the first one that is there and not null */
    bool per_level;      /* a number stands for a list of that number, one per level */
} Field;

static const Field fields[] = {
    {"unet", "channels", {"block_out_channels"}, true},
    {"unet", "heads", {"num_attention_heads", "attention_head_dim"}, true},
    {"unet", "context", {"cross_attention_dim"}, false},
    {"text_encoder", "width", {"hidden_size"}, false},
    {"text_encoder", "layers", {"num_hidden_layers"}, false},
    {"text_encoder", "heads", {"num_attention_heads"}, false},
    {"text_encoder", "activation", {"hidden_act"}, false},
    {"text_encoder", "vocabulary", {"vocab_size"}, false},
    {"vae", "channels", {"block_out_channels"}, true},
};

static json_t *field(json_t *root, const char *name) {
    json_t *j = name ? json_object_get(root, name) : NULL;
    return j && !json_is_null(j) ? j : NULL;
}

static size_t levels(json_t *root) {
    return json_array_size(field(root, "block_out_channels"));
}

static bool wrong(const char *path, const char *name, const char *want, Err *e) {
    return err_usage(e, "%s: '%s' is not %s", path, name, want);
}

static bool value(Arena *a, const Field *f, const char *name, json_t *root,
                  const char *path, Val *out, Err *e) {
    json_t *j = field(root, name);
    if (json_is_string(j)) {
        *out = val_word(arena_strdup(a, json_string_value(j)));
        return true;
    }
    size_t n = json_is_array(j) ? json_array_size(j) : f->per_level ? levels(root) : 0;
    if (!json_is_array(j) && !json_is_integer(j))
        return wrong(path, name, f->per_level ? "a list of integers" : "an integer", e);
    if (!json_is_array(j) && !f->per_level) {
        *out = val_int(json_integer_value(j));
        return true;
    }
    *out = (Val){.kind = VAL_LIST};
    out->list.item = NEW(a, Val, n);
    out->list.n = (int)n;
    for (size_t i = 0; i < n; i++) {
        json_t *item = json_is_array(j) ? json_array_get(j, i) : j;
        if (!json_is_integer(item)) return wrong(path, name, "a list of integers", e);
        out->list.item[i] = val_int(json_integer_value(item));
    }
    return true;
}

/* transformer blocks per attention and level: 0 where the level has no attention */
static bool depth(Arena *a, json_t *root, const char *path, Args *out, Err *e) {
    json_t *types = field(root, "down_block_types");
    if (!types) return true;
    if (!json_is_array(types))
        return wrong(path, "down_block_types", "a list of names", e);
    json_t *per = field(root, "transformer_layers_per_block");
    size_t n = json_array_size(types);
    Val v = {.kind = VAL_LIST};
    v.list.item = NEW(a, Val, n);
    v.list.n = (int)n;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(types, i));
        if (!name) return wrong(path, "down_block_types", "a list of names", e);
        json_t *layers = json_is_array(per) ? json_array_get(per, i) : per;
        if (layers && !json_is_integer(layers))
            return wrong(path, "transformer_layers_per_block",
                         "an integer or a list of them", e);
        bool attends = strstr(name, "CrossAttn") != NULL;
        v.list.item[i] = val_int(!attends ? 0
                                 : layers ? json_integer_value(layers)
                                          : 1);
    }
    args_set(out, "depth", v);
    return true;
}

bool model_config_args(Arena *a, const char *component, const char *json,
                       const char *path, Args *out, Err *e) {
    json_error_t why;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(root)) {
        json_decref(root);
        return err_usage(e, "%s: not a JSON object: %s", path, why.text);
    }
    bool ok = strcmp(component, "unet") || depth(a, root, path, out, e);
    for (size_t i = 0; ok && i < COUNT(fields); i++) {
        const Field *f = &fields[i];
        if (strcmp(f->component, component)) continue;
        const char *name = field(root, f->name[0]) ? f->name[0] : f->name[1];
        Val v;
        if (!field(root, name)) continue;
        ok = value(a, f, name, root, path, &v, e);
        if (ok) args_set(out, f->arg, v);
    }
    json_decref(root);
    return ok;
}
