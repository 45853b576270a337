/* A data set: images found, measured, captioned, given their buckets.
 *
 * Everything that can go wrong with the data is found here, before the first step:
 * every image's structure is walked through, every caption is read, all bad files are
 * named. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "io/data.h"
#include "io/dataset_parts.h"
#include "io/dataset_records.h"
#include "io/file.h"
#include "io/image_format.h"
#include "io/npz.h"
#include "io/text_clean.h"

enum { CAPTION_BYTES_MAX = 1 << 20, BAD_SHOWN = 8 };

typedef struct Scan { /* state of dataset_open */
    Dataset *d;
    Parts *p;
    const DataOptions *o;
    int cap_sample, cap_bad, cap_bad_reason, cap_note;
    int bad_n;          /* entries of bad_reason */
    int train_captions; /* caption files of images that are not regularisation images */
    Err *e;
} Scan;

static void note(Scan *s, const char *text) {
    PUSH(s->d->arena, s->d->note, s->d->n_note, s->cap_note, text);
}

/* ---- image files of a folder ---- */
static int by_bytes(const void *x, const void *y) {
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static bool list_images(Scan *s, const SubsetConfig *c, const char ***path, int *n) {
    Arena *a = s->d->arena;
    DIR *dir = opendir(c->image_dir);
    if (!dir) {
        int code = errno;
        if (!c->loc.src)
            return err_fail(s->e, "cannot open the folder '%s': %s", c->image_dir,
                            strerror(code));
        bool first = !s->e->set;
        err_at(s->e, c->loc, "cannot open the folder '%s': %s", c->image_dir,
               strerror(code));
        if (first) s->e->code = EXIT_FAILED; /* the disk's fault, not the text's */
        return false;
    }
    int cap = 0;
    for (struct dirent *f; (f = readdir(dir));) {
        struct stat is;
        if (!is_image_name(f->d_name)) continue;
        const char *full = arena_printf(a, "%s/%s", c->image_dir, f->d_name);
        if (!stat(full, &is) && !S_ISREG(is.st_mode)) continue;
        PUSH(a, *path, *n, cap, full);
    }
    closedir(dir);
    if (*n) qsort(*path, (size_t)*n, sizeof **path, by_bytes);
    return true;
}

/* ---- captions ---- */
/* The caption file of an image: same name, other end; or, for faces cut out by a
 * detector (name_cx_cy_w_h), without the last four pieces of the name. */
static const char *caption_path(Arena *a, const char *image, const char *ext) {
    const char *name = strrchr(image, '/') + 1, *dot = strrchr(name, '.');
    const char *path = arena_printf(a, "%.*s%s", (int)(dot - image), image, ext);
    if (file_exists(path)) return path;
    const char *end = dot;
    for (int i = 0; i < 4 && end > name; i++)
        for (end--; end > name && *end != '_'; end--) continue;
    if (end == name) return NULL;
    path = arena_printf(a, "%.*s%s", (int)(end - image), image, ext);
    return file_exists(path) ? path : NULL;
}

static const char *read_caption(Arena *a, const char *path, bool wildcard, Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return NULL;
    const char *out = NULL;
    size_t valid = n <= CAPTION_BYTES_MAX && n ? utf8_valid(map, n) : 0;
    if (!n)
        err_fail(e, "caption file '%s' is empty", path);
    else if (n > CAPTION_BYTES_MAX)
        err_fail(e, "caption file '%s' is too long: %zu bytes, at most %d", path, n,
                 CAPTION_BYTES_MAX);
    else if (valid < n)
        err_fail(e, "caption file '%s' is not UTF-8 at byte %zu", path, valid + 1);
    else
        out = caption_from_text(a, map, n, wildcard);
    file_unmap(map, n);
    return out;
}

static bool find_caption(Scan *s, const SubsetConfig *c, const Record *r, Sample *x) {
    const char *path =
        r ? NULL : caption_path(s->d->arena, x->path, c->caption_extension);
    bool found = path || (r && r->caption);
    *(found ? &s->d->captions_found : &s->d->captions_missing) += 1;
    s->train_captions += found && !c->is_reg;
    if (path)
        x->caption = read_caption(s->d->arena, path, c->caption.wildcard, s->e);
    else
        x->caption = found ? r->caption : c->class_tokens ? c->class_tokens : "";
    if (x->caption && !caption_is_fixed(&c->caption, x->caption))
        s->d->captions_fixed = false;
    return x->caption != NULL;
}

/* Other usual ends beside images that have no caption: the usual reason for none. */
static const char *other_ends(Scan *s) {
    static const char *const ends[] = {".txt", ".caption", ".TXT"};
    for (size_t k = 0; k < COUNT(ends); k++) {
        int n = 0;
        for (int i = 0; i < s->d->n; i++)
            n += caption_path(s->d->arena, s->d->sample[i].path, ends[k]) != NULL;
        if (n)
            return arena_printf(s->d->arena,
                                "; %d have a '%s' file: set caption_extension", n,
                                ends[k]);
    }
    return "";
}

static bool no_captions(Scan *s) {
    const Sample *x = &s->d->sample[0];
    const SubsetConfig *c = &s->p->config.dataset[x->dataset].subset[x->subset];
    if (c->metadata_file)
        err_fail(s->e, "no caption found: no picture has a caption or tags in '%s'",
                 c->metadata_file);
    else
        err_fail(s->e,
                 "no caption file found: none of the training images has a '%s' beside "
                 "it%s",
                 c->caption_extension, other_ends(s));
    err_note(s->e, "note: --allow_missing_captions trains on class tokens, or on none");
    return false;
}

static bool check_captions(Scan *s) {
    Dataset *d = s->d;
    if (!s->train_captions && !s->o->allow_missing_captions) return no_captions(s);
    int bare = 0;
    for (int i = 0; i < d->n; i++) bare += !*d->sample[i].caption;
    if (d->captions_missing)
        note(s, arena_printf(d->arena,
                             "captions: %d found, %d missing (class tokens are used)",
                             d->captions_found, d->captions_missing));
    if (bare) note(s, arena_printf(d->arena, "%d images have an empty caption", bare));
    return true;
}

/* ---- images ---- */
static void add_bad(Scan *s, const char *path, const char *reason) {
    Arena *a = s->d->arena;
    PUSH(a, s->d->bad_path, s->d->n_bad, s->cap_bad, path);
    PUSH(a, s->d->bad_reason, s->bad_n, s->cap_bad_reason, arena_strdup(a, reason));
}

/* name_cx_cy_w_h: where a detector found a face. */
static void find_face(const char *path, int face[4]) {
    const char *name = strrchr(path, '/') + 1, *end = strrchr(name, '.');
    for (int i = 3; i >= 0; i--) {
        const char *from = end;
        while (from > name && from[-1] != '_') from--;
        size_t n = (size_t)(end - from);
        if (from == name || !n || n > 6 || strspn(from, "0123456789") < n) {
            memset(face, 0, 4 * sizeof *face);
            return;
        }
        face[i] = atoi(from);
        end = from - 1;
    }
    if (!face[0] || !face[2] || !face[3]) memset(face, 0, 4 * sizeof *face);
}

/* Pictures that are cut as they are, without a resize: what is not in the cut is lost at
 * random. */
static bool fit_as_it_is(const BucketRule *r, Sample *x, Why *why) {
    x->bucket_w = r->width, x->bucket_h = r->height;
    x->resized_w = x->w, x->resized_h = x->h;
    return (x->w >= r->width && x->h >= r->height) ||
           why_set(why,
                   "%d x %d pixels are smaller than %d x %d, and without enable_bucket "
                   "random_crop and face_crop_aug_range do not enlarge",
                   x->w, x->h, r->width, r->height);
}

static bool fit_bucket(const DatasetConfig *dc, const SubsetConfig *c, const Record *r,
                       Sample *x, Why *why) {
    BucketFit fit;
    BucketRule given = {.width = r ? r->bucket_w : 0, .height = r ? r->bucket_h : 0};
    const BucketRule *rule = &dc->bucket;
    if (given.width) { /* as prepared before: train_resolution */
        int size[1][2] = {{given.width, given.height}};
        given.size = size, given.n = 1;
        if (!bucket_fit(&given, x->w, x->h, &fit))
            return why_set(why, "%d x %d pixels cannot become %d x %d", x->w, x->h,
                           given.width, given.height);
    } else {
        if (c->face_crop[1] > 0) find_face(x->path, x->face);
        if (!rule->enable && (c->random_crop || x->face[2]))
            return fit_as_it_is(rule, x, why);
        if (!bucket_fit(rule, x->w, x->h, &fit))
            return why_set(why, "%d x %d pixels fit no bucket of steps of %d", x->w,
                           x->h, rule->step);
    }
    if ((int64_t)fit.resized_w * fit.resized_h > IMAGE_PIXELS_MAX)
        return why_set(
            why, "%d x %d pixels would become %d x %d before the crop: too narrow",
            x->w, x->h, fit.resized_w, fit.resized_h);
    x->bucket_w = fit.bucket_w, x->bucket_h = fit.bucket_h;
    x->resized_w = fit.resized_w, x->resized_h = fit.resized_h;
    return true;
}

/* The picture of the same name in the folder of masks. */
static bool find_mask(Scan *s, const SubsetConfig *c, Sample *x, Why *why) {
    const char *name = strrchr(x->path, '/') + 1;
    size_t stem = (size_t)(strrchr(name, '.') - name);
    Arena *a = s->d->arena;
    int w, h;
    x->mask_path = arena_printf(a, "%s/%s", c->mask_dir, name);
    if (!file_exists(x->mask_path))
        x->mask_path = record_completed(
            a, arena_printf(a, "%s/%.*s", c->mask_dir, (int)stem, name));
    if (!file_exists(x->mask_path))
        return why_set(why, "no mask of this name in '%.120s'", c->mask_dir);
    Why inner;
    return image_probe(x->mask_path, &w, &h, &inner) ||
           why_set(why, "its mask: %.150s", inner.text);
}

/* Without a picture its latents may be there: then its metadata says how large it was. */
static bool measure(const Record *r, Sample *x, Why *why) {
    if (image_probe(x->path, &x->w, &x->h, why)) return true;
    if (!r || !r->bucket_w || !npz_exists(x->path, r->w, r->h)) return false;
    x->latent_only = true;
    x->w = r->w ? r->w : r->bucket_w;
    x->h = r->h ? r->h : r->bucket_h;
    return true;
}

static bool add_image(Scan *s, int dataset, int subset, const char *path,
                      const Record *r) {
    const DatasetConfig *dc = &s->p->config.dataset[dataset];
    const SubsetConfig *c = &dc->subset[subset];
    Sample x = {.path = path,
                .repeats = c->num_repeats,
                .reg = c->is_reg,
                .dataset = dataset,
                .subset = subset};
    Why why;
    bool ok = measure(r, &x, &why) && fit_bucket(dc, c, r, &x, &why);
    if (ok && c->mask_dir) ok = find_mask(s, c, &x, &why);
    if (!ok) {
        add_bad(s, path, why.text);
        return true;
    }
    bool whole = x.resized_w == x.bucket_w && x.resized_h == x.bucket_h;
    x.varies = !x.latent_only &&
               (c->color_aug || (c->random_crop && !whole) || (x.face[2] && !whole));
    s->d->varies |= x.varies;
    s->d->masked |= c->mask_dir || c->alpha_mask;
    if (!find_caption(s, c, r, &x)) return false;
    SubsetInfo *info = &s->p->info[dataset][subset];
    info->caption[info->n++] = x.caption;
    PUSH(s->d->arena, s->d->sample, s->d->n, s->cap_sample, x);
    return true;
}

/* ---- the part that is held out ---- */
/* A picture's place in the split: it depends on its name and the seed alone, so that a
 * picture that is added moves few others. */
static uint64_t split_place(const char *path, uint64_t seed) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    return XXH3_64bits_withSeed(name, strlen(name), seed);
}

