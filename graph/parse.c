/* Reads the text IR. The text is hostile until read: every error has a place, every count
 * is bounded by the text that was written for it.
 *
 *   graph NAME {
 *     blocks IN00, IN01
 *     input @x : f32[B=1,4]                     # FILE:LINE:COL+LEN
 *     const @$0 : f64[2] = [0.5, 1]
 *     train @a : f32[2,4] {init=normal(0.1), lr=1, slice=0:2:@unit}
 *     %0, %1 "name" = op %x, @a, _ {k=v} : f32[B=1,2], f32[]   # PHASE BLOCK PATH PLACE
 *     output loss = %1
 *   }
 *
 * One statement a line. `_` is an absent operand; B= marks a first dimension that counts
 * samples. Written by hand, %x may stand for @x, result types may be left out, and
 * `output %y` is short for `output y = %y`. A comment behind a node that begins with a phase
 * is the node's place; `-` stands for a part that is not known. */
#include "graph/op.h"
#include "graph/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TEXT = 256 << 20, MOST_SOURCES = 4096, MOST_WORD = 4096 };

typedef struct Later { /* a reference from a parameter to a value that comes later */
    Id *where;
    const char *name;
    Loc loc;
} Later;

typedef struct Reader {
    Arena *a;
    Graph *g;
    const Source *src;
    const char *p, *end; /* of the line that is read */
    uint32_t line;
    const char *line_start;
    Err *e;
    Id *act; /* hash table of activations by name, beside it their names */
    const char **act_name;
    uint32_t n_act, cap_act;
    Later *later;
    uint32_t n_later, cap_later;
    const Source **source;
    int n_source, cap_source;
} Reader;

/* ---- places and characters ---- */

static Loc here(const Reader *r, const char *at, size_t len) {
    uint32_t col = 1;
    for (const char *c = r->line_start; c < at; c++)
        col += ((unsigned char)*c & 0xC0) != 0x80;
    return (Loc){r->src, r->line, col, (uint32_t)len};
}

static bool bad(Reader *r, const char *want) {
    size_t n = 0;
    while (r->p + n < r->end && n < 20 && r->p[n] != ' ') n++;
    Loc loc = here(r, r->p, n);
    if (!n) return err_at(r->e, loc, "expected %s", want);
    return err_at(r->e, loc, "expected %s, got '%.*s'", want, (int)n, r->p);
}

static void blanks(Reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

static bool peek(Reader *r, char c) {
    blanks(r);
    return r->p < r->end && *r->p == c;
}

static bool take(Reader *r, char c) {
    if (!peek(r, c)) return false;
    r->p++;
    return true;
}

static bool want(Reader *r, char c) {
    const char text[] = {'\'', c, '\'', 0};
    return take(r, c) || bad(r, text);
}

static bool line_done(Reader *r) {
    return peek(r, '#') || r->p == r->end;
}

/* ---- words, quoted text, numbers ---- */

static bool hex4(const char *s, const char *end, uint32_t *out) {
    *out = 0;
    if (end - s < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (d < 0) return false;
        *out = *out * 16 + (uint32_t)d;
    }
    return true;
}

static size_t utf8(char *out, uint32_t c) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800)
        return out[0] = (char)(0xC0 | c >> 6), out[1] = (char)(0x80 | (c & 63)), 2;
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 63));
    out[2] = (char)(0x80 | (c & 63));
    return 3;
}

/* One escape behind a backslash; NULL: not one. */
static const char *unescape(const char *s, const char *end, char *out, size_t *n) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s == end) return NULL;
    uint32_t c;
    if (*s == 'u' && hex4(s + 1, end, &c) && c && (c < 0xD800 || c > 0xDFFF)) {
        *n += utf8(out + *n, c);
        return s + 5;
    }
    const char *known = *s ? strchr(from, *s) : NULL;
    if (!known) return NULL;
    out[(*n)++] = to[known - from];
    return s + 1;
}

