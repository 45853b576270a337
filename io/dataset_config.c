/* The dataset TOML of sd-scripts (training.md 2.1), strictly: one table says which keys
 * there are, of which type, where they may stand, and which this version carries out.
 *
 * A value is looked for in the subset, then the dataset, then [general], then the
 * command line, then the built-in default. A key that is not carried out is an error
 * unless its value is the one that does nothing: nothing is ever silently ignored. */
#include "io/dataset_config.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/toml.h"

/* ---- the table ---- */
enum { GENERAL = 1, DATASET = 2, SUBSET = 4, ABOVE = GENERAL | DATASET, ALL = 7 };
typedef enum KeyType { INT, BOOL, NUMBER, TEXT, SIZE, PAIR, TABLE } KeyType;

typedef struct Key {
    const char *name;
    KeyType type;
    int where;
    int lo, hi; /* bounds of integers, and of both sides of a size */
    /* not NULL: not carried out, except that this value does nothing ("-": none does)
     * */
    const char *idle;
} Key;

/* clang-format off */
static const Key keys[] = {
    {"batch_size",          INT,  ABOVE, 1, 4096, 0},
    {"resolution",          SIZE, ABOVE, 8, RESO_MAX, 0},
    {"enable_bucket",       BOOL, ABOVE, 0, 0, 0},
    {"min_bucket_reso",     INT,  ABOVE, 1, RESO_MAX, 0},
    {"max_bucket_reso",     INT,  ABOVE, 1, RESO_MAX, 0},
    {"bucket_reso_steps",   INT,  ABOVE, 8, RESO_MAX, 0},
    {"bucket_no_upscale",   BOOL, ABOVE, 0, 0, 0},
    {"num_repeats",         INT,  ALL, -1000000, 1000000, 0},
    {"shuffle_caption",     BOOL, ALL, 0, 0, 0},
    {"keep_tokens",         INT,  ALL, 0, 1000000, 0},
    {"caption_separator",   TEXT, ALL, 0, 0, 0},
    {"caption_extension",   TEXT, ALL, 0, 0, 0},
    {"class_tokens",        TEXT, ALL, 0, 0, 0},
    {"flip_aug",            BOOL, ALL, 0, 0, 0},
    {"image_dir",           TEXT, SUBSET, 0, 0, 0},
    {"is_reg",              BOOL, SUBSET, 0, 0, 0},
    {"network_multiplier",  NUMBER, ABOVE, 0, 0, "1"},
    {"validation_seed",     INT,    ABOVE, INT_MIN, INT_MAX, "-"},
    {"validation_split",    NUMBER, ABOVE, 0, 0, "0"},
    {"resize_interpolation", TEXT,  ALL, 0, 0, "-"},
    {"keep_tokens_separator", TEXT, ALL, 0, 0, ""},
    {"secondary_separator", TEXT, ALL, 0, 0, ""},
    {"enable_wildcard",     BOOL, ALL, 0, 0, "0"},
    {"caption_prefix",      TEXT, ALL, 0, 0, ""},
    {"caption_suffix",      TEXT, ALL, 0, 0, ""},
    {"color_aug",           BOOL, ALL, 0, 0, "0"},
    {"random_crop",         BOOL, ALL, 0, 0, "0"},
    {"face_crop_aug_range", PAIR, ALL, 0, 0, "-"},
    {"caption_dropout_rate", NUMBER, ALL, 0, 0, "0"},
    {"caption_dropout_every_n_epochs", INT, ALL, 0, INT_MAX, "0"},
    {"caption_tag_dropout_rate", NUMBER, ALL, 0, 0, "0"},
    {"token_warmup_min",    INT,    ALL, 0, INT_MAX, "1"},
    {"token_warmup_step",   NUMBER, ALL, 0, 0, "0"},
    {"custom_attributes",   TABLE,  ALL, 0, 0, "-"},
    {"cache_info",          BOOL, ALL, 0, 0, "0"},
    {"alpha_mask",          BOOL, SUBSET, 0, 0, "0"},
    {"metadata_file",       TEXT, SUBSET, 0, 0, "-"},
};
/* clang-format on */

static const Key *find_key(const char *name) {
    for (size_t i = 0; i < COUNT(keys); i++)
        if (!strcmp(keys[i].name, name)) return &keys[i];
    return NULL;
}

