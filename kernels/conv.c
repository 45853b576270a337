/* Convolution and its two gradients.
 * x[B,H,W,C] w[O,C,k,k] y[B,h,w,O]; a window at (i,j) covers the pixels
 * (i * stride + u - top, j * stride + v - left).
 *
 * "packed": products of gemm.h over windows that are read where they lie (channels of one
 * pixel are contiguous); a frozen weight is packed once, in its own type, any other one in
 * each call. "ref": summed in double. */
#include <string.h>

#include "kernels/gemm.h"
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

/* ---- packed ---- */

static bool all_f32(const Sig *s) {
    return s->in[0].dtype == F32 && s->out[0].dtype == F32;
}
static bool grad_w_fits(const Sig *s) {
    return all_f32(s) && s->in[1].dtype == F32;
}
static bool is_frozen(const Sig *s, int in) {
    return s->frozen >> in & 1;
}
static int64_t kernel_of(const Sig *s) {
    return ((const ConvAttrs *)s->attrs)->kernel;
}

/* Depths of the forward product: tap by tap, channels inside; its columns: outputs. */
typedef struct Order {
    int64_t k, in, stride;
} Order;
static int64_t forward_depth(const void *ctx, int64_t p) {
    const Order *o = ctx;
    return p % o->in * o->k * o->k + p / o->in;
}
/* Taps u of one side with u % stride == class, and how many there are below that class. */
static int64_t taps_of(const Order *o, int64_t class) {
    return class < o->k ? (o->k - class + o->stride - 1) / o->stride : 0;
}
static int64_t taps_before(const Order *o, int64_t cy, int64_t cx) {
    int64_t n = 0;
    for (int64_t y = 0; y < cy; y++) n += taps_of(o, y) * o->k;
    for (int64_t x = 0; x < cx; x++) n += taps_of(o, cy) * taps_of(o, x);
    return n;
}
/* Depths of the backward product: taps ordered by class (u % stride, v % stride), so that
 * the pixels of one class read a run of them; outputs inside. Its columns: inputs. */
typedef struct BackOrder {
    Order o;
    int64_t out;
    const int64_t *tap; /* u * k + v of each */
} BackOrder;
static int64_t backward_depth(const void *ctx, int64_t p) {
    const BackOrder *b = ctx;
    return p % b->out * b->o.in * b->o.k * b->o.k + b->tap[p / b->out];
}
static void order_taps(const Order *o, int64_t *tap) {
    const int64_t classes = o->stride < o->k ? o->stride : o->k;
    for (int64_t cy = 0; cy < classes; cy++)
        for (int64_t cx = 0; cx < classes; cx++)
            for (int64_t u = cy; u < o->k; u += o->stride)
                for (int64_t v = cx; v < o->k; v += o->stride) *tap++ = u * o->k + v;
}
enum { MOST_KERNEL = 16 }; /* of the packed variants: bounds the table of taps */

static Order order_of(const Type *w, const ConvAttrs *a) {
    const int64_t k = a->kernel;
    return (Order){k, w->rank == 4 ? w->dim[1] : w->dim[1] / (k * k), a->stride};
}
static void forward_pack(const Type *w, const ConvAttrs *a, const void *raw, void *dst,
                         Device *dev) {
    const Order o = order_of(w, a);
    const int64_t depth = o.in * o.k * o.k;
    PackSource src = {raw, w->dtype, w->dim[0], depth, depth, 0, forward_depth, &o};
    gemm_pack(dev, isa(), &src, dst);
}
static void backward_pack(const Type *w, const ConvAttrs *a, const void *raw, void *dst,
                          Device *dev) {
    int64_t tap[MOST_KERNEL * MOST_KERNEL];
    const BackOrder b = {order_of(w, a), w->dim[0], tap};
    order_taps(&b.o, tap);
    PackSource src = {raw,           w->dtype, b.o.in,         b.out * b.o.k * b.o.k,
                      b.o.k * b.o.k, 0,        backward_depth, &b};
    gemm_pack(dev, isa(), &src, dst);
}
static void conv_pack(const Sig *s, int in, const void *raw, void *dst, Device *dev) {
    forward_pack(&s->in[in], s->attrs, raw, dst, dev);
}
static void grad_x_pack(const Sig *s, int in, const void *raw, void *dst, Device *dev) {
    backward_pack(&s->in[in], s->attrs, raw, dst, dev);
}
static size_t conv_bytes(const Sig *s, int in) {
    const Type *w = &s->in[1];
    const int64_t out = w->dim[0];
    return in == 1 ? gemm_packed_bytes(isa(), out, type_count(w) / out, w->dtype) : 0;
}
static size_t grad_x_bytes(const Sig *s, int in) {
    const Type *w = &s->in[1];
    const Order o = order_of(w, s->attrs);
    return in == 1 ? gemm_packed_bytes(isa(), o.in, type_count(w) / o.in, w->dtype) : 0;
}
static size_t conv_work(const Sig *s) {
    return is_frozen(s, 1) ? 0 : conv_bytes(s, 1);
}
static size_t grad_x_work(const Sig *s) {
    return is_frozen(s, 1) ? 0 : grad_x_bytes(s, 1);
}
static bool grad_x_fits(const Sig *s) {
    return all_f32(s) && kernel_of(s) <= MOST_KERNEL;
}

/* Is every window one pixel, and every pixel a window? */
static bool is_dense(const ConvSize *z) {
    return z->k == 1 && z->stride == 1 && z->oh == z->h && z->ow == z->w;
}
static Window forward_window(const ConvSize *z, const float *x) {
    return (Window){.x = x,
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
                    .taps_x = z->k};
}

