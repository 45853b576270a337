/* Singular value decompositions of the file tools (see matrix.h). LAPACK sees columns where
 * we have rows of vectors, so nothing is transposed for it. */
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"
#include "runtime/matrix.h"

/* In some systems LAPACK is OpenBLAS's: its threads would only fight with ours, and change
 * the last bits. */
extern void openblas_set_num_threads(int n) __attribute__((weak));
static void one_thread_each(void) {
    if (openblas_set_num_threads) openblas_set_num_threads(1);
}

static bool lapack_ok(lapack_int info, const char *what, Err *e) {
    return !info || err_fail(e, "LAPACK's %s failed (%d)", what, (int)info);
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- thin QR ---- */

/* x [n,m]: n vectors of length m, replaced by reflectors; r [k,n] (k = min(m, n)) such that
 * vector j = sum over i of r[i,j] q[i]; tau [k]. */
static bool qr(double *x, int64_t m, int64_t n, double *r, double *tau, Err *e) {
    const int64_t k = least(m, n);
    if (!lapack_ok(LAPACKE_dgeqrf(LAPACK_COL_MAJOR, (lapack_int)m, (lapack_int)n, x,
                                  (lapack_int)m, tau),
                   "dgeqrf", e))
        return false;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) r[i * n + j] = j < i ? 0 : x[j * m + i];
    return true;
}

/* count vectors of length m, given by their first k coordinates c [count, ld]: turned by q
 * into y [count, m]. */
static bool qr_apply(const double *x, const double *tau, int64_t m, int64_t k,
                     const double *c, int64_t ld, int64_t count, double *y, Err *e) {
    for (int64_t i = 0; i < count; i++) {
        memset(y + i * m, 0, sizeof *y * (size_t)m);
        memcpy(y + i * m, c + i * ld, sizeof *y * (size_t)k);
    }
    return lapack_ok(LAPACKE_dormqr(LAPACK_COL_MAJOR, 'L', 'N', (lapack_int)m,
                                    (lapack_int)count, (lapack_int)k, x, (lapack_int)m,
                                    tau, y, (lapack_int)m),
                     "dormqr", e);
}

/* n vectors of length m (n <= m) made orthonormal in place. */
static bool orthonormal(double *x, int64_t m, int64_t n, double *tau, Err *e) {
    return lapack_ok(LAPACKE_dgeqrf(LAPACK_COL_MAJOR, (lapack_int)m, (lapack_int)n, x,
                                    (lapack_int)m, tau),
                     "dgeqrf", e) &&
           lapack_ok(LAPACKE_dorgqr(LAPACK_COL_MAJOR, (lapack_int)m, (lapack_int)n,
                                    (lapack_int)n, x, (lapack_int)m, tau),
                     "dorgqr", e);
}

/* ---- the SVD of a product ---- */

static void fix_signs(Svd *s) {
    for (int64_t i = 0; i < s->k; i++) {
        double *u = s->u + i * s->m, *v = s->v + i * s->n, most = 0;
        for (int64_t j = 0; j < s->m; j++)
            if (fabs(u[j]) > fabs(most)) most = u[j];
        if (most >= 0) continue;
        for (int64_t j = 0; j < s->m; j++) u[j] = -u[j];
        for (int64_t j = 0; j < s->n; j++) v[j] = -v[j];
    }
}

/* core [k1,k2] = rx[k1,r] ry[k2,r]^T = cu diag(s) cv: cu [k,k1] and cv [k,k2] by vectors */
static bool core_svd(Arena *a, const double *rx, const double *ry, int64_t k1,
                     int64_t k2, int64_t r, double *s, double *cu, double *cv, Err *e) {
    const int64_t k = least(k1, k2);
    double *core = NEW(a, double, k1 *k2); /* columns of length k1 */
    for (int64_t j = 0; j < k2; j++)
        for (int64_t i = 0; i < k1; i++) {
            double sum = 0;
            for (int64_t p = i > j ? i : j; p < r; p++)
                sum += rx[i * r + p] * ry[j * r + p];
            core[j * k1 + i] = sum;
        }
    double *vt =
        NEW(a, double, k *k2); /* columns of length k: element (i, j) at j k + i */
    if (!lapack_ok(LAPACKE_dgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)k1, (lapack_int)k2,
                                  core, (lapack_int)k1, s, cu, (lapack_int)k1, vt,
                                  (lapack_int)k),
                   "dgesdd", e))
        return false;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < k2; j++) cv[i * k2 + j] = vt[j * k + i];
    return true;
}

