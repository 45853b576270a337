/* The part of isa_body.h that transforms for kernels/winograd.c, in vectors of channels. */

/* v[4 i + j] = B' d B of 4 x 4 values, B' = 1 0 -1 0, 0 1 1 0, 0 -1 1 0, 0 1 0 -1. */
static void winograd_input(float *v, int64_t step, const float *const *d, int64_t n) {
    for (int64_t c = 0; c < n; c += LANES) {
        V t[4][4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const V a = load(d[j] + c), b = load(d[4 + j] + c);
            const V e = load(d[8 + j] + c), f = load(d[12 + j] + c);
            t[0][j] = a - e, t[1][j] = b + e, t[2][j] = e - b, t[3][j] = b - f;
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            float *to = v + 4 * i * step + c;
            store(to, t[i][0] - t[i][2]);
            store(to + step, t[i][1] + t[i][2]);
            store(to + 2 * step, t[i][2] - t[i][1]);
            store(to + 3 * step, t[i][1] - t[i][3]);
        }
    }
}
/* One column of G g: G = 1 0 0, 1/2 1/2 1/2, 1/2 -1/2 1/2, 0 0 1. */
static inline void winograd_g(V to[4], V a, V b, V c) {
    const V half = set(0.5f), even = (a + c) * half, odd = b * half;
    to[0] = a, to[1] = even + odd, to[2] = even - odd, to[3] = c;
}
/* u[4 i + j] = G g G' of 3 x 3 values [k][tap][NR], or of these from the last. */
static void winograd_weight(float *u, int64_t step, const float *g, int64_t n,
                            bool turned) {
    for (int64_t k = 0; k < n; k++, g += 9 * NR, u += NR) {
        for (int q = 0; q < NR; q += LANES) {
            V t[3][4], to[4];
#pragma GCC unroll 4
            for (int j = 0; j < 3; j++) {
                const float *from = g + q + (turned ? 8 - j : j) * NR;
                const int64_t row = (turned ? -3 : 3) * NR;
                winograd_g(t[j], load(from), load(from + row), load(from + 2 * row));
            }
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                winograd_g(to, t[0][i], t[1][i], t[2][i]);
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) store(u + (4 * i + j) * step + q, to[j]);
            }
        }
    }
}
/* y[2 i + j] = bias + A' m A of 4 x 4 sums, A' = 1 1 1 0, 0 1 -1 -1. */
static void winograd_output(float *const *y, const float *m, int64_t step,
                            const float *bias, int64_t n) {
    for (int64_t c = 0; c < n; c += LANES, m += LANES) {
        V t[2][4];
        const V add = load(bias + c);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const V b = load(m + (4 + j) * step), e = load(m + (8 + j) * step);
            t[0][j] = load(m + j * step) + b + e;
            t[1][j] = b - e - load(m + (12 + j) * step);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 2; i++) {
            store(y[2 * i] + c, t[i][0] + t[i][1] + t[i][2] + add);
            store(y[2 * i + 1] + c, t[i][1] - t[i][2] - t[i][3] + add);
        }
    }
}
