/* Register programs in f32 with the functions of the C library: the reference. */
#include "kernels/program.h"

#include <math.h>

#define T          float
#define TILE_OPS   tile_f32
#define TILE_DTYPE F32
#define FN(name)   name##f
#define LOAD_HALF(d, s, n)                                                             \
    for (int64_t i = 0; i < (n); i++) (d)[i] = half_to_float((s)[i])
#define STORE_HALF(d, s, n)                                                            \
    for (int64_t i = 0; i < (n); i++) (d)[i] = float_to_half((s)[i])
#include "kernels/tile.h"