static const char *place_name(int where) {
    return where == GENERAL   ? "[general]"
           : where == DATASET ? "[[datasets]]"
                              : "[[datasets.subsets]]";
}

/* ---- checking what a table says ---- */
typedef struct Ctx {
    Arena *a;
    const DataOptions *o;
    DataConfig *out;
    Err *e;
} Ctx;

static void note(Ctx *c, const char *text) {
    PUSH(c->a, c->out->note, c->out->n_note, c->out->cap_note, text);
}

static bool wrong_type(Ctx *c, const Key *k, const Toml *v) {
    static const char *const names[] = {"an integer",
                                        "true or false",
                                        "a number",
                                        "a text",
                                        "an integer or a list [width, height]",
                                        "a list of two numbers",
                                        "a table"};
    return err_at(c->e, v->loc, "'%s' must be %s: got %s", k->name, names[k->type],
                  toml_kind_name(v->kind));
}

static bool in_range(Ctx *c, const Key *k, const Toml *v) {
    return (v->i >= k->lo && v->i <= k->hi) ||
           err_at(c->e, v->loc, "'%s' must be %d … %d: got %lld", k->name, k->lo, k->hi,
                  (long long)v->i);
}

static bool is_number(const Toml *v) {
    return v->kind == TOML_INT || v->kind == TOML_FLOAT;
}

static bool check_size(Ctx *c, const Key *k, const Toml *v) {
    if (v->kind == TOML_INT) return in_range(c, k, v);
    if (v->kind != TOML_ARRAY || v->n != 2) return wrong_type(c, k, v);
    for (int i = 0; i < 2; i++) {
        if (v->item[i].kind != TOML_INT) return wrong_type(c, k, v);
        if (!in_range(c, k, &v->item[i])) return false;
    }
    return true;
}

static bool check_type(Ctx *c, const Key *k, const Toml *v) {
    bool ok = true;
    switch (k->type) {
    case INT:
        ok = v->kind == TOML_INT;
        break;
    case BOOL:
        ok = v->kind == TOML_BOOL;
        break;
    case NUMBER:
        ok = is_number(v);
        break;
    case TEXT:
        ok = v->kind == TOML_TEXT;
        break;
    case SIZE:
        return check_size(c, k, v);
    case PAIR:
        ok = v->kind == TOML_ARRAY && v->n == 2 && is_number(&v->item[0]) &&
             is_number(&v->item[1]);
        break;
    case TABLE:
        ok = v->kind == TOML_TABLE;
        break;
    }
    if (!ok) return wrong_type(c, k, v);
    return k->type != INT || in_range(c, k, v);
}

/* A key that is not carried out yet may stand there with the value that does nothing.
 * */
static bool check_idle(Ctx *c, const Key *k, const Toml *v) {
    bool idle = strcmp(k->idle, "-") != 0;
    if (k->type == TEXT)
        idle = idle && !strcmp(v->text, k->idle);
    else if (k->type == BOOL)
        idle = idle && !v->b;
    else
        idle = idle && is_number(v) && v->x == atof(k->idle);
    return idle || err_at(c->e, v->key_loc,
                          "'%s' is not carried out by this version yet", k->name);
}

static bool unknown_key(Ctx *c, const Toml *v, int where) {
    const char *names[COUNT(keys) + 1];
    size_t n = 0;
    for (size_t i = 0; i < COUNT(keys); i++)
        if (keys[i].where & where) names[n++] = keys[i].name;
    names[n] = NULL;
    return err_at(c->e, v->key_loc, "unknown key '%s' in %s%s", v->key,
                  place_name(where), did_you_mean(c->a, v->key, names));
}

/* A rule that is about one key alone and not in the table. */
static bool check_value(Ctx *c, const Key *k, const Toml *v) {
    if (!strcmp(k->name, "bucket_reso_steps") && v->i % 8)
        return err_at(c->e, v->loc, "'%s' must be a multiple of 8: got %lld", k->name,
                      (long long)v->i);
    bool filled = !strcmp(k->name, "image_dir") ||
                  !strcmp(k->name, "caption_separator") ||
                  !strcmp(k->name, "caption_extension");
    if (filled && !*v->text)
        return err_at(c->e, v->loc, "'%s' must not be empty", k->name);
    return true;
}

