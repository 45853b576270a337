/* `graphrun presets`: what values by block come to, module by module of a model. */
#ifndef GRAPHRUN_CLI_PRESETS_H
#define GRAPHRUN_CLI_PRESETS_H
#include "cli/job/job_plan.h"

/* One block's modules, or those without a block (the text encoder). */
typedef struct PresetRow {
    int slot; /* of 25, or -1 */
    const char *name;
    int modules;
    int64_t parameters;
    double rank[2], scale[2], lr[2]; /* smallest and largest; NAN: no module */
} PresetRow;

typedef struct PresetTable {
    const char *title;
    PresetRow *row;
    int n;
} PresetTable;

/* The modules of the job's recipe, by block. */
bool preset_table(Job *j, const char *title, PresetTable *out, Err *e);
/* cli/presets_plot.c: rank, scale and learning rate of every block as an SVG picture. */
void preset_plot(Str *s, const PresetTable *t);
#endif
