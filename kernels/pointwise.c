/* Pointwise formulas: a register program run over tiles of the output. Inputs that lie as
 * the output does are read where they are; the others are spread into a tile; the result
 * is computed straight into the output where types agree. */
#include "kernels/kernels.h"
#include "kernels/layout.h"
#include "kernels/program.h"

#include <string.h>

typedef struct Prep {
    Program *program;
    Layout *layout; /* of the loaded inputs, in the order of program->load */
    int n_var;
} Prep;

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    const PointwiseAttrs *at = s->attrs;
    Formula *f = formula_new(a);
    FNames names = {0};
    int root;
    fnames_inputs(f, &names, s->n_in);
    if (!formula_parse(f, at->f, &names, &root, e)) return false;
    bool *wide = NEW(a, bool, s->n_in + 1);
    for (int i = 0; i < s->n_in; i++) wide[i] = type_count(&s->in[i]) != 1;
    Prep *p = NEW(a, Prep, 1);
    p->n_var = s->n_in;
    if (!program_compile(a, f, &root, 1, wide, s->n_in, &p->program, e)) return false;
    Type *loaded = NEW(a, Type, s->n_in + 1);
    for (int i = 0; i < p->program->n_load; i++)
        loaded[i] = s->in[p->program->load[i].var];
    p->layout = layout_new(a, &s->out[0], loaded, p->program->n_load);
    *prep = p;
    return true;
}

/* One run of an input into a tile. */
typedef struct Spread {
    const TileOps *tile;
    const char *src;
    DType from;
    char *dst;
} Spread;

static void spread_piece(void *ctx, int64_t to, int64_t from, int64_t stride,
                         int64_t n) {
    const Spread *s = ctx;
    size_t width = dtype_size(s->from);
    const char *src = s->src + (size_t)from * width;
    char *dst = s->dst + (size_t)to * s->tile->size;
    if (stride == 1 || n == 1) {
        s->tile->load(dst, src, s->from, n);
    } else if (stride == 0) {
        double x;
        s->tile->load(dst, src, s->from, 1);
        tile_f64.load(&x, dst, s->tile->dtype, 1);
        s->tile->fill(dst, x, n);
    } else {
        for (int64_t i = 0; i < n; i++)
            s->tile->load(dst + (size_t)i * s->tile->size,
                          src + (size_t)(i * stride) * width, s->from, 1);
    }
}

typedef struct Run {
    const Call *c;
    const Prep *prep;
    const TileOps *tile;
    int64_t n;
} Run;

static void load_inputs(const Run *r, void **reg, int64_t start, int64_t n) {
    const Program *p = r->prep->program;
    for (int i = 0; i < p->n_load; i++) {
        const Tensor *t = &r->c->in[p->load[i].var];
        bool dense = r->prep->layout->dense[i];
        size_t width = dtype_size(t->type->dtype);
        const char *src = t->data;
        if (dense && t->type->dtype == r->tile->dtype) {
            reg[i] = (void *)(uintptr_t)(src + (size_t)start * width);
        } else if (dense) {
            r->tile->load(reg[i], src + (size_t)start * width, t->type->dtype, n);
        } else {
            Spread s = {r->tile, src, t->type->dtype, reg[i]};
            layout_walk(r->prep->layout, i, start, n, spread_piece, &s);
        }
    }
}

/* The root's value of one tile to the output. */
static void store_tile(const Run *r, void *const *reg, const double *slot,
                       int64_t start, int64_t n) {
    const Tensor *out = &r->c->out[0];
    uint16_t root = r->prep->program->out[0];
    char *dst = (char *)out->data + (size_t)start * dtype_size(out->type->dtype);
    if (!(root & SCALAR)) {
        if (reg[root] != dst) r->tile->store(dst, out->type->dtype, reg[root], n);
        return;
    }
    void *tile = reg[r->prep->program->n_reg];
    r->tile->fill(tile, slot[root & ~SCALAR], n);
    r->tile->store(dst, out->type->dtype, tile, n);
}

/* Per worker: the registers (and one tile more), their pointers, the slots. */
static void block(void *arg, int64_t index, void *scratch) {
    const Run *r = arg;
    const Program *p = r->prep->program;
    double var[64], *slot = scratch;
    void *slots = slot + p->n_slot;
    void **reg = (void **)((double *)slots + p->n_slot);
    char *tiles = (char *)(((uintptr_t)(reg + p->n_reg + 1) + 63) & ~(uintptr_t)63);
    for (int i = 0; i < p->n_scalar; i++) {
        const Tensor *t = &r->c->in[p->scalar[i].var];
        tile_f64.load(&var[p->scalar[i].var], t->data, t->type->dtype, 1);
    }
    program_once(p, var, slot);
    slots_to(r->tile, slots, slot, p->n_slot);
    const Tensor *out = &r->c->out[0];
    bool direct = out->type->dtype == r->tile->dtype && !(p->out[0] & SCALAR) &&
                  p->out[0] >= p->n_load;
    int64_t end = (index + 1) * BLOCK < r->n ? (index + 1) * BLOCK : r->n;
    for (int64_t start = index * BLOCK; start < end; start += TILE) {
        int64_t n = end - start < TILE ? end - start : TILE;
        for (int i = 0; i <= p->n_reg; i++)
            reg[i] = tiles + (size_t)i * TILE * r->tile->size;
        if (direct) reg[p->out[0]] = (char *)out->data + (size_t)start * r->tile->size;
        load_inputs(r, reg, start, n);
        r->tile->run(p, reg, slots, (int)n);
        store_tile(r, reg, slot, start, n);
    }
}

static void run_with(const Call *c, const TileOps *tile) {
    Run r = {c, c->prep, tile, type_count(c->out[0].type)};
    c->dev->par(c->dev, blocks_of(r.n), block, &r);
}

static void run(const Call *c) {
    const PointwiseAttrs *at = c->attrs;
    run_with(c, at->dtype == F64 ? &tile_f64 : &tile_f32);
}

#if defined(__x86_64__)
static bool fits_avx2(const Sig *s) {
    return ((const PointwiseAttrs *)s->attrs)->dtype != F64 && have_avx2();
}
static void run_avx2(const Call *c) {
    run_with(c, &tile_f32_avx2);
}
#endif

const Kernel cpu_pointwise[] = {
#if defined(__x86_64__)
    {.name = "avx2", .fits = fits_avx2, .prepare = prepare, .run = run_avx2},
#endif
    {.name = "ref", .prepare = prepare, .run = run},
    {0}};
