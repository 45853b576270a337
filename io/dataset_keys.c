/* One table says what a dataset file may hold. Nothing in it is silently ignored: a key is
 * carried out, or its file is refused with the place and the nearest name. */
#include "io/dataset_keys.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "io/buckets.h"

const char *const resize_words[] = {"area",     "lanczos", "lanczos4", "box",
                                    "bilinear", "linear",  "bicubic",  "cubic",
                                    "nearest",  NULL};

enum {
    ABOVE = KEYS_GENERAL | KEYS_DATASET,
    ALL = ABOVE | KEYS_SUBSET,
    FOLDERS = ABOVE | KEYS_FOLDER
};

/* clang-format off */
static const Key keys[] = {
    {"batch_size",            KEY_INT,    ABOVE, 1, 4096, NULL, NAN},
    {"resolution",            KEY_SIZE,   ABOVE, 8, RESO_MAX, NULL, NAN},
    {"enable_bucket",         KEY_BOOL,   ABOVE, 0, 0, NULL, NAN},
    {"min_bucket_reso",       KEY_INT,    ABOVE, 1, RESO_MAX, NULL, NAN},
    {"max_bucket_reso",       KEY_INT,    ABOVE, 1, RESO_MAX, NULL, NAN},
    {"bucket_reso_steps",     KEY_INT,    ABOVE, 8, RESO_MAX, NULL, NAN},
    {"bucket_no_upscale",     KEY_BOOL,   ABOVE, 0, 0, NULL, NAN},
    {"network_multiplier",    KEY_NUMBER, ABOVE, 0, 0, NULL, 1},
    {"validation_seed",       KEY_INT,    ABOVE, 0, INT_MAX, NULL, NAN},
    {"validation_split",      KEY_NUMBER, ABOVE, 0, 0.99, NULL, NAN},
    {"resize_interpolation",  KEY_TEXT,   ALL, 0, 0, resize_words, NAN},
    {"num_repeats",           KEY_INT,    ALL, -1000000, 1000000, NULL, NAN},
    {"shuffle_caption",       KEY_BOOL,   ALL, 0, 0, NULL, NAN},
    {"keep_tokens",           KEY_INT,    ALL, 0, 1000000, NULL, NAN},
    {"caption_separator",     KEY_TEXT,   ALL, 1, 0, NULL, NAN},
    {"keep_tokens_separator", KEY_TEXT,   ALL, 0, 0, NULL, NAN},
    {"secondary_separator",   KEY_TEXT,   ALL, 0, 0, NULL, NAN},
    {"enable_wildcard",       KEY_BOOL,   ALL, 0, 0, NULL, NAN},
    {"caption_prefix",        KEY_TEXT,   ALL, 0, 0, NULL, NAN},
    {"caption_suffix",        KEY_TEXT,   ALL, 0, 0, NULL, NAN},
    {"color_aug",             KEY_BOOL,   ALL, 0, 0, NULL, NAN},
    {"flip_aug",              KEY_BOOL,   ALL, 0, 0, NULL, NAN},
    {"random_crop",           KEY_BOOL,   ALL, 0, 0, NULL, NAN},
    {"face_crop_aug_range",   KEY_RANGE,  ALL, 0.01, 1000, NULL, NAN},
    {"caption_dropout_rate",  KEY_NUMBER, ALL, 0, 1, NULL, NAN},
    {"caption_dropout_every_n_epochs", KEY_INT, ALL, 0, INT_MAX, NULL, NAN},
    {"caption_tag_dropout_rate", KEY_NUMBER, ALL, 0, 1, NULL, NAN},
    {"token_warmup_min",      KEY_INT,    ALL, 0, INT_MAX, NULL, NAN},
    {"token_warmup_step",     KEY_NUMBER, ALL, 0, 1e9, NULL, NAN},
    {"custom_attributes",     KEY_TABLE,  ALL, 0, 0, NULL, NAN},
    {"caption_extension",     KEY_TEXT,   FOLDERS, 1, 0, NULL, NAN},
    {"class_tokens",          KEY_TEXT,   FOLDERS, 0, 0, NULL, NAN},
    {"cache_info",            KEY_BOOL,   FOLDERS, 0, 0, NULL, NAN},
    {"is_reg",                KEY_BOOL,   KEYS_FOLDER, 0, 0, NULL, NAN},
    {"conditioning_data_dir", KEY_TEXT,   KEYS_FOLDER, 1, 0, NULL, NAN},
    {"image_dir",             KEY_TEXT,   KEYS_SUBSET, 1, 0, NULL, NAN},
    {"alpha_mask",            KEY_BOOL,   KEYS_SUBSET, 0, 0, NULL, NAN},
    {"metadata_file",         KEY_TEXT,   KEYS_METADATA, 1, 0, NULL, NAN},
};
/* clang-format on */

const Key *data_key(const char *name) {
    for (size_t i = 0; i < COUNT(keys); i++)
        if (!strcmp(keys[i].name, name)) return &keys[i];
    return NULL;
}

static const char *place_name(int where) {
    return where == KEYS_GENERAL    ? "[general]"
           : where == KEYS_DATASET  ? "[[datasets]]"
           : where == KEYS_METADATA ? "[[datasets.subsets]] with a metadata_file"
                                    : "[[datasets.subsets]]";
}

