/* A GPU as a device, on NVIDIA's driver: one stream, on which everything is enqueued in
 * order; two pinned buffers for what the host writes, so that it fills one while the other
 * is on its way; kernels by name from the images of the build. Every status is looked at;
 * the first that is not success is kept, with the call and the plan step, and everything
 * after it does nothing. */
#include "runtime/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gpu_host.h"
#include "runtime/cuda_driver.h"

enum { STAGE_BYTES = 4 << 20, STAGES = 2, MODULES = 32 };

typedef struct Function {
    const char *name;
    void *function;
} Function;
typedef struct Stage {
    void *data, *free; /* pinned; event: it may be filled again */
    bool used;
} Stage;

typedef struct Cuda {
    Gpu gpu; /* first: a Device is a Cuda */
    CudaDriver driver;
    Arena *arena;
    int device;
    bool have_context;
    void *stream, *module[MODULES];
    int n_module;
    Function *function;
    uint32_t n_function, cap_function;
    Stage stage[STAGES];
    int next_stage;
    uint64_t allocated;
    char name[128];
    const PlanStep *step; /* whose kernels are launched, or NULL */
    bool failed;
    char why[512];
} Cuda;

static Cuda *of(Device *d) {
    return (Cuda *)(void *)d;
}
static void *address(uint64_t a) {
    return (void *)(uintptr_t)a;
}
static uint64_t number(const void *p) {
    return (uint64_t)(uintptr_t)p;
}

/* ---- failures ---- */

/* A launch may report what an earlier one did. */
static void say_step(const Cuda *c, char *out, size_t room) {
    if (!c->step) return;
    const Place *at = &c->step->at;
    int n = snprintf(out, room, ", at or before %s of '%s'", c->step->op->name,
                     at->path ? at->path : "");
    if (at->loc.src && n > 0 && (size_t)n < room)
        snprintf(out + n, room - (size_t)n, ", %s:%u:%u", at->loc.src->path,
                 at->loc.line, at->loc.col);
}

