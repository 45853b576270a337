/* Random graphs through all passes. Each is made as text, then run four ways:
 *   eager    differentiated and given updates, node by node with op_run, nothing else
 *   planned  dce, schedule, in-place and offsets, reference kernels, arenas full of NaN:
 *            must give the same bits, since these passes may not change arithmetic
 *   again    the same with checkpoints, by segment and by random memory budgets: the same
 *            bits, and no more memory than allowed
 *   all      with simplify, fuse and the fast kernels: within 1e-5 of it, relative
 * random_graphs_test [COUNT [FIRST_SEED]]: for a soak. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/ops.h"
#include "passes/passes.h"
#include "runtime/exec.h"
#include "tests/check.h"

/* ---- random text ---- */

static uint64_t state;

static uint32_t pick(uint32_t n) { /* splitmix64, below n */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) % n);
}

typedef struct Act { /* an activation: [2,h,w,c], or [2,t,c] with h == 0 */
    int id, h, w, c;
} Act;

typedef struct Maker {
    Str decl, body;
    Act act[256];
    int n, next, n_param;
} Maker;

/* "@wN", declared with these dimensions: trained, frozen in f32 or f16. */
static int param(Maker *m, const char *dims) {
    int id = m->n_param++;
    if (pick(3) == 0)
        str_printf(&m->decl, "train @w%d : f32[%s] {init=normal(0.3), lr=%s}\n", id,
                   dims, pick(2) ? "0.01" : "0.002");
    else
        str_printf(&m->decl, "frozen @w%d : %s[%s]\n", id, pick(3) ? "f32" : "f16",
                   dims);
    return id;
}

static int param1(Maker *m, int a) {
    char dims[32];
    snprintf(dims, sizeof dims, "%d", a);
    return param(m, dims);
}

static int param2(Maker *m, int a, int b) {
    char dims[32];
    snprintf(dims, sizeof dims, "%d,%d", a, b);
    return param(m, dims);
}

static Act *any(Maker *m) {
    int recent = m->n > 6 && pick(3) ? m->n - 6 : 0;
    return &m->act[recent + (int)pick((uint32_t)(m->n - recent))];
}

static void put(Maker *m, int h, int w, int c) {
    if (m->n < 256) m->act[m->n++] = (Act){m->next, h, w, c};
    m->next++;
}

static bool same(const Act *a, const Act *b) {
    return a->h == b->h && a->w == b->w && a->c == b->c;
}

static void make_unary(Maker *m) {
    static const char *const f[] = {
        "sin(x0)",  "tanh(x0)",         "x0 * sigmoid(x0)",
        "gelu(x0)", "x0 * 1",           "0.5 * x0 + 0.1",
        "silu(x0)", "max(x0, 0)",       "x0 ^ 2 / (1 + x0 ^ 2)",
        "abs(x0)",  "clamp(x0, -1, 1)", "where(x0 < 0, x0, 0.1 * x0)"};
    Act a = *any(m);
    str_printf(&m->body, "%%%d = pointwise %%%d {f=\"%s\", dtype=f32}\n", m->next, a.id,
               f[pick(COUNT(f))]);
    put(m, a.h, a.w, a.c);
}

static void make_binary(Maker *m) {
    static const char *const f[] = {"x0 + x1",       "x0 * x1",
                                    "x0 - 0.5 * x1", "x0 * silu(x1)",
                                    "min(x0, x1)",   "x0 * tanh(x0) + x1"};
    Act a = *any(m), b = *any(m);
    const char *g = f[pick(COUNT(f))];
    if (same(&a, &b))
        str_printf(&m->body, "%%%d = pointwise %%%d, %%%d {f=\"%s\", dtype=f32}\n",
                   m->next, a.id, b.id, g);
    else
        str_printf(&m->body, "%%%d = pointwise %%%d, @w%d {f=\"%s\", dtype=f32}\n",
                   m->next, a.id, param1(m, pick(2) ? a.c : 1), g);
    put(m, a.h, a.w, a.c);
}

static void make_linear(Maker *m) {
    Act a = *any(m);
    int out = pick(2) ? 8 : 4, w = param2(m, out, a.c);
    if (pick(2))
        str_printf(&m->body, "%%%d = linear %%%d, @w%d, _\n", m->next, a.id, w);
    else
        str_printf(&m->body, "%%%d = linear %%%d, @w%d, @w%d\n", m->next, a.id, w,
                   param1(m, out));
    put(m, a.h, a.w, out);
}

