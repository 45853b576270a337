/* What `graphrun data` prints: for people, and as JSON. */
#include <string.h>

#include "cli/data/data.h"

static const char *name_of(const SubsetConfig *c) {
    return c->metadata_file ? c->metadata_file : c->image_dir;
}

/* ", shuffle_caption, flip_aug …": what is done to a subset's captions and pictures. */
static void put_settings(Str *s, const SubsetConfig *c) {
    const CaptionRule *r = &c->caption;
    const struct {
        bool is;
        const char *name;
    } flags[] = {{c->is_reg, "is_reg"},
                 {r->shuffle, "shuffle_caption"},
                 {r->wildcard, "enable_wildcard"},
                 {r->dropout_rate > 0 || r->dropout_every > 0, "caption dropout"},
                 {r->tag_dropout_rate > 0, "tag dropout"},
                 {r->warmup_step > 0, "token warm-up"},
                 {c->flip_aug, "flip_aug"},
                 {c->color_aug, "color_aug"},
                 {c->random_crop, "random_crop"},
                 {c->face_crop[1] > 0, "face_crop_aug_range"},
                 {c->alpha_mask, "alpha_mask"},
                 {c->mask_dir != NULL, "masks"}};
    for (size_t i = 0; i < COUNT(flags); i++)
        if (flags[i].is) str_printf(s, ", %s", flags[i].name);
}

/* ---- text ---- */
static void put_datasets(Str *s, const DataReport *r) {
    for (int i = 0; i < r->config->n; i++) {
        const DatasetConfig *d = &r->config->dataset[i];
        str_printf(s, "dataset %d: %d x %d, batch %d, %s\n", i + 1, d->bucket.width,
                   d->bucket.height, d->batch_size,
                   !d->bucket.enable ? "one bucket"
                   : d->bucket.no_upscale
                       ? arena_printf(r->arena, "buckets in steps of %d, no upscaling",
                                      d->bucket.step)
                       : arena_printf(r->arena, "buckets of %d … %d in steps of %d",
                                      d->bucket.min_reso, d->bucket.max_reso,
                                      d->bucket.step));
        for (int k = 0; k < d->n; k++) {
            const SubsetConfig *c = &d->subset[k];
            str_printf(s, "  %s: %d pictures x %d, %d with captions", name_of(c),
                       r->subset[i][k].images, c->num_repeats,
                       r->subset[i][k].captions);
            put_settings(s, c);
            str_add(s, "\n");
        }
    }
}

static void put_buckets(Str *s, const DataReport *r) {
    str_printf(s, "\n%-12s %9s %9s %9s\n", "bucket", "pictures", "draws", "batches");
    for (int i = 0; i < r->n_bucket; i++) {
        const BucketRow *b = &r->bucket[i];
        str_printf(s, "%-12s %9d %9d %9d\n",
                   arena_printf(r->arena, "%d x %d", b->w, b->h), b->images, b->draws,
                   b->batches);
    }
    int updates = (r->d->batches_per_epoch + r->accumulate - 1) / r->accumulate;
    str_printf(s,
               "pictures: %d to train on (with repeats), %d for regularisation\n"
               "captions: %d found, %d missing; longest: %d tokens, %d too long\n"
               "an epoch: %d batches, %d updates\n",
               r->d->n_train, r->d->n_reg, r->d->captions_found, r->d->captions_missing,
               r->longest, r->too_long, r->d->batches_per_epoch, updates);
}

static void put_draws(Str *s, const DataReport *r) {
    if (r->n_drawn) str_add(s, "\nthe first draws of epoch 1:\n");
    for (int i = 0; i < r->n_drawn; i++) {
        const Drawn *x = &r->drawn[i];
        const Sample *it = &r->d->sample[x->view.sample];
        str_printf(s, "  batch %d: %s%s, %d x %d -> %d x %d -> %d x %d at %d, %d\n",
                   x->batch, it->path, x->view.mirrored ? ", mirrored" : "", it->w,
                   it->h, x->view.resized_w, x->view.resized_h, it->bucket_w,
                   it->bucket_h, x->view.left, x->view.top);
        str_printf(s, "    %d tokens: %s\n", x->tokens, x->caption);
    }
}

void data_text(Str *s, const DataReport *r) {
    put_datasets(s, r);
    put_buckets(s, r);
    put_draws(s, r);
    if (r->n_warning) str_add(s, "\n");
    for (int i = 0; i < r->n_warning; i++)
        str_printf(s, "warning: %s\n", r->warning[i]);
}

/* ---- JSON ---- */
static void put_key(Str *s, const char *key, const char *text) {
    str_printf(s, ", \"%s\": ", key);
    str_json(s, text);
}

