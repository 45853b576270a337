/* The data of a training: options as the data set wants them, the data set, its pictures as
 * latents, the feed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "cli/talk.h"
#include "cli/train/train.h"
#include "io/dataset_config.h"

enum { TOKENS_SD1_PAD = PAD_END, TOKENS_SD2_PAD = 0 };

/* ---- options ---- */
/* --face_crop_aug_range; NULL: none. */
static bool face_range(const char *text, double range[2], Err *e) {
    char *end;
    range[0] = range[1] = 0;
    if (!text) return true;
    range[0] = strtod(text, &end);
    if (*end == ',') range[1] = strtod(end + 1, &end);
    if (!*end && range[0] > 0 && range[0] <= range[1]) return true;
    return err_usage(e, "--face_crop_aug_range: got '%s', want LO,HI with 0 < LO <= HI",
                     text);
}

static void caption_options(const TrainOptions *o, DataOptions *d) {
    d->caption_extension =
        o->caption_extention ? o->caption_extention : o->caption_extension;
    d->caption_separator = o->caption_separator;
    d->keep_tokens_separator = o->keep_tokens_separator;
    d->secondary_separator = o->secondary_separator;
    d->caption_prefix = o->caption_prefix;
    d->caption_suffix = o->caption_suffix;
    d->enable_wildcard = o->enable_wildcard;
    d->shuffle_caption = o->shuffle_caption;
    d->keep_tokens = (int)o->keep_tokens;
    d->caption_dropout_rate = o->caption_dropout_rate;
    d->caption_dropout_every_n_epochs = (int)o->caption_dropout_every_n_epochs;
    d->caption_tag_dropout_rate = o->caption_tag_dropout_rate;
    d->token_warmup_min = (int)o->token_warmup_min;
    d->token_warmup_step = o->token_warmup_step;
}

bool train_data_options(const TrainOptions *o, DataOptions *d, Err *e) {
    *d = (DataOptions){.dataset_config = o->dataset_config,
                       .train_data_dir = o->train_data_dir,
                       .reg_data_dir = o->reg_data_dir,
                       .in_json = o->in_json,
                       .train_batch_size = (int)o->train_batch_size,
                       .enable_bucket = o->enable_bucket,
                       .bucket_no_upscale = o->bucket_no_upscale,
                       .min_bucket_reso = (int)o->min_bucket_reso,
                       .max_bucket_reso = (int)o->max_bucket_reso,
                       .bucket_reso_steps = (int)o->bucket_reso_steps,
                       .resize_interpolation = o->resize_interpolation,
                       .flip_aug = o->flip_aug,
                       .color_aug = o->color_aug,
                       .random_crop = o->random_crop,
                       .alpha_mask = o->alpha_mask,
                       .allow_missing_captions = o->allow_missing_captions,
                       .skip_bad_images = o->skip_bad_images,
                       .dataset_repeats = (int)o->dataset_repeats,
                       .prior_loss_weight = o->prior_loss_weight};
    caption_options(o, d);
    return face_range(o->face_crop_aug_range, d->face_crop_aug_range, e) &&
           train_resolution(o->resolution, &d->width, &d->height, e);
}

bool train_data_masks(Arena *a, const TrainOptions *o, bool *masks, Err *e) {
    DataOptions d;
    DataConfig c;
    *masks = false;
    if (!train_data_options(o, &d, e) || !data_config_read(a, &d, &c, e)) return false;
    for (int i = 0; i < c.n; i++)
        for (int k = 0; k < c.dataset[i].n; k++)
            *masks |=
                c.dataset[i].subset[k].alpha_mask || c.dataset[i].subset[k].mask_dir;
    return true;
}

