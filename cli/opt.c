/* The option parser: command-line words against a table of rows (cli/opt.h).
 *
 * No abbreviations, and no guessing: what is not known is an error that names the nearest
 * row. Values are typed here, so that a command sees numbers, never text of numbers. */
#include "cli/opt.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const Common common_defaults = {.threads = 0};
const Opt common_options[] = {
    OPT(Common, INT, threads, "N", "worker threads; 0: all cores", .max = 4096),
    OPT(Common, FLAG, json, NULL, "results as JSON, for programs"),
    OPT(Common, FLAG, quiet, NULL, "no progress and no notes"),
    OPT(Common, FLAG, verbose, NULL, "say more about what is done"),
    OPT(Common, FLAG, help, NULL, "this text"),
    OPT_END,
};

const Command *command_find(const char *name) {
    for (const Command *const *c = commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}

const char *const *command_names(Arena *a) {
    int n = 0;
    while (commands[n]) n++;
    const char **names = NEW(a, const char *, n + 1);
    n = 0;
    for (const Command *const *c = commands; *c; c++)
        if (!(*c)->hidden) names[n++] = (*c)->name;
    return names;
}

static bool same_name(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
            return false;
    return *a == *b;
}

static const Opt *row_find(const Opt *rows, const char *name) {
    for (const Opt *o = rows; o->name; o++)
        if (*o->name && same_name(o->name, name)) return o;
    return NULL;
}

const char *opt_dashes(const Opt *o) {
    return o->name[1] || !islower((unsigned char)o->name[0]) ? "--" : "-";
}

const Opt *opt_find(const Command *c, const char *name) {
    const Opt *o = row_find(c->options, name);
    return o ? o : row_find(common_options, name);
}

static const char *const *option_names(Arena *a, const Command *c) {
    const char **names = NULL;
    int n = 0, cap = 0;
    for (const Opt *o = c->options; o->name; o++)
        if (*o->name && opt_dashes(o)[1])
            PUSH(a, names, n, cap, arena_printf(a, "--%s", o->name));
    for (const Opt *o = common_options; o->name; o++)
        PUSH(a, names, n, cap, arena_printf(a, "--%s", o->name));
    PUSH(a, names, n, cap, (const char *)NULL);
    return names;
}

/* ---- words ---- */
typedef struct Parse {
    Arena *a;
    const Command *c;
    const WordList *in;
    int at; /* the next word */
    Invocation *out;
    int cap_words, cap_notes;
    Err *e;
    int wrong; /* options that cannot be had; parsing goes on to find them all */
} Parse;

/* Told with the others when all words are read. */
static bool cannot(Parse *p, const char *text) {
    if (p->wrong++)
        err_note(p->e, "error: %s", text);
    else
        err_usage(p->e, "%s", text);
    return true;
}

/* "-4", "-.5", "-1e-3": a value, not an option */
static bool is_negative(const char *w) {
    if (w[0] != '-' || !strchr("0123456789.", w[1]) || !w[1]) return false;
    char *end;
    strtod(w, &end);
    return !*end;
}

static bool is_option(const char *w) {
    return w[0] == '-' && w[1] && !is_negative(w);
}

static const char *shown(Arena *a, const Opt *o) {
    return arena_printf(a, "%s%s", opt_dashes(o), o->name);
}

static bool no_value(Parse *p, const Opt *o) {
    return err_usage(p->e, "%s wants a value: %s", shown(p->a, o), o->value);
}

static bool check_range(Parse *p, const Opt *o, double x, const char *word) {
    if ((o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max)) return true;
    const char *name = shown(p->a, o);
    if (o->max < HUGE_VAL)
        return err_usage(p->e, "%s: got '%s', want %.15g … %.15g", name, word, o->min,
                         o->max);
    return err_usage(p->e, "%s: got '%s', want %.15g or more", name, word, o->min);
}

static bool parse_int(Parse *p, const Opt *o, const char *word, Val *v) {
    char *end;
    errno = 0;
    long long x = strtoll(word, &end, 10);
    if (!*word || *end || strchr(" \t\n\v\f\r", *word))
        return err_usage(p->e, "%s: got '%s', want an integer", shown(p->a, o), word);
    if (errno || x == UNSET_INT)
        return err_usage(p->e, "%s: got '%s', want an integer of at most 64 bits",
                         shown(p->a, o), word);
    *v = val_int(x);
    return check_range(p, o, (double)x, word);
}

static bool parse_float(Parse *p, const Opt *o, const char *word, Val *v) {
    char *end;
    double x = strtod(word, &end);
    bool plain = *word && !*end && strspn(word, "0123456789+-.eE") == strlen(word);
    if (!plain || !isfinite(x))
        return err_usage(p->e, "%s: got '%s', want a number", shown(p->a, o), word);
    *v = val_float(x);
    return check_range(p, o, x, word);
}

static bool allowed(const Opt *o, const char *word) {
    for (const char *const *w = o->words; *w; w++)
        if (!(o->any_case ? strcasecmp(*w, word) : strcmp(*w, word))) return true;
    return false;
}

static bool check_words(Parse *p, const Opt *o, const char *word) {
    if (!o->words || o->later || allowed(o, word)) return true;
    Str s = {0};
    for (const char *const *w = o->words; *w; w++)
        if (**w) str_printf(&s, "%s%s", s.n ? ", " : "", *w);
    err_usage(p->e, "%s: got '%s', want one of %s%s", shown(p->a, o), word, s.s,
              did_you_mean(p->a, word, o->words));
    str_free(&s);
    return false;
}

/* The words of a list: up to the next option. */
static Val list_value(Parse *p, const char *attached) {
    Val v = {.kind = VAL_LIST};
    int cap = 0;
    if (attached) PUSH(p->a, v.list.item, v.list.n, cap, val_word(attached));
    while (!attached && p->at < p->in->n && !is_option(p->in->word[p->at])) {
        PUSH(p->a, v.list.item, v.list.n, cap, val_word(p->in->word[p->at]));
        p->at++;
    }
    return v;
}

/* The value of one use of an option; attached: what stood behind "=", or NULL. */
static bool take_value(Parse *p, const Opt *o, const char *attached, Val *v) {
    if (o->kind == OPT_FLAG) {
        if (attached)
            return err_usage(p->e, "%s takes no value, got '=%s'", shown(p->a, o),
                             attached);
        *v = val_bool(true);
        return true;
    }
    if (o->kind == OPT_LIST) {
        *v = list_value(p, attached);
        return v->list.n || no_value(p, o);
    }
    if (o->kind == OPT_MAYBE) {
        *v = val_word(attached ? attached : "");
        return !attached || check_words(p, o, attached);
    }
    const char *word = attached;
    if (!word) {
        if (p->at == p->in->n || !strncmp(p->in->word[p->at], "--", 2))
            return no_value(p, o);
        word = p->in->word[p->at++];
    }
    if (o->kind == OPT_INT) return parse_int(p, o, word, v);
    if (o->kind == OPT_FLOAT) return parse_float(p, o, word, v);
    *v = val_word(word);
    return check_words(p, o, word);
}

static void note(Parse *p, const char *text) {
    WordList *notes = &p->out->notes;
    for (int i = 0; i < notes->n; i++)
        if (!strcmp(notes->word[i], text)) return;
    PUSH(p->a, notes->word, notes->n, p->cap_notes, text);
}

static WordList words_of(Arena *a, const Val *list) {
    WordList l = {NEW(a, const char *, list->list.n), list->list.n};
    for (int i = 0; i < l.n; i++) l.word[i] = list->list.item[i].word;
    return l;
}

/* Adds one use to what earlier uses gave. */
static Val joined(Arena *a, const Val *before, Val word) {
    int n = before ? before->list.n : 0;
    Val v = {.kind = VAL_LIST};
    v.list.item = NEW(a, Val, n + 1);
    for (int i = 0; i < n; i++) v.list.item[i] = before->list.item[i];
    v.list.item[n] = word;
    v.list.n = n + 1;
    return v;
}

static void put(Arena *a, const Opt *o, void *opts, const Val *v) {
    void *field = (char *)opts + o->offset;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)field = v->b;
        break;
    case OPT_INT:
        *(int64_t *)field = v->i;
        break;
    case OPT_FLOAT:
        *(double *)field = v->f;
        break;
    case OPT_TEXT:
    case OPT_MAYBE:
        *(const char **)field = v->word;
        break;
    case OPT_LIST:
    case OPT_EACH:
        *(WordList *)field = words_of(a, v);
        break;
    }
}

