/* For tests that run the program on tensors: a folder, files in it, numbers out of it.
 * Everything lives in `arena`; a failure to prepare ends the test. */
#ifndef GRAPHRUN_TESTS_PROGRAM_H
#define GRAPHRUN_TESTS_PROGRAM_H
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/tensors.h"
#include "tests/check.h"

static Arena *arena;
static const char *program;
static char folder[] = "/tmp/graphrun-test-XXXXXX";

static inline void must(bool ok, const char *what, const Err *e) {
    if (ok) return;
    fprintf(stderr, "%s: %s\n", what, e ? e->text : "");
    exit(1);
}

static inline void program_start(const char *path) {
    arena = arena_new();
    program = path;
    must(mkdtemp(folder) != NULL, folder, NULL);
}

static inline int program_end(const char *name) {
    char *clean = arena_printf(arena, "rm -r '%s'", folder);
    CHECK(system(clean) == 0, "cannot remove %s", folder);
    int status = check_done(name);
    arena_free(arena);
    return status;
}

static inline const char *in_folder(const char *name) {
    return arena_printf(arena, "%s/%s", folder, name);
}

/* Runs the program on words separated by spaces; its stdout and stderr go to the files
 * `out` and `err` of the folder. */
static inline int run(const char *format, ...) {
    char line[4096];
    const char *argv[128] = {program};
    int n = 1;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *p = strtok(line, " "); p && n < 127; p = strtok(NULL, " "))
        argv[n++] = p;
    pid_t child = fork();
    if (!child) {
        dup2(open(in_folder("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
        dup2(open(in_folder("err"), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
        execv(program, (char *const *)argv);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A whole file, NUL behind it. */
static inline char *slurp(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    must(f != NULL, path, NULL);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    must(size >= 0, path, NULL);
    rewind(f);
    char *data = arena_alloc(arena, (size_t)size + 1, 1);
    must(fread(data, 1, (size_t)size, f) == (size_t)size, path, NULL);
    fclose(f);
    if (n) *n = (size_t)size;
    return data;
}

static inline TensorFile *open_tensors(const char *path) {
    Err e = {0};
    TensorFile *t = safetensors_open(path, &e);
    must(t != NULL, path, &e);
    return t;
}

static inline const TensorEntry *tensor(TensorFile *f, const char *name) {
    const TensorEntry *t = tensors_find(f, name);
    must(t != NULL, name, NULL);
    return t;
}

/* Element i (files may be unaligned). */
static inline double at(const TensorEntry *t, int64_t i) {
    size_t n = dtype_size(t->type.dtype);
    uint64_t raw = 0;
    double x;
    memcpy(&raw, (const char *)t->data + n * (size_t)i, n);
    convert(&x, F64, &raw, t->type.dtype, 1);
    return x;
}

/* |a - b| / |b| */
static inline double rel_l2(const TensorEntry *a, const TensorEntry *b) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < type_count(&b->type); i++) {
        d += (at(a, i) - at(b, i)) * (at(a, i) - at(b, i));
        s += at(b, i) * at(b, i);
    }
    return sqrt(d / s);
}

/* ---- tensors for an inputs file ---- */
typedef struct Tensors {
    TensorOut item[48];
    int n;
} Tensors;

static inline TensorOut *give(Tensors *l, const char *name, Type type,
                              const void *data) {
    must(l->n < 32, "too many tensors", NULL);
    l->item[l->n] = (TensorOut){name, type, data};
    return &l->item[l->n++];
}

static inline void give_from(Tensors *l, const char *name, TensorFile *f,
                             const char *of) {
    const TensorEntry *t = tensor(f, of);
    give(l, name, t->type, t->data);
}

static inline const char *write_tensors(const Tensors *l, const char *name) {
    Err e = {0};
    const char *path = in_folder(name);
    must(safetensors_write(path, l->item, l->n, NULL, 0, &e), path, &e);
    return path;
}
#endif
