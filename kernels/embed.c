/* Rows of tables, their gradient, and the embedding of the timestep. */
#include <math.h>

#include "kernels/heavy.h"
#include "kernels/kernels.h"

/* Index i, cut to the rows there are; not a number: 0. */
static int64_t row_of(const Tensor *ids, int64_t i, int64_t rows) {
    double x = get(ids, i);
    return x >= (double)rows ? rows - 1 : x > 0 ? (int64_t)x : 0;
}

/* ids[N] table[R,W] -> y[N,W] */
static void embedding_row(void *arg, int64_t i, void *scratch) {
    const Call *c = arg;
    const Tensor *w = &c->in[1], *y = &c->out[0];
    const int64_t rows = w->type->dim[0], width = type_count(w->type) / rows;
    const char *from = w->data;
    char *to = y->data;
    (void)scratch;
    convert(to + (size_t)(i * width) * dtype_size(y->type->dtype), y->type->dtype,
            from + (size_t)(row_of(&c->in[0], i, rows) * width) *
                       dtype_size(w->type->dtype),
            w->type->dtype, width);
}
static void embedding_ref(const Call *c) {
    spread(c, type_count(c->in[0].type), embedding_row);
}

/* Columns of one piece of the gradient: rows must be added in the order of the ids. */
enum { COLUMNS = 64 };
/* ids[N] dy[N,W] -> dtable[R,W] */
static void embedding_grad_columns(void *arg, int64_t piece, void *scratch) {
    const Call *c = arg;
    const Tensor *dw = &c->out[0];
    const int64_t rows = dw->type->dim[0], width = type_count(dw->type) / rows;
    const int64_t first = piece * COLUMNS;
    const int64_t last = first + COLUMNS < width ? first + COLUMNS : width;
    (void)scratch;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = first; k < last; k++) put(dw, r * width + k, 0);
    for (int64_t i = 0; i < type_count(c->in[0].type); i++) {
        int64_t r = row_of(&c->in[0], i, rows);
        for (int64_t k = first; k < last; k++)
            put(dw, r * width + k,
                get(dw, r * width + k) + get(&c->in[1], i * width + k));
    }
}
static void embedding_grad_ref(const Call *c) {
    const Type *dw = c->out[0].type;
    const int64_t width = type_count(dw) / dw->dim[0];
    spread(c, (width + COLUMNS - 1) / COLUMNS, embedding_grad_columns);
}

/* t[N] -> y[N,W]; angles in f32, as the network was trained with */
static void timestep_row(void *arg, int64_t n, void *scratch) {
    const Call *c = arg;
    const int64_t width = type_last(c->out[0].type), half = width / 2;
    const float t = (float)get(&c->in[0], n), top = -logf(10000.0f);
    (void)scratch;
    for (int64_t i = 0; i < half; i++) {
        float angle = t * expf(top * (float)i / (float)half);
        put(&c->out[0], n * width + i, cos(angle));
        put(&c->out[0], n * width + half + i, sin(angle));
    }
}
static void timestep_ref(const Call *c) {
    spread(c, type_count(c->in[0].type), timestep_row);
}

const Kernel cpu_embedding[] = {{.name = "ref", .run = embedding_ref}, {0}};
const Kernel cpu_embedding_grad[] = {{.name = "ref", .run = embedding_grad_ref}, {0}};
const Kernel cpu_timestep_embedding[] = {{.name = "ref", .run = timestep_ref}, {0}};
