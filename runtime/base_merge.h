/* Adding LoRAs to a base model in memory, before it is trained on (--base_weights). */
#ifndef GRAPHRUN_BASE_MERGE_H
#define GRAPHRUN_BASE_MERGE_H
#include "io/lora_read.h"
#include "runtime/matrix.h"

typedef struct BaseLora {
    const LoraFile *file;
    double ratio;
} BaseLora;

/* W + sum of ratio * alpha/rank * up down for every module: computed in f32 and rounded
 * once, to the type that the base has. The new numbers live in a and replace the base's
 * (checkpoint_replace). A module that is not in the base, or does not fit it, is an error. */
bool base_merge(Arena *a, Checkpoint *base, const BaseLora *in, int n, Device *dev,
                Err *e);
#endif
