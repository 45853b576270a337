/* Products in tiles of SIDE x SIDE, sums in f32 in the order of k: for shapes and types that
 * no library takes. */
#include "kernels/gpu.h"

enum { SIDE = 16 };

extern "C" __global__ void gr_product(GpuProduct c) {
    __shared__ float a[SIDE][SIDE + 1], b[SIDE][SIDE + 1];
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    const int64_t row = (int64_t)blockIdx.y * SIDE + y,
                  col = (int64_t)blockIdx.x * SIDE + x;
    const int64_t a_at = (int64_t)blockIdx.z * c.a_batch,
                  b_at = (int64_t)blockIdx.z * c.b_batch;
    float sum = 0;
    for (int64_t k = 0; k < c.k; k += SIDE) {
        a[y][x] = row < c.m && k + x < c.k
                      ? load(c.a, a_at + row * c.a_row + (k + x) * c.a_col)
                      : 0;
        b[y][x] = col < c.n && k + y < c.k
                      ? load(c.b, b_at + (k + y) * c.b_row + col * c.b_col)
                      : 0;
        __syncthreads();
        for (int i = 0; i < SIDE; i++) sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    if (row >= c.m || col >= c.n) return;
    const int64_t at = (int64_t)blockIdx.z * c.y_batch + row * c.n + col;
    if (c.bias.data) sum += load(c.bias, col);
    if (c.add.data) sum += load(c.add, at);
    store(c.y, at, sum);
}
GR_KERNEL(gr_product, GpuProduct)
