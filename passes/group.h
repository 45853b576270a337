/* What pass `group` finds in a graph (passes/group.c) and how it is put out again
 * (passes/group_queue.c). */
#ifndef GRAPHRUN_GROUP_H
#define GRAPHRUN_GROUP_H
#include "ops/heavy.h"
#include "passes/private.h"

typedef enum Why { FITS, APART, READERS, SHAPES, TYPES, FULL, WHYS } Why;

typedef struct Term {
    Id a, b, c; /* c: or NO_ID */
    bool ta, tb, tc;
    double factor;
} Term;

typedef struct Product {
    const Node *node; /* where it stands: the last that it is made of */
    Term *term;
    int n_term;
    Id bias, add, out;
    bool plain;              /* the node as it was */
    bool gone;               /* taken in by another, or put out */
    struct Product *sibling; /* reads the same value, is wanted early */
} Product;

typedef struct Queue {
    Product *item[PRODUCT_OUTS];
    int n, terms;
} Queue;

typedef struct Group {
    const Graph *old;
    Graph *g;
    Id *map;
    Product **made; /* per old value */
    Product **at;   /* per old node */
    uint32_t *uses; /* per old value: places that read it */
    bool *pinned;
    bool *inside;          /* per old node: part of one that stands elsewhere */
    const Node **residual; /* per old node: a sum: the norm's gradient that does it */
    uint8_t *due;          /* per old value: 1 + the queue that its product waits in */
    Queue queue[2];        /* the second: what reads results of the first */
    uint32_t window;       /* nodes that a product waits at most */
    uint32_t n_product, n_sum, n_factor, n_norm, n_nested, n_step, why[WHYS];
    Err *e;
} Group;

/* Is the node a weight times a number that every product has taken in? */
bool group_took(const Group *r, const Node *n);
/* Which input of a norm's gradient is the residual. */
int residual_at(const Op *norm_grad);
/* The new graph, from what was found. */
bool group_put_out(Group *r);
#endif
