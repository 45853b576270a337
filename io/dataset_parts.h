/* What the parts of a Dataset know of each other. */
#ifndef GRAPHRUN_DATASET_PARTS_H
#define GRAPHRUN_DATASET_PARTS_H
#include "io/dataset_config.h"

enum { DRAWS_MAX = 100000000 }; /* images with repeats of one kind */

typedef struct SubsetInfo { /* beside a SubsetConfig: what its folder held */
    const char **caption;   /* of every readable image */
    int n;
} SubsetInfo;

typedef struct Slice { /* one batch: draws from .. from + n - 1, of one bucket */
    int from, n;
} Slice;
typedef struct
    Run { /* the draws of one bucket of one dataset, which are shuffled together */
    int from, n;
} Run;

typedef struct Order { /* batches.c */
    const int *plan; /* every image as often as it is repeated, by dataset and bucket */
    int *draw;       /* the same, shuffled for `epoch` */
    int n;
    Run *run;
    Slice *slice; /* cut from the runs; shuffled order in turn[] */
    int *turn;
    int n_run, n_slice;
    int epoch; /* 0: not shuffled yet */
} Order;

typedef struct Parts { /* Dataset.priv */
    DataConfig config;
    SubsetInfo **info; /* [dataset][subset] */
    const int *mirror; /* sample -> its mirrored one, or -1 */
    Order order;
    uint64_t seed;
    double prior_loss_weight;
    int accumulate; /* micro-batches per update */
    int64_t max_steps;
} Parts;

/* Makes parts->order from the samples; sets batches_per_epoch. */
bool order_make(Dataset *d, Err *e);
/* Fills metadata_dirs_json, metadata_reg_dirs_json, tag_frequency_json. */
void metadata_make(Dataset *d);
#endif
