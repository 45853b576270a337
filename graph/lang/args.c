/* Binding of declared arguments and options.
 *
 * A declaration is a type word (int float bool word path, or [int], [float]: the argument
 * must be given) or a default, whose kind is then the type. What is given is converted to
 * it: text from the command line is read as an expression unless text is wanted. */
#include "graph/lang/schema.h"
#include <math.h>
#include <string.h>

typedef enum Want { ANY, INT, FLOAT, NUMBER, BOOL, WORD, LIST, INTS, FLOATS } Want;

/* clang-format off */
static const struct { const char *word; Want one, list; } types[] = {
    { "int", INT, INTS }, { "float", FLOAT, FLOATS }, { "bool", BOOL, ANY },
    { "word", WORD, ANY }, { "path", WORD, ANY },
};
static const char *const want_names[] = {
    [ANY] = "a value", [INT] = "an integer", [FLOAT] = "a number", [NUMBER] = "a number",
    [BOOL] = "true or false", [WORD] = "a word", [LIST] = "a list",
    [INTS] = "a list of integers", [FLOATS] = "a list of numbers",
};
/* clang-format on */

/* ANY: not a type word. */
static Want type_word(const YNode *decl) {
    bool list = decl->kind == Y_LIST && decl->n == 1;
    const YNode *n = list ? decl->item[0] : decl;
    if (n->kind != Y_SCALAR || n->quoted) return ANY;
    for (size_t i = 0; i < COUNT(types); i++)
        if (!strcmp(n->s, types[i].word)) return list ? types[i].list : types[i].one;
    return ANY;
}

static Want type_of_default(const Val *v) {
    switch (v->kind) {
    case VAL_INT:
    case VAL_FLOAT:
        return NUMBER;
    case VAL_BOOL:
        return BOOL;
    case VAL_WORD:
        return WORD;
    case VAL_LIST:
        return LIST;
    case VAL_NONE:
        break;
    }
    return ANY;
}

/* ---- coercion ---- */
/* Text as the command line gives it: an expression without arguments, or several of them
 * between commas, in brackets or not. false: it is neither. */
static bool read_text(Arena *a, const char *text, bool list, Val *out) {
    Env env = {.args = args_new(a)};
    Err ignored = {0};
    size_t n = strlen(text);
    if (n > 1 && text[0] == '[' && text[n - 1] == ']') {
        text = arena_strndup(a, text + 1, n - 2);
        list = true;
    }
    if (!list) {
        Expr *x = expr_parse_text(a, text, &ignored);
        return x && expr_eval(a, x, &env, out, &ignored);
    }
    *out = (Val){.kind = VAL_LIST};
    int cap = 0;
    while (*text) {
        size_t len = strcspn(text, ",");
        Val v;
        if (!read_text(a, arena_strndup(a, text, len), false, &v) || v.kind == VAL_LIST)
            return false;
        PUSH(a, out->list.item, out->list.n, cap, v);
        text += len + (text[len] == ',');
    }
    return true;
}

Val typed_value(Arena *a, const char *text) {
    Val v;
    bool list = strchr(text, ',') && !strchr(text, '(');
    return read_text(a, text, list, &v) ? v : val_word(arena_strdup(a, text));
}

bool val_to_text(Arena *a, Val *v) {
    if (v->kind == VAL_LIST || v->kind == VAL_NONE) return false;
    if (v->kind == VAL_WORD) return true;
    Str s = {0};
    val_print(&s, v);
    *v = (Val){.kind = VAL_WORD, .word = arena_strdup(a, s.s), .loc = v->loc};
    str_free(&s);
    return true;
}

static bool coerce(Arena *a, Want want, Val *v);

static bool coerce_list(Arena *a, Want want, Val *v) {
    if (v->kind == VAL_WORD && !read_text(a, v->word, true, v)) return false;
    if (v->kind != VAL_LIST) {
        Val *item = NEW(a, Val, 1);
        item[0] = *v;
        *v = (Val){.kind = VAL_LIST, .list = {item, 1}, .loc = v->loc};
    }
    Val *item = NEW(a, Val, v->list.n + 1);
    for (int i = 0; i < v->list.n; i++) {
        item[i] = v->list.item[i];
        if (!coerce(a, want == INTS ? INT : want == FLOATS ? FLOAT : ANY, &item[i]))
            return false;
    }
    v->list.item = item;
    return true;
}

static bool coerce(Arena *a, Want want, Val *v) {
    double f;
    Loc loc = v->loc;
    if (want == ANY) return true;
    if (want >= LIST) return coerce_list(a, want, v);
    if (want == WORD) return val_to_text(a, v);
    if (v->kind == VAL_WORD && !read_text(a, v->word, false, v)) return false;
    v->loc = loc;
    if (want == BOOL) return v->kind == VAL_BOOL;
    if (v->kind != VAL_INT && v->kind != VAL_FLOAT) return false;
    if (want == INT && v->kind == VAL_FLOAT) {
        if (v->f != floor(v->f) || fabs(v->f) > 9007199254740992.0) return false;
        v->i = (int64_t)v->f;
        v->kind = VAL_INT;
    }
    if (want == FLOAT && val_number(v, &f)) {
        v->f = f;
        v->kind = VAL_FLOAT;
    }
    return true;
}

