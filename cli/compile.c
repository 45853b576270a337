/* `graphrun compile RECIPE -o PLAN`: a recipe as a plan file. No checkpoint is needed where
 * the recipe names its networks' variants. */
#include <stdio.h>
#include <string.h>

#include "cli/inspect/inspect.h"
#include "cli/inspect/plan_facts.h"
#include "cli/job/budget.h"
#include "cli/job/job_plan.h"
#include "cli/job/mixed_precision.h"
#include "cli/job/setting.h"
#include "io/tensors.h"

typedef struct CompileOptions {
    const char *o, *explain, *dump_after, *memory_budget;
    WordList disable_pass, set, given;
    const char *mixed_precision, *device;
    bool full_fp16, full_bf16;
    bool exact, no_cache, gradient_checkpointing;
} CompileOptions;

static const char *const device_words[] = {"cpu", "cuda", NULL};

/* clang-format off */
#define T(kind, field, value, help, ...) OPT(CompileOptions, kind, field, value, help, __VA_ARGS__)
static const Opt options[] = {
    T(TEXT, o, "PLAN", "the plan file to write"),
    T(EACH, set, "KEY=VALUE", "any key of the recipe: network_dim=16, data.resolution=[768,512]"),
    T(EACH, given, "NODE", "a node of the objective that is an input instead, as `train` gives `text` while the text encoder is not trained"),
    T(MAYBE, explain, "PART", "say what the plan is made of: all parts of `inspect`, one of them, or why:NODE; recompute: with the curve of budgets"),
    T(TEXT, dump_after, "PASS", "print the graph as it is after a pass"),
    T(EACH, disable_pass, "PASS", "leave a pass out"),
    T(FLAG, gradient_checkpointing, NULL, "recompute activations block by block instead of keeping them"),
    T(TEXT, memory_budget, "SIZE", "bytes, or 6GiB: all memory of a step; recompute what is needed to fit"),
    T(TEXT, mixed_precision, "TYPE", "no, fp16 or bf16; without it as the recipe says", .words = mixed_precision_words),
    T(FLAG, full_fp16, NULL, "trainables and gradients in half too"),
    T(FLAG, full_bf16, NULL, "the same in bfloat16"),
    T(TEXT, device, "NAME", "cpu or cuda: whose kernels; needs none of it", .words = device_words),
    T(FLAG, exact, NULL, "the plain kernels only"),
    T(FLAG, no_cache, NULL, "compile even if the plan was kept from an earlier run"),
    OPT_END,
};
/* clang-format on */
static const CompileOptions defaults = {.device = "cpu"};

/* ---- the recipe ---- */
static bool passes_exist(Arena *a, const CompileOptions *o, Err *e) {
    const char *names[66] = {0};
    int n = 0;
    for (const Pass *p = pipeline; p->name && n < 64; p++) names[n++] = p->name;
    names[n] = "in-place";
    for (int i = -1; i < o->disable_pass.n; i++) {
        const char *name = i < 0 ? o->dump_after : o->disable_pass.word[i], *const *x =
                                                                                names;
        if (!name) continue;
        while (*x && strcmp(*x, name)) x++;
        if (!*x || (i < 0 && x - names == n))
            return err_usage(e, "%s: no pass '%s'%s",
                             i < 0 ? "--dump-after" : "--disable-pass", name,
                             nearest_or_all(a, name, names));
    }
    return true;
}

static bool part_exists(const CompileOptions *o, Err *e) {
    const char *part = o->explain;
    if (!part || !*part || !strncmp(part, "why:", 4)) return true;
    for (const char *const *x = inspect_parts; *x; x++)
        if (!strcmp(*x, part)) return true;
    Arena *a = arena_new();
    Str all = {0};
    for (const char *const *x = inspect_parts; *x; x++) str_printf(&all, "%s, ", *x);
    err_usage(e, "--explain: no part '%s'%s; want %swhy:NODE", part,
              did_you_mean(a, part, inspect_parts), all.s);
    str_free(&all);
    arena_free(a);
    return false;
}

static bool open_job(Job *j, const CompileOptions *o, const char *recipe, Err *e) {
    if (!job_load(j, recipe, e)) return false;
    Args *set = args_new(j->arena);
    return passes_exist(j->arena, o, e) &&
           settings(j->arena, &o->set, "--set", set, e) && job_open(j, set, e);
}

/* NULL-terminated; NULL if there are none. */
static const char *const *words_or_none(Arena *a, const WordList *w) {
    if (!w->n) return NULL;
    const char **out = NEW(a, const char *, w->n + 1);
    for (int i = 0; i < w->n; i++) out[i] = w->word[i];
    return out;
}

static bool all_given(const Plan *p, const WordList *given, Err *e) {
    for (int i = 0; i < given->n; i++)
        if (!plan_has_input(p, given->word[i]))
            return err_usage(
                e, "--given: '%s' is no node of the objective that the step needs",
                given->word[i]);
    return true;
}

