/* Resizing a folder of pictures (see resize_images.h). Every file is a job of its own; one
 * that fails leaves the others alone. Two pictures whose results would have the same names
 * are refused: which of them was meant cannot be known. */
#include "runtime/resize_images.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/file.h"
#include "io/image_write.h"
#include "io/tensors.h"

typedef struct Entry {
    const char *name;
    size_t base; /* length of the name without its last extension */
    bool image;
    int copied;
    Err err;
} Entry;

typedef struct Job {
    const ResizeImages *o;
    Entry *entry; /* sorted by name */
    int n, cap;
    const char **folder;
    int n_folder, cap_folder;
} Job;

static int64_t read_side(const char **p) {
    char *end;
    while (**p == ' ') ++*p;
    if (**p < '0' || **p > '9') return 0;
    long long x = strtoll(*p, &end, 10);
    *p = end;
    return x > 0 && x <= 1000000 ? x : 0;
}

bool resolutions_parse(Arena *a, const char *text, MaxResolution **out, int *n,
                       Err *e) {
    int cap = 0;
    *out = NULL, *n = 0;
    for (const char *p = text;; p++) {
        while (*p == ' ') p++;
        const char *start = p, *end;
        int64_t w = read_side(&p), h = w && *p == 'x' ? (p++, read_side(&p)) : 0;
        end = p;
        while (*p == ' ') p++;
        if (!h || (*p && *p != ','))
            return err_usage(e, "--max_resolution: got '%s', want WxH,WxH,...", text);
        MaxResolution r = {arena_strndup(a, start, (size_t)(end - start)), w * h};
        PUSH(a, *out, *n, cap, r);
        if (!*p) return true;
    }
}

/* ---- which files ---- */

static bool is_image(const ResizeImages *o, const char *extension) {
    static const char *const known[] = {".png", ".jpg", ".jpeg", ".webp", ".bmp"};
    for (size_t i = 0; i < COUNT(known); i++)
        if (o->original ? !strcmp(extension, known[i])
                        : !strcasecmp(extension, known[i]))
            return true;
    return false;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const Entry *)a)->name, ((const Entry *)b)->name);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Folders are not gone into: their pictures might have the names of others. */
static void add_folder(Arena *a, Job *j, const char *name) {
    if (strcmp(name, ".") && strcmp(name, ".."))
        PUSH(a, j->folder, j->n_folder, j->cap_folder, name);
}

static bool list_files(Arena *a, Job *j, Err *e) {
    DIR *d = opendir(j->o->src);
    if (!d) return err_fail(e, "cannot read '%s': %s", j->o->src, strerror(errno));
    for (const struct dirent *x; (x = readdir(d));) {
        Entry f = {.name = arena_strdup(a, x->d_name)};
        const char *path = arena_printf(a, "%s/%s", j->o->src, f.name);
        if (folder_exists(path)) add_folder(a, j, f.name);
        if (!file_exists(path)) continue;
        const char *dot = strrchr(f.name, '.');
        f.base = dot && dot != f.name ? (size_t)(dot - f.name) : strlen(f.name);
        /* hidden files are no pictures: macOS leaves "._x.png" behind */
        f.image = dot && *f.name != '.' && is_image(j->o, f.name + f.base);
        PUSH(a, j->entry, j->n, j->cap, f);
    }
    closedir(d);
    if (!j->n)
        return err_fail(e, "'%s' holds no files%s", j->o->src,
                        j->n_folder ? ", only folders, which are left out" : "");
    if (j->n_folder) qsort(j->folder, (size_t)j->n_folder, sizeof *j->folder, by_text);
    qsort(j->entry, (size_t)j->n, sizeof *j->entry, by_name);
    return true;
}

static bool same_base(const Entry *a, const Entry *b) {
    return a->base == b->base && !memcmp(a->name, b->name, a->base);
}

static void refuse_doubles(Job *j) {
    for (int i = 0; i < j->n; i++)
        for (int k = 0; j->entry[i].image && k < i; k++)
            if (j->entry[k].image && same_base(&j->entry[i], &j->entry[k]) &&
                !j->entry[i].err.set)
                err_fail(&j->entry[i].err, "its results would overwrite those of '%s'",
                         j->entry[k].name);
}

/* ---- one file ---- */

static bool copy(const char *from, const char *to, Err *e) {
    void *map;
    size_t n;
    if (!file_map(from, &map, &n, e)) return false;
    bool ok = file_write(to, map, n, e);
    file_unmap(map, n);
    return ok;
}

