/* Matrix products C[M,N] = A[M,K] B[K,N] (+ bias[N]) (+ add[M,N]) for every operator that is one: dense
 * layers, convolutions (A or B is a window over an image, never stored), products of values.
 * Operands and results are f32, f16 or bf16 in any mix; arithmetic is in f32, and a half
 * result is rounded once, at its end.
 *
 * Operands are read where they lie and made into panels block by block, in scratch: A as
 * [K][mr] rows of a tile, B as [K][nr] columns. Nothing is kept of a weight but its bytes
 * in the file. Work is cut over M and N only, by sizes alone, and every sum runs over K in
 * order: results do not depend on the number of threads.
 * After Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008). */
#ifndef GRAPHRUN_GEMM_H
#define GRAPHRUN_GEMM_H
#include "graph/device.h"
#include "kernels/isa.h"

enum { MOST_TAPS = 144 }; /* of a window: the depth of a block holds them all */

/* Windows over an image x[b,h,w,c]: row (s, i, j) of the grid reads, for tap t, the pixel
 * (i * step + dy(t), j * step + dx(t)) of sample s, or zeros outside. Taps form a lattice:
 * dy(t) = y0 + t / taps_x * dy, dx(t) = x0 + t % taps_x * dx. */
typedef struct Window {
    const void *x;
    DType type;
    int64_t h, w, c;    /* the image read */
    int64_t rows, cols; /* the grid */
    int64_t step;
    int64_t y0, x0, dy, dx, taps, taps_x;
} Window;

typedef struct Gemm Gemm;
struct Gemm {
    const Isa *isa;
    int64_t m, n, k;
    /* A: element (i, p) is a[i * a_row + p * a_col], one of them 1; or a window, where
     * depth p is tap p % taps of channel p / taps. */
    const void *a;
    DType a_type;
    int64_t a_row, a_col;
    const Window *a_window;
    /* B: element (p, j) is b[p * b_row + j * b_col], one of them 1. With taps:
     * b[p / taps * b_row + j * b_col + tap[p % taps]], tap[..] < b_col. Or a window, whose
     * grid rows are depths, and column j is channel j % c of tap j / c. */
    const void *b;
    DType b_type;
    int64_t b_row, b_col;
    const int64_t *tap;
    int64_t taps;
    const Window *b_window;
    const void *bias; /* or NULL */
    DType bias_type;
    const void *add; /* lies as C does; may be C itself; or NULL */
    DType add_type;
    void *c;
    DType c_type;
    int64_t ldc;
    /* Row of C where row i of the product goes; NULL: i. */
    int64_t (*place)(const void *ctx, int64_t i);
    const void *place_ctx;
};
void gemm_run(Device *dev, const Gemm *g);
#endif
