/* TOML files as a tree with the place of every key and value (toml++ inside). */
#ifndef GRAPHRUN_TOML_H
#define GRAPHRUN_TOML_H
#ifdef __cplusplus
extern "C" {
#endif
#include "graph/base/base.h"

typedef enum TomlKind {
    TOML_TEXT,
    TOML_INT,
    TOML_FLOAT,
    TOML_BOOL,
    TOML_DATE,
    TOML_ARRAY,
    TOML_TABLE
} TomlKind;

typedef struct Toml Toml;
struct Toml {
    TomlKind kind;
    Loc loc;         /* of the value */
    const char *key; /* of a table's entry, else NULL */
    Loc key_loc;
    const char *text; /* TOML_TEXT: UTF-8 without NUL */
    int64_t i;        /* TOML_INT */
    double x;         /* TOML_FLOAT, and TOML_INT as well */
    bool b;           /* TOML_BOOL */
    Toml *item;       /* TOML_ARRAY in order; TOML_TABLE in the order of the file */
    int n;
};

/* The top table, in a. Faults of the text are located (err_at). At most 1 MiB. */
const Toml *toml_read(Arena *a, const char *path, Err *e);
const Toml *toml_parse(Arena *a, const Source *src, Err *e);
const Toml *toml_get(const Toml *table, const char *key); /* or NULL */
const char *toml_kind_name(TomlKind kind);                /* "an integer" */

#ifdef __cplusplus
}
#endif
#endif
