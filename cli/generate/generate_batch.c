/* One batch of pictures: texts, the sampler, the decoder (see generate.h). Every picture has
 * its own random numbers by its seed, whatever batch it is in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate/generate.h"
#include "kernels/rng.h"
#include "runtime/layout.h"

typedef struct BatchRun {
    Generate *g;
    const Request *r;
    int n;
    bool first;
    int64_t each; /* numbers of one latent */
    const Sampler *sampler;
    Beginning from;
} BatchRun;

bool generate_same(const Generate *g, const Request *a, const Request *b) {
    for (int i = 0; i < g->n_use; i++)
        if (a->multiplier[i] != b->multiplier[i]) return false;
    return a->w == b->w && a->h == b->h && a->steps == b->steps &&
           a->scale == b->scale &&
           (a->negative_scale == b->negative_scale ||
            (isnan(a->negative_scale) && isnan(b->negative_scale))) &&
           a->sampler == b->sampler && a->first == b->first &&
           a->small.first == b->small.first && !a->image == !b->image &&
           !a->mask == !b->mask;
}

/* ---- numbers ---- */

/* Normal numbers of one picture: stream `draw` of run `run`. */
static void normal(int64_t seed, uint32_t run, uint32_t draw, float *out, int64_t n) {
    const uint32_t stream = rng_stream("generate", "noise");
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t block[4] = {(uint32_t)(i / 4), stream, run, draw};
        philox(block, (uint32_t)seed, (uint32_t)((uint64_t)seed >> 32));
        for (int k = 0; k < 4 && i + k < n; k++) out[i + k] = rng_normal(block, k);
    }
}

/* Numbers [.., B, 4, h, w] of --inputs at row `row`, channels last; false: not there. */
static bool given(const BatchRun *b, const char *name, int64_t row, float *out) {
    const TensorEntry *t = b->g->in && b->first ? tensors_find(b->g->in, name) : NULL;
    const int64_t n = b->n * b->each;
    if (!t || t->type.dtype != F32 || type_count(&t->type) < (row + 1) * n)
        return false;
    Arena *a = arena_new();
    float *x = NEW(a, float, n);
    memcpy(x, (const char *)t->data + (size_t)(row * n) * sizeof *x,
           (size_t)n * sizeof *x);
    nchw_to_nhwc(out, x, b->n, 4, b->each / 4);
    arena_free(a);
    return true;
}

static bool drawn(void *ctx, int64_t run, int i, float *out, int64_t n, Err *e) {
    const BatchRun *b = ctx;
    (void)e, (void)n;
    if (i == 0 && given(b, "step_noise", run, out)) return true;
    for (int k = 0; k < b->n; k++)
        normal(b->r[k].seed, (uint32_t)run + 1, (uint32_t)i, out + k * b->each,
               b->each);
    return true;
}

/* ---- --record ---- */

static void record(BatchRun *b, const char *key, Type t, const void *data) {
    Generate *g = b->g;
    if (!g->o->record || !b->first) return;
    void *copy = memcpy(arena_alloc(g->arena, 1, type_bytes(&t)), data, type_bytes(&t));
    TensorOut x = {arena_strdup(g->arena, key), t, copy};
    PUSH(g->arena, g->out, g->n_out, g->cap_out, x);
}

static void record_picture(BatchRun *b, const char *key, int64_t c, int64_t h,
                           int64_t w, const float *x) {
    if (!b->g->o->record || !b->first) return;
    Arena *a = arena_new();
    float *y = NEW(a, float, b->n *c *h *w);
    nhwc_to_nchw(y, x, b->n, c, h * w);
    record(b, key, type_of(F32, 4, (int64_t[]){b->n, c, h, w}), y);
    arena_free(a);
}

static bool done(void *ctx, int64_t run, const float *x, int64_t n, Err *e) {
    BatchRun *b = ctx;
    Generate *g = b->g;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return err_fail(e, "step %lld made a number that is NaN or Inf",
                            (long long)run + 1);
    record_picture(b, arena_printf(g->arena, "latents.%lld", (long long)run), 4,
                   b->r->h, b->r->w, x);
    g->done += b->n;
    progress_at(g->progress, g->done, NULL);
    return !generate_stopped(g);
}

