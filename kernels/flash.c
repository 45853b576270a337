/* Attention and its gradient over blocks of queries and keys: the probabilities of one
 * block live in scratch only. The running maximum and sum of a row after Milakov and
 * Gimelshein, "Online normalizer calculation for softmax" (2018); blocks and the gradient
 * from the log-sum-exp after Dao et al., "FlashAttention" (2022).
 *
 * Shapes of one head: q y dy dq [n,d], k v dk dv [m,d], rows `step` elements apart, each
 * in f32, f16 or bf16; all arithmetic and lse are in f32, where halves become and were f32
 * a block at a time. Inside, matrices have d filled up to `wide` columns, a multiple of the tile. Work is cut by
 * sizes alone and each sum runs in one order, so that results do not depend on the number
 * of threads. */
#include "kernels/flash.h"

#include <math.h>
#include <string.h>

#include "kernels/heavy.h"
#include "kernels/isa.h"

/* Queries and keys of a block, multiples of every tile; widest head (so that a block fits
 * into scratch); pieces of the gradient's work wanted. */
enum { QUERIES = 48, KEYS = 96, WIDEST = 512, PIECES = 8 };

typedef struct Head {
    const Isa *isa;
    AttentionSize z;
    int64_t step, wide;
    bool causal;
    float scale;
} Head;

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}
static Head head_of(const Type *q, const Type *k, const AttentionAttrs *a) {
    Head h = {.isa = isa(), .z = attention_size(q, k, a->heads), .causal = a->causal};
    h.step = h.z.heads * h.z.d;
    h.wide = up(h.z.d, h.isa->nr);
    h.scale = 1 / sqrtf((float)h.z.d);
    return h;
}
static Head head_of_call(const Call *c) {
    return head_of(c->in[0].type, c->in[1].type, c->attrs);
}
bool flash_fits(const Sig *s) {
    const AttentionAttrs *a = s->attrs;
    return s->in[0].dtype != F64 && type_last(&s->in[0]) / a->heads <= WIDEST;
}

/* First element of head `at % heads` of sample `at / heads` in a tensor of `rows` tokens. */
static int64_t origin(const Head *h, int64_t at, int64_t rows) {
    return at / h->z.heads * rows * h->step + at % h->z.heads * h->z.d;
}
/* How many of the keys k0 ... k0 + n query i sees. */
static int64_t seen(const Head *h, int64_t i, int64_t k0, int64_t n) {
    int64_t most = h->causal ? i + 1 - k0 : n;
    return most < 0 ? 0 : least(most, n);
}

/* ---- operands of a tile ---- */

/* Rows of a head from some token on, in their own type. */
typedef struct Rows {
    char *data;
    DType type;
} Rows;
static Rows rows_of(const Tensor *t, int64_t at) {
    const DType type = t->type->dtype;
    return (Rows){(char *)t->data + at * (int64_t)dtype_size(type), type};
}
static char *row_at(const Head *h, Rows x, int64_t i) {
    return x.data + i * h->step * (int64_t)dtype_size(x.type);
}

/* Rows x[n][d] as the right operand of a product over d: [panel][d][nr]. */
static void turn_right(const Head *h, Rows x, int64_t n, float *dst) {
    const int64_t nr = h->isa->nr, d = h->z.d;
    for (int64_t j = 0; j < n; j += nr, dst += d * nr)
        h->isa->turn(dst, row_at(h, x, j), x.type, least(nr, n - j), h->step, d);
}
/* Rows x[n][d] as the right operand of a product over n: [n][wide]. */
static void widen_rows(const Head *h, Rows x, int64_t n, float *dst) {
    for (int64_t j = 0; j < n; j++, dst += h->wide) {
        h->isa->widen(dst, row_at(h, x, j), x.type, h->z.d);
        memset(dst + h->z.d, 0, (size_t)(h->wide - h->z.d) * sizeof *dst);
    }
}
/* Rows x[n][d] as the left operand of a product over d; of halves, `wide` takes d values
 * of each row of a panel. */
