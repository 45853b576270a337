/* Launches of what moves elements: casts, cuts, joins, walks, resizing, tables. The device
 * side stands in shape.cu, resize.cu and embed.cu. */
#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"
#include "kernels/layout.h"

static void cast_run(const Call *c) {
    gpu_convert(c, &c->in[0], &c->out[0]);
}
CUDA_KERNEL(cast, gpu_types_load, cast_run);

/* out[0] lies on in[0]: where it is not to be written, there is nothing to do. */
static void assign_run(const Call *c) {
    const Tensor *y = &c->out[0];
    GpuCopy p = {
        .x = gpu_tensor(&c->in[1]), .y = gpu_tensor(y), .n = type_count(y->type)};
    if (given(c, 2)) p.when = gpu_tensor(&c->in[2]);
    p.rank = 1, p.dim[0] = p.n, p.x_stride[0] = p.y_stride[0] = 1;
    gpu_elements(c, "gr_copy", p.n, &p, sizeof p);
}
CUDA_KERNEL(assign, gpu_types_load, assign_run);

/* ---- along one axis: [outer, d, inner] ---- */

typedef struct Split {
    int64_t outer, d, inner;
} Split;

static Split split_at(const Type *t, int64_t axis) {
    if (axis < 0) axis += t->rank;
    Split s = {1, t->dim[axis], 1};
    for (int i = 0; i < axis; i++) s.outer *= t->dim[i];
    for (int i = (int)axis + 1; i < t->rank; i++) s.inner *= t->dim[i];
    return s;
}

/* d places of the axis, from x_from of x to y_from of y; x without data: zeros. */
static void copy_part(const Call *c, GpuTensor x, Split sx, int64_t x_from, GpuTensor y,
                      Split sy, int64_t y_from, int64_t d) {
    if (d < 1) return;
    GpuCopy p = {.x = x, .y = y, .n = sy.outer * d * sy.inner, .rank = 2};
    p.x_start = x_from * sx.inner, p.y_start = y_from * sy.inner;
    p.dim[0] = sy.outer, p.dim[1] = d * sy.inner;
    p.x_stride[0] = sx.d * sx.inner, p.y_stride[0] = sy.d * sy.inner;
    p.x_stride[1] = p.y_stride[1] = 1;
    gpu_elements(c, "gr_copy", p.n, &p, sizeof p);
}

static void concat_run(const Call *c) {
    int64_t axis = ((const AxisAttrs *)c->attrs)->axis, at = 0;
    Split y = split_at(c->out[0].type, axis);
    for (int i = 0; i < c->n_in; i++) {
        Split x = split_at(c->in[i].type, axis);
        copy_part(c, gpu_tensor(&c->in[i]), x, 0, gpu_tensor(&c->out[0]), y, at, x.d);
        at += x.d;
    }
}
CUDA_KERNEL(concat, gpu_types_load, concat_run);

static void slice_run(const Call *c) {
    const SliceAttrs *at = c->attrs;
    copy_part(c, gpu_tensor(&c->in[0]), split_at(c->in[0].type, at->axis), at->from,
              gpu_tensor(&c->out[0]), split_at(c->out[0].type, at->axis), 0, at->count);
}
CUDA_KERNEL(slice, gpu_types_load, slice_run);

static void pad_run(const Call *c) {
    const PadAttrs *at = c->attrs;
    Split x = split_at(c->in[0].type, at->axis), y = split_at(c->out[0].type, at->axis);
    GpuTensor from = gpu_tensor(&c->in[0]), to = gpu_tensor(&c->out[0]), zeros = {0};
    copy_part(c, zeros, x, 0, to, y, 0, at->before);
    copy_part(c, from, x, 0, to, y, at->before, x.d);
    copy_part(c, zeros, x, 0, to, y, at->before + x.d, at->after);
}
CUDA_KERNEL(pad, gpu_types_load, pad_run);

/* x[B n, t, w] and y[B, n (t - 2) + 2, w] share all rows but the first and the last of each
 * chunk; of those the very first and the very last of a sample. */
