/* resize-images: a folder of pictures in smaller sizes, for training at several. */
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "runtime/exec.h"
#include "runtime/resize_images.h"

typedef struct ResizeImagesCommand {
    const char *max_resolution, *interpolation, *compat;
    int64_t divisible_by;
    bool save_as_png, copy_associated_files;
} ResizeImagesCommand;

static const char *const interpolations[] = {"area", "cubic", "lanczos4", NULL};

static Filter filter_of(const char *word) {
    return !strcmp(word, "cubic")      ? FILTER_CUBIC
           : !strcmp(word, "lanczos4") ? FILTER_LANCZOS4
                                       : FILTER_AREA;
}

static void report(const Common *c, const char *dst, const ResizedImages *r) {
    for (int i = 0; i < r->n_bad; i++)
        fprintf(stderr, "bad file: %s: %s\n", r->bad[i], r->reason[i]);
    for (int i = 0; i < r->n_folder && !c->quiet; i++)
        fprintf(stderr, "note: left out: %s/ is a folder\n", r->folder[i]);
    if (c->json) {
        Str s = {0};
        str_printf(&s, "{\"images\": %d, \"copied\": %d, \"bad\": [", r->images,
                   r->copied);
        for (int i = 0; i < r->n_bad; i++) {
            if (i) str_add(&s, ", ");
            str_json(&s, r->bad[i]);
        }
        str_add(&s, "]}\n");
        fputs(s.s, stdout);
        str_free(&s);
    } else if (!c->quiet) {
        fprintf(stderr, "%s: %d pictures resized, %d files copied\n", dst, r->images,
                r->copied);
    }
}

static bool resize(Arena *a, const Common *c, const ResizeImagesCommand *o,
                   const WordList *words, Err *e) {
    MaxResolution *list;
    ResizeImages job = {.src = words->word[0],
                        .dst = words->word[1],
                        .divisible_by = (int)o->divisible_by,
                        .filter = filter_of(o->interpolation),
                        .png = o->save_as_png,
                        .associated = o->copy_associated_files,
                        .original = o->compat != NULL};
    if (!resolutions_parse(a, o->max_resolution, &list, &job.n, e)) return false;
    job.resolution = list;
    Device *dev = tool_device(c, NULL, e);
    ResizedImages r;
    bool ok = dev && resize_images(a, &job, dev, &r, e);
    cpu_close(dev);
    if (!ok) return false;
    report(c, job.dst, &r);
    return !r.n_bad || err_fail(e, "%d of the files could not be resized", r.n_bad);
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    Arena *a = arena_new();
    bool ok = resize(a, c, opts, words, e);
    arena_free(a);
    return ok ? EXIT_DONE : e->code;
}

static const ResizeImagesCommand defaults = {.max_resolution =
                                                 "512x512,384x384,256x256,128x128",
                                             .interpolation = "area",
                                             .divisible_by = 1};
static const Opt options[] = {
    OPT(ResizeImagesCommand, TEXT, max_resolution, "WxH,..",
        "largest areas, in order: each size is made from the one before"),
    OPT(ResizeImagesCommand, INT, divisible_by, "N",
        "cut both sides down to multiples of this", .min = 1, .max = 100000),
    OPT(ResizeImagesCommand, TEXT, interpolation, "NAME", "how to resize",
        .words = interpolations),
    OPT(ResizeImagesCommand, FLAG, save_as_png, NULL,
        "write PNG, not JPEG of quality 100"),
    OPT(ResizeImagesCommand, FLAG, copy_associated_files, NULL,
        "captions and other files of a picture go with each size"),
    OPT(ResizeImagesCommand, TEXT, compat, "NAME",
        "the original's set of files: pictures themselves are not copied, and only "
        "lower-case extensions are pictures",
        .words = compat_words),
    OPT_END,
};

const Command cmd_resize_images = {
    .name = "resize-images",
    .args = "SRC DST",
    .doc = "Resize a folder of pictures to smaller areas, keeping their shapes.",
    .options = options,
    .size = sizeof(ResizeImagesCommand),
    .defaults = &defaults,
    .min_words = 2,
    .max_words = 2,
    .run = run,
};
