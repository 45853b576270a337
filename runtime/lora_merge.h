/* Merging LoRAs with each other, and into the weights of a model. */
#ifndef GRAPHRUN_LORA_MERGE_H
#define GRAPHRUN_LORA_MERGE_H
#include "runtime/lora_set.h"
#include "runtime/model_adapter.h"

typedef struct MergeInput {
    const LoraFile *file;        /* NULL: `adapter`, into a model only */
    const ModelAdapter *adapter; /* NULL: `file` */
    double ratio;
    const double *weight; /* by block, n_weight of them (lora_blocks.h), or NULL */
    int n_weight;
} MergeInput;
/* ratio times the block's weight */
double merge_ratio(const MergeInput *in, const char *module);
const TensorFile *merge_tensors(const MergeInput *in); /* the file itself */
/* LoRA files of one model? Else an error that lists what does not fit. */
bool merge_fits(const MergeInput *in, int n, Err *e);

typedef struct MergeOptions {
    DType precision; /* of the arithmetic */
    bool original;   /* sd-scripts': sums of factors, ratios squared */
    bool concat;     /* only there: factors side by side, but alpha of the first */
    bool shuffle;    /* the rank axis in random order */
} MergeOptions;

/* LoRA + LoRA: the exact weighted sum of ratio * alpha / rank * up down, by factors side by
 * side: rank and alpha of the result are the sum of the ranks. The scale of each part goes
 * to both of its factors in equal shares. Modules that do not fit: an error. */
bool lora_merge(const MergeInput *in, int n, const MergeOptions *o, Device *dev,
                LoraSet **out, Err *e);

typedef struct RankRule {
    enum { RANK_FIXED, RANK_RATIO, RANK_FRO, RANK_CUMULATIVE } how;
    double limit;            /* of the dynamic rules */
    int64_t most, most_conv; /* rank of linear and 1x1 layers, of other convolutions */
} RankRule;
typedef struct SvdOptions {
    RankRule rank;
    DType precision;
    bool
        original; /* sd-scripts': all of s in `up`, full rank even where there is none */
    double clamp; /* quantile that entries are clamped to; 1: not at all */
} SvdOptions;

/* ||s[0..r]|| etc.: the rank a rule asks for, at least 1, at most `most`. energy and sum:
 * of the squares and of all singular values. */
int64_t rank_choose(const RankRule *r, const double *s, int64_t n, double energy,
                    double sum, int64_t most);
/* How many triples are needed to choose from. */
static inline int64_t rank_most(const RankRule *r, const Type *down) {
    const bool conv = down->rank == 4 && down->dim[2] * down->dim[3] > 1;
    return conv ? r->most_conv : r->most;
}
/* Triples of the sum over j of x[j] y[j]^T (r vectors of length m, n; destroyed), as many
 * as the options can want. */
bool svd_of_factors(Arena *a, Device *dev, double *x, double *y, int64_t m, int64_t n,
                    int64_t r, const Type *like, const SvdOptions *o, Svd *out, Err *e);
/* Factors of an item (name and arena are set) from singular triples: rank as chosen, alpha
 * equal to it, energy and kept filled. like: form of `down` (lora_item_shape). */
bool lora_from_svd(LoraItem *m, Svd *s, const Type *like, double sum,
                   const SvdOptions *o, Err *e);

/* The weighted sum, cut to a rank by SVD. */
bool lora_svd_merge(const MergeInput *in, int n, const SvdOptions *o, Device *dev,
                    LoraSet **out, Err *e);
#endif
