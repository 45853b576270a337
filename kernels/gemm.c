/* The driver of matrix products: cuts the work, fills panels, calls the tile of the
 * instruction set. See gemm.h. */
#include "kernels/gemm.h"

#include <string.h>

/* Most depth of a block (its B panel stays in the L1 cache) and rows of one (its A panels
 * stay in the L2 cache); fewest columns worth a pass over the same A; pieces of work
 * wanted. */
enum { DEPTH = 160, ROWS = 240, COLUMNS = 64, PIECES = 16 };

typedef struct Cut {
    int64_t m, n;  /* rows and columns of a piece */
    int64_t depth; /* of a block */
    int64_t pieces_m, pieces_n;
} Cut;
typedef struct Job {
    const Gemm *g;
    Cut cut;
} Job;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Equal pieces of whole panels. */
static Cut cut_work(const Gemm *g) {
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    Cut c;
    int64_t blocks = ceil_div(g->m, ROWS);
    c.m = ceil_div(ceil_div(g->m, blocks), mr) * mr;
    c.pieces_m = ceil_div(g->m, c.m);
    int64_t parts = least(ceil_div(PIECES, c.pieces_m), ceil_div(g->n, COLUMNS));
    c.n = ceil_div(ceil_div(g->n, parts), nr) * nr;
    c.pieces_n = ceil_div(g->n, c.n);
    c.depth = ceil_div(ceil_div(g->k, ceil_div(g->k, DEPTH)), 4) * 4;
    return c;
}

/* ---- A ---- */

/* Where the window's row `i` stands: its sample's image and the pixel of tap (0, 0). */
typedef struct Spot {
    const float *image;
    int64_t y, x;
} Spot;
static Spot spot(const Window *v, int64_t i) {
    int64_t j = i % v->cols, r = i / v->cols % v->rows, s = i / v->cols / v->rows;
    return (Spot){v->x + s * v->h * v->w * v->c, r * v->step + v->y0,
                  j * v->step + v->x0};
}
/* The c channels that tap t of a spot reads, or NULL. */
static const float *tap(const Window *v, Spot s, int64_t t) {
    int64_t y = s.y + t / v->taps_x * v->dy, x = s.x + t % v->taps_x * v->dx;
    bool inside = y >= 0 && x >= 0 && y < v->h && x < v->w;
    return inside ? s.image + (y * v->w + x) * v->c : NULL;
}

/* One panel: rows i ... of A (n of them, the rest zeros), depths k0 ... k0 + depth. */
static void panel_a(const Gemm *g, int64_t i, int64_t n, int64_t k0, int64_t depth,
                    float *dst) {
    const int mr = g->isa->mr;
    const float *row[MOST_MR] = {0};
    if (!g->a_window && g->a_col == 1) {
        for (int64_t r = 0; r < n; r++) row[r] = g->a + (i + r) * g->a_row + k0;
        g->isa->pack(dst, row, depth);
        return;
    }
    if (!g->a_window) { /* turned: rows of the panel lie side by side */
        const float *from = g->a + i + k0 * g->a_col;
        for (int64_t p = 0; p < depth; p++, dst += mr, from += g->a_col) {
            for (int64_t r = 0; r < n; r++) dst[r] = from[r];
            for (int64_t r = n; r < mr; r++) dst[r] = 0;
        }
        return;
    }
    const Window *v = g->a_window;
    Spot s[MOST_MR];
    for (int64_t r = 0; r < n; r++) s[r] = spot(v, i + r);
    for (int64_t p = k0; p < k0 + depth;) {
        int64_t t = p / v->c, first = p % v->c;
        int64_t count = least(v->c - first, k0 + depth - p);
        for (int64_t r = 0; r < n; r++) {
            row[r] = tap(v, s[r], t);
            if (row[r]) row[r] += first;
        }
        g->isa->pack(dst, row, count);
        dst += count * mr, p += count;
    }
}

/* ---- B ---- */

