/* Embedded pages with data in them: one HTML file that needs nothing else. */
#ifndef GRAPHRUN_HTML_H
#define GRAPHRUN_HTML_H
#include "graph/lang/doc.h"

/* NULL: there is none of this path. */
const EmbeddedFile *embedded_find(const char *path);
/* The embedded page ("cli/inspect/inspect.html") with `json` where it says `mark`. */
void html_page(Str *s, const char *page, const char *mark, const char *json);
#endif
