/* Rename tables. Rows are expanded when a table is opened: every range becomes as many
 * entries, so that looking up is a comparison of prefixes in both directions and nothing
 * has to be solved backwards. First match wins, in the order of the file. */
#include "io/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/lang/doc.h"
#include "io/tensors.h"

enum { MOST_VARS = 3, COLUMNS = 4 };

typedef struct Entry {
    const char *name, *key; /* without the * */
    size_t n_name, n_key;
    bool tail; /* the rest of the name goes on */
    bool read, drop, conv_ldm, conv_diffusers, matrix;
    int part, parts;
} Entry;

struct Names {
    Arena *arena;
    Entry *entry;
    int n, cap;
    const char *(*component)[2]; /* network, component */
    int n_component, cap_component;
};

static const char *const families[] = {"sd2", "sd1", NULL};

/* ---- lines ---- */
typedef struct Lines {
    const char *path;
    const char *at, *end;
    int number;
    char *column[COLUMNS];
    int n;
} Lines;

static bool lines_open(Arena *a, const char *family, Lines *l, Err *e) {
    const char *path = arena_printf(a, "names/%s.tsv", family);
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        if (strcmp(f->path, path)) continue;
        *l = (Lines){.path = path, .at = (const char *)f->data};
        l->end = l->at + f->len;
        return true;
    }
    return err_fail(e, "no rename table '%s' in this program", path);
}

/* The next line that is neither empty nor a comment, split at tabs. */
static bool lines_next(Arena *a, Lines *l) {
    while (l->at < l->end) {
        const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
        if (!stop) stop = l->end;
        char *line = arena_strndup(a, l->at, (size_t)(stop - l->at));
        l->at = stop < l->end ? stop + 1 : stop;
        l->number++;
        if (!*line || *line == '#') continue;
        l->n = 0;
        for (char *p = line; p && l->n < COLUMNS; l->n++) {
            l->column[l->n] = p;
            p = strchr(p, '\t');
            if (p) *p++ = 0;
        }
        return true;
    }
    return false;
}

/* ---- one row, expanded ---- */
typedef struct Var {
    char letter;
    int low, high, value;
} Var;

static int find_vars(const char *pattern, Var v[MOST_VARS]) {
    int n = 0;
    for (const char *p = pattern; n < MOST_VARS && (p = strchr(p, '{')); p++)
        if (sscanf(p, "{%c:%d-%d}", &v[n].letter, &v[n].low, &v[n].high) == 3) {
            v[n].value = v[n].low;
            n++;
        }
    return n;
}

/* "3i+1+j": terms of a number, a letter, or both, joined by + and - */
static long sum_of(const char *s, const Var *v, int n) {
    long sum = 0;
    while (*s && *s != '}' && *s != ':') {
        int sign = *s == '-' ? -1 : 1;
        if (*s == '-' || *s == '+') s++;
        char *end;
        long term = strtol(s, &end, 10);
        if (end == s) term = 1;
        for (int i = 0; i < n; i++)
            if (*end == v[i].letter) {
                term *= v[i].value;
                end++;
                break;
            }
        if (end == s) return -1; /* neither: the tables have no such thing */
        sum += sign * term;
        s = end;
    }
    return sum;
}

static const char *render(Arena *a, const char *pattern, const Var *v, int n) {
    Str s = {0};
    for (const char *p = pattern; *p && *p != '*'; p++) {
        const char *close = *p == '{' ? strchr(p, '}') : NULL;
        if (close) {
            str_printf(&s, "%ld", sum_of(p + 1, v, n));
            p = close;
        } else {
            str_addn(&s, p, 1);
        }
    }
    const char *out = arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return out;
}

static bool ends_with_star(const char *s) {
    return *s && s[strlen(s) - 1] == '*';
}

static bool read_note(const char *note, Entry *x) {
    char word[32];
    for (int used = 0; sscanf(note, "%31s%n", word, &used) == 1; note += used) {
        if (!strcmp(word, "read"))
            x->read = true;
        else if (!strcmp(word, "drop"))
            x->drop = true;
        else if (!strcmp(word, "1x1"))
            x->conv_ldm = true;
        else if (!strcmp(word, "1x1both"))
            x->conv_ldm = x->conv_diffusers = true;
        else if (!strcmp(word, "matrix"))
            x->matrix = true;
        else if (sscanf(word, "rows=%d/%d", &x->part, &x->parts) == 2)
            continue;
        else if (strcmp(word, "-"))
            return false;
    }
    return x->parts >= 1 && x->parts <= NAME_PARTS && x->part >= 0 &&
           x->part < x->parts;
}

static bool add_row(Names *t, const Lines *l, Err *e) {
    Arena *a = t->arena;
    Entry x = {.parts = 1, .tail = ends_with_star(l->column[2])};
    bool ok = l->n == COLUMNS && read_note(l->column[3], &x) &&
              (x.drop || x.tail == ends_with_star(l->column[1]));
    if (!ok)
        return err_fail(e, "%s:%d: not a row of a rename table", l->path, l->number);
    const char *name = arena_printf(a, "%s.%s", l->column[0], l->column[1]);
    Var v[MOST_VARS];
    int n = find_vars(name, v), i;
    do {
        x.name = render(a, name, v, n);
        x.key = render(a, l->column[2], v, n);
        x.n_name = strlen(x.name);
        x.n_key = strlen(x.key);
        PUSH(a, t->entry, t->n, t->cap, x);
        for (i = n - 1; i >= 0 && ++v[i].value > v[i].high; i--) v[i].value = v[i].low;
    } while (i >= 0);
    return true;
}

