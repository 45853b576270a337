/* Rows of a table, the table's gradient, and the embedding of the timestep. */
#include "kernels/gpu.h"

/* Index i, cut to the rows there are; not a number: 0. */
static __device__ inline int64_t row_of(const GpuEmbedding &c, int64_t i) {
    const float x = load(c.ids, i);
    return x >= (float)c.rows ? c.rows - 1 : x > 0 ? (int64_t)x : 0;
}

extern "C" __global__ void gr_embedding(GpuEmbedding c) {
    for (int64_t e = first_element(); e < c.n * c.width; e += all_threads())
        store(c.y, e, load(c.table, row_of(c, e / c.width) * c.width + e % c.width));
}
GR_KERNEL(gr_embedding, GpuEmbedding)

/* table: dy. A thread owns a column, so that rows are added in the order of the ids. */
extern "C" __global__ void gr_embedding_grad(GpuEmbedding c) {
    for (int64_t k = first_element(); k < c.width; k += all_threads()) {
        for (int64_t r = 0; r < c.rows; r++) store(c.y, r * c.width + k, 0);
        for (int64_t i = 0; i < c.n; i++) {
            const int64_t e = row_of(c, i) * c.width + k;
            store(c.y, e, load(c.y, e) + load(c.table, i * c.width + k));
        }
    }
}
GR_KERNEL(gr_embedding_grad, GpuEmbedding)

/* cos and sin of t 10000^(-i / half), angles in f32, as the network was trained with */
extern "C" __global__ void gr_timestep(GpuTimestep c) {
    const int64_t half = c.width / 2;
    const float top = -logf(10000.0f);
    for (int64_t e = first_element(); e < c.n * half; e += all_threads()) {
        const int64_t n = e / half, i = e % half;
        const float angle = load(c.t, n) * expf(top * (float)i / (float)half);
        store(c.y, n * c.width + i, (float)cos((double)angle));
        store(c.y, n * c.width + half + i, (float)sin((double)angle));
    }
}
GR_KERNEL(gr_timestep, GpuTimestep)
