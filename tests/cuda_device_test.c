/* The CUDA device on the simulated driver (tests/twin/driver.cc), which stands in for
 * libcuda.so.1: memory, writes larger than the pinned buffers, kernels, capture and replay,
 * and what is said when a call of the driver fails. Each case is a process of its own,
 * because a driver that has failed once stays so. Without nvcc there are no kernels to load:
 * skipped. */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/gpu_host.h"
#include "runtime/cuda_driver.h"
#include "runtime/device.h"
#include "tests/op_harness.h"

#include "tests/check.h"

/* y = x * 2 + y on the device, by the kernel of pointwise. */
typedef struct Step {
    Arena *a;
    Sig s;
    Type in[2], out[1];
    PointwiseAttrs attrs;
    Tensor ti[2], to[1];
    Call c;
} Step;

static void step_new(Step *t, Device *d, void *x, void *y, int64_t n) {
    Err e = {0};
    *t = (Step){.a = arena_new(), .attrs = {"x0 * 2 + x1", F32}};
    t->in[0] = t->in[1] = t->out[0] = type_of(F32, 1, &n);
    t->s = (Sig){op_find("pointwise"), &t->attrs, t->in, 2, t->out, 1};
    t->ti[0] = (Tensor){x, &t->in[0]}, t->ti[1] = (Tensor){y, &t->in[1]};
    t->to[0] = (Tensor){y, &t->out[0]};
    t->c = (Call){.in = t->ti, .out = t->to, .n_in = 2, .n_out = 1, .attrs = &t->attrs};
    t->c.dev = d;
    const Kernel *k = t->s.op->cuda;
    CHECK(k->fits(&t->s) && k->prepare(t->a, &t->s, &t->c.prep, &e), "%s", e.text);
}
static void step_run(const Step *t) {
    t->s.op->cuda->run(&t->c);
}

/* All of it; false: e says what failed. MOST is more than both pinned buffers. */
enum { MOST = 3 << 20 };
static bool whole(Err *e) {
    Device *d = cuda_open(e);
    if (!d) return false;
    const struct DeviceOps *o = d->ops;
    static float x[MOST], y[MOST], back[MOST];
    const size_t bytes = sizeof x;
    void *dx, *dy, *dz, *graph = NULL;
    Step t = {0};
    bool ok = o->alloc(d, bytes, "activations", &dx, e) &&
              o->alloc(d, bytes, "weights", &dy, e) &&
              o->alloc(d, bytes, "a copy", &dz, e);
    for (int i = 0; i < MOST; i++) x[i] = (float)i, y[i] = (float)(i % 7);
    ok = ok && device_write(d, dx, x, bytes, e) && device_write(d, dy, y, bytes, e);
    memset(x, 0xff, sizeof x); /* may be changed at once */
    if (ok) step_new(&t, d, dx, dy, 1000);
    const PlanStep at = {.op = op_find("pointwise"), .at = {.path = "unet.x"}};
    if (ok) o->at(d, &at), step_run(&t), o->at(d, NULL);
    ok = ok && o->capture(d, e);
    if (ok) step_run(&t), step_run(&t);
    ok = ok && o->captured(d, &graph, e);
    for (int i = 0; ok && i < 3; i++) o->replay(d, graph);
    ok = ok && device_copy(d, dz, dy, bytes, e) && o->fill(d, dy, 0, bytes, e) &&
         device_read(d, back, dz, bytes, e) && o->wait(d, e);
    for (int i = 0; ok && i < MOST; i++) { /* 1 eager, 3 times 2 of the graph */
        const float want = (float)(i % 7) + (i < 1000 ? 14.0f * (float)i : 0);
        if (back[i] == want) continue;
        ok = err_fail(e, "element %d is %g, want %g", i, (double)back[i], (double)want);
    }
    o->forget(d, graph);
    if (t.a) arena_free(t.a);
    cuda_close(d);
    return ok;
}

