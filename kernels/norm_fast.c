/* group_norm, layer_norm and their gradients, whole rows of channels at a time.
 *
 * group_norm: a block of pixels is read twice while it is in the cache, for its mean and
 * its squares about that mean; blocks are combined in order (Chan, Golub, LeVeque, 1979).
 * Work is cut into blocks of rows by sizes alone, so that results do not depend on the
 * number of threads. Halves are widened row by row, computed in f32 and rounded where they
 * are stored. */
#include "kernels/norm_fast.h"

#include <math.h>
#include <string.h>

#include "kernels/heavy.h"
#include "kernels/isa.h"

/* Rows of a block; most channels; elements of a piece of rows that are widened. Arrays of
 * channels and of pieces stand in scratch. */
enum { PIXELS = 64, ROWS = 32, MOST = 1 << 15, CHUNK = 1 << 12 };
enum { CHANNEL_ARRAYS = 5, PIECES = 3, ARRAYS = CHANNEL_ARRAYS + PIECES };
_Static_assert(ARRAYS *MOST * sizeof(float) + EPILOGUE_BYTES <= SCRATCH_BYTES,
               "rows and a formula fit into scratch");

bool norm_fast_fits(const Sig *s) {
    return s->in[0].dtype != F64 && type_last(&s->in[0]) <= MOST;
}
static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t blocks_for(int64_t n, int64_t block) {
    return (n + block - 1) / block;
}

/* A weight or bias in f32: where it lies, or a copy. */
static const float *in_f32(const Tensor *t, float *room) {
    if (t->type->dtype == F32) return t->data;
    convert(room, F32, t->data, t->type->dtype, type_count(t->type));
    return room;
}

/* ---- rows: f32 where they lie, halves in pieces that stay in the cache ---- */

/* Place of piece i of a worker's scratch. */
static float *piece(void *scratch, int i) {
    return (float *)scratch + (CHANNEL_ARRAYS + i) * MOST;
}
/* Rows of one piece, if all of `bits` (in[i]: bit i, out[0]: bit 15) lie in f32: `all`. */
enum { OUT = 1 << 15 };
static int64_t rows_at_once(const Call *c, unsigned bits, int64_t n, int64_t all) {
    bool wide = !(bits & OUT) || c->out[0].type->dtype == F32;
    for (int i = 0; i < c->n_in; i++)
        if (bits & 1u << i && c->in[i].type->dtype != F32) wide = false;
    return wide ? all : n < CHUNK ? CHUNK / n : 1;
}
static char *at_element(const Tensor *t, int64_t at) {
    return (char *)t->data + (size_t)at * dtype_size(t->type->dtype);
}
static const float *read_rows(const Tensor *t, int64_t at, int64_t n, float *room) {
    void *from = at_element(t, at);
    if (t->type->dtype == F32) return from;
    epilogue_f32()->load(room, from, t->type->dtype, n);
    return room;
}
/* Where rows of an output are to be computed, and how they get to their place. */
static float *rows_room(const Tensor *t, int64_t at, float *room) {
    return t->type->dtype == F32 ? (void *)at_element(t, at) : (void *)room;
}
static void write_rows(const Tensor *t, int64_t at, int64_t n, const float *rows) {
    if (t->type->dtype != F32)
        epilogue_f32()->store(at_element(t, at), t->type->dtype, rows, n);
}

/* out = f(var ...) for n elements, if the call has a formula. */
static void then_formula(const Call *c, const float *const *var, float *out, int64_t n,
                         void *scratch) {
    if (c->prep)
        epilogue_run(c->prep, epilogue_f32(), (const void *const *)var, out, n,
                     (float *)scratch + ARRAYS * MOST);
}

