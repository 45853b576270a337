/* Dense matrices for the file tools: products run on the engine's kernels, factorisations
 * on LAPACK in double. Row-major unless said otherwise. */
#ifndef GRAPHRUN_MATRIX_H
#define GRAPHRUN_MATRIX_H
#include "graph/device.h"

/* c[m,n] = a[m,k] b[k,n] in f32; ta: a is stored [k,m]; tb: b is stored [n,k]. */
bool matrix_mul(Device *dev, bool ta, bool tb, int64_t m, int64_t k, int64_t n,
                const float *a, const float *b, float *c, Err *e);
/* n elements of any types, on all of the device's threads. */
void matrix_convert(Device *dev, void *dst, DType to, const void *src, DType from,
                    int64_t n);
/* x rounded to what `to` can hold, as f32. */
void matrix_round(Device *dev, float *x, DType to, int64_t n);
double matrix_energy(const float *x, int64_t n); /* sum of squares, in double */

/* First k left and right singular vectors of an [m,n] matrix, s descending:
 * the matrix is about the sum of s[i] u[i] v[i]^T. u [k,m] and v [k,n]: one vector after
 * the other. The largest entry of each u is positive: signs are not left to chance. */
typedef struct Svd {
    int64_t m, n, k;
    double *s, *u, *v;
    double energy; /* sum of all squared singular values, those left out included */
} Svd;

/* Of the product sum over j of x[j] y[j]^T: x [r,m], y [r,n], both destroyed. All singular
 * values, min(m, n, r) of them, and as many vectors (at most `most`) as asked for. QR of
 * both, then the SVD of the r x r core: exact to double, nothing of size m x n is made. */
bool svd_of_product(Arena *a, double *x, double *y, int64_t m, int64_t n, int64_t r,
                    int64_t most, Svd *out, Err *e);

/* The leading `most` singular triples of a[m,n]. Randomised block Krylov iteration (Musco
 * and Musco, "Randomized block Krylov methods for stronger and faster approximate singular
 * value decomposition", NIPS 2015) until the energy caught stands within 2e-5 of its limit
 * as its growth foretells. stream: which random numbers. *sum (or NULL): the sum of all
 * singular values; asking for it costs the whole decomposition. */
bool svd_leading(Arena *a, Device *dev, const float *x, int64_t m, int64_t n,
                 int64_t most, uint32_t stream, double *sum, Svd *out, Err *e);
/* The same product, formed and rounded to f32 first, with min(m, n) triples: what a program
 * finds that knows nothing of the factors. Vectors behind the product's rank are those of
 * its rounding errors. x and y stay. */
bool svd_of_rounded(Arena *a, Device *dev, const double *x, const double *y, int64_t m,
                    int64_t n, int64_t r, Svd *out, Err *e);
#endif
