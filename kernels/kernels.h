/* The kernel lists, declared from ops.def: the kernels of row NAME are cpu_NAME, in the
 * file that ops.def says, variants best first, the plain reference last; and cuda_NAME, in
 * kernels/gpu_*.c, for rows that have one. */
#ifndef GRAPHRUN_KERNELS_H
#define GRAPHRUN_KERNELS_H
#include "graph/op.h"
#include "kernels/attrs.h"

#define OP(file, name) extern const Kernel cpu_##name[], cuda_##name[];
#include "ops/ops.def"
#undef OP

/* Elements of one piece of parallel work in kernels that only stream: fixed, so that
 * results do not depend on the number of threads. */
enum { BLOCK = 1 << 14 };
static inline int64_t blocks_of(int64_t n) {
    return (n + BLOCK - 1) / BLOCK;
}
#endif
