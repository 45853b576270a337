/* Launches of attention.cu and conv.cu: what stands in where cuDNN has no engine. */
#include <math.h>

#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* ---- attention ---- */

static GpuAttention attention_of(const Call *c, int64_t *b) {
    const AttentionAttrs *at = c->attrs;
    const AttentionSize z = attention_size(c->in[0].type, c->in[1].type, at->heads);
    *b = z.b;
    return (GpuAttention){.q = gpu_tensor(&c->in[0]),
                          .k = gpu_tensor(&c->in[1]),
                          .v = gpu_tensor(&c->in[2]),
                          .n = z.n,
                          .m = z.m,
                          .heads = z.heads,
                          .d = z.d,
                          .scale = (float)(1 / sqrt((double)z.d)),
                          .causal = at->causal};
}
static bool attention_fits(const Sig *s) {
    const AttentionAttrs *at = s->attrs;
    return gpu_types_fit(s) &&
           attention_size(&s->in[0], &s->in[1], at->heads).d <= GPU_WIDTH;
}
static void attention(const Call *c) {
    int64_t b;
    GpuAttention p = attention_of(c, &b);
    p.y = gpu_tensor(&c->out[0]), p.lse = gpu_tensor(&c->out[1]);
    gpu_blocks(c, "gr_attention", b * p.heads * p.n, GPU_KEYS, &p, sizeof p);
}
static void attention_grad(const Call *c) {
    int64_t b;
    GpuAttention p = attention_of(c, &b);
    p.y = gpu_tensor(&c->in[3]), p.lse = gpu_tensor(&c->in[4]);
    p.dy = gpu_tensor(&c->in[5]);
    p.dq = gpu_tensor(&c->out[0]), p.dk = gpu_tensor(&c->out[1]);
    p.dv = gpu_tensor(&c->out[2]);
    gpu_blocks(c, "gr_attention_grad_q", b * p.heads * p.n, GPU_KEYS, &p, sizeof p);
    gpu_blocks(c, "gr_attention_grad_k", b * p.heads * p.m, GPU_KEYS, &p, sizeof p);
}
CUDA_KERNEL(attention, attention_fits, attention);
CUDA_KERNEL(attention_grad, attention_fits, attention_grad);

/* ---- convolution ---- */

enum { SIDE = 16, MOST_Y = 65535 }; /* of a tile, as in conv.cu; blocks along y */

static GpuConv conv_of(const Call *c, const Type *x, const Type *y) {
    const ConvSize z = conv_size(x, y, c->attrs);
    return (GpuConv){.b = z.b,
                     .h = z.h,
                     .wd = z.w,
                     .in = z.in,
                     .oh = z.oh,
                     .ow = z.ow,
                     .out = z.out,
                     .k = z.k,
                     .stride = z.stride,
                     .left = z.left,
                     .top = z.top};
}
static void tiles(const Call *c, const char *kernel, int64_t rows, int64_t cols,
                  const GpuConv *p) {
    Gpu *g = (Gpu *)(void *)c->dev;
    const unsigned grid[3] = {(unsigned)((rows + SIDE - 1) / SIDE),
                              (unsigned)((cols + SIDE - 1) / SIDE), 1},
                   block[3] = {SIDE, SIDE, 1};
    g->launch(g, kernel, grid, block, p, sizeof *p);
}
static void conv(const Call *c) {
    GpuConv p = conv_of(c, c->in[0].type, c->out[0].type);
    p.x = gpu_tensor(&c->in[0]), p.w = gpu_tensor(&c->in[1]);
    p.y = gpu_tensor(&c->out[0]);
    if (given(c, 2)) p.bias = gpu_tensor(&c->in[2]);
    if (given(c, 3)) p.add = gpu_tensor(&c->in[3]);
    tiles(c, "gr_conv", p.b * p.oh * p.ow, p.out, &p);
}
static void conv_grad_x(const Call *c) {
    GpuConv p = conv_of(c, c->out[0].type, c->in[0].type);
    p.y = gpu_tensor(&c->in[0]), p.w = gpu_tensor(&c->in[1]);
    p.x = gpu_tensor(&c->out[0]);
    if (given(c, 2)) p.add = gpu_tensor(&c->in[2]);
    tiles(c, "gr_conv_grad_x", p.b * p.h * p.wd, p.in, &p);
}
static void conv_grad_w(const Call *c) {
    GpuConv p = conv_of(c, c->in[0].type, c->in[1].type);
    p.x = gpu_tensor(&c->in[0]), p.y = gpu_tensor(&c->in[1]);
    p.w = gpu_tensor(&c->out[0]);
    tiles(c, "gr_conv_grad_w", p.out, p.in * p.k * p.k, &p);
}
static bool conv_fits(const Sig *s) {
    return gpu_types_fit(s) && type_last(&s->out[0]) < (int64_t)MOST_Y * SIDE;
}
static bool grad_w_fits(const Sig *s) {
    const int64_t k = ((const ConvAttrs *)s->attrs)->kernel;
    return gpu_types_fit(s) && type_last(&s->in[0]) * k * k < (int64_t)MOST_Y * SIDE;
}
CUDA_KERNEL(conv2d, conv_fits, conv);
CUDA_KERNEL(conv2d_grad_x, conv_fits, conv_grad_x);
CUDA_KERNEL(conv2d_grad_w, grad_w_fits, conv_grad_w);