/* ---- a table ---- */
static bool has_word(const char *list, const char *word) {
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ' ') && (!p[n] || p[n] == ' ')) return true;
    return false;
}

/* only: components whose rows are taken, separated by spaces; NULL: all. */
static bool add_family(Names *t, const char *family, const char *only, Err *e) {
    Lines l;
    if (!lines_open(t->arena, family, &l, e)) return false;
    while (lines_next(t->arena, &l)) {
        const char *kind = l.column[0];
        if (!strcmp(kind, "@from") && l.n == 3 && !only) {
            if (!add_family(t, l.column[1], l.column[2], e)) return false;
        } else if (!strcmp(kind, "@component") && l.n == 3) {
            if (t->n_component == t->cap_component) {
                int cap = t->cap_component ? 2 * t->cap_component : 8;
                t->component =
                    arena_grow(t->arena, t->component, (size_t)t->n_component,
                               (size_t)cap, sizeof *t->component);
                t->cap_component = cap;
            }
            t->component[t->n_component][0] = l.column[1];
            t->component[t->n_component++][1] = l.column[2];
        } else if (*kind != '@' && (!only || has_word(only, kind))) {
            if (!add_row(t, &l, e)) return false;
        }
    }
    return true;
}

Names *names_open(Arena *a, const char *family, Err *e) {
    Names *t = NEW(a, Names, 1);
    t->arena = a;
    return add_family(t, family, NULL, e) ? t : NULL;
}

/* ---- looking up ---- */
static bool matches(const char *text, const char *prefix, size_t n, bool tail) {
    return !strncmp(text, prefix, n) && (tail ? text[n] != 0 : text[n] == 0);
}

int names_from_file(const Names *t, Arena *a, const char *key, NamePart out[NAME_PARTS],
                    bool *dropped) {
    *dropped = false;
    int n = 0;
    for (int i = 0; i < t->n; i++) {
        const Entry *x = &t->entry[i];
        if (!matches(key, x->key, x->n_key, x->tail)) continue;
        if (x->drop)
            *dropped = true;
        else
            out[n++] = (NamePart){arena_printf(a, "%s%s", x->name, key + x->n_key),
                                  x->part, x->parts};
        if (n == x->parts || *dropped || n == NAME_PARTS) break;
    }
    return n;
}

bool names_to_file(const Names *t, Arena *a, const char *name, NameTo *out) {
    for (int i = 0; i < t->n; i++) {
        const Entry *x = &t->entry[i];
        if (x->read || x->drop || !matches(name, x->name, x->n_name, x->tail)) continue;
        *out = (NameTo){arena_printf(a, "%s%s", x->key, name + x->n_name),
                        x->part,
                        x->parts,
                        x->conv_ldm,
                        x->conv_diffusers,
                        x->matrix};
        return true;
    }
    return false;
}

const char *names_to_ldm(Arena *a, const char *family, const char *name, int *row,
                         int *rows_of) {
    Err e = {0};
    NameTo to;
    Arena *scratch = arena_new();
    const Names *t = names_open(scratch, family, &e);
    bool found = t && names_to_file(t, a, name, &to);
    arena_free(scratch);
    *row = found ? to.part : 0;
    *rows_of = found ? to.parts : 1;
    return found ? to.key : NULL;
}

const char *names_component(const Names *t, const char *network) {
    for (int i = 0; i < t->n_component; i++)
        if (!strcmp(t->component[i][0], network)) return t->component[i][1];
    return NULL;
}

/* ---- directives that are about families ---- */
const char *names_family(const char *const *key, int n) {
    Arena *a = arena_new();
    const char *found = NULL;
    for (int f = 0; families[f] && !found; f++) {
        Lines l;
        Err e = {0};
        if (!lines_open(a, families[f], &l, &e)) continue;
        while (!found && lines_next(a, &l)) {
            if (strcmp(l.column[0], "@mark") || l.n < 2) continue;
            for (int i = 0; i < n && !found; i++)
                if (!strncmp(key[i], l.column[1], strlen(l.column[1])))
                    found = families[f];
        }
    }
    arena_free(a);
    return found ? found : "sd1";
}

const char *names_variant(Arena *a, const char *model, const char *network,
                          const char **family) {
    size_t n = strlen(network);
    for (int f = 0; families[f]; f++) {
        Lines l;
        Err e = {0};
        if (!lines_open(a, families[f], &l, &e)) continue;
        while (lines_next(a, &l)) {
            if (strcmp(l.column[0], "@model") || l.n < 3 || strcmp(l.column[1], model))
                continue;
            *family = families[f];
            for (char *p = l.column[2]; (p = strstr(p, network)); p += n)
                if ((p == l.column[2] || p[-1] == ' ') && p[n] == '=')
                    return arena_strndup(a, p + n + 1, strcspn(p + n + 1, " "));
            return NULL;
        }
    }
    return NULL;
}

const char *const *names_models(Arena *a) {
    const char **out = NULL;
    int n = 0, cap = 0;
    for (int f = 0; families[f]; f++) {
        Lines l;
        Err e = {0};
        if (!lines_open(a, families[f], &l, &e)) continue;
        while (lines_next(a, &l))
            if (!strcmp(l.column[0], "@model") && l.n == 3)
                PUSH(a, out, n, cap, l.column[1]);
    }
    PUSH(a, out, n, cap, NULL);
    return out;
}
