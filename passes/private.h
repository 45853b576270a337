/* What the files of passes/ share: the passes' functions, and questions about a graph that
 * more than one of them asks. */
#ifndef GRAPHRUN_PASSES_PRIVATE_H
#define GRAPHRUN_PASSES_PRIVATE_H
#include "passes/passes.h"

Graph *pass_build(Graph *g, Options *opt, Err *e);
Graph *pass_infer_shapes(Graph *g, Options *opt, Err *e);
Graph *pass_bind_weights(Graph *g, Options *opt, Err *e);
Graph *pass_inject_adapters(Graph *g, Options *opt, Err *e);
Graph *pass_mixed_precision(Graph *g, Options *opt, Err *e);
Graph *pass_simplify(Graph *g, Options *opt, Err *e);
Graph *pass_differentiate(Graph *g, Options *opt, Err *e);
Graph *pass_dce(Graph *g, Options *opt, Err *e);
Graph *pass_optimizer(Graph *g, Options *opt, Err *e);
Graph *pass_fuse(Graph *g, Options *opt, Err *e);
Graph *pass_schedule(Graph *g, Options *opt, Err *e);
Graph *pass_checkpoint(Graph *g, Options *opt, Err *e);
Graph *pass_group(Graph *g, Options *opt, Err *e);
Graph *pass_group_updates(Graph *g, Options *opt, Err *e);

/* A line of the report: "pass: what". */
void report(const Graph *g, const char *fmt, ...) PRINTF(2, 3);
bool pass_disabled(const Options *opt, const char *name);
/* "3.1 MiB" */
const char *bytes_text(Arena *a, uint64_t bytes);

/* ---- activity: what a gradient can reach (passes/activity.c) ---- */
typedef struct Activity {
    Id *from; /* per value: a trainable that it depends on (the first found), or NO_ID */
    bool *to; /* per value: the loss depends on it */
    Id loss;
} Activity;
/* The loss is the output "loss", an f32 scalar; anything else is an error. */
bool activity_find(Arena *a, const Graph *g, Activity *out, Err *e);
/* `to` marks values; marks every value that a gradient of theirs flows to as well. */
void gradient_reach(const Graph *g, bool *to);
/* Does a gradient flow through input i of the node? */
bool differentiable(const Graph *g, const Node *n, int i);
/* A trainable at a rate of 0 does not: it is kept as it is. */
bool learns(const Value *v);
static inline bool active(const Activity *y, Id v) {
    return y->from[v] != NO_ID && y->to[v];
}

/* ---- the loss scale of fp16 (passes/loss_scale.c) ---- */
bool scales_loss(const Options *opt);
/* The state "loss_scale", f32[]: made by differentiate, the gradient of the loss. */
Id loss_scale_new(Graph *g);
Id loss_scale_of(const Graph *g); /* NO_ID: the gradients are not scaled */
/* Nodes that give it its next value. update: 1 in a micro-batch that updates, or NO_ID. */
bool loss_scale_next(Graph *g, Id loss, Id norm, Id update, Err *e);

/* ---- behind the updates ---- */
/* Per value: what stands in its place after the nodes so far, the result of the last one
 * that wrote over it. */
Id *values_now(const Graph *g);
/* No module's norm stays above `most` where ok is not 0 (passes/norms.c). */
bool limit_norms(Graph *g, const Modules *m, double most, Id ok, Err *e);

/* ---- liveness ---- */
/* Per node: outputs or effects of the graph need it. with_init: or a parameter's start. */
bool *nodes_needed(Arena *a, const Graph *g, bool with_init);

/* ---- memory of activations (passes/in_place.c, passes/plan_memory.c) ---- */
typedef struct Buffer {
    uint32_t first, last; /* places in the order, both included */
    uint64_t bytes;       /* rounded up to 64 */
    uint64_t offset;
    Id root; /* the value that was first in it */
} Buffer;
typedef struct Buffers {
    Buffer *item;
    uint32_t n;
    uint32_t *of;        /* per value: index into item, NO_ID: not in this memory */
    Id *base;            /* per value: whose memory it is (itself, or what it views) */
    uint32_t n_in_place; /* outputs that were written over an input */
} Buffers;
enum { MEMORY_ALIGN = 64 };
/* The buffers of nodes run in this order (indices of nodes, n_order of them): views share
 * with their source, outputs of the graph live to the end, and with `in_place` an output
 * may take over the buffer of an input that dies there. */
Buffers buffers_find(Arena *a, const Graph *g, const uint32_t *order, uint32_t n_order,
                     bool in_place);
/* The largest sum of live bytes: no plan needs less. */
uint64_t buffers_peak(const Buffers *b, uint32_t n_order);
/* Gives every buffer an offset; returns the bytes that they need together. */
uint64_t buffers_place(Buffers *b, uint64_t lower_bound);
/* Nodes that run in a step, in graph order: needed ones, views among them. */
uint32_t *nodes_run(Arena *a, const Graph *g, uint32_t *n);
/* The kernel that lower takes, of the options' device; NULL: none fits. */
const Kernel *kernel_choose(const Sig *s, const Options *opt);
#endif