bool generate_stopped(const Generate *g) {
    return g->stop && *g->stop;
}

static bool mix(void *ctx, int64_t run, float *x, int64_t n, Err *e) {
    const BatchRun *b = ctx;
    return generate_keep(&b->from, b->sampler, run, x, n, e);
}

/* ---- texts ---- */

/* States times weights; then the mean is what it was (sd-scripts, after AUTOMATIC1111). */
static void weigh(float *x, const float *weight, int64_t rows, int64_t width) {
    double before = 0, after = 0;
    bool any = false;
    for (int64_t i = 0; i < rows; i++) any = any || weight[i] != 1;
    if (!any) return;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < width; k++) {
            before += (double)x[i * width + k];
            x[i * width + k] *= weight[i];
            after += (double)x[i * width + k];
        }
    if (after == 0) return;
    const float back = (float)(before / after);
    for (int64_t i = 0; i < rows * width; i++) x[i] *= back;
}

/* Rows of ids for a text and the weight of each; returns its number of tokens. */
static int text_rows(const BatchRun *b, Arena *a, const char *text, int chunks,
                     int32_t **ids, float **weights) {
    Draw *d = b->g->draw;
    const int joined = chunks * TOKEN_INNER + 2; /* rows of training: ends once */
    float *w = NEW(a, float, joined), *each = NEW(a, float, chunks *TOKEN_ROW);
    *ids = NEW(a, int32_t, chunks * TOKEN_ROW);
    const int n =
        tokenizer_weighted(draw_tokenizer(d), text, chunks, draw_pad(d), *ids, w);
    for (int c = 0; c < chunks; c++) {
        float *row = each + c * TOKEN_ROW;
        memcpy(row + 1, w + 1 + c * TOKEN_INNER, TOKEN_INNER * sizeof *w);
        row[0] = row[TOKEN_ROW - 1] = 1;
    }
    *weights = each;
    return n;
}

static int chunks_of(const BatchRun *b, const char *text) {
    Arena *a = arena_new();
    int32_t *ids;
    float *weights;
    const int tokens = text_rows(b, a, text, 1, &ids, &weights);
    const int n = tokens > TOKEN_INNER ? (tokens + TOKEN_INNER - 1) / TOKEN_INNER : 1;
    const int most = (int)b->g->o->max_embeddings_multiples;
    arena_free(a);
    if (n > most && !b->g->common->quiet && b->first)
        fprintf(stderr,
                "note: a prompt of %d tokens is cut to %d; "
                "--max_embeddings_multiples %d takes all\n",
                tokens, most * TOKEN_INNER, n);
    return n < most ? n : most;
}

static bool text_states(const BatchRun *b, const char *text, int chunks, float *out,
                        Err *e) {
    Arena *a = arena_new();
    Draw *d = b->g->draw;
    int32_t *ids;
    float *weights;
    text_rows(b, a, text, chunks, &ids, &weights);
    bool ok = draw_text(d, ids, chunks, out, e);
    if (ok) weigh(out, weights, chunks * TOKEN_ROW, draw_width(d));
    arena_free(a);
    return ok;
}

/* The texts of answer 0 ... n-1 (see draw_sampler). */
static const char *text_of(const Request *r, int answer, int n) {
    if (answer == 0 && n > 1) return r->negative;
    return answer < 2 ? r->prompt : "";
}

