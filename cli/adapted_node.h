/* An adapter on one layer that stands alone: for eval, and for merging what no two factors
 * can say. */
#ifndef GRAPHRUN_ADAPTED_NODE_H
#define GRAPHRUN_ADAPTED_NODE_H
#include "cli/job.h"

typedef struct AdaptedNode {
    Arena *arena;
    Library *library;
    const Doc *adapter;
    const Args *args;    /* of the adapter */
    Type weight;         /* as in a checkpoint: [out,in] or [out,in,k,k] */
    Type bias;           /* [out]; rank 0: the layer has none */
    int64_t stride, pad; /* of a convolution */
    bool training;
    /* results */
    Net net;
    Modules modules; /* one */
    Graph *graph; /* input "x" ([B,N,C] or [B,H,W,C]), parameters "node.node.weight" and
                     ".bias", output "y" */
} AdaptedNode;

/* dims: B, C and N, or H and W. The module's kohya name is "node". */
bool adapted_node_build(AdaptedNode *n, const Args *dims, Str *note, Err *e);
#endif
