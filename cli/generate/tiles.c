/* Tiles and their weights (see tiles.h). */
#include "cli/generate/tiles.h"

#include <math.h>
#include <stddef.h>

static int overlap(int tile) {
    return tile / 4;
}

int tiles_count(int size, int tile) {
    const int stride = tile - overlap(tile);
    return (size - tile + stride - 1) / stride + 1;
}

int tiles_at(int size, int tile, int k) {
    const int at = k * (tile - overlap(tile));
    return at + tile < size ? at : size - tile;
}

/* Of pixel i of tile k along an axis: 1, less towards a neighbour, never 0. */
static float weight(const TileSum *s, int size, int tile, int k, int i) {
    const float ramp = (float)(overlap(tile) * s->factor), at = (float)i + 0.5F;
    float w = 1;
    if (k > 0) w = fminf(w, at / ramp);
    if (k + 1 < tiles_count(size, tile))
        w = fminf(w, ((float)(tile * s->factor) - at) / ramp);
    return w;
}

void tiles_add(TileSum *s, int ky, int kx, const float *tile) {
    const int y0 = tiles_at(s->h, s->tile_h, ky) * s->factor,
              x0 = tiles_at(s->w, s->tile_w, kx) * s->factor;
    const int w = s->tile_w * s->factor;
    for (int y = 0; y < s->tile_h * s->factor; y++) {
        const float wy = weight(s, s->h, s->tile_h, ky, y);
        for (int x = 0; x < w; x++) {
            const float k = wy * weight(s, s->w, s->tile_w, kx, x);
            const size_t to =
                (size_t)(y0 + y) * (size_t)(s->w * s->factor) + (size_t)(x0 + x);
            const float *from =
                tile + ((size_t)y * (size_t)w + (size_t)x) * (size_t)s->channels;
            for (int c = 0; c < s->channels; c++)
                s->sum[to * (size_t)s->channels + (size_t)c] += k * from[c];
            s->weight[to] += k;
        }
    }
}

void tiles_end(TileSum *s) {
    const size_t n = (size_t)(s->h * s->factor) * (size_t)(s->w * s->factor);
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < s->channels; c++)
            s->sum[i * (size_t)s->channels + (size_t)c] /= s->weight[i];
}
