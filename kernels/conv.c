/* Convolution and its two gradients.
 * x[B,H,W,C] w[O,C,k,k] y[B,h,w,O]; a window at (i,j) covers the pixels
 * (i * stride + u - top, j * stride + v - left).
 *
 * "panels": products of gemm.h over windows and weights that are read where they lie
 * (channels of one pixel are contiguous). "winograd": kernels/winograd.c. "ref": summed in
 * double. */
#include <string.h>

#include "kernels/gemm.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"
#include "kernels/winograd.h"

/* One pixel of y. */
static double window(const Call *c, const ConvSize *z, int64_t b, int64_t i, int64_t j,
                     int64_t o) {
    double sum = 0;
    for (int64_t u = 0; u < z->k; u++) {
        for (int64_t v = 0; v < z->k; v++) {
            int64_t p = i * z->stride + u - z->top, q = j * z->stride + v - z->left;
            if (p < 0 || q < 0 || p >= z->h || q >= z->w) continue;
            int64_t at = ((b * z->h + p) * z->w + q) * z->in;
            for (int64_t n = 0; n < z->in; n++)
                sum += get(&c->in[0], at + n) *
                       get(&c->in[1], ((o * z->in + n) * z->k + u) * z->k + v);
        }
    }
    return sum;
}
static void conv_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const ConvSize z = conv_size(c->in[0].type, c->out[0].type, c->attrs);
    (void)scratch;
    for (int64_t j = 0; j < z.ow; j++) {
        for (int64_t o = 0; o < z.out; o++) {
            double y = window(c, &z, row / z.oh, row % z.oh, j, o);
            const int64_t at = (row * z.ow + j) * z.out + o;
            if (given(c, 2)) y += get(&c->in[2], o);
            if (given(c, 3)) y += get(&c->in[3], at);
            put(&c->out[0], at, y);
        }
    }
}
static void conv_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], conv_row);
}

/* One element of dx: from every window that covers the pixel. */
static double covered(const Call *c, const ConvSize *z, int64_t b, int64_t p, int64_t q,
                      int64_t n) {
    double sum = 0;
    for (int64_t u = 0; u < z->k; u++) {
        for (int64_t v = 0; v < z->k; v++) {
            int64_t i = p + z->top - u, j = q + z->left - v;
            if (i < 0 || j < 0 || i % z->stride || j % z->stride) continue;
            i /= z->stride, j /= z->stride;
            if (i >= z->oh || j >= z->ow) continue;
            int64_t at = ((b * z->oh + i) * z->ow + j) * z->out;
            for (int64_t o = 0; o < z->out; o++)
                sum += get(&c->in[0], at + o) *
                       get(&c->in[1], ((o * z->in + n) * z->k + u) * z->k + v);
        }
    }
    return sum;
}
static void grad_x_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const ConvSize z = conv_size(c->out[0].type, c->in[0].type, c->attrs);
    (void)scratch;
    for (int64_t q = 0; q < z.w; q++)
        for (int64_t n = 0; n < z.in; n++) {
            const int64_t at = (row * z.w + q) * z.in + n;
            double sum = covered(c, &z, row / z.h, row % z.h, q, n);
            if (given(c, 2)) sum += get(&c->in[2], at);
            put(&c->out[0], at, sum);
        }
}
static void grad_x_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], grad_x_row);
}

/* One element of dw: over all windows. */
static double pixels(const Call *c, const ConvSize *z, int64_t o, int64_t n, int64_t u,
                     int64_t v) {
    double sum = 0;
    for (int64_t row = 0; row < z->b * z->oh; row++) {
        for (int64_t j = 0; j < z->ow; j++) {
            int64_t b = row / z->oh, i = row % z->oh;
            int64_t p = i * z->stride + u - z->top, q = j * z->stride + v - z->left;
            if (p < 0 || q < 0 || p >= z->h || q >= z->w) continue;
            sum += get(&c->in[1], (row * z->ow + j) * z->out + o) *
                   get(&c->in[0], ((b * z->h + p) * z->w + q) * z->in + n);
        }
    }
    return sum;
}
static void grad_w_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const ConvSize z = conv_size(c->in[0].type, c->in[1].type, c->attrs);
    (void)scratch;
    for (int64_t u = 0; u < z.k; u++)
        for (int64_t v = 0; v < z.k; v++)
            put(&c->out[0], (row * z.k + u) * z.k + v,
                pixels(c, &z, row / z.in, row % z.in, u, v));
}
static void grad_w_ref(const Call *c) {
    spread(c, c->out[0].type->dim[0] * c->out[0].type->dim[1], grad_w_row);
}