static bool accept(const Bind *b, const char *name, Want want, Val v, Loc at, Args *out,
                   Err *e) {
    Val got = v;
    if (coerce(b->arena, want, &v)) {
        args_set(out, name, v);
        return true;
    }
    Str s = {0};
    val_print(&s, &got);
    Loc loc = got.loc.src ? got.loc : at;
    err_at(e, loc, "%s '%s' of %s wants %s, got %.60s", b->noun, name, b->what,
           want_names[want], s.s ? s.s : "");
    str_free(&s);
    return false;
}

/* ---- what is written in files ---- */
Loc value_loc(const YNode *n, const Args *args) {
    const Val *v =
        n->kind == Y_SCALAR && n->s[0] == '$' ? args_get(args, n->s + 1) : NULL;
    return v && v->loc.src ? v->loc : n->loc;
}

bool text_eval(Arena *a, const YNode *n, const Args *args, Val *out, Err *e) {
    Env env = {.args = args};
    if (n->kind != Y_SCALAR)
        return err_at(e, n->loc, "want text, got a %s", yaml_kind(n));
    *out = val_word(n->s);
    if (strchr(n->s, '$') && !slot_eval(a, n, &env, out, e)) return false;
    out->loc = value_loc(n, args);
    return val_to_text(a, out) || err_at(e, n->loc, "want text, got a list");
}

/* A default of an option: an expression if it is one, else text. */
static bool option_default(Arena *a, const YNode *n, const Args *args, Val *out,
                           Err *e) {
    Env env = {.args = args};
    Err ignored = {0};
    bool dollar = n->kind == Y_SCALAR && strchr(n->s, '$');
    if (n->kind != Y_SCALAR || dollar) return slot_eval(a, n, &env, out, e);
    if (n->quoted || !slot_eval(a, n, &env, out, &ignored)) *out = val_word(n->s);
    out->loc = n->loc;
    return true;
}

static bool default_of(const Bind *b, const YNode *decl, const Args *args, Val *v,
                       Err *e) {
    Env env = {.args = args};
    if (b->text) return option_default(b->arena, decl, args, v, e);
    return slot_eval(b->arena, decl, &env, v, e);
}

bool bind_one(const Bind *b, const char *name, const YNode *decl, const YNode *written,
              const Val *given, Args *out, Err *e) {
    Env env = {.args = out};
    Want want = type_word(decl);
    Val v;
    if (!written && !given) {
        if (want != ANY)
            return err_at(e, b->loc, "%s '%s' of %s is missing", b->noun, name,
                          b->what);
        if (!default_of(b, decl, out, &v, e)) return false;
        args_set(out, name, v);
        return true;
    }
    Err ignored = {0};
    if (want == ANY && default_of(b, decl, out, &v, &ignored))
        want = type_of_default(&v);
    if (given) {
        v = *given;
        if (want == ANY && v.kind == VAL_WORD) v = typed_value(b->arena, v.word);
        return accept(b, name, want, v, loc_none(), out, e);
    }
    bool text = b->text && want == WORD && written->kind == Y_SCALAR;
    if (text && written->quoted) {
        v = val_word(written->s);
    } else if (!(text ? text_eval(b->arena, written, out, &v, e)
                      : slot_eval(b->arena, written, &env, &v, e))) {
        return false;
    }
    v.loc = written->loc;
    return accept(b, name, want, v, written->loc, out, e);
}

/* ---- whole declarations ---- */
bool name_known(Arena *a, const char *name, const YNode *decl, const char *const *also,
                const char *noun, const char *what, Loc loc, Err *e) {
    const char **names = NULL;
    int n = 0, cap = 0;
    if (yaml_get(decl, name)) return true;
    for (int i = 0; also && also[i]; i++)
        if (!strcmp(also[i], name)) return true;
    for (int i = 0; also && also[i]; i++) PUSH(a, names, n, cap, also[i]);
    for (int i = 0; decl && i < decl->n; i++) PUSH(a, names, n, cap, decl->key[i]->s);
    PUSH(a, names, n, cap, NULL);
    return err_at(e, loc, "%s has no %s '%.60s'%s", what, noun, name,
                  did_you_mean(a, name, names));
}

bool args_bind(Arena *a, const YNode *decl, const Args *given, const char *what,
               Loc loc, Args *out, Err *e) {
    Bind b = {.arena = a, .what = what, .noun = "argument", .loc = loc};
    if (!out->arena) out->arena = a;
    for (int i = 0; given && i < given->n; i++) {
        if (!name_known(a, given->name[i], decl, NULL, "argument", what,
                        given->val[i].loc, e))
            return false;
    }
    for (int i = 0; decl && i < decl->n; i++) {
        const char *name = decl->key[i]->s;
        if (!bind_one(&b, name, decl->item[i], NULL, args_get(given, name), out, e))
            return false;
    }
    return true;
}
