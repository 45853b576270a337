/* Parameters of the kernels in .cu files: read by both compilers and by the C code that
 * launches them. */
#ifndef GRAPHRUN_GPU_LAUNCH_H
#define GRAPHRUN_GPU_LAUNCH_H
#include <stdint.h>

enum { GPU_F32, GPU_F16, GPU_BF16, GPU_I32, GPU_F64, GPU_U8 };
typedef struct GpuTensor {
    void *data; /* on the device; NULL: absent */
    int32_t type;
} GpuTensor;

enum { GPU_RANK = 6, GPU_WARP = 32, GPU_BLOCK = 256, GPU_MOST_BLOCKS = 4096 };

/* n elements: y = x, or 0 without x; nothing where `when` is there and 0. Element i of the
 * walk over dim lies at the sum of its coordinates times the strides, from the starts on. */
typedef struct GpuCopy {
    GpuTensor x, y, when;
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
    GpuTensor residual;       /* added to dx, if it is there */
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

/* Sums of products: y = sum over terms first ... first+n-1 of factor a b, or factor a b c
 * if b has `width` columns, at most GPU_TILE; + bias[j] + add. Element (i, k) of a is
 * a[i a_row + k a_col], one of them 1; so is b's (k, j), and c's. Sums have
 * tiles of GPU_TILE x GPU_TILE, one block each, numbered from `tile` on. */
enum { GPU_TERMS = 64, GPU_SUMS = 24, GPU_TILE = 64 };
typedef struct GpuTerm {
    GpuTensor a, b, c; /* c: or not there */
    int64_t k, width, a_row, a_col, b_row, b_col, c_row, c_col;
    float factor;
} GpuTerm;
typedef struct GpuSum {
    GpuTensor y, bias, add;
    int64_t m, n;
    int64_t tile;
    int32_t first, terms;
} GpuSum;
typedef struct GpuProducts {
    GpuTerm term[GPU_TERMS];
    GpuSum sum[GPU_SUMS];
    int32_t n_sum;
} GpuProducts;

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
enum { GPU_INSTR = 128, GPU_LOADS = 24, GPU_REGS = 64, GPU_SLOTS = 64, GPU_OUTS = 16 };
enum { GPU_SCALAR = 0x8000 };
typedef struct GpuInstr {
    uint16_t op, dst, a, b, c;
} GpuInstr;
typedef struct GpuCode {
    int32_t n_load, n_instr, n_once, n_slot;
    uint16_t out[GPU_OUTS], load[GPU_LOADS]; /* load[i]: the variable in register i */
    GpuInstr instr[GPU_INSTR], once[GPU_INSTR];
    double number[GPU_SLOTS];
} GpuCode;

/* y = out 0 of the code; wide 1: in f64. */
typedef struct GpuProgram {
    GpuTensor y, x[GPU_LOADS], single[GPU_LOADS];
    uint16_t slot_of[GPU_LOADS]; /* of single-valued inputs */
    int32_t n_single, rank, wide;
    GpuCode code;
    int64_t n, dim[GPU_RANK], stride[GPU_LOADS][GPU_RANK];
} GpuProgram;

/* A norm whose result goes through the code: y = f(normalised value), or in the gradient
 * dy = f(normalised value, dy), the gradient by that value. */
typedef struct GpuNormProgram {
    GpuNorm norm;
    GpuCode code;
} GpuNormProgram;

/* An optimizer's program over one tensor, cut into slices: element e of slice s is element
 * e / run * row + s * run + e % run. slot: n_slot numbers per slice, made by the first
 * kernel from the single-valued inputs (state numbers: one per slice) and read by the
 * second. Nothing happens where ok is 0, or for slices whose `active` is 0. */
typedef struct GpuUpdate {
    GpuTensor ok, active;
    GpuTensor x[GPU_LOADS];                       /* wide inputs, by register */
    GpuTensor single[GPU_LOADS];                  /* the others */
    uint16_t slot_of[GPU_LOADS], each[GPU_LOADS]; /* each 1: one number per slice */
    GpuTensor wide[GPU_OUTS], number[GPU_OUTS];   /* results; without data: not there */
    int32_t n_single, n_out;
    int64_t slices, run, row, count; /* count: elements of a slice */
    double *slot;
    GpuCode code;
} GpuUpdate;

/* The same for several whole tensors with one program: element e of tensor i is element
 * e - first[i] of it. */
enum { GPU_TENSORS = 32, GPU_EACH = 8 };
typedef struct GpuUpdates {
    GpuTensor ok;
    GpuTensor x[GPU_TENSORS][GPU_EACH], single[GPU_TENSORS][GPU_EACH];
    GpuTensor wide[GPU_TENSORS][GPU_EACH], number[GPU_TENSORS][GPU_EACH];
    uint16_t slot_of[GPU_EACH];
    int32_t n, n_single, n_out;
    int64_t first[GPU_TENSORS + 1];
    double *slot;
    GpuCode code;
} GpuUpdates;

/* Random numbers by counter (kernels/rng.h). */
enum { GPU_NORMAL, GPU_UNIFORM, GPU_DRAW };
typedef struct GpuRandom {
    const int32_t *rng;
    GpuTensor y;
    uint32_t stream;
    int32_t kind;
    int64_t samples, per; /* elements of a sample */
    int64_t from, range;  /* of a draw */
} GpuRandom;
/* y = x factor where the number is at least p, else 0; number `at` of sample s is drawn for
 * `per` / `same` elements: same 0, one for all; else element e has number e % same. */
typedef struct GpuDropout {
    const int32_t *rng;
    GpuTensor x, y;
    uint32_t stream;
    int64_t n, per, same;
    double p, factor;
} GpuDropout;

/* Partial results over several tensors, one block per piece of GPU_PIECE elements, into
 * partial[first ...]; then one number from all of them. */
enum { GPU_MANY = 64, GPU_PIECE = 1 << 14 };
enum { GPU_NORM_OF, GPU_SUM_OF, GPU_NOT_FINITE };
typedef struct GpuMany {
    GpuTensor x[GPU_MANY];
    int64_t count[GPU_MANY], piece[GPU_MANY]; /* elements; number of the first piece */
    int32_t n, what;
    double *partial;
} GpuMany;
typedef struct GpuManyEnd {
    const double *partial;
    int64_t n;
    GpuTensor y;
    int32_t what;
} GpuManyEnd;

/* Columns of x[n, rest]; prefix: n * rest numbers of the gradient of cumprod. */
typedef struct GpuColumns {
    GpuTensor x, dy, y;
    int64_t n, rest;
    double *prefix;
} GpuColumns;
/* x[n] read between its entries at `at`. */
typedef struct GpuInterp {
    GpuTensor x, at, dy, y, dat;
    int64_t n, count;
} GpuInterp;

/* Windows: x[b,h,w,in] weight[out,in,k,k] -> y[b,oh,ow,out]; the pixel of (i, j) and tap
 * (u, v) is (i stride + u - top, j stride + v - left). add lies as the result does. */
typedef struct GpuConv {
    GpuTensor x, w, y, bias, add;
    int64_t b, h, wd, in, oh, ow, out, k, stride, left, top;
} GpuConv;

/* q[b, n, heads d], k and v[b, m, heads d]; lse[b, heads, n]. GPU_KEYS threads, each with at
 * most GPU_WIDTH / GPU_KEYS elements of a row. */
enum { GPU_KEYS = 64, GPU_WIDTH = 640 };
typedef struct GpuAttention {
    GpuTensor q, k, v, y, lse, dy, dq, dk, dv;
    int64_t n, m, heads, d;
    float scale;
    int32_t causal;
} GpuAttention;

/* t[n] -> y[n, width] */
typedef struct GpuTimestep {
    GpuTensor t, y;
    int64_t n, width;
} GpuTimestep;
typedef struct GpuOctaves {
    GpuTensor x, draws, fine, y;
    int64_t b, h, w, ch, k;
    double discount;
} GpuOctaves;
typedef struct GpuKron { /* a[m,n] b[p,q], y or dy[m p, n q] */
    GpuTensor a, b, y, da, db;
    int64_t m, n, p, q;
} GpuKron;
typedef struct GpuCayley { /* matrices of n x n; work: two of them in f64 for each */
    GpuTensor x, y, dy, dx;
    int64_t n;
    double *work;
} GpuCayley;
/* dx = dy in slice number *k of `slices` of `run` elements each, 0 in the others */
typedef struct GpuActive {
    GpuTensor dy, dx;
    const int32_t *k;
    int64_t n, run, slices;
} GpuActive;
/* One byte per element and one scale per block of elements; map: rising. */
enum { GPU_CODES = 256 };
typedef struct GpuCodes {
    GpuTensor x, scale;
    uint8_t *code;
    int64_t n, block, blocks; /* elements, of one block; blocks */
    int32_t is_signed;
    float map[GPU_CODES];
} GpuCodes;
#endif
