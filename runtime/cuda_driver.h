/* The functions of NVIDIA's driver that the CUDA backend calls, found when a device is opened:
 * the program needs neither the driver nor the CUDA Toolkit to start, and tests put a
 * simulated driver in its place (tests/twin/driver.cc). The driver's interface is stable
 * between versions; the parameters are those of cuda.h, with handles as void *, addresses of
 * the device as uint64_t and CUresult as int (0: success). */
#ifndef GRAPHRUN_CUDA_DRIVER_H
#define GRAPHRUN_CUDA_DRIVER_H
#include "graph/base/base.h"

/* X(field, symbol, parameters) */
#define CUDA_DRIVER(X)                                                                 \
    X(init, cuInit, (unsigned flags))                                                  \
    X(version, cuDriverGetVersion, (int *out))                                         \
    X(error_name, cuGetErrorName, (int status, const char **out))                      \
    X(error_text, cuGetErrorString, (int status, const char **out))                    \
    X(device_count, cuDeviceGetCount, (int *n))                                        \
    X(device, cuDeviceGet, (int *device, int number))                                  \
    X(device_name, cuDeviceGetName, (char *out, int room, int device))                 \
    X(attribute, cuDeviceGetAttribute, (int *out, int what, int device))               \
    X(context, cuDevicePrimaryCtxRetain, (void **context, int device))                 \
    X(context_release, cuDevicePrimaryCtxRelease_v2, (int device))                     \
    X(context_use, cuCtxSetCurrent, (void *context))                                   \
    X(memory, cuMemGetInfo_v2, (size_t * unused, size_t * all))                        \
    X(alloc, cuMemAlloc_v2, (uint64_t * out, size_t bytes))                            \
    X(release, cuMemFree_v2, (uint64_t address))                                       \
    X(host_alloc, cuMemHostAlloc, (void **out, size_t bytes, unsigned flags))          \
    X(host_release, cuMemFreeHost, (void *p))                                          \
    X(stream, cuStreamCreate, (void **out, unsigned flags))                            \
    X(stream_close, cuStreamDestroy_v2, (void *stream))                                \
    X(stream_wait, cuStreamSynchronize, (void *stream))                                \
    X(event, cuEventCreate, (void **out, unsigned flags))                              \
    X(event_close, cuEventDestroy_v2, (void *event))                                   \
    X(event_record, cuEventRecord, (void *event, void *stream))                        \
    X(event_wait, cuEventSynchronize, (void *event))                                   \
    X(write, cuMemcpyHtoDAsync_v2,                                                     \
      (uint64_t to, const void *from, size_t bytes, void *stream))                     \
    X(read, cuMemcpyDtoHAsync_v2,                                                      \
      (void *to, uint64_t from, size_t bytes, void *stream))                           \
    X(copy, cuMemcpyDtoDAsync_v2,                                                      \
      (uint64_t to, uint64_t from, size_t bytes, void *stream))                        \
    X(fill, cuMemsetD8Async,                                                           \
      (uint64_t to, unsigned char byte, size_t bytes, void *stream))                   \
    X(module_load, cuModuleLoadData, (void **module, const void *image))               \
    X(module_close, cuModuleUnload, (void *module))                                    \
    X(function, cuModuleGetFunction, (void **out, void *module, const char *name))     \
    X(launch, cuLaunchKernel,                                                          \
      (void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,              \
       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,          \
       void *stream, void **parameter, void **extra))                                  \
    X(capture, cuStreamBeginCapture_v2, (void *stream, int mode))                      \
    X(captured, cuStreamEndCapture, (void *stream, void **graph))                      \
    X(instantiate, cuGraphInstantiateWithFlags,                                        \
      (void **out, void *graph, unsigned long long flags))                             \
    X(graph_close, cuGraphDestroy, (void *graph))                                      \
    X(replay, cuGraphLaunch, (void *executable, void *stream))                         \
    X(replay_close, cuGraphExecDestroy, (void *executable))

typedef struct CudaDriver {
#define X(field, symbol, parameters) int(*field) parameters;
    CUDA_DRIVER(X)
#undef X
} CudaDriver;

/* Constants of cuda.h. */
enum { CUDA_NON_BLOCKING = 1, CUDA_NO_TIMING = 2, CUDA_CAPTURE_GLOBAL = 0 };
enum { CUDA_OUT_OF_MEMORY = 2, CUDA_NO_BINARY = 209 };
enum { CUDA_CAPABILITY_MAJOR = 75, CUDA_CAPABILITY_MINOR = 76 };

/* libcuda.so.1 of this machine; stays loaded. Fails if there is no driver, or one that lacks
 * a function. */
bool cuda_driver_load(CudaDriver *out, Err *e);

/* Machine code of the kernels, one image per .cu file, put in by the build; ends with NULL.
 * Empty if the build had no nvcc. */
extern const void *const cuda_images[];
/* nvcc's version, 1000 major + 10 minor, and the cards that there is machine code for. */
extern const int cuda_images_version;
extern const char cuda_images_cards[];
#endif