/* x[b, pixels, channels], groups of `width` channels */
typedef struct Groups {
    const Isa *isa;
    int64_t b, pixels, channels, groups, width, blocks;
    double eps;
} Groups;
static Groups groups_of(const Type *x, const NormAttrs *a) {
    Groups z = {.isa = isa(), .b = x->dim[0], .channels = type_last(x)};
    z.pixels = type_rows(x) / z.b;
    z.groups = a->groups, z.width = z.channels / a->groups, z.eps = a->eps;
    z.blocks = blocks_for(z.pixels, PIXELS);
    return z;
}
/* First row and number of rows of block `at` (over samples and blocks). */
static int64_t block_at(const Groups *z, int64_t at, int64_t *rows) {
    int64_t first = at % z->blocks * PIXELS;
    *rows = least(PIXELS, z->pixels - first);
    return at / z->blocks * z->pixels + first;
}

/* ---- group_norm ---- */

typedef struct Moments { /* of one group in one block */
    double mean, squares;
} Moments;
size_t group_norm_fast_work(const Sig *s) {
    Groups z = groups_of(&s->in[0], s->attrs);
    return (size_t)(z.b * z.blocks * z.groups) * sizeof(Moments);
}

/* Per channel, over the rows of a block: the sum of x, or of (x - mean)^2. */
static void over_rows(const Call *c, const Groups *z, int64_t at, float *sums,
                      const float *means, void *scratch) {
    int64_t rows, first = block_at(z, at, &rows), n = z->channels;
    const int64_t step = rows_at_once(c, 1, n, rows);
    memset(sums, 0, (size_t)n * sizeof *sums);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t some = least(step, rows - r);
        const float *x =
            read_rows(&c->in[0], (first + r) * n, some * n, piece(scratch, 0));
        if (means)
            z->isa->square_rows(sums, x, means, some, n, n);
        else
            z->isa->sum_rows(sums, x, some, n, n);
    }
}
static void group_moments(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    Moments *to = (Moments *)c->work + at * z.groups;
    float *sums = scratch, *means = sums + z.channels;
    int64_t rows;
    block_at(&z, at, &rows);
    over_rows(c, &z, at, sums, NULL, scratch);
    for (int64_t g = 0; g < z.groups; g++) {
        double sum = 0;
        for (int64_t k = 0; k < z.width; k++) sum += sums[g * z.width + k];
        /* the mean that the squares are taken about, as they see it */
        float mean = (float)(sum / (double)(rows * z.width));
        to[g].mean = sum / (double)(rows * z.width);
        for (int64_t k = 0; k < z.width; k++) means[g * z.width + k] = mean;
    }
    over_rows(c, &z, at, sums, means, scratch);
    for (int64_t g = 0; g < z.groups; g++) {
        to[g].squares = 0;
        for (int64_t k = 0; k < z.width; k++) to[g].squares += sums[g * z.width + k];
    }
}
/* Mean and rstd of one sample's groups from those of its blocks. */
static void group_combine(void *arg, int64_t b, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    const Moments *from = (const Moments *)c->work + b * z.blocks * z.groups;
    (void)scratch;
    for (int64_t g = 0; g < z.groups; g++) {
        double n = 0, mean = 0, squares = 0;
        for (int64_t k = 0; k < z.blocks; k++) {
            const Moments *m = &from[k * z.groups + g];
            double more = (double)(least(PIXELS, z.pixels - k * PIXELS) * z.width);
            double d = m->mean - mean, all = n + more;
            mean += d * more / all;
            squares += m->squares + d * d * n * more / all;
            n = all;
        }
        ((float *)c->out[1].data)[b * z.groups + g] = (float)mean;
        ((float *)c->out[2].data)[b * z.groups + g] =
            (float)(1 / sqrt(squares / n + z.eps));
    }
}
static void group_apply(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    const int64_t stat = at / z.blocks * z.groups;
    const float *mean = (const float *)c->out[1].data + stat;
    const float *rstd = (const float *)c->out[2].data + stat;
    float *a = scratch, *b = a + z.channels;
    const float *w = in_f32(&c->in[1], b + z.channels);
    const float *bias = in_f32(&c->in[2], b + 2 * z.channels);
    for (int64_t k = 0; k < z.channels; k++) {
        a[k] = rstd[k / z.width] * w[k];
        b[k] = bias[k] - mean[k / z.width] * a[k];
    }
    int64_t rows, first = block_at(&z, at, &rows);
    const int64_t step = rows_at_once(c, 1 | OUT, z.channels, rows);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t some = least(step, rows - r), n = some * z.channels;
        const int64_t here = (first + r) * z.channels;
        const float *x = read_rows(&c->in[0], here, n, piece(scratch, 0));
        float *y = rows_room(&c->out[0], here, piece(scratch, 1));
        for (int64_t k = 0; k < n; k += z.channels)
            z.isa->affine_row(y + k, x + k, a, b, z.channels);
        then_formula(c, (const float *const[]){y}, y, n, scratch);
        write_rows(&c->out[0], here, n, y);
    }
}
void group_norm_fast(const Call *c) {
    const Groups z = groups_of(c->in[0].type, c->attrs);
    spread(c, z.b * z.blocks, group_moments);
    spread(c, z.b, group_combine);
    spread(c, z.b * z.blocks, group_apply);
}

