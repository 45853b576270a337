/* Attention and its gradient over blocks of queries and keys: the probabilities of one
 * block live in scratch only. The running maximum and sum of a row after Milakov and
 * Gimelshein, "Online normalizer calculation for softmax" (2018); blocks and the gradient
 * from the log-sum-exp after Dao et al., "FlashAttention" (2022).
 *
 * Shapes of one head: q y dy dq [n,d], k v dk dv [m,d], rows `step` elements apart, each
 * in f32, f16 or bf16; all arithmetic and lse are in f32, where halves become and were f32
 * a block at a time. Which operand of a product lies turned is chosen so that none of the
 * blocks of probabilities has to be packed, and d is filled up to rows of a tile (40: 42),
 * not to its columns (48), but for dq. Work is cut by sizes alone and each sum runs in one
 * order, so that results do not depend on the number of threads. */
#include "kernels/flash.h"

#include <math.h>
#include <string.h>

#include "kernels/heavy.h"
#include "kernels/isa.h"

/* Keys and queries of a block, multiples of the tiles' rows and columns; the same of the
 * gradient, whose rows are queries. Widest head (so that a block fits into scratch);
 * pieces of the gradient's work wanted. */
enum {
    KEYS = 48,
    QUERIES = 64,
    GRAD_QUERIES = 48,
    GRAD_KEYS = 96,
    WIDEST = 512,
    PIECES = 8
};

