/* The parts of `graphrun generate`: requests, batches of them, files. */
#ifndef GRAPHRUN_GENERATE_H
#define GRAPHRUN_GENERATE_H
#include "cli/draw.h"
#include "cli/opt.h"
#include "io/prompt_line.h"
#include "runtime/progress.h"

typedef struct GenerateOptions {
    const char *ckpt, *vae, *prompt, *from_file, *outdir, *sampler, *device, *inputs,
        *record;
    WordList network_module, network_weights, network_mul, lbws;
    int64_t n_iter, images_per_prompt, W, H, batch_size, steps, seed, clip_skip,
        max_embeddings_multiples;
    double scale;
    bool v2, v_parameterization, sequential_file_name, iter_same_seed, grid, exact,
        network_show_meta, network_merge;
} GenerateOptions;

typedef struct Request { /* one picture */
    const char *raw, *prompt, *negative;
    int w, h; /* of the latent */
    int64_t steps, seed;
    bool seeded; /* the seed stands in the prompt */
    double scale;
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
    char time[16];  /* YYYYMMDDhhmmss */
    Image *picture; /* all, for a grid */
    TensorFile *in; /* --inputs */
    TensorOut *out; /* --record */
    int n_out, cap_out;
    Progress *progress;
    int64_t done, all; /* runs of samplers */
    /* prompts as sd-scripts reads them for samples: sizes are rounded */
    bool while_training;
} Generate;

/* Now, or SOURCE_DATE_EPOCH: YYYYMMDDhhmmss. */
void generate_time(char text[16]);
/* Fills g->request from options, prompts and seeds. */
bool generate_requests(Generate *g, Err *e);
/* Draws n requests that differ in text and seed only; their pictures to `out`. first: the
 * first of all, which --inputs and --record are about. */
bool generate_batch(Generate *g, const Request *r, int n, bool first, Image *out,
                    Err *e);
/* Can they be drawn in one batch? */
bool generate_same(const Generate *g, const Request *a, const Request *b);
/* The file of picture i (in its batch of requests), with its settings in it. */
bool generate_save(Generate *g, const Request *r, int index, const Image *im, Err *e);
/* The same under a name of the caller's. */
bool generate_write(Generate *g, const char *path, const Request *r, const Image *im,
                    Err *e);
bool generate_grid(Generate *g, Err *e);
/* n pictures, `columns` in a row; smaller ones stand at the left top of their cell.
 * out->rgb: image_free. */
bool generate_beside(const Image *p, int n, int columns, Image *out, Err *e);
#endif