/* Largest size of that area: sides scaled by the root of the areas' ratio, cut down. */
static bool shrink(Image *im, const ResizeImages *o, const MaxResolution *r, Err *e) {
    const int64_t area = (int64_t)im->w * im->h;
    int w = im->w, h = im->h;
    if (area > r->pixels) {
        const double f = sqrt((double)r->pixels / (double)area);
        w = (int)(im->w * f), h = (int)(im->h * f);
    }
    const int cut_w = w - w % o->divisible_by, cut_h = h - h % o->divisible_by;
    if (cut_w < 1 || cut_h < 1)
        return err_fail(e, "%d x %d pixels become %d x %d at %s and divisible by %d",
                        im->w, im->h, cut_w, cut_h, r->text, o->divisible_by);
    Image resized, cut;
    if (!image_resize(im, w, h, o->filter, &resized, e)) return false;
    bool ok =
        image_crop(&resized, (w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h, &cut, e);
    image_free(&resized);
    if (!ok) return false;
    image_free(im);
    *im = cut;
    return true;
}

/* "photo.txt" and "photo.tar.gz" of "photo.png", to "photo+512x512.txt" and ".gz" */
static bool copy_associated(Arena *a, const Job *j, const Entry *x, const char *stem,
                            int *copied, Err *e) {
    for (int i = 0; i < j->n; i++) {
        const Entry *f = &j->entry[i];
        if (f->image || f->base < x->base || strncmp(f->name, x->name, x->base) ||
            f->name[x->base] != '.')
            continue;
        const char *extension = strrchr(f->name, '.');
        if (is_image(j->o, extension)) continue;
        if (!copy(arena_printf(a, "%s/%s", j->o->src, f->name),
                  arena_printf(a, "%s%s", stem, extension), e))
            return false;
        ++*copied;
    }
    return true;
}

static bool resize_one(Arena *a, const Job *j, Entry *x, Image *im, Err *e) {
    const ResizeImages *o = j->o;
    for (int i = 0; i < o->n; i++) {
        if (!shrink(im, o, &o->resolution[i], e)) return false;
        const char *stem = arena_printf(a, "%s/%.*s+%s", o->dst, (int)x->base, x->name,
                                        o->resolution[i].text);
        const char *path = arena_printf(a, "%s%s", stem, o->png ? ".png" : ".jpg");
        if (!(o->png ? image_write_png(path, im, e)
                     : image_write_jpeg(path, im, 100, e)) ||
            (o->associated && !copy_associated(a, j, x, stem, &x->copied, e)))
            return false;
    }
    return true;
}

static void work(void *arg, int64_t i, void *scratch) {
    Job *j = arg;
    Entry *x = &j->entry[i];
    Arena *a = arena_new();
    (void)scratch;
    const char *path = arena_printf(a, "%s/%s", j->o->src, x->name);
    Image im = {0};
    bool ok = !x->err.set && (!x->image || image_read(path, &im, &x->err));
    if (ok && !(x->image && j->o->original)) {
        ok = copy(path, arena_printf(a, "%s/%s", j->o->dst, x->name), &x->err);
        x->copied += ok;
    }
    if (ok && x->image) resize_one(a, j, x, &im, &x->err);
    image_free(&im);
    arena_free(a);
}

/* ---- all ---- */

static bool different_folders(const ResizeImages *o, Err *e) {
    char *a = realpath(o->src, NULL), *b = realpath(o->dst, NULL);
    bool same = a && b && !strcmp(a, b);
    free(a), free(b);
    return !same || err_fail(e, "'%s' and '%s' are the same folder", o->src, o->dst);
}

bool resize_images(Arena *a, const ResizeImages *o, Device *dev, ResizedImages *out,
                   Err *e) {
    Job j = {.o = o};
    *out = (ResizedImages){0};
    if (!list_files(a, &j, e) || !folder_make(o->dst, e) || !different_folders(o, e))
        return false;
    out->folder = j.folder, out->n_folder = j.n_folder;
    refuse_doubles(&j);
    dev->par(dev, j.n, work, &j);
    out->bad = NEW(a, const char *, j.n);
    out->reason = NEW(a, const char *, j.n);
    for (int i = 0; i < j.n; i++) {
        const Entry *x = &j.entry[i];
        out->copied += x->copied;
        out->images += x->image && !x->err.set;
        if (!x->err.set) continue;
        out->bad[out->n_bad] = x->name;
        out->reason[out->n_bad++] = arena_strdup(a, x->err.text);
    }
    return true;
}
