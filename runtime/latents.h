/* Pictures as latents: encoded once by the VAE, in memory, and on disk if wanted.
 *
 * Kept are the moments that the encoder gives, the mean and the log variance, from which a
 * latent is drawn each time a picture is used (as sd-scripts does without --cache_latents),
 * or once for the whole run (as with it). So nothing depends on whether the moments came
 * from the disk. */
#ifndef GRAPHRUN_LATENTS_H
#define GRAPHRUN_LATENTS_H
#include "io/data.h"
#include "runtime/exec.h"

enum { LATENT_FACTOR = 8 /* pixels per side of a latent */ };
/* Of Stable Diffusion's VAE: what the U-Net sees is a latent times this. */
#define LATENT_SCALE 0.18215

typedef struct Latent {
    float *moments; /* [h,w,8]; NULL: see sample, or the picture varies */
    float *sample;  /* [h,w,4], before ×0.18215: the one that is used; NULL: drawn */
    float *mask;    /* [h,w], or NULL */
} Latent;

typedef struct Latents {
    Latent *of; /* per sample of the data set */
    int encoded, from_cache, from_npz;
    const char
        *npz_refused; /* the last .npz that could not be used, and why; or NULL */
} Latents;

/* The plan of the VAE encoder for n pictures of w × h: inputs "image" [n,h,w,3] and "rng",
 * outputs "mean" and "logvar" [n,h/8,w/8,4]. */
typedef struct VaeSource {
    Exec *(*exec)(void *ctx, int n, int w, int h, Err *e);
    void *ctx;
} VaeSource;

typedef struct LatentJob {
    const Dataset *data;
    VaeSource vae;
    uint64_t seed;
    int threads, batch; /* pictures per run of the VAE */
    bool masks;         /* keep masks */
    bool once;          /* draw one latent for the whole run */
    const char *disk; /* what the VAE is, for the keys on disk; NULL: nothing on disk */
    bool check;       /* check sums of what is read from disk */
    void (*told)(void *ctx, int done, int of);
    void *told_ctx;
} LatentJob;
/* Encodes all pictures that do not vary, decoding ahead on threads; what is in `a` is the
 * same for any number of them and any batch. A latent that is not finite: err_fail naming
 * the file. */
bool latents_encode(Arena *a, const LatentJob *job, Latents *out, Err *e);

/* Moments of n pictures of the same size: pixels[n,h,w,3] -> moments[n,h/8,w/8,8]. */
bool vae_moments(const VaeSource *vae, int n, int w, int h, const float *pixels,
                 float *moments, Err *e);
/* Which random numbers a latent is drawn with. */
typedef struct LatentDraw {
    uint64_t seed;
    const char *purpose;
    uint32_t unit, epoch;
} LatentDraw;
/* mean + exp(logvar / 2) · normal, for `cells` cells. */
void latent_draw(const float *moments, size_t cells, const LatentDraw *d, float *out);
#endif
