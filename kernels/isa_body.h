/* The text that isa_portable.c, isa_avx2.c and isa_avx512.c compile, each with its own V
 * (LANES floats), VI (as many integers), set, fma_v, max_v, min_v, widen8, narrow8, MR and NR. */

enum { NV = NR / LANES }; /* vectors in a row of a tile */

static inline V load(const float *p) {
    V v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store(float *p, V v) {
    memcpy(p, &v, sizeof v);
}

/* ---- matrix products ---- */

/* The rows of c are asked for now and wanted at the end. */
static inline void tile_start(V acc[MR][NV], float *const *c) {
    for (int i = 0; i < MR; i++) __builtin_prefetch(c[i], 1);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) acc[i][j] = set(0);
}
static inline void tile_end(V acc[MR][NV], float *const *c, const float *bias) {
    const float *add[MR];
    for (int i = 0; i < MR; i++) add[i] = bias ? bias : c[i];
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            store(c[i] + j * LANES, acc[i][j] + load(add[i] + j * LANES));
}

static void tile(int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float *const *c, const float *bias) {
    V acc[MR][NV];
    tile_start(acc, c);
    for (int64_t p = 0; p < k; p++, a += lda, b += ldb) {
        V bv[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) bv[j] = load(b + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
            V x = set(a[i]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; j++) acc[i][j] = fma_v(x, bv[j], acc[i][j]);
        }
    }
    tile_end(acc, c, bias);
}

static inline void add_rows(V acc[MR][NV], int64_t k, const float *const *a,
                            const float *b, int64_t ldb) {
    const float *r[MR];
    for (int i = 0; i < MR; i++) r[i] = a[i];
    for (int64_t p = 0; p < k; p++, b += ldb) {
        V bv[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) bv[j] = load(b + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
            V x = set(r[i][p]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; j++) acc[i][j] = fma_v(x, bv[j], acc[i][j]);
        }
    }
}
static void tile_rows(int64_t k, const float *const *a, const float *b, int64_t ldb,
                      float *const *c, const float *bias) {
    V acc[MR][NV];
    tile_start(acc, c);
    add_rows(acc, k, a, b, ldb);
    tile_end(acc, c, bias);
}
static void tile_taps(int64_t k, int64_t taps, const float *const *a, const float *b,
                      int64_t ldb, float *const *c, const float *bias) {
    V acc[MR][NV];
    tile_start(acc, c);
    for (int64_t t = 0; t < taps; t++, a += MR, b += ldb)
        add_rows(acc, k, a, b, taps * ldb);
    tile_end(acc, c, bias);
}

#include "kernels/isa_panel.h"
#include "kernels/isa_winograd.h"

/* ---- exponentials ---- */

/* Cephes' expf: e^x = 2^n e^f, |f| <= ln 2 / 2, e^f by a polynomial of degree 7. Adding
 * 1.5 * 2^23 rounds to an integer and leaves it in the low bits. */
static inline V exp_v(V x) {
    const V low = set(-87.0f), high = set(88.0f), magic = set(12582912.0f);
    x = min_v(max_v(x, low), high);
    V r = fma_v(x, set(1.44269504088896341f), magic), n = r - magic;
    V f = fma_v(n, set(-0.693359375f), x);
    f = fma_v(n, set(2.12194440e-4f), f);
    V p = fma_v(set(1.9875691500e-4f), f, set(1.3981999507e-3f));
    p = fma_v(p, f, set(8.3334519073e-3f));
    p = fma_v(p, f, set(4.1665795894e-2f));
    p = fma_v(p, f, set(1.6666665459e-1f));
    p = fma_v(p, f, set(5.0000001201e-1f));
    p = fma_v(p, f * f, f) + set(1.0f);
    return (V)((VI)p + (((VI)r - (VI)magic) << 23));
}
static inline float sum_v(V v) {
    float s = 0;
    for (int i = 0; i < LANES; i++) s += v[i];
    return s;
}
/* The last n < LANES values of a row, with `fill` behind them. */
static inline V load_part(const float *p, int64_t n, float fill) {
    V v = set(fill);
    memcpy(&v, p, (size_t)n * sizeof *p);
    return v;
}

