/* `graphrun bench step RECIPE` and `bench kernels RECIPE`: how fast plans run here, as JSON
 * lines. The plan is the recipe's, compiled for data.resolution and data.batch; weights
 * come from the recipe's checkpoint or, where it names none, are made up: their numbers do
 * not change the work. Shares of the peak are of what runtime/peak.h measures first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/inspect/plan_facts.h"
#include "cli/job/job_plan.h"
#include "cli/job/mixed_precision.h"
#include "cli/job/setting.h"
#include "cli/talk.h"
#include "kernels/rng.h"
#include "runtime/peak.h"

typedef struct BenchOptions {
    WordList set;
    const char *memory_budget, *mixed_precision;
    bool gradient_checkpointing, exact, forward;
    int64_t runs;
} BenchOptions;

enum { TABLE = 1 << 14 }; /* numbers that weights and inputs are made of */
enum { CHUNK = 77 };      /* tokens that a text encoder takes at once */

typedef struct Bench {
    Arena *arena;
    const Common *common;
    const BenchOptions *o;
    Job job;
    Plan *plan;
    Device *dev;
    Store *store;
    Exec *exec;
    Peak peak;
    WeightSource given; /* the checkpoint's */
    float *table;       /* uniform in -1 ... 1 */
    char **made;        /* weights made up, malloc */
    int n_made, cap_made;
} Bench;

/* ---- numbers ---- */
static void make_table(Bench *b) {
    int32_t key[RNG_WORDS] = {0};
    uint32_t word[4];
    b->table = NEW(b->arena, float, TABLE);
    for (uint32_t i = 0; i < TABLE; i += 4) {
        rng_block(key, rng_stream("bench", "weights"), 0, i / 4, word);
        for (uint32_t k = 0; k < 4; k++) b->table[i + k] = 2 * rng_uniform(word[k]) - 1;
    }
}

/* The table times `scale`, again and again. */
static void fill(const Bench *b, const Type *t, double scale, char *out) {
    size_t size = dtype_size(t->dtype), bytes = type_bytes(t), piece = TABLE * size;
    float *scaled = malloc(TABLE * sizeof *scaled);
    char *once = malloc(piece);
    if (scaled && once) {
        for (int i = 0; i < TABLE; i++) scaled[i] = (float)scale * b->table[i];
        convert(once, t->dtype, scaled, F32, TABLE);
        for (size_t at = 0; at < bytes; at += piece)
            memcpy(out + at, once, bytes - at < piece ? bytes - at : piece);
    }
    free(scaled);
    free(once);
}

/* Of variance 1/fan_in, as init-weights makes them, so that nothing overflows. */
static bool made_weight(void *ctx, const char *name, Tensor *out) {
    Bench *b = ctx;
    if (b->given.find(b->given.ctx, name, out)) return true;
    for (uint32_t i = 0; i < b->plan->n_value; i++) {
        const PlanValue *v = &b->plan->value[i];
        if (v->role != ROLE_FROZEN || strcmp(v->name, name)) continue;
        char *data = aligned_alloc(64, (type_bytes(&v->type) + 63) / 64 * 64);
        if (!data) return false;
        double fan_in = v->type.rank > 1
                            ? (double)type_count(&v->type) / (double)v->type.dim[0]
                            : 3;
        fill(b, &v->type, sqrt(3 / fan_in), data);
        PUSH(b->arena, b->made, b->n_made, b->cap_made, data);
        *out = (Tensor){data, &v->type};
        return true;
    }
    return false;
}

/* Inputs and step scalars: pictures of size one, tokens 0, rates as the plan has them. */
static bool write_inputs(Bench *b, Err *e) {
    for (uint32_t i = 0; i < b->plan->n_value; i++) {
        const PlanValue *v = &b->plan->value[i];
        if (v->role != ROLE_INPUT && v->role != ROLE_SCALAR) continue;
        size_t bytes = type_bytes(&v->type);
        char *data = NEW(b->arena, char, bytes + 1);
        if (dtype_is_float(v->type.dtype)) {
            double x = v->param ? v->param->lr : 1;
            if (v->role == ROLE_INPUT)
                fill(b, &v->type, 1, data);
            else
                convert(data, v->type.dtype, &x, F64, 1);
        }
        if (!exec_write(b->exec, v->name, data, bytes, e)) return false;
    }
    return true;
}

