/* One update after the other. Everything that changes from step to step is written into
 * the plan's inputs; the plan itself never changes. */
#include "runtime/train.h"

#include <string.h>

#include "kernels/rng.h"

/* Writes a field if the objective has it: an input that no node reads is not in the plan. */
static bool put(Exec *x, const char *name, const void *data, Err *e) {
    const Type *t = exec_type(x, name);
    if (!t) return true;
    if (!data)
        return err_fail(e, "the objective reads '%s', which this run does not give",
                        name);
    return exec_write(x, name, data, type_bytes(t), e);
}

static bool write_batch(Exec *x, const MicroBatch *b, Err *e) {
    bool ok = put(x, "latent", b->latent, e) && put(x, "ids", b->ids, e) &&
              put(x, "loss_weight", b->loss_weight, e);
    if (ok && b->noise) ok = put(x, "noise", b->noise, e);
    if (ok && b->timestep) ok = put(x, "t", b->timestep, e);
    return ok;
}

/* Step scalars: the random key and the learning rates ("lr.0" …). */
static bool write_scalars(Exec *x, uint64_t seed, uint64_t first_sample, int64_t micro,
                          Err *e) {
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(seed >> 32);
    rng[RNG_SAMPLE] = (int32_t)(uint32_t)first_sample;
    rng[RNG_MICRO] = (int32_t)(uint32_t)micro;
    if (!put(x, "rng", rng, e)) return false;
    const Plan *p = exec_plan(x);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->role != ROLE_SCALAR || strncmp(v->name, "lr.", 3)) continue;
        float rate = (float)v->param->lr;
        if (!exec_write(x, v->name, &rate, sizeof rate, e)) return false;
    }
    return true;
}

static bool read_float(Exec *x, const char *name, float *out, Err *e) {
    return exec_read(x, name, out, sizeof *out, e);
}

static bool not_a_number(Exec *x, int64_t step, float loss, float norm, Err *e) {
    const PlanStep *bad = exec_trace_nan(x);
    err_fail(
        e,
        "step %lld: not a number: loss %g, gradient norm %g; the update was not made",
        (long long)step, loss, norm);
    if (!bad) {
        err_note(e, "note: every op's result is finite; the norm itself overflows");
        return false;
    }
    err_note(e, "note: the first op with a NaN or Inf is '%s' (%s) in the %s pass",
             bad->at.path ? bad->at.path : "?", bad->op->name,
             phase_name(bad->at.phase));
    if (bad->at.loc.src)
        err_note(e, "note: written at %s:%u:%u", bad->at.loc.src->path,
                 bad->at.loc.line, bad->at.loc.col);
    return false;
}

bool train_loop(const TrainLoop *t, int64_t *done, Err *e) {
    uint64_t sample = 0;
    *done = 0;
    while (*done < t->steps && !*t->stop) {
        MicroBatch b;
        if (!t->feed.next(t->feed.ctx, &b, e)) return false;
        Exec *x = t->exec(t->ctx, &b.shape, e);
        if (!x || (*done == 0 && t->start && !t->start(t->ctx, x, e))) return false;
        if (!write_batch(x, &b, e) || !write_scalars(x, t->seed, sample, *done, e))
            return false;
        exec_run(x);
        float ok, loss, norm;
        if (!read_float(x, "ok", &ok, e) || !read_float(x, "loss", &loss, e) ||
            !read_float(x, "grad_norm", &norm, e))
            return false;
        if (ok == 0) return not_a_number(x, *done + 1, loss, norm, e);
        sample += (uint64_t)b.shape.batch;
        *done += 1;
        StepResult r = {*done, b.epoch, b.last_of_epoch, loss, norm};
        if (!t->after(t->ctx, x, &r, e)) return false;
    }
    return true;
}
