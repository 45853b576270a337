/* --network_args: the keys of sd-scripts' networks.lora and networks.dylora, as options of
 * a recipe with typed values (lora.md sections 3 to 5).
 *
 * A list by block has 25 values: 12 down (the first convolution, then down blocks), the
 * middle, 12 up. Keys that sd-scripts reads but does not use are left out with a warning;
 * everything else that cannot be honoured is an error. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/train_options.h"

enum { SIDE = 12 /* weights of the way down, and up */, BLOCKS = 2 * SIDE + 1 };

typedef struct NetworkArg {
    const char *key;
    const char *option; /* of the recipe; NULL: see `weights` below, or not available */
    enum { ONE_INT, ONE_FLOAT, INTS, FLOATS, WEIGHTS } kind;
} NetworkArg;
static const NetworkArg network_arg[] = {
    {"conv_dim", "conv_dim", ONE_INT},
    {"conv_alpha", "conv_alpha", ONE_FLOAT},
    {"unit", "unit", ONE_INT},
    {"dropout", "network_dropout", ONE_FLOAT},
    {"rank_dropout", "rank_dropout", ONE_FLOAT},
    {"module_dropout", "module_dropout", ONE_FLOAT},
    {"block_dims", "block_dims", INTS},
    {"block_alphas", "block_alphas", FLOATS},
    {"conv_block_dims", "conv_block_dims", INTS},
    {"conv_block_alphas", "conv_block_alphas", FLOATS},
    {"down_lr_weight", NULL, WEIGHTS},
    {"mid_lr_weight", NULL, WEIGHTS},
    {"up_lr_weight", NULL, WEIGHTS},
    {"block_lr_zero_threshold", NULL, WEIGHTS},
    {"loraplus_lr_ratio", "loraplus_lr_ratio", ONE_FLOAT},
    {"loraplus_unet_lr_ratio", "loraplus_unet_lr_ratio", ONE_FLOAT},
    {"loraplus_text_encoder_lr_ratio", "loraplus_text_encoder_lr_ratio", ONE_FLOAT},
};

static const NetworkArg *find_arg(Arena *a, const char *key, Err *e) {
    const char *names[COUNT(network_arg) + 1] = {0};
    for (size_t i = 0; i < COUNT(network_arg); i++) {
        const NetworkArg *n = &network_arg[i];
        names[i] = n->key;
        if (!strcmp(n->key, key)) return n;
    }
    err_usage(e, "--network_args: unknown key '%s'%s", key,
              did_you_mean(a, key, names));
    return NULL;
}

/* ---- numbers ---- */
/* A decimal number; *end behind it. Neither hexadecimal nor "inf", as strtod would. */
static bool decimal(const char *text, const char **end, double *x) {
    char *stop;
    *x = strtod(text, &stop);
    *end = stop;
    size_t digits = strspn(text, "0123456789+-.eE");
    return stop != text && (size_t)(stop - text) <= digits && isfinite(*x);
}

static bool number(const NetworkArg *n, const char *text, const char **end, Val *v) {
    if (n->kind == ONE_INT || n->kind == INTS) {
        char *stop;
        long long x = strtoll(text, &stop, 10);
        *v = val_int(x);
        *end = stop;
        return stop != text && x >= 0 && x <= 4096;
    }
    double x;
    bool fine = decimal(text, end, &x);
    *v = val_float(x);
    return fine;
}

static bool network_value(Arena *a, const NetworkArg *n, const char *text, Val *v,
                          Err *e) {
    const char *at = text;
    bool list = n->kind == INTS || n->kind == FLOATS;
    bool integers = n->kind == INTS || n->kind == ONE_INT;
    Val one = {0}, many = {.kind = VAL_LIST};
    int cap = 0;
    while (number(n, at, &at, &one)) {
        PUSH(a, many.list.item, many.list.n, cap, one);
        if (*at != ',' || !list) break;
        at++;
    }
    *v = list ? many : one;
    if (*at || !many.list.n)
        return err_usage(e, "--network_args %s: got '%s', want %s%s", n->key, text,
                         !integers ? "a number" : "an integer of 0 … 4096",
                         list ? " or several with commas between" : "");
    if (!list || many.list.n == BLOCKS) return true;
    return err_usage(e, "--network_args %s: got %d values, want %d, one per block",
                     n->key, many.list.n, BLOCKS);
}

