/* fp16's loss scale, end to end: an injected overflow is skipped and recovered from, without
 * a byte of parameter or optimizer state changed; a loss that is not finite is no overflow;
 * the scale grows after good updates, within its bounds; the learning rate follows the
 * updates that were made. */
#include <math.h>
#include <string.h>

#include "passes/passes.h"
#include "runtime/exec.h"
#include "runtime/train.h"
#include "tests/check.h"

/* loss = noise * mean(latent w^T): the gradient of the product, a half, is noise * scale / 3 */
static const char step_text[] =
    "graph step {\n"
    "  input @latent : f32[B=1,2]\n"
    "  input @noise : f32[B=1,1]\n"
    "  train @w : f32[3,2] {init=constant(0.5)}\n"
    "  %y = linear @latent, @w\n"
    "  %z = pointwise %y, @noise {f=\"x0 * x1\", dtype=f32}\n"
    "  %loss = mean %z {over=[0,1], keep=false}\n"
    "  output loss = %loss\n"
    "}\n";

typedef struct Step {
    Arena *arena;
    Device *dev;
    Store *store;
    Exec *x;
} Step;

static bool open_step(Step *s, int accumulate, Err *e) {
    Arena *a = s->arena = arena_new();
    Recipe r = {0};
    r.optimizer = doc_load(library_new(a), "adamw", DOC_OPTIMIZER, NULL, loc_none(), e);
    if (!r.optimizer) return false;
    r.optimizer_args = args_new(a);
    if (!args_bind(a, yaml_get(r.optimizer->root, "args"), args_new(a), "adamw",
                   loc_none(), r.optimizer_args, e))
        return false;
    Options opt = {.recipe = &r,
                   .train = true,
                   .mixed_precision = PRECISION_FP16,
                   .accumulate = accumulate};
    Graph *g = graph_parse(a, source_text(a, "t.gr", step_text, strlen(step_text)), e);
    if (g) g = passes_run(g, &opt, "mixed-precision", e);
    Plan *p = g ? plan_lower(g, &opt, e) : NULL;
    s->dev = cpu_open(1);
    s->store = store_open(s->dev, NULL, 1);
    s->x = p ? exec_open(s->store, p, e) : NULL;
    return s->x != NULL;
}

static void close_step(Step *s) {
    exec_close(s->x);
    store_close(s->store);
    cpu_close(s->dev);
    arena_free(s->arena);
}

static float number(Step *s, const char *name) {
    Err e = {0};
    float x = NAN;
    CHECK(exec_read(s->x, name, &x, sizeof x, &e), "%s", e.text);
    return x;
}

static void set(Step *s, const char *name, float x) {
    Err e = {0};
    CHECK(exec_write(s->x, name, &x, sizeof x, &e), "%s", e.text);
}

/* What a skipped update must not touch. */
typedef struct Kept {
    float w[6], m[6], v[6];
    double t;
} Kept;
static Kept kept(Step *s) {
    Err e = {0};
    Kept k = {0};
    CHECK(exec_read(s->x, "w", k.w, sizeof k.w, &e) &&
              exec_read(s->x, "w.m", k.m, sizeof k.m, &e) &&
              exec_read(s->x, "w.v", k.v, sizeof k.v, &e) &&
              exec_read(s->x, "w.t", &k.t, sizeof k.t, &e),
          "%s", e.text);
    return k;
}

static void run_step(Step *s, float latent, float noise) {
    Err e = {0};
    const float x[2] = {latent, 2 * latent};
    CHECK(exec_write(s->x, "latent", x, sizeof x, &e), "%s", e.text);
    set(s, "noise", noise);
    set(s, "lr.0", 0.01f);
    exec_run(s->x);
}

