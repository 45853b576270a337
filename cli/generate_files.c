/* Files of generate: names, the settings inside, the grid (see generate.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "built.h"
#include "cli/file_tool.h"
#include "cli/generate.h"
#include "io/file.h"
#include "io/image_text.h"
#include "io/image_write.h"

/* im_000001.png ...: the first number that is free. */
static const char *sequential(Generate *g) {
    for (int n = 1;; n++) {
        const char *path = arena_printf(g->arena, "%s/im_%06d.png", g->o->outdir, n);
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
               (long long)r->seed, r->w * DRAW_FACTOR, r->h * DRAW_FACTOR,
               meta_base_name(g->arena, g->o->ckpt));
    if (g->o->clip_skip > 1)
        str_printf(&s, ", Clip skip: %lld", (long long)g->o->clip_skip);
    str_add(&s, ", Version: graphrun " GRAPHRUN_VERSION);
    const char *out = arena_strdup(g->arena, s.s);
    str_free(&s);
    return out;
}

bool generate_save(Generate *g, const Request *r, int index, const Image *im, Err *e) {
    Arena *a = g->arena;
    const char *path = g->o->sequential_file_name
                           ? sequential(g)
                           : arena_printf(a, "%s/im_%s_%03d_%lld.png", g->o->outdir,
                                          g->time, index, (long long)r->seed);
    const ImageText text[] = {
        {"parameters", parameters(g, r)},
        {"prompt", r->prompt},
        {"seed", arena_printf(a, "%lld", (long long)r->seed)},
        {"sampler", r->sampler->name},
        {"steps", arena_printf(a, "%lld", (long long)r->steps)},
        {"scale", arena_printf(a, "%g", r->scale)},
        {"negative-prompt", r->negative},
        {"raw-prompt", r->raw},
    };
    if (!image_write_png_texts(path, im, text, (int)COUNT(text), e)) return false;
    if (!g->common->quiet) progress_say(g->progress, arena_printf(a, "%s", path));
    return true;
}

/* All pictures side by side, in about as many rows as columns; smaller ones stand at the
 * left top of their cell. */
bool generate_grid(Generate *g, Err *e) {
    int w = 0, h = 0, columns = 1;
    for (int i = 0; i < g->n; i++) {
        w = g->picture[i].w > w ? g->picture[i].w : w;
        h = g->picture[i].h > h ? g->picture[i].h : h;
    }
    while (columns * columns < g->n) columns++;
    const int rows = (g->n + columns - 1) / columns;
    if ((int64_t)w * columns * h * rows > IMAGE_PIXELS_MAX)
        return err_fail(e, "the grid of %d pictures would have more than %d pixels",
                        g->n, IMAGE_PIXELS_MAX);
    Image grid = {w * columns, h * rows, NULL};
    grid.rgb = calloc((size_t)grid.w * (size_t)grid.h, 3);
    if (!grid.rgb) return err_fail(e, "no memory for a grid of %d pictures", g->n);
    for (int i = 0; i < g->n; i++) {
        const Image *p = &g->picture[i];
        for (int y = 0; y < p->h; y++) {
            const size_t to = ((size_t)(i / columns * h + y) * (size_t)grid.w +
                               (size_t)(i % columns * w)) *
                              3;
            memcpy(grid.rgb + to, p->rgb + (size_t)y * (size_t)p->w * 3,
                   (size_t)p->w * 3);
        }
    }
    const char *path = arena_printf(g->arena, "%s/grid_%s.png", g->o->outdir, g->time);
    bool ok = image_write_png(path, &grid, e);
    if (ok && !g->common->quiet) progress_say(g->progress, path);
    image_free(&grid);
    return ok;
}
