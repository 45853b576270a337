/* From a picture's file to the pixels that a draw shows: decoded, resized, cut, coloured,
 * mirrored; and the same of its mask. */
#include <math.h>
#include <string.h>

#include "io/data.h"
#include "io/dataset_keys.h"
#include "io/dataset_parts.h"

enum { MASK_CELL = 8, HUES = 180 /* OpenCV counts hues of 8 bits by two degrees */ };

static const SubsetConfig *subset_of(const Dataset *d, const Sample *s) {
    const Parts *p = d->priv;
    return &p->config.dataset[s->dataset].subset[s->subset];
}

View dataset_view(const Dataset *d, int sample) {
    const Sample *s = &d->sample[sample];
    return (View){.sample = sample,
                  .mirrored = s->mirrored,
                  .resized_w = s->resized_w,
                  .resized_h = s->resized_h,
                  .left = (s->resized_w - s->bucket_w) / 2,
                  .top = (s->resized_h - s->bucket_h) / 2,
                  .gamma = 1};
}

/* ---- resizing ---- */
/* Named as in resize_words: Pillow does lanczos, lanczos4 and box, OpenCV the others. */
static Filter filter_of(const char *name, bool shrinks) {
    if (!name) return shrinks ? FILTER_AREA : FILTER_LANCZOS;
    return !strncmp(name, "lanczos", 7) ? FILTER_LANCZOS
           : !strcmp(name, "box")       ? FILTER_BOX
           : !strcmp(name, "nearest")   ? FILTER_NEAREST
           : !strcmp(name, "area")      ? FILTER_AREA
           : strstr(name, "cubic")      ? FILTER_CUBIC
                                        : FILTER_LINEAR;
}

static bool fit(Image *im, const char *filter, int w, int h, Err *e) {
    if (im->w == w && im->h == h) return true;
    Image out = {0};
    bool shrinks = w <= im->w && h <= im->h;
    bool ok = image_resize(im, w, h, filter_of(filter, shrinks), &out, e);
    image_free(im);
    *im = out;
    return ok;
}

static bool read_picture(const Sample *s, bool alpha, Image *im, Err *e) {
    if (!(alpha ? image_read_alpha : image_read)(s->path, im, e)) return false;
    if (im->w == s->w && im->h == s->h) return true;
    err_fail(e, "image '%s' has changed: %d x %d pixels, there were %d x %d", s->path,
             im->w, im->h, s->w, s->h);
    image_free(im);
    return false;
}

/* ---- colours ---- */
/* OpenCV's 8-bit HSV: hue 0 … 179, saturation and value 0 … 255, rounded. */
static void to_hsv(const uint8_t *rgb, int hsv[3]) {
    int r = rgb[0], g = rgb[1], b = rgb[2];
    int v = r > g ? r : g, low = r < g ? r : g;
    v = b > v ? b : v, low = b < low ? b : low;
    int wide = v - low;
    double hue = 0;
    if (wide)
        hue = v == r   ? (double)(g - b) / wide
              : v == g ? 2 + (double)(b - r) / wide
                       : 4 + (double)(r - g) / wide;
    int h = (int)lrint(hue * 30);
    hsv[0] = h < 0 ? h + HUES : h;
    hsv[1] = v ? (int)lrint(wide * 255.0 / v) : 0;
    hsv[2] = v;
}

static void from_hsv(const int hsv[3], uint8_t *rgb) {
    double at = hsv[0] / 30.0, v = hsv[2], s = hsv[1] / 255.0;
    int sector = (int)at % 6;
    double f = at - floor(at);
    double p = v * (1 - s), q = v * (1 - s * f), t = v * (1 - s * (1 - f));
    const double cell[6][3] = {{v, t, p}, {q, v, p}, {p, v, t},
                               {p, q, v}, {t, p, v}, {v, p, q}};
    for (int c = 0; c < 3; c++) rgb[c] = (uint8_t)lrint(cell[sector][c]);
}

static void colour(Image *im, const View *v) {
    size_t n = (size_t)im->w * (size_t)im->h;
    uint8_t table[256];
    for (int i = 0; i < 256; i++) { /* cut off, not rounded: as the original */
        double x = pow(i, v->gamma);
        table[i] = (uint8_t)(x > 255 ? 255 : x);
    }
    for (size_t i = 0; v->gamma != 1 && i < 3 * n; i++) im->rgb[i] = table[im->rgb[i]];
    double shift = v->hue < 0 ? v->hue + HUES : v->hue;
    for (size_t i = 0; v->hue != 0 && i < n; i++) {
        int hsv[3];
        to_hsv(im->rgb + 3 * i, hsv);
        hsv[0] = (int)fmod(hsv[0] + shift, HUES);
        from_hsv(hsv, im->rgb + 3 * i);
    }
}