typedef struct Head {
    const Isa *isa;
    AttentionSize z;
    int64_t step, wide, tall; /* d filled up to columns and to rows of a tile */
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
    h.wide = up(h.z.d, h.isa->nr), h.tall = up(h.z.d, h.isa->mr);
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
/* Rows x[n][d] as f32 rows, ld apart, with zeros behind d. */
static void widen_rows(const Head *h, Rows x, int64_t n, int64_t ld, float *dst) {
    for (int64_t j = 0; j < n; j++, dst += ld) {
        h->isa->widen(dst, row_at(h, x, j), x.type, h->z.d);
        memset(dst + h->z.d, 0, (size_t)(ld - h->z.d) * sizeof *dst);
    }
}
/* Rows x[n][d] as the left operand of a product over d: [panel][d][mr]; of halves, `wide`
 * takes d values of each row of a panel. */
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
/* f32 columns x[d][n], ld apart, as the first n rows of a head; `turned` has room for
 * n * nr values. */
static void store_turned(const Head *h, const float *x, int64_t ld, int64_t n,
                         float *turned, Rows to) {
    const int64_t nr = h->isa->nr, size = (int64_t)dtype_size(to.type);
    for (int64_t p = 0; p < h->z.d; p += nr) {
        const int64_t count = least(nr, h->z.d - p);
        h->isa->turn(turned, x + p * ld, F32, count, ld, n);
        for (int64_t i = 0; i < n; i++)
            h->isa->narrow(row_at(h, to, i) + p * size, turned + i * nr, to.type,
                           count);
    }
}

/* An operand of a product over k: the panel of rows (left) or columns (right) number p
 * begins at `at` + p * panel, its values for k + 1 lie ld behind those for k. */
typedef struct Operand {
    const float *at;
    int64_t panel, ld;
} Operand;
/* [panel][k][tile], and the columns or rows of a matrix as it lies. */
static Operand packed(const float *at, int64_t depth, int64_t tile) {
    return (Operand){at, depth * tile, tile};
}
static Operand lying(const float *at, int64_t ld, int64_t tile) {
    return (Operand){at, tile, ld};
}

static const float ZEROS[MOST_NR];

/* c[m][ldc] = or += a b. c has room for whole tiles. */
static void product(const Isa *isa_, int64_t m, int64_t n, int64_t depth, Operand a,
                    Operand b, float *c, int64_t ldc, bool add) {
    const int64_t mr = isa_->mr, nr = isa_->nr;
    for (int64_t j = 0; j < n; j += nr, b.at += b.panel) {
        const float *left = a.at;
        for (int64_t i = 0; i < m; i += mr, left += a.panel) {
            float *row[MOST_MR];
            for (int64_t r = 0; r < mr; r++) row[r] = c + (i + r) * ldc + j;
            isa_->tile(depth, left, a.ld, b.at, b.ld, row, add ? NULL : ZEROS);
        }
    }
}
/* c[m][ldc] = a b with rows a[m][depth] as they lie, lda apart. */
static void product_rows(const Isa *isa_, int64_t m, int64_t n, int64_t depth,
                         const float *a, int64_t lda, Operand b, float *c,
                         int64_t ldc) {
    const int64_t mr = isa_->mr, nr = isa_->nr;
    for (int64_t j = 0; j < n; j += nr, b.at += b.panel)
        for (int64_t i = 0; i < m; i += mr) {
            const float *from[MOST_MR];
            float *row[MOST_MR];
            for (int64_t r = 0; r < mr; r++)
                from[r] = a + (i + r) * lda, row[r] = c + (i + r) * ldc + j;
            isa_->tile_rows(depth, from, b.at, b.ld, row, ZEROS);
        }
}

/* ---- forward ---- */

/* Keys (packed) and values (widened) of one head, laid out once for all queries. */
static int64_t keys_room(const Head *h) {
    return up(h->z.m, h->isa->mr) * h->z.d;
}
static int64_t prepared(const Head *h) {
    return keys_room(h) + h->z.m * h->tall;
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
    left_of(&h, rows_of(&c->in[1], from), h.z.m, scratch, to);
    widen_rows(&h, rows_of(&c->in[2], from), h.z.m, h.tall, to + keys_room(&h));
}

typedef struct Queries { /* one block of them, columns throughout */
    float p[KEYS * QUERIES], top[QUERIES], old[QUERIES], sum[QUERIES], zeros[QUERIES];
    float turned[QUERIES * MOST_NR];
    float room[]; /* q [panel][d][nr], y [tall][QUERIES] */
} Queries;
_Static_assert(sizeof(Queries) + QUERIES * (2 * WIDEST + MOST_MR) * sizeof(float) <=
                   SCRATCH_BYTES,
               "a block of queries fits into scratch");

/* Of a row of p, key k0 + j's, the queries from q0 on that do not see it: the first so
 * many of n. */
static int64_t blind(const Head *h, int64_t q0, int64_t n, int64_t key) {
    return !h->causal || key < q0 ? 0 : least(key - q0, n);
}

/* Scores p[keys][QUERIES] become probabilities relative to each query's running maximum;
 * what was summed before is scaled down to it. Every query sees key 0, so that from the
 * first block on its maximum is a number. */
static void softmax_columns(const Head *h, Queries *w, int64_t q0, int64_t n,
                            int64_t k0, int64_t keys, float *y) {
    const Isa *a = h->isa;
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < blind(h, q0, n, k0 + j); i++)
            w->p[j * QUERIES + i] = -INFINITY;
    memcpy(w->old, w->top, sizeof w->old);
    a->max_columns(w->top, w->p, keys, QUERIES, QUERIES, h->scale);
    if (k0 && memcmp(w->old, w->top, sizeof w->old)) {
        for (int64_t i = 0; i < QUERIES; i++) w->old[i] = expf(w->old[i] - w->top[i]);
        a->affine_row(w->sum, w->sum, w->old, w->zeros, QUERIES);
        for (int64_t r = 0; r < h->tall; r++, y += QUERIES)
            a->affine_row(y, y, w->old, w->zeros, QUERIES);
    }
    a->exp_columns(w->p, keys, QUERIES, QUERIES, h->scale, w->top, w->sum);
    for (int64_t j = 0; j < keys; j++)
        memset(w->p + j * QUERIES, 0, (size_t)blind(h, q0, n, k0 + j) * sizeof *w->p);
}

