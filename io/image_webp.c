/* WebP by libwebp; still pictures only. */
#include <string.h>
#include <webp/decode.h>

#include "io/image_format.h"

static bool webp_is(Bytes f) {
    return f.n >= 12 && !memcmp(f.b, "RIFF", 4) && !memcmp(f.b + 8, "WEBP", 4);
}

static bool webp_size(Bytes f, int *w, int *h, Why *why) {
    uint64_t want = (uint64_t)le32(f.b + 4) + 8;
    if (want > f.n)
        return why_set(why, "WebP cut off: %zu bytes of %llu", f.n,
                       (unsigned long long)want);
    WebPBitstreamFeatures is;
    if (WebPGetFeatures(f.b, f.n, &is) != VP8_STATUS_OK || is.width < 1 ||
        is.height < 1)
        return why_set(why, "WebP with a broken header");
    if (is.has_animation) return why_set(why, "animated WebP");
    *w = is.width, *h = is.height;
    return true;
}

static bool webp_decode(Bytes f, int w, int h, uint8_t *rgb, Why *why) {
    size_t row = (size_t)w * 3;
    return WebPDecodeRGBInto(f.b, f.n, rgb, row * (size_t)h, (int)row) ||
           why_set(why, "WebP: the data is damaged");
}

static bool webp_rgba(Bytes f, int w, int h, uint8_t *rgba, Why *why) {
    size_t row = (size_t)w * 4;
    return WebPDecodeRGBAInto(f.b, f.n, rgba, row * (size_t)h, (int)row) ||
           why_set(why, "WebP: the data is damaged");
}

const ImageFormat image_webp = {"WebP", webp_is, webp_size, webp_decode, webp_rgba};
