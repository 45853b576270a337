/* A model that draws: text encoder, U-Net in a sampler's step, VAE decoder, each a plan,
 * with adapters in them. What `generate` works with. */
#ifndef GRAPHRUN_DRAW_H
#define GRAPHRUN_DRAW_H
#include "cli/files/adapter_use.h"
#include "cli/job/job.h"
#include "io/data.h"
#include "runtime/latents.h"
#include "runtime/sample.h"

typedef struct DrawWord {    /* textual inversion */
    const char *text, *path; /* of its file */
    const float *row;        /* [n,width]: further rows of the text encoder's table */
    int64_t n, width;
} DrawWord;

typedef struct DrawSpec {
    const char *ckpt, *vae; /* vae: NULL, of ckpt */
    int64_t clip_skip;
    bool v_prediction;     /* else as the model's config says */
    bool exact;            /* reference kernels */
    bool encodes;          /* pictures come in: the VAE's other half as well */
    bool vae_tiling;       /* decode at most 64 x 64 latents at once (tiles.h) */
    uint64_t decode_bytes; /* 0, or what decoding may take: tiles as large as fit */
    AdapterUse *use;
    int n_use;
    const DrawWord *word; /* must live as long as the Draw's opening */
    int n_word;
} DrawSpec;

typedef struct DrawShape {   /* what a sampler's plan is for */
    int batch, h, w, chunks; /* of the latent; of text */
    int answers; /* per picture: 1; 2: guided; 3: guided, with a scale of the negative */
    const Doc *sampler;
    int64_t steps, first; /* first: of the steps that are run; 0: all, from noise */
} DrawShape;

typedef struct Draw Draw;
Draw *draw_open(const DrawSpec *s, Device *dev, Err *e);
void draw_close(Draw *d);
const Tokenizer *draw_tokenizer(const Draw *d);
int32_t draw_pad(const Draw *d);      /* the token behind a text */
int64_t draw_width(const Draw *d);    /* of a text state */
const char *draw_note(const Draw *d); /* variants, ties; "" */
const Doc *draw_sampler_doc(Draw *d, const char *name, Err *e);
/* Multipliers of the files from here on; plans made with others are made again. */
void draw_multipliers(Draw *d, const double *m, int n);
/* States of `chunks` rows of 77 ids each: [chunks, 77, width]. */
bool draw_text(Draw *d, const int32_t *ids, int chunks, float *states, Err *e);
/* The sampler for a shape, ready to run but for ctx, drawn and done. context [answers batch,
 * 77 chunks, width]: what guidance leads away from, the prompts, and with three answers the
 * empty text. scale [2]: of guidance and of the negative. Both stay the caller's and must
 * live as long. Valid until another shape or other multipliers are asked for. */
bool draw_sampler(Draw *d, const DrawShape *s, const float *context, const float *scale,
                  Sampler *out, Err *e);
/* latent [h,w,4] as the sampler leaves it -> picture [8h,8w,3], about -1 ... 1. */
bool draw_decode(Draw *d, int h, int w, const float *latent, float *image, Err *e);
/* picture [8h,8w,3], -1 ... 1 -> latent [h,w,4] as a sampler has it, drawn with `seed` from
 * what the encoder says. Only with spec.encodes. */
bool draw_encode(Draw *d, int h, int w, const float *image, int64_t seed, float *latent,
                 Err *e);
/* How often its step runs, from noise. */
bool draw_runs(Draw *d, const DrawShape *s, int64_t *runs, Err *e);
/* The run that step `first` of a sampler begins with. */
bool draw_first_run(Draw *d, const DrawShape *s, int64_t *run, Err *e);
/* Modules of the files that found no place in text encoder or U-Net; of how many. Known
 * once both plans were made. */
int draw_unused(const Draw *d, int *of, const char **first);
#endif
