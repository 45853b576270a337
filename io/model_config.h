/* What a model's config.json says of its networks, as arguments of the network files. */
#ifndef GRAPHRUN_MODEL_CONFIG_H
#define GRAPHRUN_MODEL_CONFIG_H
#include "graph/lang/expr.h"

/* json: fields of one component ("unet", "text_encoder", "vae") as Diffusers and
 * transformers write them; path: for messages. Sets channels, heads, depth, context, width,
 * layers, activation, vocabulary as far as the fields are there. A field of a wrong type:
 * err_usage. Trap: without num_attention_heads, the U-Net's attention_head_dim holds the
 * number of heads (Diffusers' own reading). */
bool model_config_args(Arena *a, const char *component, const char *json,
                       const char *path, Args *out, Err *e);
#endif
