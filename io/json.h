/* JSON files by jansson, with places in messages. Duplicate keys are refused. */
#ifndef GRAPHRUN_JSON_H
#define GRAPHRUN_JSON_H
#include <jansson.h>

#include "graph/base/base.h"

/* Reads and parses a file (at most 16 MiB) whose top level is an object. The text lives in
 * a; the tree is the caller's (json_decref). A missing file: err_fail; bad text: err_at. */
json_t *json_read(Arena *a, const char *path, const Source **text, Err *e);
/* The text of a JSON value, in a. */
const char *json_text(Arena *a, const json_t *value);
#endif
