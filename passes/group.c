/* group: products that do not wait for each other become one step, what is added up becomes
 * one sum.
 *
 * A step of a GPU plan is a launch, and adapters make hundreds of products that are too thin
 * to fill a card. Rules, from the structure alone:
 *
 *   sum      y1 = y0 + t B^T, y0 = x W^T   ->  one sum of two products: y is written once.
 *            So do residuals, and the gradients of a value that several products read
 *   factor   NUMBER * a weight, a product * NUMBER  ->  a factor of the product
 *   norm     a norm's gradient + what else the gradient is -> added by the norm's gradient
 *   group    products in a row of which none reads another's result -> one node `products`
 *   nest     t = x A^T, y = t B^T: y as a product of three beside t, not behind it, where to
 *            work t out again for every tile of y costs less than a launch
 *
 * Needs: a scheduled graph, whose order it keeps but for products, which wait for the next
 * node that reads one of them, at most WINDOW nodes. Guarantees: the same values but for
 * roundings: what was rounded between two products no longer is. No more memory than before
 * (PEAK_PERCENT), else a smaller window. Only for GPUs: on a CPU a step costs nothing. Ends:
 * one walk to find the sums, one to put them out; a second run finds only single products,
 * which stay. */
#include "passes/group.h"

#include "passes/fuse.h"

#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 16, /* nodes that a product waits, and operands of a sum are kept for */
    SMALL_BYTES = 1 << 16, /* results that may be there early; not worth counting */
    PEAK_PERCENT = 101,    /* of the peak before */
};

static const char *const whys[WHYS] = {
    [APART] = "its operands would be kept for too long",
    [READERS] = "others read it too",
    [SHAPES] = "other shapes",
    [TYPES] = "types that a product does not take",
    [FULL] = "too many products for one launch",
};

/* ---- what is known of the old graph ---- */

static void pin(Group *r, Id v) {
    if (v != NO_ID) r->pinned[v] = true;
}

static void find_uses(Group *r) {
    const Graph *g = r->old;
    for (uint32_t i = 0; i < g->n_output; i++) pin(r, g->output[i].value);
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Param *p = g->value[i]->param;
        if (p && p->init.kind == INIT_VALUE) pin(r, p->init.value);
        if (p && p->slice_axis >= 0) pin(r, p->slice_index);
    }
    for (uint32_t k = 0; k < g->n_node; k++)
        for (int i = 0; i < g->node[k]->n_in; i++)
            if (g->node[k]->in[i] != NO_ID) r->uses[g->node[k]->in[i]]++;
}

static const Node *maker(const Group *r, Id v) {
    const Id k = v == NO_ID ? NO_ID : r->old->value[v]->node;
    return k == NO_ID ? NULL : r->old->node[k];
}

/* ---- sums ---- */

static bool computed(DType t) {
    return t == F32 || dtype_is_half(t);
}

/* Rows of activations must be what the last dimension says, whatever stands before it. */
static bool is_rows(const Type *t) {
    return t->rank > 0 && matrix_size(t).cols == type_last(t);
}

static Term term_of(const Node *n) {
    Term t = {.a = n->in[0], .b = n->in[1], .c = NO_ID, .factor = 1};
    t.tb = n->op == &op_linear;
    if (n->op != &op_linear_grad_w) return t;
    t.a = n->in[1], t.b = n->in[0], t.ta = true;
    return t;
}

static Id operand(const Node *n, int i) {
    return i < n->n_in ? n->in[i] : NO_ID;
}

/* A weight times a number, kept as wide as the weight: the number is the product's. */
static void take_factor(Group *r, Product *p) {
    Term *t = p->term;
    const Node *n = maker(r, t->b);
    if (!n || n->op != &op_pointwise || !fuse_constant_factor(n) ||
        type_at(r->old, t->b)->dtype != F32 || type_at(r->old, n->in[0])->dtype != F32)
        return;
    r->uses[t->b]--;
    r->uses[n->in[0]]++;
    t->b = n->in[0];
    t->factor *= strtod(((const PointwiseAttrs *)n->attrs)->f + 5, NULL);
    p->plain = false;
    r->n_factor++;
}

static Product *product_of(Group *r, const Node *n) {
    const bool linear = n->op == &op_linear, grad_x = n->op == &op_linear_grad_x;
    if (!linear && !grad_x && n->op != &op_linear_grad_w) return NULL;
    const Term t = term_of(n);
    if (!computed(type_at(r->old, t.a)->dtype) ||
        !computed(type_at(r->old, t.b)->dtype) || !is_rows(type_at(r->old, t.a)) ||
        (t.ta && !is_rows(type_at(r->old, t.b)))) {
        r->why[TYPES]++;
        return NULL;
    }
    Product *p = NEW(r->old->arena, Product, 1);
    *p = (Product){.node = n, .n_term = 1, .out = n->out[0], .plain = true};
    p->term = NEW(r->old->arena, Term, 1);
    *p->term = t;
    p->bias = linear ? operand(n, 2) : NO_ID;
    p->add = linear ? operand(n, 3) : grad_x ? operand(n, 2) : NO_ID;
    take_factor(r, p);
    r->n_product++;
    return p;
}

