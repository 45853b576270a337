/* Several products of matrices in one step, made by pass `group`: on a GPU a step is a
 * launch, and a training step with adapters has hundreds of products too thin for one. */
#include "ops/heavy.h"

/* Sizes of a product; false: they do not fit. */
static bool product_size(const Sig *s, const ProductTerm *t, MatrixSize *y, Err *e) {
    const Type *a = &s->in[t->a], *b = &s->in[t->b];
    if (a->rank < 1 || b->rank < 1 || !dtype_mix(a->dtype, b->dtype))
        return shape_error(e, "x%d and x%d are %s and %s, want floating matrices", t->a,
                           t->b, type_name(a).s, type_name(b).s);
    const MatrixSize m = matrix_turned(a, t->ta), n = matrix_turned(b, t->tb);
    *y = (MatrixSize){m.rows, n.cols};
    return m.cols == n.rows ||
           shape_error(e, "x%d%s @ x%d%s: got %s and %s", t->a, t->ta ? "'" : "", t->b,
                       t->tb ? "'" : "", type_name(a).s, type_name(b).s);
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
    MatrixSize y, more;
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
    for (int i = 0; i < f->n_term; i++) good &= f->term[i].a && f->term[i].b;
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

static uint64_t products_flops(const Sig *s) {
    ProductForm f;
    Err e = {0};
    uint64_t flops = 0;
    if (!products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, &f, &e)) return 0;
    for (int o = 0; o < f.n_sum && o < s->n_out; o++)
        for (int i = f.sum[o].first; i < f.sum[o].first + f.sum[o].n; i++)
            flops += 2 * (uint64_t)type_count(&s->out[o]) *
                     (uint64_t)matrix_turned(&s->in[f.term[i].a], f.term[i].ta).cols;
    return flops;
}

/* clang-format off */
const Op op_products = {
    .name = "products",
    .doc = "sums of products of matrices, one per output: f has x1 @ x2' * NUMBER, row x3 (added to every row) and x4 "
           "(added), apart by +; ' transposes; x0 may be added to the first sum and is overwritten if nobody else reads "
           "it. Made after gradients are: it has none",
    .example = "input %a : f64[2,3,5]\n"
               "input %x : f64[2,3,4]\n"
               "input %w : f64[5,4,1,1]\n"
               "input %b : f64[5]\n"
               "input %t : f64[2,3,2]\n"
               "input %u : f64[5,2]\n"
               "%y, %dw = products %a, %x, %w, %b, %t, %u {f=\"x1 @ x2' + x4 @ x5' * 0.5 + row x3 + x0; x4' @ x1\"} : f64[2,3,5], f64[2,4]\n"
               "output %y\n"
               "output %dw\n",
    .in = (const OpIn[]){{"add", IN_OPTIONAL}, {"x", IN_VARIADIC}, {0}},
    .n_out = -1, .flags = OP_IR | OP_LOW | OP_NO_GRAD,
    .attrs = (const Attr[]){{"f", 's', offsetof(ProductsAttrs, f), ATTR_IR, 0, NULL, "the sums"}, {0}},
    .attrs_size = sizeof(ProductsAttrs),
    .shape = products_shape, .flops = products_flops, .inplace = 1,
    .cpu = cpu_products, .cuda = cuda_products,
};
/* clang-format on */
