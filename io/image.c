/* Pictures from files: content decides what a file is, never its name. Every size is
 * checked against IMAGE_PIXELS_MAX before memory is taken. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/data.h"
#include "io/file.h"
#include "io/image_format.h"

static const ImageFormat *const formats[] = {&image_png, &image_jpeg, &image_webp,
                                             &image_bmp};

bool why_set(Why *why, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(why->text, sizeof why->text, fmt, args);
    va_end(args);
    return false;
}

static const ImageFormat *find_format(Bytes f) {
    for (size_t i = 0; i < COUNT(formats); i++)
        if (formats[i]->is(f)) return formats[i];
    return NULL;
}

static bool measure(Bytes f, const ImageFormat *format, int *w, int *h, Why *why) {
    if (!f.n) return why_set(why, "the file is empty");
    if (!format) return why_set(why, "neither PNG nor JPEG nor WebP nor BMP");
    if (!format->size(f, w, h, why)) return false;
    int64_t pixels = (int64_t)*w * *h;
    if (pixels > IMAGE_PIXELS_MAX)
        return why_set(why, "%d x %d are %lld pixels, at most %d are allowed", *w, *h,
                       (long long)pixels, IMAGE_PIXELS_MAX);
    return true;
}

static bool image_new(Image *out, int w, int h, Why *why) {
    *out = (Image){w, h, calloc((size_t)w * (size_t)h, 3)};
    return out->rgb || why_set(why, "out of memory for %d x %d pixels", w, h);
}

bool image_parse(Bytes f, Image *out, Why *why) {
    const ImageFormat *format = find_format(f);
    int w, h;
    if (!measure(f, format, &w, &h, why) || !image_new(out, w, h, why)) return false;
    if (format->decode(f, w, h, out->rgb, why)) return true;
    image_free(out);
    return false;
}

static bool parse_alpha(Bytes f, Image *out, Why *why) {
    const ImageFormat *format = find_format(f);
    int w, h;
    if (!measure(f, format, &w, &h, why) || !image_new(out, w, h, why)) return false;
    size_t n = (size_t)w * (size_t)h;
    memset(out->rgb, 255, 3 * n);
    if (!format->rgba) return true;
    uint8_t *rgba = calloc(n, 4);
    bool ok = rgba ? format->rgba(f, w, h, rgba, why)
                   : why_set(why, "out of memory for %d x %d pixels", w, h);
    for (size_t i = 0; ok && i < n; i++) memset(out->rgb + 3 * i, rgba[4 * i + 3], 3);
    free(rgba);
    if (!ok) image_free(out);
    return ok;
}

/* The map of a file; the reason of a failure without its name. */
static bool map_image(const char *path, Bytes *f, Why *why) {
    void *map = NULL;
    Err e = {0};
    if (!file_map(path, &map, &f->n, &e)) {
        struct stat is;
        return why_set(why, "%s",
                       stat(path, &is) ? strerror(errno) : "cannot be opened");
    }
    f->b = map;
    return true;
}

bool image_probe(const char *path, int *w, int *h, Why *why) {
    Bytes f;
    if (!map_image(path, &f, why)) return false;
    bool ok = measure(f, find_format(f), w, h, why);
    file_unmap((void *)(uintptr_t)f.b, f.n);
    return ok;
}

bool image_size(const char *path, int *w, int *h, Err *e) {
    Why why;
    return image_probe(path, w, h, &why) ||
           err_fail(e, "cannot read image '%s': %s", path, why.text);
}

static bool read_as(const char *path, bool (*parse)(Bytes, Image *, Why *), Image *out,
                    Err *e) {
    Bytes f;
    Why why;
    *out = (Image){0};
    bool ok = map_image(path, &f, &why);
    if (ok) {
        ok = parse(f, out, &why);
        file_unmap((void *)(uintptr_t)f.b, f.n);
    }
    return ok || err_fail(e, "cannot read image '%s': %s", path, why.text);
}

bool image_read(const char *path, Image *out, Err *e) {
    return read_as(path, image_parse, out, e);
}

bool image_read_alpha(const char *path, Image *out, Err *e) {
    return read_as(path, parse_alpha, out, e);
}

void image_free(Image *im) {
    free(im->rgb);
    *im = (Image){0};
}