/* A JSON string; r->p stands on its quote. */
static const char *quoted(Reader *r) {
    const char *start = r->p++;
    size_t longest = 0;
    for (const char *s = r->p; s < r->end && *s != '"'; s++)
        longest += 1 + (*s == '\\' && s + 1 < r->end && (s++, true));
    char *out = NEW(r->a, char, longest + 1);
    size_t n = 0;
    while (r->p < r->end && *r->p != '"') {
        if (*r->p != '\\') {
            out[n++] = *r->p++;
            continue;
        }
        const char *next = unescape(r->p + 1, r->end, out, &n);
        if (!next) return bad(r, "an escape of JSON"), NULL;
        r->p = next;
    }
    if (r->p == r->end) {
        err_at(r->e, here(r, start, 1), "a quoted text without its end");
        return NULL;
    }
    r->p++;
    return out;
}

/* A name, with or without quotes. */
static const char *word(Reader *r, const char *what) {
    blanks(r);
    if (r->p < r->end && *r->p == '"') return quoted(r);
    size_t n = text_word(r->p);
    if (!n || n > MOST_WORD || n > (size_t)(r->end - r->p)) return bad(r, what), NULL;
    const char *w = arena_strndup(r->a, r->p, n);
    r->p += n;
    return w;
}

static bool integer(Reader *r, int64_t least, int64_t most, const char *what,
                    int64_t *out) {
    blanks(r);
    if (r->p == r->end || !strchr("-0123456789", *r->p)) return bad(r, what);
    char *stop;
    errno = 0;
    long long x = strtoll(r->p, &stop, 10);
    if (stop == r->p) return bad(r, what);
    Loc loc = here(r, r->p, (size_t)(stop - r->p));
    if (errno || x < least || x > most)
        return err_at(r->e, loc, "%.*s is out of range: want %lld to %lld",
                      (int)(stop - r->p > 40 ? 40 : stop - r->p), r->p,
                      (long long)least, (long long)most);
    r->p = stop;
    *out = x;
    return true;
}

static bool number(Reader *r, double *out) {
    blanks(r);
    char *stop;
    if (r->p == r->end || *r->p == '\n') return bad(r, "a number");
    *out = strtod(r->p, &stop);
    if (stop == r->p || stop > r->end) return bad(r, "a number");
    r->p = stop;
    return true;
}

/* ---- types ---- */

static bool read_type(Reader *r, Type *t, bool *batch) {
    blanks(r);
    size_t n = 0;
    while (r->p + n < r->end && r->p[n] != '[' && r->p[n] != ' ' && n < 8) n++;
    char name[9] = {0};
    memcpy(name, r->p, n);
    *t = (Type){0};
    *batch = false;
    if (!dtype_parse(name, &t->dtype))
        return bad(r, "a type (f64 f32 f16 bf16 i64 i32 u8)");
    r->p += n;
    const char *start = r->p;
    if (!want(r, '[')) return false;
    if (take(r, ']')) return true;
    if (r->end - r->p > 2 && r->p[0] == 'B' && r->p[1] == '=') {
        *batch = true;
        r->p += 2;
    }
    uint64_t count = 1;
    do {
        if (t->rank == MAX_RANK) return bad(r, "']': a value has at most 6 dimensions");
        int64_t d;
        if (!integer(r, 1, INT64_C(1) << 40, "a dimension", &d)) return false;
        t->dim[t->rank++] = d;
        if (!mul_u64(count, (uint64_t)d, &count) || count > UINT64_C(1) << 47)
            return err_at(r->e, here(r, start, (size_t)(r->p - start)),
                          "a value with more than 2^47 elements");
    } while (take(r, ','));
    return want(r, ']');
}

/* ---- operands ---- */

static uint32_t hash_text(const char *s) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

static uint32_t act_slot(const Reader *r, const char *name) {
    uint32_t mask = r->cap_act - 1, i = hash_text(name) & mask;
    while (r->act_name[i] && strcmp(r->act_name[i], name)) i = (i + 1) & mask;
    return i;
}

static void act_put(Reader *r, const char *name, Id id) {
    if (2 * (r->n_act + 1) > r->cap_act) {
        uint32_t n = r->cap_act;
        Id *ids = r->act;
        const char **names = r->act_name;
        r->cap_act = n ? 2 * n : 64;
        r->act = NEW(r->a, Id, r->cap_act);
        r->act_name = NEW(r->a, const char *, r->cap_act);
        for (uint32_t i = 0; i < n; i++) {
            if (!names[i]) continue;
            uint32_t slot = act_slot(r, names[i]);
            r->act[slot] = ids[i];
            r->act_name[slot] = names[i];
        }
    }
    uint32_t slot = act_slot(r, name);
    r->act[slot] = id;
    r->act_name[slot] = name;
    r->n_act++;
}