/* ---- panels ---- */

static int64_t kernel_of(const Sig *s) {
    return ((const ConvAttrs *)s->attrs)->kernel;
}
static bool panels_fit(const Sig *s) {
    return s->in[0].dtype != F64 && kernel_of(s) * kernel_of(s) <= MOST_TAPS;
}

/* Is every window one pixel, and every pixel a window? */
static bool is_dense(const ConvSize *z) {
    return z->k == 1 && z->stride == 1 && z->oh == z->h && z->ow == z->w;
}
static Window forward_window(const ConvSize *z, const Tensor *x) {
    return (Window){.x = x->data,
                    .type = x->type->dtype,
                    .h = z->h,
                    .w = z->w,
                    .c = z->in,
                    .rows = z->oh,
                    .cols = z->ow,
                    .step = z->stride,
                    .y0 = -z->top,
                    .x0 = -z->left,
                    .dy = 1,
                    .dx = 1,
                    .taps = z->k * z->k,
                    .taps_x = z->k};
}
/* The left operand: the windows, or rows of pixels where each is one. */
static void set_left(Gemm *g, const ConvSize *z, const Tensor *x, const Window *v) {
    if (is_dense(z))
        g->a = x->data, g->a_type = x->type->dtype, g->a_row = v->c, g->a_col = 1;
    else
        g->a_window = v;
}

/* A weight row [c][u][v] is a column of the product, in the order of its depths. */
static void conv_panels(const Call *c) {
    const ConvSize z = conv_size(c->in[0].type, c->out[0].type, c->attrs);
    const Window v = forward_window(&z, &c->in[0]);
    Gemm g = {.isa = isa(), .m = z.b * z.oh * z.ow, .n = z.out, .k = z.k * z.k * z.in};
    set_left(&g, &z, &c->in[0], &v);
    g.b = c->in[1].data, g.b_type = c->in[1].type->dtype, g.b_row = 1, g.b_col = g.k;
    if (given(c, 2)) g.bias = c->in[2].data, g.bias_type = c->in[2].type->dtype;
    if (given(c, 3)) g.add = c->in[3].data, g.add_type = c->in[3].type->dtype;
    g.c = c->out[0].data, g.c_type = c->out[0].type->dtype, g.ldc = g.n;
    gemm_run(c->dev, &g);
}

/* Taps (u, v) with u % stride == cy and v % stride == cx are the ones that reach the
 * pixels of one class: every stride-th of the input, from the first. */
typedef struct Class {
    const ConvSize *z;
    int64_t y0, x0, rows, cols;
} Class;
static int64_t class_pixel(const void *ctx, int64_t i) {
    const Class *p = ctx;
    int64_t j = i % p->cols, r = i / p->cols % p->rows, s = i / p->cols / p->rows;
    return (s * p->z->h + p->y0 + r * p->z->stride) * p->z->w + p->x0 +
           j * p->z->stride;
}
/* The first pixel p >= 0 with (p + before) % stride == class. */
static int64_t first_pixel(int64_t class, int64_t before, int64_t stride) {
    return ((class - before) % stride + stride) % stride;
}
static int64_t every(int64_t n, int64_t first, int64_t stride) {
    return first < n ? (n - first + stride - 1) / stride : 0;
}

