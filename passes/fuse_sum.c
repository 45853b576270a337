/* Pattern "sum": what is added to a product goes into the product, which begins its sums with
 * it, in the same buffer if that is free:
 *
 *     d = linear(t, B)            y1 = linear(t, B * NUMBER, add: y0)
 *     y1 = y0 + d * NUMBER
 *
 * An adapter's branch joins its layer so, without a value of its own as wide as the layer's
 * and without a pass over both; so do the gradients of a value that several products read.
 * It works from the structure alone: any sum of two values of which one is a product that
 * nobody else reads. Of two such products the later one takes in the other. A number goes
 * to the weight if that is smaller than the result. */
#include "passes/fuse.h"

#include <string.h>

enum { MOST_OPERANDS = 8, SMALL_WEIGHT = 4 /* times smaller than the result */ };

typedef struct Summand {
    const Node *product; /* old node, or NULL */
    const Node *factor;  /* d * NUMBER, or NULL */
    int slot;            /* of `add` among the product's inputs */
} Summand;

static int add_slot(const Op *op) {
    for (int i = 0; op->in[i].name; i++)
        if (!strcmp(op->in[i].name, "add")) return i;
    return -1;
}

static const Node *maker_of(const Fuse *f, Id v) {
    Id k = f->old->value[v]->node;
    return k == NO_ID ? NULL : f->old->node[k];
}

/* The product behind operand v of a sum, through a number. */
static Summand find_product(const Fuse *f, Id v) {
    Summand s = {.slot = -1};
    const Node *n = maker_of(f, v);
    if (n && n->op == &op_pointwise && fuse_constant_factor(n)) {
        s.factor = n;
        n = maker_of(f, n->in[0]);
    }
    if (!n || n->op == &op_pointwise) return s;
    s.slot = add_slot(n->op);
    if (s.slot >= 0 && f->map[n->out[0]] != NO_ID) s.product = n;
    return s;
}

static FuseReason lone(const Fuse *f, Id v) {
    if (f->pinned[v]) return FUSE_GRAPH_OUTPUT;
    return f->n_reader[v] > 1 ? FUSE_MULTI_USE : FUSE_NONE;
}

static FuseReason legal(const Fuse *f, const Node *n, const Summand *s, Id v,
                        Id other) {
    const Graph *old = f->old;
    const Node *p = s->product;
    const Type *y = &old->value[n->out[0]]->type, *d = &old->value[p->out[0]]->type;
    FuseReason why = lone(f, v);
    if (!why && s->factor) why = lone(f, p->out[0]);
    if (why) return why;
    if (p->n_in > s->slot && p->in[s->slot] != NO_ID) return FUSE_SHAPE_LIMIT;
    if (!type_same_shape(y, d) || !type_same_shape(y, &old->value[other]->type))
        return FUSE_LAYOUT;
    if (!dtype_mix(y->dtype, d->dtype) ||
        !dtype_mix(y->dtype, old->value[other]->type.dtype))
        return FUSE_DTYPE;
    if (s->factor) {
        const Type *w = &old->value[p->in[1]]->type;
        bool bias = s->slot > 2 && p->n_in > 2 && p->in[2] != NO_ID;
        if (bias || type_count(w) * SMALL_WEIGHT > type_count(y)) return FUSE_COST;
    }
    const Node *made = f->g->node[f->g->value[f->map[p->out[0]]]->node];
    return fuse_keeps_more(f, p, made, n) ? FUSE_COST : FUSE_NONE;
}

/* The weight times the number, never a half. */
static Id scaled(Fuse *f, const Summand *s) {
    Id w = f->map[s->product->in[1]];
    DType t = dtype_wide(f->g->value[w]->type.dtype);
    return add_formula(f->g, t, ((const PointwiseAttrs *)s->factor->attrs)->f, 1, &w,
                       f->e);
}

static Fused emit(Fuse *f, const Node *n, const Summand *s, Id other) {
    const Node *p = s->product;
    Id in[MOST_OPERANDS];
    for (int i = 0; i < s->slot; i++)
        in[i] = i < p->n_in && p->in[i] != NO_ID ? f->map[p->in[i]] : NO_ID;
    in[s->slot] = f->map[other];
    f->g->at = p->at;
    if (s->factor) in[1] = scaled(f, s);
    if (in[1] == NO_ID) return FUSED_FAILED;
    char *attrs = NEW(f->g->arena, char, p->op->attrs_size + 1);
    if (p->attrs) memcpy(attrs, p->attrs, p->op->attrs_size);
    DType y = f->old->value[n->out[0]]->type.dtype, x = f->g->value[in[0]]->type.dtype;
    const Attr *to = attr_find(p->op, "to");
    *(const char **)(attrs + to->offset) = y == x ? NULL : dtype_name(y);
    Node *made = graph_add(f->g, p->op, attrs, s->slot + 1, in, f->e);
    f->g->at = n->at;
    if (!made) return FUSED_FAILED;
    fuse_stands(f, n, 0, made->out[0]);
    return FUSED_YES;
}

Fused fuse_sum(Fuse *f, const Node *n) {
    if (n->op != &op_pointwise || n->n_in != 2 || n->in[0] == n->in[1] ||
        strcmp(((const PointwiseAttrs *)n->attrs)->f, "x0 + x1"))
        return FUSED_NO;
    Summand s[2] = {find_product(f, n->in[0]), find_product(f, n->in[1])};
    if (!s[0].product && !s[1].product) return FUSED_NO;
    int first =
        s[1].product && (!s[0].product || s[1].product->index > s[0].product->index);
    FuseReason why = FUSE_NONE;
    for (int k = 0; k < 2; k++) {
        int i = k ? !first : first;
        if (!s[i].product) continue;
        FuseReason r = legal(f, n, &s[i], n->in[i], n->in[!i]);
        if (!r) return emit(f, n, &s[i], n->in[!i]);
        if (!why) why = r;
    }
    fuse_miss(f, "sum", n, n->in[first], why);
    return FUSED_NO;
}
