/* `graphrun graphs list | show NAME | copy DIR`: the graph files inside the program. */
#include <stdio.h>
#include <string.h>

#include "cli/opt.h"
#include "graph/lang/doc.h"
#include "io/file.h"

/* Other embedded files lie in other folders. */
static bool is_graph(const EmbeddedFile *f) {
    for (DocKind k = 0; k < DOC_KINDS; k++) {
        const char *folder = doc_kind_folder(k);
        size_t n = folder ? strlen(folder) : 0;
        if (n && !strncmp(f->path, folder, n) && f->path[n] == '/') return true;
    }
    return false;
}

/* The `doc:` of a file; "" where it has none. */
static const char *doc_line(Arena *a, const EmbeddedFile *f) {
    Err ignored = {0};
    const Source *src = source_text(a, f->path, (const char *)f->data, f->len);
    const YNode *doc = yaml_get(yaml_parse(a, src, &ignored), "doc");
    return doc && doc->kind == Y_SCALAR ? doc->s : "";
}

static void print_json(Arena *a) {
    Str s = {0};
    bool first = true;
    str_add(&s, "[");
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        if (!is_graph(f)) continue;
        str_add(&s, first ? "\n  {\"path\": " : ",\n  {\"path\": ");
        str_json(&s, f->path);
        str_add(&s, ", \"doc\": ");
        str_json(&s, doc_line(a, f));
        str_add(&s, "}");
        first = false;
    }
    str_add(&s, "\n]\n");
    fputs(s.s, stdout);
    str_free(&s);
}

static void print_list(Arena *a) {
    for (const EmbeddedFile *f = embedded_files; f->path; f++)
        if (is_graph(f)) printf("%-32s %s\n", f->path, doc_line(a, f));
}

/* 1: written, 0: there already with the same content, -1: failed. */
static int write_file(Arena *a, const char *dir, const EmbeddedFile *f, Err *e) {
    const char *path = arena_printf(a, "%s/%s", dir, f->path);
    const char *folder = arena_strndup(a, path, (size_t)(strrchr(path, '/') - path));
    void *old;
    size_t n;
    if (!folder_make(folder, e)) return -1;
    if (file_exists(path)) {
        if (!file_map(path, &old, &n, e)) return -1;
        bool same = n == f->len && (!n || !memcmp(old, f->data, n));
        file_unmap(old, n);
        if (!same)
            err_fail(e, "'%s' exists and differs: graphs are not overwritten", path);
        return same ? 0 : -1;
    }
    FileOut *out = file_begin(path, e);
    if (!out) return -1;
    if (!file_put(out, f->data, f->len, e)) {
        file_abort(out);
        return -1;
    }
    return file_commit(out, e) ? 1 : -1;
}

static int copy(Arena *a, const Common *c, const char *dir, Err *e) {
    int written = 0;
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        int n = is_graph(f) ? write_file(a, dir, f, e) : 0;
        if (n < 0) return e->code;
        written += n;
    }
    if (!c->quiet) fprintf(stderr, "%d files written to %s\n", written, dir);
    return EXIT_DONE;
}

/* name: a path as `list` has it, with or without .yaml, or the last part of one. */
static bool is_called(Arena *a, const EmbeddedFile *f, const char *name) {
    const char *path = arena_strndup(a, f->path, strlen(f->path) - strlen(".yaml"));
    return !strcmp(f->path, name) || !strcmp(path, name) ||
           !strcmp(strchr(path, '/') + 1, name);
}

static int show(Arena *a, const char *name, Err *e) {
    const EmbeddedFile *found = NULL;
    const char **names = NULL;
    int n = 0, cap = 0;
    for (const EmbeddedFile *f = embedded_files; f->path; f++) {
        if (!is_graph(f)) continue;
        const char *last = strchr(f->path, '/') + 1;
        PUSH(a, names, n, cap, arena_strndup(a, last, strlen(last) - strlen(".yaml")));
        if (!is_called(a, f, name)) continue;
        if (found) {
            err_usage(e, "graphs: '%s' is '%s' and '%s': say which", name, found->path,
                      f->path);
            return EXIT_MISUSE;
        }
        found = f;
    }
    PUSH(a, names, n, cap, NULL);
    if (!found) {
        err_usage(e, "graphs: no '%.60s'%s", name, did_you_mean(a, name, names));
        return EXIT_MISUSE;
    }
    fwrite(found->data, 1, found->len, stdout);
    return EXIT_DONE;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)opts, (void)given;
    const char *what = words->word[0];
    const bool list = !strcmp(what, "list") && words->n == 1;
    const bool one = !strcmp(what, "show") && words->n == 2;
    if (!list && !one && (strcmp(what, "copy") || words->n != 2)) {
        err_usage(e, "graphs: want 'list', 'show NAME' or 'copy DIR'");
        return EXIT_MISUSE;
    }
    Arena *a = arena_new();
    int code = EXIT_DONE;
    if (one)
        code = show(a, words->word[1], e);
    else if (!list)
        code = copy(a, c, words->word[1], e);
    else if (c->json)
        print_json(a);
    else
        print_list(a);
    arena_free(a);
    return code;
}

static const Opt options[] = {OPT_END};
const Command cmd_graphs = {
    .name = "graphs",
    .args = "list | show NAME | copy DIR",
    .doc = "Lists the graph files inside the program, shows one, or writes them to a "
           "folder.",
    .options = options,
    .min_words = 1,
    .max_words = 2,
    .run = run,
};
