/* The CPU as a device: worker threads that live as long as it, each with scratch memory of
 * its own. Results never depend on their number, because callers cut work by shapes.
 *
 * A pool of our own and not OpenMP's: its threads spin at every barrier for as long as it
 * takes, so a step that shares its cores with another program becomes a hundred times
 * slower (docs/design.md, "Threads"). Here a worker spins for some microseconds and then
 * sleeps, and the caller never waits for one that has taken no work: it does it itself.
 *
 * One job at a time. `claim` holds the job's number (high half) and the next index (low
 * half), so that a worker that comes late cannot take work of the next job by mistake; the
 * job's fields are read only by who has claimed an index, and the job does not end before
 * every claimed index is done. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/exec.h"
#include "runtime/guard.h"

enum { SPINS = 4000, THREADS_MAX = 1024 }; /* some 50 microseconds */

typedef struct Cpu Cpu;
typedef struct Worker {
    Cpu *cpu;
    int number;
    pthread_t thread;
} Worker;

struct Cpu {
    Device dev; /* first: a Device is a Cpu */
    Guard scratch;
    Worker *worker; /* threads - 1; the caller is the first */
    int n_worker;
    /* the job */
    void (*body)(void *arg, int64_t i, void *scratch);
    void *arg;
    _Atomic uint32_t count;
    _Alignas(64) _Atomic uint64_t claim;
    _Alignas(64) _Atomic uint32_t done, job;
    _Atomic uint32_t asleep, caller_asleep, ending;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t while_it_is) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int how_many) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, how_many, NULL, NULL, 0);
}

static inline void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void *scratch_of(Cpu *c, int worker) {
    return (char *)c->scratch.data + (size_t)worker * SCRATCH_BYTES;
}

/* The next index of job `job`; false: there is none left, or the job is over. */
static bool take(Cpu *c, uint32_t job, uint32_t *index) {
    uint64_t now = atomic_load(&c->claim);
    for (;;) {
        *index = (uint32_t)now;
        if ((uint32_t)(now >> 32) != job || *index >= atomic_load(&c->count))
            return false;
        if (atomic_compare_exchange_weak(&c->claim, &now, now + 1)) return true;
    }
}

static void work(Cpu *c, uint32_t job, int worker) {
    uint32_t i;
    while (take(c, job, &i)) {
        uint32_t count = atomic_load(&c->count);
        c->body(c->arg, i, scratch_of(c, worker));
        if (atomic_fetch_add(&c->done, 1) + 1 == count &&
            atomic_load(&c->caller_asleep))
            futex_wake(&c->done, 1);
    }
}

/* Waits for another job than `last`. */
static uint32_t next_job(Cpu *c, uint32_t last) {
    for (int i = 0; i < SPINS; i++) {
        uint32_t job = atomic_load(&c->job);
        if (job != last) return job;
        pause_a_little();
    }
    atomic_fetch_add(&c->asleep, 1);
    while (atomic_load(&c->job) == last) futex_wait(&c->job, last);
    atomic_fetch_sub(&c->asleep, 1);
    return atomic_load(&c->job);
}

static void *live(void *arg) {
    Worker *w = arg;
    for (uint32_t job = 0;;) {
        job = next_job(w->cpu, job);
        if (atomic_load(&w->cpu->ending)) return NULL;
        work(w->cpu, job, w->number);
    }
}

static void publish(Cpu *c, uint32_t job) {
    atomic_store(&c->claim, (uint64_t)job << 32);
    atomic_store(&c->job, job);
    if (atomic_load(&c->asleep)) futex_wake(&c->job, c->n_worker);
}

static void wait_for_all(Cpu *c, uint32_t n) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&c->done) == n) return;
        pause_a_little();
    }
    atomic_store(&c->caller_asleep, 1);
    for (uint32_t done; (done = atomic_load(&c->done)) != n;)
        futex_wait(&c->done, done);
    atomic_store(&c->caller_asleep, 0);
}

static void run_all(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                    void *arg) {
    Cpu *c = (Cpu *)d;
    if (n <= 1 || !c->n_worker || n > INT32_MAX) {
        for (int64_t i = 0; i < n; i++) body(arg, i, c->scratch.data);
        return;
    }
    uint32_t job = atomic_load(&c->job) + 1;
    /* nothing can be claimed while the fields change, by late workers neither */
    atomic_store(&c->claim, (uint64_t)job << 32 | UINT32_MAX);
    c->body = body;
    c->arg = arg;
    atomic_store(&c->done, 0);
    atomic_store(&c->count, (uint32_t)n);
    publish(c, job);
    work(c, job, 0);
    wait_for_all(c, (uint32_t)n);
}

static bool start_workers(Cpu *c, int n) {
    c->worker = calloc((size_t)n + 1, sizeof *c->worker);
    if (!c->worker) return false;
    for (int i = 0; i < n; i++) {
        Worker *w = &c->worker[i];
        *w = (Worker){.cpu = c, .number = i + 1};
        if (pthread_create(&w->thread, NULL, live, w)) return true; /* fewer will do */
        c->n_worker++;
    }
    return true;
}

Device *cpu_open(int threads) {
    long most = sysconf(_SC_NPROCESSORS_ONLN);
    if (threads <= 0) threads = most > 0 ? (int)most : 1;
    if (threads > THREADS_MAX) threads = THREADS_MAX;
    Cpu *c = aligned_alloc(64, (sizeof *c + 63) / 64 * 64);
    Err e = {0};
    if (!c) return NULL;
    *c = (Cpu){.dev = {.name = "cpu", .threads = threads, .par = run_all}};
    if (guard_open(&c->scratch, (uint64_t)threads * SCRATCH_BYTES, "scratch", &e)) {
        if (start_workers(c, threads - 1)) return &c->dev;
        guard_close(&c->scratch);
    }
    free(c);
    return NULL;
}

void cpu_close(Device *d) {
    if (!d) return;
    Cpu *c = (Cpu *)d;
    atomic_store(&c->ending, 1);
    atomic_fetch_add(&c->job, 1);
    futex_wake(&c->job, c->n_worker);
    for (int i = 0; i < c->n_worker; i++) pthread_join(c->worker[i].thread, NULL);
    free(c->worker);
    guard_close(&c->scratch);
    free(c);
}
