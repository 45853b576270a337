/* Documents: found, read once, checked. A Library remembers every file by its real path;
 * an embedded file by its path in graphs/.
 *
 * Where a bare name (`lora`) is looked for: beside the file that asks, and in the folder of
 * its kind next to that file's own; $GRAPHRUN_GRAPHS; embedded; embedded by an `also` name
 * or in another spelling (`Lion`, `SGDNesterov`). A name with a slash or .yaml is a path:
 * relative to the file that asks, then as it stands, then as before. A bare name passes over
 * files of another kind (a recipe `lora` beside an adapter). */
#include "graph/lang/schema.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_NESTED_FROM = 8 };

typedef enum State { RAW, CHECKING, READY } State;

typedef struct Entry {
    Doc doc;          /* first: a Doc that the library gave is an Entry */
    const char *path; /* real path or path in graphs/ */
    bool embedded;
    State state;
} Entry;

struct Library {
    Arena *arena;
    Entry **entry;
    int n, cap;
    int depth; /* of `from` while reading */
};

/* clang-format off */
static const struct { const char *name, *folder; } kinds[DOC_KINDS] = {
    [DOC_NETWORK]   = { "network",   "networks" },
    [DOC_ADAPTER]   = { "adapter",   "adapters" },
    [DOC_PRESET]    = { "preset",    "presets" },
    [DOC_OBJECTIVE] = { "objective", "objectives" },
    [DOC_SAMPLER]   = { "sampler",   "samplers" },
    [DOC_OPTIMIZER] = { "optimizer", "optimizers" },
    [DOC_RECIPE]    = { "recipe",    "recipes" },
    [DOC_LIBRARY]   = { "library",   NULL }, /* beside its users */
};
/* clang-format on */

const char *doc_kind_name(DocKind k) {
    return k < DOC_KINDS ? kinds[k].name : "document";
}

const char *doc_kind_folder(DocKind k) {
    return k < DOC_KINDS ? kinds[k].folder : NULL;
}

Library *library_new(Arena *a) {
    Library *lib = NEW(a, Library, 1);
    lib->arena = a;
    return lib;
}

const Doc *library_doc(const Library *lib, int i) {
    return i < lib->n ? &lib->entry[i]->doc : NULL;
}

Doc *doc_of(Library *lib, const Source *src) {
    for (int i = 0; i < lib->n; i++)
        if (lib->entry[i]->doc.src == src) return &lib->entry[i]->doc;
    return NULL;
}

static const char *article(const char *word) {
    return strchr("aeiou", word[0]) ? "an" : "a";
}

/* ---- reading one ---- */
/* The first key says what the document is; its value names it. */
static bool read_head(Doc *d, Arena *a, Err *e) {
    static const char *const names[] = {"library",   "network",   "adapter",
                                        "preset",    "objective", "sampler",
                                        "optimizer", "recipe",    NULL};
    const YNode *root = d->root;
    if (root->kind != Y_MAP || !root->n)
        return err_at(e, root->loc, "a file is one mapping, got %s %s",
                      root->kind == Y_MAP ? "an empty" : "a", yaml_kind(root));
    const char *first = root->key[0]->s;
    for (d->kind = 0; d->kind < DOC_KINDS; d->kind++)
        if (!strcmp(kinds[d->kind].name, first)) break;
    if (d->kind == DOC_KINDS)
        return err_at(e, root->key[0]->loc,
                      "a file begins with one of library, network, adapter, preset, "
                      "objective, sampler, optimizer, recipe; got '%.60s'%s",
                      first, did_you_mean(a, first, names));
    const YNode *name = root->item[0];
    const char *allowed =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    if (name->kind != Y_SCALAR || !name->s[0] ||
        strspn(name->s, allowed) != strlen(name->s))
        return err_at(e, name->loc, "'%s' wants a name of letters, digits and _ . -",
                      first);
    d->name = name->s;
    return true;
}

static Entry *read_entry(Library *lib, const Source *src, const char *path, Err *e) {
    Entry *n = NEW(lib->arena, Entry, 1);
    n->path = path;
    n->doc.src = src;
    n->doc.root = yaml_parse(lib->arena, src, e);
    if (!n->doc.root || !read_head(&n->doc, lib->arena, e)) return NULL;
    PUSH(lib->arena, lib->entry, lib->n, lib->cap, n);
    return n;
}

