/* The ss_* entries of a LoRA file, as sd-scripts' train_network writes them (training.md
 * section 7.2): every value a text, numbers and booleans as Python prints them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "built.h"
#include "cli/files/file_tool.h"
#include "cli/job/mixed_precision.h"
#include "cli/train/train.h"

static void put(Trainer *t, const char *key, const char *value) {
    Meta m = {key, value};
    PUSH(t->arena, t->meta, t->n_meta, t->cap_meta, m);
}

static void put_int(Trainer *t, const char *key, int64_t x) {
    put(t, key, x == UNSET_INT ? "None" : arena_printf(t->arena, "%lld", (long long)x));
}

/* repr(float): shortest digits that read back; exponent form below 1e-4 and from 1e16 */
static const char *python_float(Arena *a, double x) {
    if (isnan(x)) return "None";
    Str s = {0};
    int digits = 1;
    char text[40];
    for (; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        double back;
        if (sscanf(text, "%lf", &back) == 1 && back == x) break;
    }
    double size = fabs(x);
    if (x != 0 && (size < 1e-4 || size >= 1e16)) {
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        str_add(&s, text);
    } else {
        int before = size >= 1 ? (int)floor(log10(size)) + 1 : 1;
        int lead = size > 0 && size < 1 ? -(int)floor(log10(size)) - 1 : 0;
        int after = size >= 1 ? digits - before : lead + digits;
        str_printf(&s, "%.*f", after < 1 ? 1 : after, x);
    }
    char *out = arena_strndup(a, s.s, s.n);
    str_free(&s);
    return out;
}

static void put_float(Trainer *t, const char *key, double x) {
    put(t, key, python_float(t->arena, x));
}

static void put_bool(Trainer *t, const char *key, bool x) {
    put(t, key, x ? "True" : "False");
}
static void put_text(Trainer *t, const char *key, const char *x) {
    put(t, key, x ? x : "None");
}

/* An option of the recipe under its sd-scripts name; what the recipe lacks is None. */
static double option(const Trainer *t, const char *name) {
    return args_number(t->job.recipe.options, name);
}

static void put_integral(Trainer *t, const char *key, const char *name) {
    double x = option(t, name);
    put_int(t, key, isnan(x) ? UNSET_INT : (int64_t)x);
}

static const char *network_args_json(Trainer *t) {
    Str s = {0};
    str_add(&s, "{");
    for (int i = 0; i < t->o->network_args.n; i++) {
        const char *key, *value;
        Err ignored = {0};
        if (!key_value(t->arena, "", t->o->network_args.word[i], &key, &value,
                       &ignored))
            continue;
        str_json(&s, key);
        str_add(&s, ": ");
        str_json(&s, value);
        str_add(&s, ", ");
    }
    double dropout = option(t, "network_dropout");
    str_printf(&s, "\"dropout\": %s}",
               isnan(dropout) || dropout == 0 ? "null"
                                              : python_float(t->arena, dropout));
    char *out = arena_strndup(t->arena, s.s, s.n);
    str_free(&s);
    return out;
}

/* What --no_metadata leaves. */
static void minimum(Trainer *t) {
    put_bool(t, "ss_v2", t->o->v2);
    put(t, "ss_base_model_version", t->o->v2 ? "sd_v2" : "sd_v1");
    put(t, "ss_network_module",
        t->o->network_module ? t->o->network_module : "networks.lora");
    const char *recipe = train_recipe(t->o);
    if (strcmp(recipe, "lora")) /* extract-dylora asks which of the two it was */
        put(t, "graphrun_dylora", strcmp(recipe, "dylora") ? "sd-scripts" : "paper");
    put_integral(t, "ss_network_dim", "network_dim");
    put_float(t, "ss_network_alpha", option(t, "network_alpha"));
    put(t, "ss_network_args", network_args_json(t));
}

