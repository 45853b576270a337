/* Sums in fixed blocks: partial sums in f64, one per block of the reduced elements, added
 * in order at the end. Which worker makes which partial sum changes nothing. */
#include "kernels/kernels.h"
#include "kernels/program.h"

#include <math.h>
#include <string.h>

/* ---- the axes of one reduction, merged where they lie behind each other ---- */

typedef struct Axes {
    int rank;
    int64_t dim[MAX_RANK], stride[MAX_RANK], count;
} Axes;

typedef struct Reduction {
    Axes out, in;          /* kept and reduced axes, strides in x */
    int64_t per, chunks;   /* reduced elements per partial sum; partial sums */
    int64_t width, widths; /* outputs per piece of work; pieces */
    bool across;           /* reduced elements lie side by side */
    double scale;
} Reduction;

/* Outputs of one piece of work; pieces that one reduction is cut into when few outputs
 * have many elements: bounds the memory for partial sums. */
enum { WIDTH = 1024, MOST_PIECES = 256 };

static void axes_add(Axes *a, int64_t dim, int64_t stride) {
    a->count *= dim;
    if (dim == 1) return;
    if (a->rank && a->stride[a->rank - 1] == stride * dim) {
        a->dim[a->rank - 1] *= dim;
        a->stride[a->rank - 1] = stride;
    } else {
        a->dim[a->rank] = dim;
        a->stride[a->rank++] = stride;
    }
}

/* set: bit i, axis i of x is reduced */
static Reduction *reduction_new(Arena *a, const Type *x, unsigned set, bool mean) {
    Reduction *r = NEW(a, Reduction, 1);
    int64_t stride[MAX_RANK], step = 1;
    for (int i = x->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->dim[i];
    }
    r->out.count = r->in.count = 1;
    for (int i = 0; i < x->rank; i++)
        axes_add(set & 1u << i ? &r->in : &r->out, x->dim[i], stride[i]);
    r->width = r->out.count < WIDTH ? r->out.count : WIDTH;
    r->widths = (r->out.count + r->width - 1) / r->width;
    r->per = BLOCK / r->width;
    int64_t most = MOST_PIECES / r->widths > 1 ? MOST_PIECES / r->widths : 1;
    int64_t least = (r->in.count + most - 1) / most;
    if (r->per < least) r->per = least;
    if (r->per < 1) r->per = 1;
    r->chunks = (r->in.count + r->per - 1) / r->per;
    r->across = r->in.rank && r->in.stride[r->in.rank - 1] == 1;
    r->scale = mean ? 1 / (double)r->in.count : 1;
    return r;
}

/* Element number i of the axes, and how many more lie behind it on the last one. */
static int64_t place(const Axes *a, int64_t i, int64_t *run) {
    int64_t at = 0;
    *run = 1;
    for (int k = a->rank - 1; k >= 0; k--) {
        int64_t j = i % a->dim[k];
        if (k == a->rank - 1) *run = a->dim[k] - j;
        at += j * a->stride[k];
        i /= a->dim[k];
    }
    return at;
}

typedef struct Work {
    const Call *c;
    const Reduction *r;
    double *partial, *mean; /* [chunks, out]; [out] or NULL */
} Work;

/* Eight running sums: one order of additions on every machine, and vector code. */
static double sum_of(const double *x, int64_t n, const double *mean) {
    double lane[8] = {0};
    double m = mean ? *mean : 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) {
            double v = x[i + k] - m;
            lane[k] += mean ? v * v : v;
        }
    for (int k = 0; i < n; i++, k++) {
        double v = x[i] - m;
        lane[k] += mean ? v * v : v;
    }
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) +
           ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

static void load(const Tensor *x, int64_t at, int64_t n, double *tile) {
    size_t width = dtype_size(x->type->dtype);
    tile_f64.load(tile, (const char *)x->data + (size_t)at * width, x->type->dtype, n);
}

/* One output after the other, its elements side by side. */
static void sums_across(const Work *w, int64_t from, int64_t to, int64_t first,
                        int64_t end, double *sum, double *tile) {
    for (int64_t o = first; o < end; o++) {
        int64_t run;
        int64_t base = place(&w->r->out, o, &run);
        double total = 0;
        for (int64_t i = from; i < to;) {
            int64_t at = place(&w->r->in, i, &run), n = to - i < run ? to - i : run;
            if (n > TILE) n = TILE;
            load(&w->c->in[0], base + at, n, tile);
            total += sum_of(tile, n, w->mean ? &w->mean[o] : NULL);
            i += n;
        }
        sum[o - first] = total;
    }
}