/* Two libraries cannot have a template of the same name. */
static bool check_clash(const Doc *d, int i, Loc loc, Err *e) {
    const YNode *mine = yaml_get(d->from[i]->root, "templates");
    for (int k = 0; k < i; k++) {
        const YNode *theirs = yaml_get(d->from[k]->root, "templates");
        for (int t = 0; mine && t < mine->n; t++)
            if (yaml_get(theirs, mine->key[t]->s))
                return err_at(e, loc, "template '%s' is in library '%s' and in '%s'",
                              mine->key[t]->s, d->from[k]->name, d->from[i]->name);
    }
    return true;
}

static bool read_from(Library *lib, Doc *d, Err *e) {
    const YNode *from = yaml_get(d->root, "from");
    DocKind want = d->kind == DOC_RECIPE ? DOC_RECIPE : DOC_LIBRARY;
    if (!from || from->kind != Y_LIST || from->n > 8)
        return true; /* schema_check tells */
    if (d->kind == DOC_PRESET || d->kind == DOC_ADAPTER || d->kind == DOC_OPTIMIZER)
        return true;
    if (lib->depth >= MAX_NESTED_FROM)
        return err_at(e, from->loc, "'from' is nested deeper than %d files",
                      MAX_NESTED_FROM);
    d->from = NEW(lib->arena, Doc *, from->n);
    d->n_from = 0;
    lib->depth++;
    bool ok = true;
    for (int i = 0; ok && i < from->n; i++) {
        const YNode *n = from->item[i];
        ok = n->kind == Y_SCALAR || err_at(e, n->loc, "'from' wants a list of files");
        Doc *l = ok ? doc_load(lib, n->s, want, d, n->loc, e) : NULL;
        ok = l != NULL;
        if (ok) d->from[d->n_from++] = l;
        if (ok && want == DOC_LIBRARY) ok = check_clash(d, i, n->loc, e);
    }
    lib->depth--;
    return ok;
}

static Doc *finish(Library *lib, Entry *n, Loc loc, Err *e) {
    if (n->state == READY) return &n->doc;
    if (n->state == CHECKING) {
        err_at(e, loc, "'%s' takes itself in", n->doc.src->path);
        return NULL;
    }
    n->state = CHECKING;
    bool ok = read_from(lib, &n->doc, e) && schema_check(lib->arena, &n->doc, e);
    n->state = ok ? READY : RAW;
    return ok ? &n->doc : NULL;
}

Doc *doc_parse(Library *lib, const Source *src, Err *e) {
    Entry *n = read_entry(lib, src, src->path, e);
    return n ? finish(lib, n, loc_none(), e) : NULL;
}

/* ---- finding ---- */
/* "a/./b/../c" -> "a/c"; leading ".." stay. */
static char *normalise(Arena *a, const char *path) {
    char *out = arena_strdup(a, path);
    size_t n = path[0] == '/';
    for (const char *p = path; *p;) {
        p += strspn(p, "/");
        size_t len = strcspn(p, "/");
        bool up = len == 2 && !strncmp(p, "..", 2);
        size_t last = n;
        while (last > 0 && out[last - 1] != '/') last--;
        if (len == 0 || (len == 1 && p[0] == '.')) {
            p += len;
            continue;
        }
        if (up && n > last && strncmp(out + last, "..", 2)) {
            n = last > 1 ? last - 1 : last;
        } else {
            if (n && out[n - 1] != '/') out[n++] = '/';
            memmove(out + n, p, len);
            n += len;
        }
        p += len;
    }
    out[n] = 0;
    return out;
}

static char *folder_of(Arena *a, const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? arena_strndup(a, path, (size_t)(slash - path)) : arena_strdup(a, "");
}

static char *join(Arena *a, const char *folder, const char *file) {
    return folder[0] ? arena_printf(a, "%s/%s", folder, file) : arena_strdup(a, file);
}

static Entry *known(Library *lib, const char *path, bool embedded) {
    for (int i = 0; i < lib->n; i++)
        if (lib->entry[i]->embedded == embedded && !strcmp(lib->entry[i]->path, path))
            return lib->entry[i];
    return NULL;
}

/* The entry of a file on disk. NULL without a failure: there is no such file. */
static Entry *try_file(Library *lib, const char *path, Err *e) {
    struct stat st;
    if (stat(path, &st) || S_ISDIR(st.st_mode)) return NULL;
    char *real = realpath(path, NULL);
    const char *id = arena_strdup(lib->arena, real ? real : path);
    free(real);
    Entry *n = known(lib, id, false);
    if (n) return n;
    Source *src = source_read(lib->arena, path, e);
    return src ? read_entry(lib, src, id, e) : NULL;
}

