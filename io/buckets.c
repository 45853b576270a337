/* Buckets, number by number as sd-scripts computes them: integer divisions floor,
 * int(x) truncates, ratios are doubles, and the first of equally near buckets wins. */
#include "io/buckets.h"

#include <math.h>
#include <stdlib.h>

enum { SIDE_MAX = 1 << 30 }; /* of a resized image: an int with room */

static int by_size(const void *x, const void *y) {
    const int *a = x, *b = y;
    return a[0] != b[0] ? (a[0] > b[0]) - (a[0] < b[0]) : (a[1] > b[1]) - (a[1] < b[1]);
}

static void add_size(BucketRule *r, int w, int h) {
    r->size[r->n][0] = w;
    r->size[r->n++][1] = h;
}

/* All (w, h) with w a multiple of step and w*h as near below the area as possible. */
static void predefine(BucketRule *r, Arena *a) {
    int64_t area = (int64_t)r->width * r->height;
    int s = r->step, square = (int)(sqrt((double)area) / s) * s;
    size_t most = (size_t)((r->max_reso - r->min_reso) / s + 1) * 2 + 1;
    r->size = arena_alloc(a, most, sizeof *r->size);
    add_size(r, square, square);
    for (int w = r->min_reso; w <= r->max_reso; w += s) {
        int64_t fit = area / w / s * s;
        int h = fit < r->max_reso ? (int)fit : r->max_reso;
        if (h < r->min_reso) continue;
        add_size(r, w, h);
        add_size(r, h, w);
    }
    qsort(r->size, (size_t)r->n, sizeof *r->size, by_size);
    int kept = 0;
    for (int i = 0; i < r->n; i++) {
        if (kept && !by_size(r->size[i], r->size[kept - 1])) continue;
        r->size[kept][0] = r->size[i][0];
        r->size[kept++][1] = r->size[i][1];
    }
    r->n = kept;
}

bool buckets_prepare(BucketRule *r, Arena *a, bool *adjusted, const char **why) {
    int least = r->width < r->height ? r->width : r->height;
    int most = r->width > r->height ? r->width : r->height;
    int lo = r->min_reso, hi = r->max_reso, s = r->step;
    *adjusted = false;
    r->n = 0;
    if (!r->enable) {
        r->size = arena_alloc(a, 1, sizeof *r->size);
        add_size(r, r->width, r->height);
        return true;
    }
    if (r->no_upscale) return true; /* buckets come up as images are met */
    r->min_reso = lo / s * s;
    r->max_reso = (hi + s - 1) / s * s;
    *adjusted = r->min_reso != lo || r->max_reso != hi;
    if (least < r->min_reso)
        *why = arena_printf(
            a, "min_bucket_reso %d is above the resolution's shorter side %d",
            r->min_reso, least);
    else if (most > r->max_reso)
        *why = arena_printf(
            a, "max_bucket_reso %d is below the resolution's longer side %d",
            r->max_reso, most);
    else if (r->min_reso < 1)
        *why = arena_printf(a, "min_bucket_reso %d is below one step of %d", lo, s);
    else
        predefine(r, a);
    return r->n > 0;
}

/* ---- assignment ---- */
static bool fit_list(const BucketRule *r, int w, int h, BucketFit *out) {
    double ratio = (double)w / h, best = INFINITY;
    int at = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->size[i][0] == w && r->size[i][1] == h) {
            at = i;
            break;
        }
        double error = fabs((double)r->size[i][0] / r->size[i][1] - ratio);
        if (error < best) best = error, at = i;
    }
    int bw = r->size[at][0], bh = r->size[at][1];
    double scale = ratio > (double)bw / bh ? (double)bh / h : (double)bw / w;
    if (w * scale >= SIDE_MAX || h * scale >= SIDE_MAX) return false;
    *out = (BucketFit){bw, bh, (int)(w * scale + 0.5), (int)(h * scale + 0.5)};
    return out->resized_w >= bw && out->resized_h >= bh;
}

/* Rounded to an integer, then down to a multiple of s. */
static int round_down(double x, int s) {
    int n = (int)(x + 0.5);
    return n - n % s;
}

/* An image above the area is shrunk so that one side is a multiple of the step: the
 * side for which the bucket's ratio comes nearer to the image's. */
static void shrink(const BucketRule *r, int w, int h, BucketFit *out) {
    double area = (double)r->width * r->height, ratio = (double)w / h;
    double rw = sqrt(area * ratio), rh = area / rw;
    int s = r->step;
    int w1 = round_down(rw, s), h1 = round_down(w1 / ratio, s);
    int h2 = round_down(rh, s), w2 = round_down(h2 * ratio, s);
    double error1 = fabs((double)w1 / h1 - ratio),
           error2 = fabs((double)w2 / h2 - ratio);
    if (h1 && (error1 < error2 || !h2)) {
        out->resized_w = w1;
        out->resized_h = (int)(w1 / ratio + 0.5);
    } else {
        out->resized_w = (int)(h2 * ratio + 0.5);
        out->resized_h = h2;
    }
}

bool bucket_fit(const BucketRule *r, int w, int h, BucketFit *out) {
    if (!r->enable || !r->no_upscale) return fit_list(r, w, h, out);
    int s = r->step;
    *out = (BucketFit){0, 0, w, h};
    if ((int64_t)w * h > (int64_t)r->width * r->height) shrink(r, w, h, out);
    out->bucket_w = out->resized_w - out->resized_w % s;
    out->bucket_h = out->resized_h - out->resized_h % s;
    return out->bucket_w > 0 && out->bucket_h > 0;
}
