/* Reading a LoRA file into modules. What does not fit together is refused by name: a LoRA
 * that is read in part would be merged in part, without a word. */
#include "io/lora_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char down_end[] = ".lora_down.weight", up_end[] = ".lora_up.weight",
                  alpha_end[] = ".alpha";

/* Length of the module's name in front of `end`; 0: another tensor. */
static size_t before(const char *key, const char *end) {
    size_t n = strlen(key), m = strlen(end);
    return n > m && !strcmp(key + n - m, end) ? n - m : 0;
}

static const TensorEntry *sibling(const LoraFile *f, const char *name,
                                  const char *end) {
    return tensors_find(f->file, arena_printf(f->arena, "%s%s", name, end));
}

static bool check_factors(const LoraFile *f, const LoraModule *m, Err *e) {
    const Type *d = &m->down_type, *u = &m->up_type;
    bool ok = (d->rank == 2 || d->rank == 4) && (u->rank == 2 || u->rank == 4) &&
              dtype_is_float(d->dtype) && dtype_is_float(u->dtype) &&
              d->dim[0] == u->dim[1] && type_count(d) > 0 && type_count(u) > 0 &&
              (u->rank == 2 || (u->dim[2] == 1 && u->dim[3] == 1));
    return ok ||
           err_fail(e,
                    "'%s': module '%s' has factors %s and %s, want [r,in] or "
                    "[r,in,k,k] and [out,r] or [out,r,1,1]",
                    f->path, m->name, type_text(f->arena, d), type_text(f->arena, u));
}

static bool read_alpha(const LoraFile *f, LoraModule *m, Err *e) {
    const TensorEntry *x = sibling(f, m->name, alpha_end);
    m->alpha = (double)lora_rank(m);
    m->alpha_type = F32;
    if (!x) return true;
    if (type_count(&x->type) != 1)
        return err_fail(e, "'%s': '%s' is %s, want one number", f->path, x->name,
                        type_text(f->arena, &x->type));
    convert(&m->alpha, F64, x->data, x->type.dtype, 1);
    m->alpha_type = x->type.dtype;
    m->has_alpha = true;
    return isfinite(m->alpha) ||
           err_fail(e, "'%s': '%s' is not a finite number", f->path, x->name);
}

static bool add_module(LoraFile *f, const TensorEntry *down, size_t n, Err *e) {
    LoraModule m = {.name = arena_strndup(f->arena, down->name, n)};
    const TensorEntry *up = sibling(f, m.name, up_end);
    if (!up)
        return err_fail(e, "'%s': '%s' has no '%s%s'", f->path, down->name, m.name,
                        up_end);
    m.down_type = down->type, m.down = down->data;
    m.up_type = up->type, m.up = up->data;
    if (!check_factors(f, &m, e) || !read_alpha(f, &m, e)) return false;
    f->module[f->n++] = m;
    return true;
}

static bool belongs(const LoraFile *f, const char *key) {
    static const char *const ends[] = {down_end, up_end, alpha_end};
    for (size_t i = 0; i < COUNT(ends); i++) {
        size_t n = before(key, ends[i]);
        if (n) return lora_module(f, arena_strndup(f->arena, key, n)) != NULL;
    }
    return false;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const LoraModule *)a)->name, ((const LoraModule *)b)->name);
}

static bool read_modules(LoraFile *f, Err *e) {
    const TensorFile *t = f->file;
    f->module = NEW(f->arena, LoraModule, t->n + 1);
    for (int i = 0; i < t->n; i++) {
        size_t n = before(t->entry[i].name, down_end);
        if (n && !add_module(f, &t->entry[i], n, e)) return false;
    }
    if (!f->n)
        return err_fail(e, "'%s' is no LoRA file: no tensor is called '…%s'", f->path,
                        down_end);
    qsort(f->module, (size_t)f->n, sizeof *f->module, by_name);
    for (int i = 0; i < t->n; i++)
        if (!belongs(f, t->entry[i].name))
            return err_fail(e, "'%s': tensor '%s' belongs to no LoRA module", f->path,
                            t->entry[i].name);
    return true;
}

LoraFile *lora_read(const char *path, Err *e) {
    TensorFile *t = safetensors_open(path, e);
    if (!t) return NULL;
    Arena *a = arena_new();
    LoraFile *f = NEW(a, LoraFile, 1);
    *f = (LoraFile){.arena = a, .path = arena_strdup(a, path), .file = t};
    f->meta_key = t->meta_key, f->meta_value = t->meta_value, f->n_meta = t->n_meta;
    if (read_modules(f, e)) return f;
    lora_read_close(f);
    return NULL;
}

void lora_read_close(LoraFile *f) {
    if (!f) return;
    tensors_close(f->file);
    arena_free(f->arena);
}

const LoraModule *lora_module(const LoraFile *f, const char *name) {
    LoraModule key = {.name = name};
    return bsearch(&key, f->module, (size_t)f->n, sizeof *f->module, by_name);
}

const char *lora_meta(const LoraFile *f, const char *key) {
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta_key[i], key)) return f->meta_value[i];
    return NULL;
}