bool svd_of_product(Arena *a, double *x, double *y, int64_t m, int64_t n, int64_t r,
                    int64_t most, Svd *out, Err *e) {
    one_thread_each();
    Arena *t = arena_new();
    const int64_t k1 = least(m, r), k2 = least(n, r), k = least(k1, k2);
    double *rx = NEW(t, double, k1 *r), *ry = NEW(t, double, k2 *r);
    double *tx = NEW(t, double, k1), *ty = NEW(t, double, k2);
    double *cu = NEW(t, double, k *k1), *cv = NEW(t, double, k *k2);
    *out = (Svd){.m = m, .n = n, .k = least(k, most), .s = NEW(a, double, k)};
    out->u = NEW(a, double, out->k *m);
    out->v = NEW(a, double, out->k *n);
    bool ok = qr(x, m, r, rx, tx, e) && qr(y, n, r, ry, ty, e) &&
              core_svd(t, rx, ry, k1, k2, r, out->s, cu, cv, e) &&
              qr_apply(x, tx, m, k1, cu, k1, out->k, out->u, e) &&
              qr_apply(y, ty, n, k2, cv, k2, out->k, out->v, e);
    for (int64_t i = 0; ok && i < k; i++) out->energy += out->s[i] * out->s[i];
    if (ok) fix_signs(out);
    arena_free(t);
    return ok;
}

bool svd_of_rounded(Arena *a, Device *dev, const double *x, const double *y, int64_t m,
                    int64_t n, int64_t r, Svd *out, Err *e) {
    Arena *t = arena_new();
    float *fx = NEW(t, float, r *m), *fy = NEW(t, float, r *n),
          *w = NEW(t, float, m *n);
    double *rows = NEW(t, double, m *n), *unit = NEW(t, double, m *m);
    for (int64_t i = 0; i < r * m; i++) fx[i] = (float)x[i];
    for (int64_t i = 0; i < r * n; i++) fy[i] = (float)y[i];
    bool ok = matrix_mul(dev, true, false, m, r, n, fx, fy, w, e);
    for (int64_t i = 0; i < m * n; i++) rows[i] = (double)w[i];
    for (int64_t i = 0; i < m; i++) unit[i * m + i] = 1;
    ok = ok && svd_of_product(a, unit, rows, m, n, m, m, out, e);
    arena_free(t);
    return ok;
}

/* ---- the leading triples of a matrix ---- */

typedef struct Krylov {
    Arena *arena;
    Device *dev;
    const float *x; /* [m,n]; the space is that of the shorter side */
    int64_t m, n, side, block, most, k, room;
    float *q;  /* [room, side], orthonormal rows; k of them are applied */
    double *h; /* [room, room]: q A A^T q^T, the upper part is filled */
    float *z, *y, *c,
        *d; /* work: A's other side; [side,block]; [room,block]; [side,block] */
    double *wide, *tau; /* [block, side] */
    double *theta, *w;  /* Ritz values and vectors, ascending: [room], [room, room] */
} Krylov;

static void krylov_open(Krylov *s) {
    const int64_t other = s->side == s->m ? s->n : s->m;
    Arena *a = s->arena;
    s->q = NEW(a, float, s->room * s->side);
    s->h = NEW(a, double, s->room * s->room);
    s->z = NEW(a, float, s->block *other);
    s->y = NEW(a, float, s->side * s->block);
    s->c = NEW(a, float, s->room * s->block);
    s->d = NEW(a, float, s->side * s->block);
    s->wide = NEW(a, double, s->block * s->side);
    s->tau = NEW(a, double, s->block);
    s->theta = NEW(a, double, s->room);
    s->w = NEW(a, double, s->room * s->room);
}

/* y[side,b] = A A^T q (or A^T A q), q: the b rows behind the first k */
static bool krylov_apply(Krylov *s, int64_t b, Err *e) {
    const float *q = s->q + s->k * s->side;
    if (s->side == s->m)
        return matrix_mul(s->dev, false, false, b, s->m, s->n, q, s->x, s->z, e) &&
               matrix_mul(s->dev, false, true, s->m, s->n, b, s->x, s->z, s->y, e);
    return matrix_mul(s->dev, false, true, s->m, s->n, b, s->x, q, s->z, e) &&
           matrix_mul(s->dev, true, false, s->n, s->m, b, s->x, s->z, s->y, e);
}

