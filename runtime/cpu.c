/* The CPU as a device: OpenMP threads, each with scratch memory of its own. The number of
 * threads is fixed when the device is opened; results never depend on it, because callers
 * cut work by shapes. */
#include <omp.h>
#include <stdlib.h>

#include "runtime/exec.h"
#include "runtime/guard.h"

typedef struct Cpu {
    Device dev; /* first: a Device is a Cpu */
    Guard scratch;
} Cpu;

static void *scratch_of(Cpu *c, int worker) {
    return (char *)c->scratch.data + (size_t)worker * SCRATCH_BYTES;
}

static void run_all(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                    void *arg) {
    Cpu *c = (Cpu *)d;
    if (n <= 1 || d->threads == 1) {
        for (int64_t i = 0; i < n; i++) body(arg, i, c->scratch.data);
        return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(d->threads)
    for (int64_t i = 0; i < n; i++) body(arg, i, scratch_of(c, omp_get_thread_num()));
}

Device *cpu_open(int threads) {
    int most = omp_get_num_procs();
    if (threads <= 0) threads = most;
    if (threads > 1024) threads = 1024;
    Cpu *c = calloc(1, sizeof *c);
    Err e = {0};
    if (!c ||
        !guard_open(&c->scratch, (uint64_t)threads * SCRATCH_BYTES, "scratch", &e)) {
        free(c);
        return NULL;
    }
    c->dev = (Device){"cpu", threads, run_all};
    omp_set_dynamic(0); /* as many workers as asked for, always */
    return &c->dev;
}

void cpu_close(Device *d) {
    if (!d) return;
    Cpu *c = (Cpu *)d;
    guard_close(&c->scratch);
    free(c);
}
