/* The driver of matrix products: cuts the work, fills panels, calls the tile of the
 * instruction set. See gemm.h. */
#include "kernels/gemm.h"

#include <string.h>

/* Most depth of a block (its B panel stays in the L1 cache) and rows of one (its A panels
 * stay in the L2 cache); fewest columns worth a pass over the same A; pieces of work
 * wanted; f32 sums of a piece with a half result. */
enum { DEPTH = 384, ROWS = 240, COLUMNS = 128, PIECES = 16, SUMS = 1 << 17 };
/* Most taps of windows whose pixels are copied once, fewest channels worth it. */
enum { NEAR_TAPS = 16, NEAR_CHANNELS = 8, A_ROOM = (ROWS + MOST_MR) * DEPTH };

/* A worker's scratch. */
typedef struct Room {
    float a[A_ROOM], b[DEPTH * MOST_NR];
    const float *near[(ROWS + MOST_MR) * NEAR_TAPS];
    float edge[MOST_MR * MOST_NR]; /* takes what lies outside of C */
    float bias[MOST_NR];
    float wide[MOST_MR * DEPTH]; /* of halves, or of taps on their way */
    float sums[SUMS];
} Room;
_Static_assert(sizeof(Room) <= SCRATCH_BYTES, "a piece fits into scratch");
_Static_assert(MOST_MR *DEPTH >= MOST_NR * MOST_TAPS, "taps of a panel fit into wide");
_Static_assert((int)MOST_TAPS <= (int)DEPTH, "a block holds all taps of a channel");