/* y -= q^T q y with the first k rows of q; c[k,b] = q y stays. */
static bool krylov_reduce(Krylov *s, int64_t b, Err *e) {
    if (!matrix_mul(s->dev, false, false, s->k, s->side, b, s->q, s->y, s->c, e) ||
        !matrix_mul(s->dev, true, false, s->side, s->k, b, s->q, s->c, s->d, e))
        return false;
    for (int64_t i = 0; i < s->side * b; i++) s->y[i] -= s->d[i];
    return true;
}

/* y[side,b] -> b new rows of q behind the first k, orthonormal among themselves */
static bool krylov_store(Krylov *s, int64_t b, Err *e) {
    for (int64_t j = 0; j < b; j++)
        for (int64_t i = 0; i < s->side; i++)
            s->wide[j * s->side + i] = s->y[i * b + j];
    if (!orthonormal(s->wide, s->side, b, s->tau, e)) return false;
    float *q = s->q + s->k * s->side;
    for (int64_t i = 0; i < b * s->side; i++) q[i] = (float)s->wide[i];
    return true;
}
static void krylov_load(Krylov *s, int64_t b) {
    const float *q = s->q + s->k * s->side;
    for (int64_t j = 0; j < b; j++)
        for (int64_t i = 0; i < s->side; i++) s->y[i * b + j] = q[j * s->side + i];
}

/* The next block of the basis from y. Twice against the basis, then once more after the
 * rows got length 1: where nothing was left, QR makes up directions of its own. */
static bool krylov_extend(Krylov *s, int64_t b, Err *e) {
    if (!krylov_reduce(s, b, e) || !krylov_reduce(s, b, e) || !krylov_store(s, b, e))
        return false;
    krylov_load(s, b);
    return krylov_reduce(s, b, e) && krylov_store(s, b, e);
}

/* y's coordinates in the basis are columns of h. */
static bool krylov_project(Krylov *s, int64_t b, Err *e) {
    s->k += b;
    if (!matrix_mul(s->dev, false, false, s->k, s->side, b, s->q, s->y, s->c, e))
        return false;
    for (int64_t i = 0; i < s->k; i++)
        for (int64_t j = 0; j < b; j++)
            s->h[i * s->room + s->k - b + j] = (double)s->c[i * b + j];
    return true;
}

/* Largest `count` eigenvalues of h into theta, ascending; vectors into w if asked for. */
static bool krylov_ritz(Krylov *s, int64_t count, bool vectors, Err *e) {
    const lapack_int k = (lapack_int)s->k;
    lapack_int found = 0;
    double *h = malloc(sizeof *h * (size_t)(s->k * s->k));
    lapack_int *support = malloc(sizeof *support * 2 * (size_t)s->k);
    if (!h || !support) {
        free(h), free(support);
        return err_fail(e, "no memory for a matrix of %lld rows", (long long)s->k);
    }
    for (int64_t j = 0; j < s->k; j++) /* columns; the upper part counts */
        for (int64_t i = 0; i <= j; i++) h[j * s->k + i] = s->h[i * s->room + j];
    lapack_int info = LAPACKE_dsyevr(LAPACK_COL_MAJOR, vectors ? 'V' : 'N', 'I', 'U', k,
                                     h, k, 0, 0, k - (lapack_int)count + 1, k, 0,
                                     &found, s->theta, s->w, k, support);
    free(h), free(support);
    return lapack_ok(info, "dsyevr", e);
}

static void krylov_start(Krylov *s, uint32_t stream, int64_t b) {
    for (int64_t i = 0; i < s->side * b; i++) {
        uint32_t c[4] = {(uint32_t)i, stream, 0, 0};
        philox(c, 0, 0);
        s->y[i] = rng_uniform(c[0]) - 0.5f;
    }
}

/* Is the energy within 2e-5 of where its growth leads? Blocks gain less and less, by a
 * factor that itself stays or falls, so what is still to come is a geometric sum. */
