/* Pictures that generate begins with (img2img), and masks of what is drawn in them
 * (inpainting; see generate.h). A mask's kept part gets the noise that belongs to each run,
 * so that both parts fit together on the way; behind the last run it is the picture. */
#include <string.h>

#include "cli/generate/generate.h"
#include "io/file.h"

/* The file itself, or all pictures of a folder in the order of their names. */
static const char **pictures(Arena *a, const char *option, const char *path, Err *e) {
    const char **list = NULL, **name;
    int n = 0, cap = 0, n_name = 0;
    if (!folder_exists(path))
        PUSH(a, list, n, cap, path);
    else if (!folder_list(a, path, &name, &n_name, e))
        return NULL;
    for (int i = 0; i < n_name; i++) {
        Image im;
        Err no = {0};
        const char *file = arena_printf(a, "%s/%s", path, name[i]);
        if (image_size(file, &im.w, &im.h, &no)) PUSH(a, list, n, cap, file);
    }
    if (!n) {
        err_fail(e, "--%s: no pictures in '%s'", option, path);
        return NULL;
    }
    PUSH(a, list, n, cap, NULL);
    return list;
}

bool generate_sources(Generate *g, Err *e) {
    const GenerateOptions *o = g->o;
    if (o->mask_path && !o->image_path)
        return err_usage(e, "--mask_path needs --image_path");
    if (o->image_path &&
        !(g->source[0] = pictures(g->arena, "image_path", o->image_path, e)))
        return false;
    return !o->mask_path ||
           (g->source[1] = pictures(g->arena, "mask_path", o->mask_path, e));
}

/* As sd-scripts: Lanczos to the size that is drawn. */
static bool load(const char *path, int w, int h, Filter f, Image *out, Err *e) {
    Image im;
    if (!image_read(path, &im, e)) return false;
    if (im.w == w && im.h == h) {
        *out = im;
        return true;
    }
    const bool ok = image_resize(&im, w, h, f, out, e);
    image_free(&im);
    return ok;
}

static bool encode(Generate *g, Arena *a, const Request *r, float *latent, Err *e) {
    const int w = r->w * LATENT_FACTOR, h = r->h * LATENT_FACTOR;
    const size_t n = (size_t)w * (size_t)h * 3;
    float *x = NEW(a, float, n);
    Image im;
    if (r->latent) {
        memcpy(latent, r->latent, sizeof *latent * 4 * (size_t)r->w * (size_t)r->h);
        return true;
    }
    if (r->found ? !image_resize(r->found, w, h, FILTER_LANCZOS, &im, e)
                 : !load(r->image, w, h, FILTER_LANCZOS, &im, e))
        return false;
    for (size_t i = 0; i < n; i++) x[i] = (float)im.rgb[i] / 127.5f - 1;
    image_free(&im);
    return draw_encode(g->draw, r->h, r->w, x, r->seed, latent, e);
}

/* Grey as Rec. 601 weighs it. */
static bool mask_of(const Request *r, float *mask, Err *e) {
    Image im;
    if (!load(r->mask, r->w, r->h, FILTER_LINEAR, &im, e)) return false;
    for (int i = 0; i < r->w * r->h; i++) {
        const uint8_t *p = im.rgb + (size_t)i * 3;
        mask[i] = (float)(299 * p[0] + 587 * p[1] + 114 * p[2]) / 255000;
    }
    image_free(&im);
    return true;
}

bool generate_begin(Generate *g, Arena *a, const Request *r, int n, const Sampler *s,
                    const DrawShape *shape, float *x, Beginning *out, Err *e) {
    const int64_t cells = (int64_t)r->w * r->h, all = 4 * cells * n;
    *out = (Beginning){0};
    if (!r->image && !r->found && !r->latent) return true;
    if (!draw_first_run(g->draw, shape, &out->run, e)) return false;
    out->image = NEW(a, float, all);
    out->noise = memcpy(NEW(a, float, all), x, sizeof *x * (size_t)all);
    if (r->mask) {
        out->mask = NEW(a, float, cells *n);
        out->kept = NEW(a, float, all);
    }
    for (int i = 0; i < n; i++)
        if (!encode(g, a, &r[i], out->image + i * 4 * cells, e) ||
            (r->mask && !mask_of(&r[i], out->mask + i * cells, e)))
            return false;
    return sample_picture(s, out->run, out->image, out->noise, all, x, e);
}

bool generate_keep(const Beginning *b, const Sampler *s, int64_t run, float *x,
                   int64_t n, Err *e) {
    if (!sample_picture(s, run + 1, b->image, b->noise, n, b->kept, e)) return false;
    for (int64_t i = 0; i < n; i++)
        x[i] = b->mask[i / 4] * x[i] + (1 - b->mask[i / 4]) * b->kept[i];
    return true;
}
