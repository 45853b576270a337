/* Gradients of every shipped adapter in f64, against central differences: around a small
 * linear layer and a small 3x3 convolution, as the language builds it and `differentiate`
 * takes it apart. What an adapter holds constant for its gradient (`detach`: DoRA's norm)
 * stays as it was while the rest moves; a slice that does not learn in the step (DyLoRA)
 * has a gradient of exactly zero. */
#include "cli/files/adapted_node.h"
#include "ops/ops.h"
#include "passes/passes.h"
#include "tests/check.h"
#include "tests/op_harness.h"

enum { IN = 8, OUT = 16, BATCH = 3, TOKENS = 2, SIDE = 3 };

static const char *const only_differentiate[] = {"dce",      "optimizer",  "fuse",
                                                 "schedule", "checkpoint", NULL};

/* "f32" -> "f64" in a graph's text: the same graph in double precision. */
static Graph *widened(Arena *a, const Graph *g, Err *e) {
    Str s = {0};
    graph_print(&s, g);
    for (char *p = s.s; (p = strstr(p, "f32")); p += 3) memcpy(p, "f64", 3);
    Graph *wide = graph_parse(a, source_text(a, "wide", s.s, s.n), e);
    str_free(&s);
    return wide;
}

/* loss = sum of y * d, its gradients as outputs "grad.NAME" */
static Graph *with_loss(Arena *a, const Doc *adapter, Library *lib, bool conv, Err *e) {
    const int64_t w[4] = {OUT, IN, 3, 3}, b[1] = {OUT};
    AdaptedNode n = {.arena = a,
                     .library = lib,
                     .adapter = adapter,
                     .args = args_new(a),
                     .weight = type_of(F32, conv ? 4 : 2, w),
                     .bias = type_of(F32, 1, b),
                     .stride = 1,
                     .pad = conv,
                     .training = true};
    Args *dims = args_new(a);
    args_set(dims, "B", val_int(BATCH));
    args_set(dims, "C", val_int(IN));
    args_set(dims, "N", val_int(TOKENS));
    args_set(dims, "H", val_int(SIDE));
    args_set(dims, "W", val_int(SIDE));
    if (!adapted_node_build(&n, dims, NULL, e)) return NULL;
    Graph *g = n.graph;
    Id y = graph_output_find(g, "y");
    Id d = graph_value(g, ROLE_INPUT, g->value[y]->type, "d", loc_none());
    Id product = graph_formula(g, "x0 * x1", 2, (Id[]){y, d}, e);
    Type none = type_scalar(F32);
    Id loss = product == NO_ID ? NO_ID : add_reduce_to(g, product, &none, e);
    if (loss == NO_ID) return NULL;
    graph_output(g, "loss", loss);
    Options opt = {.net = &n.net,
                   .n_net = 1,
                   .dims = dims,
                   .train = true,
                   .disable = only_differentiate};
    g = passes_run(g, &opt, "differentiate", e);
    return g ? widened(a, g, e) : NULL;
}

typedef struct Point { /* numbers of one run */
    Arena *a;
    const Graph *g;
    Tensor *value;
    const Tensor *held; /* values of `detach` nodes to keep, or NULL */
} Point;

static double loss_at(Point *p, Err *e) {
    Workers one = workers(1, false);
    for (uint32_t i = 0; i < p->g->n_node; i++) {
        const Node *n = p->g->node[i];
        bool hold = p->held && !strcmp(n->op->name, "detach");
        if (hold)
            p->value[n->out[0]] = p->held[n->out[0]];
        else if (!node_run(p->a, p->g, n, p->value, &one.dev, e))
            return NAN;
    }
    return number_at(&p->value[graph_output_find(p->g, "loss")], 0);
}

static void start(Point *p) {
    p->value = NEW(p->a, Tensor, p->g->n_value + 1);
    random_inputs(p->a, p->g, "", p->value);
    for (uint32_t i = 0; i < p->g->n_value; i++) {
        const Value *v = p->g->value[i];
        if (v->role != ROLE_CONST) continue;
        p->value[i] =
            (Tensor){arena_alloc(p->a, type_bytes(&v->type) + 16, 1), &v->type};
        for (int64_t k = 0; k < type_count(&v->type); k++)
            number_set(&p->value[i], k, v->data[k]);
    }
}

