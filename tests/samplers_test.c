/* Samplers against recorded trajectories (tests/golden/samplers): the model is
 * out(x, t) = 0.35 x + 0.1 sin(0.01 t) + c, every look at it is compared. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/generate/sampler_plan.h"
#include "graph/lang/schema.h"
#include "io/tensors.h"
#include "runtime/layout.h"
#include "runtime/sample.h"
#include "tests/check.h"
#include "tests/tsv.h"

enum { H = 3, W = 4, N = H * W * 4 };

typedef struct Toy {
    const TensorFile *file;
    const TensorEntry *path;
    int drawn;
    double worst;
    int seen;
} Toy;

/* Row i of a recorded [.., 4, 3, 4] tensor, channels last. */
static void row(const TensorEntry *t, int64_t i, float *out) {
    float x[N];
    memcpy(x, (const char *)t->data + (size_t)i * sizeof x, sizeof x);
    nchw_to_nhwc(out, x, 1, 4, H * W);
}

static bool answer(void *ctx, Build *b, const Named *in, int n_in, Id *out, Err *e) {
    const Toy *toy = ctx;
    float c[N];
    double wide[N];
    (void)n_in;
    row(tensors_find(toy->file, "c"), 0, c);
    for (int i = 0; i < N; i++) wide[i] = (double)c[i];
    Id x[3] = {in[0].value, graph_cast(b->g, in[1].value, F32, e),
               graph_const(b->g, type_of(F32, 4, (int64_t[]){1, H, W, 4}), wide)};
    *out = graph_formula(b->g, "0.35 * x0 + 0.1 * sin(0.01 * x1) + x2", 3, x, e);
    return *out != NO_ID;
}

static bool drawn(void *ctx, int64_t run, int i, float *out, int64_t n, Err *e) {
    Toy *toy = ctx;
    (void)run, (void)i, (void)e;
    CHECK(n == N, "%lld numbers", (long long)n);
    row(tensors_find(toy->file, "noises"), toy->drawn++, out);
    return true;
}

/* Draws of a run that has no use for them are not in the record: dpm_2_a, which adds noise
 * at every other look. */
static bool drawn_at_odd(void *ctx, int64_t run, int i, float *out, int64_t n, Err *e) {
    if (run % 2) return drawn(ctx, run, i, out, n, e);
    memset(out, 0, sizeof *out * (size_t)n);
    return true;
}

static bool looked(void *ctx, int64_t run, const float *x, int64_t n, Err *e) {
    Toy *toy = ctx;
    float want[N];
    (void)e;
    if (run >= toy->path->type.dim[0]) return true;
    row(toy->path, run, want);
    for (int64_t i = 0; i < n; i++) {
        const double off = fabs((double)x[i] - (double)want[i]);
        toy->worst = fmax(toy->worst, isfinite(off) ? off : INFINITY);
    }
    toy->seen++;
    return true;
}

static Args *arguments(Arena *a, char *words) {
    Args *args = args_new(a);
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) {
        char *equals = strchr(w, '=');
        *equals = 0;
        args_set(args, arena_strdup(a, w), typed_value(a, equals + 1));
    }
    return args;
}

static bool no_weight(void *ctx, const char *name, Tensor *out) {
    (void)ctx, (void)name, (void)out;
    return false;
}

static void check_run(Device *dev, const TensorFile *f, const TensorFile *paths,
                      const Tsv *t) {
    Arena *a = arena_new();
    Err e = {0};
    const char *key = t->field[0], *name = t->field[1];
    Toy toy = {.file = f};
    toy.path = tensors_find(paths, arena_printf(a, "traj.%s", key));
    SamplerModel model = {&toy, answer};
    SamplerWish w = {
        .doc = doc_load(library_new(a), name, DOC_SAMPLER, NULL, loc_none(), &e),
        .args = arguments(a, t->field[2]),
        .latent = type_of(F32, 4, (int64_t[]){1, H, W, 4}),
        .model = &model};
    SamplerPlans p;
    Options opt = {0};
    CHECK(toy.path && w.doc, "%s: %s", key, e.text);
    if (!toy.path || !w.doc || !sampler_plans(a, &w, &opt, &p, &e)) {
        CHECK(false, "%s: %s", key, e.text);
        arena_free(a);
        return;
    }
    WeightSource none = {NULL, no_weight};
    Store *store = store_open(dev, &none, 0);
    Sampler s = {.start = exec_open(store, p.start, &e),
                 .step = exec_open(store, p.step, &e),
                 .runs = p.runs,
                 .draw = p.draw,
                 .n_draw = p.n_draw,
                 .ctx = &toy,
                 .drawn = strcmp(name, "dpm_2_a") ? drawn : drawn_at_odd,
                 .done = looked};
    CHECK(s.start && s.step, "%s: %s", key, e.text);
    float x[N];
    row(tensors_find(f, "x_init_unit"), 0, x);
    bool ok = s.start && s.step && sample_run(&s, x, N, 0, &e);
    CHECK(ok, "%s: %s", key, e.text);
    CHECK(p.runs == toy.path->type.dim[0] && toy.seen == p.runs,
          "%s: %lld looks, %d compared, want %lld", key, (long long)p.runs, toy.seen,
          (long long)toy.path->type.dim[0]);
    CHECK(toy.drawn == tsv_int(t, 3), "%s: %d draws, want %d", key, toy.drawn,
          tsv_int(t, 3));
    CHECK(toy.worst <= 2e-5, "%s: off by %.2g", key, toy.worst);
    if (getenv("GRAPHRUN_SHOW")) printf("%-18s %.1e\n", key, toy.worst);
    if (s.step) exec_close(s.step);
    if (s.start) exec_close(s.start);
    store_close(store);
    arena_free(a);
}

static void check_set(Device *dev, const TensorFile *f, const char *name,
                      const char *list) {
    Err e = {0};
    TensorFile *paths = safetensors_open(name, &e);
    CHECK(paths != NULL, "%s", e.text);
    Tsv t = tsv_open(list);
    while (paths && tsv_next(&t)) check_run(dev, f, paths, &t);
    tensors_close(paths);
}

int main(void) {
    static const char recorded[] = "tests/golden/samplers/samplers.safetensors";
    Err e = {0};
    Device *dev = cpu_open(1);
    TensorFile *f = safetensors_open(recorded, &e);
    CHECK(f != NULL, "%s", e.text);
    if (f) {
        check_set(dev, f, recorded, "tests/golden/samplers/runs.tsv");
        check_set(dev, f, "tests/golden/samplers/diffusers.safetensors",
                  "tests/golden/samplers/diffusers.tsv");
    }
    tensors_close(f);
    cpu_close(dev);
    return check_done("samplers_test");
}