static void left_of(const Head *h, Rows x, int64_t n, float *wide, float *dst) {
    const int64_t mr = h->isa->mr, d = h->z.d;
    for (int64_t i = 0; i < n; i += mr, dst += mr * d) {
        const float *row[MOST_MR] = {0};
        for (int64_t r = 0; r < least(mr, n - i); r++) {
            const void *from = row_at(h, x, i + r);
            row[r] = from;
            if (x.type == F32) continue;
            h->isa->widen(wide + r * d, from, x.type, d);
            row[r] = wide + r * d;
        }
        h->isa->pack(dst, row, d, 1);
    }
}
/* Rows x[n][depth], ld apart, as the left operand of a product over depth. */
static void left_rows(const Isa *isa_, const float *x, int64_t n, int64_t ld,
                      int64_t depth, float *dst) {
    const int64_t mr = isa_->mr;
    for (int64_t i = 0; i < n; i += mr, dst += mr * depth) {
        const float *row[MOST_MR] = {0};
        for (int64_t r = 0; r < least(mr, n - i); r++) row[r] = x + (i + r) * ld;
        isa_->pack(dst, row, depth, 1);
    }
}
/* Columns of x[depth][n] (KEYS apart) as the left operand of a product over depth. */
static void left_columns(const Isa *isa_, const float *x, int64_t n, int64_t depth,
                         float *dst) {
    const int64_t mr = isa_->mr;
    for (int64_t i = 0; i < n; i += mr) {
        const int64_t count = least(mr, n - i);
        for (int64_t p = 0; p < depth; p++, dst += mr) {
            for (int64_t r = 0; r < count; r++) dst[r] = x[p * KEYS + i + r];
            for (int64_t r = count; r < mr; r++) dst[r] = 0;
        }
    }
}
/* c[m][ldc] = or += a b, where a has panels of mr rows and b's panel j starts at
 * b + j * panel, rows ldb apart. c has room for whole tiles. */
static void product(const Isa *isa_, int64_t m, int64_t n, int64_t depth,
                    const float *a, const float *b, int64_t panel, int64_t ldb,
                    float *c, int64_t ldc, bool add) {
    static const float zeros[MOST_NR];
    for (int64_t j = 0; j < n; j += isa_->nr) {
        for (int64_t i = 0; i < m; i += isa_->mr) {
            float *row[MOST_MR];
            for (int64_t r = 0; r < isa_->mr; r++) row[r] = c + (i + r) * ldc + j;
            isa_->tile(depth, a + i * depth, b + j / isa_->nr * panel, ldb, row,
                       add ? NULL : zeros);
        }
    }
}

/* ---- forward ---- */

/* Keys (turned) and values (widened) of one head, laid out once for all queries. */
static int64_t prepared(const Head *h) {
    return up(h->z.m, h->isa->nr) * h->z.d + h->z.m * h->wide;
}
size_t flash_work(const Sig *s) {
    Head h = head_of(&s->in[0], &s->in[1], s->attrs);
    return (size_t)(h.z.b * h.z.heads * prepared(&h)) * sizeof(float);
}
static void prepare_head(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    const int64_t from = origin(&h, at, h.z.m);
    float *to = (float *)c->work + at * prepared(&h);
    (void)scratch;
    turn_right(&h, rows_of(&c->in[1], from), h.z.m, to);
    widen_rows(&h, rows_of(&c->in[2], from), h.z.m, to + up(h.z.m, h.isa->nr) * h.z.d);
}

typedef struct Queries { /* one block of them */
    float p[QUERIES * KEYS], packed[QUERIES * KEYS];
    float top[QUERIES], sum[QUERIES];
    float wide[MOST_MR * WIDEST];
    float room[]; /* q packed [QUERIES][d], y [QUERIES][wide] */
} Queries;
_Static_assert(sizeof(Queries) + 2 * QUERIES * WIDEST * sizeof(float) <= SCRATCH_BYTES,
               "a block of queries fits into scratch");