static Id find_act(const Reader *r, const char *name) {
    if (!r->cap_act) return NO_ID;
    uint32_t slot = act_slot(r, name);
    return r->act_name[slot] ? r->act[slot] : NO_ID;
}

/* NO_ID: not there (yet). '%' finds what nodes made, then what is declared. */
static Id find(const Reader *r, const char *name) {
    Id id = name[0] == '%' ? find_act(r, name) : NO_ID;
    return id != NO_ID ? id : graph_find(r->g, name + 1);
}

/* "%12" or "@name" with its sigil; *loc: its place */
static const char *operand_name(Reader *r, Loc *loc) {
    blanks(r);
    const char *start = r->p;
    if (r->p == r->end || (*r->p != '%' && *r->p != '@'))
        return bad(r, "%value or @name"), NULL;
    char sigil = *r->p++;
    if (r->p < r->end && *r->p == ' ') return bad(r, "a name"), NULL;
    const char *w = word(r, "a name");
    if (!w) return NULL;
    *loc = here(r, start, (size_t)(r->p - start));
    return arena_printf(r->a, "%c%s", sigil, w);
}

static bool operand(Reader *r, Id *id) {
    blanks(r);
    if (r->p < r->end && *r->p == '_' && (r->p + 1 == r->end || !text_word(r->p + 1))) {
        r->p++;
        *id = NO_ID;
        return true;
    }
    Loc loc;
    const char *name = operand_name(r, &loc);
    if (!name) return false;
    *id = find(r, name);
    return *id != NO_ID || err_at(r->e, loc, "no value '%s' here", name);
}

static bool operand_later(Reader *r, Id *where) {
    Later l = {where, NULL, loc_none()};
    l.name = operand_name(r, &l.loc);
    if (!l.name) return false;
    PUSH(r->a, r->later, r->n_later, r->cap_later, l);
    return true;
}

static bool resolve_later(Reader *r) {
    for (uint32_t i = 0; i < r->n_later; i++) {
        Later *l = &r->later[i];
        *l->where = find(r, l->name);
        if (*l->where == NO_ID)
            return err_at(r->e, l->loc, "no value '%s' here", l->name);
    }
    return true;
}

/* ---- places in comments ---- */

static const Source *source(Reader *r, const char *path) {
    for (int i = r->n_source; i-- > 0;)
        if (!strcmp(r->source[i]->path, path)) return r->source[i];
    if (r->n_source == MOST_SOURCES) {
        bad(r, "fewer different files in places");
        return NULL;
    }
    Source *s = NEW(r->a, Source, 1);
    *s = (Source){path, "", 0};
    PUSH(r->a, r->source, r->n_source, r->cap_source, s);
    return s;
}

/* FILE:LINE:COL+LEN */
static bool read_loc(Reader *r, Loc *loc) {
    const char *path = word(r, "FILE:LINE:COLUMN");
    if (!path) return false;
    int64_t line, col, len = 0;
    if (!want(r, ':') || !integer(r, 0, UINT32_MAX, "a line number", &line))
        return false;
    if (!want(r, ':') || !integer(r, 0, UINT32_MAX, "a column", &col)) return false;
    if (take(r, '+') && !integer(r, 0, UINT32_MAX, "a length", &len)) return false;
    *loc = (Loc){source(r, path), (uint32_t)line, (uint32_t)col, (uint32_t)len};
    return loc->src != NULL;
}

/* A comment behind a declaration: a place, or anything else, which is passed over. */
static bool declaration_comment(Reader *r, Loc *loc) {
    *loc = loc_none();
    if (!take(r, '#')) return line_done(r) || bad(r, "the end of the line");
    Err none = {0}, *keep = r->e;
    r->e = &none;
    if (!read_loc(r, loc) || (blanks(r), r->p != r->end)) *loc = loc_none();
    r->e = keep;
    return true;
}

