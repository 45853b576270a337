/* YAML text to a tree with places, from libyaml's events.
 *
 * What the language does not have is refused here: anchors, aliases, tags, several
 * documents, keys that are no scalars, keys given twice. Scalars stay text: only an
 * expression or a key table gives them a meaning, so YAML 1.1's yes/no/octal never apply.
 * Recursion is bounded by MAX_DEPTH. Lines are counted here (by '\n' alone) because libyaml
 * also breaks lines at characters that the error printer does not. */
#include "graph/lang/yaml.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 64 };

/* ---- sources ---- */
Source *source_text(Arena *a, const char *path, const char *text, size_t len) {
    Source *s = NEW(a, Source, 1);
    s->path = arena_strdup(a, path);
    s->text = arena_strndup(a, text, len);
    s->len = len;
    return s;
}

Source *source_read(Arena *a, const char *path, Err *e) {
    FILE *f = fopen(path, "rb");
    struct stat st;
    if (!f || (fstat(fileno(f), &st) == 0 && S_ISDIR(st.st_mode))) {
        err_usage(e, "cannot read '%s': %s", path, strerror(f ? EISDIR : errno));
        if (f) fclose(f);
        return NULL;
    }
    char *text = NEW(a, char, MAX_BYTES + 2);
    size_t len = fread(text, 1, MAX_BYTES + 1, f);
    bool bad = ferror(f) != 0;
    fclose(f);
    Source *s = NEW(a, Source, 1);
    s->path = arena_strdup(a, path);
    s->text = text;
    s->len = len;
    if (bad) {
        err_usage(e, "cannot read '%s'", path);
        return NULL;
    }
    return s;
}

/* ---- places ---- */
/* Walks the text once: libyaml's marks count characters and never go back between events. */
typedef struct Cursor {
    const Source *src;
    size_t index, at; /* character and byte number */
    uint32_t line, col;
} Cursor;

