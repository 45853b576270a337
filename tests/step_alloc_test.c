/* A training step allocates nothing: malloc, calloc, realloc, aligned_alloc and mmap of
 * this program and of every library it calls are counted while steps are replayed. And it
 * stays inside what the plan promised: arenas lie between guard pages, filled with NaN
 * before each step.
 *
 *   step_alloc_test [MODEL LATENT_HEIGHT LATENT_WIDTH BATCH]
 *
 * Without arguments: golden/nano. With them the figures of docs/performance.md. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cli/job/job.h"
#include "runtime/store.h"
#include "tests/check.h"

static atomic_bool counting;
static atomic_int allocations;

#ifndef __SANITIZE_ADDRESS__ /* which has a malloc of its own */
static void note(void) {
    if (atomic_load(&counting)) atomic_fetch_add(&allocations, 1);
}

/* glibc's own entry points, so that nothing has to be looked up while malloc is replaced */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n) {
    note();
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    note();
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    note();
    return __libc_realloc(p, n);
}
void *aligned_alloc(size_t align, size_t n) {
    note();
    return __libc_memalign(align, n);
}
void *mmap(void *at, size_t n, int protection, int flags, int file, off_t offset) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    note();
    if (!real)
        real =
            (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    return real(at, n, protection, flags, file, offset);
}
#endif

typedef struct Sizes {
    const char *model;
    int64_t h, w, batch;
} Sizes;

static Plan *plan_of(Job *j, const Sizes *z, Err *e) {
    Args *set = args_new(j->arena), *dims = args_new(j->arena);
    args_set(set, "pretrained_model_name_or_path", val_word(z->model));
    args_set(set, "network_dim", val_int(16));
    if (!job_open(j, set, e)) return NULL;
    args_set(dims, "B", val_int(z->batch));
    args_set(dims, "H", val_int(z->h));
    args_set(dims, "W", val_int(z->w));
    args_set(dims, "N", val_int(1));
    static const char *const absent[] = {"mask", "loss_weight", NULL};
    Options opt = {.recipe = &j->recipe,
                   .net = j->net,
                   .n_net = j->n_net,
                   .dims = dims,
                   .absent = absent,
                   .train = true,
                   .max_grad_norm = 1};
    return compile(j->arena, &opt, e);
}

static void fill_inputs(Exec *x, Err *e) {
    const Plan *p = exec_plan(x);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->role != ROLE_INPUT) continue;
        void *data = calloc(1, v->bytes);
        float *f = data;
        int64_t n = type_count(&v->type);
        for (int64_t k = 0; v->type.dtype == F32 && k < n; k++)
            f[k] = (float)(k % 7) * 0.3f - 1;
        CHECK(exec_write(x, v->name, data, type_bytes(&v->type), e), "%s", e->text);
        free(data);
    }
}

enum { MARK = 0xA5 };

/* The highest byte of the activation arena that a step writes, counted from its start. */
static uint64_t touched(Store *s, Exec *x) {
    unsigned char *arena = s->act.data;
    memset(arena, MARK, s->act.bytes);
    exec_run(x);
    uint64_t top = s->act.bytes;
    while (top && arena[top - 1] == MARK) top--;
    return top;
}

int main(int argc, char **argv) {
    Err e = {0};
    Job j;
    Sizes z = {"tests/golden/nano/nano-sd.safetensors", 10, 12, 2};
    if (argc == 5) z = (Sizes){argv[1], atoll(argv[2]), atoll(argv[3]), atoll(argv[4])};
    CHECK(job_load(&j, "lora", &e), "%s", e.text);
    Plan *p = plan_of(&j, &z, &e);
    CHECK(p, "%s", e.text);
    Device *dev = cpu_open(2);
    WeightSource w = job_weights(&j);
    Store *s = store_open(dev, &w, 1);
    Exec *x = p ? exec_open(s, p, &e) : NULL;
    CHECK(x, "%s", e.text);
    if (x) {
        exec_poison(x, true);
        fill_inputs(x, &e);
        exec_run(x); /* threads start here */
        float first, later;
        CHECK(exec_read(x, "loss", &first, sizeof first, &e), "%s", e.text);
        atomic_store(&counting, true);
        for (int i = 0; i < 3; i++) exec_run(x);
        atomic_store(&counting, false);
        CHECK(exec_read(x, "loss", &later, sizeof later, &e), "%s", e.text);
        CHECK(isfinite(first) && isfinite(later), "loss %g, then %g", (double)first,
              (double)later);
        CHECK(atomic_load(&allocations) == 0, "%d allocations in three steps",
              atomic_load(&allocations));
        exec_poison(x, false);
        uint64_t planned = p->size[MEM_ACT], top = touched(s, x);
        CHECK(top <= planned && planned - top < 64,
              "touched %llu of %llu planned bytes", (unsigned long long)top,
              (unsigned long long)planned);
        printf("  activations: %.1f MiB planned, highest touched byte %llu of %llu\n",
               (double)planned / 1048576, (unsigned long long)top,
               (unsigned long long)planned);
        printf("  adapters and optimizer: %.1f MiB, workspace %.1f MiB, %d allocations "
               "in 3 steps\n",
               (double)p->size[MEM_STATE] / 1048576,
               (double)p->size[MEM_WORK] / 1048576, atomic_load(&allocations));
        exec_close(x);
    }
#ifndef __SANITIZE_ADDRESS__
    atomic_store(&counting, true);
    free(malloc(1));
    atomic_store(&counting, false);
    CHECK(atomic_load(&allocations) > 0, "the counter counts nothing");
#endif
    store_close(s);
    cpu_close(dev);
    job_close(&j);
    return check_done("step_alloc");
}
