/* The loop of a sampler (see sample.h). States are as small as the latents: they are
 * carried through host memory. */
#include "runtime/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct State {
    char now[128], next[128], start[128]; /* "state.x", "next.x", "start.x" */
    void *data;
    size_t bytes;
} State;

typedef struct States {
    State *item;
    int n;
    float *draw;
} States;

static void states_free(States *s) {
    for (int i = 0; i < s->n; i++) free(s->item[i].data);
    free(s->item);
    free(s->draw);
}

static bool states_new(const Sampler *s, int64_t n, States *out, Err *e) {
    const Plan *p = exec_plan(s->step);
    *out = (States){calloc(p->n_output + 1, sizeof *out->item), 0,
                    calloc((size_t)n + 1, sizeof(float))};
    bool ok = out->item && out->draw;
    for (uint32_t i = 0; ok && i < p->n_output; i++) {
        const char *name = p->output[i].name;
        if (strncmp(name, "next.", 5)) continue;
        State *t = &out->item[out->n++];
        snprintf(t->next, sizeof t->next, "%s", name);
        snprintf(t->now, sizeof t->now, "state.%s", name + 5);
        snprintf(t->start, sizeof t->start, "start.%s", name + 5);
        t->bytes = type_bytes(exec_type(s->step, name));
        t->data = malloc(t->bytes);
        ok = t->data != NULL;
    }
    return ok || err_fail(e, "no memory for a sampler's states");
}

static State *state_x(States *s) {
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->item[i].next, "next.x")) return &s->item[i];
    return NULL;
}

static bool begin(const Sampler *s, States *st, const float *x, int64_t n, Err *e) {
    if (exec_type(s->start, "noise") &&
        !exec_write(s->start, "noise", x, sizeof *x * (size_t)n, e))
        return false;
    exec_run(s->start);
    for (int i = 0; i < st->n; i++)
        if (!exec_read(s->start, st->item[i].start, st->item[i].data, st->item[i].bytes,
                       e))
            return false;
    return true;
}

static bool one_run(const Sampler *s, States *st, int64_t run, int64_t n, Err *e) {
    const double k = (double)run;
    if (exec_type(s->step, "k") && !exec_write(s->step, "k", &k, sizeof k, e))
        return false;
    for (int i = 0; i < s->n_given; i++)
        if (!exec_write(s->step, s->given[i].name, s->given[i].data, s->given[i].bytes,
                        e))
            return false;
    for (int i = 0; i < s->n_draw; i++)
        if (!s->drawn(s->ctx, run, i, st->draw, n, e) ||
            !exec_write(s->step, s->draw[i], st->draw, sizeof(float) * (size_t)n, e))
            return false;
    for (int i = 0; i < st->n; i++) {
        const State *t = &st->item[i];
        if (exec_type(s->step, t->now) && /* else nothing reads it */
            !exec_write(s->step, t->now, t->data, t->bytes, e))
            return false;
    }
    exec_run(s->step);
    for (int i = 0; i < st->n; i++)
        if (!exec_read(s->step, st->item[i].next, st->item[i].data, st->item[i].bytes,
                       e))
            return false;
    return true;
}

bool sample_run(const Sampler *s, float *x, int64_t n, int64_t from, Err *e) {
    States st;
    bool ok = states_new(s, n, &st, e);
    const State *latent = ok ? state_x(&st) : NULL;
    if (ok && (!latent || latent->bytes != sizeof *x * (size_t)n))
        ok = err_fail(e, "the sampler has no state 'x' of the latents' size");
    ok = ok && begin(s, &st, x, n, e);
    if (ok && from) memcpy(latent->data, x, latent->bytes);
    for (int64_t k = from; ok && k < s->runs; k++)
        ok = one_run(s, &st, k, n, e) &&
             (!s->mix || s->mix(s->ctx, k, latent->data, n, e)) &&
             (!s->done || s->done(s->ctx, k, latent->data, n, e));
    if (ok) memcpy(x, latent->data, latent->bytes);
    states_free(&st);
    return ok;
}

static bool write_if(Exec *x, const char *name, const void *data, size_t bytes,
                     Err *e) {
    return !exec_type(x, name) || exec_write(x, name, data, bytes, e);
}

bool sample_picture(const Sampler *s, int64_t run, const float *image,
                    const float *noise, int64_t n, float *out, Err *e) {
    const double k = (double)run;
    const size_t bytes = sizeof *out * (size_t)n;
    if (run >= s->runs) {
        memmove(out, image, bytes);
        return true;
    }
    if (!s->picture) return err_fail(e, "the sampler cannot begin with a picture");
    if (!write_if(s->picture, "image", image, bytes, e) ||
        !write_if(s->picture, "noise", noise, bytes, e) ||
        !write_if(s->picture, "k", &k, sizeof k, e))
        return false;
    exec_run(s->picture);
    return exec_read(s->picture, "picture.x", out, bytes, e);
}
