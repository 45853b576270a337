/* Resizing RGB images of 8 bits as the libraries behind sd-scripts do (training.md
 * 3.4), in their fixed point: OpenCV's INTER_AREA and INTER_NEAREST_EXACT and Pillow's
 * LANCZOS to the last bit (compared with OpenCV 4.14 and Pillow 11.3), OpenCV's
 * INTER_LINEAR and INTER_CUBIC to 1 of 255 (its vector code rounds elsewhere).
 *
 * Linear, cubic and Lanczos are separable: a Taps table says, for every output place,
 * where its inputs start, how many there are, and their weights. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/data.h"

enum {
    BITS = 11,       /* OpenCV: weights of linear and cubic are n / 2048 */
    PILLOW_BITS = 22 /* Pillow: 32 - 8 bits of the pixel - 2 of head room */
};

static uint8_t to_byte(int64_t x) {
    return x < 0 ? 0 : x > 255 ? 255 : (uint8_t)x;
}

static int clamp(int64_t i, int n) {
    return i < 0 ? 0 : i >= n ? n - 1 : (int)i;
}

/* ---- area, whole factors: the mean of a block, rounded to even ---- */
static void area_blocks(const Image *in, Image *out) {
    int fx = in->w / out->w, fy = in->h / out->h, area = fx * fy;
    float scale = 1.0f / (float)area;
    for (int y = 0; y < out->h; y++) {
        for (int x = 0; x < out->w; x++) {
            for (int c = 0; c < 3; c++) {
                int64_t sum = 0;
                for (int j = 0; j < fy; j++) {
                    const uint8_t *p =
                        in->rgb + ((size_t)(y * fy + j) * in->w + (size_t)x * fx) * 3 +
                        c;
                    for (int i = 0; i < fx; i++) sum += p[3 * i];
                }
                /* OpenCV has integer code of its own for 2 x 2 */
                int64_t mean =
                    fx == 2 && fy == 2 ? (sum + 2) >> 2 : lrintf((float)sum * scale);
                out->rgb[((size_t)y * out->w + x) * 3 + c] = to_byte(mean);
            }
        }
    }
}

/* ---- area, any factor ---- */
typedef struct AreaTap {
    int out, in;
    float weight;
} AreaTap;

/* Overlaps of the output cells with the input pixels, in input order; at most n_in +
 * n_out of them, which malloc'ed *taps holds. */
static int area_taps(int n_in, int n_out, AreaTap **taps) {
    double scale = 1.0 / ((double)n_out / n_in);
    AreaTap *t = *taps = malloc(((size_t)n_in + 2 * (size_t)n_out) * sizeof *t);
    int k = 0;
    for (int d = 0; t && d < n_out; d++) {
        double from = d * scale, to = from + scale;
        double cell = fmin(scale, n_in - from);
        int first = (int)ceil(from), last = (int)floor(to);
        if (last > n_in - 1) last = n_in - 1;
        if (first > last) first = last;
        if (first - from > 1e-3)
            t[k++] = (AreaTap){d, first - 1, (float)((first - from) / cell)};
        for (int s = first; s < last; s++)
            t[k++] = (AreaTap){d, s, (float)(1.0 / cell)};
        if (to - last > 1e-3)
            t[k++] =
                (AreaTap){d, last, (float)(fmin(fmin(to - last, 1.0), cell) / cell)};
    }
    return k;
}

static bool area_any(const Image *in, Image *out) {
    AreaTap *xt = NULL, *yt = NULL;
    int nx = area_taps(in->w, out->w, &xt), ny = area_taps(in->h, out->h, &yt);
    size_t row_n = (size_t)out->w * 3;
    float *sum = calloc(row_n, sizeof *sum), *row = calloc(row_n, sizeof *row);
    bool ok = xt && yt && sum && row;
    for (int j = 0; ok && j < ny; j++) {
        const uint8_t *src = in->rgb + (size_t)yt[j].in * in->w * 3;
        memset(row, 0, row_n * sizeof *row);
        for (int i = 0; i < nx; i++)
            for (int c = 0; c < 3; c++)
                row[xt[i].out * 3 + c] += (float)src[xt[i].in * 3 + c] * xt[i].weight;
        bool starts = j == 0 || yt[j].out != yt[j - 1].out;
        bool ends = j + 1 == ny || yt[j].out != yt[j + 1].out;
        for (size_t i = 0; i < row_n; i++)
            sum[i] = yt[j].weight * row[i] + (starts ? 0.0f : sum[i]);
        uint8_t *dst = out->rgb + (size_t)yt[j].out * row_n;
        for (size_t i = 0; ends && i < row_n; i++) dst[i] = to_byte(lrintf(sum[i]));
    }
    free(xt), free(yt), free(sum), free(row);
    return ok;
}

