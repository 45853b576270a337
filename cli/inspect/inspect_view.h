/* What the text views of a plan share (cli/inspect/inspect_text.c, cli/inspect/inspect_reasons.c). */
#ifndef GRAPHRUN_INSPECT_VIEW_H
#define GRAPHRUN_INSPECT_VIEW_H
#include "cli/inspect/inspect.h"

typedef struct View {
    Str *s;
    Arena *a;
    const Plan *p;
    const StepTimes *times;
    Roofline roof;
} View;

void view_heading(View *v, const char *title);

/* "key": "value", or null */
void inspect_json_text(Str *s, const char *key, const char *value);
/* ", "fusion": …, "casts": …, "recompute": …, "gradients": …" */
void inspect_json_reasons(Str *s, Arena *a, const Plan *p, const Roofline *r);

/* Parts: what passes decided, and why. */
void view_fusion(View *v);
void view_casts(View *v);
void view_recompute(View *v);
void view_gradients(View *v);
#endif