/* ---- weights of the learning rate by block ---- */
static double rising(int i) {
    return sin(M_PI_2 * i / (SIDE - 1));
}
static double falling(int i) {
    return rising(SIDE - 1 - i);
}
static double line(int i) {
    return (double)i / (SIDE - 1);
}
static double line_down(int i) {
    return line(SIDE - 1 - i);
}
static double nothing(int i) {
    (void)i;
    return 0;
}
static const struct {
    const char *name;
    double (*weight)(int i); /* of the i-th of a side's blocks */
} lr_preset[] = {{"sine", rising},
                 {"cosine", falling},
                 {"linear", line},
                 {"reverse_linear", line_down},
                 {"zeros", nothing}};

/* The weights as they are given: texts first, since the threshold may come last. */
typedef struct Weights {
    const char *down, *mid, *up, *threshold; /* NULL: not given */
} Weights;

static const char **weights_slot(Weights *w, const char *key) {
    if (!strcmp(key, "down_lr_weight")) return &w->down;
    if (!strcmp(key, "mid_lr_weight")) return &w->mid;
    if (!strcmp(key, "up_lr_weight")) return &w->up;
    return &w->threshold;
}

/* "sine", "cosine+.25"; a further '+' and what follows count for nothing, as there. */
static bool preset_weights(const char *key, const char *text, double *out, Err *e) {
    size_t n = strcspn(text, "+");
    double offset = 0;
    const char *end = text + n;
    bool fine =
        !text[n] || (decimal(text + n + 1, &end, &offset) && (!*end || *end == '+'));
    for (size_t k = 0; fine && k < COUNT(lr_preset); k++) {
        if (strlen(lr_preset[k].name) != n || strncmp(lr_preset[k].name, text, n))
            continue;
        for (int i = 0; i < SIDE; i++) out[i] = lr_preset[k].weight(i) + offset;
        return true;
    }
    return err_usage(e,
                     "--network_args %s: got '%s', want sine, cosine, linear, "
                     "reverse_linear or zeros, with +X behind it if you like, or %d "
                     "numbers with commas between",
                     key, text, SIDE);
}

/* Numbers with commas; an empty one is 0. Those behind the n-th are left out, *more: how
 * many; missing ones stay as they are. */
/* more: how many numbers there are beyond n; below 0: how many are missing. */
static bool listed_weights(const char *key, const char *text, int n, double *out,
                           int *more, Err *e) {
    const char *at = text;
    for (int i = 0;; i++) {
        double x = 0;
        bool fine = !*at || *at == ',' || decimal(at, &at, &x);
        if (!fine || (*at && *at != ','))
            return err_usage(e,
                             "--network_args %s: got '%s', want numbers with commas "
                             "between",
                             key, text);
        if (i < n) out[i] = x;
        *more = i + 1 - n;
        if (!*at++) return true;
    }
}

static bool side_weights(const char *key, const char *text, double *out, int *more,
                         Err *e) {
    *more = 0;
    if (strchr(text, ',')) return listed_weights(key, text, SIDE, out, more, e);
    return preset_weights(key, text, out, e);
}

/* Weights at or below the threshold are 0: those blocks get no modules. Sides that are not
 * given have weight 1 whatever the threshold. */
