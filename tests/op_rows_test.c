/* Every row of ops.def, from its own example: the text form reads back; the gradient is the
 * slope, for each floating input by itself, in f64; f32 computes what f64 does; every kernel
 * computes what the reference does, and the same bits for any number of workers.
 * The example holds one node of the row. Rows that only YAML has are words there, not nodes:
 * their examples are read by build_test. */
#include "tests/op_harness.h"

#include "tests/check.h"

/* Defined by a gradient that is not the slope; tests/op_kernels_test.c has its test. */
static const char not_the_slope[] = "active";

enum { DIRECTIONS = 3 };
static const double step = 1e-5, gradient_tolerance = 1e-6, f32_tolerance = 4e-6;

/* The example as a whole graph, with one element type in place of the other. */
static Graph *example(Arena *a, const Op *op, const char *from, const char *to,
                      Err *e) {
    Str text = {0};
    str_add(&text, "graph example {\n");
    for (const char *p = op->example; *p;) {
        bool hit = !strncmp(p, from, 3);
        str_addn(&text, hit ? to : p, hit ? 3 : 1);
        p += hit ? 3 : 1;
    }
    str_add(&text, "}\n");
    Source *src = NEW(a, Source, 1);
    *src = (Source){op->name, arena_strndup(a, text.s, text.n), text.n};
    str_free(&text);
    Graph *g = graph_parse(a, src, e);
    return g && graph_verify(g, e) ? g : NULL;
}

static Node *node_of(const Graph *g, const Op *op) {
    for (uint32_t i = 0; i < g->n_node; i++)
        if (g->node[i]->op == op) return g->node[i];
    return NULL;
}

static void test_round_trip(Arena *a, const Op *op) {
    Err e = {0};
    Graph *g = example(a, op, "f32", "f32", &e);
    CHECK(g, "%s: the example does not read: %s", op->name, e.text);
    if (!g) return;
    Str first = {0}, second = {0};
    graph_print(&first, g);
    Source src = {op->name, first.s, first.n};
    Graph *h = graph_parse(a, &src, &e);
    CHECK(h, "%s: its own print does not read: %s", op->name, e.text);
    if (h) graph_print(&second, h);
    CHECK(h && !strcmp(first.s, second.s), "%s: printed\n%sread back as\n%s", op->name,
          first.s, second.s ? second.s : "");
    CHECK(node_of(g, op), "%s: the example does not use the row", op->name);
    str_free(&first);
    str_free(&second);
}

/* ---- gradients ---- */

typedef struct Slope {
    Arena *a;
    Graph *g;
    const Node *n;
    Tensor *value;          /* by id */
    Id dy[64];              /* weights of the outputs in the loss, NO_ID: not in it */
    uint32_t nodes, values; /* of the example alone, with dy */
} Slope;

/* The loss at inputs as they are: sum of dy * y over the example's outputs. */
static double loss(const Slope *s) {
    Arena *a = arena_new();
    Err e = {0};
    Tensor *value = NEW(a, Tensor, s->g->n_value);
    memcpy(value, s->value, s->values * sizeof *value);
    Graph forward = *s->g;
    forward.n_node = s->nodes;
    double sum = 0;
    if (!graph_run(a, &forward, value, &e))
        CHECK(false, "%s: %s", s->n->op->name, e.text);
    for (int o = 0; o < s->n->n_out; o++) {
        if (s->dy[o] == NO_ID) continue;
        const Tensor *y = &value[s->n->out[o]], *dy = &s->value[s->dy[o]];
        for (int64_t i = 0; i < type_count(y->type); i++)
            sum += number_at(y, i) * number_at(dy, i);
    }
    arena_free(a);
    return sum;
}

/* One direction in the space of input `id`; dx: the gradient to hold against it. */
static void test_direction(Slope *s, int input, const Tensor *dx) {
    Tensor *x = &s->value[s->n->in[input]];
    int64_t n = type_count(x->type);
    double *start = NEW(s->a, double, n), *d = NEW(s->a, double, n), got = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        start[i] = number_at(x, i);
        d[i] = random_in(-1, 1);
        double part = dx ? number_at(dx, i) * d[i] : 0;
        got += part;
        size += fabs(part);
    }
    double side[2];
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++)
            number_set(x, i, start[i] + (k ? step : -step) * d[i]);
        side[k] = loss(s);
    }
    for (int64_t i = 0; i < n; i++) number_set(x, i, start[i]);
    double slope = (side[1] - side[0]) / (2 * step);
    CHECK(fabs(got - slope) <= gradient_tolerance * (size > 1e-3 ? size : 1e-3),
          "%s: input %d: gradient %.12g, slope %.12g", s->n->op->name, input, got,
          slope);
}