/* Every key of a table; `inner` is the one that holds the next level, or NULL. */
static bool check_table(Ctx *c, const Toml *t, int where, const char *inner) {
    for (int i = 0; i < t->n; i++) {
        const Toml *v = &t->item[i];
        if (inner && !strcmp(v->key, inner)) continue;
        const Key *k = find_key(v->key);
        if (!k) return unknown_key(c, v, where);
        if (!(k->where & where))
            return err_at(c->e, v->key_loc, "'%s' is not allowed in %s, only in %s",
                          k->name, place_name(where),
                          k->where == SUBSET ? "[[datasets.subsets]]"
                                             : "[general] and [[datasets]]");
        if (!check_type(c, k, v) || (k->idle && !check_idle(c, k, v)) ||
            !check_value(c, k, v))
            return false;
    }
    return true;
}

/* ---- looking values up ---- */
typedef struct Levels { /* innermost first */
    const Toml *t[3];
} Levels;

static const Toml *find(const Levels *l, const char *key) {
    for (int i = 0; i < 3; i++) {
        const Toml *v = l->t[i] ? toml_get(l->t[i], key) : NULL;
        if (v) return v;
    }
    return NULL;
}

/* option 0: not given on the command line, where it is called --name. */
static bool get_int(Ctx *c, const Levels *l, const char *key, const char *name,
                    int option, int fallback, int *out) {
    const Toml *v = find(l, key);
    const Key *k = find_key(key);
    *out = v ? (int)v->i : option ? option : fallback;
    if (v || !option || (option >= k->lo && option <= k->hi)) return true;
    return err_usage(c->e, "--%s must be %d … %d: got %d", name, k->lo, k->hi, option);
}

static bool get_bool(const Levels *l, const char *key, bool option) {
    const Toml *v = find(l, key);
    return v ? v->b : option;
}

static const char *get_text(const Levels *l, const char *key, const char *option,
                            const char *fallback) {
    const Toml *v = find(l, key);
    return v ? v->text : option ? option : fallback;
}

static bool get_size(Ctx *c, const Levels *l, Loc at, int *w, int *h) {
    const Toml *v = find(l, "resolution");
    const Key *k = find_key("resolution");
    if (v) {
        *w = (int)(v->kind == TOML_INT ? v->i : v->item[0].i);
        *h = (int)(v->kind == TOML_INT ? v->i : v->item[1].i);
        return true;
    }
    *w = c->o->width, *h = c->o->height ? c->o->height : c->o->width;
    if (!*w && at.src)
        return err_at(c->e, at, "'resolution' is missing, here or in [general]");
    if (!*w) return err_usage(c->e, "--resolution is missing");
    return (*w >= k->lo && *w <= k->hi && *h >= k->lo && *h <= k->hi) ||
           err_usage(c->e, "--resolution must be %d … %d: got %d x %d", k->lo, k->hi,
                     *w, *h);
}

/* ---- resolving ---- */
static bool fail_bucket(Ctx *c, const Levels *l, Loc at, const char *key,
                        const char *why) {
    const Toml *v = find(l, key);
    if (!v) v = find(l, "resolution");
    if (v) return err_at(c->e, v->loc, "%s", why);
    return at.src ? err_at(c->e, at, "%s", why) : err_usage(c->e, "%s", why);
}

static bool resolve_buckets(Ctx *c, const Levels *l, Loc at, BucketRule *r) {
    const DataOptions *o = c->o;
    const char *why = "no bucket at all";
    bool adjusted;
    r->enable = get_bool(l, "enable_bucket", o->enable_bucket);
    r->no_upscale = get_bool(l, "bucket_no_upscale", o->bucket_no_upscale);
    if (!get_size(c, l, at, &r->width, &r->height) ||
        !get_int(c, l, "min_bucket_reso", "min_bucket_reso", o->min_bucket_reso, 256,
                 &r->min_reso) ||
        !get_int(c, l, "max_bucket_reso", "max_bucket_reso", o->max_bucket_reso, 1024,
                 &r->max_reso) ||
        !get_int(c, l, "bucket_reso_steps", "bucket_reso_steps", o->bucket_reso_steps,
                 64, &r->step))
        return false;
    if (r->step % 8)
        return err_usage(c->e, "--bucket_reso_steps must be a multiple of 8: got %d",
                         r->step);
    if (!r->enable && (r->width % 8 || r->height % 8))
        return fail_bucket(c, l, at, "resolution",
                           arena_printf(c->a,
                                        "without enable_bucket the resolution must be "
                                        "a multiple of 8: got %d x %d",
                                        r->width, r->height));
    if (!buckets_prepare(r, c->a, &adjusted, &why))
        return fail_bucket(
            c, l, at, strstr(why, "max_") ? "max_bucket_reso" : "min_bucket_reso", why);
    if (adjusted)
        note(c, arena_printf(c->a, "bucket sizes go from %d to %d, in steps of %d",
                             r->min_reso, r->max_reso, r->step));
    return true;
}

