/* The parts of `graphrun generate`: requests, batches of them, files. */
#ifndef GRAPHRUN_GENERATE_H
#define GRAPHRUN_GENERATE_H
#include "cli/generate/draw.h"
#include "cli/opt.h"
#include "io/prompt_line.h"
#include "runtime/progress.h"

typedef struct GenerateOptions {
    const char *ckpt, *vae, *prompt, *from_file, *outdir, *sampler, *device, *inputs,
        *record, *image_path, *mask_path, *memory_budget;
    WordList network_module, network_weights, network_mul, lbws, adapter,
        textual_inversion_embeddings;
    int64_t n_iter, images_per_prompt, W, H, batch_size, steps, seed, clip_skip,
        max_embeddings_multiples, highres_fix_steps;
    double scale, negative_scale, strength, highres_fix_scale, highres_fix_strength;
    bool v2, v_parameterization, sequential_file_name, iter_same_seed, grid, exact,
        network_show_meta, network_merge, vae_tiling, highres_fix_save_1st,
        highres_fix_latents_upscaling;
} GenerateOptions;

extern const GenerateOptions generate_defaults;

typedef struct Request { /* one picture */
    const char *raw, *prompt, *negative;
    int w, h;                     /* of the latent */
    int64_t steps, first, seed;   /* first: of the steps that are run */
    bool seeded;                  /* the seed stands in the prompt */
    double scale, negative_scale; /* NAN: the negative has no scale of its own */
    const char *clip;             /* --c: only told in the picture; NULL: none */
    const char *image, *mask;     /* what it begins with; NULL: noise, everywhere */
    struct Small {                /* highres fix: what is drawn first; w 0: nothing */
        int w, h;
        int64_t steps, first;
    } small;
    const Image *found;  /* of highres fix, instead of `image`: a picture, or */
    const float *latent; /* latents [h,w,4] */
    const Doc *sampler;
    const double *multiplier; /* of the networks */
} Request;

typedef struct Generate {
    const Common *common;
    const GenerateOptions *o;
    Arena *arena;
    Draw *draw;
    Device *dev;
    AdapterUse *use;
    AdapterFile **file;
    int n_use;
    Request *request;
    int n, cap;
    const char *
        *source[2]; /* pictures and masks to begin with, NULL-terminated, or NULL */
    char time[16];  /* YYYYMMDDhhmmss */
    Image *picture; /* all, for a grid */
    TensorFile *in; /* --inputs */
    TensorOut *out; /* --record */
    int n_out, cap_out;
    Progress *progress;
    int64_t done, all; /* runs of samplers */
    /* prompts as sd-scripts reads them for samples: sizes are rounded */
    bool while_training;
    /* looked at between the runs of a sampler: not 0 ends the drawing; may be NULL */
    const volatile int *stop;
} Generate;

/* Takes a file over, also on failure, as one more adapter in use; g->use and g->file have
 * room. A plain LoRA is one; any other file is of the adapter that is named, or (NULL) what
 * its keys say. */
bool generate_use(Generate *g, TensorFile *t, const char *adapter, double multiplier,
                  Err *e);
/* The words of --textual_inversion_embeddings, in g->arena. */
bool generate_words(Generate *g, DrawWord **out, Err *e);
/* What was opened for drawing: model, adapters, pictures, arena. */
void generate_close(Generate *g);
/* Now, or SOURCE_DATE_EPOCH: YYYYMMDDhhmmss. */
void generate_time(char text[16]);
typedef struct Beginning { /* pictures that a batch begins with, as latents [B,h,w,4] */
    float *image, *noise, *mask, /* [B,h,w]: 1 where it is drawn; NULL: everywhere */
        *kept;                   /* room for what is not drawn, beside a mask */
    int64_t run;                 /* the first */
} Beginning;
/* Pictures of --image_path and --mask_path, one per request in turn. */
bool generate_sources(Generate *g, Err *e);
/* x [n,h,w,4]: noise -> what the first run starts from; out->image NULL: the noise. */
bool generate_begin(Generate *g, Arena *a, const Request *r, int n, const Sampler *s,
                    const DrawShape *shape, float *x, Beginning *out, Err *e);
/* After run `run`: what is not to be drawn becomes the picture again. */
bool generate_keep(const Beginning *b, const Sampler *s, int64_t run, float *x,
                   int64_t n, Err *e);

/* Fills g->request from options, prompts and seeds. */
bool generate_requests(Generate *g, Err *e);
/* Was it ended by g->stop? What fails then fails without a message. */
bool generate_stopped(const Generate *g);
/* Draws n requests that differ in text and seed only; their pictures to `out`. first: the
 * first of all, which --inputs and --record are about. */
bool generate_batch(Generate *g, const Request *r, int n, bool first, Image *out,
                    Err *e);
/* The same in one go, whatever r->small says. out, latents [n,h,w,4]: NULL: not wanted. */
bool generate_once(Generate *g, const Request *r, int n, bool first, Image *out,
                   float *latents, Err *e);
/* The same in two: small, and that enlarged as what the second begins with. */
bool generate_highres(Generate *g, const Request *r, int n, bool first, Image *out,
                      Err *e);
/* Can they be drawn in one batch? */
bool generate_same(const Generate *g, const Request *a, const Request *b);
/* The file of picture i (in its batch of requests), with its settings in it. stage: "", or
 * of highres fix "0" or "1", in its name. */
bool generate_save(Generate *g, const Request *r, const char *stage, int index,
                   const Image *im, Err *e);
/* The same under a name of the caller's. */
bool generate_write(Generate *g, const char *path, const Request *r, const Image *im,
                    Err *e);
bool generate_grid(Generate *g, Err *e);
/* n pictures, `columns` in a row; smaller ones stand at the left top of their cell.
 * out->rgb: image_free. */
bool generate_beside(const Image *p, int n, int columns, Image *out, Err *e);
#endif