/* Scores of row i over a block of keys become probabilities relative to the row's running
 * maximum; what was summed before is scaled down to it. */
static void softmax_row(const Head *h, Queries *w, int64_t i, int64_t count,
                        int64_t keys, float *y) {
    float *p = w->p + i * KEYS;
    if (count) {
        float top = h->isa->max_row(p, count) * h->scale;
        if (top < w->top[i]) top = w->top[i];
        float keep = expf(w->top[i] - top);
        float sum = h->isa->exp_row(p, count, h->scale, top);
        if (keep != 1) h->isa->scale_row(y, h->wide, keep);
        w->sum[i] = w->sum[i] * keep + sum, w->top[i] = top;
    }
    memset(p + count, 0, (size_t)(keys - count) * sizeof *p);
}

static void query_block(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    const int64_t blocks = up(h.z.n, QUERIES) / QUERIES, head = at / blocks;
    const int64_t q0 = at % blocks * QUERIES, n = least(QUERIES, h.z.n - q0);
    const int64_t from = origin(&h, head, h.z.n) + q0 * h.step, nr = h.isa->nr;
    const float *k = (const float *)c->work + head * prepared(&h);
    const float *v = k + up(h.z.m, nr) * h.z.d;
    Queries *w = scratch;
    float *q = w->room, *y = q + QUERIES * h.z.d;
    left_of(&h, rows_of(&c->in[0], from), n, w->wide, q);
    memset(y, 0, (size_t)(QUERIES * h.wide) * sizeof *y);
    for (int64_t i = 0; i < n; i++) w->top[i] = -INFINITY, w->sum[i] = 0;
    for (int64_t k0 = 0; k0 < h.z.m && (!h.causal || k0 < q0 + n); k0 += KEYS) {
        const int64_t keys = least(KEYS, h.z.m - k0);
        product(h.isa, n, keys, h.z.d, q, k + k0 * h.z.d, h.z.d * nr, nr, w->p, KEYS,
                false);
        for (int64_t i = 0; i < n; i++)
            softmax_row(&h, w, i, seen(&h, q0 + i, k0, keys), keys, y + i * h.wide);
        left_rows(h.isa, w->p, n, KEYS, keys, w->packed);
        product(h.isa, n, h.wide, keys, w->packed, v + k0 * h.wide, nr, h.wide, y,
                h.wide, true);
    }
    float *lse = (float *)c->out[1].data + head * h.z.n + q0;
    const Rows out = rows_of(&c->out[0], from);
    for (int64_t i = 0; i < n; i++) {
        float *row = y + i * h.wide;
        for (int64_t p = 0; p < h.z.d; p++) row[p] /= w->sum[i];
        h.isa->narrow(row_at(&h, out, i), row, out.type, h.z.d);
        lse[i] = w->top[i] + logf(w->sum[i]);
    }
}
void flash_run(const Call *c) {
    const Head h = head_of_call(c);
    const int64_t heads = h.z.b * h.z.heads;
    spread(c, heads, prepare_head);
    spread(c, heads * (up(h.z.n, QUERIES) / QUERIES), query_block);
}

/* ---- gradient ---- */

/* A head's keys are one piece of work, or several where there are few heads; each piece
 * has a dq of its own in f32 (the first: the output, if that is f32), added up at the
 * end. */
static int64_t pieces(const Head *h) {
    const int64_t heads = h->z.b * h->z.heads;
    return least((PIECES + heads - 1) / heads, up(h->z.m, KEYS) / KEYS);
}
static int64_t dots_room(const Head *h) {
    return up(h->z.b * h->z.heads * h->z.n, 16);
}
/* Pieces whose dq is in the workspace. */
static int64_t pieces_apart(const Head *h, DType q) {
    return pieces(h) - (q == F32);
}
/* D[b,heads,n], then dq of the pieces apart */
size_t flash_grad_work(const Sig *s) {
    Head h = head_of(&s->in[0], &s->in[1], s->attrs);
    int64_t dq = pieces_apart(&h, s->in[0].dtype) * type_count(&s->in[0]);
    return (size_t)(dots_room(&h) + dq) * sizeof(float);
}

