/* A picture made of tiles that overlap, blended: what is needed for one tile is enough for a
 * picture of any size. Tiles have one size; they lie three quarters of a side apart, and the
 * last of an axis ends where the picture does. Across an overlap a tile's weight rises
 * linearly from its border (Diffusers' VAE tiling has the same quarter), and weights are
 * divided by their sum. In a fixed order: the same bytes every time. */
#ifndef GRAPHRUN_TILES_H
#define GRAPHRUN_TILES_H
#include <stdbool.h>

/* Tiles along an axis of `size` cells, tile <= size; the first cell of the k-th. */
int tiles_count(int size, int tile);
int tiles_at(int size, int tile, int k);

typedef struct TileSum { /* of pixels; a cell is `factor` of them wide */
    int h, w, tile_h, tile_w, factor, channels;
    float *sum,
        *weight; /* [h factor, w factor, channels], [h factor, w factor]: zeros */
} TileSum;
/* Tile (ky, kx) [tile_h factor, tile_w factor, channels]. */
void tiles_add(TileSum *s, int ky, int kx, const float *tile);
/* All are added: sum becomes the picture. */
void tiles_end(TileSum *s);
#endif