/* Columns j ... (n of them, the rest zeros) of the grid's rows k0 ... of a window. */
static void panel_window(const Gemm *g, int64_t j, int64_t n, int64_t k0, int64_t depth,
                         float *dst) {
    const Window *v = g->b_window;
    const int nr = g->isa->nr;
    int64_t col = k0 % v->cols, row = k0 / v->cols % v->rows;
    Spot s = spot(v, k0);
    for (int64_t p = 0; p < depth; p++, dst += nr) {
        for (int64_t q = 0; q < n;) {
            int64_t t = (j + q) / v->c, first = (j + q) % v->c;
            int64_t count = least(v->c - first, n - q);
            const float *from = tap(v, s, t);
            for (int64_t r = 0; r < count; r++) dst[q + r] = from ? from[first + r] : 0;
            q += count;
        }
        for (int64_t q = n; q < nr; q++) dst[q] = 0;
        s.x += v->step;
        if (++col < v->cols) continue;
        col = 0, s.x = v->x0, s.y += v->step;
        if (++row < v->rows) continue;
        row = 0, s.y = v->y0, s.image += v->h * v->w * v->c;
    }
}
/* A panel of B ready for the tile, in `room` if it has to be made. */
static const float *panel_b(const Gemm *g, int64_t j, int64_t k0, int64_t depth,
                            bool reused, float *room, int64_t *ld) {
    const int64_t nr = g->isa->nr, n = least(nr, g->n - j);
    *ld = nr;
    if (g->packed) {
        int64_t at = (j / nr * g->b_depth + g->b_first + k0) * nr;
        if (g->b_type == F32) return (const float *)g->packed + at;
        g->isa->widen(room, (const uint16_t *)g->packed + at, g->b_type, depth * nr);
    } else if (g->b_window) {
        panel_window(g, j, n, k0, depth, room);
    } else {
        const float *from = g->b + k0 * g->b_ld + j;
        if (n == nr && !reused) {
            *ld = g->b_ld;
            return from;
        }
        for (int64_t p = 0; p < depth; p++, from += g->b_ld) {
            for (int64_t q = 0; q < n; q++) room[p * nr + q] = from[q];
            for (int64_t q = n; q < nr; q++) room[p * nr + q] = 0;
        }
    }
    return room;
}

/* ---- C ---- */

/* A block of depths, as the tiles of a piece see it. */
typedef struct Depths {
    int64_t first, count;
    const float *b;
    int64_t ldb;
    const float *bias; /* NULL: C has a value already */
    float *edge;       /* mr x nr: takes what lies outside of C */
} Depths;

/* A is read where it lies: one panel of B is all there is, packing would not pay. */
static bool reads_rows(const Gemm *g) {
    return !g->a_window && g->a_col == 1 && g->n <= g->isa->nr;
}

/* One tile; a: the packed panel, or NULL. */
static void one_tile(const Gemm *g, const Depths *d, int64_t i, int64_t j,
                     int64_t last_i, const float *a) {
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    const int64_t m = least(mr, last_i - i), n = least(nr, g->n - j);
    float *row[MOST_MR] = {0}, *to[MOST_MR] = {0};
    for (int64_t r = 0; r < m; r++)
        row[r] = g->c + (g->place ? g->place(g->place_ctx, i + r) : i + r) * g->ldc + j;
    for (int64_t r = 0; r < mr; r++)
        to[r] = r < m && n == nr ? row[r] : d->edge + r * nr;
    if (n < nr && !d->bias)
        for (int64_t r = 0; r < m; r++)
            memcpy(to[r], row[r], (size_t)n * sizeof(float));
    if (a) {
        g->isa->tile(d->count, a, d->b, d->ldb, to, d->bias);
    } else {
        const float *from[MOST_MR];
        for (int64_t r = 0; r < mr; r++)
            from[r] = g->a + least(i + r, last_i - 1) * g->a_row + d->first;
        g->isa->tile_rows(d->count, from, d->b, d->ldb, to, d->bias);
    }
    if (n < nr)
        for (int64_t r = 0; r < m; r++)
            memcpy(row[r], to[r], (size_t)n * sizeof(float));
}