/* D = rowsum(dy * y) of one head */
static void head_dots(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    const int64_t from = origin(&h, at, h.z.n);
    const Rows dy = rows_of(&c->in[5], from), y = rows_of(&c->in[3], from);
    float *dots = (float *)c->work + at * h.z.n, *a = scratch, *b = a + WIDEST;
    for (int64_t i = 0; i < h.z.n; i++) {
        h.isa->widen(a, row_at(&h, dy, i), dy.type, h.z.d);
        h.isa->widen(b, row_at(&h, y, i), y.type, h.z.d);
        dots[i] = h.isa->dot(a, b, h.z.d);
    }
}

typedef struct Block { /* of keys, with a block of queries passing by */
    float p[QUERIES * KEYS], ds[QUERIES * KEYS], packed[QUERIES * KEYS];
    float wide[MOST_MR * WIDEST];
    /* k, v turned; k widened; dk, dv [KEYS][wide] */
    float *kt, *vt, *k, *dk, *dv;
    /* q, dy packed [QUERIES][d]; q, dy widened; dq [QUERIES][wide] */
    float *qa, *dya, *q, *dy, *dq;
    float room[];
} Block;
static void lay_out(const Head *h, Block *w) {
    float *at = w->room;
    const int64_t d = h->z.d, wide = h->wide;
    w->kt = at, at += KEYS * d;
    w->vt = at, at += KEYS * d;
    w->k = at, at += KEYS * wide;
    w->dk = at, at += KEYS * wide;
    w->dv = at, at += KEYS * wide;
    w->qa = at, at += QUERIES * d;
    w->dya = at, at += QUERIES * d;
    w->q = at, at += QUERIES * wide;
    w->dy = at, at += QUERIES * wide;
    w->dq = at;
}
_Static_assert(sizeof(Block) + (KEYS + QUERIES) * 5 * WIDEST * sizeof(float) <=
                   SCRATCH_BYTES,
               "a block fits into scratch");

/* The share of queries q0 ... q0 + n in a block of keys; dq is stored if `first`, else
 * added. lse, dots: of this head. */
static void grad_block(const Call *c, const Head *h, Block *w, int64_t from, int64_t q0,
                       int64_t n, int64_t k0, int64_t keys, const float *lse,
                       const float *dots, float *dq, bool first) {
    const Rows q = rows_of(&c->in[0], from + q0 * h->step);
    const Rows dy = rows_of(&c->in[5], from + q0 * h->step);
    const int64_t nr = h->isa->nr, d = h->z.d, wide = h->wide;
    left_of(h, q, n, w->wide, w->qa);
    left_of(h, dy, n, w->wide, w->dya);
    widen_rows(h, q, n, w->q);
    widen_rows(h, dy, n, w->dy);
    product(h->isa, n, keys, d, w->qa, w->kt, d * nr, nr, w->p, KEYS, false);
    product(h->isa, n, keys, d, w->dya, w->vt, d * nr, nr, w->ds, KEYS, false);
    for (int64_t i = 0; i < n; i++) {
        float *p = w->p + i * KEYS, *ds = w->ds + i * KEYS;
        const int64_t count = seen(h, q0 + i, k0, keys);
        const size_t rest = (size_t)(keys - count) * sizeof *p;
        h->isa->exp_row(p, count, h->scale, lse[q0 + i]);
        h->isa->softmax_grad(ds, p, count, dots[q0 + i], h->scale);
        memset(p + count, 0, rest);
        memset(ds + count, 0, rest);
    }
    left_columns(h->isa, w->p, keys, n, w->packed);
    product(h->isa, keys, wide, n, w->packed, w->dy, nr, wide, w->dv, wide, true);
    left_columns(h->isa, w->ds, keys, n, w->packed);
    product(h->isa, keys, wide, n, w->packed, w->q, nr, wide, w->dk, wide, true);
    left_rows(h->isa, w->ds, n, KEYS, keys, w->packed);
    product(h->isa, n, wide, keys, w->packed, w->k, nr, wide, w->dq, wide, false);
    for (int64_t i = 0; i < n; i++) {
        float *to = dq + from + (q0 + i) * h->step;
        for (int64_t p = 0; p < d; p++)
            to[p] = first ? w->dq[i * wide + p] : to[p] + w->dq[i * wide + p];
    }
}

