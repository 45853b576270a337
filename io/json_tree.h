/* JSON as the tree of io/toml.h, with the place of every key and value: dataset and
 * metadata files. An entry that is null is as good as absent: it is not in the tree. */
#ifndef GRAPHRUN_JSON_TREE_H
#define GRAPHRUN_JSON_TREE_H
#include "io/toml.h"

enum { JSON_TREE_BYTES_MAX = 1 << 28, JSON_TREE_DEPTH_MAX = 64 };

/* The value that the text is; NULL with a located failure (err_at): not JSON, not UTF-8,
 * a name twice in an object, values deeper than JSON_TREE_DEPTH_MAX. */
const Toml *json_tree(Arena *a, const Source *src, Err *e);
/* A text of values, one a line (JSON lines), as a list. */
const Toml *json_lines(Arena *a, const Source *src, Err *e);
#endif