/* ---- its gradient ---- */

/* Of each block: sums of dy, then of dy h, per channel; behind them the factors of x and
 * the constants of dx per sample and group. */
static float *sums_of(const Call *c, const Groups *z, int64_t at) {
    return (float *)c->work + at * 2 * z->channels;
}
size_t group_norm_grad_fast_work(const Sig *s) {
    Groups z = groups_of(&s->in[0], s->attrs);
    return (size_t)(2 * z.b * (z.blocks * z.channels + z.groups)) * sizeof(float);
}
/* With a formula, dy by the normalised value takes the place of dx, and its type, until dx
 * is known. */
static const Tensor *dy_of(const Call *c) {
    return c->prep ? &c->out[0] : &c->in[4];
}
static unsigned dy_bit(const Call *c) {
    return c->prep ? OUT : 1u << 4;
}
static void group_dy(const Call *c, const Groups *z, int64_t stat, int64_t first,
                     int64_t rows, float *scratch) {
    float *a = scratch, *b = a + z->channels;
    const float *mean = (const float *)c->in[2].data + stat;
    const float *rstd = (const float *)c->in[3].data + stat;
    const float *w = in_f32(&c->in[1], b + z->channels);
    const float *bias = in_f32(&c->in[5], b + 2 * z->channels);
    for (int64_t k = 0; k < z->channels; k++) {
        a[k] = rstd[k / z->width] * w[k];
        b[k] = bias[k] - mean[k / z->width] * a[k];
    }
    const int64_t step = rows_at_once(c, 1 | 1 << 4 | OUT, z->channels, rows);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = least(step, rows - r) * z->channels;
        const int64_t here = (first + r) * z->channels;
        const float *x = read_rows(&c->in[0], here, n, piece(scratch, 0));
        const float *dy = read_rows(&c->in[4], here, n, piece(scratch, 1));
        float *y = rows_room(&c->out[0], here, piece(scratch, 2));
        for (int64_t k = 0; k < n; k += z->channels)
            z->isa->affine_row(y + k, x + k, a, b, z->channels);
        then_formula(c, (const float *const[]){y, dy}, y, n, scratch);
        write_rows(&c->out[0], here, n, y);
    }
}
static void group_sums(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    const int64_t stat = at / z.blocks * z.groups;
    const float *mean = (const float *)c->in[2].data + stat;
    const float *rstd = (const float *)c->in[3].data + stat;
    float *a = scratch, *b = a + z.channels, *sum = sums_of(c, &z, at);
    int64_t rows, first = block_at(&z, at, &rows);
    if (c->prep) group_dy(c, &z, stat, first, rows, scratch);
    for (int64_t k = 0; k < z.channels; k++)
        a[k] = rstd[k / z.width], b[k] = -mean[k / z.width] * a[k];
    memset(sum, 0, (size_t)(2 * z.channels) * sizeof *sum);
    const int64_t step = rows_at_once(c, 1 | dy_bit(c), z.channels, rows);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = least(step, rows - r) * z.channels;
        const int64_t here = (first + r) * z.channels;
        const float *x = read_rows(&c->in[0], here, n, piece(scratch, 0));
        const float *dy = read_rows(dy_of(c), here, n, piece(scratch, 1));
        for (int64_t k = 0; k < n; k += z.channels)
            z.isa->norm_sums(sum, sum + z.channels, dy + k, x + k, a, b, z.channels);
    }
}
/* dx = rstd (d - sum/n - h dot/n), as dy (rstd w) + x factor + constant */
static void group_factors(void *arg, int64_t b, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    const float *w = in_f32(&c->in[1], scratch);
    float *to = sums_of(c, &z, z.b * z.blocks) + 2 * b * z.groups;
    const double n = (double)(z.pixels * z.width);
    for (int64_t g = 0; g < z.groups; g++) {
        double mean = ((const float *)c->in[2].data)[b * z.groups + g];
        double rstd = ((const float *)c->in[3].data)[b * z.groups + g];
        double sum = 0, dot = 0;
        for (int64_t k = 0; k < z.blocks; k++) {
            const float *part = sums_of(c, &z, b * z.blocks + k);
            for (int64_t j = g * z.width; j < (g + 1) * z.width; j++) {
                sum += (double)w[j] * part[j];
                dot += (double)w[j] * part[z.channels + j];
            }
        }
        to[2 * g] = (float)(-rstd * rstd * dot / n);
        to[2 * g + 1] = (float)(rstd * (mean * rstd * dot - sum) / n);
    }
}
static void group_grad_apply(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    const int64_t stat = at / z.blocks * z.groups;
    const float *rstd = (const float *)c->in[3].data + stat;
    const float *factor = sums_of(c, &z, z.b * z.blocks) + 2 * stat;
    float *a = scratch, *b = a + z.channels, *constant = b + z.channels;
    const float *w = in_f32(&c->in[1], constant + z.channels);
    for (int64_t k = 0; k < z.channels; k++) {
        int64_t g = k / z.width;
        a[k] = rstd[g] * w[k], b[k] = factor[2 * g], constant[k] = factor[2 * g + 1];
    }
    int64_t rows, first = block_at(&z, at, &rows);
    const int64_t step = rows_at_once(c, 1 | dy_bit(c) | OUT, z.channels, rows);
    for (int64_t r = 0; r < rows; r += step) {
        const int64_t n = least(step, rows - r) * z.channels;
        const int64_t here = (first + r) * z.channels;
        const float *x = read_rows(&c->in[0], here, n, piece(scratch, 0));
        const float *dy = read_rows(dy_of(c), here, n, piece(scratch, 1));
        float *dx = rows_room(&c->out[0], here, piece(scratch, 2));
        for (int64_t k = 0; k < n; k += z.channels)
            z.isa->norm_grad_row(dx + k, dy + k, x + k, a, b, constant, z.channels);
        write_rows(&c->out[0], here, n, dx);
    }
}
/* Gradients of weight and bias of channel k: over samples and blocks, in order. */
static void add_channel(const Call *c, int64_t k, int64_t blocks, int64_t channels) {
    double dw = 0, db = 0;
    for (int64_t at = 0; at < blocks; at++) {
        const float *part = (const float *)c->work + at * 2 * channels;
        db += part[k], dw += part[channels + k];
    }
    ((float *)c->out[1].data)[k] = (float)dw;
    ((float *)c->out[2].data)[k] = (float)db;
}
static void group_channel(void *arg, int64_t k, void *scratch) {
    const Call *c = arg;
    const Groups z = groups_of(c->in[0].type, c->attrs);
    (void)scratch;
    add_channel(c, k, z.b * z.blocks, z.channels);
}
void group_norm_grad_fast(const Call *c) {
    const Groups z = groups_of(c->in[0].type, c->attrs);
    spread(c, z.b * z.blocks, group_sums);
    spread(c, z.b, group_factors);
    spread(c, z.b * z.blocks, group_grad_apply);
    if (c->n_out == 3) spread(c, z.channels, group_channel);
}