/* The product behind v, if v is nothing but a part of what node n makes. */
static Product *part(Group *r, const Node *n, Id v) {
    Product *p = v == NO_ID ? NULL : r->made[v];
    if (!p || p->gone) return NULL;
    Why why = r->pinned[v] || r->uses[v] > 1          ? READERS
              : n->index - p->node->index > r->window ? APART
              : !type_same_shape(type_at(r->old, v), type_at(r->old, n->out[0]))
                  ? SHAPES
                  : FITS;
    if (!why) return p;
    r->why[why]++;
    return NULL;
}

/* q is what p is added to: all of it is one sum, where p stands. */
static void take_in(Group *r, Product *p, Product *q) {
    Term *all = NEW(r->old->arena, Term, p->n_term + q->n_term);
    memcpy(all, q->term, (size_t)q->n_term * sizeof *all);
    memcpy(all + q->n_term, p->term, (size_t)p->n_term * sizeof *all);
    p->term = all;
    p->n_term += q->n_term;
    if (q->bias != NO_ID) p->bias = q->bias;
    p->add = q->add;
    p->plain = false;
    q->gone = true;
    r->at[q->node->index] = NULL;
    r->inside[q->node->index] = true;
    r->n_sum++;
}

static bool may_join(Group *r, const Product *p, const Product *q) {
    if ((p->bias == NO_ID || q->bias == NO_ID) &&
        p->n_term + q->n_term <= PRODUCT_TERMS)
        return true;
    r->why[FULL]++;
    return false;
}

/* Product p now makes what node n makes. */
static void move_to(Group *r, Product *p, const Node *n) {
    r->at[p->node->index] = NULL;
    r->inside[p->node->index] = true;
    p->node = n;
    p->out = n->out[0];
    p->plain = false;
    r->at[n->index] = p;
    r->made[p->out] = p;
}

static bool formula_is(const Node *n, const char *f) {
    return n->op == &op_pointwise &&
           !strcmp(((const PointwiseAttrs *)n->attrs)->f, f) &&
           computed(((const PointwiseAttrs *)n->attrs)->dtype);
}

int residual_at(const Op *norm_grad) {
    int at = 0;
    while (strcmp(norm_grad->in[at].name, "residual")) at++;
    return at;
}

/* The norm's gradient that makes operand i of the sum n, and may make the sum. */
static const Node *norm_part(Group *r, const Node *n, int i) {
    const Id v = n->in[i];
    const Node *m = maker(r, v);
    if (!m || (m->op != &op_layer_norm_grad && m->op != &op_group_norm_grad) ||
        m->n_out > 1 || !type_equal(type_at(r->old, v), type_at(r->old, n->out[0])) ||
        operand(m, residual_at(m->op)) != NO_ID)
        return NULL; /* one that has a residual already would lose it */
    const Why why = r->pinned[v] || r->uses[v] > 1    ? READERS
                    : n->index - m->index > r->window ? APART
                                                      : FITS;
    r->why[why]++;
    return why ? NULL : m;
}

/* x0 + x1, one of them a norm's gradient, which stands where the sum did. */
static void take_norm(Group *r, const Node *n) {
    for (int i = 1; i >= 0; i--) {
        const Node *m = norm_part(r, n, i);
        if (!m) continue;
        r->residual[n->index] = m;
        r->inside[m->index] = true;
        r->n_norm++;
        return;
    }
}

static bool is_sum(const Group *r, const Node *n) {
    if (!formula_is(n, "x0 + x1") || n->in[0] == n->in[1]) return false;
    for (int i = 0; i < 2; i++)
        if (!type_same_shape(type_at(r->old, n->in[i]), type_at(r->old, n->out[0])) ||
            !computed(type_at(r->old, n->in[i])->dtype))
            return false;
    return true;
}

/* x0 + x1, one or both of them products. */
static void take_sum(Group *r, const Node *n) {
    if (!is_sum(r, n)) return;
    Product *p[2] = {part(r, n, n->in[0]), part(r, n, n->in[1])};
    const int later = p[1] && (!p[0] || p[1]->node->index > p[0]->node->index);
    Product *own = p[later], *other = p[!later];
    if (!own || own->add != NO_ID) own = p[!later], other = p[later];
    if (!own || own->add != NO_ID) {
        take_norm(r, n);
        return;
    }
    own->add = n->in[own == p[0]];
    move_to(r, own, n);
    r->n_sum++;
    if (other && may_join(r, own, other)) take_in(r, own, other);
}