static bool dash(Reader *r) {
    blanks(r);
    if (r->p == r->end || *r->p != '-' || text_word(r->p) != 1) return false;
    r->p++;
    return true;
}

static bool read_block(Reader *r, int *block) {
    if (dash(r)) return true;
    const char *start = r->p, *w = word(r, "a block");
    if (!w) return false;
    for (int i = 0; r->g->blocks && r->g->blocks[i]; i++)
        if (!strcmp(r->g->blocks[i], w)) return *block = i, true;
    char *stop;
    long n = strtol(w, &stop, 10);
    if (*stop || n < 0 || n > 1 << 20) {
        r->p = start;
        return bad(r, "a block");
    }
    *block = (int)n;
    return true;
}

/* "in SEGMENT", behind a place */
static bool read_segment(Reader *r, Place *at) {
    if (text_word(r->p) != 2 || memcmp(r->p, "in", 2))
        return bad(r, "the end of the line");
    r->p += 2;
    at->segment = word(r, "a segment");
    return at->segment &&
           ((blanks(r), r->p == r->end) || bad(r, "the end of the line"));
}

/* PHASE BLOCK PATH FILE:LINE:COL+LEN in SEGMENT; a comment that does not begin with a phase is none. */
static bool node_comment(Reader *r, Place *at) {
    *at = (Place){.block = -1};
    if (!take(r, '#')) return line_done(r) || bad(r, "the end of the line");
    blanks(r);
    size_t n = text_word(r->p);
    int phase = 0;
    while (phase < PHASES && (strlen(phase_name((Phase)phase)) != n ||
                              memcmp(phase_name((Phase)phase), r->p, n)))
        phase++;
    if (phase == PHASES) return true;
    r->p += n;
    at->phase = (Phase)phase;
    if (blanks(r), r->p == r->end) return true;
    if (!read_block(r, &at->block)) return false;
    if (blanks(r), r->p == r->end) return true;
    if (!dash(r) && !(at->path = word(r, "a path"))) return false;
    if (blanks(r), r->p == r->end) return true;
    return read_loc(r, &at->loc) &&
           ((blanks(r), r->p == r->end) || read_segment(r, at));
}

/* ---- declarations ---- */

static bool read_init(Reader *r, Init *init) {
    static const char *const names[] = {
        "none",   "zeros",           "ones",  "constant", "uniform",
        "normal", "kaiming_uniform", "value", NULL};
    blanks(r);
    const char *start = r->p, *w = word(r, "an init");
    if (!w) return false;
    int k = 0;
    while (names[k] && strcmp(names[k], w)) k++;
    if (!names[k]) {
        const char *hint = did_you_mean(r->a, w, names);
        return err_at(r->e, here(r, start, strlen(w)), "no init '%s'%s", w, hint);
    }
    init->kind = (InitKind)k;
    if (k == INIT_VALUE)
        return want(r, '(') && operand_later(r, &init->value) && want(r, ')');
    if (k >= INIT_CONSTANT && k <= INIT_NORMAL)
        return want(r, '(') && number(r, &init->number) && want(r, ')');
    return true;
}

static bool read_slice(Reader *r, Param *q, int rank) {
    int64_t axis;
    if (!integer(r, 0, rank - 1, "an axis", &axis)) return false;
    q->slice_axis = (int32_t)axis;
    if (!want(r, ':') || !integer(r, 1, INT64_C(1) << 40, "a size", &q->slice_size))
        return false;
    return !take(r, ':') || operand_later(r, &q->slice_index);
}

static bool read_param(Reader *r, Param *q, int rank) {
    do {
        blanks(r);
        const char *start = r->p, *key = word(r, "a key");
        if (!key || !want(r, '=')) return false;
        blanks(r);
        bool done;
        if (!strcmp(key, "init"))
            done = read_init(r, &q->init);
        else if (!strcmp(key, "lr"))
            done = number(r, &q->lr);
        else if (!strcmp(key, "module"))
            done = (q->module = word(r, "a name")) != NULL;
        else if (!strcmp(key, "key"))
            done = (q->key = word(r, "a name")) != NULL;
        else if (!strcmp(key, "slice"))
            done = read_slice(r, q, rank);
        else
            return err_at(r->e, here(r, start, strlen(key)),
                          "unknown key '%s'; known are init lr module key slice", key);
        if (!done) return false;
    } while (take(r, ','));
    return want(r, '}');
}