/* ---- tables of weights ---- */
typedef struct Taps {
    int n, most;     /* outputs; weights per output */
    int *from;       /* first input of each output, may be negative: edges repeat */
    int32_t *weight; /* n x most, fixed point */
} Taps;

static bool taps_new(Taps *t, int n, int most) {
    *t = (Taps){n, most, calloc((size_t)n, sizeof(int)),
                calloc((size_t)n * (size_t)most, sizeof(int32_t))};
    return t->from && t->weight;
}

static void taps_free(Taps *t) {
    free(t->from);
    free(t->weight);
}

/* OpenCV's cubic kernel with A = -0.75 at distances 1+f, f, 1-f, 2-f. */
static void cubic(float f, float w[4]) {
    const float A = -0.75f;
    w[0] = ((A * (f + 1) - 5 * A) * (f + 1) + 8 * A) * (f + 1) - 4 * A;
    w[1] = ((A + 2) * f - (A + 3)) * f * f + 1;
    w[2] = ((A + 2) * (1 - f) - (A + 3)) * (1 - f) * (1 - f) + 1;
    w[3] = 1.0f - w[0] - w[1] - w[2];
}

static double sinc(double x) {
    return x == 0.0 ? 1.0 : sin(x * M_PI) / (x * M_PI);
}

/* OpenCV's Lanczos of four lobes at distances 3+f, 2+f, ... 4-f, weights that add to 1. */
static void lanczos4(float f, float w[8]) {
    double v[8], total = 0;
    for (int k = 0; k < 8; k++) {
        double x = (double)f + 3 - k;
        total += v[k] = sinc(x) * sinc(x / 4);
    }
    for (int k = 0; k < 8; k++) w[k] = (float)(v[k] / total);
}

/* Linear, cubic, Lanczos of four lobes, and what INTER_AREA does when a side grows (linear weights from the
 * cells' overlap). */
static bool taps_opencv(Taps *t, int n_in, int n_out, Filter f) {
    const int most = f == FILTER_CUBIC ? 4 : f == FILTER_LANCZOS4 ? 8 : 2;
    if (!taps_new(t, n_out, most)) return false;
    double inverse = (double)n_out / n_in, scale = 1.0 / inverse;
    for (int d = 0; d < n_out; d++) {
        float at = (float)((d + 0.5) * scale - 0.5);
        int s = (int)floorf(at);
        if (f == FILTER_AREA) {
            s = (int)floor(d * scale);
            at = (float)((d + 1) - (s + 1) * inverse);
            at = at <= 0 ? 0.0f : at - floorf(at);
        } else {
            at -= (float)s;
        }
        if (most == 2 && s < 0) s = 0, at = 0;
        if (most == 2 && s >= n_in - 1) s = n_in - 1, at = 0;
        float w[8] = {1.0f - at, at};
        if (f == FILTER_CUBIC) cubic(at, w);
        if (f == FILTER_LANCZOS4) lanczos4(at, w);
        t->from[d] = s - (most / 2 - 1);
        for (int k = 0; k < t->most; k++)
            t->weight[d * t->most + k] = (int32_t)lrintf(w[k] * (1 << BITS));
    }
    return true;
}

