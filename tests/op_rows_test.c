/* Every row of ops.def, from its own example: the text form reads back; the gradient is the
 * slope, for each floating input by itself, in f64; f32 computes what f64 does; every kernel
 * computes what the reference does, and the same bits for any number of workers; with
 * inputs in f32, f16 and bf16 in any mix, every kernel computes what f64 does and rounds
 * once, and the gradient of an input has the input's type; so do its CUDA kernels, run as
 * host twins.
 * The example holds one node of the row. Rows that only YAML has are words there, not nodes:
 * their examples are read by build_test. */
#include "tests/op_harness.h"

#include "tests/check.h"
#include "tests/twin/device.h"

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
    return op_in(op, i)->flags;
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

/* ---- halves ---- */

/* Largest relative error of one rounding to nearest. */
static double rounding_of(DType t) {
    return t == F16 ? 0x1p-11 : t == BF16 ? 0x1p-8 : 0;
}

/* One use of a row with its numbers, apart from any graph. */
typedef struct Use {
    const Op *op;
    void *attrs;
    Sig s;
    Type in_type[16], out_type[64];
    Tensor in[16], out[64];
    int half[16], n_half; /* inputs that may be halves */
} Use;

static bool may_be_half(const Op *op, const Sig *s, int i) {
    return s->in[i].rank >= 0 && s->in[i].dtype == F32 &&
           !(flags_of(op, i) & (IN_INDEX | IN_WIDE));
}

/* The use in the graph: its input i in the type of[i]; attributes that are types: at. */
static bool use_in(Arena *a, const Use *from, const DType *of, DType at, Use *u,
                   Err *e) {
    *u = *from;
    u->attrs = arena_alloc(a, 1, u->op->attrs_size + 1);
    if (u->op->attrs_size) memcpy(u->attrs, from->attrs, u->op->attrs_size);
    for (const Attr *k = u->op->attrs; k && k->name; k++)
        if (k->kind == 'd') *(DType *)(void *)((char *)u->attrs + k->offset) = at;
    for (int i = 0; i < u->s.n_in; i++) {
        u->in_type[i].dtype = of[i];
        u->in[i].type = &u->in_type[i];
        if (!from->in[i].data) continue;
        u->in[i].data = arena_alloc(a, type_bytes(&u->in_type[i]) + 16, 1);
        convert(u->in[i].data, of[i], from->in[i].data, from->in_type[i].dtype,
                type_count(&u->in_type[i]));
    }
    u->s.attrs = u->attrs, u->s.in = u->in_type, u->s.out = u->out_type;
    u->s.n_out = u->op->n_out < 0 ? 0 : u->op->n_out;
    return u->op->shape(&u->s, e);
}

/* The same numbers in f64, or as they are for a row that has no f64 form. */
static bool widened(Arena *a, const Use *from, Use *u, Err *e) {
    DType of[16];
    Err no = {0};
    for (int i = 0; i < from->s.n_in; i++) of[i] = from->in_type[i].dtype;
    for (int k = 0; k < from->s.n_in; k++)
        if (dtype_is_float(of[k]) && !(flags_of(from->op, k) & IN_INDEX)) of[k] = F64;
    if (use_in(a, from, of, F64, u, &no)) return true;
    for (int k = 0; k < from->s.n_in; k++) of[k] = from->in_type[k].dtype;
    for (int k = 0; k < from->n_half; k++) of[from->half[k]] = F32;
    return use_in(a, from, of, F32, u, e);
}

static bool has_type_attr(const Op *op) {
    for (const Attr *k = op->attrs; k && k->name; k++)
        if (k->kind == 'd') return true;
    return false;
}

/* What a row's flags say of the type of its results. */
static void test_class(const Use *u) {
    bool wide = u->op->flags & OP_WIDE, open = has_type_attr(u->op);
    for (int o = 0; o < u->s.n_out; o++)
        CHECK(!wide || !dtype_is_half(u->out_type[o].dtype), "%s: output %d is %s",
              u->op->name, o, type_name(&u->out_type[o]).s);
    if (!wide && !open && u->n_half)
        CHECK(u->out_type[0].dtype == u->in_type[u->half[0]].dtype,
              "%s: output %s of %s", u->op->name, type_name(&u->out_type[0]).s,
              type_name(&u->in_type[u->half[0]]).s);
}

/* The row's CUDA kernels as host twins, in every order of warps, lanes and blocks: the same
 * bits in all of them, and what f64 computes. */