/* bias[j ...], nr wide, zeros where there is none */
static void load_bias(const Gemm *g, int64_t j, float *bias) {
    const int64_t nr = g->isa->nr, n = least(nr, g->n - j);
    memset(bias, 0, (size_t)nr * sizeof *bias);
    if (g->bias)
        convert(bias, F32, (const char *)g->bias + (size_t)j * dtype_size(g->bias_type),
                g->bias_type, n);
}

static void piece(void *arg, int64_t at, void *scratch) {
    const Job *job = arg;
    const Gemm *g = job->g;
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    const int64_t i0 = at / job->cut.pieces_n * job->cut.m;
    const int64_t j0 = at % job->cut.pieces_n * job->cut.n;
    const int64_t i1 = least(i0 + job->cut.m, g->m), j1 = least(j0 + job->cut.n, g->n);
    float *a = scratch, *b = a + (ROWS + MOST_MR) * DEPTH, *edge = b + DEPTH * MOST_NR;
    float *bias = edge + MOST_MR * MOST_NR;
    const bool direct = reads_rows(g);
    memset(edge, 0, MOST_MR * MOST_NR * sizeof *edge);
    for (int64_t k0 = 0; k0 < g->k; k0 += job->cut.depth) {
        Depths d = {.first = k0, .edge = edge, .bias = k0 ? NULL : bias};
        d.count = least(job->cut.depth, g->k - k0);
        for (int64_t i = i0; i < i1 && !direct; i += mr)
            panel_a(g, i, least(mr, i1 - i), k0, d.count, a + (i - i0) * d.count);
        for (int64_t j = j0; j < j1; j += nr) {
            d.b = panel_b(g, j, k0, d.count, i1 - i0 > 2 * mr, b, &d.ldb);
            if (!k0) load_bias(g, j, bias);
            for (int64_t i = i0; i < i1; i += mr)
                one_tile(g, &d, i, j, i1, direct ? NULL : a + (i - i0) * d.count);
        }
    }
}

void gemm_run(Device *dev, const Gemm *g) {
    Job job = {g, cut_work(g)};
    dev->par(dev, job.cut.pieces_m * job.cut.pieces_n, piece, &job);
}

/* ---- weights packed ahead ---- */

size_t gemm_packed_bytes(const Isa *isa_, int64_t n, int64_t k, DType t) {
    return (size_t)(ceil_div(n, isa_->nr) * isa_->nr * k) * dtype_size(t);
}

typedef struct PackJob {
    const PackSource *src;
    void *dst;
    int nr;
} PackJob;
static void pack_panel(void *arg, int64_t panel, void *scratch) {
    const PackJob *job = arg;
    const PackSource *s = job->src;
    const int64_t nr = job->nr, j0 = panel * nr, n = least(nr, s->n - j0);
    const size_t size = dtype_size(s->type);
    (void)scratch;
    for (int64_t p = 0; p < s->k; p++) {
        int64_t at = s->depth ? s->depth(s->ctx, p) : p * s->col;
        int64_t to = (panel * s->k + p) * nr;
        if (size == 4) {
            const float *w = s->w;
            float *d = (float *)job->dst + to;
            for (int64_t j = 0; j < n; j++) d[j] = w[(j0 + j) * s->row + at];
            for (int64_t j = n; j < nr; j++) d[j] = 0;
        } else {
            const uint16_t *w = s->w;
            uint16_t *d = (uint16_t *)job->dst + to;
            for (int64_t j = 0; j < n; j++) d[j] = w[(j0 + j) * s->row + at];
            for (int64_t j = n; j < nr; j++) d[j] = 0;
        }
    }
}
void gemm_pack(Device *dev, const Isa *isa_, const PackSource *src, void *dst) {
    PackJob job = {src, dst, isa_->nr};
    dev->par(dev, ceil_div(src->n, isa_->nr), pack_panel, &job);
}