static bool settled(double now, double before, double before_that) {
    const double gain = now - before, last = before - before_that;
    if (now <= 0) return true;
    double factor = last > 0 ? gain / last : 0.9;
    factor = factor < 0 ? 0 : factor > 0.9 ? 0.9 : factor;
    const double floor_of_f32 = 1e-7; /* of the energy: below it is rounding */
    return gain <= floor_of_f32 * now || gain * factor / (1 - factor) <= 2e-5 * now;
}

static bool krylov_run(Krylov *s, uint32_t stream, bool whole, Err *e) {
    double energy[2] = {0, 0};
    int64_t b = least(s->block, s->side);
    krylov_start(s, stream, b);
    if (!krylov_store(s, b, e)) return false;
    for (int step = 0;; step++) {
        if (!krylov_apply(s, b, e) || !krylov_project(s, b, e)) return false;
        const bool last = s->k == s->room;
        if (!whole && !last) {
            const int64_t count = least(s->most, s->k);
            if (!krylov_ritz(s, count, false, e)) return false;
            double now = 0;
            for (int64_t i = 0; i < count; i++) now += s->theta[i];
            if (step > 0 && settled(now, energy[0], energy[1])) return true;
            energy[1] = energy[0], energy[0] = now;
        }
        if (last) return true;
        const int64_t next = least(b, s->room - s->k);
        for (int64_t i = 0; next < b && i < s->side; i++) /* the first columns of y */
            memmove(s->y + i * next, s->y + i * b, sizeof *s->y * (size_t)next);
        b = next;
        if (!krylov_extend(s, b, e)) return false;
    }
}

/* Ritz vectors as vectors of the space, p [most, side]; then the matrix in their terms,
 * t [most, other]. */
static bool krylov_factors(Krylov *s, int64_t most, double *p, double *t, Err *e) {
    const int64_t other = s->side == s->m ? s->n : s->m;
    Arena *a = s->arena;
    float *w = NEW(a, float, most * s->k), *u = NEW(a, float, most * s->side);
    float *b = NEW(a, float, most *other);
    double *tau = NEW(a, double, most);
    for (int64_t i = 0; i < most; i++) /* largest first */
        for (int64_t j = 0; j < s->k; j++)
            w[i * s->k + j] = (float)s->w[(most - 1 - i) * s->k + j];
    if (!matrix_mul(s->dev, false, false, most, s->k, s->side, w, s->q, u, e))
        return false;
    for (int64_t i = 0; i < most * s->side; i++) p[i] = (double)u[i];
    if (!orthonormal(p, s->side, most, tau, e)) return false;
    for (int64_t i = 0; i < most * s->side; i++) u[i] = (float)p[i];
    if (!(s->side == s->m
              ? matrix_mul(s->dev, false, false, most, s->m, s->n, u, s->x, b, e)
              : matrix_mul(s->dev, false, true, most, s->n, s->m, u, s->x, b, e)))
        return false;
    for (int64_t i = 0; i < most * other; i++) t[i] = (double)b[i];
    return true;
}

bool svd_leading(Arena *a, Device *dev, const float *x, int64_t m, int64_t n,
                 int64_t most, uint32_t stream, double *sum, Svd *out, Err *e) {
    one_thread_each();
    Krylov s = {.arena = arena_new(), .dev = dev, .x = x, .m = m, .n = n};
    s.side = least(m, n);
    s.most = most = least(most, s.side);
    s.block = least(most + 8, s.side);
    /* a basis of a third of the space costs as much as the whole decomposition */
    s.room = sum || s.block * 3 >= s.side ? s.side : least(s.side, s.block * 16);
    krylov_open(&s);
    double *p = NEW(s.arena, double, most *s.side);
    double *t = NEW(s.arena, double, most *(s.side == m ? n : m));
    bool ok = krylov_run(&s, stream, sum != NULL, e);
    if (ok && sum) {
        ok = krylov_ritz(&s, s.k, false, e);
        *sum = 0;
        for (int64_t i = 0; ok && i < s.k; i++)
            *sum += sqrt(s.theta[i] > 0 ? s.theta[i] : 0);
    }
    ok = ok && krylov_ritz(&s, most, true, e) && krylov_factors(&s, most, p, t, e) &&
         (s.side == m ? svd_of_product(a, p, t, m, n, most, most, out, e)
                      : svd_of_product(a, t, p, m, n, most, most, out, e));
    if (ok) out->energy = matrix_energy(x, m * n);
    arena_free(s.arena);
    return ok;
}
