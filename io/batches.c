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
 * index. Streams: path "data", purposes "draws", "turns", and of every draw (its number:
 * index in the epoch times batch_size plus place) "captions", "flips", "crops", "colours",
 * "faces". */
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

/* ---- what one draw shows ---- */
static double draw_uniform(void *ctx) {
    return (double)draw_below(ctx, UINT32_MAX) / 4294967296.0;
}

/* 0 … most */
static int draw_int(Numbers *x, int most) {
    return (int)draw_below(x, (uint32_t)most + 1);
}

static const SubsetConfig *subset_of(const Parts *p, const Sample *s) {
    return &p->config.dataset[s->dataset].subset[s->subset];
}

/* Width first, then height. */
static void random_crop(View *v, const Sample *s, Numbers x) {
    v->left = draw_int(&x, v->resized_w - s->bucket_w);
    v->top = draw_int(&x, v->resized_h - s->bucket_h);
}

/* With a probability of 0.33 another hue or another gamma (training.md 2.5). */
static void random_colour(View *v, Numbers x) {
    if (draw_uniform(&x) > 0.33) return;
    bool hue = draw_uniform(&x) > 0.5;
    double u = draw_uniform(&x);
    if (hue)
        v->hue = -8 + 16 * u;
    else
        v->gamma = 0.95 + 0.1 * u;
}

/* Where one axis is cut so that the face is inside; size: of the cut. */
static int face_offset(const SubsetConfig *c, const Sample *s, int face_at, int length,
                       int size, Numbers *x) {
    int at = face_at - size / 2,
        face = s->face[2] > s->face[3] ? s->face[2] : s->face[3];
    int shorter = s->bucket_w < s->bucket_h ? s->bucket_w : s->bucket_h;
    if (c->random_crop) { /* the face is more often near the middle */
        int reach = length - face_at > face_at ? length - face_at : face_at;
        int first = draw_int(x, reach);
        at += first + draw_int(x, reach) - reach;
    } else if (c->face_crop[0] != c->face_crop[1] && face > shorter / 10 &&
               face >= 40) {
        at += draw_int(x, 2 * (face / 20)) - face / 20;
    }
    if (at > length - size) at = length - size;
    return at < 0 ? 0 : at;
}

static void face_crop(View *v, const SubsetConfig *c, const Sample *s, Numbers x) {
    double fits_h = (double)s->bucket_h / s->h, fits_w = (double)s->bucket_w / s->w;
    int face = s->face[2] > s->face[3] ? s->face[2] : s->face[3];
    int shorter = s->bucket_w < s->bucket_h ? s->bucket_w : s->bucket_h;
    double least = fits_h > fits_w ? fits_h : fits_w;
    double small = shorter / (face * c->face_crop[1]),
           large = shorter / (face * c->face_crop[0]);
    if (small > least) least = small;
    if (least > 1) least = 1;
    if (large < least) large = least;
    if (large > 1) large = 1;
    double scale = least < large ? least + (large - least) * draw_uniform(&x) : least;
    v->resized_w = (int)(s->w * scale + 0.5);
    v->resized_h = (int)(s->h * scale + 0.5);
    v->top = face_offset(c, s, (int)(s->face[1] * scale + 0.5), v->resized_h,
                         s->bucket_h, &x);
    v->left = face_offset(c, s, (int)(s->face[0] * scale + 0.5), v->resized_w,
                          s->bucket_w, &x);
}

/* The drawn sample, or its mirror image, in one of its views. */
static View choose(const Dataset *d, int sample, uint32_t unit, int epoch) {
    const Parts *p = d->priv;
    const Sample *s = &d->sample[sample];
    const SubsetConfig *c = subset_of(p, s);
    Numbers x = numbers(p, "flips", unit, epoch);
    if (p->mirror[sample] >= 0 && draw_below(&x, 2)) sample = p->mirror[sample];
    View v = dataset_view(d, sample);
    if (!s->varies) return v;
    if (s->face[2] && (s->w != s->bucket_w || s->h != s->bucket_h))
        face_crop(&v, c, s, numbers(p, "faces", unit, epoch));
    else if (c->random_crop)
        random_crop(&v, s, numbers(p, "crops", unit, epoch));
    if (c->color_aug) random_colour(&v, numbers(p, "colours", unit, epoch));
    return v;
}

void dataset_pace(Dataset *d, int accumulate, int64_t max_steps) {
    Parts *p = d->priv;
    p->accumulate = accumulate > 1 ? accumulate : 1;
    p->max_steps = max_steps;
}

/* Updates before a batch: an epoch's end makes one of what is left over. */
static CaptionTime time_of(const Dataset *d, int epoch, int index) {
    const Parts *p = d->priv;
    int64_t per_epoch = (d->batches_per_epoch + p->accumulate - 1) / p->accumulate;
    return (CaptionTime){epoch, (epoch - 1) * per_epoch + index / p->accumulate,
                         p->max_steps};
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
    View *view = NEW(a, View, slice->n);
    const char **caption = NEW(a, const char *, slice->n);
    float *weight = NEW(a, float, slice->n);
    uint32_t *draw = NEW(a, uint32_t, slice->n);
    CaptionTime when = time_of(d, epoch, index);
    for (int i = 0; i < slice->n; i++) {
        uint32_t unit = (uint32_t)index * (uint32_t)d->batch_size + (uint32_t)i;
        int at = o->draw[slice->from + i];
        const Sample *s = &d->sample[at];
        Numbers x = numbers(p, "captions", unit, epoch);
        CaptionDraws with = {&x, draw_uniform, draw_below, draw_below};
        view[i] = choose(d, at, unit, epoch);
        caption[i] =
            caption_process(a, s->caption, &subset_of(p, s)->caption, &when, &with);
        weight[i] = s->reg ? (float)p->prior_loss_weight : 1.0f;
        draw[i] = unit;
    }
    const Sample *first = &d->sample[view[0].sample];
    *out = (Batch){slice->n, view, first->bucket_w, first->bucket_h, caption,
                   weight,   draw};
    return true;
}
