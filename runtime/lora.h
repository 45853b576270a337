/* The tensors of a LoRA file and where their values live during training. */
#ifndef GRAPHRUN_LORA_H
#define GRAPHRUN_LORA_H
#include "graph/lang/build.h"
#include "io/tensors.h"
#include "runtime/exec.h"

typedef struct LoraTensor {
    const char *key;   /* "lora_unet_…_proj_in.lora_down.weight" */
    const char *value; /* trainable's name in the plan, or NULL: a number */
    double number;     /* alpha */
    Type type; /* F32, as stored: [r,in,1,1] where the wrapped weight has 4 dims */
    const Module *module;
    double lr; /* its module's rate, times the factor of its node (LoRA+) */
} LoraTensor;
typedef struct LoraTensors {
    LoraTensor *item;
    int n;
} LoraTensors;

/* All tensors of all modules under a naming scheme ("kohya"); g: the graph after
 * inject-adapters. Two tensors of one key: an error. */
bool lora_tensors(Arena *a, const Modules *m, const Graph *g, const char *scheme,
                  LoraTensors *out, Err *e);
/* NULL: none */
const LoraTensor *lora_tensor_find(const LoraTensors *t, const char *key);
/* alpha of a module as it is saved, which rsLoRA makes another number than its argument;
 * NAN: it has none. */
double lora_alpha(Arena *a, const LoraTensors *t, const Module *m);

/* Current values, f32, ready for safetensors_write; data in a. */
bool lora_collect(Arena *a, Exec *x, const LoraTensors *t, TensorOut **out, Err *e);
/* Writes the file, cast to `save` (a DType, or LORA_KEEP), with metadata and both hashes
 * (lora.md section 10). */
bool lora_write(const char *path, Exec *x, const LoraTensors *t, int save,
                const Meta *meta, int n_meta, Err *e);
#endif
