/* Register programs in f64: constants and gradient checks. */
#include "kernels/program.h"

#include <math.h>

#define T          double
#define TILE_OPS   tile_f64
#define TILE_DTYPE F64
#define FN(name)   name
#define LOAD_HALF(d, s, n)                                                             \
    for (int64_t i = 0; i < (n); i++) (d)[i] = half_to_float((s)[i])
#define STORE_HALF(d, s, n)                                                            \
    for (int64_t i = 0; i < (n); i++) (d)[i] = float_to_half((float)(s)[i])
#include "kernels/tile.h"
