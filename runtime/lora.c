/* From modules to the tensors of a LoRA file, and the file itself. */
#include "runtime/lora.h"

#include <stdlib.h>
#include <string.h>

#include "io/lora_file.h"

static int by_key(const void *a, const void *b) {
    return strcmp(((const LoraTensor *)a)->key, ((const LoraTensor *)b)->key);
}

bool lora_tensors(Arena *a, const Modules *m, const Graph *g, const char *scheme,
                  LoraTensors *out, Err *e) {
    int cap = 0;
    *out = (LoraTensors){0};
    for (int i = 0; i < m->n; i++) {
        SavedTensor *saved;
        int n;
        if (!module_saved(a, &m->item[i], g, scheme, &saved, &n, e)) return false;
        for (int k = 0; k < n; k++) {
            LoraTensor t = {.key = saved[k].key,
                            .number = saved[k].number,
                            .type = saved[k].type,
                            .module = &m->item[i],
                            .lr = m->item[i].lr};
            const Value *v = saved[k].value == NO_ID ? NULL : g->value[saved[k].value];
            if (v) t.value = v->name;
            if (v && v->role == ROLE_TRAIN) t.lr = v->param->lr;
            PUSH(a, out->item, out->n, cap, t);
        }
    }
    if (out->n) qsort(out->item, (size_t)out->n, sizeof *out->item, by_key);
    int kept = 0; /* a tensor that modules share comes once from each of them */
    for (int i = 0; i < out->n; i++) {
        const LoraTensor *last = kept ? &out->item[kept - 1] : NULL;
        bool same = last && !strcmp(last->key, out->item[i].key);
        bool shared = same && last->value && out->item[i].value &&
                      !strcmp(last->value, out->item[i].value);
        if (same && !shared)
            return err_at(e, out->item[i].module->loc,
                          "two adapters would save the tensor '%s'", out->item[i].key);
        if (!same) out->item[kept++] = out->item[i];
    }
    out->n = kept;
    return true;
}

const LoraTensor *lora_tensor_find(const LoraTensors *t, const char *key) {
    LoraTensor want = {.key = key};
    return t->n ? bsearch(&want, t->item, (size_t)t->n, sizeof *t->item, by_key) : NULL;
}

double lora_alpha(Arena *a, const LoraTensors *t, const Module *m) {
    const LoraTensor *l = lora_tensor_find(t, arena_printf(a, "%s.alpha", m->name));
    return l && !l->value ? l->number : args_number(m->args, "alpha");
}

bool lora_collect(Arena *a, Exec *x, const LoraTensors *t, TensorOut **out, Err *e) {
    TensorOut *list = NEW(a, TensorOut, t->n);
    for (int i = 0; i < t->n; i++) {
        const LoraTensor *l = &t->item[i];
        int64_t n = type_count(&l->type);
        float *f = NEW(a, float, n);
        if (!l->value)
            f[0] = (float)l->number;
        else if (!exec_read_f32(x, l->value, f, n, e))
            return false;
        list[i] = (TensorOut){l->key, l->type, f};
    }
    *out = list;
    return true;
}

bool lora_write(const char *path, Exec *x, const LoraTensors *t, int save,
                const Meta *meta, int n_meta, Err *e) {
    Arena *a = arena_new();
    TensorOut *out;
    bool ok = lora_collect(a, x, t, &out, e) &&
              lora_file_write(path, out, t->n, save, meta, n_meta, e);
    arena_free(a);
    return ok;
}
