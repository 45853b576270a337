/* A simulated driver under the real one's name (libcuda.so.1), for tests: kernels run as host
 * twins. Streams are lazy: nothing runs before something waits, so that a program that reads
 * too early fails every time. Captured work runs only when it is replayed; memory, reads
 * and waits in a capture are refused as by the real driver. New memory is NaN and ends at a
 * page that nobody may touch; the host may touch none of it: it opens only while work runs.
 *
 * GRAPHRUN_SIM plants a failure, NAME:N: call number N (1 …) of function NAME fails, with
 * out of memory for cuMemAlloc_v2, else as a failed launch. GRAPHRUN_SIM_NO_GPU: the
 * driver is there, but no card; GRAPHRUN_SIM_CARD: one of compute capability 7.5, not 8.0;
 * GRAPHRUN_SIM_VERSION: of CUDA that the driver knows (13000); GRAPHRUN_SIM_MEMORY: of the
 * card, in MiB. */
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <sys/mman.h>
#include <vector>

#include "tests/twin/engine.h"

namespace {
enum {
    OK = 0,
    BAD_VALUE = 1,
    NO_MEMORY = 2,
    NO_BINARY = 209,
    NO_FUNCTION = 500,
    FAILED = 719,
    IN_CAPTURE = 900,
    INVALID_CAPTURE = 901
};
enum { PAGE = 4096, STEP = 256 };

typedef std::function<int()> Work;
struct Graph {
    std::vector<Work> work;
};
struct Stream {
    std::deque<Work> queue;
    Graph *capture = nullptr;
    bool spoilt = false;
};
struct Event {
    Stream *stream = nullptr;
    uint64_t asked = 0, done = 0;
};
struct Block {
    void *map;
    size_t bytes,
        whole; /* asked for; pages of it, before the one that nobody may touch */
};

std::vector<Stream *> streams;
std::map<uint64_t, Block> blocks;
std::map<std::string, int> calls;
int sticky; /* the first failure: every later call has it too */
int device = 0, module_made, context_made;

uint64_t number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}
size_t memory() {
    return (size_t)number("GRAPHRUN_SIM_MEMORY", 4096) << 20;
}
size_t taken() {
    size_t all = 0;
    for (const auto &b : blocks) all += b.second.bytes;
    return all;
}

