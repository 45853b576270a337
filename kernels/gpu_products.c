/* Launches of sums of products, in products.cu: one for all of a node's. */
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"
#include "kernels/products.h"

_Static_assert((int)PRODUCT_TERMS == (int)GPU_TERMS &&
                   (int)PRODUCT_OUTS == (int)GPU_SUMS,
               "one bound of a node");
_Static_assert((int)PRODUCT_WIDTH == (int)GPU_TILE, "the row counts work by tiles");

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    ProductForm *form = NEW(a, ProductForm, 1);
    *prep = form;
    return products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, form, e);
}

/* Steps to the next row and column of x as it is read. */
static void steps_of(const Type *x, bool turned, int64_t *row, int64_t *col) {
    const int64_t cols = matrix_size(x).cols;
    *row = turned ? 1 : cols, *col = turned ? cols : 1;
}

static GpuTerm term_of(const Call *c, const ProductTerm *t) {
    const Type *a = c->in[t->a].type, *b = c->in[t->b].type;
    GpuTerm g = {.a = gpu_tensor(&c->in[t->a]),
                 .b = gpu_tensor(&c->in[t->b]),
                 .k = matrix_turned(a, t->ta).cols,
                 .factor = (float)t->factor};
    steps_of(a, t->ta, &g.a_row, &g.a_col);
    steps_of(b, t->tb, &g.b_row, &g.b_col);
    if (t->c < 0) return g;
    g.c = gpu_tensor(&c->in[t->c]);
    g.width = matrix_turned(b, t->tb).cols;
    steps_of(c->in[t->c].type, t->tc, &g.c_row, &g.c_col);
    return g;
}

static int64_t tiles_of(int64_t n) {
    return (n + GPU_TILE - 1) / GPU_TILE;
}

static void run(const Call *c) {
    const ProductForm *f = c->prep;
    GpuProducts p = {.n_sum = c->n_out};
    int64_t tiles = 0;
    for (int t = 0; t < f->n_term; t++) p.term[t] = term_of(c, &f->term[t]);
    for (int o = 0; o < c->n_out; o++) {
        const ProductSum *s = &f->sum[o];
        const MatrixSize y = matrix_size(c->out[o].type);
        GpuSum *g = &p.sum[o];
        *g = (GpuSum){.y = gpu_tensor(&c->out[o]), .m = y.rows, .n = y.cols};
        if (s->bias >= 0) g->bias = gpu_tensor(&c->in[s->bias]);
        if (s->add >= 0) g->add = gpu_tensor(&c->in[s->add]);
        g->first = s->first, g->terms = s->n, g->tile = tiles;
        tiles += tiles_of(y.rows) * tiles_of(y.cols);
    }
    gpu_blocks(c, "gr_products", tiles, GPU_BLOCK, &p, sizeof p);
}

const Kernel cuda_products[] = {
    {.name = "cuda", .fits = gpu_types_fit, .prepare = prepare, .run = run}, {0}};
