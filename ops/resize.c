/* Nearest-neighbour resizing of pixels: by a factor, or to the size of another value. */
#include "ops/heavy.h"

enum { MOST = 1 << 24 };

/* clang-format off */
static const OpIn resize_in[] = { { "x", 0 }, { "like", IN_SHAPE | IN_OPTIONAL }, { 0 } };
static const OpIn grad_in[] = { { "dy", 0 }, { 0 } };
static const Attr resize_attrs[] = {
    { "by", 'i', offsetof(ResizeAttrs, by), ATTR_YAML, 0, NULL, "factor, or give 'like'" },
    { "h", 'i', offsetof(ResizeAttrs, h), ATTR_IR, 0, NULL, "height of y" },
    { "w", 'i', offsetof(ResizeAttrs, w), ATTR_IR, 0, NULL, "width of y" },
    { 0 }
};
static const Attr grad_attrs[] = {
    { "h", 'i', offsetof(ResizeAttrs, h), ATTR_REQUIRED, 0, NULL, "height of x" },
    { "w", 'i', offsetof(ResizeAttrs, w), ATTR_REQUIRED, 0, NULL, "width of x" },
    { 0 }
};
/* clang-format on */

static bool resize_resolve(Lang *l, Err *e) {
    ResizeAttrs *a = l->attrs;
    const bool given = l->n_in > 1 && l->in[1] != NO_ID;
    const Type *x = input_type(l, 0), *like = given ? input_type(l, 1) : x;
    if (x->rank != 4 || like->rank != 4)
        return err_at(e, l->loc, "'%s' is %s, want [B,H,W,C]",
                      x->rank != 4 ? "x" : "like",
                      type_name(x->rank != 4 ? x : like).s);
    if (given == (a->by != 0))
        return err_at(e, l->loc, "resize needs either 'by' or 'like'");
    if (!given && (a->by < 1 || a->by > 1024))
        return err_at(e, l->loc, "'by' is %lld, want 1 to 1024", (long long)a->by);
    a->h = given ? like->dim[1] : x->dim[1] * a->by;
    a->w = given ? like->dim[2] : x->dim[2] * a->by;
    a->by = 0;
    l->n_in = 1;
    if (a->h == x->dim[1] && a->w == x->dim[2]) l->pass_on = l->in[0];
    return true;
}

static bool to_size(Sig *s, Err *e) {
    const ResizeAttrs *a = s->attrs;
    const Type *x = &s->in[0];
    if (!need_float(s, 0, 1, e)) return false;
    if (x->rank != 4 || type_count(x) < 1)
        return shape_error(e, "'%s' is %s, want [B,H,W,C]", s->op->in[0].name,
                           type_name(x).s);
    if (a->h < 1 || a->w < 1 || a->h > MOST || a->w > MOST)
        return shape_error(e, "'h' is %lld and 'w' %lld, want 1 to 2^24",
                           (long long)a->h, (long long)a->w);
    s->out[0] = type_of(x->dtype, 4, (int64_t[]){x->dim[0], a->h, a->w, x->dim[3]});
    return true;
}

static bool resize_grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                        Err *e) {
    if (!need[0]) return true;
    const Type *x = type_at(g, n->in[0]);
    ResizeAttrs a = {.h = x->dim[1], .w = x->dim[2]};
    dx[0] = graph_op(g, &op_resize_grad, &a, 1, dy, e);
    return dx[0] != NO_ID;
}

/* clang-format off */
const Op op_resize = {
    .name = "resize",
    .doc = "y[b,i,j,c] = x[b, floor(i H / h), floor(j W / w), c]: nearest neighbour, to 'by' times the size or the "
           "size of 'like'",
    .example = "input %x : f64[2,2,3,2]\n"
               "%y = resize %x {h=5, w=4} : f64[2,5,4,2]\n"
               "output %y\n",
    .in = resize_in, .n_out = 1,
    .attrs = resize_attrs, .attrs_size = sizeof(ResizeAttrs),
    .resolve = resize_resolve, .shape = to_size, .grad = resize_grad, .cpu = cpu_resize, .cuda = cuda_resize,
};

const Op op_resize_grad = {
    .name = "resize_grad",
    .doc = "dx[b,p,q,c] = sum of dy[b,i,j,c] over the i,j that resize takes from p,q; gradients of gradients are not "
           "taken",
    .example = "input %dy : f64[2,5,4,2]\n"
               "%dx = resize_grad %dy {h=2, w=3} : f64[2,2,3,2]\n"
               "output %dx\n",
    .in = grad_in, .n_out = 1, .flags = OP_NO_GRAD,
    .attrs = grad_attrs, .attrs_size = sizeof(ResizeAttrs),
    .shape = to_size, .cpu = cpu_resize_grad, .cuda = cuda_resize_grad,
};
/* clang-format on */
