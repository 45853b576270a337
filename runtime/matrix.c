/* Products and conversions by the engine's kernels (see matrix.h). */
#include "runtime/matrix.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

enum { PIECE = 1 << 16 }; /* elements that a worker converts at a time */

/* The row's attributes are set by name: what their struct looks like is the kernels' own
 * business. */
static bool product_attrs(Arena *a, const Op *op, bool ta, bool tb, void **attrs,
                          Err *e) {
    *attrs = attrs_new(a, op);
    return (!ta || attr_parse(a, attr_find(op, "ta"), *attrs, "true", e)) &&
           (!tb || attr_parse(a, attr_find(op, "tb"), *attrs, "true", e));
}

static bool run_kernel(const Op *op, const Sig *s, Call *c, Err *e) {
    const Kernel *k = op->cpu;
    while (k->fits && !k->fits(s)) k++;
    size_t bytes = k->work ? k->work(s) : 0;
    if (bytes) {
        bytes = (bytes + 63) / 64 * 64;
        c->work = aligned_alloc(64, bytes);
        if (!c->work) return err_fail(e, "no memory for %zu bytes", bytes);
    }
    k->run(c);
    free(c->work);
    return true;
}

bool matrix_mul(Device *dev, bool ta, bool tb, int64_t m, int64_t k, int64_t n,
                const float *a, const float *b, float *c, Err *e) {
    const Op *op = op_find("matmul");
    Arena *arena = arena_new();
    void *attrs;
    const Type in[] = {type_of(F32, 2, ta ? (int64_t[]){k, m} : (int64_t[]){m, k}),
                       type_of(F32, 2, tb ? (int64_t[]){n, k} : (int64_t[]){k, n})};
    Type out = type_of(F32, 2, (int64_t[]){m, n});
    Tensor args[] = {{(void *)a, &in[0]}, {(void *)b, &in[1]}}, result = {c, &out};
    bool ok = product_attrs(arena, op, ta, tb, &attrs, e);
    if (ok) {
        Sig s = {
            .op = op, .attrs = attrs, .in = in, .n_in = 2, .out = &out, .n_out = 1};
        Call call = {.in = args,
                     .out = &result,
                     .n_in = 2,
                     .n_out = 1,
                     .attrs = attrs,
                     .dev = dev};
        ok = run_kernel(op, &s, &call, e);
    }
    arena_free(arena);
    return ok;
}

typedef struct Conversion {
    char *dst;
    const char *src;
    DType to, from;
    int64_t n;
} Conversion;

static void convert_piece(void *arg, int64_t i, void *scratch) {
    const Conversion *c = arg;
    int64_t at = i * PIECE, n = c->n - at < PIECE ? c->n - at : PIECE;
    (void)scratch;
    convert(c->dst + (size_t)at * dtype_size(c->to), c->to,
            c->src + (size_t)at * dtype_size(c->from), c->from, n);
}

void matrix_convert(Device *dev, void *dst, DType to, const void *src, DType from,
                    int64_t n) {
    Conversion c = {dst, src, to, from, n};
    dev->par(dev, (n + PIECE - 1) / PIECE, convert_piece, &c);
}

typedef struct Rounding {
    float *x;
    DType to;
    int64_t n;
} Rounding;

static void round_piece(void *arg, int64_t i, void *scratch) {
    const Rounding *r = arg;
    int64_t at = i * PIECE, n = r->n - at < PIECE ? r->n - at : PIECE;
    convert(scratch, r->to, r->x + at, F32, n);
    convert(r->x + at, F32, scratch, r->to, n);
}

void matrix_round(Device *dev, float *x, DType to, int64_t n) {
    Rounding r = {x, to, n};
    if (to != F32 && to != F64) dev->par(dev, (n + PIECE - 1) / PIECE, round_piece, &r);
}

double matrix_energy(const float *x, int64_t n) {
    double lane[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int j = 0; j < 4; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
    return (lane[0] + lane[1]) + (lane[2] + lane[3]);
}