static void grad_x_class(const Call *c, const ConvSize *z, int64_t cy, int64_t cx) {
    Class p = {.z = z};
    p.y0 = first_pixel(cy, z->top, z->stride),
    p.x0 = first_pixel(cx, z->left, z->stride);
    p.rows = every(z->h, p.y0, z->stride), p.cols = every(z->w, p.x0, z->stride);
    if (!p.rows || !p.cols) return;
    int64_t tap[MOST_TAPS], taps = 0;
    for (int64_t u = cy; u < z->k; u += z->stride)
        for (int64_t v = cx; v < z->k; v += z->stride) tap[taps++] = u * z->k + v;
    const Window v = {.x = c->in[0].data,
                      .type = c->in[0].type->dtype,
                      .h = z->oh,
                      .w = z->ow,
                      .c = z->out,
                      .rows = p.rows,
                      .cols = p.cols,
                      .step = 1,
                      .y0 = (p.y0 + z->top - cy) / z->stride,
                      .x0 = (p.x0 + z->left - cx) / z->stride,
                      .dy = -1,
                      .dx = -1,
                      .taps = taps,
                      .taps_x = every(z->k, cx, z->stride)};
    Gemm g = {.isa = isa(), .m = z->b * p.rows * p.cols, .n = z->in};
    g.k = taps * z->out;
    set_left(&g, z, &c->in[0], &v);
    g.b = c->in[1].data, g.b_type = c->in[1].type->dtype;
    g.b_row = z->in * z->k * z->k, g.b_col = z->k * z->k;
    if (z->k > 1) g.tap = tap, g.taps = taps;
    g.c = c->out[0].data, g.c_type = c->out[0].type->dtype, g.ldc = g.n;
    if (given(c, 2)) g.add = c->in[2].data, g.add_type = c->in[2].type->dtype;
    if (z->stride > 1) g.place = class_pixel, g.place_ctx = &p;
    gemm_run(c->dev, &g);
}
/* Pixels between the windows: no product is written there. */
static void left_out(const Call *c) {
    const Tensor *dx = &c->out[0], *add = &c->in[2];
    if (!given(c, 2))
        memset(dx->data, 0, type_bytes(dx->type));
    else if (add->data != dx->data)
        convert(dx->data, dx->type->dtype, add->data, add->type->dtype,
                type_count(dx->type));
}
static void grad_x_panels(const Call *c) {
    const ConvSize z = conv_size(c->out[0].type, c->in[0].type, c->attrs);
    const int64_t classes = z.stride < z.k ? z.stride : z.k;
    if (z.stride > z.k) left_out(c);
    for (int64_t cy = 0; cy < classes; cy++)
        for (int64_t cx = 0; cx < classes; cx++) grad_x_class(c, &z, cy, cx);
}

static size_t grad_w_work(const Sig *s) {
    const int64_t n = type_count(&s->out[0]);
    return kernel_of(s) == 1 ? 0 : (size_t)n * sizeof(float);
}
/* dw[o][t][c] in the workspace -> dw[o][c][t], one o */
static void taps_last(void *arg, int64_t o, void *scratch) {
    const Call *c = arg;
    const Type *w = c->out[0].type;
    const int64_t in = w->dim[1], taps = w->dim[2] * w->dim[3], size = taps * in;
    const float *from = (const float *)c->work + o * size;
    char *to = (char *)c->out[0].data + (size_t)(o * size) * dtype_size(w->dtype);
    float *row = scratch;
    const int64_t most = (int64_t)(SCRATCH_BYTES / sizeof *row) / taps;
    for (int64_t n0 = 0; n0 < in; n0 += most) {
        const int64_t count = in - n0 < most ? in - n0 : most;
        for (int64_t t = 0; t < taps; t++)
            for (int64_t n = 0; n < count; n++)
                row[n * taps + t] = from[t * in + n0 + n];
        isa()->narrow(to + (size_t)(n0 * taps) * dtype_size(w->dtype), row, w->dtype,
                      count * taps);
    }
}
static void grad_w_panels(const Call *c) {
    const ConvSize z = conv_size(c->in[0].type, c->in[1].type, c->attrs);
    const Window v = forward_window(&z, &c->in[0]);
    Gemm g = {.isa = isa(), .m = z.out, .n = z.k * z.k * z.in, .k = z.b * z.oh * z.ow};
    g.a = c->in[1].data, g.a_type = c->in[1].type->dtype, g.a_row = 1, g.a_col = z.out;
    if (is_dense(&z))
        g.b = c->in[0].data, g.b_type = v.type, g.b_row = z.in, g.b_col = 1;
    else
        g.b_window = &v;
    g.c = z.k == 1 ? c->out[0].data : c->work;
    g.c_type = z.k == 1 ? c->out[0].type->dtype : F32, g.ldc = g.n;
    gemm_run(c->dev, &g);
    if (z.k > 1) spread(c, z.out, taps_last);
}

/* clang-format off */
const Kernel cpu_conv2d[] = {
    { .name = "winograd", .fits = winograd_fits, .work = winograd_work, .run = winograd_run },
    { .name = "panels", .fits = panels_fit, .run = conv_panels },
    { .name = "ref", .run = conv_ref },
    { 0 }
};
const Kernel cpu_conv2d_grad_x[] = {
    { .name = "winograd", .fits = winograd_fits, .work = winograd_work, .run = winograd_grad_x_run },
    { .name = "panels", .fits = panels_fit, .run = grad_x_panels },
    { .name = "ref", .run = grad_x_ref },
    { 0 }
};
const Kernel cpu_conv2d_grad_w[] = {
    { .name = "panels", .fits = panels_fit, .work = grad_w_work, .run = grad_w_panels },
    { .name = "ref", .run = grad_w_ref },
    { 0 }
};
/* clang-format on */