/* Gradients before the overflow: 2^16 / 3 * noise must stay below 65504. */
static void test_overflow(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 1, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    run_step(&s, 1, 1);
    CHECK(number(&s, "ok") == 1 && number(&s, "loss_scale") == 65536, "ok %g, scale %g",
          (double)number(&s, "ok"), (double)number(&s, "loss_scale"));
    float norm = number(&s, "grad_norm"), want = sqrtf(5.0f / 3);
    CHECK(fabsf(norm - want) < 1e-3f, "norm %g, want %g", (double)norm, (double)want);
    Kept before = kept(&s);
    CHECK(before.t == 1 && before.w[0] != 0.5f, "no update: t %g", before.t);
    for (int i = 1; i <= 3; i++) { /* 65536 * 20 / 3, 32768 *, 16384 * : too large */
        run_step(&s, 1, 20);
        Kept after = kept(&s);
        CHECK(!memcmp(&before, &after, sizeof after), "overflow %d changed something",
              i);
        CHECK(number(&s, "ok") == 0 && isfinite(number(&s, "loss")), "ok %g",
              (double)number(&s, "ok"));
        CHECK(number(&s, "loss_scale") == 65536 / (float)(1 << i), "scale %g",
              (double)number(&s, "loss_scale"));
        CHECK(number(&s, "loss_scale.good") == 0 &&
                  number(&s, "loss_scale.skipped") == (float)i,
              "good %g, skipped %g", (double)number(&s, "loss_scale.good"),
              (double)number(&s, "loss_scale.skipped"));
    }
    run_step(&s, 1, 20); /* 8192 * 20 / 3 = 54613 */
    CHECK(number(&s, "ok") == 1 && kept(&s).t == 2, "does not recover");
    CHECK(number(&s, "loss_scale.good") == 1, "good %g",
          (double)number(&s, "loss_scale.good"));
    close_step(&s);
}

static void test_bounds(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 1, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    run_step(&s, INFINITY, 1); /* the loss itself */
    CHECK(number(&s, "ok") == 0 && number(&s, "loss_scale") == 65536,
          "a loss that is not finite: scale %g", (double)number(&s, "loss_scale"));
    set(&s, "loss_scale.good", 1998);
    run_step(&s, 1, 1e-3f);
    CHECK(number(&s, "loss_scale") == 65536 && number(&s, "loss_scale.good") == 1999,
          "grows too early");
    run_step(&s, 1, 1e-3f);
    CHECK(number(&s, "loss_scale") == 131072 && number(&s, "loss_scale.good") == 0,
          "scale %g after 2000 good ones", (double)number(&s, "loss_scale"));
    set(&s, "loss_scale.good", 1999);
    set(&s, "loss_scale", 0x1p24f);
    run_step(&s, 1, 1e-6f);
    CHECK(number(&s, "loss_scale") == 0x1p24f, "above its cap: %g",
          (double)number(&s, "loss_scale"));
    set(&s, "loss_scale", 1.5f);
    run_step(&s, 1, 1e6f);
    CHECK(number(&s, "ok") == 0 && number(&s, "loss_scale") == 1, "below its floor: %g",
          (double)number(&s, "loss_scale"));
    close_step(&s);
}

/* ---- the loop ---- */

typedef struct Run {
    Step *s;
    int n;
    float noise[8], rate[8], scale[8];
    float latent[2];
    bool skipped[8], nan[8];
    bool skip_nan;
} Run;

static bool next(void *ctx, MicroBatch *b, Err *e) {
    Run *r = ctx;
    (void)e;
    *b = (MicroBatch){.shape = {1, 1, 1, 1},
                      .latent = r->latent,
                      .noise = &r->noise[r->n],
                      .epoch = 1};
    return true;
}
static Exec *exec_of(void *ctx, const Shape *shape, Err *e) {
    (void)shape, (void)e;
    return ((Run *)ctx)->s->x;
}
static bool after(void *ctx, Exec *x, const StepResult *result, Err *e) {
    Run *r = ctx;
    (void)x, (void)e;
    r->rate[r->n] = number(r->s, "lr.0");
    r->scale[r->n] = result->loss_scale;
    r->nan[r->n] = result->nan;
    r->skipped[r->n++] = result->skipped;
    return true;
}