static bool block_weights(Arena *a, const Weights *w, Args *out, WordList *notes,
                          Err *e) {
    double weight[BLOCKS], threshold = 0;
    int down = 0, mid = 0, up = 0, more = 0; /* numbers too many; below 0: missing */
    for (int i = 0; i < BLOCKS; i++) weight[i] = 1;
    if ((w->down && !side_weights("down_lr_weight", w->down, weight, &down, e)) ||
        (w->mid &&
         !listed_weights("mid_lr_weight", w->mid, 1, weight + SIDE, &mid, e)) ||
        (w->up && !side_weights("up_lr_weight", w->up, weight + SIDE + 1, &up, e)) ||
        (w->threshold && !listed_weights("block_lr_zero_threshold", w->threshold, 1,
                                         &threshold, &more, e)))
        return false;
    const int fewer = -(down < 0 ? down : 0) - (up < 0 ? up : 0);
    if (down < 0) down = 0;
    if (up < 0) up = 0;
    if (notes && fewer)
        word_add(
            a, notes,
            arena_printf(a,
                         "--network_args: %d block weights are missing at the end: "
                         "they are 1, as in sd-scripts",
                         fewer));
    if ((down && !w->up) || (up && !w->down)) /* where sd-scripts stops, too */
        return err_usage(e, "--network_args %s: got %d numbers, want at most %d",
                         down ? "down_lr_weight" : "up_lr_weight", SIDE + down + up,
                         SIDE);
    if (notes && down + mid + up + more)
        word_add(a, notes,
                 arena_printf(a,
                              "--network_args: %d block weights too many are left "
                              "out, as sd-scripts does",
                              down + mid + up + more));
    Val list = {.kind = VAL_LIST, .list = {NEW(a, Val, BLOCKS), BLOCKS}};
    for (int i = 0; i < BLOCKS; i++) {
        bool given = i < SIDE    ? w->down != NULL
                     : i == SIDE ? w->mid != NULL
                                 : w->up != NULL;
        list.list.item[i] =
            val_float(given && !(weight[i] > threshold) ? 0 : weight[i]);
    }
    args_set(out, "block_lr_weight", list);
    return true;
}

/* ---- all together ---- */
static void drop(Arena *a, Args *args, const char *name) {
    Args *kept = args_new(a);
    for (int i = 0; i < args->n; i++)
        if (strcmp(args->name[i], name)) args_set(kept, args->name[i], args->val[i]);
    *args = *kept;
}

/* What sd-scripts reads and then does not use. */
static void drop_unused(Arena *a, Args *args, WordList *notes) {
    static const struct {
        const char *key, *wants[3];
    } rule[] = {
        {"block_alphas", {"block_dims", "block_lr_weight"}},
        {"conv_block_dims", {"block_dims", "block_lr_weight"}},
        {"conv_block_alphas", {"conv_block_dims"}},
        {"conv_alpha", {"conv_dim"}},
    };
    for (size_t i = 0; i < COUNT(rule); i++) {
        bool used = !args_get(args, rule[i].key);
        for (int k = 0; rule[i].wants[k]; k++)
            used |= args_get(args, rule[i].wants[k]) != NULL;
        if (used) continue;
        drop(a, args, rule[i].key);
        if (notes)
            word_add(a, notes,
                     arena_printf(a,
                                  "--network_args %s is ignored, as sd-scripts does: "
                                  "%s is not given",
                                  rule[i].key, rule[i].wants[0]));
    }
}

bool train_network_args(Arena *a, const WordList *words, Args *out, WordList *notes,
                        Err *e) {
    Weights w = {0};
    for (int i = 0; i < words->n; i++) {
        const char *key = NULL, *value = NULL;
        Val v;
        if (!key_value(a, "--network_args", words->word[i], &key, &value, e))
            return false;
        const NetworkArg *n = find_arg(a, key, e);
        if (!n) return false;
        if (n->kind == WEIGHTS) {
            *weights_slot(&w, key) = value;
            continue;
        }
        if (!network_value(a, n, value, &v, e)) return false;
        args_set(out, n->option, v);
    }
    if ((w.down || w.mid || w.up) && !block_weights(a, &w, out, notes, e)) return false;
    if (w.threshold && !(w.down || w.mid || w.up) && notes)
        word_add(a, notes,
                 "--network_args block_lr_zero_threshold is ignored: there are "
                 "no block weights");
    drop_unused(a, out, notes);
    return true;
}
