/* An adapter on one layer that stands alone: for eval, and for merging what no two factors
 * can say. */
#ifndef GRAPHRUN_ADAPTED_NODE_H
#define GRAPHRUN_ADAPTED_NODE_H
#include "cli/job/job.h"

typedef struct AdaptedNode {
    Arena *arena;
    Library *library;
    const Doc *adapter;
    const Args *args; /* of the adapter */
    Type weight;      /* as in a checkpoint: [out,in] or [out,in,k,k] */
    Type bias;        /* [out]; rank 0: the layer has none */
    bool
        points; /* a weight [out,in,1,1] is a linear layer's, as those of U-Net and VAE are */
    int64_t stride, pad; /* of a convolution */
    bool training;
    /* results */
    Net net;
    Modules modules; /* one */
    Graph *graph; /* input "x" ([B,N,C] or [B,H,W,C]), parameters "node.node.weight" and
                     ".bias", output "y" */
} AdaptedNode;

bool adapted_node_is_conv(const AdaptedNode *n);
/* dims: B, C and N, or H and W. The module's kohya name is "node". */
bool adapted_node_build(AdaptedNode *n, const Args *dims, Str *note, Err *e);

/* ---- asking a bound node what it answers ---- */
/* Samples of one output position: [row] numbers each, a linear layer's input or the window
 * of a convolution, as the node's input "x" has them. */
typedef struct NodeAsk {
    Exec *exec;
    int64_t samples, row, out;
    float *x, *y; /* [samples, row], [samples, out] */
} NodeAsk;
NodeAsk node_ask_new(Arena *a, Exec *x, const Type *weight, int64_t samples);
bool node_ask(NodeAsk *q, Err *e);
/* Is it affine, f(a + b) = f(a) + f(b) - f(0), for a few a and b? *off: the largest
 * difference, *size: of the outputs; zero: f(0). Wants 13 samples or more. */
bool node_affine(NodeAsk *q, float *zero, double *off, double *size, Err *e);
/* Within what f32 sums can hold: a square is off by its whole. */
static inline bool node_is_affine(double off, double size) {
    return off <= 1e-4 * size;
}
#endif
