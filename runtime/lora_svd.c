/* LoRA factors from singular value decompositions: ranks, clamping, and the merge by SVD
 * (see lora_merge.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/lora_merge.h"

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* The rules of sd-scripts' resize tool:
 *   ratio       singular values above s[0] / limit
 *   fro         until the norm of those kept is `limit` of the whole norm
 *   cumulative  until their sum is `limit` of the whole sum */
int64_t rank_choose(const RankRule *r, const double *s, int64_t n, double energy,
                    double sum, int64_t most) {
    int64_t k = 0;
    double got = 0;
    if (r->how == RANK_FIXED) k = most;
    if (r->how == RANK_RATIO)
        while (k < n && s[k] > s[0] / r->limit) k++;
    if (r->how == RANK_FRO)
        while (k < n && got < r->limit * r->limit * energy) got += s[k] * s[k], k++;
    if (r->how == RANK_CUMULATIVE)
        while (k < n && got < r->limit * sum) got += s[k], k++;
    k = least(k, most);
    return k < 1 ? 1 : k;
}

static int by_size(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* q-quantile of all entries of both factors (their signs count, as in sd-scripts), by
 * linear interpolation; then no entry is larger than it, or smaller than its negative. */
static bool clamp(LoraItem *m, double q, Err *e) {
    const int64_t n = type_count(&m->down_type), all = n + type_count(&m->up_type);
    float *x = malloc(sizeof *x * (size_t)all);
    if (!x) return err_fail(e, "no memory for %lld numbers", (long long)all);
    memcpy(x, m->down, sizeof *x * (size_t)n);
    memcpy(x + n, m->up, sizeof *x * (size_t)(all - n));
    qsort(x, (size_t)all, sizeof *x, by_size);
    const double at = (double)(all - 1) * q;
    const int64_t low = (int64_t)at, high = low + 1 < all ? low + 1 : low;
    const float most = (float)((double)x[low] +
                               (at - (double)low) * ((double)x[high] - (double)x[low]));
    free(x);
    for (int64_t i = 0; i < n; i++) m->down[i] = fminf(fmaxf(m->down[i], -most), most);
    for (int64_t i = 0; i < all - n; i++)
        m->up[i] = fminf(fmaxf(m->up[i], -most), most);
    return true;
}

/* Rows of u and v, scaled, into the item's factors. */
static void fill_factors(LoraItem *m, const Svd *s, int64_t r, bool original) {
    const int64_t out = s->m, row = s->n;
    for (int64_t k = 0; k < r; k++) {
        const double up = original ? s->s[k] : sqrt(s->s[k]), down = original ? 1 : up;
        for (int64_t i = 0; i < row; i++)
            m->down[k * row + i] = (float)(down * s->v[k * row + i]);
        for (int64_t o = 0; o < out; o++)
            m->up[o * r + k] = (float)(up * s->u[k * out + o]);
    }
}

bool lora_from_svd(LoraItem *m, Svd *s, const Type *like, double sum,
                   const SvdOptions *o, Err *e) {
    int64_t most = least(rank_most(&o->rank, like), s->k);
    if (o->original) most = least(most, like->dim[1]); /* in, without the window */
    if (!o->original) { /* triples that are nothing but rounding are no use */
        int64_t real = 1;
        while (real < s->k && s->s[real] > 1e-7 * s->s[0]) real++;
        most = least(most, real);
    }
    const int64_t r = rank_choose(&o->rank, s->s, s->k, s->energy, sum, most);
    lora_item_shape(m, like, s->m, r);
    fill_factors(m, s, r, o->original);
    m->alpha = (double)r;
    m->energy = s->energy;
    for (int64_t i = 0; i < r; i++) m->kept += s->s[i] * s->s[i];
    if (m->kept > m->energy)
        m->kept = m->energy; /* f32 sums differ in their last digits */
    return o->clamp >= 1 || clamp(m, o->clamp, e);
}

bool svd_of_factors(Arena *a, Device *dev, double *x, double *y, int64_t m, int64_t n,
                    int64_t r, const Type *like, const SvdOptions *o, Svd *out,
                    Err *e) {
    const int64_t most = least(m, n);
    if (o->original && least(rank_most(&o->rank, like), most) > r)
        return svd_of_rounded(a, dev, x, y, m, n, r, out, e);
    return svd_of_product(a, x, y, m, n, r, least(r, most), out, e);
}

/* ---- merging by SVD ---- */

typedef struct SvdMerge {
    const MergeInput *in;
    int n;
    const SvdOptions *o;
    const char **name;
    LoraSet *out;
} SvdMerge;

/* Scaled factors of one file, as vectors: x[at + k] column k of up, y[at + k] row k of down */
static void put_factors(const SvdMerge *s, const LoraModule *l, double f, int64_t at,
                        int64_t m, int64_t n, double *x, double *y, Device *dev) {
    Arena *t = arena_new();
    const int64_t r = l->rank;
    const float *up = lora_floats(t, dev, &l->up.type, l->up.data, s->o->precision);
    const float *down =
        lora_floats(t, dev, &l->down.type, l->down.data, s->o->precision);
    for (int64_t k = 0; k < r; k++) {
        for (int64_t i = 0; i < m; i++) x[(at + k) * m + i] = f * (double)up[i * r + k];
        for (int64_t i = 0; i < n; i++) y[(at + k) * n + i] = (double)down[k * n + i];
    }
    arena_free(t);
}

static bool svd_module(void *ctx, int i, Device *dev, Err *e) {
    SvdMerge *s = ctx;
    LoraItem *item = &s->out->item[i];
    item->arena = arena_new();
    item->name = arena_strdup(item->arena, s->name[i]);
    const LoraModule *first = NULL;
    int64_t r = 0;
    for (int k = 0; k < s->n; k++) {
        const LoraModule *x = lora_find(s->in[k].file, item->name);
        if (!x) continue;
        if (!first) first = x;
        r += x->rank;
    }
    const int64_t m = first->out, n = type_count(&first->down.type) / first->rank;
    Arena *t = arena_new();
    double *x = NEW(t, double, r *m), *y = NEW(t, double, r *n);
    int64_t at = 0;
    for (int k = 0; k < s->n; k++) {
        const LoraModule *l = lora_find(s->in[k].file, item->name);
        if (!l) continue;
        const double f =
            merge_ratio(&s->in[k], item->name) * l->alpha / (double)l->rank;
        put_factors(s, l, f, at, m, n, x, y, dev);
        at += l->rank;
    }
    Svd svd;
    bool ok = svd_of_factors(t, dev, x, y, m, n, r, &first->down.type, s->o, &svd, e);
    double sum = 0;
    for (int64_t k = 0; ok && k < svd.k; k++) sum += svd.s[k];
    ok = ok && lora_from_svd(item, &svd, &first->down.type, sum, s->o, e);
    arena_free(t);
    return ok;
}

bool lora_svd_merge(const MergeInput *in, int n, const SvdOptions *o, Device *dev,
                    LoraSet **out, Err *e) {
    Arena *a = arena_new();
    const LoraFile **file = NEW(a, const LoraFile *, n);
    for (int i = 0; i < n; i++) file[i] = in[i].file;
    int count;
    SvdMerge s = {.in = in, .n = n, .o = o, .name = lora_names(a, file, n, &count)};
    *out = s.out = lora_set_new(count);
    bool ok = merge_fits(in, n, e) && lora_work(dev, count, svd_module, &s, e);
    if (!ok) {
        lora_set_free(*out);
        *out = NULL;
    }
    arena_free(a);
    return ok;
}