static void query_block(void *arg, int64_t at, void *scratch) {
    const Call *c = arg;
    const Head h = head_of_call(c);
    const int64_t blocks = up(h.z.n, QUERIES) / QUERIES, head = at / blocks;
    const int64_t q0 = at % blocks * QUERIES, n = least(QUERIES, h.z.n - q0);
    const int64_t from = origin(&h, head, h.z.n) + q0 * h.step, d = h.z.d;
    const int64_t mr = h.isa->mr, nr = h.isa->nr;
    const float *k = (const float *)c->work + head * prepared(&h),
                *v = k + keys_room(&h);
    Queries *w = scratch;
    float *q = w->room, *y = q + QUERIES * d;
    memset(w, 0, sizeof *w);
    turn_right(&h, rows_of(&c->in[0], from), n, q);
    memset(y, 0, (size_t)(QUERIES * h.tall) * sizeof *y);
    for (int64_t i = 0; i < QUERIES; i++) w->top[i] = -INFINITY;
    for (int64_t k0 = 0; k0 < h.z.m && (!h.causal || k0 < q0 + n); k0 += KEYS) {
        const int64_t keys = least(KEYS, h.z.m - k0);
        product(h.isa, keys, n, d, packed(k + k0 * d, d, mr), packed(q, d, nr), w->p,
                QUERIES, false);
        softmax_columns(&h, w, q0, n, k0, keys, y);
        product(h.isa, d, n, keys, lying(v + k0 * h.tall, h.tall, mr),
                lying(w->p, QUERIES, nr), y, QUERIES, true);
    }
    float *lse = (float *)c->out[1].data + head * h.z.n + q0;
    for (int64_t i = 0; i < n; i++) lse[i] = w->top[i] + logf(w->sum[i]);
    for (int64_t i = 0; i < QUERIES; i++) w->sum[i] = 1 / w->sum[i];
    for (int64_t p = 0; p < d; p++)
        h.isa->affine_row(y + p * QUERIES, y + p * QUERIES, w->sum, w->zeros, QUERIES);
    store_turned(&h, y, QUERIES, n, w->turned, rows_of(&c->out[0], from));
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
    return least((PIECES + heads - 1) / heads, up(h->z.m, GRAD_KEYS) / GRAD_KEYS);
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
    float p[GRAD_QUERIES * GRAD_KEYS], ds[GRAD_QUERIES * GRAD_KEYS],
        turned[GRAD_KEYS * MOST_NR];
    /* k, v turned; k widened [GRAD_KEYS][wide]; dk, dv [tall][GRAD_KEYS] */
    float *kt, *vt, *k, *dk, *dv;
    /* q, dy [GRAD_QUERIES][tall]; dq [GRAD_QUERIES][wide] */
    float *q, *dy, *dq;
    float room[];
} Block;
static void lay_out(const Head *h, Block *w) {
    float *at = w->room;
    const int64_t d = h->z.d;
    w->kt = at, at += GRAD_KEYS * d;
    w->vt = at, at += GRAD_KEYS * d;
    w->k = at, at += GRAD_KEYS * h->wide;
    w->dk = at, at += GRAD_KEYS * h->tall;
    w->dv = at, at += GRAD_KEYS * h->tall;
    w->q = at, at += GRAD_QUERIES * h->tall;
    w->dy = at, at += GRAD_QUERIES * h->tall;
    w->dq = at;
    memset(w->q, 0, (size_t)(2 * GRAD_QUERIES * h->tall) * sizeof *w->q);
}
_Static_assert(sizeof(Block) + (GRAD_KEYS * 5 + GRAD_QUERIES * 3) * (WIDEST + MOST_MR) *
                                   sizeof(float) <=
                   SCRATCH_BYTES,
               "a block fits into scratch");

/* The share of queries q0 ... q0 + n in a block of keys; dq is stored if `first`, else
 * added. lse, dots: of this head. */
