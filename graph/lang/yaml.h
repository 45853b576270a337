/* YAML documents as trees with a place on every node, built from libyaml events.
 * Anchors, aliases, tags, several documents, duplicate keys: located errors.
 * Limits (each an error of its own): file 1 MiB, depth 64. */
#ifndef GRAPHRUN_YAML_H
#define GRAPHRUN_YAML_H
#include "graph/base/base.h"

typedef enum YKind { Y_SCALAR, Y_LIST, Y_MAP } YKind;
typedef struct YNode YNode;
struct YNode {
    YKind kind;
    Loc loc;       /* the first character; len: of the scalar's text in the file */
    size_t at;     /* byte offset of that character in the source */
    const char *s; /* SCALAR: its text */
    bool quoted;   /* SCALAR: was quoted (then it is never a number) */
    bool block;    /* SCALAR: literal or folded block: offsets do not map to columns */
    int n;         /* LIST, MAP: entries */
    YNode **item;  /* LIST: items; MAP: values */
    YNode **key;   /* MAP: keys, scalars */
};
/* Text to tree; src must outlive the tree. */
YNode *yaml_parse(Arena *a, const Source *src, Err *e);
/* Reads a file (size limit 1 MiB) into a Source. Missing file: err_usage. */
Source *source_read(Arena *a, const char *path, Err *e);
Source *source_text(Arena *a, const char *path, const char *text, size_t len);
YNode *yaml_get(const YNode *map, const char *key); /* NULL: absent */
YNode *yaml_key(const YNode *map, const char *key); /* the key node, for places */
/* A walk over the places of a scalar's text; yaml_place_at never goes back. */
typedef struct YPlace {
    const YNode *node;
    Loc loc;
    size_t offset, byte; /* in the scalar's text, in the source */
    bool folded;         /* behind a line break that became a space */
    bool lost; /* the text is not what stands in the source: the scalar's place */
} YPlace;
YPlace yaml_place(const YNode *scalar);
Loc yaml_place_at(YPlace *p, size_t offset, size_t len);
/* The place of byte `offset` inside a scalar's text. */
Loc yaml_offset(const YNode *scalar, size_t offset, size_t len);
#endif
