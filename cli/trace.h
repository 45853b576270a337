/* Measured times of plan steps: collected by train --profile, written as a Chrome trace
 * (chrome://tracing, ui.perfetto.dev), read by inspect --times. */
#ifndef GRAPHRUN_TRACE_H
#define GRAPHRUN_TRACE_H
#include "runtime/exec.h"

typedef struct Trace Trace;
Trace *trace_new(Arena *a);
/* After exec_run with profiling on: adds the times of its steps. Of several plans the one
 * that runs most often is written. */
void trace_add(Trace *t, const Exec *x);
/* Events of the last run, one per step, and the mean of all runs but the first, which
 * still touches memory for the first time. */
bool trace_write(const Trace *t, const char *path, Err *e);
/* Mean seconds per step of plan p, in a; NULL: not a trace, or of another plan. */
const double *trace_read(Arena *a, const char *path, const Plan *p, int *runs, Err *e);
#endif
