/* Merging LoRAs into the weights of a model, tensor by tensor: of the model, one tensor and
 * the pages being read are held, never the whole. */
#ifndef GRAPHRUN_MODEL_MERGE_H
#define GRAPHRUN_MODEL_MERGE_H
#include "runtime/lora_merge.h"

typedef struct ModelMerge {
    const char *model; /* a checkpoint file of any form, or a Diffusers folder */
    const MergeInput *in;
    int n;
    DType precision; /* of the arithmetic: the sum is rounded to it after each LoRA */
    DType save;      /* of every tensor of U-Net, text encoder and VAE */
    /* path_is_torch: torch's form, as `state_dict`; path_is_tensors: safetensors; else a
     * Diffusers folder, without metadata */
    const char *save_to;
    bool
        v_prediction; /* in the scheduler's config of a folder, if the model has none */
    const Meta *meta;
    int n_meta;
} ModelMerge;

typedef struct ModelMerged {
    int modules;            /* of the LoRAs that found their weight */
    int tensors;            /* written */
    int64_t overflow;       /* of a folder: finite numbers that became infinite */
    const char **unmatched; /* names that are in no place of the model, in the arena */
    int n_unmatched;
} ModelMerged;

/* Keys of a file are the model file's own, in today's form where it had an older one; of a
 * folder's model they are the original's (LDM). Tensors of other parts stay as they are. A
 * LoRA whose modules do not fit the model's weights, or of which none is in the model, is
 * an error that lists them; nothing is written then. An adapter changes the layer's bias
 * with its weight, file after file. */
bool model_merge(Arena *a, const ModelMerge *m, Device *dev, ModelMerged *out, Err *e);
#endif