static bool read_data(Reader *r, const Type *t, double **out) {
    const char *start = r->p;
    if (!want(r, '[')) return false;
    int64_t count = type_count(t), n = 0;
    if (count > r->end - r->p) /* each number has at least one character */
        return err_at(r->e, here(r, start, 1),
                      "fewer numbers than the type has elements: want %lld",
                      (long long)count);
    *out = NEW(r->a, double, count);
    do {
        double x;
        if (!number(r, &x)) return false;
        if (n < count) (*out)[n] = x;
        n++;
    } while (take(r, ','));
    if (n != count)
        return err_at(r->e, here(r, start, 1), "got %lld numbers, want %lld",
                      (long long)n, (long long)count);
    return want(r, ']');
}

static bool declaration(Reader *r, Role role) {
    if (!take(r, '@') && !take(r, '%')) return bad(r, "@name");
    const char *start = r->p, *name = word(r, "a name");
    if (!name || !want(r, ':')) return false;
    if (graph_find(r->g, name) != NO_ID)
        return err_at(r->e, here(r, start, strlen(name)), "value '%s' is there twice",
                      name);
    Type t;
    bool batch;
    if (!read_type(r, &t, &batch)) return false;
    Id id = graph_value(r->g, role, t, name, loc_none());
    Value *v = r->g->value[id];
    v->batch = batch;
    double *data = NULL;
    if (role == ROLE_CONST && !(want(r, '=') && read_data(r, &t, &data))) return false;
    v->data = data;
    if (take(r, '{')) {
        v->param = param_new(r->a);
        if (!read_param(r, v->param, t.rank)) return false;
    }
    return declaration_comment(r, &v->loc);
}

static bool read_blocks(Reader *r) {
    const char **names = NULL;
    int n = 0, cap = 0;
    do {
        const char *w = word(r, "a block's name");
        if (!w) return false;
        PUSH(r->a, names, n, cap, w);
    } while (take(r, ','));
    PUSH(r->a, names, n, cap, NULL);
    r->g->blocks = names;
    return line_done(r) || bad(r, "the end of the line");
}

static bool read_output(Reader *r) {
    blanks(r);
    const char *start = r->p;
    bool same = r->p < r->end && (*r->p == '%' || *r->p == '@');
    if (same) r->p++;
    const char *name = word(r, "an output's name");
    if (!name) return false;
    if (same)
        r->p = start;
    else if (!want(r, '='))
        return false;
    if (graph_output_find(r->g, name) != NO_ID)
        return err_at(r->e, here(r, start, strlen(name)), "output '%s' is there twice",
                      name);
    Id id;
    if (!operand(r, &id)) return false;
    if (id == NO_ID) return bad(r, "a value");
    graph_output(r->g, name, id);
    return line_done(r) || bad(r, "the end of the line");
}

/* ---- nodes ---- */

/* The text of an attribute's value: up to a comma or brace outside brackets and quotes. */
static const char *value_text(Reader *r) {
    blanks(r);
    const char *start = r->p;
    int depth = 0;
    for (; r->p < r->end; r->p++) {
        char c = *r->p;
        if (c == '"') {
            for (r->p++; r->p < r->end && *r->p != '"'; r->p++)
                if (*r->p == '\\') r->p++;
            if (r->p >= r->end) {
                r->p = start;
                bad(r, "the end of a quoted text");
                return NULL;
            }
            continue;
        }
        if (!depth && (c == ',' || c == '}')) break;
        depth += (c == '[') - (c == ']');
    }
    const char *stop = r->p;
    while (stop > start && stop[-1] == ' ') stop--;
    if (stop == start) return bad(r, "a value"), NULL;
    return arena_strndup(r->a, start, (size_t)(stop - start));
}

static const char *const *attr_names(Arena *a, const Op *op) {
    int n = 0;
    while (op->attrs && op->attrs[n].name) n++;
    const char **names = NEW(a, const char *, n + 1);
    for (int i = 0; i < n; i++) names[i] = op->attrs[i].name;
    return names;
}

