/* LoRA files as modules, whatever form the file has. Modules carry kohya's names, which
 * contain no dot ("lora_unet_mid_block_attentions_0_proj_in"). */
#ifndef GRAPHRUN_LORA_READ_H
#define GRAPHRUN_LORA_READ_H
#include "io/tensors.h"

typedef struct LoraModule {
    const char *name;
    Type down_type, up_type; /* [r,in] or [r,in,kh,kw]; [out,r] or [out,r,1,1] */
    const void *down, *up;   /* as stored; may be unaligned */
    double alpha;            /* the rank where the file has none */
    DType alpha_type;        /* as stored; F32 where the file has none */
    bool has_alpha;
} LoraModule;

typedef struct LoraFile {
    Arena *arena;
    const char *path;
    LoraModule *module; /* sorted by name */
    int n;
    const char **meta_key, **meta_value;
    int n_meta;
    TensorFile *file;
} LoraFile;

/* Every module has both factors, of one rank >= 1 that agrees between them, both of one
 * float type each; tensors that belong to no module are an error that names them. */
LoraFile *lora_read(const char *path, Err *e);
void lora_read_close(LoraFile *f);
const LoraModule *lora_module(const LoraFile *f, const char *name); /* NULL: none */
const char *lora_meta(const LoraFile *f, const char *key);          /* NULL: none */
static inline int64_t lora_rank(const LoraModule *m) {
    return m->down_type.dim[0];
}
static inline int64_t lora_in(const LoraModule *m) {
    return m->down_type.dim[1];
}
static inline int64_t lora_out(const LoraModule *m) {
    return m->up_type.dim[0];
}
#endif