/* One reduced element after the other, added to all outputs. */
static void sums_along(const Work *w, int64_t from, int64_t to, int64_t first,
                       int64_t end, double *sum, double *tile) {
    memset(sum, 0, (size_t)(end - first) * sizeof *sum);
    for (int64_t i = from; i < to; i++) {
        int64_t run;
        int64_t base = place(&w->r->in, i, &run);
        for (int64_t o = first; o < end;) {
            int64_t at = place(&w->r->out, o, &run), n = end - o < run ? end - o : run;
            if (n > TILE) n = TILE;
            bool dense = w->r->out.rank && w->r->out.stride[w->r->out.rank - 1] == 1;
            if (!dense) n = 1;
            load(&w->c->in[0], base + at, n, tile);
            double *s = sum + (o - first);
            const double *mean = w->mean ? w->mean + o : NULL;
            for (int64_t k = 0; k < n && !mean; k++) s[k] += tile[k];
            for (int64_t k = 0; k < n && mean; k++)
                s[k] += (tile[k] - mean[k]) * (tile[k] - mean[k]);
            o += n;
        }
    }
}

static void partial_block(void *arg, int64_t index, void *scratch) {
    const Work *w = arg;
    const Reduction *r = w->r;
    int64_t chunk = index / r->widths, from = chunk * r->per, first = index % r->widths;
    first *= r->width;
    int64_t to = from + r->per < r->in.count ? from + r->per : r->in.count;
    int64_t end = first + r->width < r->out.count ? first + r->width : r->out.count;
    double *sum = w->partial + chunk * r->out.count + first;
    if (r->across)
        sums_across(w, from, to, first, end, sum, scratch);
    else
        sums_along(w, from, to, first, end, sum, scratch);
}

static void partial_sums(const Work *w) {
    w->c->dev->par(w->c->dev, w->r->chunks * w->r->widths, partial_block,
                   (void *)(uintptr_t)w);
}

static double total(const Work *w, int64_t o) {
    double sum = 0;
    for (int64_t k = 0; k < w->r->chunks; k++)
        sum += w->partial[k * w->r->out.count + o];
    return sum * w->r->scale;
}

static void store_totals(const Work *w, bool root) {
    const Tensor *y = &w->c->out[0];
    for (int64_t o = 0; o < w->r->out.count; o++) {
        double t = total(w, o);
        if (root) t = sqrt(t);
        char *dst = (char *)y->data + (size_t)o * dtype_size(y->type->dtype);
        tile_f64.store(dst, y->type->dtype, &t, 1);
    }
}

static void reduce_run(const Call *c) {
    Work w = {c, c->prep, c->work, NULL};
    partial_sums(&w);
    store_totals(&w, false);
}

/* Two passes: means, then squares of what is left. */
static void std_run(const Call *c) {
    const Reduction *r = c->prep;
    Reduction first = *r, second = *r;
    first.scale = 1 / (double)r->in.count;
    second.scale = 1 / ((double)r->in.count - 1);
    Work w = {c, &first, c->work, NULL};
    partial_sums(&w);
    double *mean = w.partial + r->chunks * r->out.count;
    for (int64_t o = 0; o < r->out.count; o++) mean[o] = total(&w, o);
    w.mean = mean;
    w.r = &second;
    partial_sums(&w);
    store_totals(&w, true);
}

static unsigned over_set(const Sig *s) {
    const IntList *over = &((const ReduceAttrs *)s->attrs)->over;
    unsigned set = 0;
    for (int i = 0; i < over->n; i++) set |= 1u << over->v[i];
    return set;
}

static unsigned reduce_to_set(const Sig *s) {
    const Type *x = &s->in[0], *y = &s->out[0];
    unsigned set = 0;
    for (int i = 0; i < x->rank; i++) {
        int k = i - (x->rank - y->rank);
        if (k < 0 || y->dim[k] != x->dim[i]) set |= 1u << i;
    }
    return set;
}

static bool sum_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    *prep = reduction_new(a, &s->in[0], over_set(s), false);
    return true;
}
static bool mean_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    *prep = reduction_new(a, &s->in[0], over_set(s), true);
    return true;
}
static bool reduce_to_prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    (void)e;
    *prep = reduction_new(a, &s->in[0], reduce_to_set(s), false);
    return true;
}

