/* One micro-batch after the other. Everything that changes from step to step is written into
 * the plan's inputs; the plan itself never changes. */
#include "runtime/train.h"

#include <math.h>
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

bool train_write_batch(Exec *x, const MicroBatch *b, Err *e) {
    bool ok = put(x, "latent", b->latent, e) && put(x, "image", b->image, e) &&
              put(x, "ids", b->ids, e) && put(x, "loss_weight", b->loss_weight, e);
    if (ok && b->text) ok = put(x, "text", b->text, e);
    if (ok && b->mask) ok = put(x, "mask", b->mask, e);
    if (ok && b->token_weight) ok = put(x, "token_weight", b->token_weight, e);
    if (ok && b->noise) ok = put(x, "noise", b->noise, e);
    if (ok && b->timestep) ok = put(x, "t", b->timestep, e);
    for (int i = 0; ok && i < b->n_draw; i++)
        ok = put(x, b->draw[i].name, &b->draw[i].number, e);
    return ok;
}

/* A state of the loss scale; 0: the plan has none. */
static bool read_if_there(Exec *x, const char *name, float *out, Err *e) {
    *out = 0;
    return !exec_type(x, name) || exec_read(x, name, out, sizeof *out, e);
}

/* Scalars of one micro-batch: the random key, the learning rates ("lr.0" …), and with
 * accumulation the factor that keeps earlier gradients and the flag that updates. */
static bool write_scalars(Exec *x, const TrainLoop *t, const TrainPlace *at,
                          bool update, Err *e) {
    uint64_t seed = t->seed;
    int32_t rng[RNG_WORDS] = {0};
    rng[RNG_SEED_LO] = (int32_t)(uint32_t)seed;
    rng[RNG_SEED_HI] = (int32_t)(uint32_t)(seed >> 32);
    rng[RNG_SAMPLE] = (int32_t)(uint32_t)at->sample;
    rng[RNG_MICRO] = (int32_t)(uint32_t)at->micro;
    float keep = at->in_window > 0, now = update;
    if (!put(x, "rng", rng, e) || !put(x, "sum.keep", &keep, e) ||
        !put(x, "sum.update", &now, e))
        return false;
    float skipped;
    if (!read_if_there(x, "loss_scale.skipped", &skipped, e)) return false;
    double factor = lr_factor(t->lr, at->update - (int64_t)skipped);
    const Plan *p = exec_plan(x);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->role != ROLE_SCALAR || strncmp(v->name, "lr.", 3)) continue;
        float rate = (float)(v->param->lr * factor);
        if (!exec_write(x, v->name, &rate, sizeof rate, e)) return false;
    }
    return true;
}

static bool read_float(Exec *x, const char *name, float *out, Err *e) {
    return exec_read(x, name, out, sizeof *out, e);
}

/* NaNs are shown without their sign, which means nothing. */
static bool not_a_number(Exec *x, int64_t step, float loss, float norm, Err *e) {
    const PlanStep *bad = exec_trace_nan(x);
    err_fail(
        e,
        "step %lld: not a number: loss %g, gradient norm %g; the update was not made",
        (long long)step, isnan(loss) ? NAN : loss, isnan(norm) ? NAN : norm);
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

static bool results(Exec *x, StepResult *r, float *ok, Err *e) {
    return read_float(x, "ok", ok, e) && read_float(x, "loss", &r->loss, e) &&
           read_float(x, "grad_norm", &r->grad_norm, e) &&
           read_if_there(x, "loss_scale", &r->loss_scale, e);
}

/* *row: updates in a row that were none for this reason. */
static bool nan_may_pass(const TrainLoop *t, Exec *x, const StepResult *r, int *row,
                         Err *e) {
    *row += r->updated;
    if (t->skip_nan && *row < TRAIN_NAN_ROW) return true;
    not_a_number(x, r->step, r->loss, r->grad_norm, e);
    if (t->skip_nan)
        err_note(e, "note: the %dth update in a row: skipping helps no more", *row);
    return false;
}

/* One micro-batch, and the update if it is the last of its window. */
static bool micro_batch(const TrainLoop *t, TrainPlace *at, int *nan_row, Err *e) {
    MicroBatch b;
    if (!t->feed.next(t->feed.ctx, &b, e)) return false;
    Exec *x = t->exec(t->ctx, &b.shape, e);
    if (!x || (at->micro == 0 && t->start && !t->start(t->ctx, x, e))) return false;
    if (*t->stop) return true; /* asked for while it started */
    bool update = at->in_window + 1 >= t->accumulate || b.last_of_epoch;
    if (!train_write_batch(x, &b, e) || !write_scalars(x, t, at, update, e))
        return false;
    float scale; /* of this step */
    if (!read_if_there(x, "loss_scale", &scale, e)) return false;
    exec_run(x);
    StepResult r = {.step = at->update + 1,
                    .updated = update,
                    .epoch = b.epoch,
                    .last_of_epoch = b.last_of_epoch};
    float ok;
    if (!results(x, &r, &ok, e)) return false;
    /* with a scale of 1 it is not the scale that makes the gradient overflow */
    bool overflow = isfinite(r.loss) && (scale > 1 || (scale > 0 && !update));
    r.nan = ok == 0 && !overflow;
    if (r.nan && !nan_may_pass(t, x, &r, nan_row, e)) return false;
    if (update && !r.nan) *nan_row = 0;
    r.skipped = update && ok == 0 && overflow;
    at->sample += (uint64_t)b.shape.batch;
    at->micro++;
    at->in_window = update ? 0 : at->in_window + 1;
    at->update += update;
    r.place = *at;
    return t->after(t->ctx, x, &r, e);
}

bool train_loop(const TrainLoop *t, TrainPlace *place, Err *e) {
    bool ok = !place->micro || t->feed.seek(t->feed.ctx, place->micro, e);
    int nan_row = 0;
    while (ok && place->update < t->steps && !*t->stop)
        ok = micro_batch(t, place, &nan_row, e);
    return ok;
}
