/* What adapters of any kind change in the layers of a model: for showing and comparing
 * them. */
#ifndef GRAPHRUN_ADAPTER_DELTA_H
#define GRAPHRUN_ADAPTER_DELTA_H
#include "cli/files/adapter_file.h"

/* The layers of a model's U-Net and text encoder, by kohya's module names. */
typedef struct BaseLayers BaseLayers;
BaseLayers *base_layers_open(const char *model, Err *e);
void base_layers_close(BaseLayers *b);

typedef struct LayerDelta { /* new weight, then new bias, each minus the old one */
    float *x;               /* f32, so good to rounding of the weights: malloc */
    int64_t n;
} LayerDelta;
/* A module that is not in the model: an error. free(out->x). */
bool layer_delta(const BaseLayers *b, const AdapterFile *f, const char *module,
                 Device *dev, LayerDelta *out, Err *e);
double delta_square(const LayerDelta *d);
#endif
