/* Attribute structs of the rows: filled through the tables of ops/, read by kernels. */
#ifndef GRAPHRUN_ATTRS_H
#define GRAPHRUN_ATTRS_H
#include "graph/op.h"

typedef struct PointwiseAttrs {
    const char *f; /* formula over x0 ... x63 */
    DType dtype;   /* computes in (f32 for halves and integers) and yields */
} PointwiseAttrs;

typedef struct ReduceAttrs { /* sum mean std */
    IntList over;            /* axes, rising */
    bool keep;
} ReduceAttrs;

typedef struct ShapeAttrs { /* view broadcast reduce_to param */
    IntList shape;
} ShapeAttrs;

typedef struct CastAttrs {
    DType to;
} CastAttrs;

typedef struct AxisAttrs { /* concat */
    int64_t axis;
} AxisAttrs;

typedef struct SliceAttrs {
    int64_t axis, from, count;
} SliceAttrs;

typedef struct PadAttrs { /* zeros around x along axis */
    int64_t axis, before, after;
} PadAttrs;

typedef struct PartAttrs {
    int64_t index, of;
} PartAttrs;

typedef struct OrderAttrs { /* permute: output axis i is input axis order[i] */
    IntList order;
} OrderAttrs;

typedef struct ChunkAttrs { /* join_chunks: rows of 77 per sample */
    int64_t chunks;
} ChunkAttrs;

typedef struct RandomAttrs { /* draw normal uniform */
    int64_t from, below;
    IntList shape;
    bool batch; /* the first dimension counts samples */
    int64_t stream;
} RandomAttrs;

enum { EACH_ELEMENT, EACH_CHANNEL, EACH_MODULE };
typedef struct DropoutAttrs {
    double p;
    int32_t each;
    bool rescale, batch;
    int64_t stream;
} DropoutAttrs;

typedef struct IndexAttrs {
    int64_t n;
} IndexAttrs;

typedef struct ActiveAttrs { /* slices of `size` along `axis` */
    int64_t axis, size;
} ActiveAttrs;

typedef struct LikeAttrs {
    int64_t out;
    bool bias;
} LikeAttrs;

typedef struct CodesAttrs { /* encode decode */
    bool is_signed;
    int64_t block;
    IntList shape; /* of what decode gives */
} CodesAttrs;

typedef struct OctavesAttrs {
    double discount; /* strength of each next one */
} OctavesAttrs;

typedef struct UpdateAttrs {
    const char *f; /* statements "NAME = ...; ..." over p g lr and the states */
    /* their names, separated by spaces, in the order of the inputs */
    const char *states;
    int64_t axis, size; /* slices of `active`; axis -1: one slice */
} UpdateAttrs;
#endif
