/* Pass `group`, putting out: products wait in two queues, those that read nothing that waits
 * and those that read what the first will make, until a node reads one of them or they have
 * waited for as long as the window is. A queue becomes one node. */
#include "passes/group.h"

#include <string.h>

/* What a card of 100 TFLOP/s does in the 2.7 us from one node of a graph to the next. */
static const double NEST_FLOPS = 1 << 28;

/* Of a node `products`: new ids, without doubles but of the first, what the first sum is
 * added to. */
typedef struct Inputs {
    Id id[1 + 5 * PRODUCT_TERMS];
    int n;
} Inputs;

static int input(Group *r, Inputs *in, Id v) {
    const Id id = r->map[v];
    for (int i = 1; i < in->n; i++)
        if (in->id[i] == id) return i;
    in->id[in->n] = id;
    return in->n++;
}

static void print_sum(Group *r, Str *f, Inputs *in, const Product *p, bool first) {
    const DType to = type_at(r->old, p->out)->dtype;
    const Id beside = p->add == NO_ID ? p->term->a : p->add;
    if (to != type_at(r->old, beside)->dtype) str_printf(f, "%s: ", dtype_name(to));
    for (int i = 0; i < p->n_term; i++) {
        const Term *t = &p->term[i];
        const int a = input(r, in, t->a), b = input(r, in, t->b);
        str_printf(f, "%sx%d%s @ x%d%s", i ? " + " : "", a, t->ta ? "'" : "", b,
                   t->tb ? "'" : "");
        if (t->c != NO_ID)
            str_printf(f, " @ x%d%s", input(r, in, t->c), t->tc ? "'" : "");
        if (t->factor == 1) continue;
        str_add(f, " * ");
        str_double(f, t->factor);
    }
    if (p->bias != NO_ID) str_printf(f, " + row x%d", input(r, in, p->bias));
    if (p->add != NO_ID) str_printf(f, " + x%d", first ? 0 : input(r, in, p->add));
}

static void stands(Group *r, Id old, Id to) {
    const Value *was = r->old->value[old];
    Value *v = r->g->value[to];
    v->batch = was->batch;
    v->name = was->name;
    v->loc = was->loc;
    r->map[old] = to;
}

/* One sum that is added to something goes first: its buffer may be taken. */
static void added_first(Queue *q) {
    for (int i = 0; i < q->n; i++) {
        if (q->item[i]->add == NO_ID) continue;
        Product *p = q->item[i];
        q->item[i] = q->item[0];
        q->item[0] = p;
        return;
    }
}

static bool emit(Group *r, Queue *q) {
    added_first(q);
    const Product *one = q->item[0];
    if (q->n == 1 && one->plain)
        return graph_copy_node(r->g, one->node, r->old, r->map, r->e) != NULL;
    Inputs in = {.n = 1};
    in.id[0] = one->add == NO_ID ? NO_ID : r->map[one->add];
    Str f = {0};
    for (int i = 0; i < q->n; i++) {
        if (i) str_add(&f, "; ");
        print_sum(r, &f, &in, q->item[i], !i);
    }
    ProductsAttrs at = {arena_strdup(r->old->arena, f.s)};
    str_free(&f);
    r->g->at = one->node->at;
    const Node *made = graph_add(r->g, &op_products, &at, in.n, in.id, r->e);
    for (int i = 0; made && i < q->n; i++) stands(r, q->item[i]->out, made->out[i]);
    return made != NULL;
}

/* The first queue as one node; the second is the first then. */
static bool put_out(Group *r) {
    Queue q = r->queue[0];
    r->queue[0] = r->queue[1];
    r->queue[1] = (Queue){.n = 0};
    for (int i = 0; i < q.n; i++) r->due[q.item[i]->out] = 0;
    for (int i = 0; i < r->queue[0].n; i++) r->due[r->queue[0].item[i]->out] = 1;
    if (!q.n) return true;
    r->n_step++;
    return emit(r, &q);
}

static bool put_out_times(Group *r, int times) {
    while (times-- > 0)
        if (!put_out(r)) return false;
    return true;
}

static int due(const Group *r, Id v) {
    return v == NO_ID ? 0 : r->due[v];
}
static int later(int a, int b) {
    return a > b ? a : b;
}

/* In which queue p may wait: 0, 1; 2: in none. */
static int level(const Group *r, const Product *p) {
    int most = later(due(r, p->add), due(r, p->bias));
    for (int i = 0; i < p->n_term; i++) {
        const Term *t = &p->term[i];
        most = later(most, later(due(r, t->a), later(due(r, t->b), due(r, t->c))));
    }
    return most;
}

/* ---- nests ---- */