/* ss_sd_model_name and its two hashes, or those of the VAE. */
static void model_file(Trainer *t, const char *what, const char *path) {
    Arena *a = t->arena;
    const char *slash = strrchr(path, '/');
    char old8[9];
    char *full = NEW(a, char, 65);
    Err why = {0};
    const char *hash[2] = {"IsADirectory", "IsADirectory"}; /* sd-scripts' words */
    if (model_hashes(path, old8, full, &why)) {
        hash[0] = arena_strdup(a, old8);
        hash[1] = full;
    }
    put(t, arena_printf(a, "ss_%s_name", what), slash && slash[1] ? slash + 1 : path);
    put(t, arena_printf(a, "ss_%s_hash", what), hash[0]);
    put(t, arena_printf(a, "ss_new_%s_hash", what), hash[1]);
}

static const char *path_option(const Trainer *t, const char *name) {
    const Val *v = args_get(t->job.recipe.options, name);
    return v && v->kind == VAL_WORD && *v->word ? v->word : NULL;
}

static void models(Trainer *t) {
    const char *base = path_option(t, "pretrained_model_name_or_path");
    const char *vae = path_option(t, "vae"); /* without one of its own it is the base */
    if (base) model_file(t, "sd_model", base);
    if (vae && !(base && !strcmp(vae, base))) model_file(t, "vae", vae);
}

static void data_set(Trainer *t) {
    const Dataset *d = t->data;
    put_int(t, "ss_num_train_images", d ? d->n_train : 0);
    put_int(t, "ss_num_reg_images", d ? d->n_reg : 0);
    put_int(t, "ss_num_batches_per_epoch", d ? d->batches_per_epoch : t->steps);
    put_int(t, "ss_num_epochs", d ? t->epochs : 1);
    if (!d) return;
    put_int(t, "ss_batch_size_per_device", d->batch_size);
    put_int(t, "ss_total_batch_size", d->batch_size);
    put(t, "ss_dataset_dirs", d->metadata_dirs_json);
    put(t, "ss_reg_dataset_dirs", d->metadata_reg_dirs_json);
    put(t, "ss_tag_frequency", d->tag_frequency_json);
    if (d->datasets_json) { /* what follows is said of each dataset there */
        put(t, "ss_datasets", d->datasets_json);
        return;
    }
    put(t, "ss_bucket_info", d->bucket_info_json);
    int w, h;
    Err ignored = {0};
    if (train_resolution(t->o->resolution, &w, &h, &ignored))
        put(t, "ss_resolution", arena_printf(t->arena, "(%d, %d)", w, h));
    put_bool(t, "ss_enable_bucket", t->o->enable_bucket);
    put_bool(t, "ss_bucket_no_upscale", t->o->bucket_no_upscale);
    put_int(t, "ss_min_bucket_reso", t->o->min_bucket_reso);
    put_int(t, "ss_max_bucket_reso", t->o->max_bucket_reso);
    put_bool(t, "ss_shuffle_caption", t->o->shuffle_caption);
    put_int(t, "ss_keep_tokens", t->o->keep_tokens);
    put_bool(t, "ss_color_aug", t->o->color_aug);
    put_bool(t, "ss_flip_aug", t->o->flip_aug);
    put_bool(t, "ss_random_crop", t->o->random_crop);
}

/* The key of the first shape's plan, and hashes of what else the run is made of. */
static void put_plan(Trainer *t) {
    Str s = {0};
    for (size_t i = 0; i < sizeof t->plan[0].plan->key; i++)
        str_printf(&s, "%02x", t->plan[0].plan->key[i]);
    put(t, "ss_graphrun_plan", arena_strndup(t->arena, s.s, s.n));
    str_free(&s);
    for (int i = 0; i < t->n_fact; i++)
        if (!strcmp(t->fact[i].key, "the data"))
            put(t, "ss_graphrun_data", t->fact[i].value);
}