static bool read_attr(Reader *r, const Op *op, void *attrs, uint64_t *seen) {
    blanks(r);
    const char *start = r->p, *key = word(r, "an attribute");
    if (!key) return false;
    Loc loc = here(r, start, (size_t)(r->p - start));
    const Attr *at = op->attrs ? attr_find(op, key) : NULL;
    if (!at || at->flags & ATTR_YAML) {
        const char *hint = did_you_mean(r->a, key, attr_names(r->a, op));
        return err_at(r->e, loc, "op %s has no attribute '%s'%s", op->name, key, hint);
    }
    uint64_t bit = UINT64_C(1) << ((at - op->attrs) & 63);
    if (*seen & bit) return err_at(r->e, loc, "attribute '%s' is there twice", key);
    *seen |= bit;
    if (!want(r, '=')) return false;
    const char *text = value_text(r);
    if (!text) return false;
    Err why = {0};
    return attr_parse(r->a, at, attrs, text, &why) ||
           err_at(r->e, loc, "%s", err_said(&why));
}

static bool read_attrs(Reader *r, const Op *op, void **attrs) {
    *attrs = op->attrs_size ? attrs_new(r->a, op) : NULL;
    uint64_t seen = 0;
    blanks(r);
    Loc loc = here(r, r->p, 1);
    if (take(r, '{') && !take(r, '}')) {
        do
            if (!read_attr(r, op, *attrs, &seen)) return false;
        while (take(r, ','));
        if (!want(r, '}')) return false;
    }
    for (int i = 0; op->attrs && op->attrs[i].name; i++) {
        const Attr *at = &op->attrs[i];
        if (at->flags & ATTR_REQUIRED && !(at->flags & ATTR_YAML) &&
            !(seen >> (i & 63) & 1))
            return err_at(r->e, loc, "op %s needs attribute '%s'", op->name, at->name);
    }
    return true;
}

typedef struct Result {
    const char *name, *label;
    Loc loc;
} Result;

static bool read_results(Reader *r, Result *out, int *n) {
    do {
        if (*n == 64) return bad(r, "'=': a node has at most 64 outputs");
        Result *x = &out[(*n)++];
        if (!peek(r, '%')) return bad(r, "%value");
        x->name = operand_name(r, &x->loc);
        if (!x->name) return false;
        if (find_act(r, x->name) != NO_ID)
            return err_at(r->e, x->loc, "value '%s' is there twice", x->name);
        x->label = NULL;
        if (peek(r, '"') && !(x->label = quoted(r))) return false;
    } while (take(r, ','));
    return want(r, '=');
}

static const Op *read_op(Reader *r, Loc *loc) {
    blanks(r);
    const char *start = r->p, *name = word(r, "an op");
    if (!name) return NULL;
    *loc = here(r, start, (size_t)(r->p - start));
    const Op *op = op_find(name);
    if (op && !(op->flags & OP_YAML_ONLY)) return op;
    err_at(r->e, *loc, "no op '%s' in graphs%s", name,
           did_you_mean(r->a, name, op_names()));
    return NULL;
}

static bool read_operands(Reader *r, Id **in, int *n) {
    int cap = 0;
    blanks(r);
    if (r->p == r->end || strchr("{:#", *r->p)) return true;
    do {
        Id id;
        if (!operand(r, &id)) return false;
        PUSH(r->a, *in, *n, cap, id);
    } while (take(r, ','));
    return true;
}

/* Types behind the colon must be what the row infers. */
static bool read_types(Reader *r, Node *n) {
    if (!take(r, ':')) return true;
    for (int i = 0; i < n->n_out; i++) {
        if (i && !want(r, ',')) return false;
        blanks(r);
        const char *start = r->p;
        Type t;
        bool batch;
        if (!read_type(r, &t, &batch)) return false;
        Value *v = r->g->value[n->out[i]];
        if (!type_equal(&t, &v->type))
            return err_at(r->e, here(r, start, (size_t)(r->p - start)),
                          "%s makes %s, got %s", n->op->name, type_text(r->a, &v->type),
                          type_text(r->a, &t));
        v->batch = batch;
    }
    return true;
}