static void conv_packed(const Call *c) {
    const ConvSize z = conv_size(c->in[0].type, c->out[0].type, c->attrs);
    const Type *w = c->in[1].type;
    const Window v = forward_window(&z, c->in[0].data);
    Gemm g = {.isa = isa(), .m = z.b * z.oh * z.ow, .n = z.out, .k = z.k * z.k * z.in};
    if (is_dense(&z))
        g.a = c->in[0].data, g.a_row = z.in, g.a_col = 1;
    else
        g.a_window = &v;
    g.packed = c->packed ? c->packed[1] : NULL;
    if (!g.packed) {
        forward_pack(w, c->attrs, c->in[1].data, c->work, c->dev);
        g.packed = c->work;
    }
    g.b_type = w->dtype, g.b_depth = g.k;
    if (given(c, 2)) g.bias = c->in[2].data, g.bias_type = c->in[2].type->dtype;
    g.c = c->out[0].data, g.ldc = g.n;
    gemm_run(c->dev, &g);
}

/* Pixels of the input that one class of taps reaches: every stride-th, from the first. */
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

static void grad_x_class(const Call *c, const ConvSize *z, const void *packed,
                         int64_t cy, int64_t cx) {
    const Order o = {z->k, z->in, z->stride};
    Class p = {.z = z};
    p.y0 = first_pixel(cy, z->top, z->stride),
    p.x0 = first_pixel(cx, z->left, z->stride);
    p.rows = every(z->h, p.y0, z->stride), p.cols = every(z->w, p.x0, z->stride);
    if (!p.rows || !p.cols) return;
    const int64_t ny = taps_of(&o, cy), nx = taps_of(&o, cx);
    const Window v = {.x = c->in[0].data,
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
                      .taps_x = nx};
    Gemm g = {.isa = isa(), .m = z->b * p.rows * p.cols, .n = z->in};
    g.k = ny * nx * z->out;
    if (is_dense(z))
        g.a = c->in[0].data, g.a_row = z->out, g.a_col = 1;
    else
        g.a_window = &v;
    g.packed = packed, g.b_type = c->in[1].type->dtype;
    g.b_depth = z->k * z->k * z->out, g.b_first = taps_before(&o, cy, cx) * z->out;
    g.c = c->out[0].data, g.ldc = g.n;
    if (z->stride > 1) g.place = class_pixel, g.place_ctx = &p;
    gemm_run(c->dev, &g);
}
static void grad_x_packed(const Call *c) {
    const ConvSize z = conv_size(c->out[0].type, c->in[0].type, c->attrs);
    const int64_t classes = z.stride < z.k ? z.stride : z.k;
    const void *packed = c->packed ? c->packed[1] : NULL;
    if (!packed) {
        backward_pack(c->in[1].type, c->attrs, c->in[1].data, c->work, c->dev);
        packed = c->work;
    }
    if (z.stride > z.k) memset(c->out[0].data, 0, type_bytes(c->out[0].type));
    for (int64_t cy = 0; cy < classes; cy++)
        for (int64_t cx = 0; cx < classes; cx++) grad_x_class(c, &z, packed, cy, cx);
}

static size_t grad_w_work(const Sig *s) {
    return kernel_of(s) == 1 ? 0 : type_bytes(&s->out[0]);
}
/* dw[o][t][c] in the workspace -> dw[o][c][t], one o */
static void taps_last(void *arg, int64_t o, void *scratch) {
    const Call *c = arg;
    const Type *w = c->out[0].type;
    const int64_t in = w->dim[1], taps = w->dim[2] * w->dim[3];
    const float *from = (const float *)c->work + o * taps * in;
    float *to = (float *)c->out[0].data + o * taps * in;
    (void)scratch;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t n = 0; n < in; n++) to[n * taps + t] = from[t * in + n];
}
static void grad_w_packed(const Call *c) {
    const ConvSize z = conv_size(c->in[0].type, c->in[1].type, c->attrs);
    const Window v = forward_window(&z, c->in[0].data);
    Gemm g = {.isa = isa(), .m = z.out, .n = z.k * z.k * z.in, .k = z.b * z.oh * z.ow};
    g.a = c->in[1].data, g.a_row = 1, g.a_col = z.out;
    if (is_dense(&z))
        g.b = c->in[0].data, g.b_ld = z.in;
    else
        g.b_window = &v;
    g.c = z.k == 1 ? c->out[0].data : c->work, g.ldc = g.n;
    gemm_run(c->dev, &g);
    if (z.k > 1) spread(c, z.out, taps_last);
}

/* clang-format off */
const Kernel cpu_conv2d[] = {
    { .name = "packed", .fits = all_f32, .work = conv_work, .packed = conv_bytes,
      .pack = conv_pack, .run = conv_packed },
    { .name = "ref", .run = conv_ref },
    { 0 }
};
const Kernel cpu_conv2d_grad_x[] = {
    { .name = "packed", .fits = grad_x_fits, .work = grad_x_work, .packed = grad_x_bytes,
      .pack = grad_x_pack, .run = grad_x_packed },
    { .name = "ref", .run = grad_x_ref },
    { 0 }
};
const Kernel cpu_conv2d_grad_w[] = {
    { .name = "packed", .fits = grad_w_fits, .work = grad_w_work, .run = grad_w_packed },
    { .name = "ref", .run = grad_w_ref },
    { 0 }
};
/* clang-format on */