/* Partial sums, and the means of std. */
static size_t reduce_bytes(const Sig *s, unsigned set) {
    Arena *a = arena_new();
    const Reduction *r = reduction_new(a, &s->in[0], set, false);
    size_t n = (size_t)((r->chunks + 1) * r->out.count);
    arena_free(a);
    return n * sizeof(double);
}
static size_t over_work(const Sig *s) {
    return reduce_bytes(s, over_set(s));
}
static size_t reduce_to_work(const Sig *s) {
    return reduce_bytes(s, reduce_to_set(s));
}

const Kernel cpu_sum[] = {
    {.name = "ref", .work = over_work, .prepare = sum_prepare, .run = reduce_run}, {0}};
const Kernel cpu_mean[] = {
    {.name = "ref", .work = over_work, .prepare = mean_prepare, .run = reduce_run},
    {0}};
const Kernel cpu_std[] = {
    {.name = "ref", .work = over_work, .prepare = sum_prepare, .run = std_run}, {0}};
const Kernel cpu_reduce_to[] = {{.name = "ref",
                                 .work = reduce_to_work,
                                 .prepare = reduce_to_prepare,
                                 .run = reduce_run},
                                {0}};

/* ---- along the first axis: x[n, rest] ---- */

static void cumprod_run(const Call *c) {
    const Tensor *x = &c->in[0], *y = &c->out[0];
    int64_t n = x->type->dim[0], rest = type_count(x->type) / n;
    size_t width = dtype_size(y->type->dtype);
    for (int64_t k = 0; k < rest; k++) {
        double product = 1, v;
        for (int64_t i = 0; i < n; i++) {
            load(x, i * rest + k, 1, &v);
            product *= v;
            char *dst = (char *)y->data + (size_t)(i * rest + k) * width;
            tile_f64.store(dst, y->type->dtype, &product, 1);
        }
    }
}

const Kernel cpu_cumprod[] = {{.name = "ref", .run = cumprod_run}, {0}};

/* dx[k] = prefix(k) * s(k), with s(k) = dy[k] + x[k+1] s(k+1): no division, so zeros do no
 * harm. prefix(k) is the product of x[0] ... x[k-1]. */
static void cumprod_grad_run(const Call *c) {
    const Tensor *x = &c->in[0], *dy = &c->in[1], *dx = &c->out[0];
    int64_t n = x->type->dim[0], rest = type_count(x->type) / n;
    size_t width = dtype_size(dx->type->dtype);
    double *prefix = c->work;
    for (int64_t k = 0; k < rest; k++) {
        double product = 1, v, next = 0, d, tail = 0;
        for (int64_t i = 0; i < n; i++) {
            prefix[i] = product;
            load(x, i * rest + k, 1, &v);
            product *= v;
        }
        for (int64_t i = n - 1; i >= 0; i--) {
            load(dy, i * rest + k, 1, &d);
            tail = d + next * tail;
            load(x, i * rest + k, 1, &next);
            double g = prefix[i] * tail;
            char *dst = (char *)dx->data + (size_t)(i * rest + k) * width;
            tile_f64.store(dst, dx->type->dtype, &g, 1);
        }
    }
}

static size_t cumprod_grad_work(const Sig *s) {
    return (size_t)s->in[0].dim[0] * sizeof(double);
}

const Kernel cpu_cumprod_grad[] = {
    {.name = "ref", .work = cumprod_grad_work, .run = cumprod_grad_run}, {0}};

/* ---- interp: table x[n], at[...] ---- */

typedef struct Between {
    int64_t low, high;
    double f;
} Between;

static Between between(const Tensor *at, int64_t i, int64_t n) {
    double p;
    load(at, i, 1, &p);
    double l = floor(p);
    if (!(l > 0)) l = 0;
    if (l > (double)(n - 1)) l = (double)(n - 1);
    Between b = {(int64_t)l, (int64_t)l, p - l};
    if (b.high < n - 1) b.high++;
    return b;
}

static void interp_run(const Call *c) {
    const Tensor *x = &c->in[0], *y = &c->out[0];
    for (int64_t i = 0; i < type_count(y->type); i++) {
        Between b = between(&c->in[1], i, x->type->dim[0]);
        double low, high;
        load(x, b.low, 1, &low);
        load(x, b.high, 1, &high);
        double v = low * (1 - b.f) + high * b.f;
        tile_f64.store((char *)y->data + (size_t)i * dtype_size(y->type->dtype),
                       y->type->dtype, &v, 1);
    }
}