/* A capture that waits is refused. */
static bool waiting_capture(Err *e) {
    Device *d = cuda_open(e);
    if (!d) return false;
    float x;
    void *p, *graph;
    bool ok = d->ops->alloc(d, 64, "x", &p, e) && d->ops->capture(d, e) &&
              device_read(d, &x, p, sizeof x, e);
    d->ops->captured(d, &graph, e);
    cuda_close(d);
    return ok;
}

/* A kernel that no image has is a failed launch. */
static bool no_kernel(Err *e) {
    Device *d = cuda_open(e);
    if (!d) return false;
    Gpu *g = (Gpu *)(void *)d;
    const unsigned one[3] = {1, 1, 1};
    g->launch(g, "gr_none", one, one, &one, sizeof one);
    bool ok = d->ops->wait(d, e);
    cuda_close(d);
    return ok;
}

/* What `body` says, in a process of its own with the variable set; "" for no failure. */
static void said(bool (*body)(Err *), const char *name, const char *value, char *out,
                 size_t room) {
    int pipes[2];
    if (pipe(pipes)) abort();
    pid_t child = fork();
    if (child == 0) {
        Err e = {0};
        check_failed = 0;
        if (name) setenv(name, value, 1);
        if (!body(&e) && write(pipes[1], e.text, strlen(e.text)) < 0) _exit(2);
        _exit(check_failed ? 3 : 0);
    }
    close(pipes[1]);
    ssize_t n, all = 0;
    while ((n = read(pipes[0], out + all, room - 1 - (size_t)all)) > 0) all += n;
    out[all] = 0;
    close(pipes[0]);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && !WEXITSTATUS(status), "%s: ended with %d", value,
          status);
}

static void expect(bool (*body)(Err *), const char *name, const char *value,
                   const char *want) {
    char text[1024];
    said(body, name, value, text, sizeof text);
    if (*want)
        CHECK(strstr(text, want), "%s: got '%s', want '%s'", value, text, want);
    else
        CHECK(!*text, "%s: got '%s'", value, text);
}

int main(void) {
    static const struct {
        const char *fault, *want;
    } faults[] = {
        {"cuInit:1", "init: CUDA_ERROR_LAUNCH_FAILED"},
        {"cuDevicePrimaryCtxRetain:1", "context: CUDA_ERROR"},
        {"cuStreamCreate:1", "stream: CUDA_ERROR"},
        {"cuMemHostAlloc:2", "host_alloc: CUDA_ERROR"},
        {"cuModuleLoadData:1", "module_load: CUDA_ERROR"},
        {"cuMemAlloc_v2:2", "no room for weights: 12.0 MiB planned beside 12.0 MiB"},
        {"cuMemcpyHtoDAsync_v2:3", "write: CUDA_ERROR"},
        {"cuEventSynchronize:1", "event_wait: CUDA_ERROR"},
        {"cuLaunchKernel:1", "gr_program: CUDA_ERROR_LAUNCH_FAILED (simulated), at "
                             "or before pointwise of 'unet.x'"},
        {"cuStreamEndCapture:1", "captured: CUDA_ERROR"},
        {"cuGraphInstantiateWithFlags:1", "instantiate: CUDA_ERROR"},
        {"cuGraphLaunch:2", "replay: CUDA_ERROR"},
        {"cuStreamSynchronize:1", "stream_wait: CUDA_ERROR"},
    };
    if (!cuda_images[0]) {
        printf("cuda_device: skipped, there was no nvcc\n");
        return 0;
    }
    expect(whole, "GRAPHRUN_SIM", "no fault", "");
    for (size_t i = 0; i < COUNT(faults); i++)
        expect(whole, "GRAPHRUN_SIM", faults[i].fault, faults[i].want);
    expect(whole, "GRAPHRUN_SIM_NO_GPU", "1", "the driver knows no GPU");
    expect(waiting_capture, "GRAPHRUN_SIM", "no fault",
           "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED");
    expect(no_kernel, "GRAPHRUN_SIM", "no fault", "gr_none: CUDA_ERROR_NOT_FOUND");
    return check_done("cuda_device");
}
