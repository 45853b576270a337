/* Rules between the options of `graphrun train`, and texts that hold several values. */
#include <stdlib.h>
#include <string.h>

#include "cli/train_options.h"

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

/* The keys of networks.lora, and the recipe's option each becomes; NULL: not yet. */
typedef struct NetworkArg {
    const char *key, *option;
    enum { ONE_INT, ONE_FLOAT, INTS, FLOATS } kind;
} NetworkArg;
static const NetworkArg network_arg[] = {
    {"conv_dim", "conv_dim", ONE_INT},
    {"conv_alpha", "conv_alpha", ONE_FLOAT},
    {"dropout", "network_dropout", ONE_FLOAT},
    {"rank_dropout", "rank_dropout", ONE_FLOAT},
    {"module_dropout", "module_dropout", ONE_FLOAT},
    {"block_dims", "block_dims", INTS},
    {"block_alphas", "block_alphas", FLOATS},
    {"conv_block_dims", "conv_block_dims", INTS},
    {"conv_block_alphas", "conv_block_alphas", FLOATS},
    {"down_lr_weight", NULL, FLOATS},
    {"mid_lr_weight", NULL, ONE_FLOAT},
    {"up_lr_weight", NULL, FLOATS},
    {"block_lr_zero_threshold", NULL, ONE_FLOAT},
    {"loraplus_lr_ratio", NULL, ONE_FLOAT},
    {"loraplus_unet_lr_ratio", NULL, ONE_FLOAT},
    {"loraplus_text_encoder_lr_ratio", NULL, ONE_FLOAT},
};

static const NetworkArg *network_arg_find(Arena *a, const char *key, Err *e) {
    const char *names[COUNT(network_arg) + 1] = {0};
    for (size_t i = 0; i < COUNT(network_arg); i++) {
        const NetworkArg *n = &network_arg[i];
        names[i] = n->key;
        if (strcmp(n->key, key)) continue;
        if (n->option) return n;
        err_usage(e, "--network_args %s is not available in this version", key);
        return NULL;
    }
    err_usage(e, "--network_args: unknown key '%s'%s", key,
              did_you_mean(a, key, names));
    return NULL;
}

/* One number of a value; *end behind it. */
static bool number(const NetworkArg *n, const char *text, const char **end, Val *v) {
    char *stop;
    if (n->kind == ONE_INT || n->kind == INTS) {
        long long x = strtoll(text, &stop, 10);
        *v = val_int(x);
        *end = stop;
        return stop != text && x >= 0 && x <= 4096;
    }
    double x = strtod(text, &stop);
    *v = val_float(x);
    *end = stop;
    size_t digits = strspn(text, "0123456789+-.eE");
    return stop != text && (size_t)(stop - text) <= digits && isfinite(x);
}

static bool network_value(Arena *a, const NetworkArg *n, const char *text, Val *v,
                          Err *e) {
    const char *at = text;
    bool list = n->kind == INTS || n->kind == FLOATS;
    bool integers = n->kind == INTS || n->kind == ONE_INT;
    Val one = {0}, many = {.kind = VAL_LIST};
    int cap = 0;
    for (;;) {
        if (!number(n, at, &at, &one)) break;
        PUSH(a, many.list.item, many.list.n, cap, one);
        if (*at != ',' || !list) break;
        at++;
    }
    *v = list ? many : one;
    if (!*at && many.list.n) return true;
    return err_usage(e, "--network_args %s: got '%s', want %s%s", n->key, text,
                     !integers ? "a number" : "an integer of 0 … 4096",
                     list ? " or several with commas between" : "");
}

bool train_network_args(Arena *a, const WordList *words, Args *out, Err *e) {
    for (int i = 0; i < words->n; i++) {
        const char *key = NULL, *value = NULL;
        Val v;
        if (!key_value(a, "--network_args", words->word[i], &key, &value, e))
            return false;
        const NetworkArg *n = network_arg_find(a, key, e);
        if (!n || !network_value(a, n, value, &v, e)) return false;
        args_set(out, n->option, v);
    }
    return true;
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

static bool check_network(Arena *a, const TrainOptions *o, Err *e) {
    if (!train_network_args(a, &o->network_args, args_new(a), e)) return false;
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

static void warn(Arena *a, WordList *notes, const char *text) {
    const char **grown = NEW(a, const char *, notes->n + 1);
    for (int i = 0; i < notes->n; i++) grown[i] = notes->word[i];
    grown[notes->n++] = text;
    notes->word = grown;
}

bool train_options_check(Arena *a, const TrainOptions *o, const Args *given,
                         WordList *notes, Err *e) {
    if (!check_data(o, given, e) || !check_network(a, o, e) || !check_loss(o, e))
        return false;
    if (o->dataset_config && (o->train_data_dir || o->reg_data_dir))
        warn(a, notes,
             "--train_data_dir and --reg_data_dir are ignored: --dataset_config "
             "is given");
    if (o->max_train_epochs != UNSET_INT && args_get(given, "max_train_steps"))
        warn(a, notes, "--max_train_steps is ignored: --max_train_epochs is given");
    if (o->v2 && args_get(given, "clip_skip"))
        warn(a, notes, "--clip_skip is not made for --v2 models");
    if (o->zero_terminal_snr && !o->v_parameterization)
        warn(a, notes, "--zero_terminal_snr wants --v_parameterization");
    return true;
}
