/* group_norm, layer_norm and their gradients. "rows": kernels/norm_fast.c. "ref": a layer
 * norm is a group norm of one pixel per sample and one group: both are the function
 * `normalise` on `pixels` rows of `width` channels that lie `stride` apart. Sums in double,
 * the variance in a second pass over x; a formula in double too. */
#include <math.h>
#include <string.h>

#include "kernels/heavy.h"
#include "kernels/kernels.h"
#include "kernels/norm_fast.h"

/* One set of values that share a mean. */
typedef struct Part {
    int64_t pixels, width, stride;
    int64_t at, channel; /* of its first element; of its first weight */
} Part;

static Part group_part(const Type *x, const NormAttrs *a, int64_t i) {
    const int64_t c = type_last(x), pixels = type_rows(x) / x->dim[0];
    const int64_t width = c / a->groups, first = i % a->groups * width;
    return (Part){pixels, width, c, i / a->groups * pixels * c + first, first};
}
static Part layer_part(const Type *x, int64_t row) {
    const int64_t c = type_last(x);
    return (Part){1, c, c, row * c, 0};
}

/* y[e + k] = f(h w[ch + k] + b[ch + k], second[e + k]) for n channels of one row,
 * h = (x - mean) rstd; f: the formula behind the norm, if there is one. */
static void finish_row(const Call *c, const Tensor *bias, const Tensor *second,
                       int64_t e, int64_t ch, int64_t n, double mean, double rstd,
                       void *scratch) {
    double v[TILE], d[TILE];
    for (int64_t at = 0; at < n; at += TILE) {
        const int64_t some = n - at < TILE ? n - at : TILE;
        for (int64_t k = 0; k < some; k++) {
            double h = (get(&c->in[0], e + at + k) - mean) * rstd;
            v[k] = h * get(&c->in[1], ch + at + k) + get(bias, ch + at + k);
            if (second) d[k] = get(second, e + at + k);
        }
        const void *var[] = {v, d};
        if (c->prep) epilogue_run(c->prep, &tile_f64, var, v, some, scratch);
        for (int64_t k = 0; k < some; k++) put(&c->out[0], e + at + k, v[k]);
    }
}

/* x w b -> y mean[i] rstd[i] */
static void normalise(const Call *c, Part z, int64_t i, void *scratch) {
    const Tensor *x = &c->in[0];
    const NormAttrs *a = c->attrs;
    const double n = (double)(z.pixels * z.width);
    double mean = 0, var = 0;
    for (int64_t p = 0; p < z.pixels; p++)
        for (int64_t k = 0; k < z.width; k++) mean += get(x, z.at + p * z.stride + k);
    mean /= n;
    for (int64_t p = 0; p < z.pixels; p++) {
        for (int64_t k = 0; k < z.width; k++) {
            double d = get(x, z.at + p * z.stride + k) - mean;
            var += d * d;
        }
    }
    const double rstd = 1 / sqrt(var / n + a->eps);
    for (int64_t p = 0; p < z.pixels; p++)
        finish_row(c, &c->in[2], NULL, z.at + p * z.stride, z.channel, z.width, mean,
                   rstd, scratch);
    put(&c->out[1], i, mean);
    put(&c->out[2], i, rstd);
}

/* What else is added to a gradient, among the inputs. */
enum { GROUP_RESIDUAL = 6, LAYER_RESIDUAL = 5 };

/* x w mean[i] rstd[i] dy (+ input `residual`) -> dx */
static void grad_part(const Call *c, Part z, int64_t i, int residual) {
    const Tensor *x = &c->in[0], *w = &c->in[1], *dy = &c->in[4];
    const double mean = get(&c->in[2], i), rstd = get(&c->in[3], i);
    const double n = (double)(z.pixels * z.width);
    double sum = 0, dot = 0; /* of d = dy * w, and of d * h */
    for (int64_t p = 0; p < z.pixels; p++) {
        for (int64_t k = 0; k < z.width; k++) {
            int64_t e = z.at + p * z.stride + k;
            double d = get(dy, e) * get(w, z.channel + k);
            sum += d, dot += d * (get(x, e) - mean) * rstd;
        }
    }
    for (int64_t p = 0; p < z.pixels; p++) {
        for (int64_t k = 0; k < z.width; k++) {
            int64_t e = z.at + p * z.stride + k;
            double d = get(dy, e) * get(w, z.channel + k),
                   h = (get(x, e) - mean) * rstd;
            const double more = given(c, residual) ? get(&c->in[residual], e) : 0;
            put(&c->out[0], e, rstd * (d - sum / n - h * dot / n) + more);
        }
    }
}

/* Gradients of weight and bias of channel k; `parts` statistics per `pixels` rows. */
static void grad_channel(const Call *c, int64_t k, int64_t pixels, int64_t parts) {
    const Tensor *x = &c->in[0], *dy = &c->in[4];
    const int64_t width = type_last(x->type), rows = type_rows(x->type);
    double dw = 0, db = 0;
    for (int64_t r = 0; r < rows; r++) {
        int64_t e = r * width + k, i = r / pixels * parts + k / (width / parts);
        dw += get(dy, e) * (get(x, e) - get(&c->in[2], i)) * get(&c->in[3], i);
        db += get(dy, e);
    }
    put(&c->out[1], k, dw);
    put(&c->out[2], k, db);
}

