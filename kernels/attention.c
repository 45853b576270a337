/* Attention and its gradient. "flash": kernels/flash.c. "ref": one row of the result at a
 * time, summed in double. Row t of head h of sample s of a q, k, v or y stands at
 * ((s * tokens + t) * heads + h) * d. */
#include <math.h>

#include "kernels/flash.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

static double dot(const Tensor *a, int64_t at, const Tensor *b, int64_t bt, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++) sum += get(a, at + i) * get(b, bt + i);
    return sum;
}
static AttentionSize size_of(const Call *c) {
    return attention_size(c->in[0].type, c->in[1].type,
                          ((const AttentionAttrs *)c->attrs)->heads);
}
/* Keys that query i sees. */
static int64_t seen(const Call *c, const AttentionSize *z, int64_t i) {
    return ((const AttentionAttrs *)c->attrs)->causal && i + 1 < z->m ? i + 1 : z->m;
}

static void attention_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const AttentionSize z = size_of(c);
    const int64_t i = row % z.n, h = row / z.n % z.heads, s = row / z.n / z.heads;
    const int64_t at = ((s * z.n + i) * z.heads + h) * z.d, most = seen(c, &z, i);
    const int64_t step = z.heads * z.d, first = s * z.m * step + h * z.d;
    const double scale = 1 / sqrt((double)z.d);
    double *y = scratch, top = -INFINITY, sum = 0;
    for (int64_t k = 0; k < z.d; k++) y[k] = 0;
    for (int64_t j = 0; j < most; j++)
        top = fmax(top, scale * dot(&c->in[0], at, &c->in[1], first + j * step, z.d));
    for (int64_t j = 0; j < most; j++) {
        double p =
            exp(scale * dot(&c->in[0], at, &c->in[1], first + j * step, z.d) - top);
        sum += p;
        for (int64_t k = 0; k < z.d; k++)
            y[k] += p * get(&c->in[2], first + j * step + k);
    }
    for (int64_t k = 0; k < z.d; k++) put(&c->out[0], at + k, y[k] / sum);
    put(&c->out[1], row, top + log(sum));
}
static void attention_ref(const Call *c) {
    spread(c, type_count(c->out[1].type), attention_row);
}

/* p and ds of query i (at `at`) and the key at `kt`. */
static double softmax_grad(const Call *c, const AttentionSize *z, int64_t at,
                           int64_t kt, double lse, double *p) {
    const double scale = 1 / sqrt((double)z->d);
    *p = exp(scale * dot(&c->in[0], at, &c->in[1], kt, z->d) - lse);
    double dp = dot(&c->in[5], at, &c->in[2], kt, z->d);
    return scale * *p * (dp - dot(&c->in[5], at, &c->in[3], at, z->d));
}

static void grad_query(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const AttentionSize z = size_of(c);
    const int64_t i = row % z.n, h = row / z.n % z.heads, s = row / z.n / z.heads;
    const int64_t at = ((s * z.n + i) * z.heads + h) * z.d, most = seen(c, &z, i);
    const int64_t step = z.heads * z.d, first = s * z.m * step + h * z.d;
    double *dq = scratch, p;
    for (int64_t k = 0; k < z.d; k++) dq[k] = 0;
    for (int64_t j = 0; j < most; j++) {
        double ds = softmax_grad(c, &z, at, first + j * step, get(&c->in[4], row), &p);
        for (int64_t k = 0; k < z.d; k++)
            dq[k] += ds * get(&c->in[1], first + j * step + k);
    }
    for (int64_t k = 0; k < z.d; k++) put(&c->out[0], at + k, dq[k]);
}

static void grad_key(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    const AttentionSize z = size_of(c);
    const int64_t j = row % z.m, h = row / z.m % z.heads, s = row / z.m / z.heads;
    const int64_t step = z.heads * z.d, kt = (s * z.m + j) * step + h * z.d;
    double *dk = scratch, *dv = dk + z.d, p;
    for (int64_t k = 0; k < z.d; k++) dk[k] = dv[k] = 0;
    for (int64_t i = 0; i < z.n; i++) {
        if (j >= seen(c, &z, i)) continue;
        int64_t at = (s * z.n + i) * step + h * z.d;
        double lse = get(&c->in[4], (s * z.heads + h) * z.n + i);
        double ds = softmax_grad(c, &z, at, kt, lse, &p);
        for (int64_t k = 0; k < z.d; k++) {
            dk[k] += ds * get(&c->in[0], at + k);
            dv[k] += p * get(&c->in[5], at + k);
        }
    }
    for (int64_t k = 0; k < z.d; k++) {
        put(&c->out[1], kt + k, dk[k]);
        put(&c->out[2], kt + k, dv[k]);
    }
}
static void attention_grad_ref(const Call *c) {
    const AttentionSize z = size_of(c);
    spread(c, z.b * z.heads * z.n, grad_query);
    spread(c, z.b * z.heads * z.m, grad_key);
}

/* clang-format off */
const Kernel cpu_attention[] = {
    { .name = "flash", .fits = flash_fits, .work = flash_work, .run = flash_run },
    { .name = "ref", .run = attention_ref },
    { 0 }
};
const Kernel cpu_attention_grad[] = {
    { .name = "flash", .fits = flash_fits, .work = flash_grad_work, .run = flash_grad_run },
    { .name = "ref", .run = attention_grad_ref },
    { 0 }
};
/* clang-format on */
