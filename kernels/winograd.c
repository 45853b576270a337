/* Convolutions of 3 x 3 in 16 instead of 36 products for each 2 x 2 pixels: F(2x2, 3x3) of
 * Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), and so the
 * gradient by the input, which is the convolution of dy with the weight turned around.
 *
 *   Y = A'[ sum over c of (G g G') o (B' d B) ] A,  d: 4 x 4 pixels, 2 apart; g: 3 x 3
 *
 * Arithmetic is in f32. An element's error grows over that of the direct sum: B' d B adds
 * up to 4 values, A' M A up to 9 sums (measured: docs/performance.md, "Winograd").
 *
 * Windows are taken in blocks whose 16 transformed matrices stay in the last cache, and
 * output channels likewise; weights are transformed anew for each block of windows out of
 * their bytes in the file. Everything is cut by sizes alone and each sum runs over c in
 * order: the same bytes for any number of threads. */
#include "kernels/winograd.h"

#include <string.h>

#include "kernels/heavy.h"
#include "kernels/isa.h"

/* Transformed matrices; floats of a block of them, of windows and of weights; windows and
 * columns of a task, multiples of every tile; depth of a product; channels of a task's
 * weights, of a piece of pixels; windows of a task of pixels. Fewest windows of
 * an image (so that a picture's result does not depend on how many it is computed with)
 * and channels worth it, of which channels are a multiple. */
enum {
    POINTS = 16,
    BLOCK = 1 << 22,
    ROWS = 48,
    COLUMNS = 64,
    DEPTH = 320,
    CHANNELS = 32,
    PIECE = 320,
    GROUP = 8,
    LEAST_WINDOWS = 128,
    UNIT = 32
};

typedef struct Plane {
    const Isa *isa;
    int64_t b, h, w, in, out; /* pixels, channels read and written */
    int64_t wide, windows;    /* windows in a row of one image, in all */
    int64_t rows, columns;    /* of a block */
    const Tensor *x, *weight, *bias, *add, *y;
    bool turned;  /* weight[in, out, taps from the last], else [out, in, taps] */
    float *v, *u; /* [POINTS][rows][in], [POINTS][columns / nr][in][nr] */
    int64_t first, count, j0, j1; /* the block at work: windows, columns */
} Plane;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}
/* `all` in blocks of one size, multiples of `to`, of about at most `room` floats. */
static int64_t block_of(int64_t in, int64_t all, int64_t to, int64_t room) {
    const int64_t most = room / (POINTS * in),
                  blocks = most ? (all + most - 1) / most : all;
    return up((all + blocks - 1) / blocks, to);
}
static Plane plane_of(const Type *x, const Type *y) {
    Plane p = {.isa = isa(), .b = x->dim[0], .h = x->dim[1], .w = x->dim[2]};
    p.in = x->dim[3], p.out = y->dim[3];
    p.wide = (p.w + 1) / 2, p.windows = p.b * ((p.h + 1) / 2) * p.wide;
    p.rows = block_of(p.in, p.windows, ROWS, BLOCK);
    p.columns = block_of(p.in, p.out, COLUMNS, BLOCK / 4);
    return p;
}
/* conv2d_grad_x goes from dy to dx, which have the same sides. */
bool winograd_fits(const Sig *s) {
    const Type *x = &s->in[0], *y = &s->out[0];
    const ConvAttrs *a = s->attrs;
    const ConvSize z = conv_size(x, y, a);
    const Plane p = plane_of(x, y);
    return x->dtype != F64 && z.k == 3 && z.stride == 1 && z.top == 1 && z.left == 1 &&
           z.oh == z.h && z.ow == z.w && p.windows / p.b >= LEAST_WINDOWS &&
           p.in % UNIT == 0 && p.out % UNIT == 0;
}
size_t winograd_work(const Sig *s) {
    const Plane p = plane_of(&s->in[0], &s->out[0]);
    return (size_t)(POINTS * p.in * (p.rows + p.columns)) * sizeof(float);
}

