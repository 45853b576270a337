/* Option tables: one row is parser, help, completion and man page at once. */
#ifndef GRAPHRUN_OPT_H
#define GRAPHRUN_OPT_H
#include "graph/expr.h"

typedef enum OptKind { OPT_FLAG, OPT_INT, OPT_FLOAT, OPT_TEXT, OPT_LIST } OptKind;
typedef struct WordList { const char **word; int n; } WordList;
typedef struct Opt {
    const char *name;      /* sd-scripts' name, with _ ; - and _ are equal */
    OptKind kind;
    size_t offset;         /* into the command's struct: bool, int64_t, double, const char *, WordList */
    const char *value;     /* "N", "FILE" … for help; NULL for flags */
    const char *help;
    const char *ignored;   /* not NULL: accepted, has no effect; the reason, logged once */
    const char *refused;   /* not NULL: an error; what to use instead */
    const char *const *words; /* allowed values, NULL-terminated, or NULL */
} Opt;
#define OPT(T, kind, field, value, help) { #field, OPT_##kind, offsetof(T, field), value, help, 0, 0, 0 }

typedef struct Common { /* every command has these */
    int64_t threads;
    bool quiet, verbose, json, help;
} Common;

typedef struct Command {
    const char *name;
    const char *args;   /* "[RECIPE]" for the usage line */
    const char *doc;    /* one sentence */
    const Opt *options; /* ends with name NULL */
    size_t size;        /* of the options' struct */
    const void *defaults;
    int min_words, max_words; /* positional words; max -1: any */
    /* opts: filled struct; given: names of options that were on the command line; words:
     * positional. Returns the exit code; failures in e. */
    int (*run)(const Common *c, const void *opts, const Args *given, const WordList *words, Err *e);
} Command;
extern const Command *const commands[]; /* NULL-terminated */
#endif