static int n_twin;
static void test_twins(Arena *a, const Use *u, const Tensor *want, const char *mix) {
    for (const Kernel *k = u->op->cuda; k && k->name; k++) {
        Tensor first[64];
        if (k->fits && !k->fits(&u->s)) continue;
        for (int order = 0; order < TWIN_ORDERS; order++) {
            Err e = {0};
            TwinDevice d = twin_device((TwinOrder)order, 7);
            Tensor out[64];
            for (int o = 0; o < u->s.n_out; o++)
                out[o] = (Tensor){arena_alloc(a, type_bytes(&u->out_type[o]) + 16, 1),
                                  &u->out_type[o]};
            const char *why = twin_run(&d, k, &u->s, u->in, out, &e);
            CHECK(!why && d.launches, "%s cuda of%s: %s, order %d: %s", u->op->name,
                  mix, d.kernel ? d.kernel : "no kernel", order,
                  why ? why : "no launch");
            if (why) return;
            n_twin++;
            for (int o = 0; o < u->s.n_out; o++) {
                if (order)
                    CHECK(same_bits(&out[o], &first[o]),
                          "%s cuda of%s: output %d depends on the order", u->op->name,
                          mix, o);
                else
                    first[o] = out[o];
                double error = relative_error(&out[o], &want[o]);
                CHECK(error <= rounding_of(u->out_type[o].dtype) + f32_tolerance,
                      "%s cuda of%s: output %d differs by %g", u->op->name, mix, o,
                      error);
            }
        }
    }
}

static void test_mix(const Use *base, const DType *of, DType at) {
    Arena *a = arena_new();
    Err e = {0};
    Use u, wide;
    Str mix = {0};
    Workers one = workers(1, false);
    for (int i = 0; i < base->s.n_in; i++) str_printf(&mix, " %s", dtype_name(of[i]));
    bool ok =
        use_in(a, base, of, at, &u, &e) && widened(a, &u, &wide, &e) &&
        kernel_run(a, kernel_reference(u.op), &wide.s, wide.in, wide.out, &one.dev, &e);
    CHECK(ok, "%s of%s: %s", u.op->name, mix.s, e.text);
    if (ok) test_class(&u);
    for (const Kernel *k = u.op->cpu; ok && k && k->name; k++) {
        Tensor first[64];
        if (k->fits && !k->fits(&u.s)) continue;
        for (int threads = 1; threads <= 3 && ok; threads++) {
            Workers w = workers(threads, threads == 2);
            Tensor *out = threads == 1 ? first : u.out;
            ok = kernel_run(a, k, &u.s, u.in, out, &w.dev, &e);
            CHECK(ok, "%s %s of%s: %s", u.op->name, k->name, mix.s, e.text);
            for (int o = 0; ok && o < u.s.n_out && threads > 1; o++)
                CHECK(same_bits(&u.out[o], &first[o]),
                      "%s %s of%s: output %d with %d workers", u.op->name, k->name,
                      mix.s, o, threads);
        }
        for (int o = 0; ok && o < u.s.n_out; o++) {
            double error = relative_error(&first[o], &wide.out[o]);
            CHECK(error <= rounding_of(u.out_type[o].dtype) + f32_tolerance,
                  "%s %s of%s: output %d, %s, differs by %g", u.op->name, k->name,
                  mix.s, o, dtype_name(u.out_type[o].dtype), error);
        }
    }
    if (ok) test_twins(a, &u, wide.out, mix.s);
    str_free(&mix);
    arena_free(a);
}

/* The example's node with its numbers, in f32. */
static bool use_of(Arena *a, const Op *op, Use *u) {
    Err e = {0};
    Graph *g = in_f32(a, op);
    const Node *n = g ? node_of(g, op) : NULL;
    if (!n || n->n_in > 16) return false;
    Tensor *value = NEW(a, Tensor, g->n_value + 1);
    random_inputs(a, g, op->example, value);
    if (!graph_run(a, g, value, &e)) return false;
    *u = (Use){.op = op, .attrs = n->attrs, .s = node_sig(a, g, n)};
    for (int i = 0; i < n->n_in; i++) {
        u->in_type[i] = u->s.in[i];
        u->in[i] = (Tensor){NULL, &u->in_type[i]};
        if (n->in[i] != NO_ID) u->in[i].data = value[n->in[i]].data;
        if (may_be_half(op, &u->s, i)) u->half[u->n_half++] = i;
    }
    return true;
}

/* A row that has no halves: once, as it is. Else all inputs in one type, each of them alone in another, and some at random. */
static void test_halves(Arena *a, const Op *op) {
    enum { RANDOM = 6 };
    static const DType types[] = {F32, F16, BF16};
    Use u;
    if (!use_of(a, op, &u)) return;
    int mixes = 3 + 3 * u.n_half + RANDOM, ats = has_type_attr(op) ? 3 : 1;
    for (int m = 0; m < mixes && (!m || u.n_half || ats > 1); m++) {
        DType of[16];
        for (int i = 0; i < u.s.n_in; i++) of[i] = u.in_type[i].dtype;
        for (int k = 0; k < u.n_half; k++) {
            DType *t = &of[u.half[k]];
            if (m < 3) *t = types[m];
            if (m >= 3 && (m - 3) / 3 == k) *t = types[m % 3];
            if (m >= 3 + 3 * u.n_half) *t = types[random_bits() % 3];
        }
        for (int at = 0; at < ats; at++) test_mix(&u, of, types[at]);
    }
}

/* The gradient of one input of the use, from a graph made of it alone, with `dy` (f32
 * numbers that every type in question holds) as gradients of its outputs. */