static Val text_value(const char *text) {
    return text ? val_word(text) : (Val){.kind = VAL_NONE};
}

Val opt_value(Arena *a, const Opt *o, const void *opts) {
    const void *field = (const char *)opts + o->offset;
    const Val none = {.kind = VAL_NONE};
    int64_t i;
    double x;
    const WordList *words;
    Val list = {.kind = VAL_LIST};
    switch (o->kind) {
    case OPT_FLAG:
        return val_bool(*(const bool *)field);
    case OPT_INT:
        i = *(const int64_t *)field;
        return i == UNSET_INT ? none : val_int(i);
    case OPT_FLOAT:
        x = *(const double *)field;
        return isnan(x) ? none : val_float(x);
    case OPT_TEXT:
    case OPT_MAYBE:
        return text_value(*(const char *const *)field);
    default:
        words = field;
        list.list.n = words->n;
        list.list.item = NEW(a, Val, words->n);
        for (int k = 0; k < words->n; k++) list.list.item[k] = val_word(words->word[k]);
        return words->n ? list : none;
    }
}

/* Is this the value that leaving the option out gives? */
static bool is_default(const Opt *o, const void *defaults, const Val *v) {
    const void *field = (const char *)defaults + o->offset;
    const char *text;
    switch (o->kind) {
    case OPT_FLAG:
        return v->b == *(const bool *)field;
    case OPT_INT:
        return v->i == *(const int64_t *)field;
    case OPT_FLOAT:
        return v->f == *(const double *)field;
    case OPT_TEXT:
        text = *(const char *const *)field;
        return (text && !strcmp(text, v->word)) || (o->words && allowed(o, v->word));
    default:
        return false;
    }
}

