/* Embedded pages with data in them. */
#define _GNU_SOURCE /* memmem */
#include "cli/html.h"

#include <string.h>

const EmbeddedFile *embedded_find(const char *path) {
    const EmbeddedFile *f = embedded_files;
    while (f->path && strcmp(f->path, path)) f++;
    return f->path ? f : NULL;
}

/* JSON inside a script element: '<' only stands in strings there, and must not close it. */
static void add_json(Str *s, const char *json) {
    while (*json) {
        size_t n = strcspn(json, "<");
        str_addn(s, json, n);
        json += n;
        if (!*json) break;
        str_add(s, "\\u003c");
        json++;
    }
}

void html_page(Str *s, const char *page, const char *mark, const char *json) {
    const EmbeddedFile *f = embedded_find(page);
    if (!f) return;
    const char *text = (const char *)f->data,
               *at = memmem(text, f->len, mark, strlen(mark));
    if (!at) return;
    str_addn(s, text, (size_t)(at - text));
    add_json(s, json);
    at += strlen(mark);
    str_addn(s, at, (size_t)(text + f->len - at));
}
