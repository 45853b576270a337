/* Kinds of files that `diff` compares: a row in cli/files/diff.c each. */
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

/* ---- what comparisons have in common (cli/files/diff_pairs.c) ---- */
bool diff_same_bytes(const TensorEntry *x, const TensorEntry *y);

typedef struct DiffPair { /* what one name stands for in both files */
    const char *name;
    int a, b;                        /* places in the lists; -1: not there */
    bool equal;                      /* every byte */
    double norm_a, norm_b, relative; /* |A - B| / |A|; infinite where A is 0 */
} DiffPair;
typedef struct DiffPairs {
    Arena *arena;
    const TensorFile *a, *b;
    DiffPair *item;
    int n, equal, only_a, only_b;
    double square, square_a; /* of the whole difference, and of A */
} DiffPairs;
/* Pairs of two lists, both sorted by name; p has its arena. Nothing is compared yet. */
typedef const char *DiffName(const void *list, int i);
void diff_match(DiffPairs *p, DiffName *name, const void *a, int n_a, const void *b,
                int n_b);
/* Fills in a pair, whose `equal` is set, from squares of lengths: of the difference, A, B. */
void diff_count(DiffPairs *all, DiffPair *p, double square, double square_a,
                double square_b);
double diff_whole(const DiffPairs *p); /* |A - B| / |A| of everything */
/* "only in A, norm 2" or "differs by 0.1, norms 2 and 2.1" */
void diff_pair_text(Str *s, const DiffPair *p);

/* How a comparison is told. As JSON {"kind", "a", "b", ["equal",] "only_a", "only_b",
 * "relative", LIST: [{"name", ["equal",] sides, "relative"}], "metadata"}. */
typedef struct DiffForm {
    const char *kind, *list;
    bool equal; /* JSON says which are */
    void (*sides)(Str *s, const void *ctx,
                  const DiffPair *p);      /* JSON: , "a": .., "b": .. */
    void (*head)(Str *s, const void *ctx); /* the first lines */
    void (*pair)(Str *s, const void *ctx, const DiffPair *p); /* a line, or nothing */
} DiffForm;
void diff_show(const Common *c, const DiffForm *f, const DiffPairs *p, const void *ctx);
#endif