/* ---- the plan ---- */
/* What predicts, alone: one of a sampler's calls. */
static Plan *forward_plan(Bench *b, const Options *opt, const PlanCache *cache,
                          Err *e) {
    Job *j = &b->job;
    const Net *net = job_net(j, "unet");
    Shape s;
    if (!net) {
        err_at(e, j->recipe.doc->root->loc, "recipe '%s' has no network 'unet'",
               j->recipe.doc->name);
        return NULL;
    }
    if (!job_shape(j, &s, e)) return NULL;
    Args *dims = job_dims(j, &s);
    args_set(dims, "T", val_int(CHUNK * s.chunks));
    return job_network_plan_kept(j, net, dims, opt, cache, &j->note, e);
}

static bool make_plan(Bench *b, const char *recipe, Err *e) {
    Job *j = &b->job;
    if (!job_load(j, recipe, e)) return false;
    Args *set = args_new(j->arena);
    Options opt;
    if (!settings(j->arena, &b->o->set, "--set", set, e) || !job_open(j, set, e) ||
        !job_step_options(j, &opt, e))
        return false;
    opt.max_grad_norm = 1;
    opt.accumulate = 1;
    opt.reference_kernels = b->o->exact;
    if (!job_precision(j, b->o->mixed_precision, false, false, &opt, e) ||
        !job_memory(j, b->o->memory_budget, b->o->gradient_checkpointing, &opt, e))
        return false;
    PlanCache cache = plan_cache_default(j->arena);
    if (b->o->forward && (b->o->memory_budget || b->o->gradient_checkpointing))
        return err_usage(e, "--forward has nothing to recompute: it goes without "
                            "--memory_budget and --gradient_checkpointing");
    if (b->o->forward) {
        const Options like = {.reference_kernels = opt.reference_kernels,
                              .mixed_precision = opt.mixed_precision};
        return (b->plan = forward_plan(b, &like, &cache, e)) != NULL;
    }
    PlanWish wish = {.cache = &cache, .to_run = true};
    PlanOrigin from;
    b->plan = job_plan(j, &opt, &wish, &from, e);
    str_free(&from.note);
    return b->plan != NULL;
}

static bool open(Bench *b, const char *recipe, Err *e) {
    b->dev = cpu_open((int)b->common->threads);
    if (!make_plan(b, recipe, e)) return false;
    b->peak = peak_measure(b->dev);
    make_table(b);
    b->given = job_weights(&b->job);
    WeightSource source = {b, made_weight};
    b->store = store_open(b->dev, &source, 0);
    b->exec = exec_open(b->store, b->plan, e);
    return b->exec && write_inputs(b, e);
}

static void close(Bench *b) {
    if (b->exec) exec_close(b->exec);
    if (b->store) store_close(b->store);
    if (b->dev) cpu_close(b->dev);
    if (b->job.arena) job_close(&b->job);
    for (int i = 0; i < b->n_made; i++) free(b->made[i]);
    arena_free(b->arena);
}

/* ---- step ---- */
static int by_number(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, by_number);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static void bench_step(Bench *b) {
    double *took = NEW(b->arena, double, b->o->runs);
    exec_run(b->exec); /* the first one touches memory for the first time */
    for (int64_t i = 0; i < b->o->runs; i++) {
        double start = seconds_now();
        exec_run(b->exec);
        took[i] = seconds_now() - start;
    }
    PlanTotals t = plan_totals(b->plan);
    double s = median(took, b->o->runs);
    printf("{\"recipe\": \"%s\", \"median_s\": %.6f, \"min_s\": %.6f, \"max_s\": %.6f, "
           "\"runs\": %lld, \"threads\": %d, \"rss_mb\": %.1f, \"planned_mb\": %.1f, "
           "\"gflop\": %.3f, \"gflops\": %.2f, \"peak_gflops\": %.1f, "
           "\"share_of_peak\": %.4f}\n",
           b->plan->name, s, took[0], took[b->o->runs - 1], (long long)b->o->runs,
           b->dev->threads, (double)talk_memory_bytes() / 1e6, (double)t.total / 1e6,
           (double)t.flops / 1e9, (double)t.flops / s / 1e9, b->peak.flops / 1e9,
           (double)t.flops / s / b->peak.flops);
}

/* ---- kernels ---- */
typedef struct Group { /* plan steps that do the same work */
    const char *text;  /* op, kernel, types */
    const PlanStep *step;
    int count;
    double seconds; /* of all of them in one step */
} Group;

static const char *step_text(Bench *b, const PlanStep *t) {
    Str s = {0};
    str_printf(&s, "\"op\": \"%s\", \"kernel\": \"%s\", \"types\": \"", t->op->name,
               t->kernel->name);
    for (int i = 0; i < t->n_in; i++) {
        if (t->in[i] == UINT32_MAX) continue;
        str_printf(&s, "%s", i ? ", " : "");
        type_print(&s, &b->plan->value[t->in[i]].type);
    }
    for (int i = 0; i < t->n_out; i++) {
        str_printf(&s, "%s", i ? ", " : " -> ");
        type_print(&s, &b->plan->value[t->out[i]].type);
    }
    str_add(&s, "\"");
    const char *text = arena_strdup(b->arena, s.s);
    str_free(&s);
    return text;
}

