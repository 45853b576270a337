/* Launches of random.cu and codes.cu. */
#include "kernels/codes.h"
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"

static void numbers(const Call *c, int kind) {
    const RandomAttrs *at = c->attrs;
    const Type *t = c->out[0].type;
    GpuRandom p = {.rng = c->in[0].data, .y = gpu_tensor(&c->out[0]), .kind = kind};
    p.stream = (uint32_t)at->stream;
    p.samples = at->batch && t->rank ? t->dim[0] : 1;
    p.per = type_count(t) / p.samples;
    p.from = at->from, p.range = at->below - at->from;
    gpu_elements(c, "gr_random", p.samples * ((p.per + 3) / 4), &p, sizeof p);
}
static void normal(const Call *c) {
    numbers(c, GPU_NORMAL);
}
static void uniform(const Call *c) {
    numbers(c, GPU_UNIFORM);
}
static void draw(const Call *c) {
    numbers(c, GPU_DRAW);
}
CUDA_KERNEL(normal, gpu_types_fit, normal);
CUDA_KERNEL(uniform, gpu_types_fit, uniform);
CUDA_KERNEL(draw, gpu_types_fit, draw);

static void dropout(const Call *c) {
    const DropoutAttrs *at = c->attrs;
    const Type *t = c->in[0].type;
    GpuDropout p = {.rng = c->in[1].data, .x = gpu_tensor(&c->in[0])};
    p.y = gpu_tensor(&c->out[0]);
    p.stream = (uint32_t)at->stream;
    p.n = type_count(t), p.per = p.n / (at->batch && t->rank ? t->dim[0] : 1);
    p.p = at->p, p.factor = at->rescale ? 1 / (1 - at->p) : 1;
    const bool channels = t->rank > (at->batch ? 1 : 0);
    if (at->each == EACH_ELEMENT) p.same = p.per;
    if (at->each == EACH_CHANNEL) p.same = channels ? t->dim[t->rank - 1] : 1;
    gpu_elements(c, "gr_dropout", p.n, &p, sizeof p);
}
CUDA_KERNEL(dropout, gpu_types_fit, dropout);

/* ---- codes ---- */

_Static_assert((int)CODES == (int)GPU_CODES, "one map");

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    const CodesAttrs *at = s->attrs;
    GpuCodes *p = NEW(a, GpuCodes, 1);
    (void)e;
    p->block = at->block, p->is_signed = at->is_signed;
    codes_map(at->is_signed, p->map);
    *prep = p;
    return true;
}
static void encode(const Call *c) {
    GpuCodes p = *(const GpuCodes *)c->prep;
    p.x = gpu_tensor(&c->in[0]), p.code = c->out[0].data;
    p.scale = gpu_tensor(&c->out[1]), p.n = type_count(c->in[0].type);
    p.blocks = codes_blocks(p.n, p.block);
    gpu_blocks(c, "gr_encode", p.blocks < GPU_MOST_BLOCKS ? p.blocks : GPU_MOST_BLOCKS,
               p.block, &p, sizeof p);
}
static void decode(const Call *c) {
    GpuCodes p = *(const GpuCodes *)c->prep;
    p.code = c->in[0].data, p.scale = gpu_tensor(&c->in[1]);
    p.x = gpu_tensor(&c->out[0]), p.n = type_count(c->out[0].type);
    gpu_elements(c, "gr_decode", p.n, &p, sizeof p);
}
#define CODES_KERNEL(op, body)                                                         \
    const Kernel cuda_##op[] = {                                                       \
        {.name = "cuda", .fits = gpu_types_load, .prepare = prepare, .run = body},     \
        {0}}
CODES_KERNEL(encode, encode);
CODES_KERNEL(decode, decode);
