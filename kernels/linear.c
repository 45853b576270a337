/* y = x W^T + b and its two gradients. "packed": products of gemm.h; a frozen weight is
 * packed once, in its own type, any other one in each call. "ref": one row of the result
 * at a time, summed in double. */
#include "kernels/gemm.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* x[M,K] w[N,K] b[N] -> y[M,N] */
static void linear_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *w = &c->in[1];
    const int64_t in = type_last(x->type), out = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t o = 0; o < out; o++) {
        double sum = 0;
        for (int64_t i = 0; i < in; i++) sum += get(x, m * in + i) * get(w, o * in + i);
        if (given(c, 2)) sum += get(&c->in[2], o);
        put(&c->out[0], m * out + o, sum);
    }
}
static void linear_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), linear_row);
}

/* dy[M,N] w[N,K] -> dx[M,K] */
static void grad_x_row(void *arg, int64_t m, void *scratch) {
    const Call *c = arg;
    const Tensor *dy = &c->in[0], *w = &c->in[1];
    const int64_t out = type_last(dy->type), in = type_last(c->out[0].type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t o = 0; o < out; o++)
            sum += get(dy, m * out + o) * get(w, o * in + i);
        put(&c->out[0], m * in + i, sum);
    }
}
static void grad_x_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), grad_x_row);
}

/* x[M,K] dy[M,N] -> dw[N,K] */
static void grad_w_row(void *arg, int64_t o, void *scratch) {
    const Call *c = arg;
    const Tensor *x = &c->in[0], *dy = &c->in[1];
    const int64_t rows = type_rows(x->type), in = type_last(x->type);
    const int64_t out = type_last(dy->type);
    (void)scratch;
    for (int64_t i = 0; i < in; i++) {
        double sum = 0;
        for (int64_t m = 0; m < rows; m++)
            sum += get(dy, m * out + o) * get(x, m * in + i);
        put(&c->out[0], o * in + i, sum);
    }
}
static void grad_w_ref(const Call *c) {
    spread(c, type_last(c->in[1].type), grad_w_row);
}

/* ---- packed ---- */

static bool all_f32(const Sig *s) {
    return s->in[0].dtype == F32 && s->out[0].dtype == F32;
}
static bool grad_w_fits(const Sig *s) {
    return all_f32(s) && s->in[1].dtype == F32;
}

/* W as the right operand: x W^T wants it turned, dy W as it is. */
static PackSource turned(const Type *w, const void *data) {
    return (PackSource){data, w->dtype, w->dim[0], w->dim[1], w->dim[1], 1, NULL, NULL};
}
static PackSource plain(const Type *w, const void *data) {
    return (PackSource){data, w->dtype, w->dim[1], w->dim[0], 1, w->dim[1], NULL, NULL};
}
static size_t turned_bytes(const Sig *s, int in) {
    const Type *w = &s->in[1];
    return in == 1 ? gemm_packed_bytes(isa(), w->dim[0], w->dim[1], w->dtype) : 0;
}
static size_t plain_bytes(const Sig *s, int in) {
    const Type *w = &s->in[1];
    return in == 1 ? gemm_packed_bytes(isa(), w->dim[1], w->dim[0], w->dtype) : 0;
}
static void turned_pack(const Sig *s, int in, const void *raw, void *dst, Device *dev) {
    PackSource src = turned(&s->in[in], raw);
    gemm_pack(dev, isa(), &src, dst);
}
static void plain_pack(const Sig *s, int in, const void *raw, void *dst, Device *dev) {
    PackSource src = plain(&s->in[in], raw);
    gemm_pack(dev, isa(), &src, dst);
}
static bool is_frozen(const Sig *s, int in) {
    return s->frozen >> in & 1;
}
static size_t linear_work(const Sig *s) {
    return is_frozen(s, 1) ? 0 : turned_bytes(s, 1);
}
static size_t grad_x_work(const Sig *s) {
    return is_frozen(s, 1) || s->in[1].dtype == F32 ? 0 : plain_bytes(s, 1);
}
/* The packed weight of a call: made before, or now. */
static const void *packed_weight(const Call *c, PackSource src) {
    if (c->packed && c->packed[1]) return c->packed[1];
    gemm_pack(c->dev, isa(), &src, c->work);
    return c->work;
}

static void linear_packed(const Call *c) {
    const Type *x = c->in[0].type, *w = c->in[1].type;
    Gemm g = {.isa = isa(), .m = type_rows(x), .n = w->dim[0], .k = w->dim[1]};
    g.a = c->in[0].data, g.a_row = g.k, g.a_col = 1;
    g.packed = packed_weight(c, turned(w, c->in[1].data));
    g.b_type = w->dtype, g.b_depth = g.k;
    if (given(c, 2)) g.bias = c->in[2].data, g.bias_type = c->in[2].type->dtype;
    g.c = c->out[0].data, g.ldc = g.n;
    gemm_run(c->dev, &g);
}
static void grad_x_packed(const Call *c) {
    const Type *dy = c->in[0].type, *w = c->in[1].type;
    Gemm g = {.isa = isa(), .m = type_rows(dy), .n = w->dim[1], .k = w->dim[0]};
    g.a = c->in[0].data, g.a_row = g.k, g.a_col = 1;
    if (w->dtype == F32 && !(c->packed && c->packed[1]))
        g.b = c->in[1].data, g.b_ld = g.n;
    else
        g.packed = packed_weight(c, plain(w, c->in[1].data));
    g.b_type = w->dtype, g.b_depth = g.k;
    g.c = c->out[0].data, g.ldc = g.n;
    gemm_run(c->dev, &g);
}
static void grad_w_packed(const Call *c) {
    const Type *x = c->in[0].type, *dy = c->in[1].type;
    Gemm g = {.isa = isa(), .m = type_last(dy), .n = type_last(x), .k = type_rows(x)};
    g.a = c->in[1].data, g.a_row = 1, g.a_col = g.m;
    g.b = c->in[0].data, g.b_ld = g.n;
    g.c = c->out[0].data, g.ldc = g.n;
    gemm_run(c->dev, &g);
}

/* clang-format off */
const Kernel cpu_linear[] = {
    { .name = "packed", .fits = all_f32, .work = linear_work, .packed = turned_bytes,
      .pack = turned_pack, .run = linear_packed },
    { .name = "ref", .run = linear_ref },
    { 0 }
};
const Kernel cpu_linear_grad_x[] = {
    { .name = "packed", .fits = all_f32, .work = grad_x_work, .packed = plain_bytes,
      .pack = plain_pack, .run = grad_x_packed },
    { .name = "ref", .run = grad_x_ref },
    { 0 }
};
const Kernel cpu_linear_grad_w[] = {
    { .name = "packed", .fits = grad_w_fits, .run = grad_w_packed },
    { .name = "ref", .run = grad_w_ref },
    { 0 }
};
/* clang-format on */