typedef struct Cut {
    int64_t m, n;  /* rows and columns of a piece */
    int64_t depth; /* of a block: whole channels */
    int64_t pieces_m, pieces_n;
    int64_t sums; /* row length of the piece's own sums; 0: sums are kept in C */
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
static const void *element(const void *p, DType t, int64_t i) {
    return (const char *)p + i * (t == F32 ? 4 : 2);
}

static int64_t depth_unit(const Gemm *g) {
    return g->a_window ? g->a_window->taps : 1;
}
/* Equal blocks of whole channels, by eights where there are as many. */
static int64_t cut_depth(const Gemm *g) {
    const int64_t taps = depth_unit(g), channels = g->k / taps;
    const int64_t by = DEPTH / taps >= 8 ? 8 : 1, most = DEPTH / taps / by * by;
    return ceil_div(ceil_div(channels, ceil_div(channels, most)), by) * by * taps;
}
/* Equal pieces of whole panels. */
static Cut cut_work(const Gemm *g) {
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    Cut c;
    int64_t blocks = ceil_div(g->m, ROWS);
    c.m = ceil_div(ceil_div(g->m, blocks), mr) * mr;
    c.pieces_m = ceil_div(g->m, c.m);
    int64_t parts = least(ceil_div(PIECES, c.pieces_m), ceil_div(g->n, COLUMNS));
    if (g->c_type != F32) /* as many as make the sums of a piece fit */
        while (ceil_div(ceil_div(g->n, parts), nr) * nr * c.m > SUMS) parts++;
    c.n = ceil_div(ceil_div(g->n, parts), nr) * nr;
    c.pieces_n = ceil_div(g->n, c.n);
    c.depth = cut_depth(g);
    c.sums = g->c_type == F32 ? 0 : c.n;
    return c;
}

/* ---- A ---- */

/* Where the window's row `i` stands: its sample's first pixel, of all there are, and the
 * pixel of tap (0, 0) in it. */
typedef struct Spot {
    int64_t sample;
    int64_t y, x;
    int64_t row, col; /* of the grid */
} Spot;
static Spot spot(const Window *v, int64_t i) {
    int64_t j = i % v->cols, r = i / v->cols % v->rows, s = i / v->cols / v->rows;
    return (Spot){s * v->h * v->w, r * v->step + v->y0, j * v->step + v->x0, r, j};
}
/* That of the next row. */
static void spot_next(const Window *v, Spot *s) {
    s->x += v->step;
    if (++s->col < v->cols) return;
    s->col = 0, s->x = v->x0, s->y += v->step;
    if (++s->row < v->rows) return;
    s->row = 0, s->y = v->y0, s->sample += v->h * v->w;
}
/* The number of the pixel (dy, dx) from a spot; -1: outside. */
static int64_t number(const Window *v, Spot s, int64_t dy, int64_t dx) {
    const int64_t y = s.y + dy, x = s.x + dx;
    bool inside = y >= 0 && x >= 0 && y < v->h && x < v->w;
    return inside ? s.sample + y * v->w + x : -1;
}
/* Its channels from `first` on, or NULL. */
static const void *pixel(const Window *v, Spot s, int64_t dy, int64_t dx,
                         int64_t first) {
    const int64_t n = number(v, s, dy, dx);
    return n < 0 ? NULL : element(v->x, v->type, n * v->c + first);
}

/* Rows of count values, made f32 in `wide` if they are halves. */
static void rows_wide(const Isa *isa_, const void *const *row, DType t, int64_t count,
                      float *wide, const float **out) {
    for (int64_t r = 0; r < isa_->mr; r++) {
        out[r] = row[r];
        if (t == F32 || !row[r]) continue;
        isa_->widen(wide + r * count, row[r], t, count);
        out[r] = wide + r * count;
    }
}
/* Rows i ... of a plain A (n of them, the last one repeated), from depth k0. */
static void plain_rows(const Gemm *g, int64_t i, int64_t n, int64_t k0, int64_t depth,
                       bool repeat, float *wide, const float **out) {
    const void *row[MOST_MR] = {0};
    for (int64_t r = 0; r < (repeat ? g->isa->mr : n); r++)
        row[r] = element(g->a, g->a_type, (i + least(r, n - 1)) * g->a_row + k0);
    rows_wide(g->isa, row, g->a_type, depth, wide, out);
}

/* One panel: rows i ... of A (n of them, the rest zeros), depths k0 ... k0 + depth. */
static void panel_a(const Gemm *g, int64_t i, int64_t n, int64_t k0, int64_t depth,
                    float *wide, float *dst) {
    const int mr = g->isa->mr;
    const Window *v = g->a_window;
    const float *row[MOST_MR];
    if (!v) {
        plain_rows(g, i, n, k0, depth, false, wide, row);
        g->isa->pack(dst, row, depth, 1);
        return;
    }
    const int64_t first = k0 / v->taps, count = depth / v->taps;
    const void *from[MOST_MR] = {0};
    Spot s[MOST_MR];
    s[0] = spot(v, i);
    for (int64_t r = 1; r < n; r++) s[r] = s[r - 1], spot_next(v, &s[r]);
    for (int64_t t = 0; t < v->taps; t++, dst += mr) {
        const int64_t dy = t / v->taps_x * v->dy, dx = t % v->taps_x * v->dx;
        for (int64_t r = 0; r < n; r++) from[r] = pixel(v, s[r], dy, dx, first);
        rows_wide(g->isa, from, v->type, count, wide, row);
        g->isa->pack(dst, row, count, v->taps);
    }
}
/* All panels of rows i0 ... i1 of an A whose depths lie apart (a_row 1). */
static void panels_turned(const Gemm *g, int64_t i0, int64_t i1, int64_t k0,
                          int64_t depth, float *wide, float *dst) {
    const int64_t mr = g->isa->mr;
    for (int64_t p = 0; p < depth; p++, dst += mr) {
        const void *from = element(g->a, g->a_type, i0 + (k0 + p) * g->a_col);
        const float *f = from;
        if (g->a_type != F32) {
            g->isa->widen(wide, from, g->a_type, i1 - i0);
            f = wide;
        }
        for (int64_t i = i0; i < i1; i += mr, f += mr) {
            float *to = dst + (i - i0) * depth;
            const int64_t n = least(mr, i1 - i);
            if (mr == 6 && n == 6) { /* AVX2: a copy of known size is two moves */
                memcpy(to, f, 6 * sizeof *to);
                continue;
            }
            for (int64_t r = 0; r < n; r++) to[r] = f[r];
            for (int64_t r = n; r < mr; r++) to[r] = 0;
        }
    }
}

/* ---- A near: windows that overlap ----
 * The pixels that a piece's windows see are copied once for a block of channels, and the
 * tile finds each tap's rows by address: nothing is stored nine times over. */
typedef struct Near {
    int64_t from, to; /* pixels: whole rows of the image */
    int64_t channels; /* of a block: how far pixels lie apart */
} Near;
static bool near_of(const Gemm *g, int64_t i0, int64_t i1, int64_t depth, Near *near) {
    const Window *v = g->a_window;
    if (!v || v->taps == 1 || v->taps > NEAR_TAPS) return false;
    const Spot s = spot(v, i0), e = spot(v, i1 - 1);
    const int64_t reach = (v->taps / v->taps_x - 1) * v->dy;
    const int64_t top = s.y + least(reach, 0), end = e.y + (reach > 0 ? reach : 0) + 1;
    near->from = s.sample + (top > 0 ? least(top, v->h) : 0) * v->w;
    near->to = e.sample + (end > 0 ? least(end, v->h) : 0) * v->w;
    near->channels = depth / v->taps;
    return near->channels >= NEAR_CHANNELS && near->to > near->from &&
           (near->to - near->from + 1) * near->channels <= (int64_t)A_ROOM;
}
/* Addresses of the rows of all panels, [panel][tap][mr]; outside: a pixel of zeros. */
static void near_rows(const Gemm *g, const Near *near, int64_t i0, int64_t i1,
                      Room *room) {
    const Window *v = g->a_window;
    const int64_t mr = g->isa->mr;
    float *zeros = room->a + (near->to - near->from) * near->channels;
    memset(zeros, 0, (size_t)near->channels * sizeof *zeros);
    Spot s = spot(v, i0);
    for (int64_t i = i0; i < (i1 - i0 + mr - 1) / mr * mr + i0; i++) {
        const float **to = room->near + (i - i0) / mr * mr * v->taps + (i - i0) % mr;
        for (int64_t t = 0; t < v->taps; t++, to += mr) {
            const int64_t dy = t / v->taps_x * v->dy, dx = t % v->taps_x * v->dx;
            const int64_t n = i < i1 ? number(v, s, dy, dx) : -1;
            *to = n < 0 ? zeros : room->a + (n - near->from) * near->channels;
        }
        spot_next(v, &s);
    }
}
static void near_copy(const Gemm *g, const Near *near, int64_t k0, int64_t depth,
                      float *dst) {
    const Window *v = g->a_window;
    const int64_t first = k0 / v->taps, count = depth / v->taps;
    for (int64_t n = near->from; n < near->to; n++, dst += near->channels)
        g->isa->widen(dst, element(v->x, v->type, n * v->c + first), v->type, count);
}

/* ---- B ---- */

/* Columns j ... (n of them, all of one tap) of the grid's rows k0 ... of a window: runs of
 * pixels of one image row are taken at once. */
static void panel_runs(const Gemm *g, int64_t j, int64_t n, int64_t k0, int64_t depth,
                       float *dst) {
    const Window *v = g->b_window;
    const int64_t nr = g->isa->nr, t = j / v->c, first = j % v->c;
    const int64_t dy = t / v->taps_x * v->dy, dx = t % v->taps_x * v->dx;
    for (int64_t p = 0; p < depth;) {
        const Spot s = spot(v, k0 + p);
        const void *from = pixel(v, s, dy, dx, first);
        int64_t run = 1;
        if (from) {
            const int64_t inside = (v->w - 1 - s.x - dx) / v->step + 1;
            run = least(least(v->cols - s.col, inside), depth - p);
            g->isa->take(dst + p * nr, from, v->type, n, v->step * v->c, run);
        } else {
            memset(dst + p * nr, 0, (size_t)nr * sizeof *dst);
        }
        p += run;
    }
}
/* The same of any n columns. */
static void panel_window(const Gemm *g, int64_t j, int64_t n, int64_t k0, int64_t depth,
                         float *dst) {
    const Window *v = g->b_window;
    const int nr = g->isa->nr;
    if (j % v->c + n <= v->c) {
        panel_runs(g, j, n, k0, depth, dst);
        return;
    }
    Spot s = spot(v, k0);
    for (int64_t p = 0; p < depth; p++, dst += nr) {
        memset(dst, 0, (size_t)nr * sizeof *dst);
        for (int64_t q = 0; q < n;) {
            int64_t t = (j + q) / v->c, first = (j + q) % v->c;
            int64_t count = least(v->c - first, n - q);
            const void *from =
                pixel(v, s, t / v->taps_x * v->dy, t % v->taps_x * v->dx, first);
            if (from) g->isa->widen(dst + q, from, v->type, count);
            q += count;
        }
        spot_next(v, &s);
    }
}
/* The same of B with taps: whole channels, taps picked from all that lie there. */
static void panel_taps(const Gemm *g, int64_t j, int64_t n, int64_t k0, int64_t depth,
                       float *wide, float *dst) {
    const int64_t nr = g->isa->nr;
    bool all = g->taps == g->b_col;
    for (int64_t t = 0; all && t < g->taps; t++) all = g->tap[t] == t;
    for (int64_t p = 0; p < depth; p += g->taps, dst += g->taps * nr) {
        const int64_t at = (k0 + p) / g->taps * g->b_row + j * g->b_col;
        const void *from = element(g->b, g->b_type, at);
        g->isa->turn(all ? dst : wide, from, g->b_type, n, g->b_col, g->b_col);
        for (int64_t t = 0; !all && t < g->taps; t++)
            memcpy(dst + t * nr, wide + g->tap[t] * nr, (size_t)nr * sizeof *dst);
    }
}
/* A panel of B ready for the tile, in the room for it if it has to be made. */
static const float *panel_b(const Gemm *g, int64_t j, int64_t k0, int64_t depth,
                            bool reused, Room *room, int64_t *ld) {
    const int64_t nr = g->isa->nr, n = least(nr, g->n - j);
    *ld = nr;
    if (g->b_window) {
        panel_window(g, j, n, k0, depth, room->b);
    } else if (g->tap) {
        panel_taps(g, j, n, k0, depth, room->wide, room->b);
    } else if (g->b_row == 1) {
        const void *from = element(g->b, g->b_type, j * g->b_col + k0);
        g->isa->turn(room->b, from, g->b_type, n, g->b_col, depth);
    } else if (g->b_type == F32 && n == nr && !reused) {
        *ld = g->b_row;
        return element(g->b, F32, k0 * g->b_row + j);
    } else {
        const void *from = element(g->b, g->b_type, k0 * g->b_row + j);
        g->isa->take(room->b, from, g->b_type, n, g->b_row, depth);
    }
    return room->b;
}

/* ---- C ---- */

/* A piece of C, and the block of depths at work on it. */
typedef struct Piece {
    const Gemm *g;
    Room *room;
    int64_t i0, i1, j0, j1;
    int64_t sums; /* Cut.sums */
    int64_t first, count;
    const float *b;
    int64_t ldb;
    bool direct; /* A is read where it lies */
    bool is_near;
    Near near;
} Piece;

static int64_t row_of_c(const Gemm *g, int64_t i) {
    return g->place ? g->place(g->place_ctx, i) : i;
}

/* One panel of B is all there is: packing A would not pay. */
static bool reads_rows(const Gemm *g) {
    return !g->a_window && g->a_col == 1 && g->n <= g->isa->nr;
}

/* Where the rows of a tile are summed: in C if it has room for all of them. */
static void tile_rows_of(const Piece *p, int64_t i, int64_t j, int64_t m, bool whole,
                         float **to) {
    const Gemm *g = p->g;
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    for (int64_t r = 0; r < mr; r++) {
        if (p->sums)
            to[r] = p->room->sums + (i - p->i0 + r) * p->sums + (j - p->j0);
        else if (r < m && whole)
            to[r] = (float *)g->c + row_of_c(g, i + r) * g->ldc + j;
        else
            to[r] = p->room->edge + r * nr;
    }
}
/* Sums begin with what is added: rows i ... of it, and the bias. */
static void begin_with(const Piece *p, int64_t i, int64_t j, int64_t m, int64_t n,
                       float *const *to) {
    const Gemm *g = p->g;
    for (int64_t r = 0; r < m; r++) {
        const int64_t at = row_of_c(g, i + r) * g->ldc + j;
        const void *from = element(g->add, g->add_type, at);
        if (from != to[r]) g->isa->widen(to[r], from, g->add_type, n);
        for (int64_t q = 0; g->bias && q < n; q++) to[r][q] += p->room->bias[q];
    }
}
static void one_tile(const Piece *p, int64_t i, int64_t j) {
    const Gemm *g = p->g;
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    const int64_t m = least(mr, p->i1 - i), n = least(nr, g->n - j);
    const size_t bytes = (size_t)n * sizeof(float);
    const bool added = !p->first && g->add;
    const float *bias = p->first || added ? NULL : p->room->bias;
    const bool copied = !p->sums && n < nr;
    float *to[MOST_MR];
    tile_rows_of(p, i, j, m, n == nr, to);
    if (added) begin_with(p, i, j, m, n, to);
    for (int64_t r = 0; copied && !bias && !added && r < m; r++)
        memcpy(to[r], (float *)g->c + row_of_c(g, i + r) * g->ldc + j, bytes);
    if (p->direct) {
        const float *from[MOST_MR];
        plain_rows(g, i, m, p->first, p->count, true, p->room->wide, from);
        g->isa->tile_rows(p->count, from, p->b, p->ldb, to, bias);
    } else if (p->is_near) {
        const int64_t taps = g->a_window->taps;
        const float *const *a = p->room->near + (i - p->i0) * taps;
        g->isa->tile_taps(p->count / taps, taps, a, p->b, p->ldb, to, bias);
    } else {
        const float *a = p->room->a + (i - p->i0) * p->count;
        g->isa->tile(p->count, a, g->isa->mr, p->b, p->ldb, to, bias);
    }
    for (int64_t r = 0; copied && r < m; r++)
        memcpy((float *)g->c + row_of_c(g, i + r) * g->ldc + j, to[r], bytes);
}

/* bias[j ...], nr wide, zeros where there is none */
static void load_bias(const Gemm *g, int64_t j, float *bias) {
    const int64_t nr = g->isa->nr, n = least(nr, g->n - j);
    memset(bias, 0, (size_t)nr * sizeof *bias);
    if (g->bias)
        g->isa->widen(bias, element(g->bias, g->bias_type, j), g->bias_type, n);
}
/* The A panels of a block. */
static void pack_a(const Piece *p) {
    const Gemm *g = p->g;
    const int64_t mr = g->isa->mr;
    float *a = p->room->a, *wide = p->room->wide;
    if (p->is_near) {
        near_copy(g, &p->near, p->first, p->count, a);
        return;
    }
    if (!g->a_window && g->a_col != 1) {
        panels_turned(g, p->i0, p->i1, p->first, p->count, wide, a);
        return;
    }
    for (int64_t i = p->i0; i < p->i1; i += mr)
        panel_a(g, i, least(mr, p->i1 - i), p->first, p->count, wide,
                a + (i - p->i0) * p->count);
}
static void store_sums(const Piece *p) {
    const Gemm *g = p->g;
    for (int64_t i = p->i0; i < p->i1; i++) {
        const int64_t at = row_of_c(g, i) * g->ldc + p->j0;
        g->isa->narrow((void *)(uintptr_t)element(g->c, g->c_type, at),
                       p->room->sums + (i - p->i0) * p->sums, g->c_type, p->j1 - p->j0);
    }
}

static void piece(void *arg, int64_t at, void *scratch) {
    const Job *job = arg;
    const Gemm *g = job->g;
    const int64_t mr = g->isa->mr, nr = g->isa->nr;
    Piece p = {.g = g, .room = scratch, .sums = job->cut.sums, .direct = reads_rows(g)};
    p.i0 = at / job->cut.pieces_n * job->cut.m;
    p.j0 = at % job->cut.pieces_n * job->cut.n;
    p.i1 = least(p.i0 + job->cut.m, g->m), p.j1 = least(p.j0 + job->cut.n, g->n);
    memset(p.room->edge, 0, sizeof p.room->edge);
    p.is_near = near_of(g, p.i0, p.i1, job->cut.depth, &p.near);
    if (p.is_near) near_rows(g, &p.near, p.i0, p.i1, p.room);
    for (p.first = 0; p.first < g->k; p.first += job->cut.depth) {
        p.count = least(job->cut.depth, g->k - p.first);
        if (!p.direct) pack_a(&p);
        for (int64_t j = p.j0; j < p.j1; j += nr) {
            p.b = panel_b(g, j, p.first, p.count, p.i1 - p.i0 > 2 * mr, p.room, &p.ldb);
            if (!p.first) load_bias(g, j, p.room->bias);
            for (int64_t i = p.i0; i < p.i1; i += mr) one_tile(&p, i, j);
        }
    }
    if (p.sums) store_sums(&p);
}

void gemm_run(Device *dev, const Gemm *g) {
    Job job = {g, cut_work(g)};
    dev->par(dev, job.cut.pieces_m * job.cut.pieces_n, piece, &job);
}