/* What the recipe says goes before the options' own values. */
static bool data_options(Trainer *t, DataOptions *d, Err *e) {
    const Args *data = t->job.recipe.data;
    double batch;
    if (!train_data_options(t->o, d, e) ||
        !job_number(&t->job, data, "batch", (double)t->o->train_batch_size, &batch,
                    e) ||
        !job_number(&t->job, data, "prior_loss_weight", t->o->prior_loss_weight,
                    &d->prior_loss_weight, e))
        return false;
    d->dataset_config = train_text(data, "config", t->o->dataset_config);
    d->train_batch_size = (int)batch;
    d->seed = t->seed;
    d->validation_split = t->o->validation_split;
    d->validation_seed =
        t->o->validation_seed == UNSET_INT ? t->seed : (uint64_t)t->o->validation_seed;
    return true;
}

/* Threads that read pictures and captions, at most all cores but one. */
static int reader_threads(const TrainOptions *o) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN), wanted = o->max_data_loader_n_workers;
    if (wanted > cores - 1) wanted = cores - 1;
    return wanted < 1 ? 1 : (int)wanted;
}

/* ---- the data set and its feed ---- */
/* Rows of the text encoder's table: its argument `vocabulary`, if it has one. */
static int64_t vocabulary(const Trainer *t) {
    const Net *net = job_net(&t->job, "text_encoder");
    const Val *v = net ? args_get(net->args, "vocabulary") : NULL;
    return v && v->kind == VAL_INT ? v->i : INT32_MAX;
}

static bool tokenizer_for(Trainer *t, Err *e) {
    Checkpoint *base = job_checkpoint(&t->job, "text_encoder");
    t->tokenizer = tokenizer_open(base ? checkpoint_tokenizer(base) : NULL, e);
    return t->tokenizer != NULL;
}

/* Without data, a dry run takes --resolution and the batch size at their word. */
static bool shapes_of_options(Trainer *t, const DataOptions *d) {
    t->shape = NEW(t->arena, Shape, 1);
    t->n_shape = 1;
    t->shape[0] = (Shape){d->train_batch_size, d->height / LATENT_FACTOR,
                          d->width / LATENT_FACTOR, t->chunks};
    return true;
}

/* A picture that looks different each time cannot be encoded once. */
static bool check_augmentation(const Trainer *t, Err *e) {
    const char *asked = t->o->cache_latents_to_disk ? "cache_latents_to_disk"
                        : t->o->cache_latents       ? "cache_latents"
                                                    : NULL;
    if (!asked || !t->data->varies) return true;
    return err_usage(e,
                     "--%s: pictures of the data set are cropped or coloured at random "
                     "(color_aug, random_crop, face_crop_aug_range)",
                     asked);
}

/* A data set with masks wants a recipe that uses them. */
static bool check_masks(const Trainer *t, Err *e) {
    const Val *v = args_get(t->job.recipe.options, "masked_loss");
    if (!t->data->masked || (v && v->kind == VAL_BOOL && v->b)) return true;
    return err_usage(e, "the data set has masks for the loss, and recipe '%s' %s",
                     t->job.doc->name,
                     v ? "has masked_loss false" : "has no option 'masked_loss'");
}

bool train_uses_weights(const Trainer *t) {
    return t->data && t->o->weighted_captions;
}

bool train_uses_masks(const Trainer *t) {
    return t->data && t->data->masked;
}

DataFeedJob train_feed_job(Trainer *t) {
    return (DataFeedJob){.data = t->data,
                         .latents = &t->latents,
                         .tokenizer = t->tokenizer,
                         .chunks = t->chunks,
                         .pad = t->o->v2 ? TOKENS_SD2_PAD : TOKENS_SD1_PAD,
                         .vocabulary = vocabulary(t),
                         .seed = t->seed,
                         .threads = t->readers,
                         .vae = {train_vae_exec, t},
                         .pixels = job_wants_pixels(&t->job),
                         .masks = train_uses_masks(t),
                         .weights = train_uses_weights(t)};
}