static bool continues(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

static size_t char_end(const Source *src, size_t at) {
    for (at++; at < src->len && continues(src->text[at]); at++) {
    }
    return at;
}

static void cursor_to(Cursor *c, size_t index) {
    if (index < c->index) *c = (Cursor){c->src, 0, 0, 1, 1};
    while (c->index < index && c->at < c->src->len) {
        bool newline = c->src->text[c->at] == '\n';
        c->at = char_end(c->src, c->at);
        c->index++;
        c->col = newline ? 1 : c->col + 1;
        c->line += newline;
    }
}

static Loc cursor_loc(const Cursor *c) {
    return (Loc){c->src, c->line, c->col, 0};
}

/* Characters from byte `at` to character `end`, on one line. */
static uint32_t length_on_line(const Source *src, size_t at, size_t chars) {
    uint32_t n = 0;
    while (n < chars && at < src->len && src->text[at] != '\n') {
        at = char_end(src, at);
        n++;
    }
    return n;
}

/* Steps over blanks if they hold a line break (a folded line). */
static bool skip_fold(Cursor *c) {
    size_t end = c->at + strspn(c->src->text + c->at, " \t\r\n");
    if (!memchr(c->src->text + c->at, '\n', end - c->at)) return false;
    while (c->at < end) cursor_to(c, c->index + 1);
    return true;
}

YPlace yaml_place(const YNode *n) {
    YPlace p = {.node = n, .loc = n->loc, .byte = n->at};
    p.lost = n->block || !n->loc.src || n->kind != Y_SCALAR;
    if (n->quoted && !p.lost) {
        p.byte++;
        p.loc.col++;
    }
    return p;
}

Loc yaml_place_at(YPlace *p, size_t offset, size_t len) {
    const YNode *n = p->node;
    if (p->lost) return n->loc;
    Cursor c = {n->loc.src, 0, p->byte, p->loc.line, p->loc.col};
    for (; p->offset < offset && !p->lost; p->offset++) {
        char want = n->s[p->offset];
        if (p->folded && want == '\n') continue; /* further empty lines */
        p->folded = (want == ' ' || want == '\n') && skip_fold(&c);
        if (p->folded || continues(want)) continue;
        p->lost = c.at >= c.src->len || c.src->text[c.at] != want; /* an escape */
        if (!p->lost) cursor_to(&c, c.index + 1);
    }
    if (p->lost) return n->loc;
    p->byte = c.at;
    p->loc = cursor_loc(&c);
    p->loc.len = length_on_line(c.src, c.at, len);
    return p->loc;
}

Loc yaml_offset(const YNode *n, size_t offset, size_t len) {
    YPlace p = yaml_place(n);
    return yaml_place_at(&p, offset, len);
}

/* ---- events to tree ---- */
typedef struct Reader {
    Arena *arena;
    Cursor cur;
    yaml_parser_t parser;
    yaml_event_t event;
    bool have; /* event is to be deleted */
    Err *e;
} Reader;

static bool syntax_error(Reader *r) {
    const yaml_parser_t *p = &r->parser;
    Cursor c = {r->cur.src, 0, 0, 1, 1};
    if (p->error ==
        YAML_READER_ERROR) { /* a byte offset: bad UTF-8, control characters */
        while (c.at < p->problem_offset && c.at < c.src->len)
            cursor_to(&c, c.index + 1);
    } else {
        cursor_to(&c, p->problem_mark.index);
    }
    const char *what = p->problem ? p->problem : "this is not YAML";
    if (!p->context || p->error == YAML_READER_ERROR)
        return err_at(r->e, cursor_loc(&c), "%s", what);
    return err_at(r->e, cursor_loc(&c), "%s, %s", what, p->context);
}

static bool next(Reader *r) {
    if (r->have) yaml_event_delete(&r->event);
    r->have = false;
    if (!yaml_parser_parse(&r->parser, &r->event)) return syntax_error(r);
    r->have = true;
    cursor_to(&r->cur, r->event.start_mark.index);
    return true;
}

static bool refuse_extras(Reader *r) {
    const yaml_event_t *v = &r->event;
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (v->type == YAML_ALIAS_EVENT)
        return err_at(r->e, cursor_loc(&r->cur), "aliases (*%s) are not allowed",
                      (const char *)v->data.alias.anchor);
    if (v->type == YAML_SCALAR_EVENT) {
        anchor = v->data.scalar.anchor;
        tag = v->data.scalar.tag;
    } else if (v->type == YAML_SEQUENCE_START_EVENT) {
        anchor = v->data.sequence_start.anchor;
        tag = v->data.sequence_start.tag;
    } else if (v->type == YAML_MAPPING_START_EVENT) {
        anchor = v->data.mapping_start.anchor;
        tag = v->data.mapping_start.tag;
    }
    if (anchor)
        return err_at(r->e, cursor_loc(&r->cur), "anchors (&%s) are not allowed",
                      (const char *)anchor);
    if (tag)
        return err_at(r->e, cursor_loc(&r->cur), "tags (%s) are not allowed",
                      (const char *)tag);
    return true;
}

static YNode *scalar(Reader *r) {
    const yaml_event_t *v = &r->event;
    YNode *n = NEW(r->arena, YNode, 1);
    size_t len = v->data.scalar.length;
    n->kind = Y_SCALAR;
    n->at = r->cur.at;
    n->loc = cursor_loc(&r->cur);
    n->loc.len =
        length_on_line(r->cur.src, r->cur.at, v->end_mark.index - v->start_mark.index);
    n->s = arena_strndup(r->arena, (const char *)v->data.scalar.value, len);
    yaml_scalar_style_t style = v->data.scalar.style;
    n->quoted = style == YAML_SINGLE_QUOTED_SCALAR_STYLE ||
                style == YAML_DOUBLE_QUOTED_SCALAR_STYLE;
    n->block = style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE;
    if (strlen(n->s) != len) {
        err_at(r->e, n->loc, "a NUL character in a scalar");
        return NULL;
    }
    return n;
}

/* Open-addressed set of the keys of one map: hostile maps may have 500,000 of them. */
typedef struct KeySet {
    const char **slot;
    size_t n, cap;
} KeySet;

static uint32_t hash(const char *s) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
    return h;
}

static const char **find_slot(const KeySet *set, const char *key) {
    size_t i = hash(key) & (set->cap - 1);
    while (set->slot[i] && strcmp(set->slot[i], key)) i = (i + 1) & (set->cap - 1);
    return &set->slot[i];
}

