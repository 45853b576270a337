/* Convolution and its gradients as products in tiles of SIDE x SIDE, sums in f32: for
 * shapes and types that no library takes. */
#include "kernels/gpu.h"

enum { SIDE = 16 };
typedef float Tile[SIDE][SIDE + 1];

/* One element of left x right, of depth k: left(at) is element `at` of this thread's row of
 * the left operand, right(at) of its column of the right one. */
template <class Left, class Right>
static __device__ inline float product(Tile &a, Tile &b, int64_t k, Left left,
                                       Right right) {
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    float sum = 0;
    for (int64_t from = 0; from < k; from += SIDE) {
        a[y][x] = from + x < k ? left(from + x) : 0;
        b[y][x] = from + y < k ? right(from + y) : 0;
        __syncthreads();
        for (int i = 0; i < SIDE; i++) sum += a[y][i] * b[i][x];
        __syncthreads();
    }
    return sum;
}

/* Row and column of this thread's element. */
static __device__ inline int64_t tile_row(void) {
    return (int64_t)blockIdx.x * SIDE + threadIdx.y;
}
static __device__ inline int64_t tile_col(void) {
    return (int64_t)blockIdx.y * SIDE + threadIdx.x;
}

/* Element n of x under tap (u, v) of the window at `row` of y; 0 outside. */
static __device__ inline float under(const GpuConv &c, int64_t row, int64_t u,
                                     int64_t v, int64_t n) {
    const int64_t b = row / (c.oh * c.ow);
    const int64_t p = row / c.ow % c.oh * c.stride + u - c.top;
    const int64_t q = row % c.ow * c.stride + v - c.left;
    if (p < 0 || q < 0 || p >= c.h || q >= c.wd) return 0;
    return load(c.x, ((b * c.h + p) * c.wd + q) * c.in + n);
}
static __device__ inline float weight(const GpuConv &c, int64_t o, int64_t n,
                                      int64_t tap) {
    return load(c.w, (o * c.in + n) * c.k * c.k + tap);
}

/* y: rows are pixels, columns filters, depth taps times channels. */
extern "C" __global__ void gr_conv(GpuConv c) {
    __shared__ Tile a, b;
    const int64_t row = tile_row(), col = tile_col();
    float sum = product(
        a, b, c.k * c.k * c.in,
        [&](int64_t k) {
            const int64_t tap = k / c.in;
            return row < c.b * c.oh * c.ow
                       ? under(c, row, tap / c.k, tap % c.k, k % c.in)
                       : 0;
        },
        [&](int64_t k) {
            return col < c.out ? weight(c, col, k % c.in, k / c.in) : 0;
        });
    if (row >= c.b * c.oh * c.ow || col >= c.out) return;
    if (c.bias.data) sum += load(c.bias, col);
    if (c.add.data) sum += load(c.add, row * c.out + col);
    store(c.y, row * c.out + col, sum);
}
GR_KERNEL(gr_conv, GpuConv)

/* Element o of dy whose window has tap (u, v) on pixel `row` of x; 0: there is none. */
static __device__ inline float above(const GpuConv &c, int64_t row, int64_t u,
                                     int64_t v, int64_t o) {
    const int64_t b = row / (c.h * c.wd);
    const int64_t i = row / c.wd % c.h + c.top - u, j = row % c.wd + c.left - v;
    if (i < 0 || j < 0 || i % c.stride || j % c.stride) return 0;
    if (i / c.stride >= c.oh || j / c.stride >= c.ow) return 0;
    return load(c.y, ((b * c.oh + i / c.stride) * c.ow + j / c.stride) * c.out + o);
}

/* x: dx, rows are its pixels, columns channels, depth taps times filters; y: dy */
extern "C" __global__ void gr_conv_grad_x(GpuConv c) {
    __shared__ Tile a, b;
    const int64_t row = tile_row(), col = tile_col();
    float sum = product(
        a, b, c.k * c.k * c.out,
        [&](int64_t k) {
            const int64_t tap = k / c.out;
            return row < c.b * c.h * c.wd
                       ? above(c, row, tap / c.k, tap % c.k, k % c.out)
                       : 0;
        },
        [&](int64_t k) {
            return col < c.in ? weight(c, k % c.out, col, k / c.out) : 0;
        });
    if (row >= c.b * c.h * c.wd || col >= c.in) return;
    if (c.add.data) sum += load(c.add, row * c.in + col);
    store(c.x, row * c.in + col, sum);
}
GR_KERNEL(gr_conv_grad_x, GpuConv)

/* w: dw, rows are filters, columns channels times taps, depth pixels; y: dy */
extern "C" __global__ void gr_conv_grad_w(GpuConv c) {
    __shared__ Tile a, b;
    const int64_t row = tile_row(), col = tile_col(), taps = c.k * c.k;
    const float sum = product(
        a, b, c.b * c.oh * c.ow,
        [&](int64_t k) { return row < c.out ? load(c.y, k * c.out + row) : 0; },
        [&](int64_t k) {
            const int64_t tap = col % taps;
            return col < c.in * taps ? under(c, k, tap / c.k, tap % c.k, col / taps)
                                     : 0;
        });
    if (row < c.out && col < c.in * taps) store(c.w, row * c.in * taps + col, sum);
}
GR_KERNEL(gr_conv_grad_w, GpuConv)
