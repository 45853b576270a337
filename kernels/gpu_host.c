/* Launches and tensors of the CUDA kernels, seen from C. */
#include "kernels/gpu_host.h"

static int gpu_type(DType t) {
    switch (t) {
    case F32:
        return GPU_F32;
    case F16:
        return GPU_F16;
    case BF16:
        return GPU_BF16;
    case I32:
        return GPU_I32;
    case F64:
        return GPU_F64;
    case U8:
        return GPU_U8;
    default:
        return -1;
    }
}

static bool types_are(const Sig *s, bool (*good)(int)) {
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i].rank >= 0 && !good(gpu_type(s->in[i].dtype))) return false;
    for (int o = 0; o < s->n_out; o++)
        if (!good(gpu_type(s->out[o].dtype))) return false;
    return true;
}
static bool computed(int t) {
    return t >= 0 && t <= GPU_I32;
}
static bool loaded(int t) {
    return t >= 0;
}
bool gpu_types_fit(const Sig *s) {
    return types_are(s, computed);
}
bool gpu_types_load(const Sig *s) {
    return types_are(s, loaded);
}

/* ---- programs ---- */

_Static_assert((int)SCALAR == (int)GPU_SCALAR, "one meaning of operands");

static GpuInstr instr_of(const Instr *i) {
    return (GpuInstr){i->op, i->dst, i->a, i->b, i->c};
}
bool gpu_code(GpuCode *g, const Program *p) {
    if (p->n_load > GPU_LOADS || p->n_scalar > GPU_LOADS || p->n_reg > GPU_REGS ||
        p->n_slot > GPU_SLOTS || p->n_instr > GPU_INSTR || p->n_once > GPU_INSTR ||
        p->n_out > GPU_OUTS)
        return false;
    *g = (GpuCode){.n_load = p->n_load, .n_slot = p->n_slot};
    g->n_instr = p->n_instr, g->n_once = p->n_once;
    for (int i = 0; i < p->n_out; i++) g->out[i] = p->out[i];
    for (int i = 0; i < p->n_load; i++) g->load[i] = (uint16_t)p->load[i].var;
    for (int i = 0; i < p->n_instr; i++) g->instr[i] = instr_of(&p->instr[i]);
    for (int i = 0; i < p->n_once; i++) g->once[i] = instr_of(&p->once[i]);
    for (int i = 0; i < p->n_slot; i++) g->number[i] = p->number[i];
    return true;
}

/* ---- launches ---- */

GpuTensor gpu_tensor(const Tensor *t) {
    return (GpuTensor){t->data, t->data ? gpu_type(t->type->dtype) : GPU_F32};
}

void gpu_blocks(const Call *c, const char *kernel, int64_t blocks, int64_t n,
                const void *parameter, size_t bytes) {
    Gpu *g = (Gpu *)(void *)c->dev;
    const int64_t warps = (n + GPU_WARP - 1) / GPU_WARP, most = GPU_BLOCK / GPU_WARP;
    const unsigned threads = (unsigned)((warps < most ? warps : most) * GPU_WARP);
    const unsigned grid[3] = {(unsigned)blocks, 1, 1}, block[3] = {threads, 1, 1};
    g->launch(g, kernel, grid, block, parameter, bytes);
}

void gpu_elements(const Call *c, const char *kernel, int64_t n, const void *parameter,
                  size_t bytes) {
    int64_t blocks = (n + GPU_BLOCK - 1) / GPU_BLOCK;
    gpu_blocks(c, kernel, blocks < GPU_MOST_BLOCKS ? blocks : GPU_MOST_BLOCKS, n,
               parameter, bytes);
}

void gpu_convert(const Call *c, const Tensor *x, const Tensor *y) {
    GpuCopy p = {.x = gpu_tensor(x), .y = gpu_tensor(y), .n = type_count(y->type)};
    p.rank = 1, p.dim[0] = p.n, p.x_stride[0] = p.y_stride[0] = 1;
    gpu_elements(c, "gr_copy", p.n, &p, sizeof p);
}
