/* Kinds of files that `diff` compares: a row in cli/diff.c each. */
#ifndef GRAPHRUN_DIFF_H
#define GRAPHRUN_DIFF_H
#include "cli/opt.h"
#include "io/tensors.h"

typedef struct DiffFiles {
    const char *a, *b;
    const char *adapter; /* graph file of both; NULL: told by the keys */
    const char *base;    /* a model: adapters are compared by what they change there */
} DiffFiles;
typedef struct DiffKind {
    const char *what; /* "a LoRA file" */
    bool (*is)(const char *path);
    bool (*diff)(const Common *c, const DiffFiles *f, Err *e);
} DiffKind;

bool diff_is_lora(const char *path); /* a plain one */
bool diff_lora(const Common *c, const DiffFiles *f, Err *e);
bool diff_is_plan(const char *path);
bool diff_plan(const Common *c, const DiffFiles *f, Err *e);
bool diff_is_tensors(const char *path);
bool diff_tensors(const Common *c, const DiffFiles *f, Err *e);
bool diff_adapters(const Common *c, const DiffFiles *f, Err *e); /* wants f->base */

/* ---- what comparisons have in common ---- */
bool diff_same_bytes(const TensorEntry *x, const TensorEntry *y);
/* sqrt(square / of), 0 for equal ones, infinite where `of` is 0 */
double diff_relative(double square, double of);
void diff_ratio(Str *s, double x); /* JSON: null where it is not finite */
/* Metadata whose values differ. */
void diff_meta_text(Str *s, const TensorFile *a, const TensorFile *b);
void diff_meta_json(Str *s, const TensorFile *a, const TensorFile *b);
#endif
