/* Named tensors in files. What comes from outside is hostile until parsed. */
#ifndef GRAPHRUN_TENSORS_H
#define GRAPHRUN_TENSORS_H
#include "graph/type.h"

typedef struct TensorEntry {
    const char *name;
    Type type;
    const void *data; /* mapped; may be unaligned */
} TensorEntry;

/* A file, or several seen as one. Entries sorted by name. */
typedef struct TensorFile TensorFile;
struct TensorFile {
    Arena *arena;
    const char *path;
    TensorEntry *entry;
    int n;
    const char **meta_key, **meta_value; /* __metadata__, in file order */
    int n_meta;
    void *map;
    size_t map_bytes;
    /* .ckpt and .pt only: what was left out; whether the tensors stand in "state_dict",
     * and the numbers beside it */
    const char **note;
    int n_note;
    bool wrapped;
    int64_t epoch, global_step;
};
/* safetensors: every check of the reference implementation, and duplicate names refused. */
TensorFile *safetensors_open(const char *path, Err *e);
/* Any file of tensors, told by its first bytes: safetensors, or what torch.save wrote
 * (io/torch_file.h; nothing in it is executed). */
TensorFile *tensors_open(const char *path, Err *e);
void tensors_close(TensorFile *f);
/* n bytes of a tensor's data were read and are not wanted soon: memory for them is given
 * back. Nothing is lost. */
void tensors_release(const TensorFile *f, const void *data, size_t n);
const TensorEntry *tensors_find(const TensorFile *f, const char *name);
const char *tensors_meta(const TensorFile *f, const char *key); /* NULL: not there */

/* ---- writing ---- */
typedef struct TensorOut {
    const char *name;
    Type type;
    const void *data;
} TensorOut;
typedef struct Meta {
    const char *key, *value;
} Meta;
/* Whole or not at all: temporary file beside, fsync, rename, fsync of the folder. Order:
 * dtype descending, then name; header padded to 8. */
bool safetensors_write(const char *path, const TensorOut *t, int n, const Meta *meta,
                       int n_meta, Err *e);
/* sshs_model_hash: hex SHA-256 of the data section as safetensors_write lays it out (65
 * bytes with NUL). sshs_legacy_hash: first 8 hex digits of SHA-256 over 0x10000 bytes at
 * 0x100000 of the file with only those metadata whose key starts with "ss_" (9 bytes). */
bool lora_hashes(const TensorOut *t, int n, const Meta *meta, int n_meta,
                 char model[65], char legacy[9], Err *e);
/* ss_sd_model_hash (8 hex digits of SHA-256 of 0x10000 bytes at 0x100000) and
 * ss_new_sd_model_hash (SHA-256 of the whole file) of a base model file. Streams; a folder
 * is an error. */
bool model_hashes(const char *path, char old8[9], char full[65], Err *e);

/* ---- files ---- */
/* Writes bytes whole or not at all. */
bool file_write(const char *path, const void *data, size_t n, Err *e);

/* ---- base models: Diffusers names whatever the file uses ---- */
/* A checkpoint file with LDM keys, a Diffusers directory, or a file with Diffusers names
 * (prefixes unet. text_encoder. vae.). Names here: component + '.' + Diffusers key, e.g.
 * "unet.down_blocks.0.resnets.0.conv1.weight", "text_encoder.text_model…",
 * "vae.encoder.conv_in.weight". Parts of joined tensors (OpenCLIP's in_proj) are views. */
typedef struct Checkpoint Checkpoint;
Checkpoint *checkpoint_open(const char *path, Err *e);
void checkpoint_close(Checkpoint *c);
const char *checkpoint_path(const Checkpoint *c); /* as opened */
bool checkpoint_find(const Checkpoint *c, const char *name, Type *type,
                     const void **data);
/* From now on the tensor `name` has these numbers, of type t and the same shape, which live
 * at least as long as c: what training made of it. false: there is no such tensor. */
bool checkpoint_replace(Checkpoint *c, const char *name, Type t, const void *data);
int checkpoint_count(const Checkpoint *c);
/* The components, as folders and names begin; NULL-terminated, in the order in which a path
 * without one is looked for ("conv_in.weight" is the U-Net's, the VAE's are
 * "encoder.conv_in.weight" and "decoder.conv_in.weight"). */
extern const char *const checkpoint_components[];
/* The one that a name is of ("unet" for "unet.conv_in.weight"); NULL: none. */
const char *checkpoint_component(const char *name);
/* n bytes at p, as checkpoint_find gave them, are not needed soon (io/file.h). */
void checkpoint_forget(const Checkpoint *c, const void *p, size_t n);
void checkpoint_release(const Checkpoint *c, const void *data, size_t n); /* as above */
const char *checkpoint_name(const Checkpoint *c, int i, const char **file_key);
/* config.json's fields of one component ("unet"), from the model's folder or
 * NAME.config.json beside the file; "" if there is none. JSON text. "scheduler": of a
 * folder scheduler_config.json, else the top of NAME.config.json (prediction_type). */
const char *checkpoint_config(const Checkpoint *c, const char *component);
const char *checkpoint_config_path(const Checkpoint *c, const char *component);
/* Folder with vocab.json and merges.txt, or NULL. */
const char *checkpoint_tokenizer(const Checkpoint *c);

/* ---- names: rename tables are data (io/names), not C ---- */
/* Name ("unet.conv_in.weight") -> LDM key for one model family ("sd1", "sd2"), in a. NULL:
 * not in the table. Part `*row` of `*rows_of` equal parts of the LDM tensor's rows. For
 * many names, and for the way back: io/names.h. */
const char *names_to_ldm(Arena *a, const char *family, const char *name, int *row,
                         int *rows_of);
#endif
