/* Replays plans. A Store holds what outlives one plan: trainables, optimizer state, frozen
 * weights (mapped); several plans (one per bucket) share one.
 * exec_run allocates nothing, decides nothing, parses nothing. */
#ifndef GRAPHRUN_EXEC_H
#define GRAPHRUN_EXEC_H
#include "graph/plan/plan.h"

/* CPU device with n worker threads (0: all cores). */
Device *cpu_open(int threads);
void cpu_close(Device *d);

/* Where frozen weights come from: raw bytes in their own dtype, valid while the store is
 * open. false: there is no such tensor. */
typedef struct WeightSource {
    void *ctx;
    bool (*find)(void *ctx, const char *name, Tensor *out);
} WeightSource;

typedef struct Store Store;
Store *store_open(Device *dev, const WeightSource *w, uint64_t seed);
void store_close(Store *s);

typedef struct Exec Exec;
/* Binds a plan: gives it arenas, initialises trainables and state that the store does not
 * have yet (Philox, keyed by seed and name), finds and packs weights. */
Exec *exec_open(Store *s, const Plan *p, Err *e);
void exec_close(Exec *x);
const Plan *exec_plan(const Exec *x);
/* Writes an input, scalar, trainable or state; reads any of them or an output. n_bytes must
 * be the value's. In the value's dtype. */
bool exec_write(Exec *x, const char *name, const void *data, size_t n_bytes, Err *e);
bool exec_read(Exec *x, const char *name, void *data, size_t n_bytes, Err *e);
/* The same for n floats, whatever floating type the value has: trainables may be halves. */
bool exec_write_f32(Exec *x, const char *name, const float *data, int64_t n, Err *e);
bool exec_read_f32(Exec *x, const char *name, float *data, int64_t n, Err *e);
const Type *exec_type(const Exec *x, const char *name); /* NULL: no such value */
void exec_run(Exec *x);
/* The same step again, checking every step's outputs: the first that made a NaN or Inf
 * from finite inputs (or from a weight that is none); NULL: none. `value` of outputs says which number it was. */
const PlanStep *exec_trace_nan(Exec *x);
/* ns per step of the last exec_run when switched on. */
void exec_profile(Exec *x, bool on);
const uint64_t *exec_times(const Exec *x);
/* Test mode: arenas between guard pages, activations filled with NaN before each run. */
void exec_poison(Exec *x, bool on);
#endif
