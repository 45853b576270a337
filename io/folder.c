/* Folders that appear whole or not at all. The new one is filled under a temporary name; a
 * folder that has the final name already is exchanged with it by one call of the kernel, so
 * that at every moment one of the two is there, complete.
 *
 * Who is asked to end meanwhile (SIGINT, SIGTERM, SIGHUP) ends when the folder has its name
 * or is removed again. What a killed program could not remove, the next one that writes
 * beside it does: a temporary name is locked by its writer as long as that lives. */
#define _GNU_SOURCE /* renameat2 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"

struct FolderOut {
    Arena *arena;
    const char *path, *above, *temporary;
    bool replace;
    int lock;      /* the temporary folder, opened */
    sigset_t held; /* signals that wait until the folder is done */
};

/* A lock of another machine may not be seen on a shared disk: what changed a short while ago
 * is left alone in any case. */
enum { MOST_TRIES = 100, STALE_SECONDS = 3600 };

static bool failed(Err *e, const char *doing, const char *path) {
    return err_fail(e, "cannot %s '%s': %s", doing, path, strerror(errno));
}

/* ---- signals ---- */

/* The signal that came while a folder was written. Blocking them would not do: a library's
 * own threads would take them. */
static volatile sig_atomic_t came;

static void note(int signal_number) {
    came = signal_number;
}

/* Those that would end the program at once; what has a handler already stays as it is. */
static void hold_signals(sigset_t *held) {
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction wait = {.sa_handler = note, .sa_flags = SA_RESTART};
    came = 0;
    for (size_t i = 0; i < COUNT(ending); i++) {
        struct sigaction is;
        if (sigaction(ending[i], NULL, &is) || is.sa_handler != SIG_DFL) continue;
        if (!sigaction(ending[i], &wait, NULL)) sigaddset(held, ending[i]);
    }
}

static void release_signals(const sigset_t *held) {
    for (int i = 1; i < NSIG; i++)
        if (sigismember(held, i) == 1) signal(i, SIG_DFL);
    const int last = came;
    if (last && sigismember(held, last) == 1) raise(last);
}

bool folder_stopped(const FolderOut *f) {
    return came && sigismember(&f->held, came) == 1;
}

/* ---- temporary names ---- */

const char *temporary_name(Arena *a, const char *folder, int number) {
    return arena_printf(a, "%s/.graphrun-%ld-%d.tmp", folder, (long)getpid(), number);
}

static int remove_entry(const char *path, const struct stat *st, int kind,
                        struct FTW *at) {
    (void)st, (void)kind, (void)at;
    return remove(path);
}

/* A folder of this program's own making with all that is in it. */
static void remove_own(const char *path) {
    enum { FILES_OPEN = 8 };
    nftw(path, remove_entry, FILES_OPEN, FTW_DEPTH | FTW_PHYS);
}

static bool is_temporary(const char *name) {
    long process;
    int number, used = 0;
    return sscanf(name, ".graphrun-%ld-%d.tmp%n", &process, &number, &used) == 2 &&
           used && !name[used];
}

void folder_sweep(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *x; d && (x = readdir(d));) {
        if (!is_temporary(x->d_name)) continue;
        struct stat st;
        const int fd = openat(dirfd(d), x->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && !fstat(fd, &st) && time(NULL) - st.st_mtime > STALE_SECONDS &&
            !flock(fd, LOCK_EX | LOCK_NB)) {
            Arena *a = arena_new();
            remove_own(arena_printf(a, "%s/%s", path, x->d_name));
            arena_free(a);
        }
        if (fd >= 0) close(fd);
    }
    if (d) closedir(d);
}

/* ---- writing ---- */

static bool is_empty(const char *path) {
    DIR *d = opendir(path);
    bool empty = d != NULL;
    for (struct dirent *x; empty && (x = readdir(d));)
        empty = !strcmp(x->d_name, ".") || !strcmp(x->d_name, "..");
    if (d) closedir(d);
    return empty;
}

static bool make_temporary(FolderOut *f) {
    int wrong = -1;
    for (int i = 0; wrong && i < MOST_TRIES; i++) {
        f->temporary = temporary_name(f->arena, f->above, i);
        wrong = mkdir(f->temporary, 0777);
        if (wrong && errno != EEXIST) break;
    }
    if (wrong) return false;
    f->lock = open(f->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock >= 0) flock(f->lock, LOCK_EX | LOCK_NB); /* not every disk has locks */
    return true;
}

/* Frees f; a signal that came meanwhile ends the program here. */
static void finish(FolderOut *f) {
    const sigset_t held = f->held;
    if (f->lock >= 0) close(f->lock);
    arena_free(f->arena);
    release_signals(&held);
}

/* A folder inside is not ours: what replaces a folder of files would remove it. */
static bool holds_folder(const char *path) {
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *x; d && !found && (x = readdir(d));) {
        struct stat st;
        found = strcmp(x->d_name, ".") && strcmp(x->d_name, "..") &&
                !fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
                S_ISDIR(st.st_mode);
    }
    if (d) closedir(d);
    return found;
}

static bool may_write(const char *path, bool replace, Err *e) {
    if (file_exists(path))
        return err_fail(e, "cannot make the folder '%s': it is a file", path);
    if (replace && holds_folder(path))
        return err_fail(e, "cannot replace the folder '%s': there are folders in it",
                        path);
    return replace || !folder_exists(path) || is_empty(path) ||
           err_fail(e, "cannot make the folder '%s': it is there and not empty", path);
}

FolderOut *folder_begin(const char *path, bool replace, Err *e) {
    Arena *a = arena_new();
    FolderOut *f = NEW(a, FolderOut, 1);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    *f = (FolderOut){a, arena_strndup(a, path, n), ".", NULL, replace, -1, {{0}}};
    sigemptyset(&f->held);
    const char *slash = strrchr(f->path, '/');
    if (slash)
        f->above = slash == f->path
                       ? "/"
                       : arena_strndup(a, f->path, (size_t)(slash - f->path));
    if (may_write(f->path, replace, e) && folder_make(f->above, e)) {
        folder_sweep(f->above);
        hold_signals(&f->held);
        if (make_temporary(f)) return f;
        failed(e, "write", f->path);
        finish(f);
        return NULL;
    }
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
    remove_own(f->temporary);
    finish(f);
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
    if (!f->replace || (errno != ENOTEMPTY && errno != EEXIST)) return false;
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
    finish(f);
    return ok;
}
