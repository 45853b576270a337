/* `graphrun data`: what is found out about a data set, and how it is shown. */
#ifndef GRAPHRUN_CLI_DATA_H
#define GRAPHRUN_CLI_DATA_H
#include "cli/train/train_options.h"
#include "io/dataset_config.h"

typedef struct Drawn { /* one of the first draws of epoch 1 */
    int batch;
    View view;
    const char *caption; /* as it is trained */
    int tokens;          /* without BOS and EOS, before any is cut off */
    const int32_t *ids;  /* chunks × 77 */
} Drawn;

typedef struct BucketRow {
    int dataset, w, h, images, draws, batches;
} BucketRow;

typedef struct SubsetRow {
    int images, captions; /* captions: images that have one */
} SubsetRow;

typedef struct DataReport {
    Arena *arena;
    Dataset *d;
    const DataConfig *config;
    SubsetRow **subset; /* [dataset][subset] */
    BucketRow *bucket;
    int n_bucket;
    int *tokens;                   /* per sample: of its caption as written */
    int chunks, longest, too_long; /* captions with more than chunks × 75 tokens */
    Drawn *drawn;
    int n_drawn;
    const char **warning;
    int n_warning, cap_warning;
    int accumulate;
} DataReport;

/* cli/data/data_text.c */
void data_text(Str *s, const DataReport *r);
/* pictures: NULL, or a data: URI for each of the draws. */
void data_json(Str *s, const DataReport *r, const char *const *pictures);
/* cli/data/data_html.c: the contact sheet. */
bool data_html(Str *s, const DataReport *r, Err *e);
#endif
