/* Which images make up which batch (training.md 2.6 and 3.5).
 *
 * Plan: by dataset, by bucket (ascending), by sample, every sample as often as it is
 * repeated. Runs of one bucket are cut into slices of batch_size; the last may be
 * smaller.
 *
 * Order: each epoch starts from the plan. The draws of every run are shuffled, then the
 * turns of all slices, by Fisher and Yates' method from the back. The numbers are
 * Philox4x32-10 blocks (kernels/rng.h) with key = seed and counter = (position, stream,
 * number of the run or of the draw, epoch); a number below n is the high word of the
 * block's first 64 bits times n. So a batch is a pure function of seed, epoch and
 * index. Streams: path "data", purposes "draws", "turns", "captions" (position: which
 * number of the caption; draw: index in the epoch times batch_size plus place) and
 * "flips". */
#include <stdlib.h>
#include <string.h>

#include "io/dataset_parts.h"
#include "kernels/rng.h"

/* ---- numbers ---- */
typedef struct Numbers {
    int32_t rng[RNG_WORDS];
    uint32_t stream, at;
} Numbers;

static Numbers numbers(const Parts *p, const char *purpose, uint32_t unit, int epoch) {
    Numbers x = {.stream = rng_stream("data", purpose)};
    x.rng[RNG_SEED_LO] = (int32_t)(uint32_t)p->seed;
    x.rng[RNG_SEED_HI] = (int32_t)(uint32_t)(p->seed >> 32);
    x.rng[RNG_SAMPLE] = (int32_t)unit;
    x.rng[RNG_MICRO] = epoch;
    return x;
}

static uint32_t draw_below(void *ctx, uint32_t below) {
    Numbers *x = ctx;
    uint32_t w[4];
    rng_block(x->rng, x->stream, 0, x->at++, w);
    uint64_t bits = (uint64_t)w[0] << 32 | w[1];
    return (uint32_t)(((unsigned __int128)bits * below) >> 64);
}

static void shuffle(int *item, int n, Numbers *x) {
    for (int i = n; i > 1; i--) {
        int j = (int)draw_below(x, (uint32_t)i), t = item[i - 1];
        item[i - 1] = item[j];
        item[j] = t;
    }
}

/* ---- the plan ---- */
typedef struct Place { /* a sample and where it belongs */
    int dataset, w, h, sample;
} Place;

static int by_place(const void *x, const void *y) {
    const Place *a = x, *b = y;
    if (a->dataset != b->dataset) return a->dataset < b->dataset ? -1 : 1;
    if (a->w != b->w) return a->w < b->w ? -1 : 1;
    if (a->h != b->h) return a->h < b->h ? -1 : 1;
    return (a->sample > b->sample) - (a->sample < b->sample);
}

static bool same_bucket(const Place *a, const Place *b) {
    return a->dataset == b->dataset && a->w == b->w && a->h == b->h;
}

static void cut_run(Dataset *d, Order *o, int from, int n, int batch_size, int *cap) {
    o->run[o->n_run++] = (Run){from, n};
    for (int i = 0; i < n; i += batch_size) {
        Slice s = {from + i, n - i < batch_size ? n - i : batch_size};
        PUSH(d->arena, o->slice, o->n_slice, *cap, s);
    }
}

static Place *sorted_places(const Dataset *d, Arena *a, int *n) {
    Place *place = NEW(a, Place, d->n);
    for (int i = 0; i < d->n; i++) {
        const Sample *s = &d->sample[i];
        if (s->mirrored) continue;
        place[(*n)++] = (Place){s->dataset, s->bucket_w, s->bucket_h, i};
    }
    if (*n) qsort(place, (size_t)*n, sizeof *place, by_place);
    return place;
}

bool order_make(Dataset *d, Err *e) {
    Parts *p = d->priv;
    Order *o = &p->order;
    int64_t total = 0;
    for (int i = 0; i < d->n; i++) total += d->sample[i].repeats;
    if (total > 2 * (int64_t)DRAWS_MAX)
        return err_fail(e, "%lld images with repeats, at most %d are allowed",
                        (long long)total, 2 * DRAWS_MAX);
    Arena *scratch = arena_new();
    int n = 0, cap = 0, at = 0;
    const Place *place = sorted_places(d, scratch, &n);
    int *plan = NEW(d->arena, int, total);
    o->run = NEW(d->arena, Run, n);
    for (int i = 0, j; i < n; i = j) {
        int from = at;
        for (j = i; j < n && same_bucket(&place[i], &place[j]); j++)
            for (int k = 0; k < d->sample[place[j].sample].repeats; k++)
                plan[at++] = place[j].sample;
        cut_run(d, o, from, at - from, p->config.dataset[place[i].dataset].batch_size,
                &cap);
    }
    o->plan = plan;
    o->n = at;
    o->draw = NEW(d->arena, int, total);
    o->turn = NEW(d->arena, int, o->n_slice);
    d->batches_per_epoch = o->n_slice;
    arena_free(scratch);
    return true;
}

/* ---- an epoch's order ---- */
static void arrange(const Parts *p, Order *o, int epoch) {
    if (o->epoch == epoch) return;
    memcpy(o->draw, o->plan, (size_t)o->n * sizeof *o->draw);
    for (int r = 0; r < o->n_run; r++) {
        Numbers x = numbers(p, "draws", (uint32_t)r, epoch);
        shuffle(o->draw + o->run[r].from, o->run[r].n, &x);
    }
    for (int i = 0; i < o->n_slice; i++) o->turn[i] = i;
    Numbers x = numbers(p, "turns", 0, epoch);
    shuffle(o->turn, o->n_slice, &x);
    o->epoch = epoch;
}

/* The drawn sample, or its mirror image. */
static int choose(const Parts *p, int sample, uint32_t unit, int epoch) {
    if (p->mirror[sample] < 0) return sample;
    Numbers x = numbers(p, "flips", unit, epoch);
    return draw_below(&x, 2) ? p->mirror[sample] : sample;
}

bool dataset_batch(Dataset *d, int epoch, int index, Arena *a, Batch *out, Err *e) {
    Parts *p = d->priv;
    Order *o = &p->order;
    if (epoch < 1 || index < 0 || index >= o->n_slice)
        return err_fail(
            e, "no batch %d in epoch %d: epochs count from 1, batches from 0 to %d",
            index, epoch, o->n_slice - 1);
    arrange(p, o, epoch);
    const Slice *slice = &o->slice[o->turn[index]];
    int *sample = NEW(a, int, slice->n);
    const char **caption = NEW(a, const char *, slice->n);
    float *weight = NEW(a, float, slice->n);
    for (int i = 0; i < slice->n; i++) {
        uint32_t unit = (uint32_t)index * (uint32_t)d->batch_size + (uint32_t)i;
        const Sample *s = &d->sample[o->draw[slice->from + i]];
        const CaptionRule *rule =
            &p->config.dataset[s->dataset].subset[s->subset].caption;
        Numbers x = numbers(p, "captions", unit, epoch);
        sample[i] = choose(p, (int)(s - d->sample), unit, epoch);
        caption[i] = caption_process(a, s->caption, rule, draw_below, &x);
        weight[i] = s->reg ? (float)p->prior_loss_weight : 1.0f;
    }
    const Sample *first = &d->sample[sample[0]];
    *out = (Batch){slice->n, sample, first->bucket_w, first->bucket_h, caption, weight};
    return true;
}
