/* NumPy's formats: .npy (a header that is the text of a Python dictionary, then the
 * numbers) and .npz. */
#include "io/npz.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "graph/type.h"
#include "io/file.h"
#include "io/zip.h"

enum { HEADER_MAX = 1 << 16, SIDE_MAX = 1 << 20 };

/* ---- .npy ---- */
/* The text behind 'key': in the header. */
static const char *entry(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (!at) return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':') at++;
    return at;
}

static bool parse_shape(const char *s, NpyArray *out) {
    if (!s || *s++ != '(') return false;
    out->rank = 0;
    for (;;) {
        while (*s == ' ' || *s == ',') s++;
        if (*s == ')') return out->rank > 0;
        char *end;
        long long x = strtoll(s, &end, 10);
        if (end == s || x < 1 || x > SIDE_MAX || out->rank == 4) return false;
        out->dim[out->rank++] = x;
        s = end;
    }
}

/* Bytes of the elements, each factor being below 2^20 and there being four: no overflow
 * before the first product above the file's own size. */
static bool fits(const NpyArray *x, size_t n) {
    uint64_t bytes = (uint64_t)x->bytes;
    for (int i = 0; i < x->rank; i++) {
        bytes *= (uint64_t)x->dim[i];
        if (bytes > n) return false;
    }
    return true;
}

bool npy_parse(const void *bytes, size_t n, NpyArray *out, const char **why) {
    const uint8_t *b = bytes;
    *why = "it is no NumPy array";
    if (n < 12 || memcmp(b, "\x93NUMPY", 6)) return false;
    size_t from = b[6] == 1 ? 10 : 12;
    size_t len = (size_t)b[8] | (size_t)b[9] << 8;
    if (b[6] != 1) len |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (b[6] < 1 || b[6] > 3 || len > HEADER_MAX || len > n - from) return false;
    char *header = malloc(len + 1);
    if (!header) return false;
    memcpy(header, b + from, len);
    header[len] = 0;
    const char *type = entry(header, "'descr'"),
               *order = entry(header, "'fortran_order'");
    bool ok = type && order && !strncmp(order, "False", 5) &&
              parse_shape(entry(header, "'shape'"), out);
    out->bytes = !ok                          ? 0
                 : !strncmp(type, "'<f4'", 5) ? 4
                 : !strncmp(type, "'<f2'", 5) ? 2
                                              : 0;
    free(header);
    out->data = b + from + len;
    if (ok) *why = "its numbers are neither float32 nor float16";
    if (!out->bytes) return false;
    *why = "it is cut off";
    return fits(out, n - from - len);
}

/* ---- latents ---- */
static const char *stem_of(Arena *a, const char *image) {
    const char *slash = strrchr(image, '/'), *name = slash ? slash + 1 : image;
    const char *dot = strrchr(name, '.');
    return arena_strndup(a, image,
                         dot && dot > name ? (size_t)(dot - image) : strlen(image));
}

/* The file now used beside a picture: the older name goes first, as in sd-scripts. */
static const char *file_of(Arena *a, const char *image, int w, int h) {
    const char *stem = stem_of(a, image), *path = arena_printf(a, "%s.npz", stem);
    return file_exists(path) ? path
                             : arena_printf(a, "%s_%04dx%04d_sd.npz", stem, w, h);
}

bool npz_exists(const char *image, int w, int h) {
    Arena *a = arena_new();
    bool there = file_exists(file_of(a, image, w, h));
    arena_free(a);
    return there;
}

/* [4,h,w] -> [h,w,4] */
static bool copy_latents(const NpyArray *x, int w, int h, float *out,
                         const char **why) {
    *why = "they are not finite";
    size_t plane = (size_t)w * (size_t)h;
    for (size_t c = 0; c < 4; c++) {
        for (size_t i = 0; i < plane; i++) {
            float v;
            uint16_t half;
            size_t at = c * plane + i;
            if (x->bytes == 4) {
                memcpy(&v, (const char *)x->data + 4 * at, 4);
            } else {
                memcpy(&half, (const char *)x->data + 2 * at, 2);
                v = half_to_float(half);
            }
            if (!isfinite(v)) return false;
            out[4 * i + c] = v;
        }
    }
    return true;
}

static bool read_member(Arena *a, Zip *z, const char *name, int w, int h, float *out,
                        const char **why) {
    const ZipEntry *x = zip_find(z, name);
    const void *data;
    NpyArray array;
    Err e = {0};
    if (!x) {
        *why = arena_printf(a, "it has no '%s'", name);
        return false;
    }
    if (!zip_data(z, x, &data, &e)) {
        *why = arena_strdup(a, e.text);
        return false;
    }
    if (!npy_parse(data, x->bytes, &array, why)) return false;
    if (array.rank != 3 || array.dim[0] != 4 || array.dim[1] != h ||
        array.dim[2] != w) {
        *why = arena_printf(
            a, "it is for another size: got [%lld,%lld,%lld], want [4,%d,%d]",
            (long long)array.dim[0], array.rank > 1 ? (long long)array.dim[1] : 0LL,
            array.rank > 2 ? (long long)array.dim[2] : 0LL, h, w);
        return false;
    }
    return copy_latents(&array, w, h, out, why);
}

/* Without member names (2023) there is one array, arr_0. */
static bool read_file(Arena *a, const char *path, const char *member, int w, int h,
                      float *out, const char **why) {
    void *map;
    size_t n;
    Err e = {0};
    if (!file_map(path, &map, &n, &e)) {
        *why = "there is no .npz beside it";
        return false;
    }
    Zip z = {.arena = a, .path = path};
    bool ok = zip_parse(&z, map, n, &e);
    if (!ok)
        *why = arena_strdup(a, e.text);
    else if (!zip_find(&z, member) && !strcmp(member, "latents.npy") &&
             zip_find(&z, "arr_0.npy"))
        ok = read_member(a, &z, "arr_0.npy", w, h, out, why);
    else
        ok = read_member(a, &z, member, w, h, out, why);
    file_unmap(map, n);
    return ok;
}

/* A picture changed after its latents were stored is not what they show. */
static bool newer(const char *image, const char *npz) {
    struct stat i, n;
    return !stat(image, &i) && !stat(npz, &n) && i.st_mtime > n.st_mtime;
}

bool npz_latents(Arena *a, const char *image, int image_w, int image_h, bool mirrored,
                 int w, int h, float *out, const char **why) {
    const char *path = file_of(a, image, image_w, image_h);
    const char *flip = arena_printf(a, "%s_flip.npz", stem_of(a, image));
    bool apart = mirrored && file_exists(flip);
    if (apart) path = flip;
    if (newer(image, path)) {
        *why = "the picture is newer than they are";
        return false;
    }
    return read_file(a, path,
                     mirrored && !apart ? "latents_flipped.npy" : "latents.npy", w, h,
                     out, why);
}
