/* --config_file: options as TOML, read and written. Tables are flattened, as sd-scripts does:
 * a section's name means nothing. What stands on the command line wins. */
#include <stdlib.h>
#include <string.h>

#include "cli/opt.h"
#include "io/file.h"
#include "io/tensors.h"
#include "io/toml.h"

typedef struct Config {
    Arena *arena;
    const Command *command;
    const Args *given;
    Args *seen;
    WordList words; /* as if they had been typed */
    int cap;
    Err *e;
} Config;

static bool text_of(Config *c, const Toml *v, const char **out) {
    Str s = {0};
    switch (v->kind) {
    case TOML_TEXT:
        *out = v->text;
        return true;
    case TOML_INT:
        str_printf(&s, "%lld", (long long)v->i);
        break;
    case TOML_FLOAT:
        str_double(&s, v->x);
        break;
    default:
        return err_at(c->e, v->loc, "%s is no value of an option",
                      toml_kind_name(v->kind));
    }
    *out = arena_strdup(c->arena, s.s);
    str_free(&s);
    return true;
}

static void word(Config *c, const char *w) {
    PUSH(c->arena, c->words.word, c->words.n, c->cap, w);
}

static bool one_value(Config *c, const Opt *o, const Toml *v) {
    const char *text = "";
    if (!text_of(c, v, &text)) return false;
    word(c, arena_printf(c->arena, "--%s=%s", o->name, text));
    return true;
}

static bool list(Config *c, const Opt *o, const Toml *v) {
    if (v->kind != TOML_ARRAY) return one_value(c, o, v);
    if (o->kind == OPT_LIST && v->n) word(c, arena_printf(c->arena, "--%s", o->name));
    for (int i = 0; i < v->n; i++) {
        const char *text = "";
        if (o->kind == OPT_EACH && !one_value(c, o, &v->item[i])) return false;
        if (o->kind == OPT_EACH) continue;
        if (!text_of(c, &v->item[i], &text)) return false;
        word(c, text);
    }
    return true;
}

static const char *const *names(const Config *c) {
    const char **out = NULL;
    int n = 0, cap = 0;
    for (const Opt *o = c->command->options; o->name; o++)
        if (*o->name) PUSH(c->arena, out, n, cap, o->name);
    PUSH(c->arena, out, n, cap, (const char *)NULL);
    return out;
}

static bool entry(Config *c, const Toml *v) {
    const Opt *o = opt_find(c->command, v->key);
    if (!o)
        return err_at(c->e, v->key_loc, "no option '%s'%s", v->key,
                      did_you_mean(c->arena, v->key, names(c)));
    if (args_get(c->seen, o->name))
        return err_at(c->e, v->key_loc, "'%s' stands in two places", v->key);
    args_set(c->seen, o->name, val_bool(true));
    if (args_get(c->given, o->name)) return true; /* the command line wins */
    if (o->kind == OPT_LIST || o->kind == OPT_EACH) return list(c, o, v);
    if (o->kind != OPT_FLAG) return one_value(c, o, v);
    if (v->kind != TOML_BOOL)
        return err_at(c->e, v->loc, "'%s' is %s, want true or false", v->key,
                      toml_kind_name(v->kind));
    if (v->b) word(c, arena_printf(c->arena, "--%s", o->name));
    return true;
}

static bool table(Config *c, const Toml *t) {
    for (int i = 0; i < t->n; i++) {
        const Toml *v = &t->item[i];
        if (v->kind == TOML_TABLE ? !table(c, v) : !entry(c, v)) return false;
    }
    return true;
}

static const char *with_ending(Arena *a, const char *path) {
    size_t n = strlen(path);
    bool there = n > 5 && !strcmp(path + n - 5, ".toml");
    return there ? path : arena_printf(a, "%s.toml", path);
}

static const char *config_path(Arena *a, const Invocation *in) {
    const Val *v = args_get(in->given, "config_file");
    return v && v->kind == VAL_WORD ? with_ending(a, v->word) : NULL;
}

bool opt_config_read(Arena *a, const Command *c, const WordList *words, Invocation *in,
                     Err *e) {
    const char *path = config_path(a, in);
    if (!path || in->common.help || args_get(in->given, "output_config")) return true;
    Config x = {
        .arena = a, .command = c, .given = in->given, .seen = args_new(a), .e = e};
    const Toml *top = toml_read(a, path, e);
    int own = 0; /* words before "--", behind which there are no options */
    while (own < words->n && strcmp(words->word[own], "--"))
        word(&x, words->word[own++]);
    if (!top || !table(&x, top)) return false;
    while (own < words->n) word(&x, words->word[own++]);
    if (opt_parse(a, c, &x.words, in, e)) return true;
    err_note(e, "note: with the options of '%s'", path);
    return false;
}

/* ---- writing ---- */
static void put(Str *s, const Val *v) {
    switch (v->kind) {
    case VAL_WORD:
        str_json(s, v->word);
        break;
    case VAL_LIST:
        str_add(s, "[");
        for (int i = 0; i < v->list.n; i++) {
            str_add(s, i ? ", " : "");
            put(s, &v->list.item[i]);
        }
        str_add(s, "]");
        break;
    default:
        val_print(s, v);
        break;
    }
}

bool opt_config_write(Arena *a, const Command *c, const Invocation *in, Err *e) {
    const char *path = config_path(a, in);
    if (!path) return err_usage(e, "--output_config wants --config_file FILE");
    if (file_exists(path) || folder_exists(path))
        return err_fail(e, "'%s' exists: it is not written over", path);
    Str s = {0};
    for (const Opt *o = c->options; o->name; o++) {
        if (!*o->name || o->ignored || o->refused || !strcmp(o->name, "config_file") ||
            !strcmp(o->name, "output_config"))
            continue;
        Val now = opt_value(a, o, in->opts), usual = opt_value(a, o, c->defaults);
        if (now.kind == VAL_NONE || val_equal(&now, &usual)) continue;
        str_printf(&s, "%s = ", o->name);
        put(&s, &now);
        str_add(&s, "\n");
    }
    bool ok = file_write(path, s.s ? s.s : "", s.n, e);
    str_free(&s);
    return ok;
}