/* Counts the call; the planted failure if this is it. */
int enter(const char *name) {
    const int n = ++calls[name];
    const char *plan = getenv("GRAPHRUN_SIM");
    if (sticky) return sticky;
    if (!plan || strncmp(plan, name, strlen(name)) || plan[strlen(name)] != ':')
        return OK;
    if (atoi(plan + strlen(name) + 1) != n) return OK;
    return !strcmp(name, "cuMemAlloc_v2") ? NO_MEMORY : FAILED;
}
/* What a capture forbids spoils it. */
int not_in_capture() {
    int status = OK;
    for (Stream *s : streams)
        if (s->capture) s->spoilt = true, status = IN_CAPTURE;
    return status;
}
#define ENTER(name)                                                                    \
    if (int status = enter(#name)) return status
#define OUTSIDE                                                                        \
    if (int status = not_in_capture()) return status

void protect(int how) {
    for (auto &b : blocks) mprotect(b.second.map, b.second.whole, how);
}
int one(Stream *s) {
    Work w = s->queue.front();
    s->queue.pop_front();
    const int status = w();
    return status ? sticky = status : OK;
}
/* Runs what is in the stream while `wanted` says so. */
template <class F> int run_while(Stream *s, F wanted) {
    int status = OK;
    if (s->queue.empty() || !wanted()) return OK;
    protect(PROT_READ | PROT_WRITE);
    while (!status && !s->queue.empty() && wanted()) status = one(s);
    protect(PROT_NONE);
    return status;
}
int drain(Stream *s) {
    return run_while(s, [] { return true; });
}
int enqueue(void *stream, Work w) {
    Stream *s = (Stream *)stream;
    if (s->capture)
        s->capture->work.push_back(w);
    else
        s->queue.push_back(w);
    return OK;
}
/* Is [at, at + bytes) inside one allocation? */
bool inside(uint64_t at, size_t bytes) {
    auto b = blocks.upper_bound(at);
    if (b == blocks.begin()) return false;
    --b;
    return at + bytes <= b->first + b->second.bytes;
}
} // namespace

extern "C" {
int cuInit(unsigned) {
    ENTER(cuInit);
    return OK;
}
int cuGetErrorName(int status, const char **out) {
    *out = status == NO_MEMORY         ? "CUDA_ERROR_OUT_OF_MEMORY"
           : status == NO_BINARY       ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
           : status == NO_FUNCTION     ? "CUDA_ERROR_NOT_FOUND"
           : status == FAILED          ? "CUDA_ERROR_LAUNCH_FAILED"
           : status == IN_CAPTURE      ? "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
           : status == INVALID_CAPTURE ? "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                                       : "CUDA_ERROR_INVALID_VALUE";
    return OK;
}
int cuGetErrorString(int, const char **out) {
    *out = "simulated";
    return OK;
}
int cuDriverGetVersion(int *out) {
    ENTER(cuDriverGetVersion);
    *out = (int)number("GRAPHRUN_SIM_VERSION", 13000);
    return OK;
}
int cuDeviceGetAttribute(int *out, int what, int) {
    ENTER(cuDeviceGetAttribute);
    enum { MAJOR = 75, MINOR = 76 }; /* compute capability: 8.0, or 7.5 */
    if (what != MAJOR && what != MINOR) return BAD_VALUE;
    const bool other = getenv("GRAPHRUN_SIM_CARD") != nullptr;
    *out = what == MAJOR ? 8 - other : 5 * other;
    return OK;
}
int cuDeviceGetCount(int *n) {
    ENTER(cuDeviceGetCount);
    *n = getenv("GRAPHRUN_SIM_NO_GPU") ? 0 : 1;
    return OK;
}
int cuDeviceGet(int *out, int) {
    ENTER(cuDeviceGet);
    *out = device;
    return OK;
}
int cuDeviceGetName(char *out, int room, int) {
    ENTER(cuDeviceGetName);
    snprintf(out, (size_t)room, "simulated GPU");
    return OK;
}
int cuDevicePrimaryCtxRetain(void **out, int) {
    ENTER(cuDevicePrimaryCtxRetain);
    *out = &context_made;
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int) {
    ENTER(cuDevicePrimaryCtxRelease_v2);
    return OK;
}
int cuCtxSetCurrent(void *) {
    ENTER(cuCtxSetCurrent);
    return OK;
}
int cuMemGetInfo_v2(size_t *unused, size_t *all) {
    ENTER(cuMemGetInfo_v2);
    *all = memory(), *unused = *all - taken();
    return OK;
}
int cuMemAlloc_v2(uint64_t *out, size_t bytes) {
    ENTER(cuMemAlloc_v2);
    OUTSIDE;
    if (bytes > memory() - taken()) return NO_MEMORY;
    const size_t own = (bytes + STEP - 1) / STEP * STEP;
    const size_t whole = (own + PAGE - 1) / PAGE * PAGE;
    char *map = (char *)mmap(NULL, whole + PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == (char *)MAP_FAILED) return NO_MEMORY;
    mprotect(map + whole, PAGE, PROT_NONE);
    memset(map, 0xff, whole);
    mprotect(map, whole, PROT_NONE);
    *out = (uint64_t)(uintptr_t)(map + whole - own);
    blocks[*out] = Block{map, bytes, whole};
    return OK;
}
int cuMemFree_v2(uint64_t at) {
    ENTER(cuMemFree_v2);
    OUTSIDE;
    auto b = blocks.find(at);
    if (b == blocks.end()) return BAD_VALUE;
    for (Stream *s : streams)
        if (int status = drain(s)) return status;
    munmap(b->second.map, b->second.whole + PAGE);
    blocks.erase(b);
    return OK;
}
int cuMemHostAlloc(void **out, size_t bytes, unsigned) {
    ENTER(cuMemHostAlloc);
    OUTSIDE;
    *out = malloc(bytes);
    return *out ? OK : NO_MEMORY;
}
int cuMemFreeHost(void *p) {
    ENTER(cuMemFreeHost);
    free(p);
    return OK;
}
int cuStreamCreate(void **out, unsigned) {
    ENTER(cuStreamCreate);
    streams.push_back(new Stream);
    *out = streams.back();
    return OK;
}
int cuStreamDestroy_v2(void *stream) {
    ENTER(cuStreamDestroy_v2);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (long)i);
    delete (Stream *)stream;
    return OK;
}
int cuStreamSynchronize(void *stream) {
    ENTER(cuStreamSynchronize);
    OUTSIDE;
    return drain((Stream *)stream);
}
int cuEventCreate(void **out, unsigned) {
    ENTER(cuEventCreate);
    *out = new Event;
    return OK;
}
int cuEventDestroy_v2(void *event) {
    ENTER(cuEventDestroy_v2);
    delete (Event *)event;
    return OK;
}
int cuEventRecord(void *event, void *stream) {
    ENTER(cuEventRecord);
    Event *v = (Event *)event;
    v->stream = (Stream *)stream;
    const uint64_t now = ++v->asked;
    return enqueue(stream, [=] {
        v->done = now;
        return OK;
    });
}
int cuEventSynchronize(void *event) {
    ENTER(cuEventSynchronize);
    OUTSIDE;
    Event *v = (Event *)event;
    return v->stream ? run_while(v->stream, [=] { return v->done < v->asked; }) : OK;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    ENTER(cuMemcpyHtoDAsync_v2);
    if (!inside(to, bytes)) return BAD_VALUE;
    return enqueue(stream, [=] {
        memcpy((void *)(uintptr_t)to, from, bytes);
        return OK;
    });
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    ENTER(cuMemcpyDtoHAsync_v2);
    if (!inside(from, bytes)) return BAD_VALUE;
    return enqueue(stream, [=] {
        memcpy(to, (const void *)(uintptr_t)from, bytes);
        return OK;
    });
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream) {
    ENTER(cuMemcpyDtoDAsync_v2);
    if (!inside(from, bytes) || !inside(to, bytes)) return BAD_VALUE;
    return enqueue(stream, [=] {
        memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
        return OK;
    });
}
int cuMemsetD8Async(uint64_t to, unsigned char byte, size_t bytes, void *stream) {
    ENTER(cuMemsetD8Async);
    if (!inside(to, bytes)) return BAD_VALUE;
    return enqueue(stream, [=] {
        memset((void *)(uintptr_t)to, byte, bytes);
        return OK;
    });
}
int cuModuleLoadData(void **out, const void *) {
    ENTER(cuModuleLoadData);
    OUTSIDE;
    if (getenv("GRAPHRUN_SIM_CARD")) return NO_BINARY;
    *out = &module_made;
    return OK;
}
int cuModuleUnload(void *) {
    ENTER(cuModuleUnload);
    return OK;
}
int cuModuleGetFunction(void **out, void *, const char *name) {
    ENTER(cuModuleGetFunction);
    *out = twin_bytes(name) ? (void *)(uintptr_t)name : nullptr;
    return *out ? OK : NO_FUNCTION;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned, void *stream, void **parameter,
                   void **) {
    ENTER(cuLaunchKernel);
    const std::string name = (const char *)function;
    const char *p = (const char *)parameter[0];
    /* the parameter is copied now, as the real driver does */
    auto kept = std::make_shared<std::vector<char>>(p, p + twin_bytes(name.c_str()));
    return enqueue(stream, [=] {
        const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        const char *why = twin_launch(name.c_str(), grid, block, kept->data(),
                                      kept->size(), TWIN_RISING, 1);
        if (why) fprintf(stderr, "simulated GPU: %s: %s\n", name.c_str(), why);
        return why ? (int)FAILED : (int)OK;
    });
}
int cuStreamBeginCapture_v2(void *stream, int) {
    ENTER(cuStreamBeginCapture_v2);
    Stream *s = (Stream *)stream;
    if (s->capture) return BAD_VALUE;
    s->capture = new Graph, s->spoilt = false;
    return OK;
}
int cuStreamEndCapture(void *stream, void **graph) {
    ENTER(cuStreamEndCapture);
    Stream *s = (Stream *)stream;
    if (!s->capture) return BAD_VALUE;
    *graph = s->capture;
    s->capture = nullptr;
    if (!s->spoilt) return OK;
    delete (Graph *)*graph;
    *graph = nullptr;
    return INVALID_CAPTURE;
}
int cuGraphInstantiateWithFlags(void **out, void *graph, unsigned long long) {
    ENTER(cuGraphInstantiateWithFlags);
    *out = new Graph(*(Graph *)graph);
    return OK;
}
int cuGraphDestroy(void *graph) {
    ENTER(cuGraphDestroy);
    delete (Graph *)graph;
    return OK;
}
int cuGraphLaunch(void *executable, void *stream) {
    ENTER(cuGraphLaunch);
    const Graph g = *(const Graph *)executable;
    return enqueue(stream, [=] {
        for (const Work &w : g.work)
            if (int status = w()) return status;
        return (int)OK;
    });
}
int cuGraphExecDestroy(void *executable) {
    ENTER(cuGraphExecDestroy);
    delete (Graph *)executable;
    return OK;
}
}
