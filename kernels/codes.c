/* encode, decode: a tensor as one byte per element, in blocks with one scale each. A block
 * is coded by itself, so blocks may run anywhere in any order. */
#include "kernels/kernels.h"

#include "kernels/codes.h"

#include <math.h>
#include <stdlib.h>

static int rising(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void codes_map(bool is_signed, float map[CODES]) {
    int n = 0;
    for (int i = 0; i <= 6; i++) {
        int parts = is_signed ? 1 << i : 2 << i;
        double step = 0.9 / parts, scale = pow(10, i - 6);
        for (int k = 0; k < parts; k++) {
            double middle = 0.1 + step * (k + 0.5);
            map[n++] = (float)(middle * scale);
            if (is_signed) map[n++] = (float)(-middle * scale);
        }
    }
    map[n++] = 0;
    map[n++] = 1;
    qsort(map, (size_t)n, sizeof *map, rising);
}

/* The entry nearest to x; of two equally near ones the lower. */
static int nearest_entry(const float *map, float x) {
    int low = 0, high = CODES - 1;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (map[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return x <= (map[low] + map[high]) / 2 ? low : high;
}

/* A code whose number has the other sign than x (0 counts as positive) moves one step to
 * the side of x. */
static int code_of(const float *map, bool is_signed, float x) {
    int c = nearest_entry(map, x);
    bool minus = x < 0, has = map[c] < 0;
    if (!is_signed || minus == has) return c;
    return minus ? c - 1 : c + 1;
}

static float number(const Tensor *t, int64_t i) {
    float x;
    if (t->type->dtype == F32) return ((const float *)t->data)[i];
    convert(&x, F32, (const char *)t->data + 2 * i, t->type->dtype, 1); /* halves */
    return x;
}

typedef struct Coding {
    const Call *c;
    int64_t n, per, block; /* elements; blocks of one piece of work; elements of one */
} Coding;

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    float *map = NEW(a, float, CODES);
    codes_map(((const CodesAttrs *)s->attrs)->is_signed, map);
    *prep = map;
    return true;
}

static Coding coding(const Call *c, const Type *t) {
    int64_t block = ((const CodesAttrs *)c->attrs)->block;
    int64_t per = BLOCK / block;
    return (Coding){c, type_count(t), per ? per : 1, block};
}

static void each_block(Device *d, Coding *k, void (*body)(void *, int64_t, void *)) {
    int64_t span = k->per * k->block;
    d->par(d, (k->n + span - 1) / span, body, k);
}

/* x[n] -> codes[n], scale[blocks] */
static void encode_piece(void *arg, int64_t piece, void *scratch) {
    (void)scratch;
    const Coding *k = arg;
    bool is_signed = ((const CodesAttrs *)k->c->attrs)->is_signed;
    const float *map = k->c->prep;
    const Tensor *x = &k->c->in[0];
    uint8_t *code = k->c->out[0].data;
    float *scale = k->c->out[1].data;
    for (int64_t b = piece * k->per; b < (piece + 1) * k->per; b++) {
        int64_t from = b * k->block,
                to = from + k->block < k->n ? from + k->block : k->n;
        if (from >= k->n) return;
        float most = 0;
        for (int64_t i = from; i < to; i++) most = fmaxf(most, fabsf(number(x, i)));
        scale[b] = most;
        for (int64_t i = from; i < to; i++)
            code[i] =
                (uint8_t)code_of(map, is_signed, most > 0 ? number(x, i) / most : 0);
    }
}

static void encode_run(const Call *c) {
    Coding k = coding(c, c->in[0].type);
    each_block(c->dev, &k, encode_piece);
}

static void decode_piece(void *arg, int64_t piece, void *scratch) {
    (void)scratch;
    const Coding *k = arg;
    const float *map = k->c->prep;
    const uint8_t *code = k->c->in[0].data;
    float *x = k->c->out[0].data;
    int64_t to = (piece + 1) * k->per * k->block;
    for (int64_t i = piece * k->per * k->block; i < to && i < k->n; i++)
        x[i] = map[code[i]] * number(&k->c->in[1], i / k->block);
}

static void decode_run(const Call *c) {
    Coding k = coding(c, c->out[0].type);
    each_block(c->dev, &k, decode_piece);
}

const Kernel cpu_encode[] = {{.name = "ref", .prepare = prepare, .run = encode_run},
                             {0}};
const Kernel cpu_decode[] = {{.name = "ref", .prepare = prepare, .run = decode_run},
                             {0}};
