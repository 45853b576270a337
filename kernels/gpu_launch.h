/* Parameters of the kernels in .cu files: read by both compilers and by the C code that
 * launches them. */
#ifndef GRAPHRUN_GPU_LAUNCH_H
#define GRAPHRUN_GPU_LAUNCH_H
#include <stdint.h>

enum { GPU_F32, GPU_F16, GPU_BF16, GPU_I32, GPU_F64 };
typedef struct GpuTensor {
    void *data; /* on the device; NULL: absent */
    int32_t type;
} GpuTensor;

enum { GPU_RANK = 6, GPU_WARP = 32, GPU_BLOCK = 256, GPU_MOST_BLOCKS = 4096 };

/* n elements: y = x, or 0 without x. Element i of the walk over dim lies at the sum of its
 * coordinates times the strides, from the starts on. */
typedef struct GpuCopy {
    GpuTensor x, y;
    int64_t n, x_start, y_start;
    int32_t rank;
    int64_t dim[GPU_RANK], x_stride[GPU_RANK], y_stride[GPU_RANK];
} GpuCopy;

/* Sums over the axes in_dim of x, one block per element of out_dim:
 * y = sum * scale, or sqrt(sum (x - mean)^2 * scale). */
typedef struct GpuReduce {
    GpuTensor x, y;
    int64_t n_out, n_in;
    int32_t out_rank, in_rank;
    int64_t out_dim[GPU_RANK], out_stride[GPU_RANK];
    int64_t in_dim[GPU_RANK], in_stride[GPU_RANK];
    double scale;
    int32_t deviation;
} GpuReduce;

/* Normalisation of parts: part p of sample b is `rows` rows of `width` channels, row r from
 * element ((b rows + r) parts + p) width on; channel k of it has weight p width + k, or k
 * if every part has the same. One block per part and sample. */
typedef struct GpuNorm {
    GpuTensor x, w, b, y, dy; /* y: dx in the gradient */
    float *mean, *rstd;
    float *dw, *db;
    int64_t samples, parts, rows, width;
    int32_t same_weight;
    double eps;
} GpuNorm;

/* y[i, j] = sum_k a[i, k] b[k, j] + bias[j] + add[i, j]; strides in elements; z: batch. add
 * lies as y does, and may be y. */
typedef struct GpuProduct {
    GpuTensor a, b, bias, add, y;
    int64_t m, n, k;
    int64_t a_row, a_col, a_batch, b_row, b_col, b_batch, y_batch;
} GpuProduct;

/* Nearest neighbour, channels last; and the sum over what came from a pixel. */
typedef struct GpuResize {
    GpuTensor x, y;
    int64_t batch, from_h, from_w, to_h, to_w, channels;
} GpuResize;

/* Rows of a table; and its gradient, one thread per column. */
typedef struct GpuEmbedding {
    GpuTensor ids, table, y;
    int64_t n, rows, width;
} GpuEmbedding;

/* A register program for one element (kernels/program.h), over at most these. */
enum { GPU_INSTR = 128, GPU_LOADS = 12, GPU_REGS = 48, GPU_SLOTS = 48 };
enum { GPU_SCALAR = 0x8000 };
typedef struct GpuInstr {
    uint16_t op, dst, a, b, c;
} GpuInstr;
typedef struct GpuProgram {
    GpuTensor y, x[GPU_LOADS], single[GPU_LOADS];
    uint16_t slot_of[GPU_LOADS]; /* of single-valued inputs */
    int32_t n_load, n_single, n_instr, n_once, n_slot, rank, out;
    GpuInstr instr[GPU_INSTR], once[GPU_INSTR];
    double number[GPU_SLOTS];
    int64_t n, dim[GPU_RANK], stride[GPU_LOADS][GPU_RANK];
} GpuProgram;
#endif
