/* Nearest-neighbour resizing and its gradient. Pixel i of n comes from floor(i * from / n). */
#include <string.h>

#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* x[B,H,W,C] -> y[B,h,w,C], one row of y */
static void resize_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const Type *x = c->in[0].type, *y = c->out[0].type;
    const int64_t h = y->dim[1], w = y->dim[2], b = row / h;
    const int64_t p = row % h * x->dim[1] / h;
    const size_t pixel = (size_t)x->dim[3] * dtype_size(x->dtype);
    const char *from =
        (const char *)c->in[0].data + (size_t)((b * x->dim[1] + p) * x->dim[2]) * pixel;
    char *to = (char *)c->out[0].data + (size_t)(row * w) * pixel;
    (void)scratch;
    for (int64_t j = 0; j < w; j++)
        memcpy(to + (size_t)j * pixel, from + (size_t)(j * x->dim[2] / w) * pixel,
               pixel);
}
static void resize_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], resize_row);
}

/* The first i of n that comes from `at` or a later one of `from`. */
static int64_t first_from(int64_t at, int64_t from, int64_t n) {
    return (at * n + from - 1) / from;
}
/* dy[B,h,w,C] -> dx[B,H,W,C], one row of dx */
static void grad_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const Type *dy = c->in[0].type, *dx = c->out[0].type;
    const int64_t h = dy->dim[1], w = dy->dim[2], n = dx->dim[3];
    const int64_t b = row / dx->dim[1], p = row % dx->dim[1];
    const int64_t top = first_from(p, dx->dim[1], h),
                  end = first_from(p + 1, dx->dim[1], h);
    (void)scratch;
    for (int64_t q = 0; q < dx->dim[2]; q++) {
        int64_t left = first_from(q, dx->dim[2], w),
                right = first_from(q + 1, dx->dim[2], w);
        for (int64_t k = 0; k < n; k++) {
            double sum = 0;
            for (int64_t i = top; i < end; i++)
                for (int64_t j = left; j < right; j++)
                    sum += get(&c->in[0], ((b * h + i) * w + j) * n + k);
            put(&c->out[0], (row * dx->dim[2] + q) * n + k, sum);
        }
    }
}
static void resize_grad_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], grad_row);
}

/* The same in f32, a pixel's channels at a time, MOST at most; halves by way of f32. */
enum { MOST = 1 << 16 };
static void grad_row_f32(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const Type *dy = c->in[0].type, *dx = c->out[0].type;
    const int64_t h = dy->dim[1], w = dy->dim[2], n = dx->dim[3];
    const int64_t b = row / dx->dim[1], p = row % dx->dim[1];
    const int64_t top = first_from(p, dx->dim[1], h),
                  end = first_from(p + 1, dx->dim[1], h);
    const size_t size = dtype_size(dy->dtype);
    const bool half = size != sizeof(float);
    float *sum = scratch, *room = sum + MOST;
    for (int64_t q = 0; q < dx->dim[2]; q++) {
        int64_t left = first_from(q, dx->dim[2], w),
                right = first_from(q + 1, dx->dim[2], w);
        char *to = (char *)c->out[0].data + (size_t)((row * dx->dim[2] + q) * n) * size;
        if (!half) sum = (void *)to;
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t at = top * w + left; at < end * w; at += w) {
            for (int64_t j = 0; j < right - left; j++) {
                const void *from = (const char *)c->in[0].data +
                                   (size_t)((b * h * w + at + j) * n) * size;
                const float *x = half ? room : from;
                if (half) convert(room, F32, from, dy->dtype, n);
                for (int64_t k = 0; k < n; k++) sum[k] += x[k];
            }
        }
        if (half) convert(to, dx->dtype, sum, F32, n);
    }
}
static void resize_grad_rows(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], grad_row_f32);
}
static bool grad_fits(const Sig *s) {
    return s->in[0].dtype != F64 && s->in[0].dim[3] <= MOST;
}

/* clang-format off */
const Kernel cpu_resize[] = { { .name = "ref", .run = resize_ref }, { 0 } };
const Kernel cpu_resize_grad[] = {
    { .name = "rows", .fits = grad_fits, .run = resize_grad_rows },
    { .name = "ref", .run = resize_grad_ref },
    { 0 }
};
/* clang-format on */
