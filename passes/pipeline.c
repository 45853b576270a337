/* The table of passes and the loop that runs them. */
#include "passes/private.h"

#include <stdio.h>
#include <string.h>

static bool from_recipe(const Options *opt) {
    return opt->recipe != NULL;
}
static bool with_networks(const Options *opt) {
    return opt->n_net > 0;
}
/* also where networks are trained themselves: each trainable's path is looked for */
static bool with_trainables(const Options *opt) {
    bool any = opt->recipe && opt->recipe->n_adapter;
    for (int i = 0; opt->recipe && i < opt->n_net; i++) any |= opt->net[i].train;
    return any;
}
static bool with_halves(const Options *opt) {
    return opt->mixed_precision != PRECISION_NO;
}
static bool in_training(const Options *opt) {
    return opt->train;
}
static bool with_optimizer(const Options *opt) {
    return opt->train && opt->recipe && opt->recipe->optimizer;
}

static bool with_checkpoints(const Options *opt) {
    return opt->train && (opt->gradient_checkpointing || opt->memory_budget);
}
static bool on_gpu(const Options *opt) {
    return opt->cuda && !opt->reference_kernels;
}

/* clang-format off */
const Pass pipeline[] = {
    { "build",           "documents to graph: templates, repeats and presets expanded",      pass_build,           from_recipe },
    { "infer-shapes",    "type of every value, inferred again and compared",                 pass_infer_shapes,    NULL },
    { "bind-weights",    "each frozen tensor against the checkpoint",                        pass_bind_weights,    with_networks },
    { "inject-adapters", "wraps the chosen nodes; a gradient path to every trainable",       pass_inject_adapters, with_trainables },
    { "mixed-precision", "which values are stored in half, and where that needs a cast",     pass_mixed_precision, with_halves },
    { "simplify",        "constants folded, equal nodes merged, identities removed",         pass_simplify,        NULL },
    { "differentiate",   "reverse mode, only what a trainable needs",                        pass_differentiate,   in_training },
    { "dce",             "what nobody reads goes",                                           pass_dce,             NULL },
    { "optimizer",       "gradient norm, clipping, one update node per trainable",           pass_optimizer,       with_optimizer },
    { "fuse",            "nodes that pass data on become one; the reasons where not",        pass_fuse,            NULL },
    { "schedule",        "an order that keeps the peak low; updates last",                   pass_schedule,        NULL },
    { "checkpoint",      "activations computed again in the backward pass, to fit",          pass_checkpoint,      with_checkpoints },
    { "group",           "on a GPU: products that wait for none of them become one step",    pass_group,           on_gpu },
    { "group-updates",   "on a GPU: an optimizer's steps of several tensors become one",     pass_group_updates,   on_gpu },
    { 0 }
};
/* clang-format on */

bool pass_disabled(const Options *opt, const char *name) {
    for (const char *const *d = opt->disable; d && *d; d++)
        if (!strcmp(*d, name)) return true;
    return false;
}

void report(const Graph *g, const char *fmt, ...) {
    if (!g->report) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    str_printf(g->report, "%s\n", line);
}

const char *bytes_text(Arena *a, uint64_t bytes) {
    double x = (double)bytes;
    if (bytes < 10000) return arena_printf(a, "%llu bytes", (unsigned long long)bytes);
    if (x < 1048576) return arena_printf(a, "%.1f KiB", x / 1024);
    if (x < 1073741824) return arena_printf(a, "%.1f MiB", x / 1048576);
    return arena_printf(a, "%.2f GiB", x / 1073741824);
}

/* The pass's name in a failure that has none: graph_verify knows no passes. */
static Graph *checked(Graph *g, const Pass *p, Err *e) {
    if (graph_verify(g, e)) return g;
    err_note(e, "note: found after pass '%s'", p->name);
    return NULL;
}

Graph *passes_run(Graph *g, Options *opt, const char *first, Err *e) {
    const Pass *p = pipeline;
    while (first && p->name && strcmp(p->name, first)) p++;
    if (!p->name) {
        err_usage(e, "no pass '%s'", first);
        return NULL;
    }
    for (; p->name; p++) {
        if ((p->wanted && !p->wanted(opt)) || pass_disabled(opt, p->name)) continue;
        g->report = opt->report;
        g = p->run(g, opt, e);
        if (!g || !checked(g, p, e)) return NULL;
        if (opt->dump && opt->dump_after && !strcmp(opt->dump_after, p->name))
            graph_print(opt->dump, g);
    }
    return g;
}

Plan *compile(Arena *a, Options *opt, Err *e) {
    const Recipe *r = opt->recipe;
    Graph *g = graph_new(a, r && r->doc ? r->doc->name : "graph");
    g = passes_run(g, opt, NULL, e);
    return g ? plan_lower(g, opt, e) : NULL;
}
