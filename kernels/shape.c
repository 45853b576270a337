/* Kernels that move elements without computing: copies by runs, whatever the type. Views
 * have no kernels. */
#include "kernels/kernels.h"
#include "kernels/layout.h"
#include "kernels/program.h"

#include <string.h>

const Kernel cpu_view[] = {{0}};
const Kernel cpu_detach[] = {{0}};

/* ---- cast ---- */

static void cast_block(void *arg, int64_t i, void *scratch) {
    (void)scratch;
    const Call *c = arg;
    const Tensor *x = &c->in[0], *y = &c->out[0];
    DType from = x->type->dtype, to = y->type->dtype;
    int64_t start = i * BLOCK, n = type_count(x->type) - start;
    if (n > BLOCK) n = BLOCK;
    convert((char *)y->data + (size_t)start * dtype_size(to), to,
            (const char *)x->data + (size_t)start * dtype_size(from), from, n);
}

static void cast_run(const Call *c) {
    c->dev->par(c->dev, blocks_of(type_count(c->in[0].type)), cast_block,
                (void *)(uintptr_t)c);
}

#if defined(__x86_64__)
static void cast_block_avx2(void *arg, int64_t i, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *y = &c->out[0];
    int64_t start = i * BLOCK, n = type_count(x->type) - start;
    if (n > BLOCK) n = BLOCK;
    (void)scratch;
    const char *src =
        (const char *)x->data + (size_t)start * dtype_size(x->type->dtype);
    char *dst = (char *)y->data + (size_t)start * dtype_size(y->type->dtype);
    if (y->type->dtype == F32)
        tile_f32_avx2.load(dst, src, x->type->dtype, n);
    else
        tile_f32_avx2.store(dst, y->type->dtype, src, n);
}

static void cast_run_avx2(const Call *c) {
    c->dev->par(c->dev, blocks_of(type_count(c->in[0].type)), cast_block_avx2,
                (void *)(uintptr_t)c);
}

static bool cast_fits_avx2(const Sig *s) {
    return have_avx2() && (s->in[0].dtype == F32 || s->out[0].dtype == F32);
}
#endif

const Kernel cpu_cast[] = {
#if defined(__x86_64__)
    {.name = "avx2", .fits = cast_fits_avx2, .run = cast_run_avx2},
#endif
    {.name = "ref", .run = cast_run},
    {0}};

/* ---- along one axis: [outer, d, inner] ---- */

typedef struct Split {
    int64_t outer, d;
    size_t inner_bytes;
} Split;

static Split split_at(const Type *t, int64_t axis) {
    if (axis < 0) axis += t->rank;
    Split s = {1, t->dim[axis], dtype_size(t->dtype)};
    for (int i = 0; i < axis; i++) s.outer *= t->dim[i];
    for (int i = (int)axis + 1; i < t->rank; i++) s.inner_bytes *= (size_t)t->dim[i];
    return s;
}

/* Outer rows that make about a block of bytes: the unit of parallel work. */
static int64_t rows_per_block(size_t row_bytes) {
    int64_t rows = (int64_t)((size_t)BLOCK * 4 / (row_bytes ? row_bytes : 1));
    return rows > 0 ? rows : 1;
}

typedef struct Rows {
    const Call *c;
    int64_t outer, per;
    void (*rows)(const Call *c, int64_t from, int64_t to);
} Rows;

static void rows_block(void *arg, int64_t i, void *scratch) {
    (void)scratch;
    const Rows *r = arg;
    int64_t to = (i + 1) * r->per;
    r->rows(r->c, i * r->per, to < r->outer ? to : r->outer);
}

static void run_rows(const Call *c, int64_t outer, size_t row_bytes,
                     void (*rows)(const Call *, int64_t, int64_t)) {
    Rows r = {c, outer, rows_per_block(row_bytes), rows};
    c->dev->par(c->dev, (outer + r.per - 1) / r.per, rows_block, &r);
}

