/* octaves: noise in several resolutions added up. */
#include <math.h>

#include "kernels/heavy.h"
#include "kernels/kernels.h"

typedef struct Octave {
    int64_t h, w;
    double strength;
} Octave;

/* Size and strength of each, until a side is 1. */
static int sizes(const Call *c, Octave *o, int most) {
    const Type *x = c->in[0].type;
    int n = 0;
    double discount = ((const OctavesAttrs *)c->attrs)->discount;
    for (int i = 0; i < c->in[1].type->dim[0] && n < most; i++) {
        /* at least 1, whatever was drawn: nothing is read beside fine */
        double by = fmax(pow(2 + 2 * get(&c->in[1], i), i), 1);
        int64_t h = (int64_t)((double)x->dim[1] / by),
                w = (int64_t)((double)x->dim[2] / by);
        o[n++] = (Octave){h > 1 ? h : 1, w > 1 ? w : 1, pow(discount, i)};
        if (h <= 1 || w <= 1) break;
    }
    return n;
}

/* Pixel i of `to` between two of `from`, corners not aligned. */
typedef struct Between {
    int64_t low, high;
    double f;
} Between;

static Between between(int64_t i, int64_t from, int64_t to) {
    double at = ((double)i + 0.5) * (double)from / (double)to - 0.5;
    if (at < 0) at = 0;
    Between b = {(int64_t)at, (int64_t)at, 0};
    b.f = at - (double)b.low;
    if (b.high < from - 1) b.high++;
    return b;
}

/* x[B,H,W,C], fine[B,k,H,W,C] -> y[B,H,W,C], one row of y */
static void row(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    const Type *x = c->in[0].type;
    const int64_t h = x->dim[1], w = x->dim[2], ch = x->dim[3],
                  k = c->in[1].type->dim[0], b = index / h, p = index % h;
    Octave o[64];
    const int n = sizes(c, o, 64);
    (void)scratch;
    for (int64_t q = 0; q < w; q++)
        for (int64_t m = 0; m < ch; m++) {
            const int64_t at = (index * w + q) * ch + m;
            double sum = get(&c->in[0], at);
            for (int i = 0; i < n; i++) {
                const Between y = between(p, o[i].h, h), z = between(q, o[i].w, w);
                const int64_t top = ((b * k + i) * h + y.low) * w,
                              low = ((b * k + i) * h + y.high) * w;
                const Tensor *f = &c->in[2];
                double above = get(f, (top + z.low) * ch + m) * (1 - z.f) +
                               get(f, (top + z.high) * ch + m) * z.f;
                double below = get(f, (low + z.low) * ch + m) * (1 - z.f) +
                               get(f, (low + z.high) * ch + m) * z.f;
                sum += o[i].strength * (above * (1 - y.f) + below * y.f);
            }
            put(&c->out[0], at, sum);
        }
}

static void run(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], row);
}

const Kernel cpu_octaves[] = {{.name = "ref", .run = run}, {0}};