static int by_place(const void *x, const void *y) {
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* Which of n pictures belong to this data set: the held out ones, or the others.
 * Regularisation pictures are never held out. */
static bool *on_this_side(Scan *s, int dataset, int subset, const char *const *path,
                          int n) {
    const DatasetConfig *dc = &s->p->config.dataset[dataset];
    int out = (int)(dc->validation_split * n + 0.5);
    if (dc->subset[subset].is_reg) out = 0;
    bool *mine = NEW(s->d->arena, bool, n + 1);
    uint64_t *place = NEW(s->d->arena, uint64_t, 2 * (size_t)n + 1),
             *sorted = place + n;
    for (int i = 0; i < n; i++) place[i] = split_place(path[i], dc->validation_seed);
    memcpy(sorted, place, (size_t)n * sizeof *place);
    qsort(sorted, (size_t)n, sizeof *sorted, by_place);
    for (int i = 0; i < n; i++) {
        bool held = out && place[i] <= sorted[out - 1];
        mine[i] = held == s->o->validation;
    }
    return mine;
}

/* As it is: no repeats, nothing at random. */
static void for_validation(DataConfig *config) {
    for (int i = 0; i < config->n; i++)
        for (int k = 0; k < config->dataset[i].n; k++) {
            SubsetConfig *c = &config->dataset[i].subset[k];
            c->num_repeats = 1;
            c->flip_aug = c->color_aug = c->random_crop = false;
            c->face_crop[0] = c->face_crop[1] = 0;
            c->caption.shuffle = false;
            c->caption.dropout_rate = c->caption.tag_dropout_rate = 0;
            c->caption.dropout_every = 0;
            c->caption.warmup_step = 0;
        }
}

static bool scan_folder(Scan *s, int dataset, int subset) {
    const SubsetConfig *c = &s->p->config.dataset[dataset].subset[subset];
    const char **path = NULL;
    int n = 0;
    if (!list_images(s, c, &path, &n)) return false;
    s->p->info[dataset][subset].caption = NEW(s->d->arena, const char *, n);
    if (!n)
        note(s, arena_printf(s->d->arena, "'%s' is skipped: no images in it",
                             c->image_dir));
    const bool *mine = on_this_side(s, dataset, subset, path, n);
    for (int i = 0; i < n; i++)
        if (mine[i] && !add_image(s, dataset, subset, path[i], NULL)) return false;
    return true;
}

static bool scan_metadata(Scan *s, int dataset, int subset) {
    const SubsetConfig *c = &s->p->config.dataset[dataset].subset[subset];
    Record *r = NULL;
    int n = 0;
    if (!records_read(s->d->arena, c, &r, &n, s->e)) return false;
    s->p->info[dataset][subset].caption = NEW(s->d->arena, const char *, n);
    if (!n)
        note(s, arena_printf(s->d->arena, "'%s' is skipped: no pictures in it",
                             c->metadata_file));
    const char **path = NEW(s->d->arena, const char *, n + 1);
    for (int i = 0; i < n; i++) path[i] = r[i].path;
    const bool *mine = on_this_side(s, dataset, subset, path, n);
    for (int i = 0; i < n; i++)
        if (mine[i] && !add_image(s, dataset, subset, r[i].path, &r[i])) return false;
    return true;
}

static bool scan_subset(Scan *s, int dataset, int subset) {
    return s->p->config.dataset[dataset].subset[subset].metadata_file
               ? scan_metadata(s, dataset, subset)
               : scan_folder(s, dataset, subset);
}

static bool judge_bad(Scan *s) {
    Dataset *d = s->d;
    if (!d->n_bad || s->o->skip_bad_images) return true;
    err_fail(s->e,
             "%d of %d images cannot be used (--skip_bad_images goes on without them)",
             d->n_bad, d->n_bad + d->n);
    for (int i = 0; i < d->n_bad && i < BAD_SHOWN; i++)
        err_note(s->e, "%s: %s", d->bad_path[i], d->bad_reason[i]);
    if (d->n_bad > BAD_SHOWN) err_note(s->e, "and %d more", d->n_bad - BAD_SHOWN);
    return false;
}

/* ---- regularisation images: as many draws as there are training images ---- */
/* The list is walked until the count is reached: first each image with its own repeats,
 * then one more of each. Images that are not reached are left out. */
static void balance(Scan *s, int from, int64_t wanted) {
    Dataset *d = s->d;
    int64_t count = 0;
    int used = 0, reg = 0;
    for (int i = from; i < d->n; i++) reg += d->sample[i].reg;
    for (bool first = true; reg && count < wanted; first = false) {
        for (int i = from; i < d->n && count < wanted; i++) {
            Sample *x = &d->sample[i];
            if (!x->reg) continue;
            if (!first) x->repeats++;
            count += first ? x->repeats : 1;
            if (first) used++;
        }
    }
    int seen = 0, kept = from;
    for (int i = from; i < d->n; i++)
        if (!d->sample[i].reg || seen++ < used) d->sample[kept++] = d->sample[i];
    if (kept < d->n)
        note(s, arena_printf(d->arena,
                             "%d regularisation images are more than are needed and "
                             "are not used",
                             d->n - kept));
    d->n = kept;
}

static bool scan_dataset(Scan *s, int dataset) {
    const DatasetConfig *dc = &s->p->config.dataset[dataset];
    Dataset *d = s->d;
    int from = d->n;
    int64_t train = 0, reg = 0;
    s->p->info[dataset] = NEW(d->arena, SubsetInfo, dc->n);
    for (int k = 0; k < dc->n; k++) {
        if (!scan_subset(s, dataset, k)) return false;
        int64_t n = (int64_t)s->p->info[dataset][k].n * dc->subset[k].num_repeats;
        *(dc->subset[k].is_reg ? &reg : &train) += n;
    }
    if (train + d->n_train > DRAWS_MAX || reg + d->n_reg > DRAWS_MAX)
        return err_fail(s->e, "%lld images with repeats, at most %d are allowed",
                        (long long)(train > reg ? train : reg), DRAWS_MAX);
    d->n_train += (int)train;
    d->n_reg += (int)reg;
    balance(s, from, train);
    if (dc->batch_size > d->batch_size) d->batch_size = dc->batch_size;
    return true;
}

/* ---- what follows from the samples ---- */
static void add_mirrors(Scan *s) {
    Dataset *d = s->d;
    int n = d->n, *mirror = NEW(d->arena, int, 2 * (size_t)n);
    memset(mirror, -1, 2 * (size_t)n * sizeof *mirror);
    for (int i = 0; i < n; i++) {
        Sample x = d->sample[i];
        if (!s->p->config.dataset[x.dataset].subset[x.subset].flip_aug) continue;
        x.mirrored = true;
        x.repeats = 0;
        mirror[i] = d->n;
        PUSH(d->arena, d->sample, d->n, s->cap_sample, x);
    }
    s->p->mirror = mirror;
}

static int by_size(const void *x, const void *y) {
    const int *a = x, *b = y;
    return a[0] != b[0] ? (a[0] > b[0]) - (a[0] < b[0]) : (a[1] > b[1]) - (a[1] < b[1]);
}

static void list_buckets(Dataset *d) {
    d->bucket = arena_alloc(d->arena, (size_t)d->n, sizeof *d->bucket);
    for (int i = 0; i < d->n; i++) {
        d->bucket[i][0] = d->sample[i].bucket_w;
        d->bucket[i][1] = d->sample[i].bucket_h;
    }
    qsort(d->bucket, (size_t)d->n, sizeof *d->bucket, by_size);
    for (int i = 0; i < d->n; i++) {
        if (d->n_bucket && !by_size(d->bucket[i], d->bucket[d->n_bucket - 1])) continue;
        memmove(d->bucket[d->n_bucket++], d->bucket[i], sizeof *d->bucket);
    }
}

static bool no_images(Scan *s) {
    const DataOptions *o = s->o;
    if (o->validation)
        return err_fail(s->e,
                        "validation_split holds out no picture: there are too few");
    if (s->d->n_bad)
        return err_fail(s->e, "no training image is left: %d cannot be used",
                        s->d->n_bad);
    if (o->dataset_config)
        return err_fail(s->e, "no training image in the folders of '%s'",
                        o->dataset_config);
    return err_fail(s->e,
                    "no training image: '%s' must be the parent of folders named "
                    "N_name (N repeats) that hold the images",
                    o->train_data_dir);
}

static bool open_parts(Scan *s) {
    Dataset *d = s->d;
    Parts *p = s->p;
    if (!data_config_read(d->arena, s->o, &p->config, s->e)) return false;
    for (int i = 0; i < p->config.n_note; i++) note(s, p->config.note[i]);
    if (s->o->validation) for_validation(&p->config);
    p->info = NEW(d->arena, SubsetInfo *, p->config.n);
    for (int i = 0; i < p->config.n; i++)
        if (!scan_dataset(s, i)) return false;
    if (!judge_bad(s)) return false;
    if (!d->n_train) return no_images(s);
    if (!check_captions(s)) return false;
    add_mirrors(s);
    list_buckets(d);
    metadata_make(d);
    return order_make(d, s->e);
}

Dataset *dataset_open(const DataOptions *o, Err *e) {
    Arena *a = arena_new();
    Dataset *d = NEW(a, Dataset, 1);
    Parts *p = NEW(a, Parts, 1);
    Scan s = {.d = d, .p = p, .o = o, .e = e};
    d->arena = a;
    d->priv = p;
    p->seed = o->seed;
    p->prior_loss_weight = o->prior_loss_weight;
    d->captions_fixed = true;
    dataset_pace(d, 1, 0);
    if (open_parts(&s)) return d;
    arena_free(a);
    return NULL;
}

void dataset_close(Dataset *d) {
    if (d) arena_free(d->arena);
}

const DataConfig *dataset_config(const Dataset *d) {
    return &((const Parts *)d->priv)->config;
}
