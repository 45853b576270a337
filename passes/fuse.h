/* What the patterns of fusion share (passes/fuse.c): the walk from an old graph to a new
 * one, how often and for how long values of the old one are read, and the reasons why a
 * pattern left a place alone. */
#ifndef GRAPHRUN_PASSES_FUSE_H
#define GRAPHRUN_PASSES_FUSE_H
#include "ops/formula.h"
#include "ops/ops.h"
#include "passes/private.h"

typedef enum FuseReason {
    FUSE_NONE,
    FUSE_MULTI_USE,     /* somebody else reads the value too */
    FUSE_SAVED_FOR_BWD, /* the backward reads it, and would keep more alive without it */
    FUSE_CYCLE,         /* a path outside leads from one to the other */
    FUSE_LAYOUT,        /* the elements do not lie alike */
    FUSE_DTYPE,         /* a rounding would be lost, or it computes in another type */
    FUSE_SHAPE_LIMIT,   /* too many inputs, or a formula that is too long */
    FUSE_NO_KERNEL,     /* no kernel takes the result */
    FUSE_COST,          /* it would move or keep more bytes */
    FUSE_DISABLED,      /* by an option */
    FUSE_BOUNDARY,      /* one is recomputed, the other is not */
    FUSE_GRAPH_OUTPUT,  /* the value is an output, or a parameter's start */
    FUSE_REASONS
} FuseReason;

/* A place that nearly fitted. */
typedef struct FuseMiss {
    const char *pattern;
    const Node *anchor;
    Id value;
    FuseReason why;
    uint32_t n_reader; /* of the value */
    uint32_t n_more;   /* places of the same line, reason and kind */
} FuseMiss;
typedef struct FuseMisses {
    const Graph *g; /* what the rest refers to */
    FuseMiss *item;
    uint32_t n, cap;
} FuseMisses;

typedef struct Fuse {
    const Graph *old;
    Graph *g;
    Id *map;  /* old value -> new value; NO_ID: not (or no longer) there */
    Id *from; /* new value -> old value; a view made here: what it views */
    uint32_t cap_from;
    uint32_t *n_reader; /* per old value: nodes that read it */
    uint32_t **reader;  /* per old value: these nodes, rising */
    uint32_t *place;    /* per old node: how many needed ones stand before it */
    uint32_t *last; /* per old value: place of the last that reads it or a view of it */
    bool *backward; /* per old value: a node of the backward reads it or a view of it */
    Id *base;       /* per old value: what it views, at the end of the chain */
    bool *pinned;   /* per old value: an output or a parameter needs it */
    Id *group;      /* per old node: the norm that takes it in, or NO_ID */
    uint32_t *fired;     /* per pattern */
    bool skip_roundings; /* mixed precision: a half in between need not be stored */
    FuseMisses *missed;  /* of this round, or NULL */
    const Options *opt;
    Err *e;
} Fuse;

/* What a pattern did at a node. */
typedef enum Fused {
    FUSED_NO,     /* nothing: copy the node, or try the next pattern */
    FUSED_YES,    /* the outputs of the node are in the map */
    FUSED_INSIDE, /* the node belongs to a group whose leader was counted */
    FUSED_BEFORE, /* something was put before the node; the next pattern may have it */
    FUSED_FAILED  /* e is set */
} Fused;

typedef struct FusePattern {
    const char *name, *doc;
    Fused (*at)(Fuse *f, const Node *n);
} FusePattern;

/* The node of the old graph that makes v, if its row is op; or NULL. */
const Node *fuse_maker(const Fuse *f, Id v, const Op *op);
/* A near miss: `n` could have taken in value v but for `why`. */
void fuse_miss(Fuse *f, const char *pattern, const Node *n, Id v, FuseReason why);
/* The new value `to` stands for output o of the old node n. */
void fuse_stands(Fuse *f, const Node *n, int o, Id to);
/* A new node's values carry over to old ones through this. */
void fuse_note_from(Fuse *f, Id made, Id old);
Id fuse_from(const Fuse *f, Id made);

Fused fuse_again(Fuse *f, const Node *n);
/* Would the inputs of `made` (which stands for `producer`), read at n instead, keep more
 * alive than the producer's value does? */
bool fuse_keeps_more(const Fuse *f, const Node *producer, const Node *made,
                     const Node *n);
/* Is the node a formula "x0 * NUMBER"? */
bool fuse_constant_factor(const Node *n);

Fused fuse_pads(Fuse *f, const Node *n);
Fused fuse_scale(Fuse *f, const Node *n);
Fused fuse_norm(Fuse *f, const Node *n);
Fused fuse_sum(Fuse *f, const Node *n);
Fused fuse_merge(Fuse *f, const Node *n);
#endif