static void shared_rows(const Call *c, const Tensor *x, const Tensor *y, bool to_y) {
    const int64_t n = ((const ChunkAttrs *)c->attrs)->chunks, rows = y->type->dim[1];
    const int64_t b = y->type->dim[0], t = x->type->dim[1], w = x->type->dim[2];
    const struct {
        int64_t x, y, chunks, rows;
    } part[] = {{1, 1, n, t - 2}, {0, 0, 1, 1}, {n * t - 1, rows - 1, 1, 1}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        GpuCopy p = {.x = gpu_tensor(to_y ? x : y), .y = gpu_tensor(to_y ? y : x)};
        int64_t *sx = to_y ? p.x_stride : p.y_stride,
                *sy = to_y ? p.y_stride : p.x_stride;
        *(to_y ? &p.x_start : &p.y_start) = part[i].x * w;
        *(to_y ? &p.y_start : &p.x_start) = part[i].y * w;
        p.n = b * part[i].chunks * part[i].rows * w, p.rank = 3;
        p.dim[0] = b, p.dim[1] = part[i].chunks, p.dim[2] = part[i].rows * w;
        sx[0] = n * t * w, sx[1] = t * w, sy[0] = rows * w, sy[1] = (t - 2) * w;
        sx[2] = sy[2] = 1;
        if (p.n) gpu_elements(c, "gr_copy", p.n, &p, sizeof p);
    }
}
static void join_run(const Call *c) {
    shared_rows(c, &c->in[0], &c->out[0], true);
}
CUDA_KERNEL(join_chunks, gpu_types_load, join_run);

static void join_grad_run(const Call *c) {
    GpuCopy zeros = {.y = gpu_tensor(&c->out[0]), .n = type_count(c->out[0].type)};
    zeros.rank = 1, zeros.dim[0] = zeros.n, zeros.y_stride[0] = 1;
    gpu_elements(c, "gr_copy", zeros.n, &zeros, sizeof zeros);
    shared_rows(c, &c->out[0], &c->in[0], false);
}
CUDA_KERNEL(join_chunks_grad, gpu_types_load, join_grad_run);

static void active_grad_run(const Call *c) {
    const ActiveAttrs *at = c->attrs;
    const Type *t = c->in[0].type;
    const Split s = split_at(t, at->axis);
    GpuActive p = {.dy = gpu_tensor(&c->in[0]), .dx = gpu_tensor(&c->out[0])};
    p.k = c->in[1].data;
    p.n = type_count(t), p.run = at->size * s.inner, p.slices = s.d / at->size;
    gpu_elements(c, "gr_active_grad", p.n, &p, sizeof p);
}
CUDA_KERNEL(active_grad, gpu_types_fit, active_grad_run);

static void index_run(const Call *c) {
    GpuCopy p = {.y = gpu_tensor(&c->out[0]), .n = type_count(c->out[0].type)};
    gpu_elements(c, "gr_index", p.n, &p, sizeof p);
}
CUDA_KERNEL(index, gpu_types_load, index_run);

/* ---- walks ---- */

static void walk(const Call *c, GpuCopy *p) {
    p->x = gpu_tensor(&c->in[0]), p->y = gpu_tensor(&c->out[0]);
    p->n = type_count(c->out[0].type);
    int64_t step = 1;
    for (int k = p->rank - 1; k >= 0; k--) {
        p->y_stride[k] = step;
        step *= p->dim[k];
    }
    gpu_elements(c, "gr_copy", p->n, p, sizeof *p);
}

static bool broadcast_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    *prep = layout_new(a, &s->out[0], s->in, 1);
    return true;
}
static void broadcast_run(const Call *c) {
    const Layout *l = c->prep;
    GpuCopy p = {.rank = l->rank};
    for (int k = 0; k < l->rank; k++)
        p.dim[k] = l->dim[k], p.x_stride[k] = l->stride[0][k];
    walk(c, &p);
}
const Kernel cuda_broadcast[] = {{.name = "cuda",
                                  .fits = gpu_types_load,
                                  .prepare = broadcast_prepare,
                                  .run = broadcast_run},
                                 {0}};

