/* A training run's state as a folder, to go on from later (docs/state.md):
 *
 *   train_state.json   where the run stands, and what it was made of
 *   state.safetensors  every tensor that outlives a step, under its name in the plan:
 *                      trainables, the optimizer's moments, sums of gradients; and the
 *                      losses of the running average
 *
 * The folder appears whole or not at all. What is read is hostile until checked. */
#ifndef GRAPHRUN_STATE_H
#define GRAPHRUN_STATE_H
#include "io/tensors.h"
#include "runtime/exec.h"
#include "runtime/train.h"

enum { STATE_VERSION = 1 };

typedef struct TrainState {
    TrainPlace place;
    int64_t epoch; /* of the last micro-batch */
    int64_t steps; /* that the run was to make */
    uint64_t seed;
    const char *program; /* version and commit */
    const double *loss;  /* of LossAverage */
    int n_loss;
    /* What the run was made of: names with values or hashes, compared when it goes on. */
    const Meta *fact;
    int n_fact;
} TrainState;

/* Whether a folder holds a state (or is empty, or not there): it may be replaced. */
bool state_may_replace(const char *folder);
bool state_write(const char *folder, const Store *store, const TrainState *s, Err *e);

typedef struct StateFile StateFile;
/* Reads and checks the folder; out lives in a. */
StateFile *state_open(Arena *a, const char *folder, TrainState *out, Err *e);
/* The tensors, into a store without any. */
bool state_restore(const StateFile *f, Store *store, Err *e);
/* After the first plan is bound: does it use every tensor that was restored? */
bool state_used(const StateFile *f, const Exec *x, Err *e);
void state_close(StateFile *f); /* NULL is allowed */
#endif