/* Where a key belongs, for the message about one that stands elsewhere. */
static const char *home_name(int where) {
    return where & KEYS_GENERAL && !(where & KEYS_SUBSET) ? "[general] and [[datasets]]"
           : where & KEYS_METADATA                        ? "[[datasets.subsets]]"
                                   : "subsets that are folders of pictures";
}

static bool unknown_key(Arena *a, const Toml *v, int where, Err *e) {
    const char *names[COUNT(keys) + 1];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(keys); i++)
        if (keys[i].where & where) names[n++] = keys[i].name;
    names[n] = NULL;
    return err_at(e, v->key_loc, "unknown key '%s' in %s%s", v->key, place_name(where),
                  did_you_mean(a, v->key, names));
}

/* ---- values ---- */
static bool wrong_type(const Key *k, const Toml *v, Err *e) {
    static const char *const names[] = {"an integer",
                                        "true or false",
                                        "a number",
                                        "a text",
                                        "an integer or a list [width, height]",
                                        "a list of two numbers",
                                        "a table"};
    return err_at(e, v->loc, "'%s' must be %s: got %s", k->name, names[k->type],
                  toml_kind_name(v->kind));
}

static bool is_number(const Toml *v) {
    return v->kind == TOML_INT || v->kind == TOML_FLOAT;
}

/* Written so that a NaN fails. */
static bool in_range(const Key *k, const Toml *v, Err *e) {
    if ((k->lo == 0 && k->hi == 0) || (v->x >= k->lo && v->x <= k->hi)) return true;
    return err_at(e, v->loc, "'%s' must be %.10g … %.10g: got %.10g", k->name, k->lo,
                  k->hi, v->x);
}

static bool check_list(const Key *k, const Toml *v, Err *e) {
    if (v->kind != TOML_ARRAY || v->n != 2) return wrong_type(k, v, e);
    for (int i = 0; i < 2; i++) {
        bool fits =
            k->type == KEY_SIZE ? v->item[i].kind == TOML_INT : is_number(&v->item[i]);
        if (!fits) return wrong_type(k, v, e);
        if (!in_range(k, &v->item[i], e)) return false;
    }
    return k->type == KEY_SIZE || v->item[0].x <= v->item[1].x ||
           err_at(e, v->loc, "'%s': %g is above %g", k->name, v->item[0].x,
                  v->item[1].x);
}

static bool check_text(Arena *a, const Key *k, const Toml *v, Err *e) {
    if (v->kind != TOML_TEXT) return wrong_type(k, v, e);
    if (k->lo > 0 && !*v->text)
        return err_at(e, v->loc, "'%s' must not be empty", k->name);
    if (!k->words) return true;
    Str all = {0};
    for (int i = 0; k->words[i]; i++) {
        if (!strcmp(k->words[i], v->text)) {
            str_free(&all);
            return true;
        }
        str_printf(&all, "%s%s", i ? ", " : "", k->words[i]);
    }
    err_at(e, v->loc, "'%s' is none of %s: got '%s'%s", k->name, all.s, v->text,
           did_you_mean(a, v->text, k->words));
    str_free(&all);
    return false;
}

static bool check_value(Arena *a, const Key *k, const Toml *v, Err *e) {
    switch (k->type) {
    case KEY_INT:
        return v->kind == TOML_INT ? in_range(k, v, e) : wrong_type(k, v, e);
    case KEY_BOOL:
        return v->kind == TOML_BOOL || wrong_type(k, v, e);
    case KEY_NUMBER:
        return is_number(v) ? in_range(k, v, e) : wrong_type(k, v, e);
    case KEY_TEXT:
        return check_text(a, k, v, e);
    case KEY_SIZE:
        if (v->kind == TOML_INT) return in_range(k, v, e);
        return check_list(k, v, e);
    case KEY_RANGE:
        return check_list(k, v, e);
    case KEY_TABLE:
        break;
    }
    return v->kind == TOML_TABLE || wrong_type(k, v, e);
}

/* Rules about one key that are not in the table. */
static bool check_rule(const Key *k, const Toml *v, Err *e) {
    if (!strcmp(k->name, "bucket_reso_steps") && v->i % 8)
        return err_at(e, v->loc, "'%s' must be a multiple of 8: got %lld", k->name,
                      (long long)v->i);
    if (!isnan(k->only) && v->x != k->only)
        return err_at(e, v->loc, "'%s' must be %g: other values are not carried out",
                      k->name, k->only);
    return true;
}

bool keys_check(Arena *a, const Toml *t, int where, const char *inner, Err *e) {
    for (int i = 0; i < t->n; i++) {
        const Toml *v = &t->item[i];
        if (inner && !strcmp(v->key, inner)) continue;
        const Key *k = data_key(v->key);
        if (!k) return unknown_key(a, v, where, e);
        if (!(k->where & where))
            return err_at(e, v->key_loc, "'%s' is not allowed in %s, only in %s",
                          k->name, place_name(where), home_name(k->where));
        if (!check_value(a, k, v, e) || !check_rule(k, v, e)) return false;
    }
    return true;
}