/* Does element i of a trainable learn in this step? */
static bool learns(const Point *p, const Value *v, int64_t i) {
    const Param *s = v->param;
    if (!s || s->slice_axis < 0 || s->slice_index == NO_ID) return true;
    int64_t inner = 1;
    for (int d = s->slice_axis + 1; d < v->type.rank; d++) inner *= v->type.dim[d];
    int64_t at = i / inner % v->type.dim[s->slice_axis] / s->slice_size;
    return at == (int64_t)number_at(&p->value[s->slice_index], 0);
}

/* The slope along a random direction of one trainable, by its gradient and by central
 * differences. */
static void compare(Point *p, const char *what, Id train, const Tensor *base) {
    const double step = 1e-5, tolerance = 1e-7;
    const Value *v = p->g->value[train];
    const int64_t n = type_count(&v->type);
    Id grad = graph_output_find(p->g, arena_printf(p->a, "grad.%s", v->name));
    CHECK(grad != NO_ID, "%s: no gradient of '%s'", what, v->name);
    if (grad == NO_ID) return;
    double *way = NEW(p->a, double, n), *was = NEW(p->a, double, n);
    double slope = 0, size = 0, loss[2];
    for (int64_t i = 0; i < n; i++) {
        double g = number_at(&base[grad], i);
        bool on = learns(p, v, i);
        CHECK(on || g == 0, "%s: '%s' has gradient %g where it does not learn", what,
              v->name, g);
        way[i] = on ? random_in(-1, 1) : 0;
        was[i] = number_at(&p->value[train], i);
        slope += g * way[i];
        size += fabs(g * way[i]);
    }
    CHECK(size > 0, "%s: the gradient of '%s' is zero", what, v->name);
    p->held = base;
    for (int side = 0; side < 2; side++) {
        Err e = {0};
        for (int64_t i = 0; i < n; i++)
            number_set(&p->value[train], i, was[i] + (side ? -step : step) * way[i]);
        loss[side] = loss_at(p, &e);
    }
    for (int64_t i = 0; i < n; i++) number_set(&p->value[train], i, was[i]);
    double by_difference = (loss[0] - loss[1]) / (2 * step);
    CHECK(fabs(by_difference - slope) <= tolerance * (size + 1),
          "%s: '%s' has slope %.12g, by differences %.12g", what, v->name, slope,
          by_difference);
}

static void check_adapter(const Doc *d, Library *lib, bool conv) {
    Arena *a = arena_new();
    Err e = {0};
    const char *what =
        arena_printf(a, "%s on a %s", d->name, conv ? "conv2d" : "linear");
    Point p = {.a = a, .g = with_loss(a, d, lib, conv, &e)};
    CHECK(p.g, "%s: %s", what, e.text);
    int trainables = 0;
    if (p.g) {
        start(&p);
        double loss = loss_at(&p, &e);
        CHECK(isfinite(loss), "%s: loss %g: %s", what, loss, e.text);
        Tensor *base = NEW(a, Tensor, p.g->n_value + 1);
        memcpy(base, p.value, p.g->n_value * sizeof *base);
        for (Id i = 0; i < p.g->n_value && isfinite(loss); i++)
            if (p.g->value[i]->role == ROLE_TRAIN)
                compare(&p, what, i, base), trainables++;
    }
    CHECK(!p.g || trainables, "%s: it trains nothing", what);
    arena_free(a);
}

int main(void) {
    Arena *a = arena_new();
    Library *lib = library_new(a);
    for (const char *const *name = doc_shipped(a, DOC_ADAPTER); *name; name++) {
        Err e = {0};
        const Doc *d = doc_load(lib, *name, DOC_ADAPTER, NULL, loc_none(), &e);
        CHECK(d, "%s: %s", *name, e.text);
        const YNode *wraps = d ? yaml_get(d->root, "wraps") : NULL;
        for (int i = 0; wraps && i < wraps->n; i++)
            check_adapter(d, lib, !strcmp(wraps->item[i]->s, "conv2d"));
    }
    arena_free(a);
    return check_done("adapter_gradients");
}
