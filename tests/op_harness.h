/* Runs rows and small graphs outside of any plan: every kernel variant, any number of
 * workers, outputs and scratch filled with NaN first. Inputs come from a fixed generator.
 *
 * Input bounds of an example: a comment behind the declaration, "# from LOW to HIGH".
 * Without one: floats from -2 to 2, integers from 0 to 1, the random key: any. */
#ifndef GRAPHRUN_OP_HARNESS_H
#define GRAPHRUN_OP_HARNESS_H
#include "ops/ops.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ---- */

static uint64_t harness_state = 1;

static inline uint64_t random_bits(void) { /* splitmix64 */
    uint64_t z = harness_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}
static inline double random_in(double low, double high) {
    return low + (high - low) * (double)(random_bits() >> 11) * 0x1p-53;
}

static inline double number_at(const Tensor *t, int64_t i) {
    double x;
    convert(&x, F64, (const char *)t->data + (size_t)i * dtype_size(t->type->dtype),
            t->type->dtype, 1);
    return x;
}
static inline void number_set(const Tensor *t, int64_t i, double x) {
    convert((char *)t->data + (size_t)i * dtype_size(t->type->dtype), t->type->dtype,
            &x, F64, 1);
}

/* ---- devices of k workers ---- */

typedef struct Workers {
    Device dev;
    bool backwards; /* highest index first */
} Workers;

typedef struct Share {
    int64_t first, step, n;
    bool backwards;
    void (*body)(void *, int64_t, void *);
    void *arg;
} Share;

static void *share_run(void *p) {
    const Share *s = p;
    void *scratch = aligned_alloc(64, SCRATCH_BYTES);
    memset(scratch, 0xff, SCRATCH_BYTES);
    for (int64_t i = s->first; i < s->n; i += s->step)
        s->body(s->arg, s->backwards ? s->n - 1 - i : i, scratch);
    free(scratch);
    return NULL;
}

static void workers_par(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                        void *arg) {
    const Workers *w = (const Workers *)(void *)d;
    pthread_t thread[8];
    Share share[8];
    for (int k = 0; k < d->threads; k++) {
        share[k] = (Share){k, d->threads, n, w->backwards, body, arg};
        if (k) pthread_create(&thread[k], NULL, share_run, &share[k]);
    }
    share_run(&share[0]);
    for (int k = 1; k < d->threads; k++) pthread_join(thread[k], NULL);
}

static inline Workers workers(int threads, bool backwards) {
    return (Workers){{.name = "cpu", .threads = threads, .par = workers_par},
                     backwards};
}

/* ---- one row ---- */

static inline const Kernel *kernel_reference(const Op *op) {
    const Kernel *k = op->cpu;
    while (k && k->name && k[1].name) k++;
    return k;
}

/* Runs kernel k of the row; outputs are made in a, persistent ones copied first. */
static inline bool kernel_run(Arena *a, const Kernel *k, const Sig *s, const Tensor *in,
                              Tensor *out, Device *dev, Err *e) {
    Tensor *inputs = NEW(a, Tensor, s->n_in + 1);
    if (s->n_in) memcpy(inputs, in, (size_t)s->n_in * sizeof *in);
    for (int i = 0; i < s->n_out; i++) {
        out[i] = (Tensor){arena_alloc(a, type_bytes(&s->out[i]) + 64, 1), &s->out[i]};
        memset(out[i].data, 0xff, type_bytes(&s->out[i]));
    }
    for (const OpAlias *al = s->op->alias; al && al->out >= 0; al++) {
        if (al->out >= s->n_out || al->in >= s->n_in) continue;
        memcpy(out[al->out].data, in[al->in].data, type_bytes(out[al->out].type));
        inputs[al->in].data = out[al->out].data;
    }
    if (s->op->flags & OP_VIEW) {
        memcpy(out[0].data, in[0].data, type_bytes(out[0].type));
        return true;
    }
    Call c = {.in = inputs, .out = out, .n_in = s->n_in, .n_out = s->n_out};
    c.attrs = s->attrs;
    c.dev = dev;
    if (k->work) {
        size_t bytes = k->work(s);
        char *work = arena_alloc(a, bytes + 128, 1);
        c.work = (void *)(((uintptr_t)work + 63) & ~(uintptr_t)63);
        memset(c.work, 0xff, bytes);
    }
    if (k->prepare && !k->prepare(a, s, &c.prep, e)) return false;
    k->run(&c);
    return true;
}

