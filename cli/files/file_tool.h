/* What the commands on model and LoRA files have in common. */
#ifndef GRAPHRUN_FILE_TOOL_H
#define GRAPHRUN_FILE_TOOL_H
#include "cli/files/adapter_file.h"
#include "cli/opt.h"
#include "runtime/lora_merge.h"

extern const char *const precision_words[]; /* float fp16 bf16 */
extern const char *const compat_words[];    /* sd-scripts */
extern const char *const dynamic_words[];   /* sv_ratio sv_fro sv_cumulative */
/* A rule by its word (NULL: the fixed ranks) and number. */
RankRule rank_rule(const char *method, double param, int64_t most, int64_t most_conv);
/* DType of a precision word; NULL: `absent`, which need not be a type (STORED_KEEP). */
int precision_of(const char *word, int absent);
/* Can a file of that name be written? NULL, or an ending that tells no format: misuse.
 * option: what the name is the value of. */
bool tool_output(const char *option, const char *path, Err *e);
/* A file, or a Diffusers folder by its name: one that is there, or without an ending, or with
 * a slash behind it. */
bool tool_output_model(const char *option, const char *path, bool *folder, Err *e);
/* A list of weights by block, as JSON. */
bool block_weights(Arena *a, const char *text, const double **weight, int *n, Err *e);
/* The device that plans run on: "cpu" or NULL, or "cuda"; NULL with the reason if it is not
 * there, never another device. For device_close. */
Device *step_device(const Common *c, const char *name, Err *e);
/* The same for what is no plan: a GPU is refused. */
Device *tool_device(const Common *c, const char *name, Err *e);

/* Sums of the squares of two tensors of one shape and of their difference, in f64, in the
 * order of the elements. One of both may be NULL, and counts as zeros. */
typedef struct TensorSquares {
    double a, b, difference;
} TensorSquares;
TensorSquares tensor_squares(const TensorEntry *a, const TensorEntry *b);
/* Tells of numbers that fp16 cannot hold, if there are any. */
void tool_tell_overflow(int64_t numbers);
/* Tells that the model, written as one file, leaves behind a tokenizer that is not CLIP's: such
 * a file alone cannot be read again. */
void tool_tell_tokenizer(const Checkpoint *c, const char *file);

/* ---- inputs of a merge ---- */
typedef struct MergeFiles {
    MergeInput *in;
    AdapterFile **adapter; /* of the files that are no plain LoRAs; else NULL */
    int n;
} MergeFiles;
typedef struct MergeWords { /* of the command line */
    WordList models, ratios, lbws;
    WordList
        adapter;  /* graph file of each; one for all; "auto" or none: told by keys */
    WordList set; /* arguments of adapters */
} MergeWords;
/* Opens every model; ratios and block weight lists (JSON) must be as many as they, or
 * none. own: adapters with tensors of their own are taken too. */
bool merge_files_open(Arena *a, const MergeWords *w, bool own, MergeFiles *out, Err *e);
void merge_files_close(MergeFiles *f);

/* ---- metadata ---- */
typedef struct MetaList {
    Arena *arena;
    Meta *item;
    int n, cap;
} MetaList;
void meta_put(MetaList *m, const char *key, const char *value); /* replaces */
const char *meta_get(const MetaList *m, const char *key);       /* NULL: none */
void meta_copy(MetaList *m, const LoraFile *f);                 /* all of the file's */
/* 4.0 as "4.0", 0.25 as "0.25" */
const char *meta_float(Arena *a, double x);
const char *meta_base_name(Arena *a,
                           const char *path); /* without folder and extension */

/* ss_v2 and ss_base_model_version of the first file that has each. */
void meta_origin(MetaList *m, const MergeFiles *f);
/* ss_network_module, _dim, _alpha: what is common to all modules, else "Dynamic". */
void meta_network(MetaList *m, const LoraSet *s);

typedef struct ModelSpec { /* modelspec.*, version 1.0.1 */
    const char *save_to;
    bool lora, v2, v_prediction;
    const char *merged_from; /* or NULL, as the following */
    const char *title;       /* NULL: the name of save_to */
    const char *resolution;  /* NULL: the family's */
    const char *author, *description, *license, *tags;
} ModelSpec;
void meta_modelspec(MetaList *m, const ModelSpec *s);
/* Titles of the files that were merged, the model (or NULL) first: modelspec.title, else
 * the file's name. */
const char *meta_merged_from(Arena *a, const char *model, const MergeFiles *f);

/* ---- what was kept ---- */
/* The energy each module kept, in total and where least; with verbose or as JSON every
 * module. JSON goes to stdout, with `file`. */
void tool_report_energy(const Common *c, const LoraSet *s, const char *file);
#endif
