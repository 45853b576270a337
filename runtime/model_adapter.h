/* What a merge asks of an adapter that has tensors of its own. Whoever can compile its graph
 * answers; the merge knows names, weights and ratios. */
#ifndef GRAPHRUN_MODEL_ADAPTER_H
#define GRAPHRUN_MODEL_ADAPTER_H
#include "graph/device.h"
#include "io/tensors.h"

typedef struct AdaptedLayer { /* a layer of the model while adapters change it */
    Type weight;              /* [out,in] or [out,in,k,k]; F32 */
    float *w;
    float *b; /* [out]; NULL: the layer has no bias */
} AdaptedLayer;

typedef struct ModelAdapter {
    const TensorFile *file;
    const char *const *module; /* kohya names, sorted */
    int n;
    void *ctx;
    /* Weight (unless `bias_only`) and bias of the layer as the module leaves them:
     * old + ratio * (new - old). One that is not affine in its input, or wants a bias
     * where there is none: an error. */
    bool (*apply)(void *ctx, const char *module, double ratio, bool bias_only,
                  AdaptedLayer *l, Device *dev, Err *e);
} ModelAdapter;
#endif
