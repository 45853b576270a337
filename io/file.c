/* Writing without half-written files: everything goes to a temporary file in the same
 * folder, which takes the final name only when its bytes are on the disk. */
#define _GNU_SOURCE /* O_TMPFILE */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/tensors.h"

struct FileOut {
    Arena *arena;
    const char *path, *folder;
    const char *temporary; /* NULL: it has no name yet */
    FILE *out;
};

enum { BUFFER_BYTES = 1 << 20, MOST_TRIES = 100 };

static bool failed(Err *e, const char *doing, const char *path) {
    return err_fail(e, "cannot %s '%s': %s", doing, path, strerror(errno));
}

static const char *folder_of(Arena *a, const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    return slash == path ? "/" : arena_strndup(a, path, (size_t)(slash - path));
}

/* What the open file is called until it has a name. */
static const char *name_of(Arena *a, int fd) {
    return arena_printf(a, "/proc/self/fd/%d", fd);
}

/* A file without a name, which is gone with the program; -1: not on this file system. */
static int open_nameless(FileOut *f) {
    int fd = open(f->folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (fd < 0 || !access(name_of(f->arena, fd), F_OK)) return fd;
    close(fd);
    return -1;
}

/* The temporary name does not grow with the file's own: that one may be as long as the
 * file system allows. */
static int open_temporary(FileOut *f) {
    int fd = open_nameless(f);
    for (int i = 0; fd < 0 && i < MOST_TRIES; i++) {
        f->temporary = temporary_name(f->arena, f->folder, i);
        fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd < 0 && errno != EEXIST) break;
        if (fd >= 0) flock(fd, LOCK_EX | LOCK_NB); /* see folder_sweep */
    }
    return fd;
}

/* A new name does not replace a file, so it is the temporary one, which is renamed. */
static bool give_name(FileOut *f) {
    const char *from = name_of(f->arena, fileno(f->out));
    for (int i = 0; !f->temporary && i < MOST_TRIES; i++) {
        const char *to = temporary_name(f->arena, f->folder, i);
        if (!linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW))
            f->temporary = to;
        else if (errno != EEXIST)
            break;
    }
    return f->temporary != NULL;
}

FileOut *file_begin(const char *path, Err *e) {
    if (folder_exists(path)) {
        err_fail(e, "cannot write '%s': it is a folder", path);
        return NULL;
    }
    Arena *a = arena_new();
    FileOut *f = NEW(a, FileOut, 1);
    f->arena = a;
    f->path = arena_strdup(a, path);
    f->folder = folder_of(a, path);
    int fd = open_temporary(f);
    f->out = fd < 0 ? NULL : fdopen(fd, "wb");
    if (f->out) {
        setvbuf(f->out, NULL, _IOFBF, BUFFER_BYTES);
        return f;
    }
    failed(e, "write", path);
    if (fd >= 0) {
        close(fd);
        if (f->temporary) unlink(f->temporary);
    }
    arena_free(a);
    return NULL;
}

bool file_put(FileOut *f, const void *data, size_t n, Err *e) {
    return !n || fwrite(data, 1, n, f->out) == n || failed(e, "write", f->path);
}

void file_abort(FileOut *f) {
    if (!f) return;
    if (f->out) fclose(f->out);
    if (f->temporary) unlink(f->temporary);
    arena_free(f->arena);
}

/* Without this the new name itself could be lost when the machine stops. */
bool folder_sync(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = !fsync(fd) || errno == EINVAL; /* some file systems have no such thing */
    close(fd);
    return ok;
}

bool file_commit(FileOut *f, Err *e) {
    bool ok = !fflush(f->out) && !fsync(fileno(f->out)) && give_name(f);
    int why = errno;
    if (fclose(f->out) && ok) {
        ok = false;
        why = errno;
    }
    f->out = NULL;
    if (ok && rename(f->temporary, f->path)) {
        ok = false;
        why = errno;
    }
    if (!ok) {
        errno = why;
        failed(e, "write", f->path);
        file_abort(f);
        return false;
    }
    ok = folder_sync(f->folder) || failed(e, "sync the folder of", f->path);
    arena_free(f->arena);
    return ok;
}

bool file_write(const char *path, const void *data, size_t n, Err *e) {
    FileOut *f = file_begin(path, e);
    if (!f) return false;
    if (file_put(f, data, n, e)) return file_commit(f, e);
    file_abort(f);
    return false;
}

bool file_map(const char *path, void **map, size_t *n, Err *e) {
    *map = NULL;
    *n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return failed(e, "open", path);
    struct stat st;
    if (fstat(fd, &st)) {
        close(fd);
        return failed(e, "open", path);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return err_fail(e, "cannot open '%s': not a regular file", path);
    }
    *n = (size_t)st.st_size;
    void *p = *n ? mmap(NULL, *n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int why = errno;
    close(fd);
    errno = why;
    if (p == MAP_FAILED) return failed(e, "map", path);
    *map = p;
    return true;
}

void file_unmap(void *map, size_t n) {
    if (map) munmap(map, n);
}

const Source *file_source(Arena *a, const char *path, size_t most, const char *kind,
                          Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return NULL;
    if (n > most) {
        file_unmap(map, n);
        err_fail(e, "'%s' is too long for %s: %zu bytes, at most %zu", path, kind, n,
                 most);
        return NULL;
    }
    Source *src = NEW(a, Source, 1);
    *src = (Source){arena_strdup(a, path), n ? arena_strndup(a, map, n) : "", n};
    file_unmap(map, n);
    return src;
}

void file_release(void *map, size_t map_bytes, const void *data, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data;
    const uintptr_t start = (uintptr_t)map, end = start + map_bytes;
    if (!map || from < start || from > end || n > end - from) return;
    const uintptr_t first = (from + page - 1) / page * page,
                    last = (from + n) / page * page;
    if (last > first) madvise((void *)first, last - first, MADV_DONTNEED);
}

void file_forget(const void *map, size_t map_bytes, const void *p, size_t n) {
    uintptr_t from = (uintptr_t)p, first = (uintptr_t)map;
    if (!map || from < first || from - first > map_bytes ||
        n > map_bytes - (from - first))
        return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = from / page * page, stop = (from + n) / page * page;
    if (stop > start) madvise((void *)start, stop - start, MADV_DONTNEED);
}

bool folder_exists(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

bool file_exists(const char *path) {
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

bool folder_make(const char *path, Err *e) {
    Arena *a = arena_new();
    char *part = arena_strdup(a, path);
    bool ok = true;
    for (char *p = part + 1; ok && *part; p++) {
        if (*p && *p != '/') continue;
        char keep = *p;
        *p = 0;
        if (mkdir(part, 0777) && !(errno == EEXIST && folder_exists(part)))
            ok = failed(e, "make the folder", part);
        if (!keep) break;
        *p = keep;
    }
    arena_free(a);
    return ok;
}