static int by_time(const void *a, const void *b) {
    const Group *x = a, *y = b;
    int order = (x->seconds < y->seconds) - (x->seconds > y->seconds);
    return order ? order : strcmp(x->text, y->text);
}

static void print_group(const Bench *b, const Group *g) {
    const double flops = (double)g->step->flops * g->count / g->seconds;
    const double bytes = (double)g->step->bytes * g->count / g->seconds;
    const double work = flops / b->peak.flops, move = bytes / b->peak.bytes;
    printf("{%s, \"count\": %d, \"ms\": %.3f, \"gflops\": %.4g, \"gb_per_s\": %.4g, "
           "\"bound\": \"%s\", \"share_of_peak\": %.4f}\n",
           g->text, g->count, g->seconds * 1e3, flops / 1e9, bytes / 1e9,
           work > move ? "compute" : "memory", work > move ? work : move);
}

/* Each plan step's median over the runs, summed over steps of the same work. */
static void bench_kernels(Bench *b) {
    const uint32_t n = b->plan->n_step;
    double *took = NEW(b->arena, double, (int64_t)n * b->o->runs);
    Group *g = NEW(b->arena, Group, n);
    int groups = 0;
    exec_profile(b->exec, true);
    exec_run(b->exec);
    for (int64_t i = 0; i < b->o->runs; i++) {
        exec_run(b->exec);
        for (uint32_t k = 0; k < n; k++)
            took[k * (uint64_t)b->o->runs + (uint64_t)i] =
                (double)exec_times(b->exec)[k] / 1e9;
    }
    for (uint32_t k = 0; k < n; k++) {
        const char *text = step_text(b, &b->plan->step[k]);
        int i = 0;
        while (i < groups && strcmp(g[i].text, text)) i++;
        if (i == groups) g[groups++] = (Group){text, &b->plan->step[k], 0, 1e-9};
        g[i].count++;
        g[i].seconds += median(took + k * (uint64_t)b->o->runs, b->o->runs);
    }
    qsort(g, (size_t)groups, sizeof *g, by_time);
    printf("{\"recipe\": \"%s\", \"threads\": %d, \"peak_gflops\": %.1f, "
           "\"peak_gb_per_s\": %.1f}\n",
           b->plan->name, b->dev->threads, b->peak.flops / 1e9, b->peak.bytes / 1e9);
    for (int i = 0; i < groups; i++) print_group(b, &g[i]);
}

/* ---- the command ---- */
static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    Bench b = {.arena = arena_new(), .common = c, .o = opts};
    const char *what = words->word[0];
    bool step = !strcmp(what, "step"), ok = step || !strcmp(what, "kernels");
    if (!ok)
        err_usage(e, "bench: got '%s', want 'step' or 'kernels'", what);
    else
        ok = open(&b, words->n > 1 ? words->word[1] : "sd15-lora", e);
    if (ok) (step ? bench_step : bench_kernels)(&b);
    close(&b);
    return ok ? EXIT_DONE : e->code;
}

/* clang-format off */
#define T(kind, field, value, help, ...) OPT(BenchOptions, kind, field, value, help, __VA_ARGS__)
static const Opt options[] = {
    T(EACH, set, "KEY=VALUE", "any key of the recipe: network_dim=16, data.resolution=[256,256]"),
    T(INT, runs, "N", "runs that the median is of, after one to warm up", .min = 1, .max = 1000),
    T(TEXT, mixed_precision, "TYPE", "no, fp16 or bf16; without it as the recipe says", .words = mixed_precision_words),
    T(FLAG, gradient_checkpointing, NULL, "recompute activations block by block instead of keeping them"),
    T(TEXT, memory_budget, "SIZE", "bytes, or 6GiB: all memory of a step; recompute what is needed to fit"),
    T(FLAG, forward, NULL, "the forward pass of the recipe's U-Net instead of a training step"),
    T(FLAG, exact, NULL, "the plain kernels only"),
    OPT_END,
};
/* clang-format on */
static const BenchOptions defaults = {.runs = 5};

const Command cmd_bench = {
    .name = "bench",
    .args = "step|kernels [RECIPE]",
    .doc = "Times a training step or a forward pass, or its kernels by shape, as JSON "
           "lines.",
    .options = options,
    .size = sizeof(BenchOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 2,
    .run = run,
};
