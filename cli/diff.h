/* Kinds of files that `diff` compares: a row in cli/diff.c each. */
#ifndef GRAPHRUN_DIFF_H
#define GRAPHRUN_DIFF_H
#include "cli/opt.h"

typedef struct DiffKind {
    const char *what; /* "a LoRA file" */
    bool (*is)(const char *path);
    bool (*diff)(const Common *c, const char *a, const char *b, Err *e);
} DiffKind;

bool diff_is_lora(const char *path);
bool diff_lora(const Common *c, const char *a, const char *b, Err *e);
bool diff_is_plan(const char *path);
bool diff_plan(const Common *c, const char *a, const char *b, Err *e);
#endif
