/* Register programs in f32 with the functions of the C library: the reference. */
#include "kernels/program.h"

#include <math.h>

#define T                   float
#define TILE_OPS            tile_f32
#define TILE_DTYPE          F32
#define FN(name)            name##f
#define LOAD_HALF(d, s, n)  convert(d, F32, s, F16, n)
#define STORE_HALF(d, s, n) convert(d, F16, s, F32, n)
#include "kernels/tile.h"