/* x_i[outer, d_i, inner] -> y[outer, sum d_i, inner], in the type of y */
static void concat_rows(const Call *c, int64_t from, int64_t to) {
    int64_t axis = ((const AxisAttrs *)c->attrs)->axis;
    DType type = c->out[0].type->dtype;
    Split y = split_at(c->out[0].type, axis);
    size_t row = (size_t)y.d * y.inner_bytes, at = 0;
    for (int i = 0; i < c->n_in; i++) {
        Split x = split_at(c->in[i].type, axis);
        size_t bytes = (size_t)x.d * x.inner_bytes, wide = (size_t)x.d * y.inner_bytes;
        int64_t n = (int64_t)(wide / dtype_size(type));
        for (int64_t r = from; r < to; r++)
            convert((char *)c->out[0].data + (size_t)r * row + at, type,
                    (const char *)c->in[i].data + (size_t)r * bytes,
                    c->in[i].type->dtype, n);
        at += wide;
    }
}

static void concat_run(const Call *c) {
    Split y = split_at(c->out[0].type, ((const AxisAttrs *)c->attrs)->axis);
    run_rows(c, y.outer, (size_t)y.d * y.inner_bytes, concat_rows);
}

const Kernel cpu_concat[] = {{.name = "ref", .run = concat_run}, {0}};

/* x[outer, d, inner] -> y[outer, count, inner] */
static void slice_rows(const Call *c, int64_t from, int64_t to) {
    const SliceAttrs *at = c->attrs;
    Split x = split_at(c->in[0].type, at->axis);
    size_t bytes = (size_t)at->count * x.inner_bytes, row = (size_t)x.d * x.inner_bytes;
    const char *src = (const char *)c->in[0].data + (size_t)at->from * x.inner_bytes;
    for (int64_t r = from; r < to; r++)
        memcpy((char *)c->out[0].data + (size_t)r * bytes, src + (size_t)r * row,
               bytes);
}

static void slice_run(const Call *c) {
    Split y = split_at(c->out[0].type, ((const SliceAttrs *)c->attrs)->axis);
    run_rows(c, y.outer, (size_t)y.d * y.inner_bytes, slice_rows);
}

const Kernel cpu_slice[] = {{.name = "ref", .run = slice_run}, {0}};

/* x[outer, d, inner] -> y[outer, before + d + after, inner] */
static void pad_rows(const Call *c, int64_t from, int64_t to) {
    const PadAttrs *at = c->attrs;
    Split x = split_at(c->in[0].type, at->axis), y = split_at(c->out[0].type, at->axis);
    size_t bytes = (size_t)x.d * x.inner_bytes, row = (size_t)y.d * y.inner_bytes;
    size_t before = (size_t)at->before * x.inner_bytes;
    for (int64_t r = from; r < to; r++) {
        char *dst = (char *)c->out[0].data + (size_t)r * row;
        memset(dst, 0, before);
        memcpy(dst + before, (const char *)c->in[0].data + (size_t)r * bytes, bytes);
        memset(dst + before + bytes, 0, row - before - bytes);
    }
}

static void pad_run(const Call *c) {
    Split y = split_at(c->out[0].type, ((const PadAttrs *)c->attrs)->axis);
    run_rows(c, y.outer, (size_t)y.d * y.inner_bytes, pad_rows);
}

const Kernel cpu_pad[] = {{.name = "ref", .run = pad_run}, {0}};

/* ---- join_chunks ---- */

/* Bytes of sample r: x[N, T, C] and y[N*(T-2)+2, C] share all rows but each chunk's first
 * and last. Calls copy(x row, y row, rows) for the shared runs. */
static void join_rows(const Call *c, int64_t from, int64_t to) {
    int64_t n = ((const ChunkAttrs *)c->attrs)->chunks;
    const Type *x = c->in[0].type, *y = c->out[0].type;
    size_t width = (size_t)x->dim[2] * dtype_size(x->dtype);
    int64_t t = x->dim[1];
    for (int64_t r = from; r < to; r++) {
        const char *src = (const char *)c->in[0].data + (size_t)(r * n * t) * width;
        char *dst = (char *)c->out[0].data + (size_t)(r * y->dim[1]) * width;
        memcpy(dst, src, width);
        for (int64_t k = 0; k < n; k++)
            memcpy(dst + (size_t)(1 + k * (t - 2)) * width,
                   src + (size_t)(k * t + 1) * width, (size_t)(t - 2) * width);
        memcpy(dst + (size_t)(y->dim[1] - 1) * width, src + (size_t)(n * t - 1) * width,
               width);
    }
}

static void join_run(const Call *c) {
    const Type *y = c->out[0].type;
    run_rows(c, y->dim[0], type_bytes(y) / (size_t)y->dim[0], join_rows);
}