static int64_t group_parts(const Call *c) {
    return c->in[0].type->dim[0] * ((const NormAttrs *)c->attrs)->groups;
}

static void group_norm_part(void *arg, int64_t i, void *scratch) {
    const Call *c = arg;
    normalise(c, group_part(c->in[0].type, c->attrs, i), i, scratch);
}
static void group_norm_ref(const Call *c) {
    spread(c, group_parts(c), group_norm_part);
}

static void group_grad_part(void *arg, int64_t i, void *scratch) {
    const Call *c = arg;
    (void)scratch;
    grad_part(c, group_part(c->in[0].type, c->attrs, i), i, GROUP_RESIDUAL);
}
static void group_grad_channel(void *arg, int64_t k, void *scratch) {
    const Call *c = arg;
    const Type *x = c->in[0].type;
    (void)scratch;
    grad_channel(c, k, type_rows(x) / x->dim[0], ((const NormAttrs *)c->attrs)->groups);
}
/* dy by the normalised value of a group, where dx will stand. */
static void group_dy(void *arg, int64_t i, void *scratch) {
    const Call *c = arg;
    const Part z = group_part(c->in[0].type, c->attrs, i);
    for (int64_t p = 0; p < z.pixels; p++)
        finish_row(c, &c->in[5], &c->in[4], z.at + p * z.stride, z.channel, z.width,
                   get(&c->in[2], i), get(&c->in[3], i), scratch);
}
/* With a formula: dy by the normalised value is made in dx's place, read for weight and
 * bias first, then by the group that overwrites it. */
static void group_norm_grad_ref(const Call *c) {
    Tensor in[GROUP_RESIDUAL + 1];
    Call inner = *c;
    if (c->prep) {
        spread(c, group_parts(c), group_dy);
        memcpy(in, c->in, (size_t)c->n_in * sizeof *in);
        in[4] = c->out[0];
        inner.in = in;
    }
    if (c->n_out == 3) spread(&inner, type_last(c->in[0].type), group_grad_channel);
    spread(&inner, group_parts(c), group_grad_part);
}

static bool prepare_norm(Arena *a, const Sig *s, const void **prep, Err *e) {
    Program *p;
    if (!epilogue_prepare(a, ((const NormAttrs *)s->attrs)->f, 1, &p, e)) return false;
    *prep = p;
    return true;
}
static bool prepare_norm_grad(Arena *a, const Sig *s, const void **prep, Err *e) {
    Program *p;
    if (!epilogue_prepare(a, ((const NormAttrs *)s->attrs)->f, 2, &p, e)) return false;
    *prep = p;
    return true;
}

static void layer_norm_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    normalise(c, layer_part(c->in[0].type, row), row, scratch);
}
static void layer_norm_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), layer_norm_row);
}

static void layer_grad_row(void *arg, int64_t row, void *scratch) {
    const Call *c = arg;
    (void)scratch;
    grad_part(c, layer_part(c->in[0].type, row), row, LAYER_RESIDUAL);
}
static void layer_grad_channel(void *arg, int64_t k, void *scratch) {
    (void)scratch;
    grad_channel(arg, k, 1, 1);
}
static void layer_norm_grad_ref(const Call *c) {
    spread(c, type_rows(c->in[0].type), layer_grad_row);
    if (c->n_out == 3) spread(c, type_last(c->in[0].type), layer_grad_channel);
}

/* A residual is added on GPUs alone (passes/group.c). */
static bool group_grad_fast_fits(const Sig *s) {
    return norm_fast_fits(s) && s->n_in <= GROUP_RESIDUAL;
}
static bool layer_grad_fast_fits(const Sig *s) {
    return norm_fast_fits(s) && s->n_in <= LAYER_RESIDUAL;
}

/* clang-format off */
const Kernel cpu_group_norm[] = {
    { .name = "rows", .fits = norm_fast_fits, .work = group_norm_fast_work, .prepare = prepare_norm, .run = group_norm_fast },
    { .name = "ref", .prepare = prepare_norm, .run = group_norm_ref },
    { 0 }
};
const Kernel cpu_group_norm_grad[] = {
    { .name = "rows", .fits = group_grad_fast_fits, .work = group_norm_grad_fast_work, .prepare = prepare_norm_grad, .run = group_norm_grad_fast },
    { .name = "ref", .prepare = prepare_norm_grad, .run = group_norm_grad_ref },
    { 0 }
};
const Kernel cpu_layer_norm[] = {
    { .name = "rows", .fits = norm_fast_fits, .run = layer_norm_fast },
    { .name = "ref", .run = layer_norm_ref },
    { 0 }
};
const Kernel cpu_layer_norm_grad[] = {
    { .name = "rows", .fits = layer_grad_fast_fits, .work = layer_norm_grad_fast_work, .run = layer_norm_grad_fast },
    { .name = "ref", .run = layer_norm_grad_ref },
    { 0 }
};
/* clang-format on */
