/* A folder of pictures in smaller sizes: what `resize-images` does (lora.md section 9). */
#ifndef GRAPHRUN_RESIZE_IMAGES_H
#define GRAPHRUN_RESIZE_IMAGES_H
#include "graph/device.h"
#include "io/data.h"

typedef struct MaxResolution {
    const char *text; /* as it stands in file names: "512x512" */
    int64_t pixels;   /* their product: the area that a picture may have */
} MaxResolution;

typedef struct ResizeImages {
    const char *src, *dst;
    const MaxResolution *resolution;
    int n;
    int divisible_by;
    Filter filter;
    bool png;        /* else JPEG of quality 100 */
    bool associated; /* captions go with each size */
    bool original; /* sd-scripts' set of files: only lower-case extensions are pictures,
                        and pictures themselves are not copied */
} ResizeImages;

typedef struct ResizedImages {
    int images, copied; /* pictures resized, other files (and originals) copied */
    const char **bad, **reason; /* files that failed, in the arena; the rest was done */
    int n_bad;
    const char **folder; /* that lie in `src`, left out, sorted */
    int n_folder;
} ResizedImages;

/* "512x512,384x384": spaces around entries are allowed. In a. */
bool resolutions_parse(Arena *a, const char *text, MaxResolution **out, int *n, Err *e);
/* Each size is made from the one before it, nothing is enlarged. False: nothing could be
 * done at all; single files' failures are in *out. */
bool resize_images(Arena *a, const ResizeImages *o, Device *dev, ResizedImages *out,
                   Err *e);
#endif
