/* Differences that adapters make in a model's layers, one layer at a time
 * (see adapter_delta.h). */
#include "cli/files/adapter_delta.h"

#include <stdlib.h>
#include <string.h>

#include "io/lora_read.h"

typedef struct Layer {
    const char *module;
    TensorEntry weight, bias; /* bias.data NULL: none */
} Layer;

struct BaseLayers {
    Arena *arena;
    Checkpoint *model;
    Layer *layer; /* sorted */
    int n, cap;
};

static int by_module(const void *a, const void *b) {
    return strcmp(((const Layer *)a)->module, ((const Layer *)b)->module);
}

static void add_layer(BaseLayers *b, const char *name) {
    Layer l = {.weight = {.name = name}};
    if (!ends_with(name, ".weight") ||
        !checkpoint_find(b->model, name, &l.weight.type, &l.weight.data) ||
        l.weight.type.rank < 2)
        return;
    const int bytes = (int)(strlen(name) - strlen(".weight"));
    l.module = lora_name_of(b->arena, arena_printf(b->arena, "%.*s", bytes, name));
    l.bias.name = arena_printf(b->arena, "%.*s.bias", bytes, name);
    checkpoint_find(b->model, l.bias.name, &l.bias.type, &l.bias.data);
    if (l.module) PUSH(b->arena, b->layer, b->n, b->cap, l);
}

BaseLayers *base_layers_open(const char *model, Err *e) {
    Checkpoint *c = checkpoint_open(model, e);
    if (!c) return NULL;
    Arena *a = arena_new();
    BaseLayers *b = NEW(a, BaseLayers, 1);
    *b = (BaseLayers){.arena = a, .model = c};
    for (int i = 0; i < checkpoint_count(c); i++)
        add_layer(b, checkpoint_name(c, i, NULL));
    if (b->n) qsort(b->layer, (size_t)b->n, sizeof *b->layer, by_module);
    return b;
}

void base_layers_close(BaseLayers *b) {
    if (!b) return;
    checkpoint_close(b->model);
    arena_free(b->arena);
}

static float *floats(const TensorEntry *x, Err *e) {
    const int64_t n = type_count(&x->type);
    float *y = malloc(sizeof *y * (size_t)n);
    if (!y)
        err_fail(e, "no memory for tensor '%s'", x->name);
    else
        convert(y, F32, x->data, x->type.dtype, n);
    return y;
}

/* d->x: the new numbers from `at` on; minus the old ones of x */
static void subtract(const TensorEntry *x, const float *new, float *to) {
    const int64_t n = type_count(&x->type);
    convert(to, F32, x->data, x->type.dtype, n);
    for (int64_t i = 0; i < n; i++) to[i] = new[i] - to[i];
}

bool layer_delta(const BaseLayers *b, const AdapterFile *f, const char *module,
                 Device *dev, LayerDelta *out, Err *e) {
    const Layer key = {.module = module};
    const Layer *l =
        b->n ? bsearch(&key, b->layer, (size_t)b->n, sizeof key, by_module) : NULL;
    if (!l)
        return err_fail(e, "module '%s' is not in '%s'", module,
                        checkpoint_path(b->model));
    const int64_t n = type_count(&l->weight.type);
    const int64_t n_bias = l->bias.data ? type_count(&l->bias.type) : 0;
    AdaptedLayer layer = {.weight = l->weight.type};
    layer.weight.dtype = F32;
    layer.w = floats(&l->weight, e);
    layer.b = l->bias.data ? floats(&l->bias, e) : NULL;
    *out = (LayerDelta){malloc(sizeof *out->x * (size_t)(n + n_bias)), n + n_bias};
    const ModelAdapter *m = adapter_file_layers(f);
    bool ok = !e->set && (out->x || err_fail(e, "no memory for '%s'", module)) &&
              m->apply(m->ctx, module, 1, false, &layer, dev, e);
    if (ok) subtract(&l->weight, layer.w, out->x);
    if (ok && layer.b) subtract(&l->bias, layer.b, out->x + n);
    free(layer.w);
    free(layer.b);
    checkpoint_release(b->model, l->weight.data, type_bytes(&l->weight.type));
    if (!ok) free(out->x), out->x = NULL;
    return ok;
}

double delta_square(const LayerDelta *d) {
    double sum = 0;
    for (int64_t i = 0; i < d->n; i++) sum += (double)d->x[i] * d->x[i];
    return sum;
}