static void make_conv(Maker *m) {
    Act a = *any(m);
    if (!a.h) return;
    int k = pick(2) ? 3 : 1, stride = 1 + (int)pick(2), out = pick(2) ? 8 : 4;
    char dims[64];
    snprintf(dims, sizeof dims, "%d,%d,%d,%d", out, a.c, k, k);
    int w = param(m, dims);
    str_printf(&m->body,
               "%%%d = conv2d %%%d, @w%d, @w%d {kernel=%d, stride=%d, pad=[%d]}\n",
               m->next, a.id, w, param1(m, out), k, stride, k / 2);
    put(m, (a.h - 1) / stride + 1, (a.w - 1) / stride + 1, out);
}

static void make_norm(Maker *m) {
    Act a = *any(m);
    int w = param1(m, a.c), b = param1(m, a.c), y = m->next;
    if (pick(2) && a.h)
        str_printf(
            &m->body,
            "%%%d, %%m%d, %%r%d = group_norm %%%d, @w%d, @w%d {groups=%d, eps=0.01}\n",
            y, y, y, a.id, w, b, pick(2) ? 2 : 4);
    else
        str_printf(&m->body,
                   "%%%d, %%m%d, %%r%d = layer_norm %%%d, @w%d, @w%d {eps=0.01}\n", y,
                   y, y, a.id, w, b);
    put(m, a.h, a.w, a.c);
}

static void make_attention(Maker *m) {
    Act q = *any(m), k = *any(m);
    if (q.c != k.c || (q.h && q.h * q.w < 1)) return;
    str_printf(&m->body,
               "%%%d, %%l%d = attention %%%d, %%%d, %%%d {heads=%d, causal=false}\n",
               m->next, m->next, q.id, k.id, k.id, pick(2) ? 2 : 1);
    put(m, q.h, q.w, q.c);
}

static void make_concat(Maker *m) {
    Act a = *any(m), b = *any(m);
    if (a.h != b.h || a.w != b.w || a.c + b.c > 16) return;
    str_printf(&m->body, "%%%d = concat %%%d, %%%d {axis=-1}\n", m->next, a.id, b.id);
    put(m, a.h, a.w, a.c + b.c);
}

static void make_shape(Maker *m) {
    Act a = *any(m);
    switch (pick(5)) {
    case 0: /* pixels as tokens, and back where the count allows it */
        if (a.h) {
            str_printf(&m->body, "%%%d = view %%%d {shape=[2,%d,%d]}\n", m->next, a.id,
                       a.h * a.w, a.c);
            put(m, 0, a.h * a.w, a.c);
        } else if (a.w % 4 == 0) {
            str_printf(&m->body, "%%%d = view %%%d {shape=[2,%d,4,%d]}\n", m->next,
                       a.id, a.w / 4, a.c);
            put(m, a.w / 4, 4, a.c);
        }
        return;
    case 1: {
        int from = (int)pick((uint32_t)(a.c / 2));
        str_printf(&m->body, "%%%d = slice %%%d {axis=-1, from=%d, count=%d}\n",
                   m->next, a.id, from, a.c / 2 > 3 ? a.c / 2 : a.c);
        if (a.c / 2 > 3) {
            put(m, a.h, a.w, a.c / 2);
        } else { /* too narrow to go on with: takes that line back */
            while (m->body.n && m->body.s[m->body.n - 1] != '%') m->body.n--;
            m->body.n -= m->body.n > 0;
            while (m->body.n && m->body.s[m->body.n - 1] != '\n') m->body.n--;
            m->body.s[m->body.n] = 0;
        }
        return;
    }
    case 2:
        if (!a.h) return;
        str_printf(&m->body, "%%%d = permute %%%d {order=[0,2,1,3]}\n", m->next, a.id);
        put(m, a.w, a.h, a.c);
        return;
    case 3:
        str_printf(&m->body,
                   "%%d%d = detach %%%d\n%%%d = pointwise %%d%d, %%%d {f=\"x0 + x1\","
                   " dtype=f32}\n",
                   m->next, a.id, m->next, m->next, a.id);
        put(m, a.h, a.w, a.c);
        return;
    default:
        str_printf(&m->body, "%%e%d = cast %%%d {to=f64}\n%%%d = cast %%e%d {to=f32}\n",
                   m->next, a.id, m->next, m->next);
        put(m, a.h, a.w, a.c);
    }
}