/* Pillow's filters at distance x from the centre: windowed sinc of three lobes, box. */
static double pillow_lanczos(double x) {
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static double pillow_box(double x) {
    return x > -0.5 && x <= 0.5;
}

/* A filter is widened when shrinking; weights add up to 1. */
static bool taps_pillow(Taps *t, int n_in, int n_out, double (*filter)(double),
                        double reach) {
    double scale = (double)n_in / n_out, wide = scale < 1 ? 1 : scale,
           support = reach * wide;
    if (!taps_new(t, n_out, (int)ceil(support) * 2 + 1)) return false;
    double *w = calloc((size_t)t->most, sizeof *w);
    for (int d = 0; w && d < n_out; d++) {
        double centre = (d + 0.5) * scale, total = 0;
        int from = (int)(centre - support + 0.5), to = (int)(centre + support + 0.5);
        if (from < 0) from = 0;
        if (to > n_in) to = n_in;
        for (int k = 0; k < to - from; k++)
            total += w[k] = filter((k + from - centre + 0.5) * (1 / wide));
        t->from[d] = from;
        for (int k = 0; k < to - from; k++) {
            double v = w[k] / total * (1 << PILLOW_BITS);
            t->weight[d * t->most + k] = (int32_t)(v + (v < 0 ? -0.5 : 0.5));
        }
    }
    bool ok = w != NULL;
    free(w);
    return ok;
}

/* ---- applying the tables ---- */
/* OpenCV: rows first, in integers, then columns. */
static bool apply_opencv(const Image *in, const Taps *xt, const Taps *yt, bool is_wide,
                         Image *out) {
    size_t row_n = (size_t)out->w * 3;
    int32_t *rows = calloc((size_t)in->h * row_n, sizeof *rows);
    if (!rows) return false;
    for (int y = 0; y < in->h; y++)
        for (int x = 0; x < out->w; x++)
            for (int k = 0; k < xt->most; k++) {
                const uint8_t *p =
                    in->rgb + ((size_t)y * in->w + clamp(xt->from[x] + k, in->w)) * 3;
                int32_t w = xt->weight[x * xt->most + k];
                for (int c = 0; c < 3; c++) rows[y * row_n + x * 3 + c] += p[c] * w;
            }
    for (int y = 0; y < out->h; y++) {
        const int32_t *w = yt->weight + (size_t)y * yt->most;
        for (size_t i = 0; i < row_n; i++) {
            int64_t sum = 0;
            for (int k = 0; k < yt->most; k++) {
                int32_t v = rows[clamp(yt->from[y] + k, in->h) * row_n + i];
                sum += is_wide ? (int64_t)v * w[k] : ((v >> 4) * w[k]) >> 16;
            }
            out->rgb[y * row_n + i] = to_byte(
                is_wide ? (sum + (1 << (2 * BITS - 1))) >> (2 * BITS) : (sum + 2) >> 2);
        }
    }
    free(rows);
    return true;
}

/* Pillow: each direction rounds to bytes; one that keeps the size is left out. */
static void pillow_rows(const Image *in, const Taps *t, Image *out) {
    for (int y = 0; y < in->h; y++)
        for (int x = 0; x < out->w; x++)
            for (int c = 0; c < 3; c++) {
                const uint8_t *p = in->rgb + ((size_t)y * in->w + t->from[x]) * 3 + c;
                int64_t sum = 1 << (PILLOW_BITS - 1);
                int most = in->w - t->from[x] < t->most ? in->w - t->from[x] : t->most;
                for (int k = 0; k < most; k++)
                    sum += (int64_t)p[3 * k] * t->weight[x * t->most + k];
                out->rgb[((size_t)y * out->w + x) * 3 + c] =
                    to_byte(sum >> PILLOW_BITS);
            }
}

static void pillow_columns(const Image *in, const Taps *t, Image *out) {
    size_t row_n = (size_t)in->w * 3;
    for (int y = 0; y < out->h; y++)
        for (size_t i = 0; i < row_n; i++) {
            int64_t sum = 1 << (PILLOW_BITS - 1);
            int most = in->h - t->from[y] < t->most ? in->h - t->from[y] : t->most;
            for (int k = 0; k < most; k++)
                sum += (int64_t)in->rgb[(t->from[y] + k) * row_n + i] *
                       t->weight[y * t->most + k];
            out->rgb[y * row_n + i] = to_byte(sum >> PILLOW_BITS);
        }
}

static bool pillow(const Image *in, Filter f, Image *out) {
    double (*filter)(double) = f == FILTER_BOX ? pillow_box : pillow_lanczos;
    double reach = f == FILTER_BOX ? 0.5 : 3;
    Taps xt = {0}, yt = {0};
    Image middle = {out->w, in->h, malloc((size_t)out->w * in->h * 3)};
    bool ok = middle.rgb && taps_pillow(&xt, in->w, out->w, filter, reach) &&
              taps_pillow(&yt, in->h, out->h, filter, reach);
    if (ok) {
        if (in->w == out->w)
            memcpy(middle.rgb, in->rgb, (size_t)in->w * in->h * 3);
        else
            pillow_rows(in, &xt, &middle);
        if (in->h == out->h)
            memcpy(out->rgb, middle.rgb, (size_t)out->w * out->h * 3);
        else
            pillow_columns(&middle, &yt, out);
    }
    taps_free(&xt);
    taps_free(&yt);
    free(middle.rgb);
    return ok;
}

static bool opencv(const Image *in, Filter f, Image *out) {
    Taps xt = {0}, yt = {0};
    bool ok =
        taps_opencv(&xt, in->w, out->w, f) && taps_opencv(&yt, in->h, out->h, f) &&
        apply_opencv(in, &xt, &yt, f == FILTER_CUBIC || f == FILTER_LANCZOS4, out);
    taps_free(&xt);
    taps_free(&yt);
    return ok;
}

static bool area(const Image *in, Image *out) {
    if (out->w > in->w || out->h > in->h) return opencv(in, FILTER_AREA, out);
    if (in->w % out->w || in->h % out->h) return area_any(in, out);
    area_blocks(in, out);
    return true;
}

/* INTER_NEAREST_EXACT: the pixel under the centre, in 16 bits of fraction. */
static void nearest_exact(const Image *in, Image *out) {
    int64_t fx = (((int64_t)in->w << 16) + out->w / 2) / out->w;
    int64_t fy = (((int64_t)in->h << 16) + out->h / 2) / out->h;
    int64_t fx0 = fx / 2 - in->w % 2, fy0 = fy / 2 - in->h % 2;
    for (int y = 0; y < out->h; y++)
        for (int x = 0; x < out->w; x++) {
            int sx = clamp((fx * x + fx0) >> 16, in->w),
                sy = clamp((fy * y + fy0) >> 16, in->h);
            memcpy(out->rgb + ((size_t)y * out->w + x) * 3,
                   in->rgb + ((size_t)sy * in->w + sx) * 3, 3);
        }
}

/* ---- entry ---- */
static bool make(Image *out, int w, int h, Err *e) {
    if (w < 1 || h < 1 || (int64_t)w * h > IMAGE_PIXELS_MAX)
        return err_fail(e, "cannot make an image of %d x %d pixels, at most %d in all",
                        w, h, IMAGE_PIXELS_MAX);
    *out = (Image){w, h, malloc((size_t)w * (size_t)h * 3)};
    return out->rgb ||
           err_fail(e, "out of memory for an image of %d x %d pixels", w, h);
}

bool image_resize(const Image *in, int w, int h, Filter f, Image *out, Err *e) {
    if (!make(out, w, h, e)) return false;
    bool ok = true;
    if (w == in->w && h == in->h)
        memcpy(out->rgb, in->rgb, (size_t)w * (size_t)h * 3);
    else if (f == FILTER_AREA)
        ok = area(in, out);
    else if (f == FILTER_LANCZOS || f == FILTER_BOX)
        ok = pillow(in, f, out);
    else if (f == FILTER_NEAREST)
        nearest_exact(in, out);
    else
        ok = opencv(in, f, out);
    if (ok) return true;
    image_free(out);
    return err_fail(e, "out of memory for resizing %d x %d to %d x %d pixels", in->w,
                    in->h, w, h);
}

bool image_crop(const Image *in, int left, int top, int w, int h, Image *out, Err *e) {
    if (left < 0 || top < 0 || w < 1 || h < 1 || w > in->w - left || h > in->h - top)
        return err_fail(e, "cannot cut %d x %d pixels at %d, %d out of %d x %d", w, h,
                        left, top, in->w, in->h);
    if (!make(out, w, h, e)) return false;
    for (int y = 0; y < h; y++)
        memcpy(out->rgb + (size_t)y * w * 3,
               in->rgb + ((size_t)(top + y) * in->w + left) * 3, (size_t)w * 3);
    return true;
}
