/* What a kernel may ask of a device. Nothing outside the backend knows address spaces. */
#ifndef GRAPHRUN_DEVICE_H
#define GRAPHRUN_DEVICE_H
#include "graph/type.h"

enum { SCRATCH_BYTES = 1 << 21 }; /* per worker, 64-byte aligned, contents undefined */

typedef struct Device Device;
struct DeviceOps; /* runtime/device.h */
struct Device {
    const char *name; /* "cpu" */
    int threads;
    /* Runs body(arg, i, scratch) for i = 0 ... n-1, in any order, on any worker, and
     * returns when all are done. scratch is the worker's own SCRATCH_BYTES. The caller
     * cuts the work so that results do not depend on who runs what: n must not depend on
     * `threads`. */
    void (*par)(Device *d, int64_t n, void (*body)(void *arg, int64_t i, void *scratch),
                void *arg);
    const struct DeviceOps *ops; /* NULL: its memory is the host's */
};

typedef struct Tensor {
    void *data; /* NULL: an optional operand that is absent */
    const Type *type;
} Tensor;

/* What a kernel sees: tensors, attributes, memory; never a node or a file. */
typedef struct Call {
    const Tensor *in, *out;
    int n_in, n_out;
    const void *attrs; /* the op's attribute struct */
    const void *prep;  /* what Kernel.prepare made, or NULL */
    void *work;        /* Kernel.work bytes, 64-byte aligned */
    Device *dev;
} Call;
#endif
