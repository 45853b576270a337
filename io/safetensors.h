/* The parts of the safetensors reader and writer that are of use without a file: parsing
 * bytes in memory (fuzzing), and writing tensors whose data is made while it is written. */
#ifndef GRAPHRUN_SAFETENSORS_H
#define GRAPHRUN_SAFETENSORS_H
#include "io/hash.h"
#include "io/tensors.h"

/* Header limit of the reference implementation. */
enum { SAFETENSORS_MOST_HEADER = 100000000 };

/* Checks the bytes of a file and fills entries and metadata of f (arena and path are set;
 * entries point into `bytes`). Failures name f->path. */
bool safetensors_parse(TensorFile *f, const void *bytes, size_t n, Err *e);

/* Makes elements [first, first + n) of tensor `index` (in the caller's order) into buf, in
 * the tensor's dtype. Pieces of a tensor come in order and without gaps; tensors come in
 * the order of the file. */
typedef struct TensorFill {
    void *ctx;
    bool (*make)(void *ctx, int index, int64_t first, int64_t n, void *buf, Err *e);
} TensorFill;
/* As safetensors_write, for tensors whose `data` is NULL: nothing but one piece is held. */
bool safetensors_write_made(const char *path, const TensorOut *t, int n,
                            const Meta *meta, int n_meta, const TensorFill *fill,
                            Err *e);

/* What sd-scripts' old hashes look at: bytes 0x100000 ... 0x10ffff of a file. */
enum { OLD_HASH_FROM = 0x100000, OLD_HASH_TO = 0x110000 };
/* Adds the part of a piece of a file (n bytes at `offset`) that lies in that window. */
void window_add(Sha256 *h, uint64_t offset, const void *data, size_t n);
#endif
