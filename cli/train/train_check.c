/* Rules between the options of `graphrun train`, and texts that hold several values. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/train_options.h"

bool key_value(Arena *a, const char *what, const char *word, const char **key,
               const char **value, Err *e) {
    const char *eq = strchr(word, '=');
    if (!eq || eq == word)
        return err_usage(e, "%s: got '%s', want key=value", what, word);
    *key = arena_strndup(a, word, (size_t)(eq - word));
    *value = eq + 1;
    return true;
}

/* One number of --resolution; *end behind it. */
static bool side(const char *text, char **end, int *out) {
    long x = strtol(text, end, 10);
    *out = (int)x;
    return *end != text && *text >= '0' && *text <= '9' && x >= 8 && x <= 16384;
}

bool train_resolution(const char *text, int *w, int *h, Err *e) {
    char *end = NULL;
    if (!text) text = train_defaults.resolution;
    bool fine = side(text, &end, w);
    *h = *w;
    if (fine && *end == ',') {
        const char *second = end + 1;
        while (*second == ' ') second++;
        fine = side(second, &end, h);
    }
    if (fine && !*end) return true;
    return err_usage(
        e, "--resolution: got '%s', want one number or two (W,H) of 8 … 16384", text);
}

bool train_part(const char *option, const char *text, double *out, Err *e) {
    char *end;
    *out = strtod(text, &end);
    bool part = *end == '%',
         fine = end != text && strspn(text, "0123456789.") == (size_t)(end - text);
    if (part) *out /= 100, end++;
    if (fine && !*end && (part ? *out < 1 : *out < 1 || *out == floor(*out)))
        return true;
    return err_usage(e,
                     "--%s: got '%s', want steps, or a part of them below 1 or 100%%",
                     option, text);
}

/* The one key that is honoured; sd-scripts' users write the value in quotes. */
bool train_step_rules(Arena *a, const WordList *words, const char **rules, Err *e) {
    *rules = NULL;
    for (int i = 0; i < words->n; i++) {
        const char *key = NULL, *value = NULL;
        if (!key_value(a, "--lr_scheduler_args", words->word[i], &key, &value, e))
            return false;
        if (strcmp(key, "step_rules"))
            return err_usage(e,
                             "--lr_scheduler_args %s: only step_rules of the schedule "
                             "piecewise_constant is known; the others have options of "
                             "their own",
                             key);
        size_t n = strlen(value);
        bool quoted = n > 1 && strchr("'\"", *value) && value[n - 1] == *value;
        *rules = quoted ? arena_strndup(a, value + 1, n - 2) : value;
    }
    return true;
}

static bool check_schedule(Arena *a, const TrainOptions *o, Err *e) {
    double x;
    const char *rules;
    return train_part("lr_warmup_steps", o->lr_warmup_steps, &x, e) &&
           train_part("lr_decay_steps", o->lr_decay_steps, &x, e) &&
           train_step_rules(a, &o->lr_scheduler_args, &rules, e);
}

static bool check_data(const TrainOptions *o, const Args *given, Err *e) {
    int w, h;
    if (!train_resolution(o->resolution, &w, &h, e)) return false;
    if (o->bucket_reso_steps % 8)
        return err_usage(e, "--bucket_reso_steps: got %lld, want a multiple of 8",
                         (long long)o->bucket_reso_steps);
    if (o->min_bucket_reso > o->max_bucket_reso)
        return err_usage(e, "--min_bucket_reso %lld is above --max_bucket_reso %lld",
                         (long long)o->min_bucket_reso, (long long)o->max_bucket_reso);
    if (args_get(given, "max_token_length") && o->max_token_length != 150 &&
        o->max_token_length != 225)
        return err_usage(e, "--max_token_length: got %lld, want 150 or 225",
                         (long long)o->max_token_length);
    if (o->inputs && (o->dataset_config || o->train_data_dir))
        return err_usage(e, "--inputs takes the place of the data: leave out %s",
                         o->dataset_config ? "--dataset_config" : "--train_data_dir");
    return true;
}

