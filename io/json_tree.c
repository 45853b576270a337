/* A reader of JSON (RFC 8259) that knows where everything stands. It walks once over the
 * text; objects of any size are checked for names given twice by sorting. */
#include "io/json_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/text_clean.h"

typedef struct Reader {
    Arena *a;
    const Source *src;
    const char *at, *end;
    const char *counted; /* up to where `here` counts */
    Loc here;
    int depth;
    Err *e;
} Reader;

static Loc place(Reader *r, const char *at) {
    for (; r->counted < at; r->counted++) {
        if (*r->counted == '\n')
            r->here.line++, r->here.col = 1;
        else if (((uint8_t)*r->counted & 0xC0) != 0x80)
            r->here.col++;
    }
    Loc loc = r->here;
    loc.len = 0;
    return loc;
}

static bool fail(Reader *r, const char *what) {
    if (r->at >= r->end)
        return err_at(r->e, place(r, r->end),
                      "not valid JSON: the text ends where %s should be", what);
    return err_at(r->e, place(r, r->at), "not valid JSON: want %s", what);
}

static void space(Reader *r) {
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at) r->at++;
}

static bool next_is(Reader *r, char c) {
    space(r);
    if (r->at >= r->end || *r->at != c) return false;
    r->at++;
    return true;
}

/* ---- texts ---- */
static bool hex4(Reader *r, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const char *digits = "0123456789abcdef", *d = NULL;
        if (r->at < r->end && *r->at) d = strchr(digits, *r->at | 32);
        if (!d) return fail(r, "four hexadecimal digits");
        *out = *out << 4 | (uint32_t)(d - digits);
    }
    return true;
}

static bool unicode_escape(Reader *r, Str *out) {
    uint32_t c, low;
    if (!hex4(r, &c)) return false;
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
            return fail(r, "the second half of a surrogate pair");
        r->at += 2;
        if (!hex4(r, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF)
            return fail(r, "the second half of a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c < 0xE000) {
        return fail(r, "the first half of a surrogate pair");
    }
    if (!c) return fail(r, "a text without \\u0000");
    char bytes[4];
    str_addn(out, bytes, (size_t)utf8_put(bytes, c));
    return true;
}

static bool escape(Reader *r, Str *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at >= r->end) return fail(r, "an escape");
    char c = *r->at;
    if (c == 'u') {
        r->at++;
        return unicode_escape(r, out);
    }
    const char *k = c ? strchr(from, c) : NULL;
    if (!k) return fail(r, "one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u");
    str_addn(out, &to[k - from], 1);
    r->at++;
    return true;
}

/* The text behind an opening quote, to its end. */
static bool text(Reader *r, const char **out) {
    Str s = {0};
    bool ok = true;
    while (ok) {
        const char *run = r->at;
        while (r->at < r->end && (uint8_t)*r->at >= 0x20 && *r->at != '"' &&
               *r->at != '\\')
            r->at++;
        if (r->at > run) str_addn(&s, run, (size_t)(r->at - run));
        if (r->at >= r->end || (uint8_t)*r->at < 0x20) {
            ok = fail(r, "the quote that ends a text");
        } else if (*r->at++ == '"') {
            break;
        } else {
            ok = escape(r, &s);
        }
    }
    *out = arena_strndup(r->a, s.n ? s.s : "", s.n);
    str_free(&s);
    return ok;
}

/* ---- numbers and words ---- */
static size_t digits(Reader *r) {
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - from);
}

static bool number(Reader *r, Toml *out) {
    const char *from = r->at;
    bool whole = true;
    r->at += *r->at == '-';
    const char *first = r->at;
    size_t n = digits(r);
    if (!n || (n > 1 && *first == '0')) {
        r->at = first;
        return fail(r, "a number");
    }
    if (r->at < r->end && *r->at == '.') {
        whole = false, r->at++;
        if (!digits(r)) return fail(r, "a digit");
    }
    if (r->at < r->end && (*r->at | 32) == 'e') {
        whole = false, r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!digits(r)) return fail(r, "a digit");
    }
    const char *copy = arena_strndup(r->a, from, (size_t)(r->at - from));
    errno = 0;
    out->kind = TOML_INT;
    if (whole) out->i = strtoll(copy, NULL, 10);
    if (!whole || errno == ERANGE) out->kind = TOML_FLOAT;
    out->x = strtod(copy, NULL);
    return true;
}

static bool word(Reader *r, const char *w) {
    size_t n = strlen(w);
    if ((size_t)(r->end - r->at) < n || memcmp(r->at, w, n)) return false;
    r->at += n;
    return true;
}

/* ---- lists and objects ---- */
static bool value(Reader *r, Toml *out, bool *null);

static bool list(Reader *r, Toml *out) {
    int cap = 0;
    out->kind = TOML_ARRAY;
    if (next_is(r, ']')) return true;
    do {
        Toml v = {0};
        bool null = false;
        if (!value(r, &v, &null)) return false;
        if (null) return err_at(r->e, v.loc, "a list must not hold null");
        PUSH(r->a, out->item, out->n, cap, v);
    } while (next_is(r, ','));
    return next_is(r, ']') || fail(r, "',' or ']'");
}

