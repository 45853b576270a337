/* Texts of random graphs with a loss, for random_graphs_test.c: a few dozen nodes of every
 * kind that networks and adapters are made of, on tensors of some hundred elements. A seed
 * gives the same text on any machine.
 *
 * Activations are [2,h,w,c] or [2,t,c], in f32; c is 4 to 16. */
#ifndef GRAPHRUN_RANDOM_GRAPH_H
#define GRAPHRUN_RANDOM_GRAPH_H
#include <stdlib.h>
#include <string.h>

#include "graph/base/base.h"

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
    Arena *a;
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
            y, y, y, a.id, w, b, a.c % 4 == 0 && pick(2) ? 4 : 2);
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

/* ---- what adapters are made of ---- */

static int trained(Maker *m, const char *dims) {
    int id = m->n_param++;
    str_printf(&m->decl, "train @w%d : f32[%s] {init=normal(0.3), lr=0.01}\n", id,
               dims);
    return id;
}

static int trained2(Maker *m, int a, int b) {
    char dims[32];
    snprintf(dims, sizeof dims, "%d,%d", a, b);
    return trained(m, dims);
}

/* y = W x + s B A x, with a dropout on the way for some; the id of y. */
static int lora_of(Maker *m, const Act *a, int out) {
    static const char *const scale[] = {"0.25", "1", "0.3", "0.0625"};
    int r = 1 + (int)pick(4), w = param2(m, out, a->c), k = m->next;
    int down = trained2(m, r, a->c), up = trained2(m, out, r);
    str_printf(&m->body, "%%b%d = linear %%%d, @w%d, _\n%%d%d = linear %%%d, @w%d, _\n",
               k, a->id, w, k, a->id, down);
    const char *thin = arena_printf(m->a, "%%d%d", k);
    if (pick(3) == 0) {
        str_printf(&m->body,
                   "%%h%d = dropout %%d%d, @rng {p=0.25, each=%s, rescale=true, "
                   "batch=true, stream=%u}\n",
                   k, k, pick(2) ? "element" : "channel", pick(1000));
        thin = arena_printf(m->a, "%%h%d", k);
    }
    str_printf(
        &m->body,
        "%%u%d = linear %s, @w%d, _\n%%%d = pointwise %%b%d, %%u%d {f=\"x0 + x1 * "
        "%s\", dtype=f32}\n",
        k, thin, up, k, k, k, scale[pick(COUNT(scale))]);
    return m->next++;
}

static void make_lora(Maker *m) {
    Act a = *any(m);
    int out = pick(2) ? 8 : 4;
    lora_of(m, &a, out);
    m->act[m->n - (m->n == 256)] = (Act){m->next - 1, a.h, a.w, out};
    m->n += m->n < 256;
}

/* q, k and v of one input, all with an adapter. */
static void make_lora_attention(Maker *m) {
    Act a = *any(m);
    int q = lora_of(m, &a, 8), k = lora_of(m, &a, 8), v = lora_of(m, &a, 8);
    str_printf(&m->body,
               "%%%d, %%l%d = attention %%%d, %%%d, %%%d {heads=%d, causal=false}\n",
               m->next, m->next, q, k, v, pick(2) ? 2 : 1);
    put(m, a.h, a.w, 8);
}

/* A convolution with an adapter: k x k down, 1 x 1 up. */
static void make_lora_conv(Maker *m) {
    Act a = *any(m);
    if (!a.h) return;
    int k = pick(2) ? 3 : 1, stride = 1 + (int)pick(2), out = pick(2) ? 8 : 4;
    int r = 1 + (int)pick(4), y = m->next;
    char dims[64];
    snprintf(dims, sizeof dims, "%d,%d,%d,%d", out, a.c, k, k);
    int w = param(m, dims);
    snprintf(dims, sizeof dims, "%d,%d,%d,%d", r, a.c, k, k);
    int down = trained(m, dims);
    snprintf(dims, sizeof dims, "%d,%d,1,1", out, r);
    int up = trained(m, dims);
    str_printf(&m->body,
               "%%b%d = conv2d %%%d, @w%d, _ {kernel=%d, stride=%d, pad=[%d]}\n"
               "%%d%d = conv2d %%%d, @w%d, _ {kernel=%d, stride=%d, pad=[%d]}\n"
               "%%u%d = conv2d %%d%d, @w%d, _ {kernel=1, stride=1, pad=[0]}\n"
               "%%%d = pointwise %%b%d, %%u%d {f=\"x0 + 0.5 * x1\", dtype=f32}\n",
               y, a.id, w, k, stride, k / 2, y, a.id, down, k, stride, k / 2, y, y, up,
               y, y, y);
    put(m, (a.h - 1) / stride + 1, (a.w - 1) / stride + 1, out);
}

