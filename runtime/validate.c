/* The validation loss: batches that are not trained on, each with the same noise and at the
 * same timesteps every time, so that two values differ by the weights alone. */
#include "runtime/validate.h"

#include <math.h>

#include "kernels/rng.h"

/* The same seed and counter at every validation: sample numbers count from 0, and the
 * micro-batch is the number of the timestep. */
static bool write_key(Exec *x, uint64_t seed, uint64_t sample, int time, Err *e) {
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(seed >> 32);
    rng[RNG_SAMPLE] = (int32_t)(uint32_t)sample;
    rng[RNG_MICRO] = time;
    return !exec_type(x, "rng") || exec_write(x, "rng", rng, sizeof rng, e);
}

/* Timestep number i of n, evenly between the ends and without them: of 4 in 0 … 1000,
 * 200, 400, 600, 800. */
static int32_t timestep(const Validation *v, int i) {
    double step = (double)(v->max_timestep - v->min_timestep) / (v->n_times + 1);
    return (int32_t)(v->min_timestep + (int64_t)floor(step * (i + 1)));
}

static bool one(const Validation *v, Exec *x, const MicroBatch *b, uint64_t sample,
                double *sum, Err *e) {
    if (!train_write_batch(x, b, e)) return false;
    for (int i = 0; i < v->n_times; i++) {
        int32_t t[4096];
        float loss;
        for (int k = 0; k < b->shape.batch && k < (int)COUNT(t); k++)
            t[k] = timestep(v, i);
        if (exec_type(x, "t") &&
            !exec_write(x, "t", t, (size_t)b->shape.batch * sizeof *t, e))
            return false;
        if (!write_key(x, v->seed, sample, i, e)) return false;
        exec_run(x);
        if (!exec_read(x, "loss", &loss, sizeof loss, e)) return false;
        *sum += (double)loss * b->shape.batch / v->n_times;
    }
    return true;
}

bool validate(const Validation *v, double *loss, Err *e) {
    double sum = 0;
    uint64_t sample = 0;
    for (int i = 0; i < v->batches; i++) {
        MicroBatch b;
        if (!v->feed.next(v->feed.ctx, &b, e)) return false;
        Exec *x = v->exec(v->ctx, &b.shape, e);
        if (!x || !one(v, x, &b, sample, &sum, e)) return false;
        sample += (uint64_t)b.shape.batch;
    }
    *loss = sum / (double)sample;
    return true;
}