static bool read_node(Reader *r) {
    Result result[64];
    int n_result = 0, n_in = 0;
    Loc loc;
    Id *in = NULL;
    void *attrs;
    if (!read_results(r, result, &n_result)) return false;
    const Op *op = read_op(r, &loc);
    if (!op || !read_operands(r, &in, &n_in) || !read_attrs(r, op, &attrs))
        return false;
    r->g->at = (Place){.loc = loc, .block = -1};
    Node *n = graph_add(r->g, op, attrs, n_in, in, r->e);
    if (!n) return false;
    if (n->n_out != n_result)
        return err_at(r->e, loc, "%s has %d outputs, got %d names", op->name, n->n_out,
                      n_result);
    if (!read_types(r, n) || !node_comment(r, &n->at)) return false;
    for (int i = 0; i < n_result; i++) {
        if (find_act(r, result[i].name) != NO_ID)
            return err_at(r->e, result[i].loc, "value '%s' is there twice",
                          result[i].name);
        act_put(r, result[i].name, n->out[i]);
        r->g->value[n->out[i]]->name = result[i].label;
        r->g->value[n->out[i]]->loc = n->at.loc;
    }
    return true;
}

/* ---- statements ---- */

static bool statement(Reader *r) {
    if (peek(r, '%')) return read_node(r);
    const char *start = r->p,
               *w = word(r, "a declaration, %value = op …, output or '}'");
    if (!w) return false;
    for (Role role = ROLE_INPUT; role < ROLES; role++)
        if (!strcmp(w, role_name(role))) return declaration(r, role);
    if (!strcmp(w, "output")) return read_output(r);
    if (!strcmp(w, "blocks")) return read_blocks(r);
    r->p = start;
    return bad(r,
               "input scalar const frozen train state, %value = op …, output or '}'");
}

static bool header(Reader *r) {
    const char *w = word(r, "'graph NAME {'");
    if (!w) return false;
    if (strcmp(w, "graph")) {
        r->p = r->line_start;
        return bad(r, "'graph NAME {'");
    }
    const char *name = word(r, "the graph's name");
    if (!name) return false;
    r->g = graph_new(r->a, name);
    return want(r, '{') && (line_done(r) || bad(r, "the end of the line"));
}

/* Sets the reader to the next line that says something. */
static bool next_line(Reader *r, const char **rest) {
    const char *stop = r->src->text + r->src->len;
    while (*rest < stop) {
        const char *newline = memchr(*rest, '\n', (size_t)(stop - *rest));
        r->line++;
        r->line_start = r->p = *rest;
        r->end = newline ? newline : stop;
        *rest = newline ? newline + 1 : stop;
        while (r->end > r->p && strchr(" \t\r", r->end[-1])) r->end--;
        if (!line_done(r)) return true;
    }
    return false;
}

static bool read_graph(Reader *r) {
    if (r->src->len > MOST_TEXT)
        return err_at(r->e, (Loc){.src = r->src},
                      "a graph of more than 256 MiB of text");
    if (memchr(r->src->text, 0, r->src->len))
        return err_at(r->e, (Loc){.src = r->src},
                      "not a text file: it has a zero byte");
    const char *rest = r->src->text;
    if (!next_line(r, &rest))
        return err_at(r->e, (Loc){.src = r->src},
                      "expected 'graph NAME {', got nothing");
    if (!header(r)) return false;
    bool closed = false;
    while (!closed) {
        if (!next_line(r, &rest))
            return err_at(r->e, here(r, r->end, 0),
                          "the graph is not closed: expected '}'");
        closed = take(r, '}');
        if (closed ? !(line_done(r) || bad(r, "the end of the line")) : !statement(r))
            return false;
    }
    if (next_line(r, &rest)) return bad(r, "nothing behind the graph");
    return resolve_later(r);
}

Graph *graph_parse(Arena *a, const Source *src, Err *e) {
    Reader r = {.a = a, .src = src, .e = e};
    if (!read_graph(&r)) return NULL;
    r.g->at = (Place){.block = -1};
    return graph_verify(r.g, e) ? r.g : NULL;
}
