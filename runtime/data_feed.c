/* The feed: a ring of micro-batches made ahead (io/ahead.h). Only what varies with each draw
 * is left to the reader: it runs the VAE. */
#include "runtime/data_feed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/ahead.h"

struct DataFeed {
    DataFeedJob job;
    int64_t next;     /* number of the next micro-batch */
    Ahead *ahead;     /* NULL: not started */
    TextStates *text; /* NULL: captions stay ids */
};

typedef struct Prepared { /* one micro-batch */
    Arena *arena;
    Batch batch;
    Shape shape;
    int epoch;
    bool last;
    float *latent, *mask, *weight;
    float *image;   /* [B,8h,8w,3], of objectives that see pixels; or NULL */
    float **pixels; /* pixels[i]: NULL, or of a picture to encode */
    int32_t *ids;
    char *text; /* the captions' states, or NULL */
} Prepared;

DataFeed *data_feed_new(Arena *a, const DataFeedJob *job) {
    DataFeed *f = NEW(a, DataFeed, 1);
    f->job = *job;
    return f;
}

static Shape batch_shape(const Batch *b, int chunks) {
    return (Shape){b->n, b->h / LATENT_FACTOR, b->w / LATENT_FACTOR, chunks};
}

/* ---- ahead ---- */
static bool plan_batch(void *ctx, int64_t p, void *slot, Err *e) {
    const DataFeed *f = ctx;
    Prepared *b = slot;
    int64_t per_epoch = f->job.data->batches_per_epoch;
    arena_free(b->arena);
    *b = (Prepared){.arena = arena_new(), .epoch = (int)(p / per_epoch) + 1};
    int index = (int)(p % per_epoch);
    b->last = index + 1 == per_epoch;
    if (!dataset_batch(f->job.data, b->epoch, index, b->arena, &b->batch, e))
        return false;
    b->shape = batch_shape(&b->batch, f->job.chunks);
    return true;
}

static bool tokens(const DataFeed *f, const char *caption, const char *path,
                   int32_t *ids, float *weight, Err *e) {
    const DataFeedJob *j = &f->job;
    if (weight)
        tokenizer_weighted(j->tokenizer, caption, j->chunks, j->pad, ids, weight);
    else
        tokenizer_chunks(j->tokenizer, caption, j->chunks, j->pad, ids);
    for (int i = 0; i < j->chunks * TOKEN_ROW; i++)
        if (ids[i] >= j->vocabulary)
            return err_fail(e, "%s: token %d is beyond the text encoder's %lld rows",
                            path, ids[i], (long long)j->vocabulary);
    return true;
}

static void fill_mask(const Latent *l, size_t cells, float *mask) {
    for (size_t i = 0; i < cells; i++) mask[i] = l->mask ? l->mask[i] : 1;
}

/* Sample i of the batch: its latent from what is kept, or its pixels. */
static bool fill_sample(const DataFeed *f, Prepared *b, int i, size_t cells, Err *e) {
    const DataFeedJob *j = &f->job;
    const View *v = &b->batch.view[i];
    float *mask = b->mask ? b->mask + cells * (size_t)i : NULL;
    if (b->image) {
        size_t n = cells * LATENT_FACTOR * LATENT_FACTOR * 3;
        return dataset_pixels(j->data, v, b->image + n * (size_t)i, mask, e);
    }
    if (j->data->sample[v->sample].varies) {
        b->pixels[i] = NEW(b->arena, float, cells *LATENT_FACTOR *LATENT_FACTOR * 3);
        return dataset_pixels(j->data, v, b->pixels[i], mask, e);
    }
    const Latent *l = &j->latents->of[v->sample];
    float *latent = b->latent + 4 * cells * (size_t)i;
    LatentDraw d = {j->seed, "draws", b->batch.draw[i], (uint32_t)b->epoch};
    if (l->sample)
        memcpy(latent, l->sample, 4 * cells * sizeof *latent);
    else
        latent_draw(l->moments, cells, &d, latent);
    if (mask) fill_mask(l, cells, mask);
    return true;
}

