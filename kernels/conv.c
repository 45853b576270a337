/* Convolution and its two gradients: the reference kernels, summed in double.
 * x[B,H,W,C] w[O,C,k,k] y[B,h,w,O]; a window at (i,j) covers the pixels
 * (i * stride + u - top, j * stride + v - left). */
#include "kernels/heavy.h"
#include "kernels/kernels.h"

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
            if (given(c, 2)) y += get(&c->in[2], o);
            put(&c->out[0], (row * z.ow + j) * z.out + o, y);
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
        for (int64_t n = 0; n < z.in; n++)
            put(&c->out[0], (row * z.w + q) * z.in + n,
                covered(c, &z, row / z.h, row % z.h, q, n));
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

const Kernel cpu_conv2d[] = { { .name = "ref", .run = conv_ref }, { 0 } };
const Kernel cpu_conv2d_grad_x[] = { { .name = "ref", .run = grad_x_ref }, { 0 } };
const Kernel cpu_conv2d_grad_w[] = { { .name = "ref", .run = grad_w_ref }, { 0 } };
