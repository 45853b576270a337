/* Stores and replay: starting values, persistence over plans, weights, guards, NaN. */
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "graph/lang/yaml.h"
#include "passes/passes.h"
#include "runtime/exec.h"
#include "runtime/guard.h"
#include "tests/check.h"

static Plan *plan_of(Arena *a, const char *body, Err *e) {
    const char *text = arena_printf(a, "graph t {\n%s}\n", body);
    Graph *g = graph_parse(a, source_text(a, "t.gr", text, strlen(text)), e);
    Options opt = {.reference_kernels = true};
    if (g) g = passes_run(g, &opt, "infer-shapes", e);
    return g ? plan_lower(g, &opt, e) : NULL;
}

static float read1(Exec *x, const char *name) {
    Err e = {0};
    float v = NAN;
    CHECK(exec_read(x, name, &v, sizeof v, &e), "%s", e.text);
    return v;
}

/* ---- weights ---- */

static float weight_values[5] = {9, 1, -2, 3, 9};
static int n_found;

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    static char raw[sizeof weight_values + 1];
    n_found++;
    if (strcmp(name, "w")) return false;
    *out = (Tensor){weight_values + 1, ctx};
    if (((const Type *)ctx)->rank == 2) { /* at an odd address */
        memcpy(raw + 1, weight_values + 1, 3 * sizeof(float));
        out->data = raw + 1;
    }
    return true;
}

static void test_weights(Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    Type flat = type_of(F32, 1, (int64_t[]){3}),
         row = type_of(F32, 2, (int64_t[]){1, 3});
    const Type *types[] = {&flat, &row};
    const char *shape[] = {"3", "1,3"};
    for (int i = 0; i < 2; i++) {
        Plan *p =
            plan_of(a,
                    arena_printf(a,
                                 "input @x : f32[]\nfrozen @w : f32[%s]\n"
                                 "%%y = pointwise @x, @w {f=\"x0 * x1\", dtype=f32}\n"
                                 "output y = %%y\n",
                                 shape[i]),
                    &e);
        CHECK(p, "%s", e.text);
        WeightSource src = {(void *)types[i], find_weight};
        Store *s = store_open(dev, &src, 1);
        Exec *x = exec_open(s, p, &e);
        CHECK(x, "%s", e.text);
        float two = 2, y[3];
        exec_write(x, "x", &two, sizeof two, &e);
        exec_run(x);
        CHECK(exec_read(x, "y", y, sizeof y, &e) && y[0] == 2 && y[1] == -4 &&
                  y[2] == 6,
              "%g %g %g %s", y[0], y[1], y[2], e.text);
        exec_close(x);
        store_close(s);
        src.ctx = (void *)types[1 - i];
        s = store_open(dev, &src, 1);
        Err bad = {0};
        CHECK(!exec_open(s, p, &bad) && strstr(bad.text, "weight 'w': got"), "%s",
              bad.text);
        CHECK(bad.code == EXIT_FAILED, "exit code %d", bad.code);
        store_close(s);
        s = store_open(dev, NULL, 1);
        bad = (Err){0};
        CHECK(!exec_open(s, p, &bad) && strstr(bad.text, "'w' is missing"), "%s",
              bad.text);
        store_close(s);
    }
    arena_free(a);
}

/* ---- starting values ---- */

static const char trainables[] =
    "train @%s : f32[64,48] {init=kaiming_uniform}\ntrain @u : f32[1000] "
    "{init=uniform(0.5)}\n"
    "train @n : f32[4001] {init=normal(2)}\ntrain @c : f32[3] {init=constant(0.25)}\n"
    "train @o : f32[2] {init=ones}\nstate @z : f64[2] {init=zeros}\n";

static void load(Device *dev, uint64_t seed, const char *first, float *kaiming,
                 float *uniform, float *normal) {
    Arena *a = arena_new();
    Err e = {0};
    char body[1024];
    snprintf(body, sizeof body, trainables, first);
    Plan *p = plan_of(a, body, &e);
    CHECK(p, "%s", e.text);
    Store *s = store_open(dev, NULL, seed);
    Exec *x = exec_open(s, p, &e);
    CHECK(x && exec_read(x, first, kaiming, 64 * 48 * 4, &e) &&
              exec_read(x, "u", uniform, 4000, &e) &&
              exec_read(x, "n", normal, 16004, &e),
          "%s", e.text);
    float c[3], o[2];
    double z[2];
    CHECK(exec_read(x, "c", c, sizeof c, &e) && c[0] == 0.25f && c[2] == 0.25f, "%g",
          c[0]);
    CHECK(exec_read(x, "o", o, sizeof o, &e) && o[0] == 1 && o[1] == 1, "%g", o[0]);
    CHECK(exec_read(x, "z", z, sizeof z, &e) && z[0] == 0 && z[1] == 0, "%g", z[0]);
    exec_close(x);
    store_close(s);
    arena_free(a);
}