static bool fill_batch(void *ctx, void *slot, Err *e) {
    const DataFeed *f = ctx;
    Prepared *b = slot;
    size_t n = (size_t)b->batch.n, words = (size_t)f->job.chunks * TOKEN_ROW;
    size_t cells = (size_t)b->shape.h * (size_t)b->shape.w;
    if (f->job.pixels)
        b->image = NEW(b->arena, float, cells *LATENT_FACTOR *LATENT_FACTOR * 3 * n);
    else
        b->latent = NEW(b->arena, float, 4 * cells * n);
    b->mask = f->job.masks ? NEW(b->arena, float, cells *n) : NULL;
    b->ids = NEW(b->arena, int32_t, words * n);
    b->weight = f->job.weights ? NEW(b->arena, float, words *n) : NULL;
    b->pixels = NEW(b->arena, float *, n);
    for (int i = 0; i < b->batch.n; i++) {
        const char *path = f->job.data->sample[b->batch.view[i].sample].path;
        float *weight = b->weight ? b->weight + words * (size_t)i : NULL;
        if (!tokens(f, b->batch.caption[i], path, b->ids + words * (size_t)i, weight,
                    e) ||
            !fill_sample(f, b, i, cells, e))
            return false;
    }
    return true;
}

static void empty_batch(void *ctx, void *slot) {
    (void)ctx;
    arena_free(((Prepared *)slot)->arena);
}

/* ---- the reader's side ---- */
/* The VAE on one picture that varies. */
static bool encode_sample(const DataFeed *f, Prepared *b, int i, Err *e) {
    size_t cells = (size_t)b->shape.h * (size_t)b->shape.w;
    float *moments = NEW(b->arena, float, 8 * cells);
    if (!vae_moments(&f->job.vae, 1, b->batch.w, b->batch.h, b->pixels[i], moments, e))
        return false;
    for (size_t k = 0; k < 8 * cells; k++)
        if (!isfinite(moments[k]))
            return err_fail(e, "%s: its latent has a NaN or Inf: the VAE overflows",
                            f->job.data->sample[b->batch.view[i].sample].path);
    LatentDraw d = {f->job.seed, "draws", b->batch.draw[i], (uint32_t)b->epoch};
    latent_draw(moments, cells, &d, b->latent + 4 * cells * (size_t)i);
    return true;
}

/* The captions' states, one behind the other. */
static bool encode_captions(const DataFeed *f, Prepared *b, Err *e) {
    size_t n = (size_t)b->batch.n, words = (size_t)f->job.chunks * TOKEN_ROW, bytes;
    for (size_t i = 0; i < n; i++) {
        const void *states = text_states(f->text, b->ids + words * i, &bytes, e);
        if (!states) return false;
        if (!b->text) b->text = arena_alloc(b->arena, n, bytes);
        memcpy(b->text + bytes * i, states, bytes);
    }
    return true;
}

static bool next(void *ctx, MicroBatch *out, Err *e) {
    DataFeed *f = ctx;
    AheadWork work = {f, sizeof(Prepared), plan_batch, fill_batch, empty_batch};
    if (!f->ahead) f->ahead = ahead_open(&work, f->next, INT64_MAX, f->job.threads, e);
    void *slot;
    if (!f->ahead || !ahead_next(f->ahead, &slot, e)) return false;
    f->next++;
    Prepared *b = slot;
    for (int i = 0; i < b->batch.n; i++)
        if (b->pixels[i] && !encode_sample(f, b, i, e)) return false;
    if (f->text && !encode_captions(f, b, e)) return false;
    *out = (MicroBatch){.shape = b->shape,
                        .latent = b->latent,
                        .image = b->image,
                        .ids = b->ids,
                        .text = b->text,
                        .mask = b->mask,
                        .token_weight = b->weight,
                        .loss_weight = b->batch.loss_weight,
                        .epoch = b->epoch,
                        .last_of_epoch = b->last};
    return true;
}

void data_feed_text(DataFeed *f, TextStates *text) {
    f->text = text;
}

void data_feed_seek(DataFeed *f, int64_t micro) {
    ahead_close(f->ahead);
    f->ahead = NULL;
    f->next = micro;
}

static bool seek(void *ctx, int64_t micro, Err *e) {
    const DataFeed *f = ctx;
    if (micro / f->job.data->batches_per_epoch >= INT32_MAX)
        return err_fail(e, "micro-batch %lld is beyond the last epoch that is counted",
                        (long long)micro);
    data_feed_seek(ctx, micro);
    return true;
}

void data_feed_close(DataFeed *f) {
    data_feed_seek(f, 0);
}

Feed data_feed(DataFeed *f) {
    return (Feed){f, next, seek};
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