static void make_reduced(Maker *m) {
    Act a = *any(m);
    const char *axes = a.h ? "[1,2]" : "[1]";
    str_printf(&m->body, "%%k%d = mean %%%d {over=%s, keep=true}\n", m->next, a.id,
               axes);
    str_printf(&m->body, "%%%d = pointwise %%%d, %%k%d {f=\"x0 - x1\", dtype=f32}\n",
               m->next, a.id, m->next);
    put(m, a.h, a.w, a.c);
}

static void make_dropout(Maker *m) {
    static const char *const each[] = {"element", "channel", "module"};
    Act a = *any(m);
    str_printf(&m->body,
               "%%%d = dropout %%%d, @rng {p=0.25, each=%s, rescale=true, batch=true,"
               " stream=%u}\n",
               m->next, a.id, each[pick(3)], pick(1000));
    put(m, a.h, a.w, a.c);
}

static void make_const(Maker *m) {
    Act a = *any(m);
    str_printf(&m->body, "%%i%d = index {n=%d}\n", m->next, a.c);
    str_printf(&m->body, "%%c%d = pointwise %%i%d {f=\"cos(x0) / 2\", dtype=f64}\n",
               m->next, m->next);
    str_printf(&m->body, "%%f%d = cast %%c%d {to=f32}\n", m->next, m->next);
    str_printf(&m->body, "%%%d = pointwise %%%d, %%f%d {f=\"x0 * x1\", dtype=f32}\n",
               m->next, a.id, m->next);
    put(m, a.h, a.w, a.c);
}

/* A trainable of which one slice learns. */
static void make_sliced(Maker *m) {
    Act a = *any(m);
    int id = m->n_param++;
    str_printf(&m->decl,
               "train @w%d : f32[8,%d] {init=normal(0.3), lr=0.01, slice=0:2:@unit}\n",
               id, a.c);
    str_printf(&m->body, "%%a%d = active @w%d, @unit {axis=0, size=2}\n", m->next, id);
    str_printf(&m->body, "%%%d = linear %%%d, %%a%d, _\n", m->next, a.id, m->next);
    put(m, a.h, a.w, 8);
}

static void make_loss(Maker *m) {
    int terms = 2 + (int)pick(3);
    for (int i = 0; i < terms; i++) {
        Act *a = i ? any(m) : &m->act[m->n - 1];
        str_printf(&m->body, "%%s%d = pointwise %%%d {f=\"x0 ^ 2\", dtype=f32}\n", i,
                   a->id);
        str_printf(&m->body, "%%t%d = mean %%s%d {over=%s, keep=false}\n", i, i,
                   a->h ? "[0,1,2,3]" : "[0,1,2]");
    }
    str_add(&m->body, "%loss = pointwise ");
    for (int i = 0; i < terms; i++) str_printf(&m->body, "%s%%t%d", i ? ", " : "", i);
    str_add(&m->body, " {f=\"x0");
    for (int i = 1; i < terms; i++) str_printf(&m->body, " + x%d", i);
    str_add(&m->body, "\", dtype=f32}\noutput loss = %loss\n");
    str_printf(&m->body, "output y = %%%d\n", any(m)->id);
}

/* The nodes, with a checkpoint segment for every few. */
static void add_body(Maker *m) {
    uint32_t length = 2 + pick(8), n = 0;
    for (const char *line = m->body.s; *line;) {
        size_t len = strcspn(line, "\n");
        str_addn(&m->decl, line, len);
        if (*line == '%')
            str_printf(&m->decl, "  # forward - node random.gr:1:1 in s%u",
                       n++ / length);
        str_add(&m->decl, "\n");
        line += len + (line[len] != 0);
    }
}

static char *make_graph(uint64_t seed) {
    static void (*const make[])(Maker *) = {
        make_unary,   make_binary,  make_binary, make_linear, make_linear,
        make_conv,    make_norm,    make_concat, make_shape,  make_shape,
        make_reduced, make_dropout, make_const,  make_sliced, make_attention};
    Maker m = {0};
    state = seed * 1000003;
    str_add(&m.decl, "graph random {\nscalar @rng : i32[8]\nscalar @unit : i32[]\n"
                     "input @x : f32[B=2,4,4,8]\ninput @z : f32[B=2,8,4]\n"
                     "train @w0 : f32[8,8] {init=normal(0.3), lr=0.01}\n");
    str_add(&m.body, "%0 = pointwise @x {f=\"x0\", dtype=f32}\n%1 = cast @z {to=f32}\n"
                     "%2 = linear %0, @w0, _\n");
    m.n_param = 1;
    m.act[0] = (Act){0, 4, 4, 8};
    m.act[1] = (Act){1, 0, 8, 4};
    m.act[2] = (Act){2, 4, 4, 8};
    m.n = m.next = 3;
    int nodes = 5 + (int)pick(40);
    for (int i = 0; i < nodes; i++) make[pick(COUNT(make))](&m);
    make_loss(&m);
    add_body(&m);
    str_add(&m.decl, "}\n");
    str_free(&m.body);
    return m.decl.s;
}

