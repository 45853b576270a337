/* The training loop: feeds micro-batches to plans, watches for NaN, tells what happened. */
#ifndef GRAPHRUN_TRAIN_H
#define GRAPHRUN_TRAIN_H
#include "runtime/lora.h"
#include "runtime/lr.h"

/* What a plan is compiled for: one per bucket and batch size. */
typedef struct Shape {
    int batch, h, w; /* latent height and width */
    int chunks;      /* of 77 tokens */
} Shape;

/* A number for an adapter's node that is an input ("MODULE.k"). */
typedef struct Draw {
    const char *name;
    int32_t number;
} Draw;

typedef struct MicroBatch {
    Shape shape;
    const float *latent; /* [B,h,w,4], before ×0.18215; NULL: `image` */
    const float *image;  /* [B,8h,8w,3] in -1 … 1, of objectives that want pixels */
    const int32_t *ids;  /* [B,N,77] */
    const void *text;    /* [B,rows,width], of the plan's type; NULL: made of ids */
    const float *mask;   /* [B,h,w], or NULL: there are no masks */
    const float *token_weight; /* [B,N,77], or NULL */
    const float *loss_weight;  /* [B] */
    const float *noise;        /* [B,h,w,4], or NULL: drawn in the step */
    const int32_t *timestep;   /* [B], or NULL: drawn in the step */
    const Draw *draw;          /* or NULL: drawn in the step */
    int n_draw;
    int epoch; /* 1 … */
    bool last_of_epoch;
} MicroBatch;

typedef struct Feed {
    void *ctx;
    bool (*next)(void *ctx, MicroBatch *out, Err *e); /* valid until the next call */
    /* The next one shall be number `micro` (0 …) of the run. */
    bool (*seek)(void *ctx, int64_t micro, Err *e);
} Feed;

/* Where a run stands, between two micro-batches. With the store's tensors it is all that
 * the rest of the run depends on: random numbers are counted, not drawn one after another. */
typedef struct TrainPlace {
    int64_t update, micro; /* finished ones */
    int64_t in_window;     /* micro-batches added up since the last update */
    uint64_t sample;       /* the next sample's number in the run */
} TrainPlace;

typedef struct StepResult {
    int64_t step; /* finished updates: 1 …; of an unfinished one, its number */
    bool updated; /* false: the gradients of this micro-batch were only added up */
    /* fp16: a gradient overflowed; the step counts, the parameters are as they were */
    bool skipped;
    bool nan;         /* with skip_nan: no number, and so no update either */
    float loss_scale; /* for the next step; 0: there is none */
    int epoch;
    bool last_of_epoch;
    TrainPlace place; /* behind this micro-batch */
    float loss;       /* of this micro-batch */
    float grad_norm;  /* of what was added up so far, before clipping */
} StepResult;

typedef struct TrainLoop {
    Feed feed;
    Exec *(*exec)(void *ctx, const Shape *s, Err *e); /* the plan for a shape, bound */
    /* After every micro-batch; false stops with e. */
    bool (*after)(void *ctx, Exec *x, const StepResult *r, Err *e);
    /* Before the first step, with the first plan bound: starting weights. May be NULL. */
    bool (*start)(void *ctx, Exec *x, Err *e);
    void *ctx;
    int64_t steps;
    int accumulate; /* micro-batches per update; an epoch's end makes one with fewer */
    const LrSchedule *lr;
    uint64_t seed;
    bool
        skip_nan; /* go on where the loss or a gradient is no number, without an update */
    const volatile int *stop; /* set by a signal handler: leave after a micro-batch */
} TrainLoop;

/* Writes the fields of a micro-batch that the plan reads. */
bool train_write_batch(Exec *x, const MicroBatch *b, Err *e);

/* Runs from *place (zeros: the start) until `steps` updates, a stop or a failure; *place is
 * then where it stands. A NaN or Inf in the loss or a gradient stops before the update:
 * err_fail naming the first bad op; with skip_nan only the TRAIN_NAN_ROW-th update in a row
 * does. With a loss scale above 1 a gradient that overflowed is skipped instead. */
enum { TRAIN_NAN_ROW = 50 };
bool train_loop(const TrainLoop *t, TrainPlace *place, Err *e);
#endif