static Entry *try_embedded(Library *lib, const char *path, Err *e) {
    path = normalise(lib->arena, path);
    if (!strncmp(path, "graphs/", 7)) path += 7;
    Entry *n = known(lib, path, true);
    if (n) return n;
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        if (strcmp(f->path, path)) continue;
        const char *shown = arena_printf(lib->arena, "graphs/%s", path);
        Source *src = source_text(lib->arena, shown, (const char *)f->data, f->len);
        n = read_entry(lib, src, path, e);
        if (n) n->embedded = true;
        return n;
    }
    return NULL;
}

typedef struct Search {
    Library *lib;
    DocKind want;
    bool bare;    /* a name, not a path */
    Entry *other; /* a bare name's file of another kind */
    Err *e;
} Search;

static Entry *fits(Search *s, Entry *n) {
    if (!n || s->want == DOC_KINDS || n->doc.kind == s->want || !s->bare) return n;
    if (!s->other) s->other = n;
    return NULL;
}

static Entry *try_in(Search *s, bool embedded, const char *folder, const char *file) {
    char *path = join(s->lib->arena, folder, file);
    if (s->e->set) return NULL;
    return fits(s, embedded ? try_embedded(s->lib, path, s->e)
                            : try_file(s->lib, path, s->e));
}

/* FOLDER/NAME.yaml below `root` for the kind wanted (or any). */
static Entry *try_tree(Search *s, bool embedded, const char *root, const char *file) {
    Entry *n = NULL;
    for (DocKind k = 0; k < DOC_KINDS && !n; k++)
        if (kinds[k].folder && (s->want == k || s->want >= DOC_LIBRARY))
            n = try_in(s, embedded, join(s->lib->arena, root, kinds[k].folder), file);
    return n;
}

/* Relative to the file that asks. */
static Entry *try_beside(Search *s, const Entry *asks, const char *file) {
    Arena *a = s->lib->arena;
    const char *at = asks->embedded ? asks->path : asks->doc.src->path;
    char *folder = folder_of(a, at);
    Entry *n =
        try_in(s, asks->embedded, folder[0] || asks->embedded ? folder : ".", file);
    if (n || !s->bare) return n;
    return try_tree(s, asks->embedded, join(a, folder[0] ? folder : ".", ".."), file);
}

static Entry *search(Search *s, const char *name, const Entry *asks) {
    Arena *a = s->lib->arena;
    size_t len = strlen(name);
    bool yaml = (len > 5 && !strcmp(name + len - 5, ".yaml")) ||
                (len > 4 && !strcmp(name + len - 4, ".yml"));
    s->bare = !strchr(name, '/') && !yaml;
    const char *file = s->bare ? arena_printf(a, "%s.yaml", name) : name;
    if (name[0] == '/') return try_in(s, false, "", name);
    Entry *n = asks ? try_beside(s, asks, file) : NULL;
    if (!n && !s->bare) n = try_in(s, false, "", file);
    const char *graphs = getenv("GRAPHRUN_GRAPHS");
    if (!n && graphs && graphs[0] && !s->bare) n = try_in(s, false, graphs, file);
    if (!n && graphs && graphs[0]) n = try_tree(s, false, graphs, file);
    if (!n && !s->bare) n = try_in(s, true, "", file);
    if (!n) n = try_tree(s, true, "", file);
    return n;
}

const char *const *doc_shipped(Arena *a, DocKind kind) {
    const char **list = NULL;
    int n = 0, cap = 0;
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        const char *slash = strchr(f->path, '/'), *dot = strrchr(f->path, '.');
        const char *folder = doc_kind_folder(kind);
        if (!slash || !dot || dot < slash) continue;
        size_t len = (size_t)(slash - f->path);
        if (folder && (strlen(folder) != len || strncmp(f->path, folder, len)))
            continue;
        PUSH(a, list, n, cap, arena_strndup(a, slash + 1, (size_t)(dot - slash - 1)));
    }
    PUSH(a, list, n, cap, NULL);
    return list;
}

/* "SGDNesterov" and "sgd-nesterov" are one name. */
static bool same_name(const char *a, const char *b) {
    for (;; a++, b++) {
        while (*a == '-' || *a == '_') a++;
        while (*b == '-' || *b == '_') b++;
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) return false;
        if (!*a) return true;
    }
}

/* The shipped document that answers to the name in any spelling. Every name that there is
 * goes into the list. */
