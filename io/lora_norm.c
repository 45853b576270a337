/* Inner products of LoRA modules from their factors alone. With A = s_a U_a D_a and
 * B = s_b U_b D_b:  <A, B> = s_a s_b sum_ij (U_b^T U_a)_ij (D_b D_a^T)_ij,
 * two small matrices [rank_b, rank_a], in double. */
#include "io/lora_read.h"

bool lora_same_shape(const LoraModule *a, const LoraModule *b) {
    return a->in == b->in && a->out == b->out && a->kernel_h == b->kernel_h &&
           a->kernel_w == b->kernel_w;
}

/* n elements of a factor from `from` on, as doubles. */
static void widen(double *to, const TensorEntry *x, int64_t from, int64_t n) {
    convert(to, F64, (const char *)x->data + (size_t)from * dtype_size(x->type.dtype),
            x->type.dtype, n);
}

/* out[ra][rb] += sum over rows of a[row][ra] * b[row][rb]; both [rows, rank] */
static void add_up(double *out, const LoraModule *a, const LoraModule *b, double *x,
                   double *y) {
    for (int64_t row = 0; row < a->out; row++) {
        widen(x, &a->up, row * a->rank, a->rank);
        widen(y, &b->up, row * b->rank, b->rank);
        for (int64_t i = 0; i < a->rank; i++)
            for (int64_t j = 0; j < b->rank; j++) out[i * b->rank + j] += x[i] * y[j];
    }
}

/* sum over columns of a[ra][col] * b[rb][col], weighed with up and summed; y: all of b */
static double weigh_down(const double *up, const LoraModule *a, const LoraModule *b,
                         double *x, double *y) {
    int64_t cols = a->in * a->kernel_h * a->kernel_w;
    double sum = 0;
    widen(y, &b->down, 0, b->rank * cols);
    for (int64_t i = 0; i < a->rank; i++) {
        widen(x, &a->down, i * cols, cols);
        for (int64_t j = 0; j < b->rank; j++) {
            const double *row = y + j * cols;
            double dot = 0;
            for (int64_t c = 0; c < cols; c++) dot += x[c] * row[c];
            sum += up[i * b->rank + j] * dot;
        }
    }
    return sum;
}

double lora_dot(const LoraModule *a, const LoraModule *b) {
    Arena *scratch = arena_new();
    int64_t cols = a->in * a->kernel_h * a->kernel_w;
    double *x = NEW(scratch, double, cols > a->rank ? cols : a->rank);
    double *y = NEW(scratch, double, b->rank *cols);
    double *up = NEW(scratch, double, a->rank * b->rank);
    add_up(up, a, b, x, y);
    double sum = weigh_down(up, a, b, x, y);
    arena_free(scratch);
    return sum * (a->alpha / (double)a->rank) * (b->alpha / (double)b->rank);
}