const Kernel cpu_interp[] = {{.name = "ref", .run = interp_run}, {0}};

static void interp_grad_run(const Call *c) {
    const Tensor *x = &c->in[0], *at = &c->in[1], *dx = &c->out[0], *dat = &c->out[1];
    int64_t n = x->type->dim[0];
    double *sum = c->work;
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t i = 0; i < type_count(at->type); i++) {
        Between b = between(at, i, n);
        double low, high, dy;
        load(x, b.low, 1, &low);
        load(x, b.high, 1, &high);
        load(&c->in[2], i, 1, &dy);
        sum[b.low] += dy * (1 - b.f);
        sum[b.high] += dy * b.f;
        double d = dy * (high - low);
        tile_f64.store((char *)dat->data + (size_t)i * dtype_size(dat->type->dtype),
                       dat->type->dtype, &d, 1);
    }
    tile_f64.store(dx->data, dx->type->dtype, sum, n);
}

static size_t interp_grad_work(const Sig *s) {
    return (size_t)s->in[0].dim[0] * sizeof(double);
}

const Kernel cpu_interp_grad[] = {
    {.name = "ref", .work = interp_grad_work, .run = interp_grad_run}, {0}};

/* ---- over many tensors, in blocks of BLOCK elements ---- */

static int64_t many_blocks(const Call *c, int64_t index, int *input) {
    int i = 0;
    for (; i < c->n_in; i++) {
        int64_t n = blocks_of(type_count(c->in[i].type));
        if (index < n) break;
        index -= n;
    }
    *input = i;
    return index;
}

enum { PIECE_NORM, PIECE_SUM, PIECE_NOT_FINITE };

static double piece_of(const Call *c, int64_t index, int what, double *tile) {
    int input;
    int64_t block = many_blocks(c, index, &input);
    const Tensor *x = &c->in[input];
    int64_t end = (block + 1) * BLOCK, count = type_count(x->type);
    if (end > count) end = count;
    double sum = 0, zero = 0;
    for (int64_t i = block * BLOCK; i < end; i += TILE) {
        int64_t n = end - i < TILE ? end - i : TILE;
        load(x, i, n, tile);
        if (what == PIECE_NORM) sum += sum_of(tile, n, &zero);
        for (int64_t k = 0; k < n && what == PIECE_SUM; k++) sum += tile[k];
        for (int64_t k = 0; k < n && what == PIECE_NOT_FINITE; k++)
            sum += isfinite(tile[k]) ? 0 : 1;
    }
    return sum;
}

static void norm_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    ((double *)c->work)[index] = piece_of(c, index, PIECE_NORM, scratch);
}
static void total_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    ((double *)c->work)[index] = piece_of(c, index, PIECE_SUM, scratch);
}
static void finite_block(void *arg, int64_t index, void *scratch) {
    const Call *c = arg;
    ((double *)c->work)[index] = piece_of(c, index, PIECE_NOT_FINITE, scratch);
}

static double over_all(const Call *c, void (*block)(void *, int64_t, void *)) {
    int64_t n = 0;
    double sum = 0;
    for (int i = 0; i < c->n_in; i++) n += blocks_of(type_count(c->in[i].type));
    c->dev->par(c->dev, n, block, (void *)(uintptr_t)c);
    for (int64_t i = 0; i < n; i++) sum += ((double *)c->work)[i];
    return sum;
}

static void global_norm_run(const Call *c) {
    *(float *)c->out[0].data = (float)sqrt(over_all(c, norm_block));
}
static void total_run(const Call *c) {
    *(double *)c->out[0].data = over_all(c, total_block);
}
static void finite_run(const Call *c) {
    *(float *)c->out[0].data = over_all(c, finite_block) == 0;
}

static size_t many_work(const Sig *s) {
    int64_t n = 0;
    for (int i = 0; i < s->n_in; i++) n += blocks_of(type_count(&s->in[i]));
    return (size_t)n * sizeof(double);
}

const Kernel cpu_global_norm[] = {
    {.name = "ref", .work = many_work, .run = global_norm_run}, {0}};
const Kernel cpu_total[] = {{.name = "ref", .work = many_work, .run = total_run}, {0}};
const Kernel cpu_finite[] = {{.name = "ref", .work = many_work, .run = finite_run},
                             {0}};
