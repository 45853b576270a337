/* What `info` says of a file; LoRAs and other adapters have files of their own. */
#ifndef GRAPHRUN_INFO_H
#define GRAPHRUN_INFO_H
#include "cli/opt.h"
#include "io/lora_read.h"

void info_meta(Str *s, const TensorFile *f); /* without the hashes */
void info_meta_json(Str *s, const TensorFile *f);
/* Prints modules by block, ranks, alphas, scales, norms, a bar chart, hashes. */
bool info_lora(const Common *c, const LoraFile *f, Err *e);
typedef struct InfoAdapter {
    const char *adapter; /* its graph file; NULL: told by the keys */
    const char *base; /* a model: norms of what changes there; NULL: of the tensors */
} InfoAdapter;
/* The same for an adapter that is no plain LoRA. Takes f over. */
bool info_adapter(const Common *c, TensorFile *f, const InfoAdapter *o, Err *e);

/* ---- rows of a table by block ---- */
enum { INFO_TEXT = LORA_BLOCKS, INFO_OTHER, INFO_ROWS };
int info_row(const char *module); /* of a kohya name */
int info_row_at(int i);           /* the row that is shown as the i-th */
const char *info_row_name(Arena *a, int row);
void info_range(Str *s, double low, double high, int width); /* "4", "2-8" */
void info_bar(Str *s, double norm, double largest);

/* ---- hashes of what is in the file, against what it says of itself ---- */
typedef struct InfoHashes {
    const char *model_said, *legacy_said; /* NULL: not in the file */
    char model[65], legacy[9];
} InfoHashes;
bool info_hashes(const TensorFile *f, InfoHashes *h, Err *e);
void info_hashes_text(Str *s, const InfoHashes *h);
void info_hashes_json(Str *s, const InfoHashes *h);
#endif
