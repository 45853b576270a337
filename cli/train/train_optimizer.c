/* --optimizer_type, its aliases and --optimizer_args: which optimizer document they mean,
 * and its arguments as settings of the recipe. */
#include <string.h>

#include "cli/train/train_options.h"

/* A Python literal as a graph file has it: True, (0.9, 0.99), [1, 2], 'text'. */
static const char *literal(Arena *a, const char *text) {
    size_t n = strlen(text);
    char first = n ? text[0] : 0, last = n ? text[n - 1] : 0;
    bool round = first == '(' && last == ')', quoted = n > 1 && first == last;
    if (round || (first == '[' && last == ']') ||
        (quoted && (first == '\'' || first == '"'))) {
        char *inner = arena_strndup(a, text + 1, n - 2);
        n = strlen(inner);
        while (n && (inner[n - 1] == ' ' || inner[n - 1] == ',')) inner[--n] = 0;
        return inner;
    }
    if (!strcmp(text, "True")) return "true";
    if (!strcmp(text, "False")) return "false";
    return text;
}

static bool arguments(Arena *a, const TrainOptions *o, Args *set, Err *e) {
    for (int i = 0; i < o->optimizer_args.n; i++) {
        const char *key = NULL, *value = NULL;
        if (!key_value(a, "--optimizer_args", o->optimizer_args.word[i], &key, &value,
                       e))
            return false;
        if (!strcmp(value, "None"))
            return err_usage(
                e, "--optimizer_args %s=None: leave it out for its default", key);
        args_set(set, arena_printf(a, "optimizer.%s", key),
                 val_word(literal(a, value)));
    }
    return true;
}

bool train_optimizer(Arena *a, const TrainOptions *o, const Args *given, Args *set,
                     Err *e) {
    const char *type = o->optimizer_type;
    bool named = args_get(given, "optimizer_type") != NULL && type && *type;
    if (o->use_8bit_adam && o->use_lion_optimizer)
        return err_usage(e, "--use_8bit_adam and --use_lion_optimizer name two "
                            "optimizers");
    const char *alias = o->use_8bit_adam        ? "--use_8bit_adam"
                        : o->use_lion_optimizer ? "--use_lion_optimizer"
                                                : NULL;
    if (alias && named)
        return err_usage(e, "%s and --optimizer_type %s name two optimizers", alias,
                         type);
    if (alias) type = o->use_8bit_adam ? "AdamW8bit" : "Lion";
    if (alias || named) {
        const Doc *d =
            doc_load(library_new(a), type, DOC_OPTIMIZER, NULL, loc_none(), e);
        if (!d) return err_note(e, "note: from --optimizer_type"), false;
        bool own = strchr(type, '/') || strstr(type, ".yaml");
        args_set(set, "optimizer_type", val_word(own ? type : d->name));
    }
    return arguments(a, o, set, e);
}

void train_optimizer_notes(Arena *a, const Recipe *r, double rate, WordList *notes) {
    const YNode *usual = yaml_get(r->optimizer->root, "usual_rate");
    Env env = {.args = r->optimizer_args};
    Err ignored = {0};
    Val v;
    double x;
    if (!usual || !slot_eval(a, usual, &env, &v, &ignored) || !val_number(&v, &x))
        return;
    if (x == 0)
        word_add(a, notes,
                 arena_printf(a,
                              "optimizer '%s' sets its own rate: --learning_rate and "
                              "--lr_scheduler change nothing",
                              r->optimizer->name));
    else if (rate <= x / 10)
        word_add(a, notes,
                 arena_printf(a,
                              "optimizer '%s' finds its own rate and takes "
                              "--learning_rate as a factor, usually %g; got %g",
                              r->optimizer->name, x, rate));
}