static void run_loop(Run *r, int64_t steps, int accumulate, Err *e) {
    static const volatile int stop;
    LrSchedule lr = {.name = "linear", .steps = steps};
    CHECK(lr_schedule(r->s->arena, &lr, e), "%s", e->text);
    TrainLoop loop = {.feed = {.ctx = r, .next = next},
                      .exec = exec_of,
                      .after = after,
                      .ctx = r,
                      .steps = steps,
                      .accumulate = accumulate,
                      .lr = &lr,
                      .skip_nan = r->skip_nan,
                      .stop = &stop};
    TrainPlace place = {0};
    train_loop(&loop, &place, e);
}

static void test_loop(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 1, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    Run r = {.s = &s, .noise = {1, 4, 1, 1}, .latent = {1, 2}};
    run_loop(&r, 4, 1, &e);
    CHECK(!e.set && r.n == 4, "%d steps: %s", r.n, e.text);
    CHECK(!r.skipped[0] && r.skipped[1] && !r.skipped[2] && r.scale[1] == 32768,
          "skipped %d %d %d", r.skipped[0], r.skipped[1], r.skipped[2]);
    const float want[] = {1, 0.75f, 0.75f,
                          0.5f}; /* the skipped step's rate comes again */
    for (int i = 0; i < 4; i++)
        CHECK(r.rate[i] == want[i], "rate %d: %g, want %g", i, (double)r.rate[i],
              (double)want[i]);
    close_step(&s);
}

/* Two micro-batches an update: one that overflows costs both. */
static void test_window(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 2, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    Run r = {.s = &s, .noise = {4, 1, 1, 1}, .latent = {1, 2}};
    run_loop(&r, 2, 2, &e);
    CHECK(!e.set && r.n == 4, "%d micro-batches: %s", r.n, e.text);
    CHECK(r.scale[0] == 65536 && r.scale[1] == 32768 && r.scale[3] == 32768,
          "scales %g %g %g", (double)r.scale[0], (double)r.scale[1],
          (double)r.scale[3]);
    CHECK(r.skipped[1] && !r.skipped[3] && kept(&s).t == 1, "t %g", kept(&s).t);
    float norm = number(&s, "grad_norm"), want = sqrtf(5.0f / 3);
    CHECK(fabsf(norm - want) < 1e-3f, "norm %g, want %g", (double)norm, (double)want);
    close_step(&s);
}

/* With a scale of 1 it is the gradient: the run stops. */
static void test_stops(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 1, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    Run r = {.s = &s, .noise = {1, 1e6f, 1}, .latent = {1, 2}};
    set(&s, "loss_scale", 1);
    run_loop(&r, 3, 1, &e);
    CHECK(e.set && r.n == 1 && strstr(e.text, "not a number"), "%d steps: %s", r.n,
          e.text);
    close_step(&s);
}

/* on_nan: skip. Such a step counts and changes nothing; what comes after it learns. */
static void test_skips(void) {
    Step s;
    Err e = {0};
    if (!open_step(&s, 1, &e)) {
        CHECK(false, "%s", e.text);
        return;
    }
    Run r = {.s = &s, .noise = {1, NAN, 1}, .latent = {1, 2}, .skip_nan = true};
    run_loop(&r, 3, 1, &e);
    CHECK(!e.set && r.n == 3, "%d steps: %s", r.n, e.text);
    CHECK(!r.nan[0] && r.nan[1] && !r.nan[2] && !r.skipped[1], "%d %d %d", r.nan[0],
          r.nan[1], r.nan[2]);
    CHECK(kept(&s).t == 2 && isfinite(number(&s, "grad_norm")), "t %g", kept(&s).t);
    close_step(&s);
}

int main(void) {
    test_skips();
    test_overflow();
    test_bounds();
    test_loop();
    test_window();
    test_stops();
    return check_done("loss_scale");
}