/* ---- data, by name ---- */

static void fill(const char *name, const Type *t, void *out) {
    uint64_t z = 1469598103934665603u;
    for (const char *c = name; *c; c++) z = (z ^ (uint8_t)*c) * 1099511628211u;
    int64_t n = type_count(t);
    for (int64_t i = 0; i < n; i++) {
        z = z * 6364136223846793005u + 1442695040888963407u;
        double x = (double)(z >> 11) * 0x1p-53 * 2 - 1;
        if (!dtype_is_float(t->dtype))
            ((int32_t *)out)[i] = (int32_t)(z >> 62);
        else
            convert((char *)out + (size_t)i * dtype_size(t->dtype), t->dtype, &x, F64,
                    1);
    }
    if (!strncmp(name, "lr.", 3)) *(float *)out = 0.01f;
}

typedef struct Weights {
    Arena *a;
    const Graph *g;
} Weights;

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    Weights *w = ctx;
    Id id = graph_find(w->g, name);
    if (id == NO_ID) return false;
    const Type *t = &w->g->value[id]->type;
    char *data = arena_alloc(w->a, type_bytes(t) + 16, 1);
    data += strlen(name) % 2; /* an odd address in a file: must be copied */
    void *even = arena_alloc(w->a, type_bytes(t), 1);
    fill(name, t, even);
    memcpy(data, even, type_bytes(t));
    *out = (Tensor){data, t};
    return true;
}

/* ---- eager ---- */

static Tensor declared(Arena *a, const Value *v) {
    Tensor t = {arena_alloc(a, type_bytes(&v->type) + 8, 1), &v->type};
    int64_t n = type_count(&v->type);
    if (v->role == ROLE_STATE) return t; /* starts as zeros */
    if (v->role != ROLE_CONST)
        fill(v->name, &v->type, t.data);
    else if (dtype_is_float(v->type.dtype))
        convert(t.data, v->type.dtype, v->data, F64, n);
    else
        for (int64_t i = 0; i < n; i++) ((int32_t *)t.data)[i] = (int32_t)v->data[i];
    return t;
}

static bool eager(Arena *a, const Graph *g, Tensor *t, Err *e) {
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role != ROLE_ACT) t[i] = declared(a, g->value[i]);
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        Tensor *in = NEW(a, Tensor, n->n_in + 1), *out = NEW(a, Tensor, n->n_out + 1);
        Sig s = node_sig(a, g, n);
        for (int i = 0; i < n->n_in; i++) {
            if (n->in[i] == NO_ID) continue;
            in[i] = t[n->in[i]];
        }
        if (!op_run(a, &s, in, out, e)) return false;
        for (int o = 0; o < n->n_out; o++) t[n->out[o]] = out[o];
    }
    return true;
}

/* ---- planned ---- */

static bool feed(Arena *a, Exec *x, const Plan *p, Err *e) {
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->base != i || (v->mem != MEM_INPUT && v->role != ROLE_TRAIN)) continue;
        void *data = arena_alloc(a, v->bytes + 8, 1);
        fill(v->name, &v->type, data);
        if (!exec_write(x, v->name, data, v->bytes, e)) return false;
    }
    return true;
}

/* Relative to the norm of `want` and a tenth of `scale`, the norm of all gradients: one
 * that is zero in exact arithmetic (a bias before a norm) is a rounding error of terms of
 * that size. */
static double difference(const float *got, const float *want, int64_t n, double scale) {
    double d = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += (double)want[i] * want[i];
    }
    return sqrt(d) / (sqrt(norm) + scale / 10 + 1e-20);
}