static void json_datasets(Str *s, const DataReport *r) {
    for (int i = 0; i < r->config->n; i++) {
        const DatasetConfig *d = &r->config->dataset[i];
        str_printf(s,
                   "%s\n  {\"resolution\": [%d, %d], \"batch_size\": %d, "
                   "\"enable_bucket\": %s, \"subsets\": [",
                   i ? "," : "", d->bucket.width, d->bucket.height, d->batch_size,
                   d->bucket.enable ? "true" : "false");
        for (int k = 0; k < d->n; k++) {
            const SubsetConfig *c = &d->subset[k];
            Str settings = {0};
            put_settings(&settings, c);
            str_printf(s,
                       "%s\n    {\"images\": %d, \"num_repeats\": %d, \"captions\": %d",
                       k ? "," : "", r->subset[i][k].images, c->num_repeats,
                       r->subset[i][k].captions);
            put_key(s, "name", name_of(c));
            put_key(s, "settings", settings.n ? settings.s + 2 : "");
            str_add(s, "}");
            str_free(&settings);
        }
        str_add(s, "]}");
    }
}

static void json_images(Str *s, const DataReport *r) {
    bool first = true;
    for (int i = 0; i < r->d->n; i++) {
        const Sample *x = &r->d->sample[i];
        if (x->mirrored) continue;
        str_printf(s,
                   "%s\n  {\"size\": [%d, %d], \"resized\": [%d, %d], \"bucket\": [%d, "
                   "%d], \"num_repeats\": %d, \"is_reg\": %s, \"tokens\": %d",
                   first ? "" : ",", x->w, x->h, x->resized_w, x->resized_h,
                   x->bucket_w, x->bucket_h, x->repeats, x->reg ? "true" : "false",
                   r->tokens[i]);
        put_key(s, "path", x->path);
        put_key(s, "caption", x->caption);
        str_add(s, "}");
        first = false;
    }
}

static void json_draws(Str *s, const DataReport *r, const char *const *pictures) {
    for (int i = 0; i < r->n_drawn; i++) {
        const Drawn *x = &r->drawn[i];
        const Sample *it = &r->d->sample[x->view.sample];
        str_printf(s,
                   "%s\n  {\"batch\": %d, \"mirrored\": %s, \"size\": [%d, %d], "
                   "\"resized\": [%d, %d], \"crop\": [%d, %d, %d, %d], \"tokens\": %d",
                   i ? "," : "", x->batch, x->view.mirrored ? "true" : "false", it->w,
                   it->h, x->view.resized_w, x->view.resized_h, x->view.left,
                   x->view.top, it->bucket_w, it->bucket_h, x->tokens);
        put_key(s, "path", it->path);
        put_key(s, "caption", x->caption);
        if (pictures) put_key(s, "picture", pictures[i]);
        str_add(s, ", \"token_ids\": [");
        for (int k = 0; k < r->chunks * TOKEN_ROW; k++)
            str_printf(s, "%s%d", k ? "," : "", x->ids[k]);
        str_add(s, "]}");
    }
}

void data_json(Str *s, const DataReport *r, const char *const *pictures) {
    const Dataset *d = r->d;
    str_add(s, "{\"datasets\": [");
    json_datasets(s, r);
    str_add(s, "],\n\"buckets\": [");
    for (int i = 0; i < r->n_bucket; i++) {
        const BucketRow *b = &r->bucket[i];
        str_printf(s,
                   "%s\n  {\"dataset\": %d, \"width\": %d, \"height\": %d, \"images\": "
                   "%d, \"draws\": %d, \"batches\": %d}",
                   i ? "," : "", b->dataset, b->w, b->h, b->images, b->draws,
                   b->batches);
    }
    str_printf(s,
               "],\n\"train_images\": %d, \"reg_images\": %d, \"captions_found\": %d, "
               "\"captions_missing\": %d, \"captions_too_long\": %d,\n"
               "\"batches_per_epoch\": %d, \"updates_per_epoch\": %d,\n\"images\": [",
               d->n_train, d->n_reg, d->captions_found, d->captions_missing,
               r->too_long, d->batches_per_epoch,
               (d->batches_per_epoch + r->accumulate - 1) / r->accumulate);
    json_images(s, r);
    str_add(s, "],\n\"bad\": [");
    for (int i = 0; i < d->n_bad; i++) {
        str_add(s, i ? ",\n  {\"path\": " : "\n  {\"path\": ");
        str_json(s, d->bad_path[i]);
        put_key(s, "reason", d->bad_reason[i]);
        str_add(s, "}");
    }
    str_add(s, "],\n\"warnings\": [");
    for (int i = 0; i < r->n_warning; i++) {
        str_add(s, i ? ",\n  " : "\n  ");
        str_json(s, r->warning[i]);
    }
    str_add(s, "],\n\"draws\": [");
    json_draws(s, r, pictures);
    str_add(s, "]}\n");
}