/* Gradient of one input alone, with gradient nodes only for it. */
static void test_input(Slope *s, int input) {
    Err e = {0};
    bool need[64] = {0};
    Id dx[64];
    Graph *g = s->g;
    for (int i = 0; i < 64; i++) dx[i] = NO_ID;
    need[input] = true;
    bool ok = s->n->op->grad(g, s->n, s->dy, need, dx, &e);
    CHECK(ok, "%s: no gradient of input %d: %s", s->n->op->name, input, e.text);
    if (!ok) return;
    Tensor *value = NEW(s->a, Tensor, g->n_value);
    memcpy(value, s->value, s->values * sizeof *value);
    ok = graph_run(s->a, g, value, &e);
    CHECK(ok, "%s: gradient of input %d: %s", s->n->op->name, input, e.text);
    const Tensor *d = ok && dx[input] != NO_ID ? &value[dx[input]] : NULL;
    if (d)
        CHECK(type_equal(d->type, &g->value[s->n->in[input]]->type),
              "%s: the gradient of input %d is %s", s->n->op->name, input,
              type_name(d->type).s);
    for (int k = 0; ok && k < DIRECTIONS; k++) test_direction(s, input, d);
}

static bool is_output(const Graph *g, Id id) {
    for (uint32_t i = 0; i < g->n_output; i++)
        if (g->output[i].value == id) return true;
    return false;
}

static unsigned flags_of(const Op *op, int i) {
    int k = 0;
    while (k < i && op->in[k + 1].name) k++;
    return op->in[k].flags;
}

static void test_gradient(Arena *a, const Op *op, int input) {
    Err e = {0};
    Graph *g = example(a, op, "f32", "f64", &e);
    CHECK(g, "%s: the example does not read in f64: %s", op->name, e.text);
    const Node *n = g ? node_of(g, op) : NULL;
    if (!n || input >= n->n_in || n->in[input] == NO_ID) return;
    if (!dtype_is_float(g->value[n->in[input]]->type.dtype)) return;
    if (flags_of(op, input) & IN_INDEX) return;
    Slope s = {a, g, n, NULL, {0}, g->n_node, 0};
    for (int o = 0; o < n->n_out; o++) {
        s.dy[o] = NO_ID;
        if (is_output(g, n->out[o]))
            s.dy[o] = graph_value(g, ROLE_INPUT, g->value[n->out[o]]->type,
                                  arena_printf(a, "dy%d", o), loc_none());
    }
    s.values = g->n_value;
    s.value = NEW(a, Tensor, g->n_value);
    random_inputs(a, g, op->example, s.value);
    test_input(&s, input);
}

/* ---- kernels ---- */

static void compare_outputs(const Op *op, const char *what, const Tensor *got,
                            const Tensor *want, int n, double tolerance) {
    for (int o = 0; o < n; o++) {
        double error = relative_error(&got[o], &want[o]);
        CHECK(error <= tolerance, "%s: %s: output %d differs by %g", op->name, what, o,
              error);
    }
}

/* Every kernel that fits against the reference, and 1, 2, 3 workers against each other. */
static void test_kernels(Arena *a, const Op *op, const Sig *s, const Tensor *in) {
    Err e = {0};
    Tensor want[64], first[64], got[64];
    Workers one = workers(1, false);
    if (!kernel_run(a, kernel_reference(op), s, in, want, &one.dev, &e)) {
        CHECK(false, "%s: %s", op->name, e.text);
        return;
    }
    for (const Kernel *k = op->cpu; k && k->name; k++) {
        if (k->fits && !k->fits(s)) continue;
        for (int threads = 1; threads <= 3; threads++) {
            Workers w = workers(threads, threads == 2);
            Tensor *out = threads == 1 ? first : got;
            if (!kernel_run(a, k, s, in, out, &w.dev, &e)) {
                CHECK(false, "%s %s: %s", op->name, k->name, e.text);
                return;
            }
            for (int o = 0; o < s->n_out && threads > 1; o++)
                CHECK(same_bits(&got[o], &first[o]), "%s %s: output %d with %d workers",
                      op->name, k->name, o, threads);
        }
        compare_outputs(op, k->name, first, want, s->n_out, f32_tolerance);
    }
}