/* ---- pixels ---- */
/* rgb -> out[h,w,3], x/255 to -1 … 1 in the original's order of operations. */
static void to_float(const Image *im, const View *v, const Sample *s, float *out) {
    for (int y = 0; y < s->bucket_h; y++) {
        const uint8_t *row = im->rgb + ((size_t)(v->top + y) * im->w + v->left) * 3;
        for (int x = 0; x < s->bucket_w; x++) {
            const uint8_t *px = row + 3 * (v->mirrored ? s->bucket_w - 1 - x : x);
            for (int c = 0; c < 3; c++) *out++ = ((float)px[c] / 255.0f - 0.5f) / 0.5f;
        }
    }
}

static bool cut(Image *im, const View *v, const Sample *s, Err *e) {
    Image out;
    bool ok = image_crop(im, v->left, v->top, s->bucket_w, s->bucket_h, &out, e);
    image_free(im);
    *im = ok ? out : (Image){0};
    return ok;
}

static bool picture(const Dataset *d, const View *v, float *out, Err *e) {
    const Sample *s = &d->sample[v->sample];
    Image im;
    View whole = *v;
    if (!read_picture(s, false, &im, e) ||
        !fit(&im, subset_of(d, s)->resize, v->resized_w, v->resized_h, e))
        return false;
    if (v->hue != 0 || v->gamma != 1) { /* after the cut: of what is seen only */
        if (!cut(&im, v, s, e)) return false;
        colour(&im, v);
        whole.left = whole.top = 0;
    }
    to_float(&im, &whole, s, out);
    image_free(&im);
    return true;
}

/* ---- masks ---- */
/* The mean of the mask in each cell of MASK_CELL pixels: torch's area interpolation. */
static void to_cells(const Image *im, const View *v, const Sample *s, float *mask) {
    for (int y = 0; y < s->bucket_h; y += MASK_CELL) {
        for (int x = 0; x < s->bucket_w; x += MASK_CELL) {
            int sum = 0;
            for (int j = 0; j < MASK_CELL * MASK_CELL; j++) {
                int px = x + j % MASK_CELL, py = y + j / MASK_CELL;
                if (v->mirrored) px = s->bucket_w - 1 - px;
                sum += im->rgb[((size_t)(v->top + py) * im->w + v->left + px) * 3];
            }
            *mask++ = (float)sum / (255.0f * MASK_CELL * MASK_CELL);
        }
    }
}

static bool mask_of(const Dataset *d, const View *v, float *mask, Err *e) {
    const Sample *s = &d->sample[v->sample];
    const SubsetConfig *c = subset_of(d, s);
    Image im;
    if (s->mask_path) { /* of any size: it is stretched over the picture */
        if (!image_read(s->mask_path, &im, e) ||
            !fit(&im, "area", v->resized_w, v->resized_h, e))
            return false;
    } else if (!read_picture(s, true, &im, e) ||
               !fit(&im, c->resize, v->resized_w, v->resized_h, e)) {
        return false;
    }
    to_cells(&im, v, s, mask);
    image_free(&im);
    return true;
}

bool dataset_has_mask(const Dataset *d, int sample) {
    const Sample *s = &d->sample[sample];
    return !s->latent_only && (s->mask_path || subset_of(d, s)->alpha_mask);
}

bool dataset_pixels(const Dataset *d, const View *v, float *out, float *mask, Err *e) {
    const Sample *s = &d->sample[v->sample];
    if (s->latent_only)
        return err_fail(e, "'%s': there is no picture, and no latents that fit %d x %d",
                        s->path, s->bucket_w, s->bucket_h);
    if (!picture(d, v, out, e)) return false;
    if (!mask) return true;
    if (dataset_has_mask(d, v->sample)) return mask_of(d, v, mask, e);
    size_t cells =
        (size_t)(s->bucket_w / MASK_CELL) * (size_t)(s->bucket_h / MASK_CELL);
    for (size_t i = 0; i < cells; i++) mask[i] = 1;
    return true;
}