static void moments(const float *x, int n, double *mean, double *std, double *most) {
    double sum = 0, squares = 0;
    *most = 0;
    for (int i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        if (fabs(x[i]) > *most) *most = fabs(x[i]);
    }
    *mean = sum / n;
    *std = sqrt(squares / n - *mean * *mean);
}

static void test_starts(Device *dev) {
    static float k[2][64 * 48], u[2][1000], n[2][4001];
    load(dev, 5, "k", k[0], u[0], n[0]);
    load(dev, 5, "k", k[1], u[1], n[1]);
    CHECK(!memcmp(k[0], k[1], sizeof k[0]) && !memcmp(n[0], n[1], sizeof n[0]),
          "the same seed and name must give the same bits");
    double mean, std, most;
    moments(k[0], 64 * 48, &mean, &std, &most);
    double bound = 1 / sqrt(48.0);
    CHECK(most <= bound && most > 0.99 * bound, "largest %g of %g", most, bound);
    CHECK(fabs(std - bound / sqrt(3)) < 0.03 * bound, "std %g", std);
    moments(u[0], 1000, &mean, &std, &most);
    CHECK(most <= 0.5 && most > 0.49 && fabs(mean) < 0.03, "%g %g", most, mean);
    moments(n[0], 4001, &mean, &std, &most);
    CHECK(fabs(mean) < 0.1 && fabs(std - 2) < 0.1 && most > 5, "%g %g %g", mean, std,
          most);
    load(dev, 6, "k", k[1], u[1], n[1]);
    CHECK(memcmp(k[0], k[1], sizeof k[0]), "another seed must give other numbers");
    load(dev, 5, "other", k[1], u[1], n[1]);
    CHECK(memcmp(k[0], k[1], sizeof k[0]), "another name must give other numbers");
    CHECK(!memcmp(u[0], u[1], sizeof u[0]), "a neighbour's name must not matter");
}

/* A tensor that starts as a value, and one whose start reads another trainable. */
static void test_start_value(Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    Plan *p = plan_of(
        a,
        "input @x : f32[3]\nfrozen @w : f32[3]\ntrain @t : f32[3] {init=constant(4)}\n"
        "train @m : f32[3] {init=value(%s)}\n"
        "%s = pointwise @w, @t {f=\"abs(x0) + x1\", dtype=f32}\n"
        "%y = pointwise @x, @m {f=\"x0 * x1\", dtype=f32}\noutput y = %y\n",
        &e);
    CHECK(p && p->init, "%s", e.text);
    Type flat = type_of(F32, 1, (int64_t[]){3});
    WeightSource src = {&flat, find_weight};
    Store *s = store_open(dev, &src, 1);
    Exec *x = exec_open(s, p, &e);
    float m[3] = {0}, one[3] = {1, 1, 1};
    CHECK(x && exec_read(x, "m", m, sizeof m, &e), "%s", e.text);
    CHECK(m[0] == 5 && m[1] == 6 && m[2] == 7, "%g %g %g", m[0], m[1], m[2]);
    CHECK(exec_write(x, "m", one, sizeof one, &e), "%s", e.text);
    Exec *again = exec_open(s, p, &e); /* not computed a second time */
    CHECK(again && exec_read(again, "m", m, sizeof m, &e) && m[0] == 1, "%g %s", m[0],
          e.text);
    exec_close(again);
    exec_close(x);
    store_close(s);
    Err bad = {0};
    CHECK(!plan_of(a,
                   "input @x : f32[3]\ntrain @m : f32[3] {init=value(%s)}\n"
                   "%s = pointwise @x {f=\"abs(x0)\", dtype=f32}\n"
                   "%y = pointwise @x, @m {f=\"x0 * x1\", dtype=f32}\noutput y = %y\n",
                   &bad) &&
              strstr(bad.text, "cannot depend on 'x'"),
          "%s", bad.text);
    arena_free(a);
}

/* ---- several plans, one store ---- */

static const char counting[] = "input @x : f32[%d]\nstate @n : f32[] {init=zeros}\n"
                               "%%s = sum @x {over=[0], keep=false}\n%%k = pointwise "
                               "@n, %%s {f=\"x0 + x1\", dtype=f32}\n"
                               "%%a = assign @n, %%k\noutput k = %%k\n";