/* false: the key was there already. */
static bool keys_add(Arena *a, KeySet *set, const char *key) {
    if (2 * (set->n + 1) > set->cap) {
        KeySet grown = {NULL, set->n, set->cap ? 2 * set->cap : 16};
        grown.slot = NEW(a, const char *, grown.cap);
        for (size_t i = 0; i < set->cap; i++)
            if (set->slot[i]) *find_slot(&grown, set->slot[i]) = set->slot[i];
        *set = grown;
    }
    const char **slot = find_slot(set, key);
    if (*slot) return false;
    *slot = key;
    set->n++;
    return true;
}

static YNode *node(Reader *r, int depth);

static YNode *key_node(Reader *r, KeySet *seen) {
    if (!refuse_extras(r)) return NULL;
    if (r->event.type != YAML_SCALAR_EVENT) {
        err_at(r->e, cursor_loc(&r->cur),
               "a key must be a name, not a list or mapping");
        return NULL;
    }
    YNode *key = scalar(r);
    if (key && !keys_add(r->arena, seen, key->s)) {
        err_at(r->e, key->loc, "key '%s' is given twice", key->s);
        return NULL;
    }
    return key;
}

static YNode *collection(Reader *r, YKind kind, int depth) {
    YNode *n = NEW(r->arena, YNode, 1);
    KeySet seen = {0};
    int cap = 0, cap_key = 0, n_key = 0;
    n->kind = kind;
    n->at = r->cur.at;
    n->loc = cursor_loc(&r->cur);
    if (depth > MAX_DEPTH) {
        err_at(r->e, n->loc, "YAML is nested deeper than %d", MAX_DEPTH);
        return NULL;
    }
    for (;;) {
        if (!next(r)) return NULL;
        yaml_event_type_t t = r->event.type;
        if (t == YAML_SEQUENCE_END_EVENT || t == YAML_MAPPING_END_EVENT) return n;
        if (kind == Y_MAP) {
            YNode *key = key_node(r, &seen);
            if (!key) return NULL;
            PUSH(r->arena, n->key, n_key, cap_key, key);
            if (!next(r)) return NULL;
        }
        YNode *item = node(r, depth + 1);
        if (!item) return NULL;
        PUSH(r->arena, n->item, n->n, cap, item);
    }
}

/* The node that begins with the current event. */
static YNode *node(Reader *r, int depth) {
    if (!refuse_extras(r)) return NULL;
    if (r->event.type == YAML_SCALAR_EVENT) return scalar(r);
    bool list = r->event.type == YAML_SEQUENCE_START_EVENT;
    return collection(r, list ? Y_LIST : Y_MAP, depth);
}

static YNode *document(Reader *r) {
    if (!next(r) || !next(r)) return NULL; /* stream start, document start */
    if (r->event.type == YAML_STREAM_END_EVENT) {
        err_at(r->e, (Loc){r->cur.src, 1, 1, 0}, "the file is empty");
        return NULL;
    }
    if (!next(r)) return NULL;
    YNode *root = node(r, 1);
    if (!root || !next(r) || !next(r)) return NULL; /* document end */
    if (r->event.type != YAML_STREAM_END_EVENT) {
        err_at(r->e, cursor_loc(&r->cur),
               "one file holds one document; a second begins here");
        return NULL;
    }
    return root;
}

YNode *yaml_parse(Arena *a, const Source *src, Err *e) {
    Reader r = {.arena = a, .cur = {src, 0, 0, 1, 1}, .e = e};
    if (src->len > MAX_BYTES) {
        err_at(e, (Loc){src, 1, 1, 0}, "the file is larger than 1 MiB");
        return NULL;
    }
    if (!yaml_parser_initialize(&r.parser)) {
        err_fail(e, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)src->text, src->len);
    YNode *root = document(&r);
    if (r.have) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    return root;
}

/* ---- access ---- */
static int find(const YNode *map, const char *key) {
    if (!map || map->kind != Y_MAP) return -1;
    for (int i = 0; i < map->n; i++)
        if (!strcmp(map->key[i]->s, key)) return i;
    return -1;
}

YNode *yaml_get(const YNode *map, const char *key) {
    int i = find(map, key);
    return i < 0 ? NULL : map->item[i];
}

YNode *yaml_key(const YNode *map, const char *key) {
    int i = find(map, key);
    return i < 0 ? NULL : map->key[i];
}
