/* The pass table: Graph -> Graph, and last Graph -> Plan. A pass keeps no state and prints
 * nothing; what it did and left alone goes to g->report. */
#ifndef GRAPHRUN_PASSES_H
#define GRAPHRUN_PASSES_H
#include "graph/lang/build.h"
#include "graph/plan/plan.h"

typedef enum Precision {               /* of what a step's samples go through */
                         PRECISION_NO, /* f32 */
                         PRECISION_FP16, /* halves where products are, with a loss scale */
                         PRECISION_BF16
} Precision;

typedef struct Options {
    /* build */
    /* networks, adapters, objective, optimizer; or NULL when the pipeline starts from a
     * graph that exists already */
    const Recipe *recipe;
    Net *net; /* bound networks of the recipe */
    int n_net;
    const Args *dims; /* symbols of the objective: B H W N … */
    /* nodes of the objective that become inputs (Build.given) */
    const char *const *given;
    /* nodes of adapters that become inputs (Modules.given) */
    const char *const *given_draws;
    const char *const *absent; /* inputs that nobody will write (Build.absent) */
    bool train;                /* differentiate and update */
    int accumulate;            /* micro-batches per update; 0 is 1 */
    double max_grad_norm;      /* 0: no clipping (the norm is computed all the same) */
    double scale_weight_norms; /* largest norm of a module; 0: none (passes/norms.c) */
    /* values to keep as outputs ("unet.noise"), NULL-terminated */
    const char *const *record;
    /* outputs "grad.NAME" for every trainable, before clipping */
    bool record_gradients;
    Precision mixed_precision;
    bool full_half;              /* trainables and their gradients too */
    bool gradient_checkpointing; /* recompute by block in the backward pass */
    /* bytes of everything together, 0: no limit. Wins over by block */
    uint64_t memory_budget;
    /* debugging */
    const char *dump_after; /* pass name, or NULL */
    Str *dump;
    const char *const *disable; /* pass names, NULL-terminated, or NULL */
    bool reference_kernels;     /* only the plain ones (--exact tests) */
    bool cuda;                  /* kernels of a GPU, not of the CPU */
    Str *report;
    /* results */
    uint64_t memory_least; /* of a budget that is too small: what would do */
    Modules *modules;      /* filled by inject-adapters */
    Graph *adapted;        /* the graph their tensors' ids belong to */
} Options;

typedef struct Pass {
    const char *name, *doc;
    Graph *(*run)(Graph *g, Options *opt, Err *e); /* NULL: failed */
    bool (*wanted)(const Options *opt);            /* NULL: always */
} Pass;
extern const Pass pipeline[]; /* ends with name NULL */

/* Can every trainable of the modules, injected into `plain` with the result g, learn? An
 * error with the place where its way ends, if no gradient of the output "loss" (without
 * one: of any output) comes to it. Modules around nodes that no output of `plain` needs
 * are let pass: layers behind `clip_skip` have some, which are saved and never learn. */
bool modules_learn(const Graph *g, const Graph *plain, const Modules *m, Err *e);

/* All passes from `first` on (NULL: from the start), graph_verify after each; then lower. */
Graph *passes_run(Graph *g, Options *opt, const char *first, Err *e);
Plan *plan_lower(const Graph *g, const Options *opt, Err *e);
/* Both. */
Plan *compile(Arena *a, Options *opt, Err *e);
#endif