static Entry *try_also(Search *s, const char *name, const char *const **names) {
    Arena *a = s->lib->arena;
    const char **list = NULL;
    int n = 0, cap = 0;
    Entry *found = NULL;
    for (const char *const *i = doc_shipped(a, s->want); *i && !s->e->set; i++) {
        const char *file = arena_printf(a, "%s/%s.yaml", kinds[s->want].folder, *i);
        Entry *d = try_embedded(s->lib, file, s->e);
        if (!d || d->doc.kind != s->want) continue;
        const YNode *also = yaml_get(d->doc.root, "also");
        for (int k = -1; k < (also && also->kind == Y_LIST ? also->n : 0); k++) {
            const char *its = k < 0 ? d->doc.name : also->item[k]->s;
            if (same_name(its, name)) found = d;
            PUSH(a, list, n, cap, its);
        }
    }
    PUSH(a, list, n, cap, NULL);
    *names = list;
    return found;
}

/* Upper case is no difference; where no name is near, all are told. */
static const char *hint(Arena *a, const char *name, const char *const *names) {
    char *small = arena_strdup(a, name);
    for (char *p = small; *p; p++) *p = (char)tolower((unsigned char)*p);
    return nearest_or_all(a, small, names);
}

/* Of a path: the shipped file that its last part may have meant. */
static const char *file_hint(const Search *s, const char *name) {
    Arena *a = s->lib->arena;
    const char *slash = strrchr(name, '/'), *last = slash ? slash + 1 : name;
    if (!ends_with(last, ".yaml")) return "";
    const char *near =
        nearest(arena_strndup(a, last, strlen(last) - 5), doc_shipped(a, s->want));
    return near ? arena_printf(a, "; did you mean '%s.yaml'?", near) : "";
}

static bool not_found(const Search *s, const char *name, const char *const *names,
                      Loc loc, Err *e) {
    const char *kind = doc_kind_name(s->want);
    if (e->set) return false;
    if (!s->bare) {
        const char *near = file_hint(s, name);
        if (loc.src) return err_at(e, loc, "no file '%.200s'%s", name, near);
        return err_usage(e, "no file '%.200s'%s", name, near);
    }
    const char *near = hint(s->lib->arena, name, names);
    if (s->other)
        near =
            arena_printf(s->lib->arena, " ('%s' is %s %s)%s", s->other->doc.src->path,
                         article(doc_kind_name(s->other->doc.kind)),
                         doc_kind_name(s->other->doc.kind), near);
    if (loc.src) return err_at(e, loc, "no %s '%.200s'%s", kind, name, near);
    return err_usage(e, "no %s '%.200s'%s", kind, name, near);
}

Doc *doc_load(Library *lib, const char *name, DocKind want, const Doc *from, Loc loc,
              Err *e) {
    Search s = {.lib = lib, .want = want, .e = e};
    const Entry *asks = NULL;
    for (int i = 0; i < lib->n && !asks; i++)
        if (&lib->entry[i]->doc == from) asks = lib->entry[i];
    const char *const *names = NULL;
    Entry *n = name[0] ? search(&s, name, asks) : NULL;
    if (!n && !e->set && s.bare && doc_kind_folder(want))
        n = try_also(&s, name, &names);
    else if (!n)
        names = doc_shipped(lib->arena, want);
    if (!n || e->set) {
        not_found(&s, name, names, loc, e);
        return NULL;
    }
    if (want != DOC_KINDS && n->doc.kind != want) {
        const char *is = doc_kind_name(n->doc.kind), *wanted = doc_kind_name(want);
        const char *text = arena_printf(lib->arena, "'%s' is %s %s, want %s %s", name,
                                        article(is), is, article(wanted), wanted);
        if (loc.src)
            err_at(e, loc, "%s", text);
        else
            err_usage(e, "%s", text);
        return NULL;
    }
    return finish(lib, n, loc, e);
}

/* ---- templates ---- */
YNode *doc_template(const Doc *d, const char *name, const Doc **owner) {
    *owner = d;
    YNode *t = yaml_get(yaml_get(d->root, "templates"), name);
    for (int i = 0; !t && i < d->n_from; i++) {
        *owner = d->from[i];
        t = yaml_get(yaml_get(d->from[i]->root, "templates"), name);
    }
    return t;
}

const char *const *doc_template_names(Arena *a, const Doc *d) {
    const char **list = NULL;
    int n = 0, cap = 0;
    for (int i = -1; i < d->n_from; i++) {
        const YNode *t = yaml_get((i < 0 ? d : d->from[i])->root, "templates");
        for (int k = 0; t && k < t->n; k++) PUSH(a, list, n, cap, t->key[k]->s);
    }
    PUSH(a, list, n, cap, NULL);
    return list;
}