/* ---- graphs ---- */

/* A node on the values (by id) of a graph, by its reference kernel. */
static inline bool node_run(Arena *a, const Graph *g, const Node *n, Tensor *value,
                            Device *dev, Err *e) {
    Sig s = node_sig(a, g, n);
    Tensor *in = NEW(a, Tensor, n->n_in + 1), *out = NEW(a, Tensor, n->n_out + 1);
    for (int i = 0; i < n->n_in; i++) {
        in[i].type = &s.in[i];
        if (n->in[i] != NO_ID) in[i] = value[n->in[i]];
    }
    if (!kernel_run(a, kernel_reference(n->op), &s, in, out, dev, e)) return false;
    for (int i = 0; i < n->n_out; i++) value[n->out[i]] = out[i];
    return true;
}

/* Values of all ids: given ones (data not NULL) and constants, then the nodes'. */
static inline bool graph_run(Arena *a, const Graph *g, Tensor *value, Err *e) {
    Workers one = workers(1, false);
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role != ROLE_CONST) continue;
        value[i] = (Tensor){arena_alloc(a, type_bytes(&v->type) + 16, 1), &v->type};
        for (int64_t k = 0; k < type_count(&v->type); k++)
            number_set(&value[i], k, v->data[k]);
    }
    for (uint32_t i = 0; i < g->n_node; i++)
        if (!node_run(a, g, g->node[i], value, &one.dev, e)) return false;
    return true;
}

/* Bounds from the comment behind `name`'s declaration in an example. */
static inline void bounds_of(const char *text, const char *name, double *low,
                             double *high) {
    char declared[256];
    snprintf(declared, sizeof declared, "%s : ", name);
    for (const char *p = text; (p = strstr(p, declared)); p++) {
        const char *end = strchr(p, '\n'), *from = strstr(p, "# from ");
        if (p == text || (p[-1] != '@' && p[-1] != '%')) continue;
        if (from && end && from < end) sscanf(from, "# from %lf to %lf", low, high);
        return;
    }
}

/* Random data for every value that no node makes. `text`: the example, for bounds. */
static inline void random_inputs(Arena *a, const Graph *g, const char *text,
                                 Tensor *value) {
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role == ROLE_ACT || v->role == ROLE_CONST) continue;
        bool real = dtype_is_float(v->type.dtype);
        double low = real ? -2 : 0, high = 1 + real;
        bounds_of(text, v->name, &low, &high);
        value[i] = (Tensor){arena_alloc(a, type_bytes(&v->type) + 16, 1), &v->type};
        for (int64_t k = 0; k < type_count(&v->type); k++) {
            double x = real ? random_in(low, high) : floor(random_in(low, high + 1));
            number_set(&value[i], k, real ? (double)(float)x : x);
        }
    }
}

/* ---- comparing ---- */

static inline double relative_error(const Tensor *got, const Tensor *want) {
    double d = 0, w = 0;
    for (int64_t i = 0; i < type_count(want->type); i++) {
        double x = number_at(got, i), y = number_at(want, i);
        d += (x - y) * (x - y);
        w += y * y;
    }
    return w > 0 ? sqrt(d / w) : sqrt(d);
}
static inline bool same_bits(const Tensor *a, const Tensor *b) {
    return !memcmp(a->data, b->data, type_bytes(a->type));
}
#endif
