/* Writing base models: lists of tensors that are cast while they are written, so that no
 * more than one piece of the model is in memory beside the mapped source. */
#ifndef GRAPHRUN_MODEL_WRITE_H
#define GRAPHRUN_MODEL_WRITE_H
#include "io/file.h"
#include "io/names.h"
#include "io/torch_file.h"

/* A tensor of the file: equal parts of rows, each where it is now. */
typedef struct Stored {
    const char *key;
    Type type;
    int parts;
    TensorEntry part[NAME_PARTS];
} Stored;
/* Other numbers of a tensor (by its name in a Checkpoint) than the model's, made while it is
 * written. */
typedef struct ModelChange {
    void *ctx;
    /* In f32, until the next call; NULL: as in the model, or, with e set, a failure. */
    const float *(*make)(void *ctx, const char *name, Err *e);
} ModelChange;
typedef struct StoredList {
    Arena *arena;              /* what the list is made of; set by the caller */
    const ModelChange *change; /* or NULL */
    const float *now;          /* while writing: the part at hand, changed */
    /* where the data is mapped: what was written is forgotten there; either may be NULL */
    const Checkpoint *model;
    const TensorFile *file;
    const FolderOut
        *folder; /* the file's own: writing ends when that is stopped; or NULL */
    Stored *item;
    int n, cap;
    int64_t overflow; /* after writing: finite numbers that became infinite */
} StoredList;

enum { STORED_KEEP = DTYPES }; /* precision: every tensor as it is */

/* x as it is, or cast if it is of floats. */
void stored_add(StoredList *l, const char *key, const TensorEntry *x, int precision);

/* Writes .ckpt, .pt, .pth and .bin as torch.save does (top: see io/torch_file.h; there is
 * no metadata), everything else as safetensors. Whole or not at all. */
bool stored_write(const char *path, StoredList *l, const Meta *meta, int n_meta,
                  const TorchTop *top, Err *e);

/* "sd1" or "sd2", by names, config and shapes. */
const char *model_family(const Checkpoint *c);

/* The tensors of an LDM file: names of the family, joined parts joined, and what such files
 * hold beside the weights: position_ids and the noise schedule; of SD2 the last layer of
 * the text encoder once more in the place of the one that is never run, text_projection
 * and logit_scale (as sd-scripts). A tensor without an LDM name is an error. */
bool model_to_ldm(StoredList *out, const Checkpoint *c, const char *family,
                  int precision, Err *e);

typedef struct DiffusersSave {
    const char *family;
    int precision;
    bool v_prediction; /* in a scheduler config that has to be made */
    bool bin;          /* weights as torch.save writes them, not as safetensors */
    const ModelChange *change; /* or NULL */
} DiffusersSave;
/* A Diffusers folder: weights as safetensors or .bin, configs (the source's, else made from
 * shapes and the family's constants), the source's tokenizer. `path` must not exist or be empty;
 * it appears whole. *overflow as in StoredList. */
bool diffusers_write(const char *path, const Checkpoint *c, const DiffusersSave *s,
                     int64_t *overflow, Err *e);
/* config.json of one component as it follows from shapes and family, or NULL: the model has
 * no such component. JSON text in a. */
const char *diffusers_config(Arena *a, const Checkpoint *c, const char *component,
                             const char *family);
/* NAME.config.json beside the file `path`, if c's configs say what neither shapes nor family
 * tell (*written); without it the file would be read as another model. */
bool config_beside(const char *path, const Checkpoint *c, const char *family,
                   bool *written, Err *e);
/* The part of a Diffusers name behind the component; *t: its shape in such files. */
const char *diffusers_key(const Names *names, Arena *a, const char *name,
                          const char *component, Type *t);
#endif