/* A weight that is made in the step: W + s B A, a product of two (LoHa), or a Kronecker
 * product (LoKr). */
static void make_weight(Maker *m) {
    Act a = *any(m);
    int k = m->next, out = 8;
    if (a.c % 4) return;
    switch (pick(3)) {
    case 0:
        str_printf(&m->body, "%%w%d = matmul @w%d, @w%d\n", k, trained2(m, out, 2),
                   trained2(m, 2, a.c));
        break;
    case 1:
        str_printf(&m->body,
                   "%%v%d = matmul @w%d, @w%d\n%%x%d = matmul @w%d, @w%d\n"
                   "%%w%d = pointwise %%v%d, %%x%d {f=\"x0 * x1\", dtype=f32}\n",
                   k, trained2(m, out, 2), trained2(m, 2, a.c), k, trained2(m, out, 2),
                   trained2(m, 2, a.c), k, k, k);
        break;
    default:
        str_printf(&m->body, "%%w%d = kron @w%d, @w%d\n", k, trained2(m, out / 4, 2),
                   trained2(m, 4, a.c / 2));
    }
    str_printf(&m->body,
               "%%z%d = pointwise @w%d, %%w%d {f=\"x0 + 0.5 * x1\", dtype=f32}\n", k,
               param2(m, out, a.c), k);
    str_printf(&m->body, "%%%d = linear %%%d, %%z%d, _\n", k, a.id, k);
    put(m, a.h, a.w, out);
}

/* ---- more of networks ---- */

/* Noise on an activation, drawn in the step. */
static void make_noise(Maker *m) {
    Act a = *any(m);
    str_printf(&m->body, "%%n%d = %s @rng {shape=[2,", m->next,
               pick(2) ? "normal" : "uniform");
    if (a.h)
        str_printf(&m->body, "%d,%d,%d", a.h, a.w, a.c);
    else
        str_printf(&m->body, "%d,%d", a.w, a.c);
    str_printf(&m->body, "], batch=true, stream=%u}\n", pick(1000));
    str_printf(&m->body,
               "%%%d = pointwise %%%d, %%n%d {f=\"x0 + 0.1 * x1\", dtype=f32}\n",
               m->next, a.id, m->next);
    put(m, a.h, a.w, a.c);
}

static void make_resize(Maker *m) {
    Act a = *any(m);
    if (!a.h || a.h * a.w > 16) return;
    str_printf(&m->body, "%%%d = resize %%%d {h=%d, w=%d}\n", m->next, a.id, 2 * a.h,
               2 * a.w);
    put(m, 2 * a.h, 2 * a.w, a.c);
}

/* Both halves of one linear, one as the gate of the other. */
static void make_geglu(Maker *m) {
    Act a = *any(m);
    int k = m->next;
    str_printf(&m->body,
               "%%g%d = linear %%%d, @w%d, _\n"
               "%%v%d = slice %%g%d {axis=-1, from=0, count=8}\n"
               "%%h%d = slice %%g%d {axis=-1, from=8, count=8}\n"
               "%%%d = pointwise %%v%d, %%h%d {f=\"x0 * gelu(x1)\", dtype=f32}\n",
               k, a.id, param2(m, 16, a.c), k, k, k, k, k, k, k);
    put(m, a.h, a.w, 8);
}

/* A chain on one value, each step of which may take the place of the one before. */
static void make_chain(Maker *m) {
    static const char *const f[] = {"x0 * 1.5", "tanh(x0)", "x0 + 1", "silu(x0)",
                                    "sin(x0) / 2"};
    for (uint32_t i = 0, n = 2 + pick(4); i < n; i++) {
        Act a = i ? m->act[m->n - 1] : *any(m);
        str_printf(&m->body, "%%%d = pointwise %%%d {f=\"%s\", dtype=f32}\n", m->next,
                   a.id, f[pick(COUNT(f))]);
        put(m, a.h, a.w, a.c);
    }
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
        make_unary,   make_binary,  make_binary,         make_linear,    make_linear,
        make_conv,    make_norm,    make_concat,         make_shape,     make_shape,
        make_reduced, make_dropout, make_const,          make_sliced,    make_attention,
        make_lora,    make_lora,    make_lora_attention, make_lora_conv, make_weight,
        make_noise,   make_resize,  make_geglu,          make_chain};
    Maker m = {.a = arena_new()};
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
    arena_free(m.a);
    str_free(&m.body);
    return m.decl.s;
}
#endif
