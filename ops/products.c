/* Several products of matrices in one step, made by pass `group`: on a GPU a step is a
 * launch, and a training step with adapters has hundreds of products too thin for one. */
#include "ops/heavy.h"

/* Sizes of x[i] behind a matrix of `before` columns (-1: any); false: it does not fit. */
static bool factor_size(const Sig *s, int i, bool t, int64_t before, MatrixSize *m,
                        Err *e) {
    const Type *x = &s->in[i];
    if (x->rank < 1 || !dtype_is_float(x->dtype))
        return shape_error(e, "x%d is %s, want a floating matrix", i, type_name(x).s);
    *m = matrix_turned(x, t);
    return before < 0 || m->rows == before ||
           shape_error(e, "x%d%s is %s, want %lld rows", i, t ? "'" : "",
                       type_name(x).s, (long long)before);
}

/* Sizes of a product; false: they do not fit. */
static bool product_size(const Sig *s, const ProductTerm *t, MatrixSize *y, Err *e) {
    MatrixSize a = {0}, b = {0}, c = {0};
    if (!factor_size(s, t->a, t->ta, -1, &a, e) ||
        !factor_size(s, t->b, t->tb, a.cols, &b, e))
        return false;
    const DType x = s->in[t->a].dtype;
    if (!dtype_mix(x, s->in[t->b].dtype) ||
        (t->c >= 0 && !dtype_mix(x, s->in[t->c].dtype)))
        return shape_error(e, "f64 stands beside f64 alone");
    *y = (MatrixSize){a.rows, b.cols};
    if (t->c < 0) return true;
    if (b.cols > PRODUCT_WIDTH)
        return shape_error(e,
                           "x%d @ x%d: got %lld columns, want at most %d for a third",
                           t->a, t->b, (long long)b.cols, PRODUCT_WIDTH);
    if (!factor_size(s, t->c, t->tc, b.cols, &c, e)) return false;
    y->cols = c.cols;
    return true;
}

static bool operand_fits(const Sig *s, int i, const Type *y, bool row, Err *e) {
    if (i < 0) return true;
    const Type *x = &s->in[i];
    const int64_t n = type_last(y);
    const bool shape =
        row ? x->rank == 1 && x->dim[0] == n
            : x->rank > 0 && type_last(x) == n && type_count(x) == type_count(y);
    return (shape && dtype_mix(x->dtype, y->dtype)) ||
           shape_error(e, "x%d is %s beside %s", i, type_name(x).s, type_name(y).s);
}

static bool sum_shape(Sig *s, const ProductForm *f, int o, Err *e) {
    const ProductSum *sum = &f->sum[o];
    const ProductTerm *t = &f->term[sum->first];
    MatrixSize y = {0}, more = {0};
    if (!product_size(s, t, &y, e)) return false;
    const Type *x = &s->in[t->a];
    const bool flat = t->ta || matrix_size(x).cols != type_last(x);
    Type *out = &s->out[o];
    *out =
        flat ? type_of(x->dtype, 2, (int64_t[]){y.rows, y.cols}) : with_last(x, y.cols);
    const DType beside = sum->add < 0 ? x->dtype : s->in[sum->add].dtype;
    if (!type_stored(sum->to[0] ? sum->to : NULL, beside, &out->dtype, e)) return false;
    for (int i = 1; i < sum->n; i++) {
        if (!product_size(s, &t[i], &more, e)) return false;
        if (more.rows != y.rows || more.cols != y.cols)
            return shape_error(e, "got [%lld,%lld] + [%lld,%lld]", (long long)y.rows,
                               (long long)y.cols, (long long)more.rows,
                               (long long)more.cols);
    }
    return operand_fits(s, sum->bias, out, true, e) &&
           operand_fits(s, sum->add, out, false, e);
}

/* x0 may be overwritten while the rest is read: it is added to the first sum, or absent. */
static bool first_fits(const ProductForm *f, Err *e) {
    bool good = true;
    for (int i = 0; i < f->n_term; i++)
        good &= f->term[i].a && f->term[i].b && f->term[i].c;
    for (int o = 0; o < f->n_sum; o++) good &= f->sum[o].bias && (!o || f->sum[o].add);
    return good || shape_error(e, "x0 may only be added to the first sum");
}

static bool products_shape(Sig *s, Err *e) {
    ProductForm f;
    if (!products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, &f, e))
        return false;
    if (!first_fits(&f, e)) return false;
    s->n_out = f.n_sum;
    for (int o = 0; o < f.n_sum; o++)
        if (!sum_shape(s, &f, o, e)) return false;
    return true;
}

/* As the GPU does it: of three, the first two once for every tile of columns. */
static uint64_t term_flops(const Sig *s, const ProductTerm *t, const Type *y) {
    const MatrixSize a = matrix_turned(&s->in[t->a], t->ta),
                     b = matrix_turned(&s->in[t->b], t->tb);
    const uint64_t all = 2 * (uint64_t)type_count(y);
    if (t->c < 0) return all * (uint64_t)a.cols;
    const int64_t n = matrix_turned(&s->in[t->c], t->tc).cols,
                  tiles = (n + PRODUCT_WIDTH - 1) / PRODUCT_WIDTH;
    return 2 * (uint64_t)(tiles * a.rows * a.cols * b.cols) + all * (uint64_t)b.cols;
}

static uint64_t products_flops(const Sig *s) {
    ProductForm f;
    Err e = {0};
    uint64_t flops = 0;
    if (!products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, &f, &e)) return 0;
    for (int o = 0; o < f.n_sum && o < s->n_out; o++)
        for (int i = f.sum[o].first; i < f.sum[o].first + f.sum[o].n; i++)
            flops += term_flops(s, &f.term[i], &s->out[o]);
    return flops;
}

/* clang-format off */
const Op op_products = {
    .name = "products",
    .doc = "sums of products of matrices, one per output: f has x1 @ x2' * NUMBER, x1 @ x2' @ x3, row x3 (added to every row) and x4 "
           "(added), apart by +; ' transposes; x0 may be added to the first sum and is overwritten if nobody else reads "
           "it. Made after gradients are: it has none",
    .example = "input %a : f64[2,3,5]\n"
               "input %x : f64[2,3,4]\n"
               "input %w : f64[5,4,1,1]\n"
               "input %b : f64[5]\n"
               "input %t : f64[2,3,2]\n"
               "input %u : f64[5,2]\n"
               "%y, %dw, %z = products %a, %x, %w, %b, %t, %u {f=\"x1 @ x2' + x4 @ x5' * 0.5 + row x3 + x0; x4' @ x1; x1 @ x2' @ x5 * 2 + x4\"} : f64[2,3,5], f64[2,4], f64[2,3,2]\n"
               "output %y\n"
               "output %dw\n"
               "output %z\n",
    .in = (const OpIn[]){{"add", IN_OPTIONAL}, {"x", IN_VARIADIC}, {0}},
    .n_out = -1, .flags = OP_IR | OP_LOW | OP_NO_GRAD,
    .attrs = (const Attr[]){{"f", 's', offsetof(ProductsAttrs, f), ATTR_IR, 0, NULL, "the sums"}, {0}},
    .attrs_size = sizeof(ProductsAttrs),
    .shape = products_shape, .flops = products_flops, .inplace = 1,
    .cpu = cpu_products, .cuda = cuda_products,
};
/* clang-format on */
