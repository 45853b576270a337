/* The row `products`: several products of matrices in one step, read from its text; shared by
 * the row, which checks it, and its kernels. */
#ifndef GRAPHRUN_PRODUCTS_H
#define GRAPHRUN_PRODUCTS_H
#include "graph/op.h"

/* f: one sum per output, apart by ';': products `x1 @ x2'`, or of three, `x1 @ x2' @ x3'`,
 * whose first two have at most PRODUCT_WIDTH columns; with a factor behind `*`, then
 * `row x3`, which goes to every row, and `x0`, of the result's size. ' transposes. A type
 * before ':' is what the sum is stored in; without, that of what is added, else of the
 * first operand. */
typedef struct ProductsAttrs {
    const char *f;
} ProductsAttrs;

/* Bounds of one node: what one launch describes (kernels/gpu_launch.h). */
enum { PRODUCT_TERMS = 64, PRODUCT_OUTS = 24 };
/* A launch works out a product of two anew for every PRODUCT_WIDTH columns of one of three. */
enum { PRODUCT_WIDTH = 64 };

typedef struct ProductTerm {
    int a, b, c; /* inputs of the row: 0 is x0; c -1: a product of two */
    bool ta, tb, tc;
    double factor;
} ProductTerm;
typedef struct ProductSum {
    int first, n;  /* terms */
    int bias, add; /* inputs, or -1 */
    char to[8];    /* type, "" if none is said */
} ProductSum;
typedef struct ProductForm {
    ProductTerm term[PRODUCT_TERMS];
    ProductSum sum[PRODUCT_OUTS];
    int n_term, n_sum;
} ProductForm;

/* Fails unless every input that is named is below n_in and every sum has a product. */
bool products_read(const char *f, int n_in, ProductForm *out, Err *e);

/* A tensor as a matrix: its last dimension is a row's; a weight [out,in,1,1] is [out,in]. */
typedef struct MatrixSize {
    int64_t rows, cols;
} MatrixSize;
static inline MatrixSize matrix_size(const Type *t) {
    if (t->rank == 4 && t->dim[2] == 1 && t->dim[3] == 1)
        return (MatrixSize){t->dim[0], t->dim[1]};
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->rank; i++) rows *= t->dim[i];
    return (MatrixSize){rows, t->rank ? t->dim[t->rank - 1] : 1};
}
/* The same, transposed if `t`. */
static inline MatrixSize matrix_turned(const Type *x, bool t) {
    MatrixSize s = matrix_size(x);
    return t ? (MatrixSize){s.cols, s.rows} : s;
}
#endif
