/* Encoding pictures: threads look on the disk, decode and resize ahead; this thread runs
 * the VAE on what is left, in batches of one size. */
#define _GNU_SOURCE /* qsort_r */
#include "runtime/latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/ahead.h"
#include "io/latent_cache.h"
#include "io/npz.h"
#include "kernels/rng.h"

/* Pictures of one size stand together, so that one plan serves a run of them. */
static int by_bucket(const void *a, const void *b, void *dataset) {
    const Sample *sample = ((const Dataset *)dataset)->sample;
    const Sample *x = &sample[*(const int *)a], *y = &sample[*(const int *)b];
    if (x->bucket_w != y->bucket_w) return x->bucket_w - y->bucket_w;
    if (x->bucket_h != y->bucket_h) return x->bucket_h - y->bucket_h;
    return *(const int *)a - *(const int *)b;
}

static size_t cells_of(const Sample *s) {
    return (size_t)(s->bucket_w / LATENT_FACTOR) *
           (size_t)(s->bucket_h / LATENT_FACTOR);
}

static bool finite_all(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

/* ---- the VAE ---- */
bool vae_moments(const VaeSource *vae, int n, int w, int h, const float *pixels,
                 float *moments, Err *e) {
    Exec *x = vae->exec(vae->ctx, n, w, h, e);
    if (!x) return false;
    const int32_t rng[RNG_WORDS] = {0}; /* the plan's own draw is not used */
    size_t image = (size_t)n * (size_t)w * (size_t)h * 3;
    size_t cells =
        (size_t)n * (size_t)(w / LATENT_FACTOR) * (size_t)(h / LATENT_FACTOR);
    float *part = malloc(8 * cells * sizeof *part);
    if (!part) return err_fail(e, "out of memory for %zu latents", cells);
    float *mean = part, *logvar = part + 4 * cells;
    bool ok = exec_write(x, "image", pixels, image * sizeof *pixels, e) &&
              (!exec_type(x, "rng") || exec_write(x, "rng", rng, sizeof rng, e));
    if (ok) exec_run(x);
    ok = ok && exec_read(x, "mean", mean, 4 * cells * sizeof *mean, e) &&
         exec_read(x, "logvar", logvar, 4 * cells * sizeof *logvar, e);
    for (size_t i = 0; ok && i < cells; i++) {
        memcpy(moments + 8 * i, mean + 4 * i, 4 * sizeof *mean);
        memcpy(moments + 8 * i + 4, logvar + 4 * i, 4 * sizeof *mean);
    }
    free(part);
    return ok;
}

void latent_draw(const float *moments, size_t cells, const LatentDraw *d, float *out) {
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)d->seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(d->seed >> 32);
    rng[RNG_MICRO] = (int32_t)d->epoch;
    uint32_t stream = rng_stream("latents", d->purpose), block[4];
    for (size_t i = 0; i < cells; i++) {
        const float *m = moments + 8 * i;
        rng_block(rng, stream, d->unit, (uint32_t)i, block);
        for (int c = 0; c < 4; c++)
            out[4 * i + (size_t)c] = m[c] + expf(m[4 + c] / 2) * rng_normal(block, c);
    }
}

/* ---- reading ahead ---- */
typedef enum Found { PIXELS, MOMENTS, SAMPLE } Found;

typedef struct Slot {
    int index; /* of the sample */
    Found found;
    LatentKey key;
    Arena *arena;
    float *data, *mask; /* pixels, moments or a latent; in arena */
    const char *refused;
} Slot;

typedef struct Encoder {
    const LatentJob *job;
    const int *order;
    Arena *arena; /* for what stays */
    Latents *out;
} Encoder;

static bool plan_slot(void *ctx, int64_t p, void *slot, Err *e) {
    const Encoder *x = ctx;
    (void)e;
    ((Slot *)slot)->index = x->order[p];
    return true;
}

static bool from_npz(const Encoder *x, Slot *s, const Sample *it) {
    const char *why;
    if (x->job->masks && dataset_has_mask(x->job->data, s->index)) return false;
    if (!npz_exists(it->path, it->w, it->h)) return false;
    s->data = NEW(s->arena, float, 4 * cells_of(it));
    if (npz_latents(s->arena, it->path, it->w, it->h, it->mirrored,
                    it->bucket_w / LATENT_FACTOR, it->bucket_h / LATENT_FACTOR, s->data,
                    &why))
        return true;
    s->refused = arena_printf(s->arena, "%s: %s", it->path, why);
    return false;
}

static bool from_disk(const Encoder *x, Slot *s, const Sample *it, const View *v,
                      Err *e) {
    const LatentJob *job = x->job;
    if (!latent_key(job->data, v, job->disk, &s->key, e)) return false;
    const char *path = latent_cache_path(s->arena, job->data, s->index, &s->key);
    s->data = NEW(s->arena, float, 8 * cells_of(it));
    if (latent_cache_read(path, &s->key, it->bucket_w / LATENT_FACTOR,
                          it->bucket_h / LATENT_FACTOR, job->check, s->data, s->mask))
        s->found = MOMENTS;
    return true;
}

static bool fill_slot(void *ctx, void *slot, Err *e) {
    const Encoder *x = ctx;
    const Dataset *d = x->job->data;
    Slot *s = slot;
    const Sample *it = &d->sample[s->index];
    View v = dataset_view(d, s->index);
    arena_free(s->arena);
    *s = (Slot){.index = s->index, .arena = arena_new()};
    if ((x->job->disk || it->latent_only) && from_npz(x, s, it)) {
        s->found = SAMPLE;
        return true;
    }
    if (x->job->masks && dataset_has_mask(d, s->index))
        s->mask = NEW(s->arena, float, cells_of(it));
    if (x->job->disk && !it->latent_only && !from_disk(x, s, it, &v, e)) return false;
    if (s->found == MOMENTS) return true;
    s->data = NEW(s->arena, float, (size_t)it->bucket_w *(size_t)it->bucket_h * 3);
    return dataset_pixels(d, &v, s->data, s->mask, e);
}

