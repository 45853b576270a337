/* A Gpu whose kernels are host twins: for tests of the CUDA kernels without a GPU. Tensors
 * are copied to memory of its own, each up against a page that nobody may touch, filled
 * with NaN before anything is written: a step outside ends the program. */
#ifndef GRAPHRUN_TWIN_DEVICE_H
#define GRAPHRUN_TWIN_DEVICE_H
#include "kernels/gpu_host.h"
#include "tests/twin/engine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct TwinDevice {
    Gpu gpu; /* first: a Device is a TwinDevice */
    TwinOrder order;
    uint64_t seed;
    const char *kernel, *failed; /* of the first launch that failed: its name and why */
    int launches;
} TwinDevice;

static inline void twin_device_launch(Gpu *g, const char *kernel,
                                      const unsigned grid[3], const unsigned block[3],
                                      const void *parameter, size_t bytes) {
    TwinDevice *d = (TwinDevice *)(void *)g;
    d->launches++;
    if (d->failed) return;
    d->failed = twin_launch(kernel, grid, block, parameter, bytes, d->order, d->seed);
    d->kernel = kernel;
}
static inline TwinDevice twin_device(TwinOrder order, uint64_t seed) {
    return (TwinDevice){
        .gpu = {.dev = {.name = "twin", .threads = 1}, .launch = twin_device_launch},
        .order = order,
        .seed = seed};
}

/* Device memory; elements stay aligned as far as their size asks. */
typedef struct TwinMemory {
    void *map, *data;
    size_t bytes;
} TwinMemory;
enum { TWIN_PAGE = 4096 };
static inline TwinMemory twin_alloc(size_t bytes, const void *from) {
    size_t whole = (bytes + TWIN_PAGE - 1) / TWIN_PAGE * TWIN_PAGE;
    TwinMemory m = {.bytes = whole + TWIN_PAGE};
    m.map =
        mmap(NULL, m.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m.map == MAP_FAILED) abort();
    mprotect((char *)m.map + whole, TWIN_PAGE, PROT_NONE);
    m.data = (char *)m.map + whole - bytes;
    memset(m.map, 0xff, whole);
    if (from) memcpy(m.data, from, bytes);
    return m;
}
static inline void twin_free(TwinMemory *m) {
    if (m->map) munmap(m->map, m->bytes);
    m->map = NULL;
}

enum { TWIN_TENSORS = 64 };
/* Runs a kernel of Op.cuda on copies of the inputs; what it makes goes to out[i].data,
 * which the caller has made. NULL: done; else what went wrong. */
static inline const char *twin_run(TwinDevice *d, const Kernel *k, const Sig *s,
                                   const Tensor *in, Tensor *out, Err *e) {
    Arena *a = arena_new();
    TwinMemory mi[TWIN_TENSORS] = {{0}}, mo[TWIN_TENSORS] = {{0}}, work = {0};
    Tensor ti[TWIN_TENSORS], to[TWIN_TENSORS];
    for (int i = 0; i < s->n_in; i++) {
        ti[i] = in[i];
        if (!in[i].data) continue;
        mi[i] = twin_alloc(type_bytes(in[i].type), in[i].data);
        ti[i].data = mi[i].data;
    }
    for (int o = 0; o < s->n_out; o++) {
        mo[o] = twin_alloc(type_bytes(&s->out[o]), NULL);
        to[o] = (Tensor){mo[o].data, &s->out[o]};
    }
    for (const OpAlias *al = s->op->alias; al && al->out >= 0; al++) {
        if (al->out >= s->n_out || al->in >= s->n_in) continue;
        memcpy(to[al->out].data, ti[al->in].data, type_bytes(to[al->out].type));
        ti[al->in].data = to[al->out].data;
    }
    if (k->work) work = twin_alloc(k->work(s), NULL);
    Call c = {.in = ti, .out = to, .n_in = s->n_in, .n_out = s->n_out};
    c.attrs = s->attrs, c.work = work.data, c.dev = &d->gpu.dev;
    const char *why = NULL;
    if (k->prepare && !k->prepare(a, s, &c.prep, e)) why = e->text;
    if (!why) k->run(&c);
    if (!why) why = d->failed;
    for (int o = 0; o < s->n_out; o++)
        memcpy(out[o].data, to[o].data, type_bytes(to[o].type));
    for (int i = 0; i < TWIN_TENSORS; i++) twin_free(&mi[i]), twin_free(&mo[i]);
    twin_free(&work);
    arena_free(a);
    return why;
}
#endif
