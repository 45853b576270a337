/* Random numbers by counter: element i of a sample is word i % 4 of Philox block i / 4.
 *
 * normal: rng_normal.
 * uniform: 24 bits of the word. draw: from + floor(word (below - from) / 2^32).
 * dropout: keeps where the uniform number is at least p. */
#include "kernels/kernels.h"
#include "kernels/program.h"
#include "kernels/rng.h"

#include <string.h>

typedef struct Stream {
    const int32_t *rng;
    uint32_t stream;
    int64_t per; /* elements of a sample */
} Stream;

/* The words of elements at ... at+n-1 (counted over the batch) into out. */
static void words(const Stream *s, int64_t at, int64_t n, uint32_t *out) {
    uint32_t block[4];
    int64_t have_sample = -1, have_block = -1;
    for (int64_t i = 0; i < n; i++) {
        int64_t sample = (at + i) / s->per, element = (at + i) % s->per;
        if (sample != have_sample || element / 4 != have_block) {
            have_sample = sample, have_block = element / 4;
            rng_block(s->rng, s->stream, (uint32_t)sample, (uint32_t)have_block, block);
        }
        out[i] = block[element % 4];
    }
}

static Stream stream_of(const Call *c) {
    const RandomAttrs *at = c->attrs;
    const Type *t = c->out[0].type;
    int64_t n = type_count(t);
    int64_t samples = at->batch && t->rank ? t->dim[0] : 1;
    return (Stream){c->in[0].data, (uint32_t)at->stream, n / samples};
}

/* ---- normal ---- */
static void normal_block(void *arg, int64_t index, void *scratch) {
    (void)scratch;
    const Call *c = arg;
    Stream s = stream_of(c);
    int64_t end = (index + 1) * BLOCK, n = type_count(c->out[0].type);
    if (end > n) end = n;
    float *y = c->out[0].data;
    uint32_t block[4];
    int64_t have_sample = -1, have_block = -1;
    for (int64_t i = index * BLOCK; i < end; i++) {
        int64_t sample = i / s.per, element = i % s.per;
        if (sample != have_sample || element / 4 != have_block) {
            have_sample = sample, have_block = element / 4;
            rng_block(s.rng, s.stream, (uint32_t)sample, (uint32_t)have_block, block);
        }
        y[i] = rng_normal(block, (int)(element & 3));
    }
}

/* ---- uniform, draw ---- */

static void uniform_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    Stream s = stream_of(c);
    int64_t start = index * BLOCK, n = type_count(c->out[0].type) - start;
    if (n > BLOCK) n = BLOCK;
    uint32_t *w = scratch;
    words(&s, start, n, w);
    float *y = (float *)c->out[0].data + start;
    for (int64_t i = 0; i < n; i++) y[i] = rng_uniform(w[i]);
}

static void draw_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    const RandomAttrs *at = c->attrs;
    Stream s = stream_of(c);
    int64_t start = index * BLOCK, n = type_count(c->out[0].type) - start;
    if (n > BLOCK) n = BLOCK;
    uint32_t *w = scratch;
    words(&s, start, n, w);
    int32_t *y = (int32_t *)c->out[0].data + start;
    uint64_t range = (uint64_t)(at->below - at->from);
    for (int64_t i = 0; i < n; i++)
        y[i] = (int32_t)(at->from + (int64_t)(w[i] * range >> 32));
}

static void spread(const Call *c, void (*block)(void *, int64_t, void *)) {
    c->dev->par(c->dev, blocks_of(type_count(c->out[0].type)), block,
                (void *)(uintptr_t)c);
}

static void normal_run(const Call *c) {
    spread(c, normal_block);
}
static void uniform_run(const Call *c) {
    spread(c, uniform_block);
}
static void draw_run(const Call *c) {
    spread(c, draw_block);
}

const Kernel cpu_normal[] = {{.name = "ref", .run = normal_run}, {0}};
const Kernel cpu_uniform[] = {{.name = "ref", .run = uniform_run}, {0}};
const Kernel cpu_draw[] = {{.name = "ref", .run = draw_run}, {0}};

/* ---- dropout ---- */

/* Factors of elements start ... start+n-1: 0 or the scale. channel: [sample, ..., C] draws
 * one per sample and channel; module: one for the whole call. */
static void factors(const Call *c, int64_t start, int64_t n, uint32_t *w, double *f) {
    const DropoutAttrs *at = c->attrs;
    const Type *t = c->in[0].type;
    int64_t samples = at->batch && t->rank ? t->dim[0] : 1, count = type_count(t);
    bool has_channels = t->rank > (at->batch ? 1 : 0);
    int64_t channels = has_channels ? t->dim[t->rank - 1] : 1, per = count / samples;
    Stream s = {c->in[1].data, (uint32_t)at->stream, per};
    if (at->each == EACH_ELEMENT) {
        words(&s, start, n, w);
    } else if (at->each == EACH_CHANNEL) {
        s.per = channels;
        for (int64_t i = 0; i < n;) { /* the channels of one row, as many as are left */
            int64_t sample = (start + i) / per, first = (start + i) % channels;
            int64_t run = channels - first < n - i ? channels - first : n - i;
            words(&s, sample * channels + first, run, w + i);
            i += run;
        }
    } else {
        words(&s, 0, 1, w);
        for (int64_t i = 1; i < n; i++) w[i] = w[0];
    }
    double keep = at->rescale ? 1 / (1 - at->p) : 1;
    for (int64_t i = 0; i < n; i++)
        f[i] = (double)rng_uniform(w[i]) >= at->p ? keep : 0;
}

static void dropout_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    double *x = scratch, *f = x + TILE;
    uint32_t *w = (uint32_t *)(f + TILE);
    DType t = c->in[0].type->dtype;
    size_t width = dtype_size(t);
    int64_t end = (index + 1) * BLOCK, count = type_count(c->in[0].type);
    if (end > count) end = count;
    for (int64_t at = index * BLOCK; at < end; at += TILE) {
        int64_t n = end - at < TILE ? end - at : TILE;
        factors(c, at, n, w, f);
        tile_f64.load(x, (const char *)c->in[0].data + (size_t)at * width, t, n);
        for (int64_t i = 0; i < n; i++) x[i] = f[i] == 0 ? 0 : x[i] * f[i];
        tile_f64.store((char *)c->out[0].data + (size_t)at * width, t, x, n);
    }
}

static void dropout_run(const Call *c) {
    spread(c, dropout_block);
}

const Kernel cpu_dropout[] = {{.name = "ref", .run = dropout_run}, {0}};
