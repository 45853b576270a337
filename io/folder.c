/* Folders of plain files that appear whole or not at all. The new one is filled under a
 * temporary name; a folder that has the final name already is exchanged with it by one call
 * of the kernel, so that at every moment one of the two is there, complete. */
#define _GNU_SOURCE /* renameat2 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"

struct FolderOut {
    Arena *arena;
    const char *path, *above, *temporary;
};

enum { MOST_TRIES = 100 };

static bool failed(Err *e, const char *doing, const char *path) {
    return err_fail(e, "cannot %s '%s': %s", doing, path, strerror(errno));
}

FolderOut *folder_begin(const char *path, Err *e) {
    Arena *a = arena_new();
    FolderOut *f = NEW(a, FolderOut, 1);
    const char *slash = strrchr(path, '/');
    size_t n = slash == path ? 1 : slash ? (size_t)(slash - path) : 0;
    *f = (FolderOut){a, arena_strdup(a, path), n ? arena_strndup(a, path, n) : ".",
                     NULL};
    int wrong = -1;
    for (int i = 0; wrong && i < MOST_TRIES; i++) {
        f->temporary =
            arena_printf(a, "%s/.graphrun-%ld-%d.tmp", f->above, (long)getpid(), i);
        wrong = mkdir(f->temporary, 0777);
        if (wrong && errno != EEXIST) break;
    }
    if (!wrong) return f;
    failed(e, "write", path);
    arena_free(a);
    return NULL;
}

static int by_bytes(const void *x, const void *y) {
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

bool folder_list(Arena *a, const char *path, const char ***name, int *n, Err *e) {
    DIR *dir = opendir(path);
    if (!dir) return err_fail(e, "cannot open the folder '%s'", path);
    int cap = 0;
    *name = NULL, *n = 0;
    for (struct dirent *f; (f = readdir(dir));)
        if (f->d_name[0] != '.') PUSH(a, *name, *n, cap, arena_strdup(a, f->d_name));
    closedir(dir);
    if (*n) qsort(*name, (size_t)*n, sizeof **name, by_bytes);
    return true;
}

const char *folder_place(const FolderOut *f) {
    return f->temporary;
}

bool folder_remove(const char *path, Err *e) {
    DIR *d = opendir(path);
    if (!d) return failed(e, "remove", path);
    bool ok = true;
    for (struct dirent *x; ok && (x = readdir(d));)
        if (strcmp(x->d_name, ".") && strcmp(x->d_name, ".."))
            ok = !unlinkat(dirfd(d), x->d_name, 0);
    int why = errno;
    closedir(d);
    errno = why;
    return (ok && !rmdir(path)) || failed(e, "remove", path);
}

void folder_abort(FolderOut *f) {
    if (!f) return;
    Err ignored = {0};
    folder_remove(f->temporary, &ignored);
    arena_free(f->arena);
}

/* Where the file system cannot exchange names, the old folder steps aside first. */
static bool step_aside(FolderOut *f) {
    const char *old = arena_printf(f->arena, "%s.old", f->temporary);
    if (rename(f->path, old)) return false;
    if (!rename(f->temporary, f->path)) {
        f->temporary = old;
        return true;
    }
    int why = errno;
    rename(old, f->path);
    errno = why;
    return false;
}

/* The new folder gets its name; f->temporary is then the old one, or nothing. */
static bool take_name(FolderOut *f, bool *replaced) {
    *replaced = false;
    if (!rename(f->temporary, f->path))
        return true; /* no or an empty folder was there */
    if (errno != ENOTEMPTY && errno != EEXIST) return false;
    *replaced = true;
    return !renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->path, RENAME_EXCHANGE) ||
           ((errno == EINVAL || errno == ENOSYS) && step_aside(f));
}

bool folder_commit(FolderOut *f, Err *e) {
    bool replaced;
    if (!folder_sync(f->temporary) || !take_name(f, &replaced)) {
        failed(e, "write", f->path);
        folder_abort(f);
        return false;
    }
    bool ok = folder_sync(f->above) || failed(e, "sync the folder of", f->path);
    if (replaced) ok = folder_remove(f->temporary, e) && ok;
    arena_free(f->arena);
    return ok;
}
