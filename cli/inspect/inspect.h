/* The views of a plan: text, JSON, Graphviz, one HTML page. compile --explain, inspect and
 * diff print with these. */
#ifndef GRAPHRUN_INSPECT_H
#define GRAPHRUN_INSPECT_H
#include "cli/inspect/plan_facts.h"

/* The parts of the text, in order. */
#define INSPECT_PARTS                                                                  \
    "summary", "totals", "passes", "blocks", "memory", "adapters", "gradients",        \
        "fusion", "casts", "recompute", "ops", "nodes"
extern const char *const inspect_parts[];

/* Measured seconds per step, from a trace of train --profile. */
typedef struct StepTimes {
    const double *seconds; /* n_step entries */
    int runs;
} StepTimes;

/* One part, or NULL: all that do not repeat others and are not the list of nodes. times
 * may be NULL. */
void inspect_text(Str *s, Arena *a, const Plan *p, const char *part,
                  const StepTimes *times);
/* Everything known of a node: its number, a path ("unet.conv_in"), or an adapter's name.
 * false: no such node. */
bool inspect_why(Str *s, Arena *a, const Plan *p, const char *node,
                 const StepTimes *times, Err *e);
/* "totals": {…} without a comma or a brace around; more: text for the end of it. */
void inspect_json_totals(Str *s, const Plan *p, const char *more);
/* more: as of inspect_json_totals */
void inspect_json(Str *s, Arena *a, const Plan *p, const char *more,
                  const StepTimes *times);
/* What it would take on a card of cli/inspect/cards.tsv, or on `all`. */
bool inspect_card(Str *s, Arena *a, const Plan *p, const char *name, Err *e);
void inspect_dot(Str *s, Arena *a, const Plan *p);
void inspect_html(Str *s, Arena *a, const Plan *p, const StepTimes *times);

/* "12.3 MiB", "1.86 TFLOP", "12.3 ms" */
const char *text_bytes(Arena *a, double bytes);
const char *text_flops(Arena *a, double flops);
const char *text_seconds(Arena *a, double seconds);
#endif
