/* One weight after the other: the sum of all files' products is made in f32 beside it. */
#include "runtime/base_merge.h"

#include <string.h>

static float *floats(Arena *a, Device *dev, const Type *t, const void *data) {
    int64_t n = type_count(t);
    float *x = NEW(a, float, n);
    matrix_convert(dev, x, F32, data, t->dtype, n);
    return x;
}

static bool add_product(float *sum, const LoraModule *m, double ratio, Device *dev,
                        Err *e) {
    Arena *a = arena_new();
    const int64_t row = m->in * m->kernel_h * m->kernel_w;
    float *up = floats(a, dev, &m->up.type, m->up.data);
    const float *down = floats(a, dev, &m->down.type, m->down.data);
    float *product = NEW(a, float, m->out *row);
    const float f = (float)(ratio * m->alpha / (double)m->rank);
    for (int64_t i = 0; i < m->out * m->rank; i++) up[i] *= f;
    bool ok = matrix_mul(dev, false, false, m->out, m->rank, row, up, down, product, e);
    for (int64_t i = 0; ok && i < m->out * row; i++) sum[i] += product[i];
    arena_free(a);
    return ok;
}

/* Everything that the files from number `first` on say of one module. */
static bool merge_weight(Arena *a, Checkpoint *base, const char *name, const char *lora,
                         const BaseLora *in, int first, int n, Device *dev, Err *e) {
    Type type;
    const void *data;
    if (!checkpoint_find(base, name, &type, &data))
        return err_fail(e, "'%s': module '%s' is not in '%s'",
                        in[first].file->file->path, lora, checkpoint_path(base));
    Arena *own = arena_new();
    float *sum = floats(own, dev, &type, data);
    bool ok = true;
    for (int k = first; ok && k < n; k++) {
        const LoraModule *m = lora_find(in[k].file, lora);
        if (!m) continue;
        ok = (type.dim[0] == m->out &&
              type_count(&type) == m->out * m->in * m->kernel_h * m->kernel_w) ||
             err_fail(e, "'%s': module '%s' is %lld x %lld, the base's weight is %s",
                      in[k].file->file->path, lora, (long long)m->out, (long long)m->in,
                      type_text(own, &type));
        ok = ok && add_product(sum, m, in[k].ratio, dev, e);
    }
    if (ok) {
        void *out = arena_alloc(a, 1, type_bytes(&type));
        matrix_convert(dev, out, type.dtype, sum, F32, type_count(&type));
        checkpoint_replace(base, name, type, out);
    }
    arena_free(own);
    return ok;
}

static bool earlier(const BaseLora *in, int k, const char *lora) {
    for (int i = 0; i < k; i++)
        if (lora_find(in[i].file, lora)) return true;
    return false;
}

bool base_merge(Arena *a, Checkpoint *base, const BaseLora *in, int n, Device *dev,
                Err *e) {
    for (int k = 0; k < n; k++)
        for (int i = 0; i < in[k].file->n; i++) {
            const LoraModule *m = &in[k].file->module[i];
            if (earlier(in, k, m->name)) continue;
            if (!m->path)
                return err_fail(e, "'%s': module '%s' is none that the base could have",
                                in[k].file->file->path, m->name);
            const char *name = arena_printf(a, "%s.weight", m->path);
            if (!merge_weight(a, base, name, m->name, in, k, n, dev, e)) return false;
        }
    return true;
}
