/* LoRA modules while the file tools work on them (see lora_set.h). */
#include "runtime/lora_set.h"

#include <stdlib.h>
#include <string.h>

#include "io/lora_file.h"
#include "runtime/exec.h"

LoraSet *lora_set_new(int n) {
    Arena *a = arena_new();
    LoraSet *s = NEW(a, LoraSet, 1);
    s->item = NEW(a, LoraItem, n + 1);
    s->item[n].arena = a; /* behind the last: what holds the list itself */
    s->n = n;
    return s;
}

void lora_set_free(LoraSet *s) {
    if (!s) return;
    for (int i = 0; i < s->n; i++) arena_free(s->item[i].arena);
    arena_free(s->item[s->n].arena);
}

void lora_item_shape(LoraItem *m, const Type *like, int64_t out, int64_t r) {
    m->down_type = *like;
    m->down_type.dtype = F32;
    m->down_type.dim[0] = r;
    m->up_type = type_of(F32, like->rank, (int64_t[]){out, r, 1, 1});
    m->down = NEW(m->arena, float, type_count(&m->down_type));
    m->up = NEW(m->arena, float, out *r);
}

/* ---- many modules on many threads ---- */

typedef struct Pool {
    LoraWork *work;
    void *ctx;
    Err *err; /* one per index */
} Pool;

static void work_one(void *arg, int64_t i, void *scratch) {
    Pool *p = arg;
    (void)scratch;
    Device *one = cpu_open(1);
    if (!one)
        err_fail(&p->err[i], "no memory for a worker");
    else
        p->work(p->ctx, (int)i, one, &p->err[i]);
    cpu_close(one);
}

bool lora_work(Device *dev, int n, LoraWork *work, void *ctx, Err *e) {
    Pool p = {work, ctx, calloc((size_t)n + 1, sizeof(Err))};
    if (!p.err) return err_fail(e, "no memory for %d modules", n);
    dev->par(dev, n, work_one, &p);
    for (int i = 0; i < n && !e->set; i++)
        if (p.err[i].set) *e = p.err[i];
    free(p.err);
    return !e->set;
}

/* ---- several files ---- */

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **lora_names(Arena *a, const LoraFile *const *file, int n, int *count) {
    int all = 0, kept = 0;
    for (int i = 0; i < n; i++) all += file[i]->n;
    const char **name = NEW(a, const char *, all + 1);
    all = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < file[i]->n; k++) name[all++] = file[i]->module[k].name;
    qsort(name, (size_t)all, sizeof *name, by_text);
    for (int i = 0; i < all; i++)
        if (!kept || strcmp(name[kept - 1], name[i])) name[kept++] = name[i];
    name[kept] = NULL;
    *count = kept;
    return name;
}

bool lora_same_layer(const LoraModule *a, const LoraModule *b) {
    return a->in == b->in && a->out == b->out && a->kernel_h == b->kernel_h &&
           a->kernel_w == b->kernel_w;
}

float *lora_floats(Arena *a, Device *dev, const Type *t, const void *data,
                   DType precision) {
    const int64_t n = type_count(t);
    float *x = NEW(a, float, n);
    matrix_convert(dev, x, F32, data, t->dtype, n);
    if (precision != t->dtype) matrix_round(dev, x, precision, n);
    return x;
}

/* ---- writing ---- */

static TensorOut factor(Arena *a, const char *name, const char *end, Type t,
                        const float *data, DType to) {
    const int64_t n = type_count(&t);
    void *stored = arena_alloc(a, (size_t)n, dtype_size(to));
    convert(stored, to, data, F32, n);
    t.dtype = to;
    return (TensorOut){arena_printf(a, "%s.%s", name, end), t, stored};
}

static TensorOut alpha(Arena *a, const LoraItem *m, const LoraSetSave *o) {
    const DType to = o->integer_alpha ? I64 : o->type;
    void *stored = arena_alloc(a, 1, dtype_size(to));
    int64_t whole = (int64_t)m->alpha;
    float part = (float)m->alpha;
    if (o->integer_alpha)
        memcpy(stored, &whole, sizeof whole);
    else
        convert(stored, to, &part, F32, 1);
    return (TensorOut){arena_printf(a, "%s.alpha", m->name), type_scalar(to), stored};
}

bool lora_set_write(const LoraSet *s, const LoraSetSave *o, Err *e) {
    Arena *a = arena_new();
    TensorOut *t = NEW(a, TensorOut, 3 * s->n);
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        const LoraItem *m = &s->item[i];
        if (!m->arena) continue;
        t[n++] = factor(a, m->name, "lora_down.weight", m->down_type, m->down, o->type);
        t[n++] = factor(a, m->name, "lora_up.weight", m->up_type, m->up, o->type);
        t[n++] = alpha(a, m, o);
    }
    bool ok = (n > 0 || err_fail(e, "no module is left for '%s'", o->path)) &&
              lora_file_write(o->path, t, n, LORA_KEEP, o->meta, o->n_meta, e);
    arena_free(a);
    return ok;
}
