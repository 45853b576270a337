/* What this machine can do at most, measured: what shares of the peak are shares of. */
#ifndef GRAPHRUN_PEAK_H
#define GRAPHRUN_PEAK_H
#include "graph/device.h"

typedef struct Peak {
    double flops; /* f32 fused multiply-adds a second, as two operations each */
    double bytes; /* bytes a second read from memory, from a block no cache holds */
} Peak;
/* On all threads of the device, the best of several runs; under a second. A processor
 * without AVX2 and FMA gets what plain C reaches. */
Peak peak_measure(Device *dev);
#endif
