/* `graphrun pass NAME FILE`: one pass over a graph in text form, for tests of passes and for
 * a look at what a pass does. Behind the last pass there is `lower`, which prints a plan. */
#include <stdio.h>
#include <string.h>

#include "cli/job/mixed_precision.h"
#include "cli/opt.h"

typedef struct PassOptions {
    bool report, reference;
    double max_grad_norm;
    int64_t memory_budget;
    const char *optimizer, *mixed_precision;
    bool full_half;
} PassOptions;

static const Opt options[] = {
    OPT(PassOptions, FLAG, report, NULL, "the pass's report on stderr"),
    OPT(PassOptions, FLAG, reference, NULL, "lower: only reference kernels"),
    OPT(PassOptions, FLOAT, max_grad_norm, "X",
        "optimizer: largest norm of all gradients"),
    OPT(PassOptions, INT, memory_budget, "BYTES",
        "checkpoint: all memory of a step; 0: recompute by segment", .min = 0,
        .max = 0x1p53),
    OPT(PassOptions, TEXT, optimizer, "NAME", "optimizer: the document to use"),
    OPT(PassOptions, TEXT, mixed_precision, "TYPE", "fp16 or bf16",
        .words = mixed_precision_words),
    OPT(PassOptions, FLAG, full_half, NULL, "mixed-precision: trainables too"),
    OPT_END,
};
static const PassOptions defaults = {
    .max_grad_norm = 1, .optimizer = "adamw", .mixed_precision = "no"};

static const char *const *pass_names(Arena *a) {
    int n = 0;
    while (pipeline[n].name) n++;
    const char **names = NEW(a, const char *, n + 2);
    for (int i = 0; i < n; i++) names[i] = pipeline[i].name;
    names[n] = "lower";
    return names;
}

static const Pass *find_pass(const char *name) {
    for (const Pass *p = pipeline; p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

/* A recipe that says nothing but which optimizer to use. */
static bool optimizer_recipe(Arena *a, const char *name, Recipe *r, Err *e) {
    const Doc *d = doc_load(library_new(a), name, DOC_OPTIMIZER, NULL, loc_none(), e);
    if (!d) return false;
    r->optimizer = d;
    r->optimizer_args = args_new(a);
    const YNode *declared = yaml_get(d->root, "args");
    return !declared ||
           args_bind(a, declared, args_new(a), name, loc_none(), r->optimizer_args, e);
}

/* Dumps are larger than the files that source_read is for. */
static Source *read_dump(Arena *a, const char *path, Err *e) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        err_usage(e, "cannot open '%s'", path);
        return NULL;
    }
    Str text = {0};
    char part[65536];
    size_t n;
    while ((n = fread(part, 1, sizeof part, f)) > 0) str_addn(&text, part, n);
    fclose(f);
    Source *src = source_text(a, path, text.s ? text.s : "", text.n);
    str_free(&text);
    return src;
}

static bool print_pass(Arena *a, const char *name, Graph *g, const PassOptions *o,
                       Str *out, Str *talk, Err *e) {
    Recipe recipe = {0};
    Options opt = {.train = true,
                   .max_grad_norm = o->max_grad_norm,
                   .memory_budget = (uint64_t)o->memory_budget,
                   .mixed_precision = mixed_precision_of(o->mixed_precision),
                   .full_half = o->full_half,
                   .reference_kernels = o->reference,
                   .report = talk};
    const Pass *pass = find_pass(name);
    if (!pass && strcmp(name, "lower"))
        return err_usage(e, "no pass '%s'%s", name,
                         did_you_mean(a, name, pass_names(a)));
    if (!strcmp(name, "build") || !strcmp(name, "inject-adapters"))
        return err_usage(e, "pass '%s' needs a recipe: see `graphrun compile`", name);
    bool scaled =
        opt.mixed_precision == PRECISION_FP16 && !strcmp(name, "differentiate");
    if (scaled || !strcmp(name, "optimizer")) {
        if (!optimizer_recipe(a, o->optimizer, &recipe, e)) return false;
        opt.recipe = &recipe;
    }
    g->report = talk;
    if (!pass) {
        Plan *p = plan_lower(g, &opt, e);
        if (p) plan_print(out, p);
        return p != NULL;
    }
    g = pass->run(g, &opt, e);
    if (!g || !graph_verify(g, e)) return false;
    graph_print(out, g);
    return true;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)c, (void)given;
    const PassOptions *o = opts;
    Arena *a = arena_new();
    Str out = {0}, talk = {0};
    Source *src = read_dump(a, words->word[1], e);
    Graph *g = src ? graph_parse(a, src, e) : NULL;
    bool ok = g && print_pass(a, words->word[0], g, o, &out, &talk, e);
    if (ok && out.s) fputs(out.s, stdout);
    if (ok && o->report && talk.s) fputs(talk.s, stderr);
    str_free(&out);
    str_free(&talk);
    arena_free(a);
    return ok ? EXIT_DONE : e->code;
}

const Command cmd_pass = {
    .name = "pass",
    .args = "NAME FILE",
    .doc = "Runs one pass over a graph in text form and prints the result.",
    .options = options,
    .size = sizeof(PassOptions),
    .defaults = &defaults,
    .min_words = 2,
    .max_words = 2,
    .run = run,
    .hidden = true,
};