static bool read_options(Job *j, const CompileOptions *o, Str *dump, Options *opt,
                         Err *e) {
    double accumulate;
    if (!job_step_options(j, opt, e) ||
        !job_precision(j, o->mixed_precision, o->full_fp16, o->full_bf16, opt, e) ||
        !job_memory(j, o->memory_budget, o->gradient_checkpointing, opt, e) ||
        !job_number(j, j->recipe.train, "max_grad_norm", 1, &opt->max_grad_norm, e) ||
        !job_number(j, j->recipe.train, "scale_weight_norms", 0,
                    &opt->scale_weight_norms, e) ||
        !job_number(j, j->recipe.train, "gradient_accumulation_steps", 1, &accumulate,
                    e))
        return false;
    opt->accumulate = accumulate > 1 && accumulate <= 1 << 20 ? (int)accumulate : 1;
    opt->dump_after = o->dump_after;
    opt->dump = dump;
    opt->reference_kernels = o->exact;
    opt->cuda = !strcmp(o->device, "cuda");
    opt->disable = words_or_none(j->arena, &o->disable_pass);
    opt->given = words_or_none(j->arena, &o->given);
    return true;
}

/* ---- results ---- */
static bool write_plan(const char *path, const Plan *p, Err *e) {
    Str bytes = {0};
    plan_write(&bytes, p);
    bool ok = file_write(path, bytes.s, bytes.n, e);
    str_free(&bytes);
    return ok;
}

typedef struct Made {
    Plan *plan;
    bool cached;
    double ms;
} Made;

static bool explain(Str *s, Job *j, const CompileOptions *o, const Options *opt,
                    const Made *m, const PlanCache *cache, Err *e) {
    const char *part = *o->explain ? o->explain : NULL;
    if (part && !strncmp(part, "why:", 4))
        return inspect_why(s, j->arena, m->plan, part + 4, NULL, e);
    inspect_text(s, j->arena, m->plan, part, NULL);
    return !part || strcmp(part, "recompute") || budget_curve(s, j, opt, cache, e);
}

static void say_what(Str *s, const Made *m, const CompileOptions *o) {
    str_printf(s, "%s in %.1f ms; ", m->cached ? "found in the cache" : "compiled",
               m->ms);
    if (o->o)
        str_printf(s, "written to %s\n", o->o);
    else
        str_add(s, "no file was asked for (-o PLAN)\n");
}

static bool print_result(const Common *c, const CompileOptions *o, Job *j,
                         const Options *opt, const Made *m, const PlanCache *cache,
                         const Str *dump, Err *e) {
    Str s = {0};
    bool ok = true;
    const char *took = arena_printf(j->arena, ", \"compile_ms\": %.3f, \"cached\": %s",
                                    m->ms, m->cached ? "true" : "false");
    if (c->json && o->explain) {
        inspect_json(&s, j->arena, m->plan, took, NULL);
    } else if (c->json) {
        str_add(&s, "{");
        inspect_json_totals(&s, m->plan, took);
        str_add(&s, "}\n");
    } else if (o->explain) {
        ok = explain(&s, j, o, opt, m, cache, e);
    } else if (!o->dump_after) {
        inspect_text(&s, j->arena, m->plan, "totals", NULL);
        say_what(&s, m, o);
    }
    fputs(dump->s ? dump->s : "", stdout);
    if (ok) fputs(s.s ? s.s : "", stdout);
    str_free(&s);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    const CompileOptions *o = opts;
    Job j = {0};
    Str dump = {0};
    PlanOrigin from = {0};
    Options opt, first;
    Made m = {0};
    double start = seconds_now();
    bool ok = part_exists(o, e) && open_job(&j, o, words->word[0], e) &&
              read_options(&j, o, &dump, &opt, e);
    PlanCache folder = ok ? plan_cache_default(j.arena) : (PlanCache){0};
    const PlanCache *cache = ok && !o->no_cache && !o->dump_after ? &folder : NULL;
    if (ok) {
        PlanWish wish = {.cache = cache};
        first = opt;
        m.plan = job_plan(&j, &first, &wish, &from, e);
        m.cached = from.cached;
        m.ms = (seconds_now() - start) * 1e3;
    }
    ok = m.plan && all_given(m.plan, &o->given, e) &&
         (!o->o || write_plan(o->o, m.plan, e));
    if (!c->quiet && from.note.s) fputs(from.note.s, stderr);
    if (!c->quiet && c->verbose && m.plan && m.plan->report)
        fputs(m.plan->report, stderr);
    ok = ok && print_result(c, o, &j, &opt, &m, cache, &dump, e);
    str_free(&dump);
    str_free(&from.note);
    if (j.arena) job_close(&j);
    return ok ? EXIT_DONE : e->code;
}

const Command cmd_compile = {
    .name = "compile",
    .args = "RECIPE",
    .doc = "Compiles a recipe to a plan file; no checkpoint is needed.",
    .options = options,
    .size = sizeof(CompileOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
