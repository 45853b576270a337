/* key=value words. */
#include "cli/setting.h"

#include <string.h>

static bool setting(Arena *a, const char *word, const char *option, Args *out, Err *e) {
    const char *equals = strchr(word, '=');
    if (!equals || equals == word)
        return err_usage(e, "%s: got '%s', want KEY=VALUE", option, word);
    const char *key = arena_strndup(a, word, (size_t)(equals - word)),
               *text = equals + 1;
    const Source *src = source_text(a, option, text, strlen(text));
    YNode *tree = *text ? yaml_parse(a, src, e) : NULL;
    Val v = val_word("");
    Env env = {.args = args_new(a)};
    if (*text && (!tree || !slot_eval(a, tree, &env, &v, e))) return false;
    args_set(out, key, v);
    return true;
}

bool settings(Arena *a, const WordList *words, const char *option, Args *out, Err *e) {
    for (int i = 0; i < words->n; i++)
        if (!setting(a, words->word[i], option, out, e)) return false;
    return true;
}