static char *element(const Tensor *t, int64_t at) {
    return (char *)t->data + at * (int64_t)dtype_size(t->type->dtype);
}
/* Where a window's result begins: the pixel of tap (1, 1) of its first. */
typedef struct Spot {
    int64_t image, y, x;
} Spot;
static Spot spot(const Plane *p, int64_t window) {
    const int64_t high = (p->h + 1) / 2;
    return (Spot){window / p->wide / high, window / p->wide % high * 2,
                  window % p->wide * 2};
}
/* The channels from `first` on of a pixel, -1: outside. */
static int64_t pixel(const Plane *p, Spot s, int64_t dy, int64_t dx, int64_t channels,
                     int64_t first) {
    const int64_t y = s.y + dy, x = s.x + dx;
    bool inside = y >= 0 && x >= 0 && y < p->h && x < p->w;
    return inside ? ((s.image * p->h + y) * p->w + x) * channels + first : -1;
}

/* ---- B' d B ---- */

static void transform_window(const Plane *p, int64_t at, float *wide) {
    static const float zeros[PIECE];
    const Spot s = spot(p, p->first + at);
    const DType type = p->x->type->dtype;
    for (int64_t c0 = 0; c0 < p->in; c0 += PIECE) {
        const int64_t n = least(PIECE, p->in - c0);
        const float *d[POINTS];
        for (int64_t i = 0; i < POINTS; i++) {
            const int64_t from = pixel(p, s, i / 4 - 1, i % 4 - 1, p->in, c0);
            d[i] = from < 0 ? zeros : (const float *)element(p->x, from);
            if (from < 0 || type == F32) continue;
            p->isa->widen(wide + i * PIECE, element(p->x, from), type, n);
            d[i] = wide + i * PIECE;
        }
        p->isa->winograd_input(p->v + at * p->in + c0, p->rows * p->in, d, n);
    }
}
static void window_group(void *arg, int64_t group, void *scratch) {
    const Plane *p = arg;
    for (int64_t i = group * GROUP; i < least((group + 1) * GROUP, p->count); i++)
        transform_window(p, i, scratch);
}

/* ---- G g G' ---- */

/* Channels c0 ... of the columns j ... j + nr as [c][tap][nr]. */
static void weight_taps(const Plane *p, int64_t j, int64_t c0, int64_t n, float *taps) {
    const int64_t nr = p->isa->nr, columns = least(nr, p->out - j);
    const DType type = p->weight->type->dtype;
    if (!p->turned) {
        p->isa->turn(taps, element(p->weight, (j * p->in + c0) * 9), type, columns,
                     p->in * 9, n * 9);
        return;
    }
    for (int64_t k = 0; k < n; k++)
        p->isa->turn(taps + k * 9 * nr, element(p->weight, ((c0 + k) * p->out + j) * 9),
                     type, columns, 9, 9);
}
static void weight_panel(void *arg, int64_t at, void *scratch) {
    const Plane *p = arg;
    const int64_t nr = p->isa->nr, pieces = up(p->in, CHANNELS) / CHANNELS;
    const int64_t panel = at / pieces, c0 = at % pieces * CHANNELS;
    const int64_t n = least(CHANNELS, p->in - c0);
    weight_taps(p, p->j0 + panel * nr, c0, n, scratch);
    p->isa->winograd_weight(p->u + (panel * p->in + c0) * nr, p->columns * p->in,
                            scratch, n, p->turned);
}

/* ---- products, A' M A ---- */

typedef struct Sums {
    float m[POINTS * ROWS * COLUMNS];
    float y[4][COLUMNS], bias[COLUMNS], wide[COLUMNS];
} Sums;
_Static_assert(sizeof(Sums) <= SCRATCH_BYTES, "a task's sums fit into scratch");

