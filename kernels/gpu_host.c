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
    default:
        return -1;
    }
}

bool gpu_types_fit(const Sig *s) {
    for (int i = 0; i < s->n_in; i++) {
        int t = s->in[i].rank < 0 ? GPU_F32 : gpu_type(s->in[i].dtype);
        if (t < 0 || t == GPU_F64) return false;
    }
    for (int o = 0; o < s->n_out; o++) {
        int t = gpu_type(s->out[o].dtype);
        if (t < 0 || t == GPU_F64) return false;
    }
    return true;
}

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