static void permute_run(const Call *c) {
    const IntList *order = &((const OrderAttrs *)c->attrs)->order;
    const Type *x = c->in[0].type, *y = c->out[0].type;
    int64_t stride[MAX_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->dim[i];
    }
    GpuCopy p = {.rank = y->rank};
    for (int k = 0; k < y->rank; k++)
        p.dim[k] = y->dim[k], p.x_stride[k] = stride[order->v[k]];
    walk(c, &p);
}
CUDA_KERNEL(permute, gpu_types_load, permute_run);

/* ---- resizing ---- */

static GpuResize sizes(const Call *c, const Type *small, const Type *large) {
    return (GpuResize){.x = gpu_tensor(&c->in[0]),
                       .y = gpu_tensor(&c->out[0]),
                       .batch = small->dim[0],
                       .from_h = small->dim[1],
                       .from_w = small->dim[2],
                       .to_h = large->dim[1],
                       .to_w = large->dim[2],
                       .channels = small->dim[3]};
}
static void resize_run(const Call *c) {
    GpuResize p = sizes(c, c->in[0].type, c->out[0].type);
    gpu_elements(c, "gr_resize", type_count(c->out[0].type), &p, sizeof p);
}
CUDA_KERNEL(resize, gpu_types_fit, resize_run);

static void resize_grad_run(const Call *c) {
    GpuResize p = sizes(c, c->out[0].type, c->in[0].type);
    gpu_elements(c, "gr_resize_grad", type_count(c->out[0].type), &p, sizeof p);
}
CUDA_KERNEL(resize_grad, gpu_types_fit, resize_grad_run);

/* ---- tables ---- */

/* rows of the table w: read by ids to make y, or the other way */
static GpuEmbedding table_of(const Call *c, const Type *w) {
    return (GpuEmbedding){.ids = gpu_tensor(&c->in[0]),
                          .table = gpu_tensor(&c->in[1]),
                          .y = gpu_tensor(&c->out[0]),
                          .n = type_count(c->in[0].type),
                          .rows = w->dim[0],
                          .width = type_count(w) / w->dim[0]};
}

static void embedding_run(const Call *c) {
    GpuEmbedding p = table_of(c, c->in[1].type);
    gpu_elements(c, "gr_embedding", p.n * p.width, &p, sizeof p);
}
CUDA_KERNEL(embedding, gpu_types_load, embedding_run);

static void embedding_grad_run(const Call *c) {
    GpuEmbedding p = table_of(c, c->out[0].type);
    gpu_elements(c, "gr_embedding_grad", p.width, &p, sizeof p);
}
CUDA_KERNEL(embedding_grad, gpu_types_load, embedding_grad_run);

static void timestep_run(const Call *c) {
    GpuTimestep p = {.t = gpu_tensor(&c->in[0]), .y = gpu_tensor(&c->out[0])};
    p.n = type_count(c->in[0].type), p.width = type_last(c->out[0].type);
    gpu_elements(c, "gr_timestep", p.n * (p.width / 2), &p, sizeof p);
}
CUDA_KERNEL(timestep_embedding, gpu_types_load, timestep_run);

static void octaves_run(const Call *c) {
    const Type *x = c->in[0].type;
    GpuOctaves p = {.x = gpu_tensor(&c->in[0]), .y = gpu_tensor(&c->out[0])};
    p.draws = gpu_tensor(&c->in[1]), p.fine = gpu_tensor(&c->in[2]);
    p.b = x->dim[0], p.h = x->dim[1], p.w = x->dim[2], p.ch = x->dim[3];
    p.k = c->in[1].type->dim[0];
    p.discount = ((const OctavesAttrs *)c->attrs)->discount;
    gpu_elements(c, "gr_octaves", type_count(x), &p, sizeof p);
}
CUDA_KERNEL(octaves, gpu_types_fit, octaves_run);