static bool is_dylora(const TrainOptions *o) {
    return o->network_module && !strcmp(o->network_module, "networks.dylora");
}

const char *train_recipe(const TrainOptions *o) {
    return !is_dylora(o) ? "lora" : o->compat ? "dylora-sdscripts" : "dylora";
}

/* networks.dylora trains whole units, of 3x3 layers as of the others, and has no dropout. */
static bool check_dylora(const TrainOptions *o, const Args *network, Err *e) {
    static const char *const none[] = {"network_dropout", "rank_dropout",
                                       "module_dropout"};
    const Val *unit = args_get(network, "unit"), *conv = args_get(network, "conv_dim");
    if (!is_dylora(o))
        return !unit || err_usage(e, "--network_args unit is one of networks.dylora");
    for (size_t i = 0; i < COUNT(none); i++)
        if (args_get(network, none[i]) || o->network_dropout != 0)
            return err_usage(e, "networks.dylora has no dropout");
    if (unit && (unit->i < 1 || o->network_dim % unit->i))
        return err_usage(e,
                         "--network_args unit: %lld does not divide --network_dim %lld",
                         (long long)unit->i, (long long)o->network_dim);
    if (conv && conv->i != o->network_dim)
        return err_usage(e,
                         "--network_args conv_dim: got %lld, networks.dylora wants "
                         "that of --network_dim, %lld",
                         (long long)conv->i, (long long)o->network_dim);
    return true;
}

static bool check_network(Arena *a, const TrainOptions *o, WordList *notes, Err *e) {
    Args *network = args_new(a);
    if (!train_network_args(a, &o->network_args, network, notes, e) ||
        !check_dylora(o, network, e))
        return false;
    if (o->network_train_unet_only && o->network_train_text_encoder_only)
        return err_usage(e, "--network_train_unet_only and "
                            "--network_train_text_encoder_only leave nothing to train");
    for (int i = 0; i < o->set.n; i++) {
        const char *key = NULL, *value = NULL;
        if (!key_value(a, "--set", o->set.word[i], &key, &value, e)) return false;
    }
    return true;
}

static bool check_loss(const TrainOptions *o, Err *e) {
    if (o->adaptive_noise_scale != 0 && o->noise_offset == 0)
        return err_usage(e, "--adaptive_noise_scale wants --noise_offset");
    if (o->scale_v_pred_loss_like_noise_pred && !o->v_parameterization)
        return err_usage(e, "--scale_v_pred_loss_like_noise_pred wants "
                            "--v_parameterization");
    if (o->v_pred_like_loss != 0 && o->v_parameterization)
        return err_usage(e, "--v_pred_like_loss is for bases that predict noise, got "
                            "--v_parameterization");
    if (o->min_timestep >= o->max_timestep)
        return err_usage(e, "--min_timestep %lld is not below --max_timestep %lld",
                         (long long)o->min_timestep, (long long)o->max_timestep);
    return true;
}

void word_add(Arena *a, WordList *notes, const char *text) {
    const char **grown = NEW(a, const char *, notes->n + 1);
    for (int i = 0; i < notes->n; i++) grown[i] = notes->word[i];
    grown[notes->n++] = text;
    notes->word = grown;
}

bool train_options_check(Arena *a, const TrainOptions *o, const Args *given,
                         WordList *notes, Err *e) {
    if (!check_data(o, given, e) || !check_network(a, o, notes, e) ||
        !check_loss(o, e) || !check_schedule(a, o, e))
        return false;
    if (o->dataset_config && (o->train_data_dir || o->reg_data_dir))
        word_add(a, notes,
                 "--train_data_dir and --reg_data_dir are ignored: --dataset_config "
                 "is given");
    if (o->max_train_epochs != UNSET_INT && args_get(given, "max_train_steps"))
        word_add(a, notes, "--max_train_steps is ignored: --max_train_epochs is given");
    if (o->v2 && args_get(given, "clip_skip"))
        word_add(a, notes, "--clip_skip is not made for --v2 models");
    if (o->zero_terminal_snr && !o->v_parameterization)
        word_add(a, notes, "--zero_terminal_snr wants --v_parameterization");
    return true;
}