static void test_shared(Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    Store *s = store_open(dev, NULL, 1);
    Exec *x[2];
    static const int size[] = {10, 100000};
    static float ones[100000];
    for (int i = 0; i < 100000; i++) ones[i] = 1;
    for (int i = 0; i < 2; i++) {
        char body[512];
        snprintf(body, sizeof body, counting, size[i]);
        Plan *p = plan_of(a, body, &e);
        x[i] = p ? exec_open(s, p, &e)
                 : NULL; /* the second makes the shared arenas grow */
        CHECK(x[i] && exec_write(x[i], "x", ones, (size_t)size[i] * 4, &e), "%s",
              e.text);
        exec_poison(x[i], true);
    }
    exec_run(x[0]);
    CHECK(read1(x[0], "k") == 10, "%g", read1(x[0], "k"));
    exec_run(x[1]);
    exec_run(x[0]);
    CHECK(read1(x[1], "n") == 100020, "%g", read1(x[1], "n"));
    Err bad = {0};
    CHECK(!exec_write(x[0], "x", ones, 4, &bad) &&
              strstr(bad.text, "got 4 bytes, want 40"),
          "%s", bad.text);
    bad = (Err){0};
    CHECK(!exec_write(x[0], "y", ones, 4, &bad) && strstr(bad.text, "no value 'y'"),
          "%s", bad.text);
    bad = (Err){0};
    CHECK(!exec_write(x[0], "k", ones, 4, &bad) &&
              strstr(bad.text, "cannot be written"),
          "%s", bad.text);
    CHECK(!exec_type(x[0], "none") && exec_type(x[0], "n")->rank == 0, "types");
    for (int i = 0; i < 2; i++) exec_close(x[i]);
    store_close(s);
    arena_free(a);
}

/* ---- not a number ---- */

static void test_nan(Device *dev) {
    Arena *a = arena_new();
    Err e = {0};
    Plan *p = plan_of(
        a,
        "input @x : f32[4]\n%a = pointwise @x {f=\"x0 + 1\", dtype=f32}\n"
        "%b = pointwise %a {f=\"sqrt(x0)\", dtype=f32}  # forward - bad.node\n"
        "%c = pointwise %b {f=\"x0 * 2\", dtype=f32}\noutput b = %b\noutput c = %c\n",
        &e);
    CHECK(p, "%s", e.text);
    Store *s = store_open(dev, NULL, 1);
    Exec *x = exec_open(s, p, &e);
    float in[4] = {1, 2, -3, 4};
    exec_write(x, "x", in, sizeof in, &e);
    exec_run(x);
    const PlanStep *bad = exec_trace_nan(x);
    CHECK(bad && bad->at.path && !strcmp(bad->at.path, "bad.node"), "got %s",
          bad ? bad->op->name : "nothing");
    in[2] = 3;
    exec_write(x, "x", in, sizeof in, &e);
    CHECK(!exec_trace_nan(x), "all is finite");
    in[0] = NAN; /* from outside: no step made it */
    exec_write(x, "x", in, sizeof in, &e);
    CHECK(!exec_trace_nan(x), "the input was not finite");
    exec_profile(x, true);
    exec_run(x);
    CHECK(exec_times(x) && exec_times(x)[0] > 0, "times");
    exec_close(x);
    store_close(s);
    arena_free(a);
}

/* ---- guards and threads ---- */

/* Does writing at p end the program? */
static bool dies(char *p) {
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        *(volatile char *)p = 1;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status);
}

static void test_guard(void) {
    static const uint64_t sizes[] = {0, 1, 64, 4096, 4097, 1 << 22};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        Guard g;
        Err e = {0};
        CHECK(guard_open(&g, sizes[i], "test", &e), "%s", e.text);
        char *p = g.data;
        uint64_t room = (sizes[i] + 63) / 64 * 64;
        CHECK((uintptr_t)p % 64 == 0, "alignment of %llu",
              (unsigned long long)sizes[i]);
        if (sizes[i]) p[0] = p[sizes[i] - 1] = 1;
        CHECK(dies(p + room), "one past %llu bytes", (unsigned long long)sizes[i]);
        CHECK(dies((char *)g.map), "in front of %llu bytes",
              (unsigned long long)sizes[i]);
        guard_close(&g);
    }
    Guard g;
    Err e = {0};
    CHECK(!guard_open(&g, UINT64_MAX - 5, "test", &e) && e.set,
          "as much as there is not");
}

static void count(void *arg, int64_t i, void *scratch) {
    ((char *)scratch)[SCRATCH_BYTES - 1] = 1;
    ((int *)arg)[i]++;
}

static void test_threads(void) {
    for (int threads = 1; threads <= 5; threads++) {
        static int seen[1000];
        memset(seen, 0, sizeof seen);
        Device *d = cpu_open(threads);
        CHECK(d->threads == threads, "got %d threads, want %d", d->threads, threads);
        d->par(d, 1000, count, seen);
        int wrong = 0;
        for (int i = 0; i < 1000; i++) wrong += seen[i] != 1;
        CHECK(!wrong, "%d of 1000 pieces not run once", wrong);
        d->par(d, 0, count, seen);
        cpu_close(d);
    }
}

int main(void) {
    Device *dev = cpu_open(2);
    test_weights(dev);
    test_starts(dev);
    test_start_value(dev);
    test_shared(dev);
    test_nan(dev);
    cpu_close(dev);
    test_guard();
    test_threads();
    return check_done("exec");
}