static void empty_slot(void *ctx, void *slot) {
    (void)ctx;
    arena_free(((Slot *)slot)->arena);
}

/* ---- what stays ---- */
static float *kept(Arena *a, const float *x, size_t n) {
    return x ? memcpy(NEW(a, float, n), x, n * sizeof *x) : NULL;
}

static bool keep_moments(Encoder *x, int index, const float *moments, Err *e) {
    const Sample *it = &x->job->data->sample[index];
    size_t cells = cells_of(it);
    Latent *l = &x->out->of[index];
    if (!finite_all(moments, 8 * cells))
        return err_fail(e, "%s: its latent has a NaN or Inf: the VAE overflows",
                        it->path);
    if (!x->job->once) {
        l->moments = kept(x->arena, moments, 8 * cells);
        return true;
    }
    l->sample = NEW(x->arena, float, 4 * cells);
    LatentDraw d = {x->job->seed, "once", (uint32_t)index, 0};
    latent_draw(moments, cells, &d, l->sample);
    return true;
}

/* ---- batches for the VAE ---- */
typedef struct Gather { /* slots of one size that are still pixels */
    float *pixels, *moments;
    int *index, n, w, h;
    LatentKey *key;
} Gather;

static void gather_new(Arena *a, const Encoder *x, int n_order, Gather *g) {
    size_t most = 0, n = (size_t)x->job->batch;
    for (int i = 0; i < n_order; i++) {
        size_t cells = cells_of(&x->job->data->sample[x->order[i]]);
        if (cells > most) most = cells;
    }
    *g = (Gather){.pixels = NEW(a, float, n *most * 3 * LATENT_FACTOR * LATENT_FACTOR),
                  .moments = NEW(a, float, n *most * 8),
                  .index = NEW(a, int, n),
                  .key = NEW(a, LatentKey, n)};
}

/* A short batch is filled up with what the buffer holds: each picture is on its own. */
static bool run_gathered(Encoder *x, Gather *g, Err *e) {
    if (!g->n) return true;
    const LatentJob *job = x->job;
    if (!vae_moments(&job->vae, job->batch, g->w, g->h, g->pixels, g->moments, e))
        return false;
    int lw = g->w / LATENT_FACTOR, lh = g->h / LATENT_FACTOR;
    for (int i = 0; i < g->n; i++) {
        const float *m = g->moments + (size_t)i * (size_t)lw * (size_t)lh * 8;
        if (!keep_moments(x, g->index[i], m, e)) return false;
        if (!job->disk) continue;
        const char *path =
            latent_cache_path(x->arena, job->data, g->index[i], &g->key[i]);
        if (!latent_cache_write(path, &g->key[i], lw, lh, m,
                                x->out->of[g->index[i]].mask, e))
            return false;
    }
    x->out->encoded += g->n;
    g->n = 0;
    return true;
}

static bool add_pixels(Encoder *x, Gather *g, const Slot *s, Err *e) {
    const Sample *it = &x->job->data->sample[s->index];
    if ((g->w != it->bucket_w || g->h != it->bucket_h) && !run_gathered(x, g, e))
        return false;
    g->w = it->bucket_w, g->h = it->bucket_h;
    size_t n = (size_t)g->w * (size_t)g->h * 3;
    memcpy(g->pixels + (size_t)g->n * n, s->data, n * sizeof *s->data);
    g->index[g->n] = s->index;
    g->key[g->n++] = s->key;
    return g->n < x->job->batch || run_gathered(x, g, e);
}

static bool take(Encoder *x, Gather *g, const Slot *s, Err *e) {
    const Sample *it = &x->job->data->sample[s->index];
    Latent *l = &x->out->of[s->index];
    if (s->refused) x->out->npz_refused = arena_strdup(x->arena, s->refused);
    l->mask = kept(x->arena, s->mask, cells_of(it));
    if (s->found == PIXELS) return add_pixels(x, g, s, e);
    if (s->found == SAMPLE) {
        l->sample = kept(x->arena, s->data, 4 * cells_of(it));
        x->out->from_npz++;
        return true;
    }
    x->out->from_cache++;
    return keep_moments(x, s->index, s->data, e);
}

bool latents_encode(Arena *a, const LatentJob *job, Latents *out, Err *e) {
    const Dataset *d = job->data;
    *out = (Latents){.of = NEW(a, Latent, d->n)};
    int *order = NEW(a, int, d->n), n = 0;
    for (int i = 0; i < d->n; i++)
        if (!d->sample[i].varies) order[n++] = i;
    if (n) qsort_r(order, (size_t)n, sizeof *order, by_bucket, (void *)d);
    Encoder x = {job, order, a, out};
    Gather g;
    Arena *scratch = arena_new();
    AheadWork work = {&x, sizeof(Slot), plan_slot, fill_slot, empty_slot};
    Ahead *q = ahead_open(&work, 0, n, job->threads, e);
    bool ok = q != NULL;
    gather_new(scratch, &x, n, &g);
    for (int i = 0; ok && i < n; i++) {
        void *slot;
        ok = ahead_next(q, &slot, e) && take(&x, &g, slot, e);
        if (ok && job->told) job->told(job->told_ctx, i + 1, n);
    }
    ok = ok && run_gathered(&x, &g, e);
    ahead_close(q);
    arena_free(scratch);
    return ok;
}
