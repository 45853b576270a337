/* LoRA + LoRA (see lora_merge.h). sd-scripts adds the factors themselves, which gives the
 * product of sums and not the sum of products; that is kept for --compat. */
#include "runtime/lora_merge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"
#include "runtime/lora_blocks.h"

double merge_ratio(const MergeInput *in, const char *module) {
    int slot = in->weight ? lora_block_slot(module, in->n_weight) : -1;
    return slot < 0 ? in->ratio : in->ratio * in->weight[slot];
}

const TensorFile *merge_tensors(const MergeInput *in) {
    return in->file ? in->file->file : in->adapter->file;
}

typedef struct Merge {
    const MergeInput *in;
    int n;
    const MergeOptions *o;
    const char **name;
    LoraSet *out;
} Merge;

/* The first file's module of that name: its form is the result's. */
static const LoraModule *first_of(const Merge *m, const char *name) {
    const LoraModule *x = NULL;
    for (int i = 0; i < m->n && !x; i++) x = lora_find(m->in[i].file, name);
    return x;
}

enum { SHOWN = 8 }; /* modules that are listed */

/* The modules of file k that stand for another layer than a file's before it. */
static int unlike(const MergeInput *in, int k, Arena *a, Str *list) {
    const Merge before = {.in = in, .n = k};
    const LoraFile *f = in[k].file;
    int bad = 0;
    for (int i = 0; i < f->n; i++) {
        const LoraModule *x = &f->module[i], *first = first_of(&before, x->name);
        if (!first || lora_same_layer(first, x) || bad++ >= SHOWN) continue;
        str_printf(list, "\n  %s: %s x %s, want %s x %s", x->name,
                   type_text(a, &x->up.type), type_text(a, &x->down.type),
                   type_text(a, &first->up.type), type_text(a, &first->down.type));
    }
    if (bad > SHOWN) str_add(list, "\n  ...");
    return bad;
}

/* v1 and v2, also where they have no module in common */
static bool same_family(const LoraFile *x, const LoraFile *y) {
    const bool known = x->family && y->family && strcmp(x->family, "sdxl") &&
                       strcmp(y->family, "sdxl");
    return !known || !strcmp(x->family, y->family);
}

bool merge_fits(const MergeInput *in, int n, Err *e) {
    Arena *a = arena_new();
    bool ok = true;
    for (int k = 1; ok && k < n; k++) {
        const LoraFile *first = in[0].file, *f = in[k].file;
        Str list = {0};
        const int bad = unlike(in, k, a, &list);
        if (bad)
            ok = err_fail(e,
                          "'%s' is made for another model: %d of its %d modules do not "
                          "fit those of '%s'%s",
                          f->file->path, bad, f->n, first->file->path, list.s);
        else if (!same_family(first, f))
            ok = err_fail(e, "'%s' is made for another model: %s, '%s' is for %s",
                          f->file->path, f->family, first->file->path, first->family);
        str_free(&list);
    }
    arena_free(a);
    return ok;
}

static bool check_ranks(const Merge *m, Arena *a, const char *name, Err *e) {
    const LoraModule *first = first_of(m, name);
    for (int i = 0; i < m->n; i++) {
        const LoraModule *x = lora_find(m->in[i].file, name);
        if (!x || first->rank == x->rank) continue;
        return err_fail(e,
                        "'%s': module '%s' is %s x %s, want %s x %s: different dims? "
                        "--concat puts them side by side",
                        m->in[i].file->file->path, name, type_text(a, &x->up.type),
                        type_text(a, &x->down.type), type_text(a, &first->up.type),
                        type_text(a, &first->down.type));
    }
    return true;
}

static int64_t all_ranks(const Merge *m, const char *name) {
    int64_t r = 0;
    for (int i = 0; i < m->n; i++) {
        const LoraModule *x = lora_find(m->in[i].file, name);
        r += x ? x->rank : 0;
    }
    return r;
}

/* up[o, at + k] += f * x[o, k]: columns of one file's factor */
static void add_up(LoraItem *m, const float *x, int64_t rank, int64_t at, float f,
                   DType to, Device *dev) {
    const int64_t out = m->up_type.dim[0], all = m->up_type.dim[1];
    for (int64_t o = 0; o < out; o++)
        for (int64_t k = 0; k < rank; k++)
            m->up[o * all + at + k] += f * x[o * rank + k];
    matrix_round(dev, m->up, to, out * all);
}

