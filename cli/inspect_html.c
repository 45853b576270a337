/* A plan as one HTML page that needs nothing else: cli/inspect.html, embedded, with the
 * plan's JSON in it. The page draws and sorts by itself. */
#define _GNU_SOURCE /* memmem */
#include <string.h>

#include "cli/inspect.h"
#include "graph/doc.h"

static const EmbeddedFile *page(void) {
    const EmbeddedFile *f = embedded_files;
    while (f->path && strcmp(f->path, "cli/inspect.html")) f++;
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

void inspect_html(Str *s, Arena *a, const Plan *p, const StepTimes *times) {
    static const char mark[] = "@PLAN@";
    const EmbeddedFile *f = page();
    if (!f) return;
    const char *text = (const char *)f->data,
               *at = memmem(text, f->len, mark, strlen(mark));
    if (!at) return;
    Str json = {0};
    inspect_json(&json, a, p, times);
    str_addn(s, text, (size_t)(at - text));
    add_json(s, json.s);
    at += strlen(mark);
    str_addn(s, at, (size_t)(text + f->len - at));
    str_free(&json);
}