const Kernel cpu_join_chunks[] = {{.name = "ref", .run = join_run}, {0}};

static void unjoin_rows(const Call *c, int64_t from, int64_t to) {
    int64_t n = ((const ChunkAttrs *)c->attrs)->chunks;
    const Type *dy = c->in[0].type, *dx = c->out[0].type;
    size_t width = (size_t)dx->dim[2] * dtype_size(dx->dtype);
    int64_t t = dx->dim[1];
    for (int64_t r = from; r < to; r++) {
        const char *src =
            (const char *)c->in[0].data + (size_t)(r * dy->dim[1]) * width;
        char *dst = (char *)c->out[0].data + (size_t)(r * n * t) * width;
        memset(dst, 0, (size_t)(n * t) * width);
        memcpy(dst, src, width);
        for (int64_t k = 0; k < n; k++)
            memcpy(dst + (size_t)(k * t + 1) * width,
                   src + (size_t)(1 + k * (t - 2)) * width, (size_t)(t - 2) * width);
        memcpy(dst + (size_t)(n * t - 1) * width,
               src + (size_t)(dy->dim[1] - 1) * width, width);
    }
}

static void unjoin_run(const Call *c) {
    const Type *dy = c->in[0].type;
    run_rows(c, dy->dim[0], type_bytes(dy) / (size_t)dy->dim[0], unjoin_rows);
}

const Kernel cpu_join_chunks_grad[] = {{.name = "ref", .run = unjoin_run}, {0}};

/* ---- walks: broadcast and permute ---- */

static bool broadcast_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    *prep = layout_new(a, &s->out[0], s->in, 1);
    return true;
}

/* The layout of x read in the order of y: dimensions of y with x's strides. */
static bool permute_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    const IntList *order = &((const OrderAttrs *)s->attrs)->order;
    const Type *x = &s->in[0], *y = &s->out[0];
    Layout *l = NEW(a, Layout, 1);
    l->stride = arena_alloc(a, 1, sizeof *l->stride);
    l->dense = NEW(a, bool, 1);
    int64_t stride[MAX_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->dim[i];
    }
    l->rank = y->rank ? y->rank : 1;
    l->dim[0] = 1;
    for (int i = 0; i < y->rank; i++) {
        l->dim[i] = y->dim[i];
        l->stride[0][i] = stride[order->v[i]];
    }
    *prep = l;
    return true;
}

typedef struct Copy {
    char *dst;
    const char *src;
    size_t width;
} Copy;

#define COPY_RUN(T)                                                                    \
    for (int64_t i = 0; i < n; i++)                                                    \
        ((T *)(void *)dst)[i] = ((const T *)src)[i * stride];                          \
    break

static void copy_piece(void *ctx, int64_t to, int64_t from, int64_t stride, int64_t n) {
    const Copy *k = ctx;
    char *dst = k->dst + (size_t)to * k->width;
    const void *src = k->src + (size_t)from * k->width;
    if (stride == 1) {
        memcpy(dst, src, (size_t)n * k->width);
        return;
    }
    switch (k->width) {
    case 8:
        COPY_RUN(uint64_t);
    case 4:
        COPY_RUN(uint32_t);
    case 2:
        COPY_RUN(uint16_t);
    default:
        COPY_RUN(uint8_t);
    }
}

static void walk_block(void *arg, int64_t i, void *scratch) {
    (void)scratch;
    const Call *c = arg;
    int64_t start = i * BLOCK, n = type_count(c->out[0].type) - start;
    if (n > BLOCK) n = BLOCK;
    size_t width = dtype_size(c->out[0].type->dtype);
    Copy k = {(char *)c->out[0].data + (size_t)start * width, c->in[0].data, width};
    layout_walk(c->prep, 0, start, n, copy_piece, &k);
}

static void walk_run(const Call *c) {
    c->dev->par(c->dev, blocks_of(type_count(c->out[0].type)), walk_block,
                (void *)(uintptr_t)c);
}

const Kernel cpu_broadcast[] = {
    {.name = "ref", .prepare = broadcast_prepare, .run = walk_run}, {0}};
const Kernel cpu_permute[] = {
    {.name = "ref", .prepare = permute_prepare, .run = walk_run}, {0}};