/* Every output and every trained tensor of the run against the eager values. */
static void compare(Arena *a, uint64_t seed, Exec *x, const Graph *g,
                    const Tensor *want, bool exact, bool trained) {
    Err e = {0};
    double scale = *(const float *)want[graph_output_find(g, "grad_norm")].data;
    for (uint32_t k = 0; k < g->n_output + g->n_value; k++) {
        const char *name;
        Id v;
        if (k < g->n_output) {
            name = g->output[k].name;
            v = g->output[k].value;
        } else {
            v = k - g->n_output;
            name = g->value[v]->name;
            bool kept =
                g->value[v]->role == ROLE_TRAIN || g->value[v]->role == ROLE_STATE;
            if (!kept || !trained) continue;
        }
        const Type *t = &g->value[v]->type;
        void *got = arena_alloc(a, type_bytes(t) + 8, 1);
        bool read = exec_read(x, name, got, type_bytes(t), &e);
        CHECK(read, "seed %llu: %s", (unsigned long long)seed, e.text);
        if (!read) return;
        if (exact)
            CHECK(!memcmp(got, want[v].data, type_bytes(t)), "seed %llu: '%s' differs",
                  (unsigned long long)seed, name);
        else if (t->dtype == F32) {
            double d = difference(got, want[v].data, type_count(t), scale);
            CHECK(d < 1e-5, "seed %llu: '%s' is %g off", (unsigned long long)seed, name,
                  d);
        }
    }
}

/* The new values of trainables and states, under their old ids. */
static void after_update(const Graph *g, Tensor *t) {
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        for (const OpAlias *al = n->op->alias; al && al->out >= 0; al++)
            if (al->out < n->n_out && al->in < n->n_in)
                t[n->in[al->in]] = t[n->out[al->out]];
    }
}

static bool run_plan(Arena *a, uint64_t seed, const Graph *g, const Options *opt,
                     const Graph *ref, const Tensor *want, bool exact, Device *dev,
                     Err *e) {
    Plan *p = plan_lower(g, opt, e);
    if (!p) return false;
    CHECK(p->size[MEM_ACT] >= p->act_lower_bound &&
              (double)p->size[MEM_ACT] <= 1.25 * (double)p->act_lower_bound,
          "seed %llu: %llu bytes, at least %llu", (unsigned long long)seed,
          (unsigned long long)p->size[MEM_ACT], (unsigned long long)p->act_lower_bound);
    Weights w = {a, ref};
    WeightSource source = {&w, find_weight};
    Store *s = store_open(dev, &source, 1);
    Exec *x = exec_open(s, p, e);
    bool ok = x && feed(a, x, p, e);
    if (ok) {
        exec_poison(x, true);
        exec_run(x);
        compare(a, seed, x, ref, want, exact, exact);
    }
    exec_close(x);
    store_close(s);
    return ok;
}

/* ---- one graph ---- */

static uint64_t
    n_recomputed; /* in all graphs: a test that recomputes nothing is none */

static Graph *read_graph(Arena *a, const char *text, Err *e) {
    Source *src = source_text(a, "random.gr", text, strlen(text));
    return graph_parse(a, src, e);
}

static uint64_t all_bytes(const Plan *p) {
    uint64_t bytes = 0;
    for (int m = 0; m < MEMS; m++) bytes += p->size[m];
    return bytes;
}

/* With checkpoints: budget 0 is by segment, else per mille of the activations of `plain`. */
static bool run_again(Arena *a, uint64_t seed, const char *text, const Options *like,
                      const Plan *plain, uint32_t budget, const Graph *ref,
                      const Tensor *want, Device *dev, Err *e) {
    Options opt = *like;
    opt.gradient_checkpointing = budget == 0;
    if (budget)
        opt.memory_budget = all_bytes(plain) - plain->size[MEM_ACT] +
                            plain->size[MEM_ACT] * budget / 1000;
    Graph *g = read_graph(a, text, e);
    if (!g) return false;
    Err why = {0};
    g = passes_run(g, &opt, "infer-shapes", &why);
    if (!g) {
        CHECK(budget && why.code == EXIT_FAILED && strstr(why.text, "is too small"),
              "seed %llu: %s", (unsigned long long)seed, why.text);
        return true;
    }
    Plan *p = plan_lower(g, &opt, e);
    if (!p) return false;
    CHECK(!budget || all_bytes(p) <= opt.memory_budget,
          "seed %llu: %llu bytes, the budget is %llu", (unsigned long long)seed,
          (unsigned long long)all_bytes(p), (unsigned long long)opt.memory_budget);
    for (uint32_t k = 0; k < g->n_node; k++)
        n_recomputed += g->node[k]->at.phase == RECOMPUTE;
    return run_plan(a, seed, g, &opt, ref, want, true, dev, e);
}