bool train_data_open(Trainer *t, Err *e) {
    DataOptions d;
    if (!data_options(t, &d, e)) return false;
    if (!d.dataset_config && !d.train_data_dir) {
        if (t->o->dry_run) return shapes_of_options(t, &d);
        return err_usage(e, "no data: give --train_data_dir or --dataset_config");
    }
    t->data = dataset_open(&d, e);
    if (!t->data) return false;
    /* an epoch ends with an update, of fewer micro-batches if need be */
    t->steps_per_epoch =
        (t->data->batches_per_epoch + t->accumulate - 1) / t->accumulate;
    if (t->o->max_train_epochs != UNSET_INT)
        t->steps = t->o->max_train_epochs * t->steps_per_epoch;
    t->epochs = (t->steps + t->steps_per_epoch - 1) / t->steps_per_epoch;
    if (!data_feed_shapes(t->arena, t->data, t->chunks, &t->shape, &t->n_shape, e))
        return false;
    dataset_pace(t->data, t->accumulate, t->steps);
    if (!check_augmentation(t, e) || !check_masks(t, e)) return false;
    t->readers = reader_threads(t->o);
    if (!t->o->dry_run && !tokenizer_for(t, e)) return false;
    if (!train_validation_open(t, &d, e)) return false;
    if (t->o->dry_run) return true;
    DataFeedJob job = train_feed_job(t);
    t->feed = data_feed_new(t->arena, &job);
    return true;
}

/* ---- pictures as latents ---- */
/* What the VAE is: its weights' names, types and bytes, and how they are computed with. */
static bool vae_hash(Trainer *t, const char **out, Err *e) {
    const Checkpoint *c = job_checkpoint(&t->job, "vae_encoder");
    XXH3_state_t *x = XXH3_createState();
    if (!c || !x) {
        XXH3_freeState(x);
        return err_fail(e, "the VAE's weights cannot be read");
    }
    XXH3_128bits_reset(x);
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *file_key, *name = checkpoint_name(c, i, &file_key);
        Type type;
        const void *data;
        if (strncmp(name, "vae.", 4) || !checkpoint_find(c, name, &type, &data))
            continue;
        XXH3_128bits_update(x, name, strlen(name) + 1);
        XXH3_128bits_update(x, &type.dtype, sizeof type.dtype);
        XXH3_128bits_update(x, data, type_bytes(&type));
    }
    XXH128_hash_t h = XXH3_128bits_digest(x);
    XXH3_freeState(x);
    bool half = t->mixed_precision == PRECISION_BF16 && !t->o->no_half_vae;
    *out = arena_printf(t->arena, "%016llx%016llx %s%s", (unsigned long long)h.high64,
                        (unsigned long long)h.low64, half ? "bf16" : "f32",
                        t->o->exact ? " exact" : "");
    return true;
}

static void told_picture(void *ctx, int done, int of) {
    Trainer *t = ctx;
    (void)of;
    progress_at(t->progress, done, NULL);
}

static int fixed_pictures(const Dataset *d) {
    int n = 0;
    for (int i = 0; i < d->n; i++) n += !d->sample[i].varies;
    return n;
}

bool train_encode(Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    if (job_wants_pixels(&t->job)) return true; /* they are read as they are drawn */
    LatentJob job = {.data = t->data,
                     .vae = {train_vae_exec, t},
                     .seed = t->seed,
                     .threads = t->readers,
                     .batch = (int)o->vae_batch_size,
                     .masks = train_uses_masks(t),
                     .once = o->cache_latents || o->cache_latents_to_disk,
                     .check = !o->skip_cache_check,
                     .told = told_picture,
                     .told_ctx = t};
    if (o->cache_latents_to_disk && !vae_hash(t, &job.disk, e)) return false;
    t->progress =
        talk_progress(t->arena, t->common, "pictures encoded", fixed_pictures(t->data));
    bool ok = latents_encode(t->arena, &job, &t->latents, e);
    progress_end(t->progress);
    ok = ok && train_validation_encode(t, e);
    if (!t->data->varies) train_vae_close(t);
    return ok;
}
