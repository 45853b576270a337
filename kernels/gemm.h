/* Matrix products C[M,N] = A[M,K] B[K,N] (+ bias[N]) in f32, for every operator that is
 * one: dense layers, convolutions (A or B is a window over an image, never stored),
 * attention's blocks, products of values.
 *
 * Both operands are read in panels: A as [K][mr] rows of a tile, made block by block in
 * scratch; B as [K][nr], either packed ahead in the weight's own type and widened panel by
 * panel, or made block by block. Work is cut over M and N only, by sizes alone, and every
 * sum runs over K in order: results do not depend on the number of threads.
 * After Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008). */
#ifndef GRAPHRUN_GEMM_H
#define GRAPHRUN_GEMM_H
#include "graph/device.h"
#include "kernels/isa.h"

/* Windows over an image x[b,h,w,c]: row (s, i, j) of the grid reads, for tap t, the pixel
 * (i * step + dy(t), j * step + dx(t)) of sample s, or zeros outside. Taps form a lattice:
 * dy(t) = y0 + t / taps_x * dy, dx(t) = x0 + t % taps_x * dx. */
typedef struct Window {
    const float *x;
    int64_t h, w, c;    /* the image read */
    int64_t rows, cols; /* the grid */
    int64_t step;
    int64_t y0, x0, dy, dx, taps_x;
} Window;

typedef struct Gemm Gemm;
struct Gemm {
    const Isa *isa;
    int64_t m, n, k;
    /* A: element (i, p) is a[i * row + p * col], one of them 1; or a window, k = taps * c */
    const float *a;
    int64_t a_row, a_col;
    const Window *a_window;
    /* B: panels made by gemm_pack ([panel][b_depth][nr] from depth b_first), or plain rows
     * b[p * b_ld + j], or a window, n = taps * c and k = grid rows */
    const void *packed;
    DType b_type;
    int64_t b_depth, b_first;
    const float *b;
    int64_t b_ld;
    const Window *b_window;
    const void *bias; /* or NULL */
    DType bias_type;
    float *c;
    int64_t ldc;
    /* Row of C where row i of the product goes; NULL: i. */
    int64_t (*place)(const void *ctx, int64_t i);
    const void *place_ctx;
};
void gemm_run(Device *dev, const Gemm *g);

/* Packed form of a weight matrix W[N][K] as B = W^T (element (p, j) = w[j * row + p * col])
 * in W's own type: bytes, and the packing; `index` (or NULL) names the column of W that is
 * depth p. */
size_t gemm_packed_bytes(const Isa *isa, int64_t n, int64_t k, DType t);
typedef struct PackSource {
    const void *w;
    DType type;
    int64_t n, k, row, col;
    int64_t (*depth)(const void *ctx,
                     int64_t p); /* element offset of depth p; NULL: p * col */
    const void *ctx;
} PackSource;
void gemm_pack(Device *dev, const Isa *isa, const PackSource *src, void *dst);
#endif
