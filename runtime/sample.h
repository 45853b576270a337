/* Drawing with a sampler: its step is replayed, its states carried from run to run. */
#ifndef GRAPHRUN_SAMPLE_H
#define GRAPHRUN_SAMPLE_H
#include "runtime/exec.h"

/* Plans of one sampler: outputs "start.NAME" of the input "noise"; output "picture.x" of
 * the inputs "image" and "noise" and the scalar "k"; and outputs
 * "next.NAME" of the inputs "state.NAME", the scalar "k" (the run, from 0) and one input
 * per name in `draw`, normal numbers of the latent's shape. */
typedef struct SampleInput { /* what the step's model wants beside the latents */
    const char *name;
    const void *data;
    size_t bytes;
} SampleInput;

typedef struct Sampler {
    Exec *start, *step, *picture; /* picture: NULL if it cannot begin with one */
    int64_t runs;
    SampleInput given[3]; /* written before every run: plans share their memory */
    int n_given;
    const char *const *draw;
    int n_draw;
    /* what the caller wants of run k: numbers for draw i, and a look at the latents
     * afterwards; ctx for both, either may be NULL if not needed. false: stop */
    void *ctx;
    bool (*drawn)(void *ctx, int64_t run, int i, float *out, int64_t n, Err *e);
    bool (*done)(void *ctx, int64_t run, const float *x, int64_t n, Err *e);
    /* may change the latents before that; NULL: leaves them */
    bool (*mix)(void *ctx, int64_t run, float *x, int64_t n, Err *e);
} Sampler;

/* x [n numbers]: starting noise of deviation 1, then the latents behind the last run.
 * from: the first run (0; later ones need `x` to be the state "x" there already). */
bool sample_run(const Sampler *s, float *x, int64_t n, int64_t from, Err *e);
/* The state "x" before run `run` of an image's latents with as much noise as belongs there;
 * behind the last run: the image. out may be either. */
bool sample_picture(const Sampler *s, int64_t run, const float *image,
                    const float *noise, int64_t n, float *out, Err *e);
#endif