static int by_key(const void *x, const void *y) {
    const Toml *a = *(const Toml *const *)x, *b = *(const Toml *const *)y;
    int order = strcmp(a->key, b->key);
    return order ? order : (a > b) - (a < b);
}

static bool no_key_twice(Reader *r, const Toml *t) {
    const Toml **sorted = malloc(((size_t)t->n + 1) * sizeof *sorted);
    if (!sorted) return err_fail(r->e, "out of memory for %d names", t->n);
    for (int i = 0; i < t->n; i++) sorted[i] = &t->item[i];
    if (t->n) qsort(sorted, (size_t)t->n, sizeof *sorted, by_key);
    bool ok = true;
    for (int i = 1; ok && i < t->n; i++)
        if (!strcmp(sorted[i]->key, sorted[i - 1]->key))
            ok = err_at(r->e, sorted[i]->key_loc,
                        "'%s' is there twice, first in line %u", sorted[i]->key,
                        sorted[i - 1]->key_loc.line);
    free(sorted);
    return ok;
}

static bool object(Reader *r, Toml *out) {
    int cap = 0;
    out->kind = TOML_TABLE;
    if (next_is(r, '}')) return true;
    do {
        Toml v = {0};
        const char *key;
        bool null = false;
        space(r);
        Loc at = place(r, r->at);
        if (!next_is(r, '"')) return fail(r, "a name in quotes");
        if (!text(r, &key)) return false;
        if (!next_is(r, ':')) return fail(r, "':'");
        if (!value(r, &v, &null)) return false;
        v.key = key, v.key_loc = at;
        if (!null) PUSH(r->a, out->item, out->n, cap, v);
    } while (next_is(r, ','));
    return next_is(r, '}') ? no_key_twice(r, out) : fail(r, "',' or '}'");
}

static bool nested(Reader *r, Toml *out, bool (*read)(Reader *, Toml *)) {
    if (++r->depth > JSON_TREE_DEPTH_MAX)
        return err_at(r->e, out->loc, "values are nested deeper than %d",
                      JSON_TREE_DEPTH_MAX);
    r->at++;
    bool ok = read(r, out);
    r->depth--;
    return ok;
}

static bool value(Reader *r, Toml *out, bool *null) {
    space(r);
    out->loc = place(r, r->at);
    const char *from = r->at;
    char c = r->at < r->end ? *r->at : 0;
    bool ok = true;
    if (c == '{') return nested(r, out, object);
    if (c == '[') return nested(r, out, list);
    if (c == '"') {
        r->at++;
        out->kind = TOML_TEXT;
        ok = text(r, &out->text);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        ok = number(r, out);
    } else if (word(r, "true") || word(r, "false")) {
        out->kind = TOML_BOOL;
        out->b = c == 't';
    } else if (word(r, "null")) {
        *null = true;
    } else {
        return fail(r, "a value");
    }
    out->loc.len = place(r, r->at).col - out->loc.col;
    return ok && r->at > from;
}

/* ---- entry ---- */
static bool start(Reader *r, Arena *a, const Source *src, Err *e) {
    *r = (Reader){.a = a,
                  .src = src,
                  .at = src->text,
                  .end = src->text + src->len,
                  .here = {src, 1, 1, 0},
                  .e = e};
    if (src->len >= 3 && !memcmp(src->text, "\xEF\xBB\xBF", 3)) r->at += 3;
    r->counted = r->at;
    size_t valid = utf8_valid(src->text, src->len);
    if (valid == src->len) return true;
    return err_at(e, place(r, src->text + valid), "not UTF-8");
}

const Toml *json_tree(Arena *a, const Source *src, Err *e) {
    Reader r;
    Toml *out = NEW(a, Toml, 1);
    bool null = false;
    if (!start(&r, a, src, e) || !value(&r, out, &null)) return NULL;
    space(&r);
    if (r.at < r.end) {
        err_at(e, place(&r, r.at), "not valid JSON: there is more behind the value");
        return NULL;
    }
    if (null) err_at(e, out->loc, "null is no file");
    return null ? NULL : out;
}

const Toml *json_lines(Arena *a, const Source *src, Err *e) {
    Reader r;
    Toml *out = NEW(a, Toml, 1);
    int cap = 0;
    if (!start(&r, a, src, e)) return NULL;
    out->kind = TOML_ARRAY;
    out->loc = r.here;
    for (space(&r); r.at < r.end; space(&r)) {
        Toml v = {0};
        bool null = false;
        if (!value(&r, &v, &null)) return NULL;
        uint32_t line = v.loc.line;
        const char *end = r.at;
        space(&r);
        if (r.at < r.end && place(&r, r.at).line == line) {
            err_at(e, place(&r, end), "want one value a line");
            return NULL;
        }
        if (!null) PUSH(a, out->item, out->n, cap, v);
    }
    return out;
}
