/* libFuzzer entry: plan files. Even first byte: the rest is a file. Odd: the rest are
 * patches (offset, value) on the bytes of a good plan, whose hashes are then made right
 * again, so that what lies behind them is reached. A plan that was taken is written, read
 * again, printed, and replayed if it is small: it must not touch memory that is not its own
 * (AddressSanitizer and the guard pages watch). */
#include <stdio.h>
#include <stdlib.h>

#include "passes/passes.h"
#include "runtime/exec.h"
#include "tests/plan_seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char program[] =
    "graph fuzz {\n"
    "  input @x : f32[2,4,4,3]\n"
    "  input @ids : i32[2,3]\n"
    "  frozen @w : f32[8,3,3,3]\n"
    "  frozen @t : f32[5,8]\n"
    "  scalar @lr.0 : f32[] {init=none, lr=0.1}\n"
    "  const @one : f32[] = [1]\n"
    "  train @p : f32[8,8] {init=normal(0.1), lr=0.1}\n"
    "  state @p.m : f32[8,8] {init=zeros, lr=1}\n"
    "  %0 = conv2d @x, @w {kernel=3, pad=1} : f32[2,4,4,8]  # forward - a\n"
    "  %1 = pointwise %0 {f=\"x0 * sigmoid(x0)\", dtype=f32} : f32[2,4,4,8]  # forward "
    "- b\n"
    "  %2 = linear %1, @p : f32[2,4,4,8]  # forward - c\n"
    "  %3 = embedding @ids, @t : f32[2,3,8]\n"
    "  %4 = pointwise %2, %0 {f=\"x0 + x1\", dtype=f32} : f32[2,4,4,8]\n"
    "  %5 = global_norm %4, %3 : f32[]  # backward\n"
    "  %6 = finite %5, %5 : f32[]  # update\n"
    "  %7, %8 = update @p, @p.m, @lr.0, @one, %6, _, @p.m {f=\"m = 0.9 * m + g; p = p "
    "- lr "
    "* m\", states=\"m\", axis=-1, size=0} : f32[8,8], f32[8,8]  # update\n"
    "  output loss = %5\n"
    "  output y = %4\n"
    "}\n";

/* ---- one thread ---- */
static void run_alone(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                      void *arg) {
    static _Alignas(64) char scratch[SCRATCH_BYTES];
    (void)d;
    for (int64_t i = 0; i < n; i++) body(arg, i, scratch);
}

/* The two weights that the program reads, of ones. */
static bool some_weight(void *ctx, const char *name, Tensor *out) {
    static float ones[256];
    static const int64_t w[] = {8, 3, 3, 3}, t[] = {5, 8};
    static Type type[2];
    (void)ctx;
    for (size_t i = 0; i < COUNT(ones); i++) ones[i] = 1;
    type[0] = type_of(F32, 4, w);
    type[1] = type_of(F32, 2, t);
    bool is_w = !strcmp(name, "w");
    *out = (Tensor){ones, &type[!is_w]};
    return is_w || !strcmp(name, "t");
}

/* Small enough to be replayed in no time. */
static bool small(const Plan *p) {
    uint64_t bytes = 0, work = 0;
    for (Mem m = 0; m < MEMS; m++)
        if (!add_u64(bytes, p->size[m], &bytes)) return false;
    for (uint32_t k = 0; k < p->n_step; k++)
        if (!add_u64(work, p->step[k].flops, &work) ||
            !add_u64(work, p->step[k].bytes, &work))
            return false;
    return bytes < 1 << 20 && work < 1 << 22 && (!p->init || small(p->init));
}

static void replay(const Plan *p) {
    Device dev = {.name = "alone", .threads = 1, .par = run_alone};
    WeightSource none = {NULL, some_weight};
    Err e = {0};
    if (!small(p)) return;
    Store *s = store_open(&dev, &none, 1);
    Exec *x = exec_open(s, p, &e);
    if (x) exec_poison(x, true);
    if (x) exec_run(x);
    if (!x && !e.set) __builtin_trap();
    exec_close(x);
    store_close(s);
}

static void take(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    Err e = {0}, none = {0};
    bool old;
    Plan *p = plan_read(a, data, n, &old, &e);
    if (!p && (!e.set || e.code != EXIT_FAILED)) __builtin_trap();
    if (p) {
        Str once = {0}, twice = {0}, text = {0};
        plan_write(&once, p);
        Plan *q = plan_read(a, once.s, once.n, &old, &none);
        if (!q) {
            fprintf(stderr, "taken, but not again: %s\n", none.text);
            __builtin_trap();
        }
        plan_write(&twice, q);
        if (once.n != twice.n || memcmp(once.s, twice.s, once.n)) __builtin_trap();
        plan_print(&text, q);
        replay(q);
        str_free(&once);
        str_free(&twice);
        str_free(&text);
    }
    arena_free(a);
}

/* The good plan's bytes, not compressed. */
static const Str *good_plan(void) {
    static Str good;
    if (good.n) return &good;
    Arena *a = arena_new();
    Source src = {"fuzz", program, sizeof program - 1};
    Err e = {0};
    Options opt = {.train = true};
    Graph *g = graph_parse(a, &src, &e);
    Plan *p = g ? plan_lower(g, &opt, &e) : NULL;
    if (!p) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    Str packed = {0};
    plan_write(&packed, p);
    seal_unpacked(&good, (const uint8_t *)packed.s, packed.n);
    str_free(&packed);
    arena_free(a);
    return &good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const Str *good = good_plan();
    if (!n) return 0;
    if (!(data[0] & 1)) {
        take(data + 1, n - 1);
        return 0;
    }
    uint8_t *copy = malloc(good->n);
    memcpy(copy, good->s, good->n);
    for (size_t i = 1; i + 3 <= n; i += 3)
        copy[(data[i] | data[i + 1] << 8) % good->n] = data[i + 2];
    seal(copy, good->n);
    take(copy, good->n);
    free(copy);
    return 0;
}
