/* Finds the driver's functions. */
#include "runtime/cuda_driver.h"

#include <dlfcn.h>
#include <string.h>

static const char library[] = "libcuda.so.1";

bool cuda_driver_load(CudaDriver *out, Err *e) {
    void *h = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return err_fail(e, "--device cuda: there is no NVIDIA driver here: %s",
                        dlerror());
    const char *missing = NULL;
    void *found;
#define X(field, symbol, parameters)                                                   \
    found = dlsym(h, #symbol);                                                         \
    if (!found) missing = #symbol;                                                     \
    memcpy(&out->field, &found, sizeof found);
    CUDA_DRIVER(X)
#undef X
    return !missing ||
           err_fail(e, "--device cuda: the NVIDIA driver is too old: it has no %s",
                    missing);
}
