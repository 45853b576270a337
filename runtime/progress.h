/* How far a long run is: one line that is drawn again and again on a terminal, plain lines
 * now and then elsewhere, or nothing. Writes and reads the clock through functions that the
 * caller gives, so it needs neither a terminal nor time to be tested. */
#ifndef GRAPHRUN_PROGRESS_H
#define GRAPHRUN_PROGRESS_H
#include "graph/base/base.h"

typedef enum ProgressMode { PROGRESS_BAR, PROGRESS_LINES, PROGRESS_QUIET } ProgressMode;

typedef struct ProgressOut {
    ProgressMode mode;
    int columns;                              /* of the terminal; 0: 80 */
    double (*seconds)(void *ctx);             /* a clock that never goes back */
    void (*put)(void *ctx, const char *text); /* to stderr, say */
    void *ctx;
} ProgressOut;

/* What is told beside the count. NAN or 0: not known, not shown. */
typedef struct ProgressNumbers {
    double loss, average;
    uint64_t memory_bytes;
} ProgressNumbers;

typedef struct Progress Progress;
/* label: what is counted ("steps", "pictures"). The clock starts here. Lives in a. */
Progress *progress_new(Arena *a, const ProgressOut *out, const char *label,
                       int64_t total);
/* What was done before the clock started: it does not count for the rate. */
void progress_from(Progress *p, int64_t done);
/* done: 0 … total. numbers may be NULL. Drawn when it is time: on a terminal at most ten
 * times a second; as lines after 1, 10, 20 … seconds, each minute after two minutes; the
 * last one always. */
void progress_at(Progress *p, int64_t done, const ProgressNumbers *numbers);
/* A line of its own ("saving checkpoint: out/last.safetensors"), not disturbed by the bar. */
void progress_say(Progress *p, const char *line);
/* Ends the bar's line. To be called also when the run stops early; twice does no harm. */
void progress_end(Progress *p);

/* The running mean of the loss that sd-scripts shows: one entry per micro-batch of an
 * epoch; the first epoch fills the list, later ones replace entry by entry. So it is the
 * mean over the last epoch's length of micro-batches. */
typedef struct LossAverage {
    double *loss;
    int n, cap;
    double sum;
} LossAverage;
/* index: of the micro-batch within its epoch (0 …). Returns the average. Grows in a. */
double loss_average_add(Arena *a, LossAverage *l, int epoch, int index, double loss);
double loss_average(const LossAverage *l); /* 0: of nothing */
/* As it was with these n entries. */
void loss_average_restore(Arena *a, LossAverage *l, const double *loss, int n);
#endif
