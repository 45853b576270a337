/* .ckpt, .pt, .pth and .bin: what torch.save writes, as tensors by name. */
#ifndef GRAPHRUN_TORCH_FILE_H
#define GRAPHRUN_TORCH_FILE_H
#include "io/safetensors.h"

/* Whether the first bytes of a file are those of a zip or of torch.save's old form (or of
 * the older tar form, which is refused by name). */
bool torch_is(const void *bytes, size_t n);

/* Checks the bytes of a file and fills f (arena and path are set): entries, notes, wrapped,
 * epoch and global_step. Only "state_dict" is read, or the whole if there is no such key;
 * what is no tensor of a known type is left out with a note. Stored data stays where it is;
 * tensors whose elements lie apart are copied. strict: see io/pickle.h. */
bool torch_parse(TensorFile *f, const void *bytes, size_t n, bool strict, Err *e);
TensorFile *torch_open(const char *path, bool strict, Err *e);

/* By the ending of a name, in any command that writes a file: .ckpt, .pt, .pth, .bin. */
bool path_is_torch(const char *path);
/* One of those, or .safetensors: the endings of files of tensors. */
bool path_is_tensors(const char *path);

/* What stands around the tensors. NULL, and for .bin always, as Diffusers and transformers
 * have it: the file is the dict of tensors itself. */
typedef struct TorchTop {
    int64_t epoch, global_step;
} TorchTop;
/* A zip that torch.load(weights_only=True) and the safe loaders of image programs read:
 * data.pkl, data/N and version, stored, aligned to 64 bytes, zip64 where needed. Entries in
 * the order given; whole or not at all. fill: as in safetensors_write_made, or NULL. */
bool torch_write_made(const char *path, const TensorOut *t, int n, const TorchTop *top,
                      const TensorFill *fill, Err *e);
/* In the form that the path's ending says: torch's with `top`, safetensors with `meta`. */
bool tensors_write_made(const char *path, const TensorOut *t, int n, const Meta *meta,
                        int n_meta, const TorchTop *top, const TensorFill *fill,
                        Err *e);
#endif
