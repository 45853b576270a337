/* The inner loops that are worth an instruction set of their own: the tile of a matrix
 * product, panels for it out of f32 and halves, exponentials, norms. One text (isa_body.h,
 * isa_panel.h, isa_winograd.h) is compiled for each set; isa() picks the best that this CPU has.
 *
 * $GRAPHRUN_ISA=portable|avx2|avx512 asks for a lesser one. */
#ifndef GRAPHRUN_ISA_H
#define GRAPHRUN_ISA_H
#include "graph/type.h"

enum { MOST_MR = 16, MOST_NR = 32 };

typedef struct Isa {
    const char *name;
    int mr, nr; /* rows and columns of a tile */
    /* c[i][j] = bias[j] + sum_k a[k lda + i] b[k ldb + j]; bias NULL: c[i][j] += the sum. All
     * mr rows of c are written, nr wide. Sums in f32, in the order of k. */
    void (*tile)(int64_t k, const float *a, int64_t lda, const float *b, int64_t ldb,
                 float *const *c, const float *bias);
    /* The same with rows of a where they lie: a[i][k]. */
    void (*tile_rows)(int64_t k, const float *const *a, const float *b, int64_t ldb,
                      float *const *c, const float *bias);
    /* The same of windows over rows that lie apart for each tap:
     * a[t mr + i][k] b[(k taps + t) ldb + j] summed over t, then k within t. */
    void (*tile_taps)(int64_t k, int64_t taps, const float *const *a, const float *b,
                      int64_t ldb, float *const *c, const float *bias);
    /* dst[k step mr + i] = row[i][k], mr rows of n values; row[i] NULL: zeros. */
    void (*pack)(float *dst, const float *const *row, int64_t n, int64_t step);
    /* dst[k nr + j] = src[j ld + k] for j < rows <= nr, else 0; k < n; from f32, f16, bf16. */
    void (*turn)(float *dst, const void *src, DType from, int64_t rows, int64_t ld,
                 int64_t n);
    /* dst[k nr + j] = src[k ld + j] for j < columns <= nr, else 0; k < n. */
    void (*take)(float *dst, const void *src, DType from, int64_t columns, int64_t ld,
                 int64_t n);
    /* f32, f16 or bf16 to f32, and f32 to these, to nearest even. */
    void (*widen)(float *dst, const void *src, DType from, int64_t n);
    void (*narrow)(void *dst, const float *src, DType to, int64_t n);
    /* The transforms of kernels/winograd.c, point t (of 16) of a result `step` floats behind
     * that of t - 1: 16 pixels of n channels; 3 x 3 weights [n][9][nr], or these from the
     * last; 16 sums of n columns to 4 pixels, with a bias. n a multiple of 16. */
    void (*winograd_input)(float *v, int64_t step, const float *const *d, int64_t n);
    void (*winograd_weight)(float *u, int64_t step, const float *g, int64_t n,
                            bool turned);
    void (*winograd_output)(float *const *y, const float *m, int64_t step,
                            const float *bias, int64_t n);
    /* x = exp(scale x - shift), to 2e-7 relative; returns the sum. */
    float (*exp_row)(float *x, int64_t n, float scale, float shift);
    /* ds = p (dp - d) scale in place of dp. */
    void (*softmax_grad)(float *dp, const float *p, int64_t n, float d, float scale);
    /* Over `rows` rows, n columns a multiple of nr: top[i] = the most of top[i] and
     * scale x[r ld + i]; x = exp(scale x - shift[i]), sum[i] += x. */
    void (*max_columns)(float *top, const float *x, int64_t rows, int64_t ld, int64_t n,
                        float scale);
    void (*exp_columns)(float *x, int64_t rows, int64_t ld, int64_t n, float scale,
                        const float *shift, float *sum);
    float (*dot)(const float *a, const float *b, int64_t n);
    /* Sums over `rows` rows of n values: s[j] += x[r ld + j]. */
    void (*sum_rows)(float *s, const float *x, int64_t rows, int64_t ld, int64_t n);
    /* s[j] += (x[r ld + j] - mean[j])^2 */
    void (*square_rows)(float *s, const float *x, const float *mean, int64_t rows,
                        int64_t ld, int64_t n);
    /* y = x a + b, element by element of a row */
    void (*affine_row)(float *y, const float *x, const float *a, const float *b,
                       int64_t n);
    /* One row's share of a norm's gradient: sd[j] += dy[j], sh[j] += dy[j] h[j],
     * h = x rstd + shift. */
    void (*norm_sums)(float *sd, float *sh, const float *dy, const float *x,
                      const float *rstd, const float *shift, int64_t n);
    /* dx = dy a + x b + c */
    void (*norm_grad_row)(float *dx, const float *dy, const float *x, const float *a,
                          const float *b, const float *c, int64_t n);
    /* Of one row that is normalised by itself, h = x rstd + shift: the sum of x, of
     * (x - mean)^2; y = h w + b; the sums of dy w and dy w h; dx = dy w rstd + x b + c. */
    float (*sum)(const float *x, int64_t n);
    float (*square)(const float *x, float mean, int64_t n);
    void (*layer_row)(float *y, const float *x, float rstd, float shift, const float *w,
                      const float *b, int64_t n);
    void (*layer_sums)(const float *dy, const float *x, float rstd, float shift,
                       const float *w, int64_t n, float *sum, float *dot);
    void (*layer_grad_row)(float *dx, const float *dy, const float *x, const float *w,
                           float rstd, float b, float c, int64_t n);
} Isa;

extern const Isa isa_portable;
#if defined(__x86_64__)
extern const Isa isa_avx2, isa_avx512;
#endif
const Isa *isa(void);
bool cpu_has_avx2(void); /* AVX2, FMA and F16C */
#endif
