/* Highres fix (see generate.h), as sd-scripts: a small picture is drawn, enlarged, and the
 * whole one begins with it (img2img, --strength), with the next seed. A model that learnt
 * at a small size repeats its subject when it begins with a large one; so it does not. */
#include <math.h>

#include "cli/generate/generate.h"

/* One axis of a bilinear enlargement: cells a and b of n and the share of b, for cell i of
 * `of`; between the centres of cells, as PyTorch's interpolate. */
typedef struct Between {
    int a, b;
    float share;
} Between;

static Between between(int i, int n, int of) {
    const float at = fmaxf(((float)i + 0.5f) * (float)n / (float)of - 0.5f, 0);
    const int a = (int)at < n ? (int)at : n - 1;
    return (Between){a, a + (a + 1 < n), at - (float)a};
}

/* [h,w,4] -> [high,wide,4] */
static void enlarge(const float *x, int h, int w, float *y, int high, int wide) {
    for (int i = 0; i < high; i++)
        for (int j = 0; j < wide; j++) {
            const Between v = between(i, h, high), u = between(j, w, wide);
            for (int c = 0; c < 4; c++) {
                const float *up = x + v.a * w * 4 + c, *down = x + v.b * w * 4 + c;
                const float above = up[u.a * 4] + u.share * (up[u.b * 4] - up[u.a * 4]),
                            below = down[u.a * 4] +
                                    u.share * (down[u.b * 4] - down[u.a * 4]);
                y[(i * wide + j) * 4 + c] = above + v.share * (below - above);
            }
        }
}

/* The same request, small and from noise or its own picture. */
static Request small_of(const Request *r) {
    Request s = *r;
    s.w = r->small.w, s.h = r->small.h;
    s.steps = r->small.steps, s.first = r->small.first;
    s.small = (struct Small){0};
    return s;
}

/* The whole one, which begins with what was drawn. */
static Request whole_of(const Request *r) {
    Request s = *r;
    s.seed = r->seed + 1;
    s.image = s.mask = NULL;
    return s;
}

bool generate_highres(Generate *g, const Request *r, int n, bool first, Image *out,
                      Err *e) {
    const GenerateOptions *o = g->o;
    const bool latents = o->highres_fix_latents_upscaling,
               seen = !latents || o->highres_fix_save_1st;
    Arena *a = arena_new();
    const int64_t few = (int64_t)r->small.w * r->small.h * 4,
                  all = (int64_t)r->w * r->h * 4;
    Request *small = NEW(a, Request, n), *whole = NEW(a, Request, n);
    float *x = NEW(a, float, few *n), *y = NEW(a, float, all *n);
    Image *im = NEW(a, Image, n);
    for (int i = 0; i < n; i++) small[i] = small_of(&r[i]), whole[i] = whole_of(&r[i]);
    bool ok = generate_once(g, small, n, first, seen ? im : NULL, x, e);
    for (int i = 0; ok && i < n; i++) {
        if (o->highres_fix_save_1st)
            ok = generate_save(g, &small[i], "0", i, &im[i], e);
        if (latents)
            enlarge(x + i * few, r->small.h, r->small.w, y + i * all, r->h, r->w);
        whole[i].latent = latents ? y + i * all : NULL;
        whole[i].found = latents ? NULL : &im[i];
    }
    ok = ok && generate_once(g, whole, n, false, out, NULL, e);
    for (int i = 0; i < n; i++) image_free(&im[i]);
    arena_free(a);
    return ok;
}
