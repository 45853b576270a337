/* A plan as one HTML page that needs nothing else: cli/inspect/inspect.html, embedded, with the
 * plan's JSON in it. The page draws and sorts by itself. */
#include "cli/html.h"
#include "cli/inspect/inspect.h"

void inspect_html(Str *s, Arena *a, const Plan *p, const StepTimes *times) {
    Str json = {0};
    inspect_json(&json, a, p, "", times);
    html_page(s, "cli/inspect/inspect.html", "@PLAN@", json.s);
    str_free(&json);
}
