/* Register programs in f64: constants and gradient checks. */
#include "kernels/program.h"

#include <math.h>

/* By way of f32, in pieces: exact on the way in; on the way out as float_to_half, which
 * takes a float. */
enum { PIECE = 256 };
static int64_t piece(int64_t left) {
    return left < PIECE ? left : PIECE;
}
static void load_half(double *d, const uint16_t *s, int64_t n) {
    float f[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        convert(f, F32, s + at, F16, piece(n - at));
        for (int64_t i = 0; i < piece(n - at); i++) d[at + i] = f[i];
    }
}
static void store_half(uint16_t *d, const double *s, int64_t n) {
    float f[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        for (int64_t i = 0; i < piece(n - at); i++) f[i] = (float)s[at + i];
        convert(d + at, F16, f, F32, piece(n - at));
    }
}

#define T                   double
#define TILE_OPS            tile_f64
#define TILE_DTYPE          F64
#define FN(name)            name
#define LOAD_HALF(d, s, n)  load_half(d, s, n)
#define STORE_HALF(d, s, n) store_half(d, s, n)
#include "kernels/tile.h"
