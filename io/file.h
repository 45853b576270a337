/* Files that appear whole or not at all, read-only maps, folders. */
#ifndef GRAPHRUN_FILE_H
#define GRAPHRUN_FILE_H
#include "graph/base/base.h"

/* A file being written in the folder of `path`, without a name where the file system can do
 * that (a killed program leaves nothing), else under a temporary one. file_commit makes it
 * `path` (fsync, rename, fsync of the folder) or removes it on failure; file_abort removes
 * it. Both free f. Until then nothing at `path` has changed. */
typedef struct FileOut FileOut;
FileOut *file_begin(const char *path, Err *e);
bool file_put(FileOut *f, const void *data, size_t n, Err *e);
bool file_commit(FileOut *f, Err *e);
void file_abort(FileOut *f);

/* Maps a regular file read-only; an empty one gives NULL and 0. */
bool file_map(const char *path, void **map, size_t *n, Err *e);
void file_unmap(void *map, size_t n);
/* A file as a text for messages, in a. kind: "a JSON file", for the message of a file of
 * more than `most` bytes. NULL: it cannot be read. */
const Source *file_source(Arena *a, const char *path, size_t most, const char *kind,
                          Err *e);
/* Bytes [p, p + n) of a map are not needed soon: their pages no longer count as this
 * process's memory; reading them again works. What lies outside the map is left alone. */
void file_forget(const void *map, size_t map_bytes, const void *p, size_t n);
/* The pages of a map that lie wholly in [data, data + n) leave memory until they are read
 * again. What is outside the map is left alone. */
void file_release(void *map, size_t map_bytes, const void *data, size_t n);

bool folder_exists(const char *path);
/* Names in a folder that do not start with a dot, sorted by bytes; in a. */
bool folder_list(Arena *a, const char *path, const char ***name, int *n, Err *e);
bool file_exists(const char *path); /* a regular file */
/* Makes a folder and those above it, as far as missing. */
bool folder_make(const char *path, Err *e);
/* The names of the entries of a file system's folder are on the disk. */
bool folder_sync(const char *path);

/* A folder that appears whole or not at all (io/folder.c): files are written into
 * folder_place(), a folder with a temporary name beside `path`, which may have folders in it.
 * folder_commit makes it `path`. `replace`: a folder of plain files that stands there is
 * exchanged in one step, then removed; else one that is not empty is an error from the
 * start. folder_abort removes the new one. Both free f. The folders above are made. One at a
 * time: meanwhile SIGINT, SIGTERM and SIGHUP wait, where they would end the program. */
typedef struct FolderOut FolderOut;
FolderOut *folder_begin(const char *path, bool replace, Err *e);
const char *folder_place(const FolderOut *f);
bool folder_commit(FolderOut *f, Err *e);
void folder_abort(FolderOut *f);
/* A signal that ends the program waits for the folder: give up now, with folder_abort. */
bool folder_stopped(const FolderOut *f);
/* Removes the temporary files and folders that killed programs left in a folder. */
void folder_sweep(const char *path);
/* FOLDER/.graphrun-PROCESS-NUMBER.tmp, in a. */
const char *temporary_name(Arena *a, const char *folder, int number);
/* Removes a folder and the plain files in it. One with folders in it stays: an error. */
bool folder_remove(const char *path, Err *e);
#endif