static void check_text(Arena *a, uint64_t seed, const Graph *g) {
    Str one = {0}, two = {0};
    Err e = {0};
    graph_print(&one, g);
    Graph *again = read_graph(a, one.s, &e);
    CHECK(again, "seed %llu: %s", (unsigned long long)seed, e.text);
    if (again) graph_print(&two, again);
    CHECK(again && !strcmp(one.s, two.s), "seed %llu: text does not read back",
          (unsigned long long)seed);
    str_free(&one);
    str_free(&two);
}

static void check_idempotent(uint64_t seed, Graph *g, Options *opt) {
    static const char *const names[] = {"simplify", "dce", "fuse", "schedule", NULL};
    for (const Pass *p = pipeline; p->name; p++)
        for (int i = 0; names[i]; i++) {
            if (strcmp(p->name, names[i])) continue;
            Err e = {0};
            Str one = {0}, two = {0};
            Graph *once = p->run(g, opt, &e),
                  *twice = once ? p->run(once, opt, &e) : NULL;
            if (once) graph_print(&one, once);
            if (twice) graph_print(&two, twice);
            CHECK(twice && !strcmp(one.s, two.s),
                  "seed %llu: %s changes its own result %s", (unsigned long long)seed,
                  p->name, e.text);
            str_free(&one);
            str_free(&two);
        }
}

static void test_seed(uint64_t seed, const Recipe *recipe, Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    char *text = make_graph(seed);
    static const char *const plain[] = {"simplify", "dce", "fuse", "schedule", NULL};
    static const char *const exact[] = {"simplify", "fuse", NULL};
    Options eager_opt = {.recipe = recipe,
                         .train = true,
                         .max_grad_norm = 1,
                         .record_gradients = true,
                         .reference_kernels = true,
                         .disable = plain};
    Options planned_opt = eager_opt, all_opt = eager_opt;
    planned_opt.disable = exact;
    all_opt.disable = NULL;
    all_opt.reference_kernels = false;
    Graph *g[3] = {0};
    Options *opt[] = {&eager_opt, &planned_opt, &all_opt};
    bool ok = true;
    for (int i = 0; ok && i < 3; i++) {
        g[i] = read_graph(a, text, &e);
        if (g[i] && i == 0) check_text(a, seed, g[i]);
        g[i] = g[i] ? passes_run(g[i], opt[i], "infer-shapes", &e) : NULL;
        ok = g[i] != NULL;
    }
    Tensor *t = NULL;
    if (ok) {
        t = NEW(a, Tensor, g[0]->n_value + 1);
        ok = eager(a, g[0], t, &e);
    }
    if (ok) {
        after_update(g[0], t);
        check_text(a, seed, g[2]);
        check_idempotent(seed, g[0], &all_opt);
        ok = run_plan(a, seed, g[1], &planned_opt, g[0], t, true, dev, &e) &&
             run_plan(a, seed, g[2], &all_opt, g[0], t, false, dev, &e);
        const Plan *whole = ok ? plan_lower(g[1], &planned_opt, &e) : NULL;
        for (int i = 0; whole && ok && i < 3; i++)
            ok = run_again(a, seed, text, &planned_opt, whole, i ? 1 + pick(1000) : 0,
                           g[0], t, dev, &e);
    }
    CHECK(ok, "seed %llu: %s\n%s", (unsigned long long)seed, e.text, text);
    free(text);
    arena_free(a);
}

int main(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 200;
    uint64_t first = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    Arena *a = arena_new();
    Err e = {0};
    Recipe recipe = {0};
    recipe.optimizer =
        doc_load(library_new(a), "adamw", DOC_OPTIMIZER, NULL, loc_none(), &e);
    recipe.optimizer_args = args_new(a);
    CHECK(recipe.optimizer && args_bind(a, yaml_get(recipe.optimizer->root, "args"),
                                        recipe.optimizer_args, "adamw", loc_none(),
                                        recipe.optimizer_args, &e),
          "%s", e.text);
    Device *dev = cpu_open(2);
    for (long i = 0; !e.set && i < count; i++)
        test_seed(first + (uint64_t)i, &recipe, dev);
    CHECK(n_recomputed > 0, "%llu nodes were recomputed",
          (unsigned long long)n_recomputed);
    cpu_close(dev);
    arena_free(a);
    return check_done("random_graphs");
}