/* dq of a piece. */
static float *piece_dq(const Call *c, const Head *h, int64_t part) {
    const int64_t apart = pieces_apart(h, c->out[0].type->dtype);
    const int64_t at = part - (pieces(h) - apart), all = type_count(c->in[0].type);
    return at < 0 ? c->out[0].data : (float *)c->work + dots_room(h) + at * all;
}

static void key_blocks(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    const int64_t parts = pieces(&h), head = at / parts, part = at % parts;
    const int64_t blocks = up(h.z.m, KEYS) / KEYS;
    const int64_t first = part * blocks / parts * KEYS;
    const int64_t last = least((part + 1) * blocks / parts * KEYS, h.z.m);
    const int64_t qt = origin(&h, head, h.z.n), kt = origin(&h, head, h.z.m);
    const float *dots = c->work, *lse = c->in[4].data;
    Block *w = scratch;
    float *dq = piece_dq(c, &h, part);
    lay_out(&h, w);
    for (int64_t k0 = first; k0 < last; k0 += KEYS) {
        const int64_t keys = least(KEYS, last - k0), from = kt + k0 * h.step;
        const Rows k = rows_of(&c->in[1], from);
        turn_right(&h, k, keys, w->kt);
        turn_right(&h, rows_of(&c->in[2], from), keys, w->vt);
        widen_rows(&h, k, keys, w->k);
        memset(w->dk, 0, (size_t)(2 * KEYS * h.wide) * sizeof *w->dk); /* and dv */
        for (int64_t q0 = 0; q0 < h.z.n; q0 += QUERIES) {
            const int64_t n = least(QUERIES, h.z.n - q0);
            if (h.causal && q0 + n <= k0 && k0 > first) continue;
            grad_block(c, &h, w, qt, q0, n, k0, keys, lse + head * h.z.n,
                       dots + head * h.z.n, dq, k0 == first);
        }
        const Rows dk = rows_of(&c->out[1], from), dv = rows_of(&c->out[2], from);
        for (int64_t j = 0; j < keys; j++) {
            h.isa->narrow(row_at(&h, dk, j), w->dk + j * h.wide, dk.type, h.z.d);
            h.isa->narrow(row_at(&h, dv, j), w->dv + j * h.wide, dv.type, h.z.d);
        }
    }
}
/* Adds the pieces' dq, one sample's and query's row at a time. */
static void add_pieces(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    (void)scratch;
    float *dq = piece_dq(c, &h, 0) + row * h.step;
    for (int64_t part = 1; part < pieces(&h); part++) {
        const float *more = piece_dq(c, &h, part) + row * h.step;
        for (int64_t p = 0; p < h.step; p++) dq[p] += more[p];
    }
    const Rows out = rows_of(&c->out[0], 0);
    if (out.type != F32) h.isa->narrow(row_at(&h, out, row), dq, out.type, h.step);
}
void flash_grad_run(const Call *c) {
    const Head h = head_of_call(c);
    const int64_t heads = h.z.b * h.z.heads;
    spread(c, heads, head_dots);
    spread(c, heads * pieces(&h), key_blocks);
    if (pieces(&h) > 1 || c->out[0].type->dtype != F32)
        spread(c, h.z.b * h.z.n, add_pieces);
}
