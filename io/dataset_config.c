/* The dataset file of sd-scripts (training.md 2.1), resolved: a value is looked for in the
 * subset, then the dataset, then [general], then the command line, then the built-in
 * default. What may stand where is said in dataset_keys.c. */
#include "io/dataset_config.h"

#include <stdlib.h>
#include <string.h>

#include "io/dataset_keys.h"
#include "io/file.h"
#include "io/json_tree.h"

typedef struct Ctx {
    Arena *a;
    const DataOptions *o;
    DataConfig *out;
    Err *e;
} Ctx;

static void note(Ctx *c, const char *text) {
    PUSH(c->a, c->out->note, c->out->n_note, c->out->cap_note, text);
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

/* A number of the command line, where it is called --name; 0: not given there. */
static bool option_fits(Ctx *c, const Key *k, const char *name, double option) {
    if (option == 0 || (k->lo == 0 && k->hi == 0) ||
        (option >= k->lo && option <= k->hi))
        return true;
    return err_usage(c->e, "--%s must be %.10g … %.10g: got %.10g", name, k->lo, k->hi,
                     option);
}

static bool get_number(Ctx *c, const Levels *l, const char *key, double option,
                       double *out) {
    const Toml *v = find(l, key);
    *out = v ? v->x : option;
    return v || option_fits(c, data_key(key), key, option);
}

static bool get_int(Ctx *c, const Levels *l, const char *key, const char *name,
                    int option, int fallback, int *out) {
    const Toml *v = find(l, key);
    *out = v ? (int)v->i : option ? option : fallback;
    return v || option_fits(c, data_key(key), name, option);
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
    const Key *k = data_key("resolution");
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
           err_usage(c->e, "--resolution must be %g … %g: got %d x %d", k->lo, k->hi,
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

/* ---- captions and augmentation of one subset ---- */
static bool resolve_caption(Ctx *c, const Levels *l, CaptionRule *r) {
    const DataOptions *o = c->o;
    int every, least;
    *r = (CaptionRule){
        .shuffle = get_bool(l, "shuffle_caption", o->shuffle_caption),
        .wildcard = get_bool(l, "enable_wildcard", o->enable_wildcard),
        .separator = get_text(l, "caption_separator", o->caption_separator, ","),
        .keep_separator =
            get_text(l, "keep_tokens_separator", o->keep_tokens_separator, NULL),
        .secondary = get_text(l, "secondary_separator", o->secondary_separator, NULL),
        .prefix = get_text(l, "caption_prefix", o->caption_prefix, NULL),
        .suffix = get_text(l, "caption_suffix", o->caption_suffix, NULL)};
    if (!*r->separator) return err_usage(c->e, "--caption_separator must not be empty");
    if (!get_int(c, l, "keep_tokens", "keep_tokens", o->keep_tokens, 0,
                 &r->keep_tokens) ||
        !get_number(c, l, "caption_dropout_rate", o->caption_dropout_rate,
                    &r->dropout_rate) ||
        !get_number(c, l, "caption_tag_dropout_rate", o->caption_tag_dropout_rate,
                    &r->tag_dropout_rate) ||
        !get_number(c, l, "token_warmup_step", o->token_warmup_step, &r->warmup_step) ||
        !get_int(c, l, "token_warmup_min", "token_warmup_min", o->token_warmup_min, 1,
                 &least) ||
        !get_int(c, l, "caption_dropout_every_n_epochs",
                 "caption_dropout_every_n_epochs", o->caption_dropout_every_n_epochs, 0,
                 &every))
        return false;
    r->dropout_every = every;
    r->warmup_min = least;
    return true;
}

static bool resolve_face_crop(Ctx *c, const Levels *l, const BucketRule *b,
                              double range[2]) {
    const Toml *v = find(l, "face_crop_aug_range");
    for (int i = 0; i < 2; i++)
        range[i] = v ? v->item[i].x : c->o->face_crop_aug_range[i];
    if (!(range[1] > 0) || !b->enable) return true;
    const char why[] = "face_crop_aug_range is for data sets without enable_bucket";
    return v ? err_at(c->e, v->loc, "%s", why) : err_usage(c->e, "--%s", why);
}

static bool resolve_subset(Ctx *c, const Levels *l, const BucketRule *b,
                           SubsetConfig *s) {
    const DataOptions *o = c->o;
    const char *ext =
        get_text(l, "caption_extension", o->caption_extension, ".caption");
    if (!*ext) return err_usage(c->e, "--caption_extension must not be empty");
    s->caption_extension = *ext == '.' ? ext : arena_printf(c->a, ".%s", ext);
    s->class_tokens = get_text(l, "class_tokens", NULL, NULL);
    s->flip_aug = get_bool(l, "flip_aug", o->flip_aug);
    s->color_aug = get_bool(l, "color_aug", o->color_aug);
    s->random_crop = get_bool(l, "random_crop", o->random_crop);
    s->alpha_mask = get_bool(l, "alpha_mask", o->alpha_mask);
    s->mask_dir = get_text(l, "conditioning_data_dir", NULL, NULL);
    s->resize = get_text(l, "resize_interpolation", o->resize_interpolation, NULL);
    return resolve_caption(c, l, &s->caption) &&
           resolve_face_crop(c, l, b, s->face_crop) &&
           get_int(c, l, "num_repeats", "dataset_repeats", o->dataset_repeats, 1,
                   &s->num_repeats);
}

/* ---- the file's tables ---- */
static bool same_text(const char *x, const char *y) {
    return x == y || (x && y && !strcmp(x, y));
}

/* Keeps a subset, unless it is there already or has no repeats. */
static void add_subset(Ctx *c, const SubsetConfig *s, DatasetConfig *d) {
    const char *name = s->metadata_file ? s->metadata_file : s->image_dir;
    for (int i = 0; i < d->n; i++) {
        const SubsetConfig *other = &d->subset[i];
        if (!same_text(other->metadata_file, s->metadata_file) ||
            (!s->metadata_file && strcmp(other->image_dir, s->image_dir)))
            continue;
        note(c, arena_printf(
                    c->a, "'%s' is there twice in one dataset; the second is skipped",
                    name));
        return;
    }
    if (s->num_repeats >= 1)
        d->subset[d->n++] = *s;
    else
        note(c, arena_printf(c->a, "'%s' is skipped: num_repeats is %d", name,
                             s->num_repeats));
}

static bool read_subset(Ctx *c, const Toml *t, const Toml *dataset, const Toml *general,
                        DatasetConfig *d) {
    if (t->kind != TOML_TABLE)
        return err_at(c->e, t->loc, "a subset must be a table: got %s",
                      toml_kind_name(t->kind));
    const Toml *dir = toml_get(t, "image_dir"), *reg = toml_get(t, "is_reg"),
               *meta = toml_get(t, "metadata_file");
    if (!keys_check(c->a, t, meta ? KEYS_METADATA : KEYS_FOLDER, NULL, c->e))
        return false;
    if (!dir && !meta)
        return err_at(c->e, t->loc, "'image_dir' is missing in [[datasets.subsets]]");
    SubsetConfig s = {.image_dir = dir ? dir->text : NULL,
                      .metadata_file = meta ? meta->text : NULL,
                      .is_reg = reg && reg->b,
                      .loc = meta ? meta->loc : dir->loc};
    if (!resolve_subset(c, &(Levels){{t, dataset, general}}, &d->bucket, &s))
        return false;
    add_subset(c, &s, d);
    return true;
}

/* Subsets with metadata and subsets without cannot share a dataset. */
static bool check_mixed(Ctx *c, const Toml *list) {
    const Toml *with = NULL, *without = NULL;
    for (int i = 0; i < list->n; i++) {
        const Toml *t = &list->item[i];
        if (t->kind == TOML_TABLE)
            *(toml_get(t, "metadata_file") ? &with : &without) = t;
    }
    if (!with || !without) return true;
    return err_at(c->e, with->loc,
                  "a dataset has subsets with a metadata_file and one without (line "
                  "%u): split it into two [[datasets]]",
                  without->loc.line);
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

static bool resolve_validation(Ctx *c, const Levels *l, DatasetConfig *d) {
    const Toml *seed = find(l, "validation_seed");
    d->validation_seed = seed ? (uint64_t)seed->i : c->o->validation_seed;
    return get_number(c, l, "validation_split", c->o->validation_split,
                      &d->validation_split);
}

static bool read_dataset(Ctx *c, const Toml *t, const Toml *general, DatasetConfig *d) {
    if (t->kind != TOML_TABLE)
        return err_at(c->e, t->loc, "a dataset must be a table: got %s",
                      toml_kind_name(t->kind));
    if (!keys_check(c->a, t, KEYS_DATASET, "subsets", c->e)) return false;
    const Toml *list = get_list(c, t, "subsets", "[[datasets.subsets]]");
    Levels l = {{t, general}};
    if (!list || !check_mixed(c, list) || !resolve_buckets(c, &l, t->loc, &d->bucket) ||
        !get_int(c, &l, "batch_size", "train_batch_size", c->o->train_batch_size, 1,
                 &d->batch_size) ||
        !resolve_validation(c, &l, d))
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
    if (general && !keys_check(c->a, general, KEYS_GENERAL, NULL, c->e)) return false;
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
static bool add_folders(Ctx *c, const char *root, bool is_reg, DatasetConfig *d,
                        int *cap) {
    const char **name = NULL;
    int n = 0;
    if (!folder_list(c->a, root, &name, &n, c->e)) return false;
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
        if (!resolve_subset(c, &(Levels){0}, &d->bucket, &s)) return false;
        s.num_repeats = atoi(name[i]);
        s.class_tokens = name[i] + digits + (name[i][digits] == '_');
        if (s.num_repeats >= 1) PUSH(c->a, d->subset, d->n, *cap, s);
    }
    return true;
}

/* --in_json: the pictures of --train_data_dir, as its metadata says. */
static bool add_metadata(Ctx *c, DatasetConfig *d) {
    SubsetConfig s = {.image_dir = c->o->train_data_dir,
                      .metadata_file = c->o->in_json};
    if (!resolve_subset(c, &(Levels){0}, &d->bucket, &s)) return false;
    if (c->o->reg_data_dir)
        note(c, "reg_data_dir is ignored: pictures with metadata have no "
                "regularisation pictures");
    d->subset = NEW(c->a, SubsetConfig, 1);
    add_subset(c, &s, d);
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
    if (!resolve_buckets(c, &(Levels){0}, (Loc){0}, &d->bucket) ||
        !get_int(c, &(Levels){0}, "batch_size", "train_batch_size", o->train_batch_size,
                 1, &d->batch_size) ||
        !resolve_validation(c, &(Levels){0}, d))
        return false;
    if (o->in_json) return add_metadata(c, d);
    return add_folders(c, o->train_data_dir, false, d, &cap) &&
           (!o->reg_data_dir || add_folders(c, o->reg_data_dir, true, d, &cap));
}

bool data_config_from(Arena *a, const DataOptions *o, const Toml *top, DataConfig *out,
                      Err *e) {
    Ctx c = {a, o, out, e};
    *out = (DataConfig){0};
    if (o->train_data_dir || o->reg_data_dir || o->in_json)
        note(&c, "train_data_dir, reg_data_dir and in_json are ignored: dataset_config "
                 "is given");
    return read_top(&c, top);
}

static const Toml *json_file(Arena *a, const char *path, Err *e) {
    const Source *src = file_source(a, path, 1 << 20, "a dataset file", e);
    const Toml *top = src ? json_tree(a, src, e) : NULL;
    if (!top || top->kind == TOML_TABLE) return top;
    err_at(e, top->loc, "a dataset file must be an object: got %s",
           toml_kind_name(top->kind));
    return NULL;
}

bool data_config_read(Arena *a, const DataOptions *o, DataConfig *out, Err *e) {
    Ctx c = {a, o, out, e};
    *out = (DataConfig){0};
    if (!o->dataset_config) return read_folders(&c);
    const Toml *top = ends_with(o->dataset_config, ".json")
                          ? json_file(a, o->dataset_config, e)
                          : toml_read(a, o->dataset_config, e);
    return top && data_config_from(a, o, top, out, e);
}