/* Keeps the first failure; true: there was none so far. */
static bool good(Cuda *c, int status, const char *call) {
    if (!status || c->failed) return !c->failed;
    const char *name = NULL, *text = NULL;
    c->driver.error_name(status, &name);
    c->driver.error_text(status, &text);
    int n = snprintf(c->why, sizeof c->why, "CUDA, %s: %s: %s (%s)", c->name, call,
                     name ? name : "unknown error", text ? text : "no text");
    if (n > 0 && (size_t)n < sizeof c->why)
        say_step(c, c->why + n, sizeof c->why - (size_t)n);
    c->failed = true;
    return false;
}
static bool told(const Cuda *c, Err *e) {
    return !c->failed || err_fail(e, "%s", c->why);
}
#define TRY(c, call, ...)                                                              \
    ((c)->failed ? false : good(c, (c)->driver.call(__VA_ARGS__), #call))

/* ---- memory ---- */

static bool cuda_alloc(Device *d, uint64_t bytes, const char *what, void **out,
                       Err *e) {
    Cuda *c = of(d);
    uint64_t at = 0;
    size_t unused = 0, all = 0;
    if (!told(c, e)) return false;
    int status = c->driver.alloc(&at, bytes ? bytes : 1);
    if (status == CUDA_OUT_OF_MEMORY) {
        c->driver.memory(&unused, &all);
        return err_fail(e,
                        "%s has no room for %s: %.1f MiB planned beside %.1f MiB that "
                        "are taken, %.1f of %.1f MiB free",
                        c->name, what, (double)bytes / 1048576,
                        (double)c->allocated / 1048576, (double)unused / 1048576,
                        (double)all / 1048576);
    }
    if (!good(c, status, "alloc")) return told(c, e);
    c->allocated += bytes;
    *out = address(at);
    return TRY(c, fill, at, 0, bytes ? bytes : 1, c->stream) || told(c, e);
}
static bool cuda_unused(Device *d, uint64_t *bytes, Err *e) {
    Cuda *c = of(d);
    size_t unused = 0, all = 0;
    TRY(c, memory, &unused, &all);
    *bytes = unused;
    return told(c, e);
}
static void cuda_release(Device *d, void *p) {
    Cuda *c = of(d);
    if (!p) return;
    TRY(c, stream_wait, c->stream);
    c->driver.release(number(p));
}

static bool cuda_write(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    Cuda *c = of(d);
    for (size_t at = 0; at < bytes && !c->failed; at += STAGE_BYTES) {
        Stage *s = &c->stage[c->next_stage];
        const size_t n = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        if (s->used && !TRY(c, event_wait, s->free)) break;
        memcpy(s->data, (const char *)from + at, n);
        s->used = true, c->next_stage = (c->next_stage + 1) % STAGES;
        if (TRY(c, write, number(to) + at, s->data, n, c->stream))
            TRY(c, event_record, s->free, c->stream);
    }
    return told(c, e);
}
static bool cuda_read(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    Cuda *c = of(d);
    if (TRY(c, read, to, number(from), bytes, c->stream))
        TRY(c, stream_wait, c->stream);
    return told(c, e);
}
static bool cuda_copy(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    Cuda *c = of(d);
    TRY(c, copy, number(to), number(from), bytes, c->stream);
    return told(c, e);
}
static bool cuda_fill(Device *d, void *to, int byte, size_t bytes, Err *e) {
    Cuda *c = of(d);
    TRY(c, fill, number(to), (unsigned char)byte, bytes, c->stream);
    return told(c, e);
}

/* ---- kernels ---- */

static void cuda_at(Device *d, const PlanStep *t) {
    of(d)->step = t;
}

static void *find(Cuda *c, const char *kernel) {
    for (uint32_t i = 0; i < c->n_function; i++)
        if (!strcmp(c->function[i].name, kernel)) return c->function[i].function;
    Function f = {kernel, NULL};
    int status = 0;
    for (int i = 0; i < c->n_module && !f.function; i++)
        status = c->driver.function(&f.function, c->module[i], kernel);
    if (!f.function) {
        good(c, status ? status : -1, kernel);
        return NULL;
    }
    PUSH(c->arena, c->function, c->n_function, c->cap_function, f);
    return f.function;
}

static void cuda_launch(Gpu *g, const char *kernel, const unsigned grid[3],
                        const unsigned block[3], const void *parameter, size_t bytes) {
    Cuda *c = (Cuda *)(void *)g;
    void *f = c->failed ? NULL : find(c, kernel);
    void *parameters[] = {(void *)(uintptr_t)parameter};
    (void)bytes;
    if (!f) return;
    good(c,
         c->driver.launch(f, grid[0], grid[1], grid[2], block[0], block[1], block[2], 0,
                          c->stream, parameters, NULL),
         kernel);
}

/* ---- graphs ---- */

static bool cuda_capture(Device *d, Err *e) {
    Cuda *c = of(d);
    TRY(c, capture, c->stream, CUDA_CAPTURE_GLOBAL);
    return told(c, e);
}
static bool cuda_captured(Device *d, void **graph, Err *e) {
    Cuda *c = of(d);
    void *made = NULL;
    *graph = NULL;
    if (c->failed) { /* the stream must not stay in capture */
        if (!c->driver.captured(c->stream, &made) && made) c->driver.graph_close(made);
        return told(c, e);
    }
    if (!TRY(c, captured, c->stream, &made)) return told(c, e);
    TRY(c, instantiate, graph, made, 0);
    c->driver.graph_close(made);
    return told(c, e);
}
static void cuda_replay(Device *d, void *graph) {
    Cuda *c = of(d);
    TRY(c, replay, graph, c->stream);
}
static void cuda_forget(Device *d, void *graph) {
    if (graph) of(d)->driver.replay_close(graph);
}
static bool cuda_wait(Device *d, Err *e) {
    Cuda *c = of(d);
    TRY(c, stream_wait, c->stream);
    return told(c, e);
}

static const struct DeviceOps cuda_ops = {
    .alloc = cuda_alloc,
    .release = cuda_release,
    .unused = cuda_unused,
    .write = cuda_write,
    .read = cuda_read,
    .copy = cuda_copy,
    .fill = cuda_fill,
    .at = cuda_at,
    .capture = cuda_capture,
    .captured = cuda_captured,
    .replay = cuda_replay,
    .forget = cuda_forget,
    .wait = cuda_wait,
};

/* ---- opening ---- */

/* Machine code of another major version's compiler is not for this driver. */
static bool version_fits(Cuda *c, Err *e) {
    int has = 0;
    const int want = cuda_images_version / 1000 * 1000;
    if (!TRY(c, version, &has)) return told(c, e);
    return has >= want ||
           err_fail(e,
                    "--device cuda: the NVIDIA driver is too old: it knows CUDA %d.%d, "
                    "this build's kernels want %d.0",
                    has / 1000, has % 1000 / 10, want / 1000);
}

static bool open_card(Cuda *c, Err *e) {
    int n = 0;
    void *context = NULL;
    if (TRY(c, init, 0)) TRY(c, device_count, &n);
    if (!told(c, e) || !version_fits(c, e)) return false;
    if (!n) return err_fail(e, "--device cuda: the driver knows no GPU");
    if (TRY(c, device, &c->device, 0))
        TRY(c, device_name, c->name, (int)sizeof c->name, c->device);
    c->have_context = TRY(c, context, &context, c->device);
    if (c->have_context) TRY(c, context_use, context);
    TRY(c, stream, &c->stream, CUDA_NON_BLOCKING);
    return told(c, e);
}

static bool open_stages(Cuda *c, Err *e) {
    for (int i = 0; i < STAGES; i++)
        if (TRY(c, host_alloc, &c->stage[i].data, STAGE_BYTES, 0))
            TRY(c, event, &c->stage[i].free, CUDA_NO_TIMING);
    return told(c, e);
}

static bool no_binary(Cuda *c, Err *e) {
    int major = 0, minor = 0;
    if (TRY(c, attribute, &major, CUDA_CAPABILITY_MAJOR, c->device))
        TRY(c, attribute, &minor, CUDA_CAPABILITY_MINOR, c->device);
    return err_fail(e,
                    "--device cuda: %s has compute capability %d.%d, this build has "
                    "kernels for %s",
                    c->name, major, minor, cuda_images_cards);
}

static bool load_kernels(Cuda *c, Err *e) {
    for (int i = 0; cuda_images[i] && i < MODULES; i++) {
        const int status = c->driver.module_load(&c->module[i], cuda_images[i]);
        if (status == CUDA_NO_BINARY) return no_binary(c, e);
        if (!good(c, status, "module_load")) return told(c, e);
        c->n_module++;
    }
    return true;
}

Device *cuda_open(Err *e) {
    if (!cuda_images[0]) {
        err_fail(e, "--device cuda: this build has no CUDA kernels: there was no nvcc "
                    "when it was made");
        return NULL;
    }
    Arena *a = arena_new();
    Cuda *c = NEW(a, Cuda, 1);
    c->arena = a;
    c->gpu.dev.name = "cuda", c->gpu.dev.threads = 1, c->gpu.dev.ops = &cuda_ops;
    c->gpu.launch = cuda_launch;
    snprintf(c->name, sizeof c->name, "no device yet");
    if (!cuda_driver_load(&c->driver, e)) {
        arena_free(a);
        return NULL;
    }
    if (open_card(c, e) && open_stages(c, e) && load_kernels(c, e)) return &c->gpu.dev;
    cuda_close(&c->gpu.dev);
    return NULL;
}

void cuda_close(Device *d) {
    if (!d) return;
    Cuda *c = of(d);
    if (c->stream) c->driver.stream_wait(c->stream);
    for (int i = 0; i < c->n_module; i++) c->driver.module_close(c->module[i]);
    for (int i = 0; i < STAGES; i++) {
        if (c->stage[i].free) c->driver.event_close(c->stage[i].free);
        if (c->stage[i].data) c->driver.host_release(c->stage[i].data);
    }
    if (c->stream) c->driver.stream_close(c->stream);
    if (c->have_context) c->driver.context_release(c->device);
    arena_free(c->arena);
}
