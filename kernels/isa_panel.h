/* The part of isa_body.h that fills panels: rows become columns, halves become f32 and back.
 * H8, eight halves, widen8 and narrow8 come from the includer. */

typedef float V4 __attribute__((vector_size(16)));

static inline V4 load4(const float *p) {
    V4 v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline H8 load_h8(const uint16_t *p) {
    H8 v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ---- rows of a left operand ---- */

/* Four values of each of two rows into dst, ld apart. */
static inline void turn2(float *dst, int64_t ld, const float *a, const float *b) {
    V4 x = load4(a), y = load4(b);
    V4 lo = __builtin_shufflevector(x, y, 0, 4, 1, 5);
    V4 hi = __builtin_shufflevector(x, y, 2, 6, 3, 7);
    memcpy(dst, &lo, 8);
    memcpy(dst + ld, (const char *)&lo + 8, 8);
    memcpy(dst + 2 * ld, &hi, 8);
    memcpy(dst + 3 * ld, (const char *)&hi + 8, 8);
}
/* The same for four rows. */
static inline void turn4(float *dst, int64_t ld, const float *a, const float *b,
                         const float *c, const float *d) {
    V4 w = load4(a), x = load4(b), y = load4(c), z = load4(d);
    V4 p = __builtin_shufflevector(w, x, 0, 4, 1, 5);
    V4 q = __builtin_shufflevector(y, z, 0, 4, 1, 5);
    V4 r = __builtin_shufflevector(w, x, 2, 6, 3, 7);
    V4 s = __builtin_shufflevector(y, z, 2, 6, 3, 7);
    V4 out[4] = {__builtin_shufflevector(p, q, 0, 1, 4, 5),
                 __builtin_shufflevector(p, q, 2, 3, 6, 7),
                 __builtin_shufflevector(r, s, 0, 1, 4, 5),
                 __builtin_shufflevector(r, s, 2, 3, 6, 7)};
    for (int i = 0; i < 4; i++) memcpy(dst + i * ld, &out[i], sizeof out[i]);
}
static void pack(float *dst, const float *const *row, int64_t n, int64_t step) {
    enum { MOST = 512 };
    static const float zeros[MOST];
    const int64_t ld = step * MR;
    for (int64_t first = 0; first < n; first += MOST) {
        const int64_t count = n - first < MOST ? n - first : MOST;
        const float *r[MR];
        for (int i = 0; i < MR; i++) r[i] = row[i] ? row[i] + first : zeros;
        int64_t k = 0;
        for (; k + 4 <= count; k += 4, dst += 4 * ld) {
            for (int i = 0; i + 4 <= MR; i += 4)
                turn4(dst + i, ld, r[i] + k, r[i + 1] + k, r[i + 2] + k, r[i + 3] + k);
            if (MR % 4) turn2(dst + MR - 2, ld, r[MR - 2] + k, r[MR - 1] + k);
        }
        for (; k < count; k++, dst += ld)
            for (int i = 0; i < MR; i++) dst[i] = r[i][k];
    }
}

/* ---- halves ---- */

static void widen(float *dst, const void *src, DType from, int64_t n) {
    const uint16_t *h = src;
    int64_t i = 0;
    if (from == F32) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
        return;
    }
    for (; i + 8 <= n; i += 8) widen8(dst + i, load_h8(h + i), from);
    if (i == n) return;
    H8 rest = {0};
    float wide[8];
    memcpy(&rest, h + i, (size_t)(n - i) * sizeof *h);
    widen8(wide, rest, from);
    memcpy(dst + i, wide, (size_t)(n - i) * sizeof *dst);
}
static void narrow(void *dst, const float *src, DType to, int64_t n) {
    uint16_t *h = dst;
    int64_t i = 0;
    if (to == F32) {
        memcpy(dst, src, (size_t)n * sizeof *src);
        return;
    }
    for (; i + 8 <= n; i += 8) {
        H8 v = narrow8(src + i, to);
        memcpy(h + i, &v, sizeof v);
    }
    if (i == n) return;
    float wide[8] = {0};
    memcpy(wide, src + i, (size_t)(n - i) * sizeof *src);
    H8 rest = narrow8(wide, to);
    memcpy(h + i, &rest, (size_t)(n - i) * sizeof *h);
}

/* ---- columns of a right operand ---- */

#define LOW16(a, b)  __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH16(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define LOW32(a, b)  __builtin_shufflevector(a, b, 0, 1, 8, 9, 2, 3, 10, 11)
#define HIGH32(a, b) __builtin_shufflevector(a, b, 4, 5, 12, 13, 6, 7, 14, 15)
#define LOW64(a, b)  __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH64(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
/* Eight values of each of eight rows, ld apart, into dst, NR apart. */
static inline void turn8(float *dst, const uint16_t *src, int64_t ld, DType from) {
    H8 x[8], t[8], u[8];
    for (int i = 0; i < 8; i++) x[i] = load_h8(src + i * ld);
    for (int i = 0; i < 8; i += 2) {
        t[i] = LOW16(x[i], x[i + 1]);
        t[i + 1] = HIGH16(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = LOW32(t[i], t[i + 2]);
        u[i + 1] = HIGH32(t[i], t[i + 2]);
        u[i + 2] = LOW32(t[i + 1], t[i + 3]);
        u[i + 3] = HIGH32(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        widen8(dst + 2 * i * NR, LOW64(u[i], u[i + 4]), from);
        widen8(dst + (2 * i + 1) * NR, HIGH64(u[i], u[i + 4]), from);
    }
}
/* Weights come from memory once a step, in strides that no hardware foresees: the panel to
 * the right is asked for while this one is made. The address may lie behind the end. */
static inline void ask_for(const void *base, int64_t bytes) {
    __builtin_prefetch((const void *)((uintptr_t)base + (uintptr_t)bytes), 0, 2);
}
static void turn_halves(float *dst, const uint16_t *src, DType from, int64_t ld,
                        int64_t n) {
    int64_t k = 0;
    for (; k + 8 <= n; k += 8) {
        for (int j = 0; j < NR && k % 32 == 0; j++)
            ask_for(src, ((j + NR) * ld + k) * 2);
        for (int j = 0; j < NR; j += 8)
            turn8(dst + k * NR + j, src + j * ld + k, ld, from);
    }
    for (; k < n; k++) {
        for (int j = 0; j < NR; j += 8) {
            H8 v;
            for (int i = 0; i < 8; i++) v[i] = src[(j + i) * ld + k];
            widen8(dst + k * NR + j, v, from);
        }
    }
}
static void turn_floats(float *dst, const float *src, int64_t ld, int64_t n) {
    int64_t k = 0;
    for (; k + 4 <= n; k += 4) {
        for (int j = 0; j < NR; j += 4) {
            const float *r = src + j * ld + k;
            turn4(dst + k * NR + j, NR, r, r + ld, r + 2 * ld, r + 3 * ld);
        }
    }
    for (; k < n; k++)
        for (int j = 0; j < NR; j++) dst[k * NR + j] = src[j * ld + k];
}
/* Less than a panel: row by row. */
static void turn_part(float *dst, const void *src, DType from, int64_t rows, int64_t ld,
                      int64_t n) {
    enum { PART = 64 };
    float row[PART];
    for (int64_t j = 0; j < NR; j++) {
        const char *at = (const char *)src + (size_t)(j * ld) * dtype_size(from);
        for (int64_t k = 0; k < n; k += PART) {
            const int64_t count = n - k < PART ? n - k : PART;
            if (j < rows) widen(row, at + (size_t)k * dtype_size(from), from, count);
            for (int64_t i = 0; i < count; i++)
                dst[(k + i) * NR + j] = j < rows ? row[i] : 0;
        }
    }
}
static void turn(float *dst, const void *src, DType from, int64_t rows, int64_t ld,
                 int64_t n) {
    if (rows < NR)
        turn_part(dst, src, from, rows, ld, n);
    else if (from == F32)
        turn_floats(dst, src, ld, n);
    else
        turn_halves(dst, src, from, ld, n);
}

static void take(float *dst, const void *src, DType from, int64_t columns, int64_t ld,
                 int64_t n) {
    const size_t size = dtype_size(from);
    const char *at = src;
    for (int64_t k = 0; k < n; k++, dst += NR, at += (size_t)ld * size) {
        if (columns < NR) {
            memset(dst, 0, NR * sizeof *dst);
            widen(dst, at, from, columns);
        } else if (from == F32) {
            memcpy(dst, at, NR * sizeof *dst);
        } else {
            ask_for(at, 64);
            for (int j = 0; j < NR; j += 8)
                widen8(dst + j, load_h8((const uint16_t *)(const void *)at + j), from);
        }
    }
}
