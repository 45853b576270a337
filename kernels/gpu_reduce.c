/* Launches of what adds up, in reduce.cu: over axes, over many tensors, along columns. */
#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* ---- over axes ---- */

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

/* ---- over many tensors ---- */

static int64_t pieces_of(int64_t n) {
    return (n + GPU_PIECE - 1) / GPU_PIECE;
}
static size_t many_work(const Sig *s) {
    int64_t n = 0;
    for (int i = 0; i < s->n_in; i++) n += pieces_of(type_count(&s->in[i]));
    return (size_t)n * sizeof(double);
}

static void over_all(const Call *c, int what) {
    int64_t done = 0;
    for (int i = 0; i < c->n_in;) {
        GpuMany p = {.what = what, .partial = (double *)c->work + done};
        int64_t blocks = 0;
        for (; i < c->n_in && p.n < GPU_MANY; i++, p.n++) {
            p.x[p.n] = gpu_tensor(&c->in[i]);
            p.count[p.n] = type_count(c->in[i].type);
            p.piece[p.n] = blocks;
            blocks += pieces_of(p.count[p.n]);
        }
        gpu_blocks(c, "gr_many", blocks, GPU_BLOCK, &p, sizeof p);
        done += blocks;
    }
    GpuManyEnd end = {c->work, done, gpu_tensor(&c->out[0]), what};
    gpu_blocks(c, "gr_many_end", 1, done, &end, sizeof end);
}
static void global_norm(const Call *c) {
    over_all(c, GPU_NORM_OF);
}
static void total(const Call *c) {
    over_all(c, GPU_SUM_OF);
}
static void finite_run(const Call *c) {
    over_all(c, GPU_NOT_FINITE);
}

#define WITH_WORK(op, need, body)                                                      \
    const Kernel cuda_##op[] = {                                                       \
        {.name = "cuda", .fits = gpu_types_load, .work = need, .run = body}, {0}}
WITH_WORK(global_norm, many_work, global_norm);
WITH_WORK(total, many_work, total);
WITH_WORK(finite, many_work, finite_run);

/* ---- columns and tables ---- */

static GpuColumns columns(const Call *c) {
    const Type *x = c->in[0].type;
    return (GpuColumns){.x = gpu_tensor(&c->in[0]),
                        .y = gpu_tensor(&c->out[0]),
                        .n = x->dim[0],
                        .rest = type_count(x) / x->dim[0]};
}
static void cumprod(const Call *c) {
    GpuColumns p = columns(c);
    gpu_elements(c, "gr_cumprod", p.rest, &p, sizeof p);
}
CUDA_KERNEL(cumprod, gpu_types_load, cumprod);

static size_t cumprod_grad_work(const Sig *s) {
    return (size_t)type_count(&s->in[0]) * sizeof(double);
}
static void cumprod_grad(const Call *c) {
    GpuColumns p = columns(c);
    p.dy = gpu_tensor(&c->in[1]), p.prefix = c->work;
    gpu_elements(c, "gr_cumprod_grad", p.rest, &p, sizeof p);
}
WITH_WORK(cumprod_grad, cumprod_grad_work, cumprod_grad);

static GpuInterp table(const Call *c) {
    return (GpuInterp){.x = gpu_tensor(&c->in[0]),
                       .at = gpu_tensor(&c->in[1]),
                       .y = gpu_tensor(&c->out[0]),
                       .n = c->in[0].type->dim[0],
                       .count = type_count(c->in[1].type)};
}
static void interp(const Call *c) {
    GpuInterp p = table(c);
    gpu_elements(c, "gr_interp", p.count, &p, sizeof p);
}
CUDA_KERNEL(interp, gpu_types_load, interp);

static void interp_grad(const Call *c) {
    GpuInterp p = table(c);
    p.dy = gpu_tensor(&c->in[2]), p.dat = gpu_tensor(&c->out[1]);
    gpu_elements(c, "gr_interp_grad_at", p.count, &p, sizeof p);
    gpu_elements(c, "gr_interp_grad", p.n, &p, sizeof p);
}
CUDA_KERNEL(interp_grad, gpu_types_load, interp_grad);