static void add_down(LoraItem *m, const float *x, int64_t rank, int64_t at, float f,
                     DType to, Device *dev) {
    const int64_t row = type_count(&m->down_type) / m->down_type.dim[0];
    float *y = m->down + at * row;
    for (int64_t i = 0; i < rank * row; i++) y[i] += f * x[i];
    matrix_round(dev, y, to, rank * row);
}

/* What one file adds, at place `at` of the rank axis. */
static void add_module(const Merge *m, LoraItem *item, const LoraModule *x, double down,
                       double up, int64_t at, Device *dev) {
    Arena *t = arena_new();
    const DType to = m->o->precision;
    const int64_t r = x->rank;
    add_down(item, lora_floats(t, dev, &x->down.type, x->down.data, to), r, at,
             (float)down, to, dev);
    add_up(item, lora_floats(t, dev, &x->up.type, x->up.data, to), r, at, (float)up, to,
           dev);
    arena_free(t);
}

/* Fisher-Yates with numbers of the module's own stream */
static void shuffle(LoraItem *m) {
    const int64_t r = lora_item_rank(m), out = m->up_type.dim[0];
    const int64_t row = type_count(&m->down_type) / r;
    const uint32_t stream = rng_stream(m->name, "shuffle");
    for (int64_t i = r - 1; i > 0; i--) {
        uint32_t c[4] = {(uint32_t)i, stream, 0, 0};
        philox(c, 0, 0);
        int64_t j = (int64_t)(((uint64_t)c[0] * (uint64_t)(i + 1)) >> 32);
        for (int64_t k = 0; k < row; k++) {
            float x = m->down[i * row + k];
            m->down[i * row + k] = m->down[j * row + k], m->down[j * row + k] = x;
        }
        for (int64_t o = 0; o < out; o++) {
            float x = m->up[o * r + i];
            m->up[o * r + i] = m->up[o * r + j], m->up[o * r + j] = x;
        }
    }
}

static bool merge_module(void *ctx, int i, Device *dev, Err *e) {
    Merge *m = ctx;
    LoraItem *item = &m->out->item[i];
    const char *name = m->name[i];
    const LoraModule *first = first_of(m, name);
    const bool side_by_side = m->o->concat || !m->o->original;
    item->arena = arena_new();
    item->name = arena_strdup(item->arena, name);
    if (!side_by_side && !check_ranks(m, item->arena, name, e)) return false;
    lora_item_shape(item, &first->down.type, first->out,
                    side_by_side ? all_ranks(m, name) : first->rank);
    item->alpha = m->o->original ? first->alpha : (double)lora_item_rank(item);
    int64_t at = 0;
    for (int k = 0; k < m->n; k++) {
        const LoraModule *x = lora_find(m->in[k].file, name);
        if (!x) continue;
        const double ratio = merge_ratio(&m->in[k], name);
        if (m->o->original) {
            const double f = sqrt(x->alpha / first->alpha) * ratio;
            add_module(m, item, x, f, fabs(f), at, dev);
        } else { /* half of the scale to each factor, the sign to one */
            const double f = ratio * x->alpha / (double)x->rank, half = sqrt(fabs(f));
            add_module(m, item, x, half, f < 0 ? -half : half, at, dev);
        }
        if (side_by_side) at += x->rank;
    }
    if (m->o->shuffle) shuffle(item);
    return true;
}

bool lora_merge(const MergeInput *in, int n, const MergeOptions *o, Device *dev,
                LoraSet **out, Err *e) {
    Arena *a = arena_new();
    const LoraFile **file = NEW(a, const LoraFile *, n);
    for (int i = 0; i < n; i++) file[i] = in[i].file;
    int count;
    Merge m = {.in = in, .n = n, .o = o, .name = lora_names(a, file, n, &count)};
    *out = m.out = lora_set_new(count);
    bool ok = merge_fits(in, n, e) && lora_work(dev, count, merge_module, &m, e);
    if (!ok) {
        lora_set_free(*out);
        *out = NULL;
    }
    arena_free(a);
    return ok;
}
