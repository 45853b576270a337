/* The options of `graphrun train`: sd-scripts' train_network, letter for letter, and a few
 * of graphrun's own. A field has its option's name. */
#ifndef GRAPHRUN_TRAIN_OPTIONS_H
#define GRAPHRUN_TRAIN_OPTIONS_H
#include "cli/opt.h"
#include "graph/lang/doc.h"
#include "io/data.h"

typedef struct TrainOptions {
    /* base model */
    const char *pretrained_model_name_or_path, *vae;
    bool v2, v_parameterization;
    /* data */
    const char *dataset_config, *train_data_dir, *reg_data_dir, *in_json;
    const char *resolution; /* "512" or "w,h": train_resolution reads it */
    int64_t train_batch_size, dataset_repeats;
    bool enable_bucket, bucket_no_upscale;
    int64_t min_bucket_reso, max_bucket_reso, bucket_reso_steps;
    const char *resize_interpolation;
    const char *caption_extension, *caption_extention;
    const char *caption_separator, *keep_tokens_separator, *secondary_separator;
    const char *caption_prefix, *caption_suffix;
    bool shuffle_caption, enable_wildcard, weighted_captions;
    int64_t keep_tokens, token_warmup_min;
    double token_warmup_step;
    double caption_dropout_rate, caption_tag_dropout_rate;
    int64_t caption_dropout_every_n_epochs;
    bool color_aug, flip_aug, random_crop;
    const char *face_crop_aug_range;
    double prior_loss_weight;
    bool masked_loss, alpha_mask;
    bool cache_latents, cache_latents_to_disk, skip_cache_check;
    int64_t vae_batch_size;
    int64_t max_data_loader_n_workers;
    int64_t clip_skip, max_token_length;
    bool allow_missing_captions, skip_bad_images;
    /* network */
    const char *network_module;
    int64_t network_dim;
    double network_alpha, network_dropout;
    WordList network_args; /* K=V: train_network_args reads it */
    const char *network_weights;
    bool dim_from_weights, network_train_unet_only, network_train_text_encoder_only;
    double scale_weight_norms;
    WordList base_weights, base_weights_multiplier;
    /* optimizer and schedule */
    double learning_rate, unet_lr, text_encoder_lr; /* the latter two: NAN if unset */
    const char *optimizer_type;
    WordList optimizer_args;
    bool use_8bit_adam, use_lion_optimizer;
    double ema_decay;
    double max_grad_norm;
    const char *lr_scheduler, *lr_warmup_steps, *lr_decay_steps;
    WordList lr_scheduler_args;
    int64_t lr_scheduler_num_cycles;
    double lr_scheduler_power, lr_scheduler_timescale, lr_scheduler_min_lr_ratio;
    /* the run */
    int64_t max_train_steps;
    int64_t max_train_epochs; /* UNSET_INT, or steps do not count */
    int64_t gradient_accumulation_steps, seed;
    const char *mixed_precision;
    bool full_fp16, full_bf16, no_half_vae, gradient_checkpointing;
    const char *memory_budget; /* train_memory_budget reads it */
    const char *device;
    /* loss and noise */
    double noise_offset, adaptive_noise_scale, multires_noise_discount;
    int64_t multires_noise_iterations;
    bool noise_offset_random_strength, ip_noise_gamma_random_strength;
    double ip_noise_gamma, min_snr_gamma, v_pred_like_loss;
    bool zero_terminal_snr, scale_v_pred_loss_like_noise_pred, debiased_estimation_loss;
    int64_t min_timestep, max_timestep;
    const char *on_nan, *loss_type, *huber_schedule;
    double huber_c, huber_scale;
    /* saving */
    const char *output_dir, *output_name, *save_model_as, *save_precision;
    int64_t save_every_n_epochs, save_every_n_steps, save_n_epoch_ratio;
    int64_t save_last_n_epochs, save_last_n_steps;
    int64_t save_last_n_epochs_state, save_last_n_steps_state;
    bool save_state, save_state_on_train_end;
    const char *resume;
    const char *training_comment;
    const char *metadata_title, *metadata_author, *metadata_description;
    const char *metadata_license, *metadata_tags;
    bool no_metadata;
    /* samples, logs, validation */
    int64_t sample_every_n_steps, sample_every_n_epochs;
    const char *sample_prompts, *sample_sampler;
    bool sample_at_first;
    const char *logging_dir, *log_prefix, *log_with, *log_tracker_name;
    int64_t validation_seed, validate_every_n_steps, validate_every_n_epochs;
    double validation_split;
    int64_t max_validation_steps;
    /* the command itself */
    const char *config_file;
    bool output_config, dry_run, exact;
    WordList set;
    const char *inputs, *record, *compat, *plan, *profile;
    /* of `graphrun data` alone */
    const char *html;
    int64_t samples;
} TrainOptions;

extern const TrainOptions train_defaults;
extern const Opt train_options[];

/* Rules between options (training.md section 1), and texts that hold several values.
 * notes: warnings worth telling. Everything wrong is misuse (exit code 2). */
bool train_options_check(Arena *a, const TrainOptions *o, const Args *given,
                         WordList *notes, Err *e);
/* Options that change nothing because another is not given; for the shipped recipes, whose
 * options have no other values than the command line's. */
void train_options_idle(Arena *a, const TrainOptions *o, const Args *given,
                        WordList *notes);
/* What the options say of the data; the seed is left to the caller. */
bool train_data_options(const TrainOptions *o, DataOptions *d, Err *e);
/* --resolution; NULL text gives 512 × 512. */
bool train_resolution(const char *text, int *w, int *h, Err *e);

/* cli/train/network_args.c: --network_args as options of the recipe, with typed values: conv_dim,
 * block_dims, block_lr_weight … notes: warnings worth telling, or NULL. */
bool train_network_args(Arena *a, const WordList *words, Args *out, WordList *notes,
                        Err *e);
/* --lr_warmup_steps, --lr_decay_steps: updates, or below 1 a part of them; "10%" is 0.1. */
bool train_part(const char *option, const char *text, double *out, Err *e);
/* --lr_scheduler_args: step_rules, or NULL. */
bool train_step_rules(Arena *a, const WordList *words, const char **rules, Err *e);
/* cli/train/train_optimizer.c: --optimizer_type, --use_8bit_adam, --use_lion_optimizer and
 * --optimizer_args as settings "optimizer_type" and "optimizer.KEY" of the recipe. */
bool train_optimizer(Arena *a, const TrainOptions *o, const Args *given, Args *set,
                     Err *e);
/* What there is to say about the learning rate and the recipe's optimizer. */
void train_optimizer_notes(Arena *a, const Recipe *r, double rate, WordList *notes);
/* The recipe of --network_module and --compat. */
const char *train_recipe(const TrainOptions *o);
void word_add(Arena *a, WordList *list, const char *word);
/* "key=value" split at the first '='; what: the option's name, for the message. */
bool key_value(Arena *a, const char *what, const char *word, const char **key,
               const char **value, Err *e);
#endif
