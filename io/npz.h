/* Latents that sd-scripts stored beside pictures: .npz, a zip of NumPy arrays (training.md
 * section 4). Hostile until parsed. */
#ifndef GRAPHRUN_NPZ_H
#define GRAPHRUN_NPZ_H
#include "graph/base/base.h"

typedef struct NpyArray {
    const void *data; /* row-major, little endian; may be unaligned */
    int bytes;        /* of an element: 2 or 4, floating point */
    int rank;
    int64_t dim[4];
} NpyArray;
/* A .npy file's bytes: floats of 16 or 32 bits, in C order, of 1 to 4 dimensions. */
bool npy_parse(const void *bytes, size_t n, NpyArray *out, const char **why);

/* Is there a file of latents for the picture at `image` (which need not exist), whatever is
 * in it? */
bool npz_exists(const char *image, int w, int h);
/* The latents of a picture of image_w × image_h pixels into out[h,w,4]. They are looked for
 * in NAME.npz, else in NAME_0512x0768_sd.npz; mirrored ones as `latents_flipped` there, else
 * in NAME_flip.npz. They must be F32 or F16 [4,h,w], finite, and not older than the picture.
 * false with *why (in a) when there are none that can be used. */
bool npz_latents(Arena *a, const char *image, int image_w, int image_h, bool mirrored,
                 int w, int h, float *out, const char **why);
#endif
