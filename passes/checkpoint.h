/* What passes/checkpoint.c (what a set of kept values means) and
 * passes/checkpoint_solver.c (which set to take) share. */
#ifndef GRAPHRUN_PASSES_CHECKPOINT_H
#define GRAPHRUN_PASSES_CHECKPOINT_H
#include "passes/private.h"

/* A scheduled graph, and the set of forward values that are kept for the backward pass.
 * Values are looked at by the memory they are in: `keep`, `saved` and so on are indexed by
 * the value that owns it (Buffers.base). */
typedef struct Remat {
    const Graph *g;
    Arena *a;
    bool in_place;
    const uint32_t *order; /* the nodes that run */
    uint32_t n_order;
    const Id *base;
    bool *clone;     /* per node: it may run a second time */
    bool *again;     /* per value: it and what owns its memory are made by such nodes */
    uint64_t *cost;  /* per node, in picoseconds */
    uint64_t *bytes; /* per base */
    uint32_t *read_to; /* per base: behind the last place where the forward reads it */
    bool *saved;  /* per base: the backward pass reads it, and it could be dropped */
    bool *border; /* per base: another checkpoint segment reads it, or none made it */
    bool *keep;   /* per base: the set */
    uint64_t base_cost; /* of the graph as given */
} Remat;

/* A graph with its recomputations: the values of the old one, then the copies. Only the
 * fields that buffers_find and graph_copy_node read are set. */
typedef struct Sequence {
    Graph g;
    uint32_t n_copy; /* nodes that run a second time */
    uint64_t cost;   /* of all nodes */
    uint64_t peak;   /* bytes of activations */
    uint32_t at;     /* the node with the peak */
    uint32_t *place; /* per old node: where it stands, NO_ID: nowhere */
    Buffers buffers;
    uint32_t *order;
} Sequence;

/* The sequence of the present set; a: where it lives. */
void remat_sequence(const Remat *r, Arena *a, Sequence *s);
/* What it costs to make each base again while the set is as it is: itself and what it
 * needs that is not kept. out: per value. */
void remat_chain_costs(const Remat *r, Arena *a, uint64_t *out);

/* The cheapest set found whose peak is at most `budget`: in r->keep. false: *least is the
 * lowest peak that was met, and r->keep its set. */
bool remat_solve(Remat *r, uint64_t budget, const char **how, uint64_t *least);
/* What crosses the borders of segments, and what no segment made. */
void remat_keep_borders(Remat *r);
#endif