/* A product alone * NUMBER. */
static void take_scale(Group *r, const Node *n) {
    if (n->op != &op_pointwise || !fuse_constant_factor(n) ||
        !computed(((const PointwiseAttrs *)n->attrs)->dtype))
        return;
    Product *p = r->made[n->in[0]];
    if (!p || p->add != NO_ID || p->bias != NO_ID) return;
    p = part(r, n, n->in[0]);
    if (!p) return;
    const double factor = strtod(((const PointwiseAttrs *)n->attrs)->f + 5, NULL);
    for (int i = 0; i < p->n_term; i++) p->term[i].factor *= factor;
    move_to(r, p, n);
    r->n_factor++;
}

static void find_sums(Group *r) {
    const Graph *g = r->old;
    const bool *needed = nodes_needed(g->arena, g, true);
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        if (!needed[k]) continue;
        Product *p = product_of(r, n);
        if (!p) {
            take_sum(r, n);
            take_scale(r, n);
            continue;
        }
        r->at[k] = r->made[p->out] = p;
        Product *q = part(r, n, p->add);
        if (q && may_join(r, p, q)) take_in(r, p, q);
    }
}

/* Products of one value with weights, small ones: all where the first stands. */
static void find_siblings(Group *r) {
    const Graph *g = r->old;
    Product **first = NEW(g->arena, Product *, g->n_value + 1),
            **last = NEW(g->arena, Product *, g->n_value + 1);
    for (uint32_t k = 0; k < g->n_node; k++) {
        Product *p = r->at[k];
        if (!p || p->n_term > 1 || p->add != NO_ID || p->term->ta) continue;
        if (type_bytes(type_at(r->old, p->out)) > SMALL_BYTES || maker(r, p->term->b) ||
            (p->bias != NO_ID && maker(r, p->bias)))
            continue; /* what is computed may be computed later than the first */
        const Id x = p->term->a;
        if (first[x]) {
            last[x]->sibling = p;
            last[x] = p;
        } else {
            first[x] = last[x] = p;
        }
    }
}

/* A weight times a number that every product has taken in. */
bool group_took(const Group *r, const Node *n) {
    const Id v = n->out[0];
    return n->op == &op_pointwise && fuse_constant_factor(n) && !r->uses[v] &&
           !r->pinned[v];
}

/* ---- the pass ---- */

static Graph *grouped(const Graph *g, uint32_t window, Group *r, Err *e) {
    Arena *a = g->arena;
    *r = (Group){.old = g, .window = window, .e = e};
    r->g = graph_rewrite(g, &r->map);
    r->made = NEW(a, Product *, g->n_value + 1);
    r->at = NEW(a, Product *, g->n_node + 1);
    r->uses = NEW(a, uint32_t, g->n_value + 1);
    r->pinned = NEW(a, bool, g->n_value + 1);
    r->due = NEW(a, uint8_t, g->n_value + 1);
    r->residual = NEW(a, const Node *, g->n_node + 1);
    r->inside = NEW(a, bool, g->n_node + 1);
    find_uses(r);
    find_sums(r);
    find_siblings(r);
    if (!group_put_out(r)) return NULL;
    r->g->at = g->at;
    graph_copy_outputs(r->g, g, r->map);
    return r->g;
}

static uint64_t peak_of(const Graph *g, const Options *opt) {
    uint32_t n;
    const uint32_t *order = nodes_run(g->arena, g, &n);
    const Buffers b =
        buffers_find(g->arena, g, order, n, !pass_disabled(opt, "in-place"));
    return buffers_peak(&b, n);
}

static void explain(const Group *r, uint64_t before, uint64_t after) {
    const Graph *g = r->old;
    report(
        g,
        "group: %u products in %u steps; %u sums and %u factors taken in, %u sums by "
        "norms, %u nested; window %u; activations %s, before %s",
        r->n_product, r->n_step, r->n_sum, r->n_factor, r->n_norm, r->n_nested,
        r->window, bytes_text(g->arena, after), bytes_text(g->arena, before));
    for (int i = FITS + 1; i < WHYS; i++)
        if (r->why[i]) report(g, "group: %u left as they are: %s", r->why[i], whys[i]);
}

Graph *pass_group(Graph *g, Options *opt, Err *e) {
    const uint64_t before = peak_of(g, opt),
                   most = before / 100 * PEAK_PERCENT + SMALL_BYTES;
    for (uint32_t window = WINDOW; window; window /= 2) {
        Group r;
        Graph *out = grouped(g, window, &r, e);
        if (!out) return NULL;
        const uint64_t after = peak_of(out, opt);
        if (after > most) continue;
        explain(&r, before, after);
        return out;
    }
    report(g, "group: nothing: every way needs more than %s",
           bytes_text(g->arena, most));
    return g;
}