/* m[point][ROWS][COLUMNS] of `rows` windows from i0 on, `columns` columns from panel j. */
static void multiply(const Plane *p, int64_t i0, int64_t rows, int64_t j,
                     int64_t columns, Sums *s) {
    static const float zeros[MOST_NR];
    const int64_t mr = p->isa->mr, nr = p->isa->nr;
    for (int64_t point = 0; point < POINTS; point++) {
        const float *v = p->v + (point * p->rows + i0) * p->in;
        const float *u = p->u + (point * p->columns + j) * p->in;
        float *m = s->m + point * ROWS * COLUMNS;
        for (int64_t k0 = 0; k0 < p->in; k0 += DEPTH) {
            const int64_t depth = least(DEPTH, p->in - k0);
            for (int64_t q = 0; q < columns; q += nr) {
                for (int64_t i = 0; i < rows; i += mr) {
                    const float *from[MOST_MR];
                    float *to[MOST_MR];
                    for (int64_t r = 0; r < mr; r++) {
                        from[r] = v + least(i + r, rows - 1) * p->in + k0;
                        to[r] = m + (i + r) * COLUMNS + q;
                    }
                    p->isa->tile_rows(depth, from, u + q * p->in + k0 * nr, nr, to,
                                      k0 ? NULL : zeros);
                }
            }
        }
    }
}
/* The 2 x 2 pixels of a window. */
static void store_window(const Plane *p, int64_t at, int64_t j, int64_t columns,
                         Sums *s, int64_t row) {
    const Spot where = spot(p, p->first + at);
    float *const y[4] = {s->y[0], s->y[1], s->y[2], s->y[3]};
    p->isa->winograd_output(y, s->m + row * COLUMNS, ROWS * COLUMNS, s->bias, columns);
    for (int64_t i = 0; i < 4; i++) {
        const int64_t to = pixel(p, where, i / 2, i % 2, p->out, j);
        if (to < 0) continue;
        if (p->add) {
            p->isa->widen(s->wide, element(p->add, to), p->add->type->dtype, columns);
            p->isa->sum_rows(y[i], s->wide, 1, 0, columns);
        }
        p->isa->narrow(element(p->y, to), y[i], p->y->type->dtype, columns);
    }
}
static void product_task(void *arg, int64_t at, void *scratch) {
    const Plane *p = arg;
    const int64_t across = up(p->j1 - p->j0, COLUMNS) / COLUMNS;
    const int64_t i0 = at / across * ROWS, j = at % across * COLUMNS;
    const int64_t rows = least(ROWS, p->count - i0);
    const int64_t columns = least(COLUMNS, p->j1 - p->j0 - j);
    Sums *s = scratch;
    memset(s->bias, 0, sizeof s->bias);
    if (p->bias)
        p->isa->widen(s->bias, element(p->bias, p->j0 + j), p->bias->type->dtype,
                      columns);
    multiply(p, i0, rows, j, columns, s);
    for (int64_t i = 0; i < rows; i++)
        store_window(p, i0 + i, p->j0 + j, columns, s, i);
}

/* ---- all ---- */

static void run(const Call *c, Plane *p) {
    Device *dev = c->dev;
    p->v = c->work, p->u = p->v + POINTS * p->rows * p->in;
    for (p->first = 0; p->first < p->windows; p->first += p->rows) {
        p->count = least(p->rows, p->windows - p->first);
        dev->par(dev, up(p->count, GROUP) / GROUP, window_group, p);
        for (p->j0 = 0; p->j0 < p->out; p->j0 += p->columns) {
            p->j1 = least(p->out, p->j0 + p->columns);
            const int64_t panels = up(p->j1 - p->j0, p->isa->nr) / p->isa->nr;
            if (!p->first || p->columns < p->out) /* else they are there */
                dev->par(dev, panels * (up(p->in, CHANNELS) / CHANNELS), weight_panel,
                         p);
            dev->par(dev,
                     up(p->count, ROWS) / ROWS * (up(p->j1 - p->j0, COLUMNS) / COLUMNS),
                     product_task, p);
        }
    }
}
static const Tensor *optional(const Call *c, int i) {
    return given(c, i) ? &c->in[i] : NULL;
}
void winograd_run(const Call *c) {
    Plane p = plane_of(c->in[0].type, c->out[0].type);
    p.x = &c->in[0], p.weight = &c->in[1], p.y = &c->out[0];
    p.bias = optional(c, 2), p.add = optional(c, 3);
    run(c, &p);
}
void winograd_grad_x_run(const Call *c) {
    Plane p = plane_of(c->in[0].type, c->out[0].type);
    p.x = &c->in[0], p.weight = &c->in[1], p.y = &c->out[0];
    p.add = optional(c, 2), p.turned = true;
    run(c, &p);
}
