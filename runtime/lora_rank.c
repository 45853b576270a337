/* Changing the rank of a LoRA (see lora_rank.h). */
#include "runtime/lora_rank.h"

#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

int64_t lora_largest_rank(const LoraFile *f) {
    int64_t r = 0;
    for (int i = 0; i < f->n; i++)
        if (f->module[i].rank > r) r = f->module[i].rank;
    return r;
}

/* ---- parts of a DyLoRA ---- */

static TensorOut cut_down(Arena *a, const LoraModule *m, int64_t r) {
    Type t = m->down.type;
    t.dim[0] = r; /* rows come first: the data is a prefix */
    return (TensorOut){arena_printf(a, "%s.lora_down.weight", m->name), t,
                       m->down.data};
}

static TensorOut cut_up(Arena *a, const LoraModule *m, int64_t r) {
    Type t = m->up.type;
    const size_t size = dtype_size(t.dtype), all = (size_t)m->rank * size,
                 some = (size_t)r * size;
    t.dim[1] = r;
    char *data = arena_alloc(a, (size_t)type_count(&t), size);
    for (int64_t o = 0; o < m->out; o++)
        memcpy(data + (size_t)o * some, (const char *)m->up.data + (size_t)o * all,
               some);
    return (TensorOut){arena_printf(a, "%s.lora_up.weight", m->name), t, data};
}

static TensorOut cut_alpha(Arena *a, const LoraModule *m, int64_t r, bool paper) {
    const Type *t = &m->has_alpha->type;
    const double alpha = paper ? m->alpha * (double)r / (double)m->rank : m->alpha;
    const char *name = arena_printf(a, "%s.alpha", m->name);
    if (!paper) return (TensorOut){name, *t, m->has_alpha->data};
    Type stored = *t;
    if (!dtype_is_float(t->dtype))
        stored.dtype = F32; /* a part may be no whole number */
    void *data = arena_alloc(a, 1, dtype_size(stored.dtype));
    convert(data, stored.dtype, &alpha, F64, 1);
    return (TensorOut){name, stored, data};
}

void dylora_cut(Arena *a, const LoraFile *f, int64_t rank, bool paper, TensorOut **out,
                int *n) {
    *out = NEW(a, TensorOut, 3 * f->n);
    *n = 0;
    for (int i = 0; i < f->n; i++) {
        const LoraModule *m = &f->module[i];
        const int64_t r = least(rank, m->rank);
        (*out)[(*n)++] = cut_down(a, m, r);
        (*out)[(*n)++] = cut_up(a, m, r);
        if (m->has_alpha) (*out)[(*n)++] = cut_alpha(a, m, r, paper);
    }
}

/* ---- by SVD ---- */

typedef struct Resize {
    const LoraFile *f;
    const SvdOptions *o;
    LoraSet *out;
} Resize;

static bool resize(void *ctx, int i, Device *dev, Err *e) {
    const Resize *s = ctx;
    const LoraModule *l = &s->f->module[i];
    LoraItem *item = &s->out->item[i];
    item->arena = arena_new();
    item->name = arena_strdup(item->arena, l->name);
    Arena *t = arena_new();
    const int64_t m = l->out, n = type_count(&l->down.type) / l->rank, r = l->rank;
    const float *up = lora_floats(t, dev, &l->up.type, l->up.data, F32);
    const float *down = lora_floats(t, dev, &l->down.type, l->down.data, F32);
    double *x = NEW(t, double, r *m), *y = NEW(t, double, r *n);
    for (int64_t k = 0; k < r; k++) {
        for (int64_t o = 0; o < m; o++) x[k * m + o] = (double)up[o * r + k];
        for (int64_t p = 0; p < n; p++) y[k * n + p] = (double)down[k * n + p];
    }
    SvdOptions o = *s->o;
    if (o.original && l->down.type.rank == 4) o.rank.most = o.rank.most_conv;
    Svd svd;
    bool ok = svd_of_factors(t, dev, x, y, m, n, r, &l->down.type, &o, &svd, e);
    double sum = 0;
    for (int64_t k = 0; ok && k < svd.k; k++) sum += svd.s[k];
    ok = ok && lora_from_svd(item, &svd, &l->down.type, sum, &o, e);
    if (ok) item->alpha = l->alpha / (double)r * (double)lora_item_rank(item);
    arena_free(t);
    return ok;
}

bool lora_resize(const LoraFile *f, const SvdOptions *o, Device *dev, LoraSet **out,
                 Err *e) {
    Resize s = {f, o, lora_set_new(f->n)};
    *out = s.out;
    if (lora_work(dev, f->n, resize, &s, e)) return true;
    lora_set_free(*out);
    *out = NULL;
    return false;
}
