/* Launches of the norms in norm.cu and of the sums in reduce.cu. */
#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

#include <math.h>

/* ---- norms ---- */

static bool norm_fits(const Sig *s) {
    return gpu_types_fit(s) && !((const NormAttrs *)s->attrs)->f;
}

/* Parts of a group norm of x; of a layer norm if groups is 0. */
static GpuNorm parts_of(const Call *c, int64_t groups) {
    const Type *x = c->in[0].type;
    GpuNorm p = {.x = gpu_tensor(&c->in[0]), .w = gpu_tensor(&c->in[1])};
    p.y = gpu_tensor(&c->out[0]);
    p.eps = ((const NormAttrs *)c->attrs)->eps;
    p.same_weight = !groups;
    p.samples = groups ? x->dim[0] : 1;
    p.parts = groups ? groups : type_rows(x);
    p.rows = groups ? type_rows(x) / x->dim[0] : 1;
    p.width = groups ? type_last(x) / groups : type_last(x);
    return p;
}

static void norm(const Call *c, int64_t groups) {
    GpuNorm p = parts_of(c, groups);
    p.b = gpu_tensor(&c->in[2]);
    p.mean = c->out[1].data, p.rstd = c->out[2].data;
    gpu_blocks(c, "gr_norm", p.samples * p.parts, p.rows * p.width, &p, sizeof p);
}
static void norm_grad(const Call *c, int64_t groups) {
    GpuNorm p = parts_of(c, groups);
    p.mean = c->in[2].data, p.rstd = c->in[3].data;
    p.dy = gpu_tensor(&c->in[4]);
    gpu_blocks(c, "gr_norm_grad", p.samples * p.parts, p.rows * p.width, &p, sizeof p);
    if (c->n_out < 3) return;
    p.dw = c->out[1].data, p.db = c->out[2].data;
    const Type *x = c->in[0].type;
    const int64_t rows = type_rows(x);
    gpu_blocks(c, "gr_norm_grad_weight", type_last(x), rows, &p, sizeof p);
}
static void group_norm(const Call *c) {
    norm(c, ((const NormAttrs *)c->attrs)->groups);
}
static void group_norm_grad(const Call *c) {
    norm_grad(c, ((const NormAttrs *)c->attrs)->groups);
}
static void layer_norm(const Call *c) {
    norm(c, 0);
}
static void layer_norm_grad(const Call *c) {
    norm_grad(c, 0);
}

CUDA_KERNEL(group_norm, norm_fits, group_norm);
CUDA_KERNEL(group_norm_grad, norm_fits, group_norm_grad);
CUDA_KERNEL(layer_norm, norm_fits, layer_norm);
CUDA_KERNEL(layer_norm_grad, norm_fits, layer_norm_grad);

/* ---- sums ---- */

/* set: bit i, axis i of x is summed over. */
static GpuReduce axes_of(const Call *c, unsigned set) {
    const Type *x = c->in[0].type;
    GpuReduce p = {.x = gpu_tensor(&c->in[0]), .y = gpu_tensor(&c->out[0])};
    int64_t stride[MAX_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->dim[i];
    }
    p.n_out = p.n_in = 1, p.scale = 1;
    for (int i = 0; i < x->rank; i++) {
        if (set & 1u << i) {
            p.n_in *= x->dim[i];
            p.in_dim[p.in_rank] = x->dim[i], p.in_stride[p.in_rank++] = stride[i];
        } else {
            p.n_out *= x->dim[i];
            p.out_dim[p.out_rank] = x->dim[i], p.out_stride[p.out_rank++] = stride[i];
        }
    }
    return p;
}
static void reduce(const Call *c, const GpuReduce *p) {
    int64_t blocks = p->n_out < GPU_MOST_BLOCKS ? p->n_out : GPU_MOST_BLOCKS;
    gpu_blocks(c, "gr_reduce", blocks, p->n_in, p, sizeof *p);
}
static unsigned over(const Call *c) {
    const IntList *l = &((const ReduceAttrs *)c->attrs)->over;
    unsigned set = 0;
    for (int i = 0; i < l->n; i++) set |= 1u << l->v[i];
    return set;
}

static void sum(const Call *c) {
    GpuReduce p = axes_of(c, over(c));
    reduce(c, &p);
}
static void mean(const Call *c) {
    GpuReduce p = axes_of(c, over(c));
    p.scale = 1 / (double)p.n_in;
    reduce(c, &p);
}
static void std(const Call *c) {
    GpuReduce p = axes_of(c, over(c));
    p.scale = 1 / ((double)p.n_in - 1), p.deviation = 1;
    reduce(c, &p);
}
static void reduce_to(const Call *c) {
    const Type *x = c->in[0].type, *y = c->out[0].type;
    unsigned set = 0;
    for (int i = 0; i < x->rank; i++) {
        int k = i - (x->rank - y->rank);
        if (k < 0 || y->dim[k] != x->dim[i]) set |= 1u << i;
    }
    GpuReduce p = axes_of(c, set);
    reduce(c, &p);
}

CUDA_KERNEL(sum, gpu_types_fit, sum);
CUDA_KERNEL(mean, gpu_types_fit, mean);
CUDA_KERNEL(std, gpu_types_fit, std);
CUDA_KERNEL(reduce_to, gpu_types_fit, reduce_to);