/* The waiting product whose result is the first factor of t, if t can be one of three. */
static Product *inner(const Group *r, const Term *t, const Type *y) {
    Product *q = due(r, t->a) == 1 ? r->made[t->a] : NULL;
    if (!q || t->ta || t->c != NO_ID || due(r, t->b) || q->n_term > 1 || q->term->ta ||
        q->term->c != NO_ID || q->add != NO_ID || q->bias != NO_ID)
        return NULL;
    const MatrixSize x = matrix_size(type_at(r->old, q->term->a)),
                     mid = matrix_size(type_at(r->old, t->a));
    const int64_t tiles = (type_last(y) + PRODUCT_WIDTH - 1) / PRODUCT_WIDTH;
    const double more =
        2.0 * (double)x.rows * (double)x.cols * (double)mid.cols * (double)(tiles - 1);
    return mid.cols <= PRODUCT_WIDTH && more <= NEST_FLOPS ? q : NULL;
}

/* Nobody else wants the result of p, which waits. */
static void drop(Group *r, const Product *p) {
    Queue *q = &r->queue[0];
    int n = 0;
    for (int i = 0; i < q->n; i++)
        if (q->item[i] != p) q->item[n++] = q->item[i];
    q->n = n;
    q->terms -= p->n_term;
    r->due[p->out] = 0;
}

/* Everything that p waits for becomes a factor of it; false: not all of it can. */
static bool nest(Group *r, Product *p) {
    const Type *y = type_at(r->old, p->out);
    if (due(r, p->add) || due(r, p->bias)) return false;
    for (int i = 0; i < p->n_term; i++) {
        const Term *t = &p->term[i];
        const bool waits = due(r, t->a) || due(r, t->b) || due(r, t->c);
        if (waits && !inner(r, t, y)) return false;
    }
    for (int i = 0; i < p->n_term; i++) {
        Term *t = &p->term[i];
        const Product *q = inner(r, t, y);
        if (!q) continue;
        const Id v = t->a;
        const Term *s = q->term;
        *t = (Term){s->a, s->b, t->b, s->ta, s->tb, t->tb, s->factor * t->factor};
        p->plain = false;
        r->n_nested++;
        if (!--r->uses[v] && !r->pinned[v]) drop(r, q);
    }
    return true;
}

/* ---- the walk ---- */

static bool has_room(const Queue *q, const Product *p) {
    return q->n < PRODUCT_OUTS && q->terms + p->n_term <= PRODUCT_TERMS;
}

static bool wait(Group *r, Product *p) {
    int to = level(r, p);
    if (to == 1 && nest(r, p)) to = 0;
    while (to > 1 || !has_room(&r->queue[to], p)) {
        if (!put_out(r)) return false;
        to = level(r, p);
    }
    Queue *q = &r->queue[to];
    q->item[q->n++] = p;
    q->terms += p->n_term;
    r->due[p->out] = (uint8_t)(to + 1);
    p->gone = true;
    return true;
}

static bool wait_all(Group *r, Product *p) {
    for (; p; p = p->sibling)
        if (!p->gone && !wait(r, p)) return false;
    return true;
}

/* How many queues must stand before node n. */
static int stops(const Group *r, const Node *n) {
    if (n->op->alias) return 2; /* it may write over what they read */
    int most = 0;
    for (int i = 0; i < n->n_in; i++) most = later(most, due(r, n->in[i]));
    const Queue *q = &r->queue[0];
    const bool old = q->n && n->index > q->item[0]->node->index + r->window;
    return later(most, old);
}

/* Sum n as the norm's gradient m, to which the other operand is added. */
static bool emit_residual(Group *r, const Node *n, const Node *m) {
    enum { MOST = 7 };
    const Id other = n->in[n->in[0] == m->out[0]];
    if (!put_out_times(r, later(stops(r, m), due(r, other)))) return false;
    const int at = residual_at(m->op);
    Id in[MOST];
    for (int i = 0; i < MOST; i++) {
        const bool there = i < m->n_in && m->in[i] != NO_ID;
        in[i] = there ? r->map[m->in[i]] : NO_ID;
    }
    in[at] = r->map[other];
    r->g->at = m->at;
    const Id y = graph_op(r->g, m->op, m->attrs, at + 1, in, r->e);
    if (y == NO_ID) return false;
    stands(r, n->out[0], y);
    return true;
}

static bool put_out_node(Group *r, const Node *n) {
    if (r->residual[n->index]) return emit_residual(r, n, r->residual[n->index]);
    if (r->inside[n->index] || group_took(r, n)) return true;
    return put_out_times(r, stops(r, n)) &&
           graph_copy_node(r->g, n, r->old, r->map, r->e);
}

bool group_put_out(Group *r) {
    const Graph *g = r->old;
    for (uint32_t k = 0; k < g->n_node; k++) {
        Product *p = r->at[k];
        if (p ? !wait_all(r, p->gone ? NULL : p) : !put_out_node(r, g->node[k]))
            return false;
    }
    return put_out_times(r, 2);
}