/* f64 results of the same numbers, by the reference; false: the row has no f64 form. */
static bool in_f64(Arena *a, const Op *op, const Graph *narrow, const Tensor *value,
                   Tensor *out) {
    Err e = {0};
    Graph *g = example(a, op, "f32", "f64", &e);
    const Node *n = g ? node_of(g, op) : NULL;
    if (!n) return false;
    Tensor *wide = NEW(a, Tensor, g->n_value);
    for (uint32_t i = 0; i < narrow->n_value; i++) {
        if (!value[i].data) continue;
        wide[i] = (Tensor){arena_alloc(a, type_bytes(&g->value[i]->type) + 16, 1),
                           &g->value[i]->type};
        for (int64_t k = 0; k < type_count(wide[i].type); k++)
            number_set(&wide[i], k, number_at(&value[i], k));
    }
    if (!graph_run(a, g, wide, &e)) return false;
    for (int o = 0; o < n->n_out; o++) out[o] = wide[n->out[o]];
    return true;
}

/* The example in f32; as it stands for rows some of whose types are fixed. */
static Graph *in_f32(Arena *a, const Op *op) {
    Err e = {0}, again = {0};
    Graph *g = example(a, op, "f64", "f32", &e);
    return g ? g : example(a, op, "f32", "f32", &again);
}

static void test_forward(Arena *a, const Op *op) {
    Err e = {0};
    Graph *g = in_f32(a, op);
    const Node *n = g ? node_of(g, op) : NULL;
    CHECK(n, "%s: the example does not read", op->name);
    if (!n) return;
    Tensor *value = NEW(a, Tensor, g->n_value + 1);
    random_inputs(a, g, op->example, value);
    Tensor *given = NEW(a, Tensor, g->n_value + 1);
    memcpy(given, value, g->n_value * sizeof *value);
    bool ok = graph_run(a, g, value, &e);
    CHECK(ok, "%s: %s", op->name, e.text);
    if (!ok) return;
    Tensor in[64], out[64], wide[64];
    Sig s = node_sig(a, g, n);
    for (int i = 0; i < n->n_in; i++) {
        in[i] = (Tensor){NULL, &s.in[i]};
        if (n->in[i] != NO_ID) in[i] = value[n->in[i]];
    }
    for (int o = 0; o < n->n_out; o++) {
        out[o] = value[n->out[o]];
        for (int64_t i = 0; i < type_count(out[o].type); i++)
            if (!isfinite(number_at(&out[o], i))) {
                CHECK(false, "%s: output %d has a number that is not finite", op->name,
                      o);
                break;
            }
    }
    if (in_f64(a, op, g, given, wide))
        compare_outputs(op, "f32 and f64", out, wide, n->n_out, f32_tolerance);
    test_kernels(a, op, &s, in);
}

static void test_row(const Op *op) {
    Arena *a = arena_new();
    harness_state = 1;
    CHECK(op->doc && *op->doc, "%s: no doc", op->name);
    CHECK(op->example && *op->example, "%s: no example", op->name);
    CHECK(op->grad || op->flags & (OP_NO_GRAD | OP_YAML_ONLY),
          "%s: no gradient and no reason", op->name);
    if (op->example && !(op->flags & OP_YAML_ONLY)) {
        test_round_trip(a, op);
        test_forward(a, op);
        bool slope = op->grad && strcmp(op->name, not_the_slope);
        for (int i = 0; slope && i < 16; i++) test_gradient(a, op, i);
    }
    arena_free(a);
}

int main(int argc, char **argv) {
    for (const Op *const *op = ops; *op; op++)
        if (argc < 2 || !strcmp(argv[1], (*op)->name)) test_row(*op);
    return check_done("op_rows");
}
