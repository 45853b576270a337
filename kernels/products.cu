/* Several sums of products in one launch: a block owns a tile of one sum, and keeps it in
 * registers over all terms, so a result is written once whatever it is the sum of. Sums in
 * f32, in the order of the terms and of k. */
#include "kernels/gpu.h"

enum {
    SIDE = GPU_TILE,
    DEPTH = 16,
    STEP = 16,
    EACH = SIDE / STEP,
    PIECES = SIDE * DEPTH
};

/* The part of a matrix from (row, k) on, as [k][row], zeros outside. Threads walk along
 * what lies behind each other. */
static __device__ inline void fetch(float (*to)[SIDE + 1], GpuTensor x, int64_t row,
                                    int64_t rows, int64_t k, int64_t depth,
                                    int64_t row_step, int64_t k_step, float factor) {
    for (int e = (int)threadIdx.x; e < PIECES; e += GPU_BLOCK) {
        const int i = row_step == 1 ? e % SIDE : e / DEPTH,
                  p = row_step == 1 ? e / SIDE : e % DEPTH;
        const bool in = row + i < rows && k + p < depth;
        to[p][i] =
            in ? load(x, (row + i) * row_step + (k + p) * k_step) * factor : 0.0f;
    }
}

typedef float Tile[DEPTH][SIDE + 1];

/* sum += the DEPTH columns of a, rows of b; columns from `width` on are not wanted. */
static __device__ inline void add_product(float (*sum)[EACH], const Tile &a,
                                          const Tile &b, int tx, int ty,
                                          int64_t width) {
    for (int d = 0; d < DEPTH; d++) UNROLL
    for (int j = 0; j < EACH; j++) {
        if (j * STEP >= width) break;
        UNROLL
        for (int i = 0; i < EACH; i++)
            sum[i][j] += a[d][ty + i * STEP] * b[d][tx + j * STEP];
    }
}

/* sum += rows from `row` on of x, m rows, times columns from `col` on of y, n columns. */
static __device__ inline void add_two(float (*sum)[EACH], Tile &a, Tile &b,
                                      const GpuTerm &p, int64_t row, int64_t m,
                                      int64_t col, int64_t n) {
    const int tx = (int)threadIdx.x % STEP, ty = (int)threadIdx.x / STEP;
    for (int64_t k = 0; k < p.k; k += DEPTH) {
        fetch(a, p.a, row, m, k, p.k, p.a_row, p.a_col, p.factor);
        fetch(b, p.b, col, n, k, p.k, p.b_col, p.b_row, 1.0f);
        __syncthreads();
        add_product(sum, a, b, tx, ty, n - col);
        __syncthreads();
    }
}

/* The same with a third factor: the product of the first two, as wide as a tile at most,
 * stands in `mid`. */
static __device__ inline void add_three(float (*sum)[EACH], Tile &a, Tile &b,
                                        float (*mid)[SIDE + 1], const GpuTerm &p,
                                        int64_t row, int64_t m, int64_t col,
                                        int64_t n) {
    const int tx = (int)threadIdx.x % STEP, ty = (int)threadIdx.x / STEP;
    float two[EACH][EACH] = {};
    add_two(two, a, b, p, row, m, 0, p.width);
    UNROLL
    for (int i = 0; i < EACH; i++) UNROLL
    for (int j = 0; j < EACH; j++) mid[tx + j * STEP][ty + i * STEP] = two[i][j];
    __syncthreads();
    for (int64_t k = 0; k < p.width; k += DEPTH) {
        fetch(b, p.c, col, n, k, p.width, p.c_col, p.c_row, 1.0f);
        __syncthreads();
        for (int d = 0; d < DEPTH && k + d < p.width; d++) UNROLL
        for (int i = 0; i < EACH; i++) UNROLL
        for (int j = 0; j < EACH; j++)
            sum[i][j] += mid[k + d][ty + i * STEP] * b[d][tx + j * STEP];
        __syncthreads();
    }
}

extern "C" __global__ void gr_products(GpuProducts c) {
    __shared__ Tile a, b;
    __shared__ float mid[SIDE][SIDE + 1];
    const int tx = (int)threadIdx.x % STEP, ty = (int)threadIdx.x / STEP;
    int own = 0;
    while (own + 1 < c.n_sum && (int64_t)blockIdx.x >= c.sum[own + 1].tile) own++;
    const GpuSum s = c.sum[own];
    const int64_t across = (s.n + SIDE - 1) / SIDE, tile = (int64_t)blockIdx.x - s.tile,
                  row = tile / across * SIDE, col = tile % across * SIDE;
    float sum[EACH][EACH] = {};
    for (int t = s.first; t < s.first + s.terms; t++)
        if (c.term[t].c.data)
            add_three(sum, a, b, mid, c.term[t], row, s.m, col, s.n);
        else
            add_two(sum, a, b, c.term[t], row, s.m, col, s.n);
    UNROLL
    for (int i = 0; i < EACH; i++) UNROLL
    for (int j = 0; j < EACH; j++) {
        const int64_t y = row + ty + i * STEP, x = col + tx + j * STEP;
        if (y >= s.m || x >= s.n) continue;
        float v = sum[i][j];
        if (s.bias.data) v += load(s.bias, x);
        if (s.add.data) v += load(s.add, y * s.n + x);
        store(s.y, y * s.n + x, v);
    }
}
GR_KERNEL(gr_products, GpuProducts)
