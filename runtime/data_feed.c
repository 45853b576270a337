/* From pictures and captions to latents and token ids, and from those to micro-batches. */
#define _GNU_SOURCE /* qsort_r */
#include "runtime/data_feed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"

enum { FACTOR = 8 /* pixels per latent side */, TOKENS = 77 };

/* ---- latents ---- */
/* Pictures of one size stand together, so that one plan serves a run of them. */
static int by_bucket(const void *a, const void *b, void *dataset) {
    const Sample *sample = ((const Dataset *)dataset)->sample;
    const Sample *x = &sample[*(const int *)a], *y = &sample[*(const int *)b];
    if (x->bucket_w != y->bucket_w) return x->bucket_w - y->bucket_w;
    if (x->bucket_h != y->bucket_h) return x->bucket_h - y->bucket_h;
    return *(const int *)a - *(const int *)b;
}

static bool encode_one(Exec *x, const float *pixels, const Sample *s, int index,
                       uint64_t seed, float *latent, Err *e) {
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(seed >> 32);
    rng[RNG_SAMPLE] = index;
    size_t image = (size_t)s->bucket_w * (size_t)s->bucket_h * 3 * sizeof(float);
    size_t count = (size_t)(s->bucket_w / FACTOR) * (size_t)(s->bucket_h / FACTOR) * 4;
    if (!exec_write(x, "image", pixels, image, e) ||
        !exec_write(x, "rng", rng, sizeof rng, e))
        return false;
    exec_run(x);
    if (!exec_read(x, "latent", latent, count * sizeof(float), e)) return false;
    for (size_t i = 0; i < count; i++)
        if (!isfinite(latent[i]))
            return err_fail(e, "%s: its latent has a NaN or Inf: the VAE overflows",
                            s->path);
    return true;
}

bool latents_encode(Arena *a, const Dataset *d,
                    Exec *(*exec)(void *ctx, int w, int h, Err *e), void *ctx,
                    uint64_t seed, int threads,
                    void (*told)(void *ctx, int done, int of), Latents *out, Err *e) {
    int *order = NEW(a, int, d->n);
    for (int i = 0; i < d->n; i++) order[i] = i;
    qsort_r(order, (size_t)d->n, sizeof *order, by_bucket, (void *)d);
    out->of = NEW(a, float *, d->n);
    Loader *l = loader_open(d, order, d->n, threads, e);
    bool ok = l != NULL;
    for (int i = 0; ok && i < d->n; i++) {
        int index;
        const float *pixels;
        ok = loader_next(l, &index, &pixels, e);
        if (!ok) break;
        const Sample *s = &d->sample[index];
        int w = s->bucket_w / FACTOR, h = s->bucket_h / FACTOR;
        Exec *x = exec(ctx, s->bucket_w, s->bucket_h, e);
        out->of[index] = NEW(a, float, (int64_t)w *h * 4);
        ok = x && encode_one(x, pixels, s, index, seed, out->of[index], e);
        if (ok && told) told(ctx, i + 1, d->n);
    }
    if (l) loader_close(l);
    return ok;
}

static size_t numbers(const Latents *l, int h, int w) {
    size_t n = (size_t)h * (size_t)w;
    return l->pixels ? n * FACTOR * FACTOR * 3 : n * 4;
}

bool latents_pixels(Arena *a, const Dataset *d, int threads,
                    void (*told)(void *ctx, int done, int of), void *ctx, Latents *out,
                    Err *e) {
    int *order = NEW(a, int, d->n);
    for (int i = 0; i < d->n; i++) order[i] = i;
    *out = (Latents){NEW(a, float *, d->n), true};
    Loader *l = loader_open(d, order, d->n, threads, e);
    bool ok = l != NULL;
    for (int i = 0; ok && i < d->n; i++) {
        int index;
        const float *pixels;
        ok = loader_next(l, &index, &pixels, e);
        if (!ok) break;
        const Sample *s = &d->sample[index];
        size_t n = numbers(out, s->bucket_h / FACTOR, s->bucket_w / FACTOR);
        out->of[index] = NEW(a, float, n);
        memcpy(out->of[index], pixels, n * sizeof *pixels);
        if (told) told(ctx, i + 1, d->n);
    }
    if (l) loader_close(l);
    return ok;
}

