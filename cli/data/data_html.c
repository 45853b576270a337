/* The contact sheet of `graphrun data --html`: cli/data/data.html, embedded, with the report's
 * JSON in it and every drawn picture as it is trained: cut, coloured, mirrored; what a mask
 * leaves out is dark. */
#include <math.h>
#include <stdlib.h>

#include "cli/data/data.h"
#include "cli/html.h"
#include "io/image_write.h"

enum { LONG_SIDE = 256, QUALITY = 85, CELL = 8 };

static void put_base64(Str *s, const uint8_t *b, size_t n) {
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)b[i] << 16;
        if (i + 1 < n) v |= (uint32_t)b[i + 1] << 8;
        if (i + 2 < n) v |= b[i + 2];
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63],
                       i + 1 < n ? digits[v >> 6 & 63] : '=',
                       i + 2 < n ? digits[v & 63] : '='};
        str_addn(s, out, 4);
    }
}

/* -1 … 1 back to bytes, darkened where the mask is 0. */
static void to_bytes(Image *im, const float *pixels, const float *mask) {
    for (int y = 0; y < im->h; y++)
        for (int x = 0; x < im->w; x++) {
            float light = 0.3f + 0.7f * mask[y / CELL * (im->w / CELL) + x / CELL];
            for (int c = 0; c < 3; c++) {
                size_t at = ((size_t)y * (size_t)im->w + (size_t)x) * 3 + (size_t)c;
                im->rgb[at] = (uint8_t)lrintf((pixels[at] * 0.5f + 0.5f) * 255 * light);
            }
        }
}

static bool shrink(Image *im, Err *e) {
    int side = im->w > im->h ? im->w : im->h;
    if (side <= LONG_SIDE) return true;
    Image small;
    int w = im->w * LONG_SIDE / side, h = im->h * LONG_SIDE / side;
    bool ok = image_resize(im, w ? w : 1, h ? h : 1, FILTER_AREA, &small, e);
    image_free(im);
    if (ok) *im = small;
    return ok;
}

static bool encode(Image *im, Arena *a, const char **out, Err *e) {
    uint8_t *bytes;
    size_t n;
    if (!image_jpeg_bytes(im, QUALITY, &bytes, &n, e)) return false;
    Str s = {0};
    str_add(&s, "data:image/jpeg;base64,");
    put_base64(&s, bytes, n);
    free(bytes);
    *out = arena_strndup(a, s.s, s.n);
    str_free(&s);
    return true;
}

static bool picture(const DataReport *r, const View *v, const char **out, Err *e) {
    const Sample *s = &r->d->sample[v->sample];
    *out = "";
    if (s->latent_only) return true; /* nothing to see */
    size_t n = (size_t)s->bucket_w * (size_t)s->bucket_h;
    float *pixels = malloc(3 * n * sizeof *pixels), *mask = malloc(n * sizeof *mask);
    Image im = {s->bucket_w, s->bucket_h, malloc(3 * n)};
    bool ok = (pixels && mask && im.rgb) ||
              err_fail(e, "out of memory for %d x %d pixels", s->bucket_w, s->bucket_h);
    ok = ok && dataset_pixels(r->d, v, pixels, mask, e);
    if (ok) to_bytes(&im, pixels, mask);
    ok = ok && shrink(&im, e) && encode(&im, r->arena, out, e);
    free(pixels);
    free(mask);
    image_free(&im);
    return ok;
}

bool data_html(Str *s, const DataReport *r, Err *e) {
    const char **pictures = NEW(r->arena, const char *, r->n_drawn);
    for (int i = 0; i < r->n_drawn; i++)
        if (!picture(r, &r->drawn[i].view, &pictures[i], e)) return false;
    Str json = {0};
    data_json(&json, r, pictures);
    html_page(s, "cli/data/data.html", "@DATA@", json.s);
    str_free(&json);
    return true;
}
