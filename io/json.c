/* JSON files: configs and indices of models. */
#include "io/json.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

enum { MOST_BYTES = 16 << 20 };

json_t *json_read(Arena *a, const char *path, const Source **text, Err *e) {
    const Source *src = file_source(a, path, MOST_BYTES, "a JSON file", e);
    if (!src) return NULL;
    json_error_t why;
    json_t *root = json_loadb(src->text, src->len, JSON_REJECT_DUPLICATES, &why);
    if (!root) {
        Loc at = {src, why.line > 0 ? (uint32_t)why.line : 1,
                  why.column > 0 ? (uint32_t)why.column : 1, 0};
        err_at(e, at, "not valid JSON: %s", why.text);
    } else if (!json_is_object(root)) {
        err_at(e, (Loc){src, 1, 1, 0},
               "the top level of a JSON file must be an object");
        json_decref(root);
        root = NULL;
    }
    if (text) *text = src;
    return root;
}

const char *json_text(Arena *a, const json_t *value) {
    char *s = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    const char *out = arena_strdup(a, s ? s : "");
    free(s);
    return out;
}