static bool gradient_in(Arena *a, const Use *u, int input, const double *dy, Tensor *dx,
                        Err *e) {
    Graph *g = graph_new(a, "gradient");
    Id in[16], dys[64], got[64];
    bool need[64] = {0};
    for (int i = 0; i < u->s.n_in; i++)
        in[i] = u->in_type[i].rank < 0
                    ? NO_ID
                    : graph_value(g, ROLE_INPUT, u->in_type[i],
                                  arena_printf(a, "x%d", i), loc_none());
    Node *n = graph_add(g, u->op, u->attrs, u->s.n_in, in, e);
    if (!n) return false;
    for (int o = 0; o < n->n_out; o++)
        dys[o] = graph_value(g, ROLE_INPUT, g->value[n->out[o]]->type,
                             arena_printf(a, "dy%d", o), loc_none());
    for (int i = 0; i < 64; i++) got[i] = NO_ID;
    for (int o = 1; o < n->n_out; o++) dys[o] = NO_ID; /* statistics */
    need[input] = true;
    if (!u->op->grad(g, n, dys, need, got, e)) return false;
    *dx = (Tensor){0};
    if (got[input] == NO_ID) return true;
    Tensor *value = NEW(a, Tensor, g->n_value);
    for (int i = 0; i < u->s.n_in; i++)
        if (in[i] != NO_ID) value[in[i]] = u->in[i];
    const Type *t = &g->value[dys[0]]->type;
    value[dys[0]] = (Tensor){arena_alloc(a, type_bytes(t) + 16, 1), t};
    convert(value[dys[0]].data, t->dtype, dy, F64, type_count(t));
    if (!graph_run(a, g, value, e)) return false;
    *dx = value[got[input]];
    return true;
}

/* All inputs in `t`: the gradient of each is in t too, and what f64 computes but for the
 * roundings between its kernels. */
static void test_half_gradient(const Use *base, DType t) {
    enum { ROUNDINGS = 4 };
    Arena *a = arena_new();
    Err e = {0};
    Use u, wide;
    DType of[16];
    for (int i = 0; i < base->s.n_in; i++) of[i] = base->in_type[i].dtype;
    for (int k = 0; k < base->n_half; k++) of[base->half[k]] = t;
    bool ok = use_in(a, base, of, t, &u, &e) && widened(a, &u, &wide, &e);
    CHECK(ok, "%s in %s: %s", base->op->name, dtype_name(t), e.text);
    int64_t count = ok ? type_count(&u.out_type[0]) : 0;
    double *dy = NEW(a, double, count + 1);
    for (int64_t i = 0; i < count; i++) dy[i] = floor(random_in(-64, 64)) / 32;
    for (int k = 0; ok && k < u.n_half; k++) {
        Tensor got, want;
        int i = u.half[k];
        ok = gradient_in(a, &u, i, dy, &got, &e) &&
             gradient_in(a, &wide, i, dy, &want, &e);
        CHECK(ok, "%s in %s: gradient of input %d: %s", u.op->name, dtype_name(t), i,
              e.text);
        if (!ok || !got.data) continue;
        CHECK(type_equal(got.type, &u.in_type[i]),
              "%s: input %d is %s, its gradient %s", u.op->name, i,
              type_name(&u.in_type[i]).s, type_name(got.type).s);
        double error = relative_error(&got, &want);
        CHECK(error <= ROUNDINGS * rounding_of(t),
              "%s in %s: gradient of input %d differs by %g", u.op->name, dtype_name(t),
              i, error);
    }
    arena_free(a);
}

static void test_half_gradients(Arena *a, const Op *op) {
    Use u;
    if (!op->grad || !use_of(a, op, &u)) return;
    test_half_gradient(&u, F16);
    test_half_gradient(&u, BF16);
}

static void test_row(const Op *op) {
    Arena *a = arena_new();
    harness_state = 1;
    CHECK(op->doc && *op->doc, "%s: no doc", op->name);
    CHECK(op->example && *op->example, "%s: no example", op->name);
    CHECK(!op->cpu || !op->cpu->name || (op->cuda && op->cuda->name),
          "%s has no CUDA kernel", op->name);
    CHECK(op->grad || op->flags & (OP_NO_GRAD | OP_YAML_ONLY),
          "%s: no gradient and no reason", op->name);
    if (op->example && !(op->flags & OP_YAML_ONLY)) {
        test_round_trip(a, op);
        test_forward(a, op);
        test_halves(a, op);
        test_half_gradients(a, op);
        bool slope = op->grad && strcmp(op->name, not_the_slope);
        for (int i = 0; slope && i < 16; i++) test_gradient(a, op, i);
    }
    arena_free(a);
}

int main(int argc, char **argv) {
    for (const Op *const *op = ops; *op; op++)
        if (argc < 2 || !strcmp(argv[1], (*op)->name)) test_row(*op);
    CHECK(argc > 1 || n_twin > 500, "only %d runs of CUDA kernels", n_twin);
    return check_done("op_rows");
}