static bool resolve_subset(Ctx *c, const Levels *l, SubsetConfig *s) {
    const DataOptions *o = c->o;
    const char *ext =
        get_text(l, "caption_extension", o->caption_extension, ".caption");
    s->caption_extension = *ext == '.' ? ext : arena_printf(c->a, ".%s", ext);
    s->class_tokens = get_text(l, "class_tokens", NULL, NULL);
    s->caption.shuffle = get_bool(l, "shuffle_caption", o->shuffle_caption);
    s->caption.separator = get_text(l, "caption_separator", o->caption_separator, ",");
    s->flip_aug = get_bool(l, "flip_aug", o->flip_aug);
    if (!*ext || !*s->caption.separator)
        return err_usage(
            c->e, "--caption_extension and --caption_separator must not be empty");
    return get_int(c, l, "keep_tokens", "keep_tokens", o->keep_tokens, 0,
                   &s->caption.keep_tokens) &&
           get_int(c, l, "num_repeats", "dataset_repeats", o->dataset_repeats, 1,
                   &s->num_repeats);
}

static bool read_subset(Ctx *c, const Toml *t, const Toml *dataset, const Toml *general,
                        DatasetConfig *d) {
    if (t->kind != TOML_TABLE)
        return err_at(c->e, t->loc, "a subset must be a table: got %s",
                      toml_kind_name(t->kind));
    if (!check_table(c, t, SUBSET, NULL)) return false;
    const Toml *dir = toml_get(t, "image_dir"), *reg = toml_get(t, "is_reg");
    if (!dir)
        return err_at(c->e, t->loc, "'image_dir' is missing in [[datasets.subsets]]");
    SubsetConfig s = {.image_dir = dir->text, .is_reg = reg && reg->b, .loc = dir->loc};
    if (!resolve_subset(c, &(Levels){{t, dataset, general}}, &s)) return false;
    for (int i = 0; i < d->n; i++) {
        if (strcmp(d->subset[i].image_dir, s.image_dir)) continue;
        note(c, arena_printf(
                    c->a, "'%s' is there twice in one dataset; the second is skipped",
                    s.image_dir));
        return true;
    }
    if (s.num_repeats < 1)
        note(c, arena_printf(c->a, "'%s' is skipped: num_repeats is %d", s.image_dir,
                             s.num_repeats));
    else
        d->subset[d->n++] = s;
    return true;
}

/* The list of tables at `key`, at least one. */
static const Toml *get_list(Ctx *c, const Toml *t, const char *key,
                            const char *header) {
    const Toml *list = toml_get(t, key);
    if (!list)
        err_at(c->e, t->loc.src ? t->loc : (Loc){0}, "%s is missing", header);
    else if (list->kind != TOML_ARRAY || !list->n)
        err_at(c->e, list->loc, "'%s' must be a list of tables, %s", key, header);
    else
        return list;
    return NULL;
}

static bool read_dataset(Ctx *c, const Toml *t, const Toml *general, DatasetConfig *d) {
    if (t->kind != TOML_TABLE)
        return err_at(c->e, t->loc, "a dataset must be a table: got %s",
                      toml_kind_name(t->kind));
    if (!check_table(c, t, DATASET, "subsets")) return false;
    const Toml *list = get_list(c, t, "subsets", "[[datasets.subsets]]");
    Levels l = {{t, general}};
    if (!list || !resolve_buckets(c, &l, t->loc, &d->bucket) ||
        !get_int(c, &l, "batch_size", "train_batch_size", c->o->train_batch_size, 1,
                 &d->batch_size))
        return false;
    d->subset = NEW(c->a, SubsetConfig, list->n);
    for (int i = 0; i < list->n; i++)
        if (!read_subset(c, &list->item[i], t, general, d)) return false;
    return true;
}

