/* Launches of sums of products, in products.cu: one for all of a node's. */
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"
#include "kernels/products.h"

_Static_assert((int)PRODUCT_TERMS == (int)GPU_TERMS &&
                   (int)PRODUCT_OUTS == (int)GPU_SUMS,
               "one bound of a node");

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    ProductForm *form = NEW(a, ProductForm, 1);
    *prep = form;
    return products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, form, e);
}

static GpuTerm term_of(const Call *c, const ProductTerm *t) {
    const Type *a = c->in[t->a].type, *b = c->in[t->b].type;
    const int64_t lda = matrix_size(a).cols, ldb = matrix_size(b).cols;
    return (GpuTerm){.a = gpu_tensor(&c->in[t->a]),
                     .b = gpu_tensor(&c->in[t->b]),
                     .k = matrix_turned(a, t->ta).cols,
                     .a_row = t->ta ? 1 : lda,
                     .a_col = t->ta ? lda : 1,
                     .b_row = t->tb ? 1 : ldb,
                     .b_col = t->tb ? ldb : 1,
                     .factor = (float)t->factor};
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
