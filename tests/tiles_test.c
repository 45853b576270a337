/* Pictures decoded in tiles: a picture that is cut up and blended is itself, every pixel has
 * weight, and the VAE's decoder in small tiles gives what it gives in one go, but for what
 * its group norms and its attention see of the rest of the picture. */
#include <math.h>
#include <string.h>

#include "cli/generate/draw.h"
#include "cli/generate/tiles.h"
#include "runtime/device.h"
#include "tests/check.h"

enum { FACTOR = 4, CHANNELS = 2 };

/* Cut out of a picture of numbers, put together, the same. */
static void cut_and_join(int h, int w, int th, int tw) {
    Arena *a = arena_new();
    const int ph = h * FACTOR, pw = w * FACTOR;
    float *whole = NEW(a, float, ph *pw *CHANNELS),
          *tile = NEW(a, float, th *tw *FACTOR *FACTOR *CHANNELS);
    TileSum s = {h, w, th, tw, FACTOR, CHANNELS, NULL, NULL};
    s.sum = NEW(a, float, ph *pw *CHANNELS), s.weight = NEW(a, float, ph *pw);
    for (int i = 0; i < ph * pw * CHANNELS; i++) whole[i] = sinf((float)i * 0.37F);
    for (int ky = 0; ky < tiles_count(h, th); ky++)
        for (int kx = 0; kx < tiles_count(w, tw); kx++) {
            const int y0 = tiles_at(h, th, ky), x0 = tiles_at(w, tw, kx);
            CHECK(y0 >= 0 && x0 >= 0 && y0 + th <= h && x0 + tw <= w, "outside");
            for (int y = 0; y < th * FACTOR; y++)
                memcpy(tile + y * tw * FACTOR * CHANNELS,
                       whole + ((y0 * FACTOR + y) * pw + x0 * FACTOR) * CHANNELS,
                       sizeof *tile * (size_t)(tw * FACTOR * CHANNELS));
            tiles_add(&s, ky, kx, tile);
        }
    float least = 9;
    for (int i = 0; i < ph * pw; i++) least = fminf(least, s.weight[i]);
    CHECK(least > 0, "%d x %d in %d x %d: a pixel without weight", h, w, th, tw);
    tiles_end(&s);
    double worst = 0;
    for (int i = 0; i < ph * pw * CHANNELS; i++)
        worst = fmax(worst, fabs((double)s.sum[i] - whole[i]));
    CHECK(worst <= 1e-6, "%d x %d in %d x %d: off by %g", h, w, th, tw, worst);
    arena_free(a);
}

/* Between two tiles of 0 and 1 the picture rises evenly: no seam. */
static void no_seam(void) {
    enum { SIDE = 8, H = 8, W = 14 };
    static float zero[SIDE * SIDE], one[SIDE * SIDE], sum[H * W], weight[H * W];
    for (int i = 0; i < SIDE * SIDE; i++) one[i] = 1;
    TileSum s = {H, W, SIDE, SIDE, 1, 1, sum, weight};
    CHECK(tiles_count(W, SIDE) == 2, "%d tiles, want 2", tiles_count(W, SIDE));
    tiles_add(&s, 0, 0, zero);
    tiles_add(&s, 0, 1, one);
    tiles_end(&s);
    const float want[] = {0, 0.25F, 0.75F, 1}; /* around the overlap of two pixels */
    for (int k = 0; k < 4; k++)
        CHECK(fabsf(sum[5 + k] - want[k]) < 1e-6F, "pixel %d: %g, want %g", 5 + k,
              sum[5 + k], want[k]);
}

/* Less than the whole picture takes, enough for tiles that are not the least ones (which
 * are off by 0.27). The limit is for relative L2, measured 0.088 on weights
 * and latents that mean nothing, which is the worst for norms by tile. */
#define BUDGET (UINT64_C(16) << 20)
#define LIMIT  0.1

enum { H = 40, W = 24, PIXELS = H * W * LATENT_FACTOR * LATENT_FACTOR * 3 };

static bool decode(Device *dev, uint64_t bytes, bool tiling, const float *latent,
                   float *image, Err *e) {
    const DrawSpec spec = {.ckpt = "tests/golden/nano/nano-sd.safetensors",
                           .clip_skip = 1,
                           .vae_tiling = tiling,
                           .decode_bytes = bytes};
    Draw *d = draw_open(&spec, dev, e);
    bool ok = d && draw_decode(d, H, W, latent, image, e);
    if (d) draw_close(d);
    return ok;
}

static void decoder(void) {
    static float latent[H * W * 4], whole[PIXELS], again[PIXELS], tiles[PIXELS];
    Err e = {0};
    Device *dev = cpu_open(2);
    for (int i = 0; i < H * W * 4; i++) latent[i] = sinf((float)i * 0.7F);
    bool ok = dev && decode(dev, 0, false, latent, whole, &e) &&
              decode(dev, UINT64_C(1) << 40, true, latent, again, &e);
    CHECK(ok, "%s", err_said(&e));
    CHECK(!memcmp(whole, again, sizeof whole), "room enough, but other bytes");
    ok = ok && decode(dev, BUDGET, false, latent, tiles, &e) &&
         decode(dev, BUDGET, false, latent, again, &e);
    CHECK(ok, "%s", err_said(&e));
    CHECK(!memcmp(tiles, again, sizeof tiles), "the same tiles, but other bytes");
    double off = 0, size = 0;
    for (int i = 0; i < PIXELS; i++) {
        off += pow((double)tiles[i] - whole[i], 2);
        size += pow(whole[i], 2);
    }
    off = sqrt(off / size);
    CHECK(off > 1e-4, "not decoded in tiles: off by %g", off);
    CHECK(off < LIMIT, "tiles are off by %g, limit %g", off, LIMIT);
    CHECK(!decode(dev, 1000, false, latent, tiles, &e) &&
              strstr(err_said(&e), "decoding tiles of 64 x 64 pixels needs"),
          "%s", err_said(&e));
    if (dev) device_close(dev);
}

int main(void) {
    cut_and_join(8, 8, 8, 8);
    cut_and_join(40, 24, 16, 24);
    cut_and_join(17, 9, 8, 8);
    cut_and_join(65, 64, 64, 64);
    cut_and_join(9, 31, 8, 12);
    no_seam();
    decoder();
    return check_done("tiles_test");
}