static void training(Trainer *t) {
    const TrainOptions *o = t->o;
    put(t, "ss_session_id",
        arena_printf(t->arena, "%u",
                     (uint32_t)(t->seed * 2654435761u + (uint32_t)t->started)));
    put(t, "ss_training_started_at", python_float(t->arena, (double)t->started));
    put_text(t, "ss_output_name", o->output_name);
    put_float(t, "ss_learning_rate", option(t, "learning_rate"));
    put_float(t, "ss_unet_lr", option(t, "unet_lr"));
    put_float(t, "ss_text_encoder_lr", option(t, "text_encoder_lr"));
    put_int(t, "ss_max_train_steps", t->steps);
    put_int(t, "ss_lr_warmup_steps", (int64_t)t->lr.warmup);
    put(t, "ss_lr_scheduler", t->lr.name);
    put_bool(t, "ss_gradient_checkpointing", o->gradient_checkpointing);
    put_int(t, "ss_gradient_accumulation_steps", t->accumulate);
    put(t, "ss_mixed_precision", mixed_precision_word(t->mixed_precision));
    put_bool(t, "ss_full_fp16", t->full_half && t->mixed_precision == PRECISION_FP16);
    put_integral(t, "ss_clip_skip", "clip_skip");
    put_int(t, "ss_max_token_length", o->max_token_length);
    put_bool(t, "ss_cache_latents", o->cache_latents || o->cache_latents_to_disk);
    put(t, "ss_seed", arena_printf(t->arena, "%llu", (unsigned long long)t->seed));
    put_bool(t, "ss_lowram", false);
    put_float(t, "ss_noise_offset", option(t, "noise_offset"));
    put_float(t, "ss_adaptive_noise_scale", option(t, "adaptive_noise_scale"));
    put_integral(t, "ss_multires_noise_iterations", "multires_noise_iterations");
    put_float(t, "ss_multires_noise_discount", option(t, "multires_noise_discount"));
    put_float(t, "ss_min_snr_gamma", option(t, "min_snr_gamma"));
    put_float(t, "ss_caption_dropout_rate", o->caption_dropout_rate);
    put_int(t, "ss_caption_dropout_every_n_epochs", o->caption_dropout_every_n_epochs);
    put_float(t, "ss_caption_tag_dropout_rate", o->caption_tag_dropout_rate);
    put_text(t, "ss_face_crop_aug_range", o->face_crop_aug_range);
    put_float(t, "ss_scale_weight_norms",
              t->scale_weight_norms > 0 ? t->scale_weight_norms : NAN);
    put_float(t, "ss_prior_loss_weight", o->prior_loss_weight);
    put_float(t, "ss_max_grad_norm", t->max_grad_norm);
    put_text(t, "ss_training_comment", o->training_comment);
    double dropout = option(t, "network_dropout");
    put_float(t, "ss_network_dropout", dropout == 0 ? NAN : dropout);
    put(t, "ss_optimizer",
        arena_printf(t->arena, "graphrun.%s", t->job.recipe.optimizer->name));
    put(t, "ss_graphrun_version", GRAPHRUN_VERSION);
    put(t, "ss_graphrun_recipe", t->job.recipe.doc->name);
    put_plan(t);
}

static void model_spec(Trainer *t) {
    const TrainOptions *o = t->o;
    MetaList m = {.arena = t->arena};
    int w, h;
    Err ignored = {0};
    const char *size = NULL;
    if (train_resolution(o->resolution, &w, &h, &ignored))
        size = arena_printf(t->arena, "%dx%d", w, h);
    meta_modelspec(&m, &(ModelSpec){.save_to = o->output_name ? o->output_name : "last",
                                    .lora = t->lora.n > 0,
                                    .v2 = o->v2,
                                    .v_prediction = o->v_parameterization,
                                    .title = o->metadata_title,
                                    .resolution = size,
                                    .author = o->metadata_author,
                                    .description = o->metadata_description,
                                    .license = o->metadata_license,
                                    .tags = o->metadata_tags});
    for (int i = 0; i < m.n; i++) put(t, m.item[i].key, m.item[i].value);
}

void train_metadata(Trainer *t) {
    minimum(t);
    if (t->o->no_metadata) return;
    training(t);
    data_set(t);
    models(t);
    model_spec(t);
}

int train_metadata_now(const Trainer *t, Arena *a, int64_t step, int64_t epoch,
                       Meta *out) {
    if (t->o->no_metadata) return 0;
    out[0] = (Meta){"ss_steps", arena_printf(a, "%lld", (long long)step)};
    out[1] = (Meta){"ss_epoch", arena_printf(a, "%lld", (long long)epoch)};
    /* with SOURCE_DATE_EPOCH, `started` is that moment, and so is the end */
    int64_t now = getenv("SOURCE_DATE_EPOCH") ? t->started : (int64_t)time(NULL);
    out[2] = (Meta){"ss_training_finished_at", python_float(a, (double)now)};
    return 3;
}
