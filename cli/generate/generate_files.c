/* Files of generate: names, the settings inside, the grid (see generate.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "built.h"
#include "cli/files/file_tool.h"
#include "cli/generate/generate.h"
#include "io/file.h"
#include "io/image_text.h"
#include "io/image_write.h"

/* The names of the original. The number is the first that is free: `index` (in the batch)
 * or the one behind it when a picture of the same second and seed is there already. */
static const char *free_name(Generate *g, const Request *r, const char *stage,
                             int index) {
    const GenerateOptions *o = g->o;
    for (int n = o->sequential_file_name ? 1 : index;; n++) {
        const char *path =
            o->sequential_file_name
                ? arena_printf(g->arena, "%s/im_%s%06d.png", o->outdir, stage, n)
                : arena_printf(g->arena, "%s/im_%s_%s%03d_%lld.png", o->outdir, g->time,
                               stage, n, (long long)r->seed);
        if (!file_exists(path)) return path;
    }
}

/* What AUTOMATIC1111 writes: the prompt with the networks in it, then a line each. */
static const char *parameters(Generate *g, const Request *r) {
    Str s = {0};
    str_add(&s, r->prompt);
    for (int i = 0; i < g->n_use; i++)
        str_printf(
            &s, " <lora:%s:%g>",
            meta_base_name(g->arena, adapter_file_layers(g->file[i])->file->path),
            r->multiplier[i]);
    if (*r->negative) str_printf(&s, "\nNegative prompt: %s", r->negative);
    const YNode *title = yaml_get(r->sampler->root, "title");
    str_printf(&s,
               "\nSteps: %lld, Sampler: %s, CFG scale: %g, Seed: %lld, Size: %dx%d, "
               "Model: %s",
               (long long)r->steps, title ? title->s : r->sampler->name, r->scale,
               (long long)r->seed, r->w * LATENT_FACTOR, r->h * LATENT_FACTOR,
               meta_base_name(g->arena, g->o->ckpt));
    if (r->image || r->small.w)
        str_printf(&s, ", Denoising strength: %g",
                   (double)(r->steps - r->first) / (double)r->steps);
    if (r->small.w)
        str_printf(&s, ", Hires upscale: %g, Hires steps: %lld, Hires upscaler: %s",
                   (double)r->w / r->small.w, (long long)r->steps,
                   g->o->highres_fix_latents_upscaling ? "Latent" : "Lanczos");
    if (g->o->clip_skip > 1)
        str_printf(&s, ", Clip skip: %lld", (long long)g->o->clip_skip);
    str_add(&s, ", Version: graphrun " GRAPHRUN_VERSION);
    const char *out = arena_strdup(g->arena, s.s);
    str_free(&s);
    return out;
}

bool generate_write(Generate *g, const char *path, const Request *r, const Image *im,
                    Err *e) {
    Arena *a = g->arena;
    const ImageText text[] = {
        {"parameters", parameters(g, r)},
        {"prompt", r->prompt},
        {"seed", arena_printf(a, "%lld", (long long)r->seed)},
        {"sampler", r->sampler->name},
        {"steps", arena_printf(a, "%lld", (long long)r->steps)},
        {"scale", arena_printf(a, "%g", r->scale)},
        {"negative-prompt", r->negative},
        {"raw-prompt", r->raw},
        {"negative-scale",
         isnan(r->negative_scale) ? NULL : arena_printf(a, "%g", r->negative_scale)},
        {"clip-prompt", r->clip},
    };
    return image_write_png_texts(path, im, text, (int)COUNT(text), e);
}

bool generate_save(Generate *g, const Request *r, const char *stage, int index,
                   const Image *im, Err *e) {
    const char *path = free_name(g, r, stage, index);
    if (!generate_write(g, path, r, im, e)) return false;
    if (!g->common->quiet) progress_say(g->progress, path);
    return true;
}

bool generate_beside(const Image *p, int n, int columns, Image *out, Err *e) {
    int w = 0, h = 0;
    for (int i = 0; i < n; i++) {
        w = p[i].w > w ? p[i].w : w;
        h = p[i].h > h ? p[i].h : h;
    }
    const int rows = (n + columns - 1) / columns;
    if ((int64_t)w * columns * h * rows > IMAGE_PIXELS_MAX)
        return err_fail(e, "%d pictures together would have more than %d pixels", n,
                        IMAGE_PIXELS_MAX);
    *out = (Image){w * columns, h * rows, NULL};
    out->rgb = calloc((size_t)out->w * (size_t)out->h, 3);
    if (!out->rgb) return err_fail(e, "no memory for %d pictures together", n);
    for (int i = 0; i < n; i++)
        for (int y = 0; y < p[i].h; y++) {
            const size_t to = ((size_t)(i / columns * h + y) * (size_t)out->w +
                               (size_t)(i % columns * w)) *
                              3;
            memcpy(out->rgb + to, p[i].rgb + (size_t)y * (size_t)p[i].w * 3,
                   (size_t)p[i].w * 3);
        }
    return true;
}

/* All pictures, in about as many rows as columns. */
bool generate_grid(Generate *g, Err *e) {
    int columns = 1;
    while (columns * columns < g->n) columns++;
    Image grid;
    if (!generate_beside(g->picture, g->n, columns, &grid, e)) return false;
    const char *path = arena_printf(g->arena, "%s/grid_%s.png", g->o->outdir, g->time);
    bool ok = image_write_png(path, &grid, e);
    if (ok && !g->common->quiet) progress_say(g->progress, path);
    image_free(&grid);
    return ok;
}
