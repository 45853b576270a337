/* Fibers, barriers and turns behind tests/twin/engine.h. */
#include "tests/twin/twin.h"
#include "tests/twin/engine.h"

#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>
#include <vector>

extern "C" {
uint3 twin_thread, twin_block, twin_block_size, twin_grid_size;
}
/* Limits of hardware; a fiber's stack. */
enum { MOST_THREADS = 1024, MOST_GRID_YZ = 65535, STACK = 1 << 16 };

/* ---- kernels ---- */

static const TwinKernel *first_kernel;

TwinKernel::TwinKernel(const char *kernel, size_t size, void (*body)(const void *))
    : name(kernel), bytes(size), call(body), next(first_kernel) {
    first_kernel = this;
}

static const TwinKernel *find(const char *name) {
    const TwinKernel *k = first_kernel;
    while (k && strcmp(k->name, name)) k = k->next;
    return k;
}

/* ---- fibers ---- */

enum State { READY, AT_BARRIER, AT_WARP, DONE };
/* A fiber is made by a context, once, and goes on by jumps, which make no system call: one
 * that is done waits for the next block. */
struct Fiber {
    ucontext_t context;
    jmp_buf at;
    bool begun;
    std::vector<char> stack;
    State state;
    unsigned mask;
    uint3 thread;
};

static std::vector<Fiber> fibers;
static ucontext_t engine;
static jmp_buf engine_at;
static unsigned current;
static const TwinKernel *running;
static const void *argument;
static char slots[MOST_THREADS / 32][32 * 16];

static void body(void) {
    for (;;) {
        running->call(argument);
        fibers[current].state = DONE;
        if (!_setjmp(fibers[current].at)) _longjmp(engine_at, 1);
    }
}
static void wait_as(State now) {
    fibers[current].state = now;
    if (!_setjmp(fibers[current].at)) _longjmp(engine_at, 1);
    twin_thread = fibers[current].thread;
}
extern "C" void twin_barrier(void) {
    wait_as(AT_BARRIER);
}
extern "C" void twin_sync_warp(unsigned mask) {
    fibers[current].mask = mask;
    wait_as(AT_WARP);
}
extern "C" void *twin_slots(void) {
    return slots[current / 32];
}

static void make(Fiber &f) {
    f.stack.resize(STACK);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = NULL;
    makecontext(&f.context, body, 0);
    f.begun = false;
}
static void start(unsigned i) {
    Fiber &f = fibers[i];
    if (f.state != DONE || f.stack.empty()) make(f);
    f.state = READY;
    f.thread = {i % twin_block_size.x, i / twin_block_size.x % twin_block_size.y,
                i / (twin_block_size.x * twin_block_size.y)};
}
static void resume(unsigned i) {
    current = i;
    twin_thread = fibers[i].thread;
    if (_setjmp(engine_at)) return;
    if (fibers[i].begun) _longjmp(fibers[i].at, 1);
    fibers[i].begun = true;
    swapcontext(&engine, &fibers[i].context);
}

/* ---- turns ---- */

static uint64_t state;
static unsigned below(unsigned n) { /* xorshift64 */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (unsigned)(state >> 33) % n;
}
static std::vector<unsigned> turns(unsigned n, TwinOrder order) {
    std::vector<unsigned> t(n);
    for (unsigned i = 0; i < n; i++) t[i] = order == TWIN_FALLING ? n - 1 - i : i;
    for (unsigned i = n; order == TWIN_SHUFFLED && i > 1; i--) {
        unsigned j = below(i), keep = t[i - 1];
        t[i - 1] = t[j], t[j] = keep;
    }
    return t;
}

/* Lets lanes of a warp go on whose whole mask has come to the same point. */
static bool release(unsigned first, unsigned lanes) {
    bool any = false;
    for (unsigned i = 0; i < lanes; i++) {
        const Fiber &f = fibers[first + i];
        bool all = f.state == AT_WARP;
        for (unsigned j = 0; j < 32 && all; j++) {
            if (!(f.mask >> j & 1)) continue;
            all = j < lanes && fibers[first + j].state == AT_WARP &&
                  fibers[first + j].mask == f.mask;
        }
        unsigned mask = f.mask;
        for (unsigned j = 0; j < lanes && all; j++)
            if (mask >> j & 1) fibers[first + j].state = READY;
        any |= all;
    }
    return any;
}

/* One warp, as far as it comes. */
static void run_warp(unsigned first, unsigned lanes, TwinOrder order) {
    bool more = true;
    while (more) {
        more = false;
        for (unsigned lane : turns(lanes, order)) {
            if (fibers[first + lane].state != READY) continue;
            resume(first + lane);
            more = true;
        }
        more |= release(first, lanes);
    }
}

static const char *run_block(unsigned threads, TwinOrder order) {
    const unsigned warps = (threads + 31) / 32;
    for (unsigned i = 0; i < threads; i++) start(i);
    for (;;) {
        for (unsigned w : turns(warps, order))
            run_warp(32 * w, threads - 32 * w < 32 ? threads - 32 * w : 32, order);
        unsigned count[4] = {0, 0, 0, 0};
        for (unsigned i = 0; i < threads; i++) count[fibers[i].state]++;
        if (count[DONE] == threads) return NULL;
        if (count[AT_WARP])
            return "lanes wait for lanes of their mask that have left or wait "
                   "elsewhere";
        if (count[DONE]) return "threads wait at a barrier that others never come to";
        for (unsigned i = 0; i < threads; i++) fibers[i].state = READY;
    }
}

/* ---- launches ---- */

extern char __start_twin_shared[] __attribute__((weak));
extern char __stop_twin_shared[] __attribute__((weak));

static const char *refused(const TwinKernel *k, const unsigned grid[3],
                           const unsigned block[3], size_t bytes) {
    if (!k) return "there is no such kernel";
    if (k->bytes != bytes) return "the parameter has another size than the kernel's";
    for (int i = 0; i < 3; i++)
        if (!grid[i] || !block[i]) return "a launch of nothing";
    if ((uint64_t)block[0] * block[1] * block[2] > MOST_THREADS)
        return "more than 1024 threads in a block";
    if (grid[1] > MOST_GRID_YZ || grid[2] > MOST_GRID_YZ)
        return "more than 65535 blocks along y or z";
    return NULL;
}

extern "C" size_t twin_bytes(const char *kernel) {
    const TwinKernel *k = find(kernel);
    return k ? k->bytes : 0;
}

extern "C" const char *twin_launch(const char *kernel, const unsigned grid[3],
                                   const unsigned block[3], const void *parameter,
                                   size_t bytes, TwinOrder order, uint64_t seed) {
    const TwinKernel *k = find(kernel);
    const char *why = refused(k, grid, block, bytes);
    if (why) return why;
    state = seed * 2654435761u + 88172645463325252u;
    running = k, argument = parameter;
    twin_grid_size = {grid[0], grid[1], grid[2]};
    twin_block_size = {block[0], block[1], block[2]};
    const unsigned threads = block[0] * block[1] * block[2];
    if (fibers.empty()) fibers.resize(MOST_THREADS);
    for (unsigned at : turns(grid[0] * grid[1] * grid[2], order)) {
        twin_block = {at % grid[0], at / grid[0] % grid[1], at / (grid[0] * grid[1])};
        memset(__start_twin_shared, 0xff,
               (size_t)(__stop_twin_shared - __start_twin_shared));
        memset(slots, 0xff, sizeof slots);
        if ((why = run_block(threads, order))) return why;
    }
    return NULL;
}