static bool store(Parse *p, const Opt *o, Val v) {
    Arena *a = p->a;
    if (o->ignored) {
        note(p, arena_printf(a, "%s has no effect: %s", shown(a, o), o->ignored));
        return true;
    }
    if (o->refused)
        return cannot(
            p, arena_printf(a, "%s is not supported: %s", shown(a, o), o->refused));
    bool own = row_find(p->c->options, o->name) == o;
    if (o->later && !is_default(o, p->c->defaults, &v)) {
        Str s = {0};
        if (v.kind != VAL_BOOL) val_print(&s, &v);
        cannot(p, arena_printf(a, "%s%s%s is not available in this version: %s",
                               shown(a, o), s.n ? " " : "", s.n ? s.s : "", o->later));
        str_free(&s);
        return true;
    }
    const Val *before = args_get(p->out->given, o->name);
    if (o->kind == OPT_EACH)
        v = joined(a, before, v);
    else if (before && o->kind != OPT_FLAG)
        note(p, arena_printf(a, "%s was given more than once: the last one counts",
                             shown(a, o)));
    args_set(p->out->given, o->name, v);
    put(a, o, own ? p->out->opts : (void *)&p->out->common, &v);
    return true;
}

static bool one_option(Parse *p, const char *word) {
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const char *eq = strchr(name, '=');
    char *bare = arena_strndup(p->a, name, eq ? (size_t)(eq - name) : strlen(name));
    const Opt *o = opt_find(p->c, bare);
    if (!strcmp(word, "-h")) o = row_find(common_options, "help");
    bool dashes_fit = o && (word[1] == '-') == (opt_dashes(o)[1] == '-');
    if (!o || (!dashes_fit && strcmp(word, "-h"))) {
        char *typed = arena_printf(p->a, "--%s", bare);
        for (char *c = typed + 2; *c; c++)
            if (*c == '-') *c = '_';
        while (!eq && p->at < p->in->n && !is_option(p->in->word[p->at])) p->at++;
        return cannot(
            p, arena_printf(p->a, "unknown option '%.*s'%s",
                            (int)(name - word) + (int)strlen(bare), word,
                            did_you_mean(p->a, typed, option_names(p->a, p->c))));
    }
    Val v;
    return take_value(p, o, eq ? eq + 1 : NULL, &v) && store(p, o, v);
}

static bool wants_help(const WordList *words) {
    for (int i = 0; i < words->n && strcmp(words->word[i], "--"); i++)
        if (!strcmp(words->word[i], "--help") || !strcmp(words->word[i], "-h"))
            return true;
    return false;
}

static bool check_count(const Command *c, int n, Err *e) {
    if (n >= c->min_words && (c->max_words < 0 || n <= c->max_words)) return true;
    Str s = {0};
    opt_usage(&s, c);
    if (n < c->min_words)
        err_usage(e, "'%s' wants %s\n%s", c->name, c->args, s.s);
    else if (!c->max_words)
        err_usage(e, "'%s' takes options only, got %d word%s\n%s", c->name, n,
                  n == 1 ? "" : "s", s.s);
    else
        err_usage(e, "'%s' takes at most %d word%s, got %d\n%s", c->name, c->max_words,
                  c->max_words == 1 ? "" : "s", n, s.s);
    str_free(&s);
    return false;
}

bool opt_parse(Arena *a, const Command *c, const WordList *words, Invocation *out,
               Err *e) {
    *out = (Invocation){.common = common_defaults, .given = args_new(a)};
    out->opts = arena_alloc(a, 1, c->size ? c->size : 1);
    if (c->size) memcpy(out->opts, c->defaults, c->size);
    if (wants_help(words)) {
        out->common.help = true;
        return true;
    }
    Parse p = {.a = a, .c = c, .in = words, .out = out, .e = e};
    bool only_words = false;
    while (p.at < words->n) {
        const char *w = words->word[p.at++];
        if (!only_words && !strcmp(w, "--")) {
            only_words = true;
        } else if (!only_words && is_option(w)) {
            if (!one_option(&p, w)) return false;
        } else {
            PUSH(a, out->words.word, out->words.n, p.cap_words, w);
        }
    }
    return !p.wrong && check_count(c, out->words.n, e);
}