/* ---- the feed ---- */
struct DataFeed {
    Dataset *data;
    const Latents *latents;
    const Tokenizer *tokenizer;
    int chunks, epoch, index; /* the next batch */
    int32_t pad;
    int64_t vocabulary;
    Arena *batch; /* lives for one micro-batch */
};

DataFeed *data_feed_new(Arena *a, Dataset *d, const Latents *l, const Tokenizer *t,
                        int chunks, int32_t pad, int64_t vocabulary) {
    DataFeed *f = NEW(a, DataFeed, 1);
    *f = (DataFeed){.data = d,
                    .latents = l,
                    .tokenizer = t,
                    .chunks = chunks,
                    .epoch = 1,
                    .pad = pad,
                    .vocabulary = vocabulary};
    return f;
}

static bool tokens(const DataFeed *f, const char *caption, const char *path,
                   int32_t *ids, Err *e) {
    tokenizer_chunks(f->tokenizer, caption, f->chunks, f->pad, ids);
    for (int i = 0; i < f->chunks * TOKENS; i++)
        if (ids[i] >= f->vocabulary)
            return err_fail(e, "%s: token %d is beyond the text encoder's %lld rows",
                            path, ids[i], (long long)f->vocabulary);
    return true;
}

static Shape batch_shape(const Batch *b, int chunks) {
    return (Shape){b->n, b->h / FACTOR, b->w / FACTOR, chunks};
}

static bool next(void *ctx, MicroBatch *out, Err *e) {
    DataFeed *f = ctx;
    arena_free(f->batch);
    f->batch = arena_new();
    Batch b;
    if (!dataset_batch(f->data, f->epoch, f->index, f->batch, &b, e)) return false;
    Shape s = batch_shape(&b, f->chunks);
    size_t one = numbers(f->latents, s.h, s.w), words = (size_t)f->chunks * TOKENS;
    float *latent = NEW(f->batch, float, one *(size_t)b.n);
    int32_t *ids = NEW(f->batch, int32_t, words * (size_t)b.n);
    for (int i = 0; i < b.n; i++) {
        const Sample *sample = &f->data->sample[b.sample[i]];
        memcpy(latent + one * (size_t)i, f->latents->of[b.sample[i]],
               one * sizeof *latent);
        if (!tokens(f, b.caption[i], sample->path, ids + words * (size_t)i, e))
            return false;
    }
    bool last = f->index + 1 == f->data->batches_per_epoch;
    *out = (MicroBatch){.shape = s,
                        .latent = f->latents->pixels ? NULL : latent,
                        .image = f->latents->pixels ? latent : NULL,
                        .ids = ids,
                        .loss_weight = b.loss_weight,
                        .epoch = f->epoch,
                        .last_of_epoch = last};
    f->index = last ? 0 : f->index + 1;
    f->epoch += last;
    return true;
}

void data_feed_close(DataFeed *f) {
    arena_free(f->batch);
}

Feed data_feed(DataFeed *f) {
    return (Feed){f, next};
}

bool data_feed_shapes(Arena *a, Dataset *d, int chunks, Shape **out, int *n, Err *e) {
    int cap = 0;
    *out = NULL, *n = 0;
    for (int i = 0; i < d->batches_per_epoch; i++) {
        Arena *batch = arena_new();
        Batch b;
        bool ok = dataset_batch(d, 1, i, batch, &b, e);
        Shape s = ok ? batch_shape(&b, chunks) : (Shape){0};
        arena_free(batch);
        if (!ok) return false;
        bool seen = false;
        for (int k = 0; k < *n; k++) seen |= !memcmp(&(*out)[k], &s, sizeof s);
        if (!seen) PUSH(a, *out, *n, cap, s);
    }
    return true;
}
