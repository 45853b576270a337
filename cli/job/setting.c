/* key=value words. */
#include "cli/job/setting.h"

#include <string.h>

/* A value as in a graph file; false: it is none. */
static bool evaluated(Arena *a, const char *option, const char *text, Val *v, Err *e) {
    YNode *tree = yaml_parse(a, source_text(a, option, text, strlen(text)), e);
    Env env = {.args = args_new(a)};
    return tree && slot_eval(a, tree, &env, v, e);
}

/* A path or a name with dashes ("all-blocks") is no expression, and stands for itself. */
static bool is_text(const char *text) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (strchr(text, '/')) return !strchr("[\"'", *text);
    size_t head = strspn(text, letters);
    return head && strchr(text, '-') &&
           !text[head + strspn(text + head, "abcdefghijklmnopqrstuvwxyz"
                                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
}

static bool setting(Arena *a, const char *word, const char *option, Args *out, Err *e) {
    const char *equals = strchr(word, '=');
    if (!equals || equals == word)
        return err_usage(e, "%s: got '%s', want KEY=VALUE", option, word);
    const char *key = arena_strndup(a, word, (size_t)(equals - word)),
               *text = equals + 1;
    Val v = val_word("");
    Err why = {0};
    if (*text && !evaluated(a, option, text, &v, &why)) {
        if (!is_text(text)) {
            *e = why;
            return false;
        }
        v = val_word(arena_strdup(a, text));
    }
    args_set(out, key, v);
    return true;
}

bool settings(Arena *a, const WordList *words, const char *option, Args *out, Err *e) {
    for (int i = 0; i < words->n; i++)
        if (!setting(a, words->word[i], option, out, e)) return false;
    return true;
}
