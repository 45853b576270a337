/* Plans of a sampler, whatever its model is. */
#ifndef GRAPHRUN_SAMPLER_PLAN_H
#define GRAPHRUN_SAMPLER_PLAN_H
#include "passes/passes.h"

typedef struct SamplerWish {
    const Doc *doc;
    const Args *args;
    Type latent; /* f32 [B,h,w,4] */
    const SamplerModel *model;
    /* puts adapters into the graph with its networks, or NULL */
    Graph *(*adapt)(void *ctx, Graph *g, Err *e);
    void *ctx;
} SamplerWish;
typedef struct SamplerPlans {     /* see runtime/sample.h */
    Plan *start, *step, *picture; /* picture: NULL if the sampler has none */
    int64_t runs;
    const char **draw;
    int n_draw;
} SamplerPlans;
/* opt: networks, reports, kernels; plans live in a. */
bool sampler_plans(Arena *a, const SamplerWish *w, const Options *opt,
                   SamplerPlans *out, Err *e);
#endif