/* ---- layer_norm ---- */

static void layer_block(void *arg, int64_t block, void *scratch) {
    const Call *c = arg;
    const Isa *set = isa();
    const int64_t n = type_last(c->in[0].type), rows = type_rows(c->in[0].type);
    const double eps = ((const NormAttrs *)c->attrs)->eps;
    const float *w = in_f32(&c->in[1], scratch);
    const float *bias = in_f32(&c->in[2], (float *)scratch + n);
    for (int64_t r = block * ROWS; r < least((block + 1) * ROWS, rows); r++) {
        const float *x = read_rows(&c->in[0], r * n, n, piece(scratch, 0));
        float *y = rows_room(&c->out[0], r * n, piece(scratch, 1));
        float mean = set->sum(x, n) / (float)n;
        float rstd = (float)(1 / sqrt(set->square(x, mean, n) / (double)n + eps));
        set->layer_row(y, x, rstd, -mean * rstd, w, bias, n);
        write_rows(&c->out[0], r * n, n, y);
        ((float *)c->out[1].data)[r] = mean, ((float *)c->out[2].data)[r] = rstd;
    }
}
void layer_norm_fast(const Call *c) {
    spread(c, blocks_for(type_rows(c->in[0].type), ROWS), layer_block);
}

/* Of each block: sums of dy, then of dy h, per channel; only for weight and bias. */
size_t layer_norm_grad_fast_work(const Sig *s) {
    const Type *x = &s->in[0];
    if (!((const NormAttrs *)s->attrs)->params) return 0;
    return (size_t)(2 * blocks_for(type_rows(x), ROWS) * type_last(x)) * sizeof(float);
}
static void layer_grad_block(void *arg, int64_t block, void *scratch) {
    const Call *c = arg;
    const Isa *set = isa();
    const int64_t n = type_last(c->in[0].type), rows = type_rows(c->in[0].type);
    const float *w = in_f32(&c->in[1], scratch);
    float *a = (float *)scratch + n, *b = a + n,
          *sums = (float *)c->work + block * 2 * n;
    if (c->n_out == 3) memset(sums, 0, (size_t)(2 * n) * sizeof *sums);
    for (int64_t r = block * ROWS; r < least((block + 1) * ROWS, rows); r++) {
        const float *x = read_rows(&c->in[0], r * n, n, piece(scratch, 0));
        const float *dy = read_rows(&c->in[4], r * n, n, piece(scratch, 1));
        float *dx = rows_room(&c->out[0], r * n, piece(scratch, 2));
        float mean = ((const float *)c->in[2].data)[r];
        float rstd = ((const float *)c->in[3].data)[r], sum, dot;
        set->layer_sums(dy, x, rstd, -mean * rstd, w, n, &sum, &dot);
        float factor = -rstd * rstd * dot / (float)n;
        float constant = -rstd * sum / (float)n - mean * factor;
        set->layer_grad_row(dx, dy, x, w, rstd, factor, constant, n);
        write_rows(&c->out[0], r * n, n, dx);
        if (c->n_out < 3) continue;
        for (int64_t k = 0; k < n; k++) a[k] = rstd, b[k] = -mean * rstd;
        set->norm_sums(sums, sums + n, dy, x, a, b, n);
    }
}
static void layer_channel(void *arg, int64_t k, void *scratch) {
    const Call *c = arg;
    const Type *x = c->in[0].type;
    (void)scratch;
    add_channel(c, k, blocks_for(type_rows(x), ROWS), type_last(x));
}
void layer_norm_grad_fast(const Call *c) {
    spread(c, blocks_for(type_rows(c->in[0].type), ROWS), layer_grad_block);
    if (c->n_out == 3) spread(c, type_last(c->in[0].type), layer_channel);
}