static void grad_block(const Call *c, const Head *h, Block *w, int64_t from, int64_t q0,
                       int64_t n, int64_t k0, int64_t keys, const float *lse,
                       const float *dots, float *dq, bool first) {
    const int64_t mr = h->isa->mr, nr = h->isa->nr, d = h->z.d, tall = h->tall;
    widen_rows(h, rows_of(&c->in[0], from + q0 * h->step), n, tall, w->q);
    widen_rows(h, rows_of(&c->in[5], from + q0 * h->step), n, tall, w->dy);
    product_rows(h->isa, n, keys, d, w->q, tall, packed(w->kt, d, nr), w->p, GRAD_KEYS);
    product_rows(h->isa, n, keys, d, w->dy, tall, packed(w->vt, d, nr), w->ds,
                 GRAD_KEYS);
    for (int64_t i = 0; i < n; i++) {
        float *p = w->p + i * GRAD_KEYS, *ds = w->ds + i * GRAD_KEYS;
        const int64_t count = seen(h, q0 + i, k0, keys);
        const size_t rest = (size_t)(keys - count) * sizeof *p;
        h->isa->exp_row(p, count, h->scale, lse[q0 + i]);
        h->isa->softmax_grad(ds, p, count, dots[q0 + i], h->scale);
        memset(p + count, 0, rest);
        memset(ds + count, 0, rest);
    }
    product(h->isa, d, keys, n, lying(w->dy, tall, mr), lying(w->p, GRAD_KEYS, nr),
            w->dv, GRAD_KEYS, true);
    product(h->isa, d, keys, n, lying(w->q, tall, mr), lying(w->ds, GRAD_KEYS, nr),
            w->dk, GRAD_KEYS, true);
    product_rows(h->isa, n, d, keys, w->ds, GRAD_KEYS, lying(w->k, h->wide, nr), w->dq,
                 h->wide);
    for (int64_t i = 0; i < n; i++) {
        float *to = dq + from + (q0 + i) * h->step;
        if (first)
            memcpy(to, w->dq + i * h->wide, (size_t)d * sizeof *to);
        else
            h->isa->sum_rows(to, w->dq + i * h->wide, 1, 0, d);
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
    const int64_t blocks = up(h.z.m, GRAD_KEYS) / GRAD_KEYS;
    const int64_t first = part * blocks / parts * GRAD_KEYS;
    const int64_t last = least((part + 1) * blocks / parts * GRAD_KEYS, h.z.m);
    const int64_t qt = origin(&h, head, h.z.n), kt = origin(&h, head, h.z.m);
    const float *dots = c->work, *lse = c->in[4].data;
    Block *w = scratch;
    float *dq = piece_dq(c, &h, part);
    lay_out(&h, w);
    for (int64_t k0 = first; k0 < last; k0 += GRAD_KEYS) {
        const int64_t keys = least(GRAD_KEYS, last - k0), from = kt + k0 * h.step;
        const Rows k = rows_of(&c->in[1], from);
        turn_right(&h, k, keys, w->kt);
        turn_right(&h, rows_of(&c->in[2], from), keys, w->vt);
        widen_rows(&h, k, keys, h.wide, w->k);
        memset(w->dk, 0, (size_t)(2 * GRAD_KEYS * h.tall) * sizeof *w->dk); /* and dv */
        for (int64_t q0 = 0; q0 < h.z.n; q0 += GRAD_QUERIES) {
            const int64_t n = least(GRAD_QUERIES, h.z.n - q0);
            if (h.causal && q0 + n <= k0 && k0 > first) continue;
            grad_block(c, &h, w, qt, q0, n, k0, keys, lse + head * h.z.n,
                       dots + head * h.z.n, dq, k0 == first);
        }
        store_turned(&h, w->dk, GRAD_KEYS, keys, w->turned, rows_of(&c->out[1], from));
        store_turned(&h, w->dv, GRAD_KEYS, keys, w->turned, rows_of(&c->out[2], from));
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
