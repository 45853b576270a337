/* The mathematics of the file tools against what can be computed exactly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"
#include "runtime/exec.h"
#include "runtime/matrix.h"
#include "tests/check.h"

static double number(uint32_t i, uint32_t stream) { /* about normal, deviation 1 */
    double sum = 0;
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t c[4] = {i, stream, k, 0};
        philox(c, 7, 9);
        for (int j = 0; j < 4; j++) sum += (double)rng_uniform(c[j]) - 0.5;
    }
    return sum;
}

/* ---- singular values ---- */

/* A matrix with the singular values s: product of orthonormal factors made by svd_leading's
 * own QR would prove little, so a sum of random rank-one parts of falling size. */
static void fill(float *x, int64_t m, int64_t n, int parts, double fall) {
    double *v = calloc((size_t)n, sizeof *v);
    memset(x, 0, sizeof *x * (size_t)(m * n));
    for (int p = 0; p < parts; p++) {
        double size = exp(-fall * p) / sqrt((double)(m * n));
        for (int64_t j = 0; j < n; j++) v[j] = number((uint32_t)j, 5000 + (uint32_t)p);
        for (int64_t i = 0; i < m; i++) {
            double u = size * number((uint32_t)i, 100 + (uint32_t)p);
            for (int64_t j = 0; j < n; j++) x[i * n + j] += (float)(u * v[j]);
        }
    }
    free(v);
}

/* All of it, exactly: x = sum over rows of e_i x_i^T. */
static void exact(Arena *a, const float *x, int64_t m, int64_t n, Svd *out) {
    double *e = NEW(a, double, m *m), *y = NEW(a, double, m *n);
    for (int64_t i = 0; i < m; i++) e[i * m + i] = 1;
    for (int64_t i = 0; i < m * n; i++) y[i] = (double)x[i];
    Err err = {0};
    CHECK(svd_of_product(a, e, y, m, n, m, m, out, &err), "%s", err.text);
}

static double caught(const Svd *s, const float *x, int64_t most) {
    double energy = 0; /* |u^T x v|^2 of the triples as given, not what they claim */
    for (int64_t k = 0; k < most && k < s->k; k++) {
        double sum = 0;
        for (int64_t i = 0; i < s->m; i++) {
            double row = 0;
            for (int64_t j = 0; j < s->n; j++)
                row += (double)x[i * s->n + j] * s->v[k * s->n + j];
            sum += row * s->u[k * s->m + i];
        }
        energy += sum * sum;
    }
    return energy;
}

static void leading(Device *dev, const char *what, int64_t m, int64_t n, int parts,
                    double fall, int64_t most) {
    Arena *a = arena_new();
    float *x = NEW(a, float, m *n);
    fill(x, m, n, parts, fall);
    Svd want, got;
    exact(a, x, m, n, &want);
    Err e = {0};
    bool ok = svd_leading(a, dev, x, m, n, most, 3, NULL, &got, &e);
    CHECK(ok, "%s: %s", what, e.text);
    double best = 0, have = ok ? caught(&got, x, most) : 0;
    for (int64_t i = 0; i < most && i < want.k; i++) best += want.s[i] * want.s[i];
    CHECK(have >= best * (1 - 1e-4), "%s: caught %.9g of %.9g (%.3g below)", what, have,
          best, 1 - have / best);
    CHECK(have <= best * (1 + 1e-5), "%s: caught more than there is: %.9g of %.9g",
          what, have, best);
    arena_free(a);
}

int main(void) {
    Device *dev = cpu_open(2);
    leading(dev, "flat", 200, 300, 200, 0, 16);
    leading(dev, "flat, tall", 300, 200, 200, 0, 16);
    leading(dev, "slow fall", 320, 640, 320, 0.01, 32);
    leading(dev, "fall", 320, 640, 320, 0.05, 32);
    leading(dev, "fast fall", 320, 640, 100, 0.5, 32);
    leading(dev, "low rank", 320, 400, 8, 0.1, 16);
    leading(dev, "low rank, exact", 320, 400, 16, 0.1, 16);
    leading(dev, "one row", 1, 50, 1, 0, 4);
    cpu_close(dev);
    return check_done("lora_tools_test");
}