static bool read_top(Ctx *c, const Toml *top) {
    static const char *const top_keys[] = {"general", "datasets", NULL};
    for (int i = 0; i < top->n; i++) {
        const Toml *v = &top->item[i];
        if (strcmp(v->key, "general") && strcmp(v->key, "datasets"))
            return err_at(c->e, v->key_loc, "unknown key '%s' in a dataset file%s",
                          v->key, did_you_mean(c->a, v->key, top_keys));
    }
    const Toml *general = toml_get(top, "general");
    if (general && general->kind != TOML_TABLE)
        return err_at(c->e, general->loc, "'general' must be a table: got %s",
                      toml_kind_name(general->kind));
    if (general && !check_table(c, general, GENERAL, NULL)) return false;
    const Toml *list = get_list(c, top, "datasets", "[[datasets]]");
    if (!list) return false;
    c->out->dataset = NEW(c->a, DatasetConfig, list->n);
    c->out->n = list->n;
    c->out->from_file = true;
    for (int i = 0; i < list->n; i++)
        if (!read_dataset(c, &list->item[i], general, &c->out->dataset[i]))
            return false;
    return true;
}

/* ---- folders "N_name" ---- */
static int by_bytes(const void *x, const void *y) {
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* Names in a folder that do not start with a dot, sorted. */
static bool list_folder(Ctx *c, const char *path, const char ***name, int *n) {
    DIR *dir = opendir(path);
    if (!dir) return err_fail(c->e, "cannot open the folder '%s'", path);
    int cap = 0;
    for (struct dirent *f; (f = readdir(dir));)
        if (f->d_name[0] != '.')
            PUSH(c->a, *name, *n, cap, arena_strdup(c->a, f->d_name));
    closedir(dir);
    if (*n) qsort(*name, (size_t)*n, sizeof **name, by_bytes);
    return true;
}

static bool add_folders(Ctx *c, const char *root, bool is_reg, DatasetConfig *d,
                        int *cap) {
    const char **name = NULL;
    int n = 0;
    if (!list_folder(c, root, &name, &n)) return false;
    for (int i = 0; i < n; i++) {
        const char *path = arena_printf(c->a, "%s/%s", root, name[i]);
        if (!folder_exists(path)) continue;
        size_t digits = strspn(name[i], "0123456789");
        if (!digits || digits > 6 || (name[i][digits] && name[i][digits] != '_')) {
            note(c,
                 arena_printf(c->a,
                              "'%s' is skipped: the name does not start with a number "
                              "of repeats and '_'",
                              path));
            continue;
        }
        SubsetConfig s = {.image_dir = path, .is_reg = is_reg};
        if (!resolve_subset(c, &(Levels){0}, &s)) return false;
        s.num_repeats = atoi(name[i]);
        s.class_tokens = name[i] + digits + (name[i][digits] == '_');
        if (s.num_repeats >= 1) PUSH(c->a, d->subset, d->n, *cap, s);
    }
    return true;
}

static bool read_folders(Ctx *c) {
    const DataOptions *o = c->o;
    if (!o->train_data_dir)
        return err_usage(c->e,
                         "no training data: give --dataset_config or --train_data_dir");
    DatasetConfig *d = c->out->dataset = NEW(c->a, DatasetConfig, 1);
    c->out->n = 1;
    int cap = 0;
    return resolve_buckets(c, &(Levels){0}, (Loc){0}, &d->bucket) &&
           get_int(c, &(Levels){0}, "batch_size", "train_batch_size",
                   o->train_batch_size, 1, &d->batch_size) &&
           add_folders(c, o->train_data_dir, false, d, &cap) &&
           (!o->reg_data_dir || add_folders(c, o->reg_data_dir, true, d, &cap));
}

bool data_config_from(Arena *a, const DataOptions *o, const Toml *top, DataConfig *out,
                      Err *e) {
    Ctx c = {a, o, out, e};
    *out = (DataConfig){0};
    if (o->train_data_dir || o->reg_data_dir)
        note(&c,
             "train_data_dir and reg_data_dir are ignored: dataset_config is given");
    return read_top(&c, top);
}

bool data_config_read(Arena *a, const DataOptions *o, DataConfig *out, Err *e) {
    Ctx c = {a, o, out, e};
    *out = (DataConfig){0};
    if (!o->dataset_config) return read_folders(&c);
    const Toml *top = toml_read(a, o->dataset_config, e);
    return top && data_config_from(a, o, top, out, e);
}
