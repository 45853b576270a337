/* The thread pool: every index of a job runs exactly once, whatever the number of threads
 * and of indices; what a job wrote is there when par returns; scratch belongs to one thread
 * at a time. The window in which a late worker could take work of the next job is too short
 * to be hit on purpose here. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "runtime/exec.h"
#include "tests/check.h"

enum { MOST = 3000 };

typedef struct Job {
    int number;
    uint32_t seen[MOST]; /* plain: par orders it before its return */
    _Atomic int scratch_shared;
} Job;

static uint32_t next(uint32_t *state) { /* Numerical Recipes' congruence */
    return *state = *state * 1664525u + 1013904223u;
}

static void body(void *arg, int64_t i, void *scratch) {
    Job *job = arg;
    int mark = job->number * MOST + (int)i;
    volatile int *first = scratch, *last = (int *)((char *)scratch + SCRATCH_BYTES) - 1;
    *first = *last = mark;
    uint32_t x = (uint32_t)mark;
    for (uint32_t spin = next(&x) % 300; spin; spin--) *first = (int)next(&x);
    *first = mark;
    job->seen[i]++;
    if (*first != mark || *last != mark) atomic_store(&job->scratch_shared, 1);
}

static bool run_once(Device *dev, Job *job, int number, int n) {
    memset(job->seen, 0, sizeof job->seen);
    job->number = number;
    dev->par(dev, n, body, job);
    for (int i = 0; i < MOST; i++)
        if (job->seen[i] != (i < n)) return false;
    return !atomic_load(&job->scratch_shared);
}

static void test_jobs(int threads, int jobs) {
    Device *dev = cpu_open(threads);
    CHECK(dev && dev->threads == threads, "no device of %d threads", threads);
    if (!dev) return;
    static Job job;
    uint32_t state = (uint32_t)threads;
    for (int k = 0; k < jobs; k++) {
        uint32_t r = next(&state) >> 8;
        int n = r % 4 ? (int)(r / 4 % 9) : (int)(r / 4 % MOST);
        if (!run_once(dev, &job, k, n)) {
            CHECK(false, "%d threads, job %d of %d indices is not whole", threads, k,
                  n);
            break;
        }
        if (r % 97 == 0) usleep(300); /* long enough for the workers to fall asleep */
    }
    CHECK(!atomic_load(&job.scratch_shared), "two threads had one scratch");
    cpu_close(dev);
}

/* A device that never ran anything closes as well. */
static void test_idle(void) {
    for (int i = 0; i < 50; i++) {
        Device *dev = cpu_open(1 + i % 8);
        CHECK(dev, "open %d", i);
        cpu_close(dev);
    }
    cpu_close(NULL);
}

int main(void) {
    for (int threads = 1; threads <= 8; threads++) test_jobs(threads, 1500);
    test_idle();
    return check_done("cpu");
}
