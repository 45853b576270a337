/* What `check` proves of an adapter by running it, on one small layer of each kind that it
 * wraps: that it changes nothing before it has learnt, and whether a weight can stand for
 * it afterwards. */
#include "cli/check_adapter.h"

#include <math.h>
#include <string.h>

#include "cli/files/adapted_node.h"
#include "kernels/rng.h"

/* Divisible by what block-wise adapters divide by; a rank of 4 is below both. */
enum { IN = 32, OUT = 64, KERNEL = 3, SAMPLES = 16 };

typedef struct Layer {
    Arena *arena;
    const AdapterProof *p;
    Type weight, bias;
    float *w, *b;
    Device *dev;
} Layer;

typedef struct Bound {
    AdaptedNode node;
    Store *store;
    Exec *exec;
    NodeAsk ask;
} Bound;

static void fill(float *x, int64_t n, uint32_t stream, float scale) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t c[4] = {(uint32_t)i, stream, 0, 0};
        philox(c, 1, 0);
        x[i] = scale * (2 * rng_uniform(c[0]) - 1);
    }
}

static Layer layer_new(Arena *a, const AdapterProof *p, Device *dev, bool conv) {
    const int64_t dim[4] = {OUT, IN, KERNEL, KERNEL};
    Layer l = {.arena = a, .p = p, .dev = dev};
    l.weight = type_of(F32, conv ? 4 : 2, dim);
    l.bias = type_of(F32, 1, dim);
    const int64_t n = type_count(&l.weight);
    l.w = NEW(a, float, n);
    l.b = NEW(a, float, OUT);
    fill(l.w, n, 1, (float)sqrt(3.0 * OUT / (double)n));
    fill(l.b, OUT, 2, 1);
    return l;
}

static bool find(void *ctx, const char *name, Tensor *out) {
    Layer *l = ctx;
    const bool weight = !strcmp(name, "node.node.weight");
    if (!weight && strcmp(name, "node.node.bias")) return false;
    *out = (Tensor){weight ? l->w : l->b, weight ? &l->weight : &l->bias};
    return true;
}

/* adapted: with the adapter; else the layer alone (a module with rate 0 is not made). */
static bool bound_open(Layer *l, bool adapted, Bound *x, Err *e) {
    Args *args = args_copy(l->arena, l->p->args), *dims = args_new(l->arena);
    if (!adapted) args_set(args, "lr", val_float(0));
    args_set(dims, "B", val_int(SAMPLES));
    args_set(dims, "C", val_int(IN));
    args_set(dims, "N", val_int(1));
    args_set(dims, "H", val_int(KERNEL));
    args_set(dims, "W", val_int(KERNEL));
    x->node = (AdaptedNode){.arena = l->arena,
                            .library = l->p->library,
                            .adapter = l->p->doc,
                            .args = args,
                            .weight = l->weight,
                            .bias = l->bias,
                            .stride = 1};
    if (!adapted_node_build(&x->node, dims, NULL, e)) return false;
    Options opt = {.net = &x->node.net, .n_net = 1, .dims = dims};
    WeightSource source = {l, find};
    Graph *g = passes_run(x->node.graph, &opt, "infer-shapes", e);
    Plan *plan = g ? plan_lower(g, &opt, e) : NULL;
    if (!plan) return false;
    x->store = store_open(l->dev, &source, 0);
    x->exec = exec_open(x->store, plan, e);
    if (x->exec) x->ask = node_ask_new(l->arena, x->exec, &l->weight, SAMPLES);
    return x->exec != NULL;
}

static void bound_close(Bound *x) {
    if (x->exec) exec_close(x->exec);
    if (x->store) store_close(x->store);
}

/* Moves every trainable away from its start, so that zeros do not hide a branch. */
static bool learn(Layer *l, Bound *x, Err *e) {
    const Plan *p = exec_plan(x->exec);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->role != ROLE_TRAIN) continue;
        const int64_t n = type_count(&v->type);
        float *now = NEW(l->arena, float, n), *move = NEW(l->arena, float, n);
        const size_t bytes = (size_t)n * sizeof *now;
        if (!exec_read(x->exec, v->name, now, bytes, e)) return false;
        fill(move, n, 16 + i, 0.1F);
        for (int64_t k = 0; k < n; k++) now[k] += move[k];
        if (!exec_write(x->exec, v->name, now, bytes, e)) return false;
    }
    return true;
}

/* Answers of the layer alone and of the adapted one that has not learnt. */
static bool starts_as_it_was(Layer *l, Bound *with, const char *kind, Err *e) {
    enum { F32_SUMS = 100000 }; /* 1e-5 of the largest output */
    Bound alone = {0};
    bool ok = bound_open(l, false, &alone, e);
    if (ok) {
        fill(alone.ask.x, SAMPLES * alone.ask.row, 3, 1);
        memcpy(with->ask.x, alone.ask.x,
               sizeof *alone.ask.x * (size_t)(SAMPLES * alone.ask.row));
    }
    ok = ok && node_ask(&alone.ask, e) && node_ask(&with->ask, e);
    double off = 0, size = 0;
    for (int64_t i = 0; ok && i < SAMPLES * OUT; i++) {
        off = fmax(off, fabs((double)with->ask.y[i] - (double)alone.ask.y[i]));
        size = fmax(size, fabs((double)alone.ask.y[i]));
    }
    bound_close(&alone);
    if (ok && !(off * F32_SUMS <= size))
        return err_at(
            e, l->p->doc->root->loc,
            "adapter '%s' changes a %s before it has learnt: by %.3g of %.3g, "
            "want 0 (is one of its factors 'init: zeros'?)",
            l->p->doc->name, kind, off, size);
    return ok;
}

static bool prove(AdapterProof *p, Device *dev, const char *kind, Err *e) {
    Arena *a = arena_new();
    Layer l = layer_new(a, p, dev, !strcmp(kind, "conv2d"));
    Bound with = {0};
    double off = 0, size = 0;
    bool ok = bound_open(&l, true, &with, e);
    if (ok && with.node.modules.n) {
        ok = starts_as_it_was(&l, &with, kind, e) && learn(&l, &with, e) &&
             node_affine(&with.ask, NEW(a, float, OUT), &off, &size, e);
        p->proved++;
        if (ok && !node_is_affine(off, size)) p->not_affine = true;
    }
    bound_close(&with);
    arena_free(a);
    return ok;
}

bool adapter_prove(AdapterProof *p, Err *e) {
    static const char *const kinds[] = {"linear", "conv2d"};
    const YNode *wraps = yaml_get(p->doc->root, "wraps");
    Device *dev = cpu_open(1);
    bool ok = true;
    for (size_t i = 0; ok && i < COUNT(kinds); i++)
        for (int k = 0; ok && wraps && k < wraps->n; k++)
            if (!strcmp(wraps->item[k]->s, kinds[i])) ok = prove(p, dev, kinds[i], e);
    cpu_close(dev);
    return ok;
}