static float exp_row(float *x, int64_t n, float scale, float shift) {
    const V f = set(scale), s = set(-shift);
    V sum = set(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        V e = exp_v(fma_v(load(x + i), f, s));
        sum += e;
        store(x + i, e);
    }
    float total = sum_v(sum);
    if (i < n) {
        V e = exp_v(fma_v(load_part(x + i, n - i, 0), f, s));
        for (int64_t j = i; j < n; j++) total += x[j] = e[j - i];
    }
    return total;
}
static void softmax_grad(float *dp, const float *p, int64_t n, float d, float scale) {
    for (int64_t i = 0; i < n; i++) dp[i] = p[i] * (dp[i] - d) * scale;
}
static void max_columns(float *top, const float *x, int64_t rows, int64_t ld, int64_t n,
                        float scale) {
    for (int64_t i = 0; i < n; i += LANES) {
        V most = load(top + i);
        for (int64_t r = 0; r < rows; r++)
            most = max_v(set(scale) * load(x + r * ld + i), most);
        store(top + i, most);
    }
}
static void exp_columns(float *x, int64_t rows, int64_t ld, int64_t n, float scale,
                        const float *shift, float *sums) {
    const V f = set(scale);
    for (int64_t i = 0; i < n; i += LANES) {
        const V s = set(0) - load(shift + i);
        V total = load(sums + i);
        for (int64_t r = 0; r < rows; r++) {
            V e = exp_v(fma_v(load(x + r * ld + i), f, s));
            total += e;
            store(x + r * ld + i, e);
        }
        store(sums + i, total);
    }
}
static float dot(const float *a, const float *b, int64_t n) {
    V sum = set(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) sum = fma_v(load(a + i), load(b + i), sum);
    float total = sum_v(sum);
    for (; i < n; i++) total += a[i] * b[i];
    return total;
}
/* ---- norms ---- */

static void sum_rows(float *s, const float *x, int64_t rows, int64_t ld, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += ld)
        for (int64_t j = 0; j < n; j++) s[j] += x[j];
}
static void square_rows(float *s, const float *x, const float *mean, int64_t rows,
                        int64_t ld, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += ld)
        for (int64_t j = 0; j < n; j++) s[j] += (x[j] - mean[j]) * (x[j] - mean[j]);
}
static void affine_row(float *y, const float *x, const float *a, const float *b,
                       int64_t n) {
    for (int64_t j = 0; j < n; j++) y[j] = x[j] * a[j] + b[j];
}
static void norm_sums(float *sd, float *sh, const float *dy, const float *x,
                      const float *rstd, const float *shift, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        sd[j] += dy[j];
        sh[j] += dy[j] * (x[j] * rstd[j] + shift[j]);
    }
}
static void norm_grad_row(float *dx, const float *dy, const float *x, const float *a,
                          const float *b, const float *c, int64_t n) {
    for (int64_t j = 0; j < n; j++) dx[j] = dy[j] * a[j] + x[j] * b[j] + c[j];
}

static float sum(const float *x, int64_t n) {
    V total = set(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) total += load(x + i);
    if (i < n) total += load_part(x + i, n - i, 0);
    return sum_v(total);
}
static float square(const float *x, float mean, int64_t n) {
    V total = set(0), m = set(mean);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        V d = load(x + i) - m;
        total = fma_v(d, d, total);
    }
    if (i < n) {
        V d = load_part(x + i, n - i, mean) - m;
        total = fma_v(d, d, total);
    }
    return sum_v(total);
}
static void layer_row(float *y, const float *x, float rstd, float shift, const float *w,
                      const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] * rstd + shift) * w[i] + b[i];
}
static void layer_sums(const float *dy, const float *x, float rstd, float shift,
                       const float *w, int64_t n, float *total, float *total_h) {
    V a = set(0), h = set(0), r = set(rstd), s = set(shift);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        V d = load(dy + i) * load(w + i);
        a += d, h = fma_v(d, fma_v(load(x + i), r, s), h);
    }
    if (i < n) {
        V d = load_part(dy + i, n - i, 0) * load_part(w + i, n - i, 0);
        a += d, h = fma_v(d, fma_v(load_part(x + i, n - i, 0), r, s), h);
    }
    *total = sum_v(a), *total_h = sum_v(h);
}
static void layer_grad_row(float *dx, const float *dy, const float *x, const float *w,
                           float rstd, float b, float c, int64_t n) {
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * w[i] * rstd + x[i] * b + c;
}

const Isa ISA = {
    .name = ISA_NAME,
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .tile_rows = tile_rows,
    .tile_taps = tile_taps,
    .pack = pack,
    .turn = turn,
    .take = take,
    .widen = widen,
    .narrow = narrow,
    .exp_row = exp_row,
    .softmax_grad = softmax_grad,
    .winograd_input = winograd_input,
    .winograd_weight = winograd_weight,
    .winograd_output = winograd_output,
    .max_columns = max_columns,
    .exp_columns = exp_columns,
    .dot = dot,
    .sum_rows = sum_rows,
    .square_rows = square_rows,
    .affine_row = affine_row,
    .norm_sums = norm_sums,
    .norm_grad_row = norm_grad_row,
    .sum = sum,
    .square = square,
    .layer_row = layer_row,
    .layer_sums = layer_sums,
    .layer_grad_row = layer_grad_row,
};