static bool contexts(BatchRun *b, Arena *a, DrawShape *s, float **out, Err *e) {
    s->chunks = 1;
    for (int i = 0; i < b->n; i++) {
        const int p = chunks_of(b, b->r[i].prompt);
        const int n = s->answers > 1 ? chunks_of(b, b->r[i].negative) : 1;
        s->chunks = s->chunks > p ? s->chunks : p;
        s->chunks = s->chunks > n ? s->chunks : n;
    }
    const int all = s->answers * b->n;
    const int64_t width = draw_width(b->g->draw), rows = s->chunks * TOKEN_ROW;
    float *x = *out = NEW(a, float, all *rows *width);
    for (int i = 0; i < all; i++)
        if (!text_states(b, text_of(&b->r[i % b->n], i / b->n, s->answers), s->chunks,
                         x + i * rows * width, e))
            return false;
    record(b, "embeddings", type_of(F32, 3, (int64_t[]){all, rows, width}), x);
    return true;
}

/* ---- pictures ---- */

static bool to_image(const float *x, int w, int h, Image *out, Err *e) {
    const size_t n = (size_t)w * (size_t)h * 3;
    *out = (Image){w, h, malloc(n)};
    if (!out->rgb) return err_fail(e, "no memory for a picture of %d x %d", w, h);
    for (size_t i = 0; i < n; i++) {
        const double v = (double)x[i] / 2 + 0.5;
        out->rgb[i] = (uint8_t)nearbyint(fmin(fmax(v, 0), 1) * 255);
    }
    return true;
}

static bool decode(BatchRun *b, Arena *a, const float *x, Image *out, Err *e) {
    const int w = b->r->w * LATENT_FACTOR, h = b->r->h * LATENT_FACTOR;
    const int64_t n = (int64_t)w * h * 3;
    float *image = NEW(a, float, n * b->n);
    uint8_t *bytes = NEW(a, uint8_t, n * b->n);
    for (int i = 0; i < b->n; i++) {
        if (!draw_decode(b->g->draw, b->r->h, b->r->w, x + i * b->each, image + i * n,
                         e) ||
            !to_image(image + i * n, w, h, &out[i], e))
            return false;
        memcpy(bytes + i * n, out[i].rgb, (size_t)n);
    }
    record_picture(b, "decoded", 3, h, w, image);
    record(b, "image", type_of(U8, 4, (int64_t[]){b->n, h, w, 3}), bytes);
    return true;
}

bool generate_once(Generate *g, const Request *r, int n, bool first, Image *out,
                   float *latents, Err *e) {
    BatchRun b = {
        .g = g, .r = r, .n = n, .first = first, .each = (int64_t)r->w * r->h * 4};
    Arena *a = arena_new();
    DrawShape s = {.batch = n,
                   .h = r->h,
                   .w = r->w,
                   .answers = r->scale <= 1              ? 1
                              : isnan(r->negative_scale) ? 2
                                                         : 3,
                   .sampler = r->sampler,
                   .steps = r->steps,
                   .first = r->first};
    float *context, *x = NEW(a, float, n *b.each);
    const float scale[2] = {(float)r->scale, (float)r->negative_scale};
    Sampler sampler;
    draw_multipliers(g->draw, r->multiplier, g->n_use);
    bool ok = contexts(&b, a, &s, &context, e) &&
              draw_sampler(g->draw, &s, context, scale, &sampler, e);
    for (int i = 0; i < n; i++) normal(r[i].seed, 0, 0, x + i * b.each, b.each);
    given(&b, "noise", 0, x);
    if (ok) {
        sampler.ctx = &b;
        sampler.drawn = drawn;
        sampler.done = done;
        b.sampler = &sampler;
        ok = generate_begin(g, a, r, n, &sampler, &s, x, &b.from, e);
        if (ok && b.from.image) record_picture(&b, "init", 4, r->h, r->w, b.from.image);
        if (b.from.mask) sampler.mix = mix;
        ok = ok && sample_run(&sampler, x, n * b.each, b.from.run, e) &&
             (!out || decode(&b, a, x, out, e));
        if (latents) memcpy(latents, x, sizeof *x * (size_t)(n * b.each));
    }
    arena_free(a);
    return ok;
}

bool generate_batch(Generate *g, const Request *r, int n, bool first, Image *out,
                    Err *e) {
    return r->small.w ? generate_highres(g, r, n, first, out, e)
                      : generate_once(g, r, n, first, out, NULL, e);
}
