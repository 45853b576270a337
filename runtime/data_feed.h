/* Micro-batches from a data set: pictures encoded once by the VAE and kept in memory,
 * captions tokenized, batches in the data set's order. */
#ifndef GRAPHRUN_DATA_FEED_H
#define GRAPHRUN_DATA_FEED_H
#include "io/data.h"
#include "runtime/train.h"

typedef struct Latents {
    float **of;  /* per sample of the data set: [h,w,4], before ×0.18215 */
    bool pixels; /* no latents, but the pictures themselves: [8h,8w,3] in -1 … 1 */
} Latents;

/* For objectives that see pixels: every picture, decoded once. */
bool latents_pixels(Arena *a, const Dataset *d, int threads,
                    void (*told)(void *ctx, int done, int of), void *ctx, Latents *out,
                    Err *e);

/* Encodes every picture once, decoding ahead on `threads` threads. exec gives the plan of
 * the VAE encoder for a picture size (batch 1; input "image", output "latent"). The noise
 * of a sample depends on the seed and its place in the data set only, and is drawn once.
 * told (may be NULL) is called after each picture. A latent that is not finite: err_fail
 * naming the file. */
bool latents_encode(Arena *a, const Dataset *d,
                    Exec *(*exec)(void *ctx, int w, int h, Err *e), void *ctx,
                    uint64_t seed, int threads,
                    void (*told)(void *ctx, int done, int of), Latents *out, Err *e);

typedef struct DataFeed DataFeed;
/* chunks of 77 tokens per caption; pad: PAD_END (SD1) or 0 (SD2); vocabulary: rows of the
 * text encoder's table, a token beyond it is an error. */
DataFeed *data_feed_new(Arena *a, Dataset *d, const Latents *l, const Tokenizer *t,
                        int chunks, int32_t pad, int64_t vocabulary);
void data_feed_close(DataFeed *f);
Feed data_feed(DataFeed *f);
/* Every shape that an epoch's batches have, each once, in order of first use. */
bool data_feed_shapes(Arena *a, Dataset *d, int chunks, Shape **out, int *n, Err *e);
#endif
