/* Options that change nothing because another is not given: sd-scripts says nothing of them,
 * here each is told. What a recipe of the user's or a dataset file may set is not judged. */
#include <string.h>

#include "cli/train/train_options.h"

typedef struct Idle {
    const char *option;
    const char *wants[4]; /* one of these must be given, and not be off */
    const char *words[4]; /* and be one of these, if there are any */
    bool data;            /* a dataset file may give what it wants */
} Idle;

#define REORDERED                                                                      \
    { "shuffle_caption", "token_warmup_step", "caption_tag_dropout_rate" }
#define HUBER .wants = {"loss_type"}, .words = {"huber", "smooth_l1"}
static const Idle idle[] = {
    {"keep_tokens", REORDERED, .data = true},
    {"keep_tokens_separator", REORDERED, .data = true},
    {"token_warmup_min", {"token_warmup_step"}, .data = true},
    {"min_bucket_reso", {"enable_bucket"}, .data = true},
    {"max_bucket_reso", {"enable_bucket"}, .data = true},
    {"bucket_reso_steps", {"enable_bucket"}, .data = true},
    {"bucket_no_upscale", {"enable_bucket"}, .data = true},
    {"validation_seed", {"validation_split"}, .data = true},
    {"lr_scheduler_num_cycles", .wants = {"lr_scheduler"},
     .words = {"cosine_with_restarts", "cosine_with_min_lr", "warmup_stable_decay"}},
    {"lr_scheduler_power", .wants = {"lr_scheduler"}, .words = {"polynomial"}},
    {"lr_scheduler_timescale", .wants = {"lr_scheduler"}, .words = {"inverse_sqrt"}},
    {"lr_decay_steps", .wants = {"lr_scheduler"}, .words = {"warmup_stable_decay"}},
    {"lr_scheduler_min_lr_ratio", .wants = {"lr_scheduler"},
     .words = {"cosine_with_min_lr", "warmup_stable_decay"}},
    {"huber_c", HUBER},
    {"huber_scale", HUBER},
    {"huber_schedule", HUBER},
    {"multires_noise_discount", .wants = {"multires_noise_iterations"}},
    {"noise_offset_random_strength", .wants = {"noise_offset"}},
    {"ip_noise_gamma_random_strength", .wants = {"ip_noise_gamma"}},
    {"sample_at_first", .wants = {"sample_prompts"}},
    {"sample_sampler", .wants = {"sample_prompts"}},
    {"save_last_n_epochs", .wants = {"save_every_n_epochs", "save_n_epoch_ratio"}},
    {"save_last_n_steps", .wants = {"save_every_n_steps"}},
    {"save_last_n_epochs_state", .wants = {"save_state"}},
    {"save_last_n_steps_state", .wants = {"save_state"}},
    {"log_with", .wants = {"logging_dir"}},
    {"log_prefix", .wants = {"logging_dir"}},
    {"log_tracker_name", .wants = {"logging_dir"}}};

static bool is_on(const Idle *x, const Val *v) {
    double number;
    if (!v) return false;
    if (v->kind != VAL_WORD) return !val_number(v, &number) || number != 0;
    if (!x->words[0]) return *v->word != 0;
    for (int i = 0; x->words[i]; i++)
        if (!strcmp(v->word, x->words[i])) return true;
    return false;
}

static const char *told(Arena *a, const Idle *x) {
    Str s = {0};
    str_printf(&s, "--%s has no effect without ", x->option);
    for (int i = 0; x->wants[i]; i++)
        str_printf(&s, "%s--%s", i ? " or " : "", x->wants[i]);
    for (int i = 0; x->words[i]; i++)
        str_printf(&s, "%s%s", i ? " or " : " ", x->words[i]);
    const char *text = arena_strdup(a, s.s);
    str_free(&s);
    return text;
}

void train_options_idle(Arena *a, const TrainOptions *o, const Args *given,
                        WordList *notes) {
    for (size_t i = 0; i < COUNT(idle); i++) {
        const Idle *x = &idle[i];
        bool on = x->data && o->dataset_config;
        if (!args_get(given, x->option)) continue;
        for (int k = 0; x->wants[k]; k++) on |= is_on(x, args_get(given, x->wants[k]));
        if (!on) word_add(a, notes, told(a, x));
    }
}
