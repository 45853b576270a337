/* Text chunks behind a PNG's header (see image_text.h). The pixels are libpng's work; a
 * chunk is its length, its name, its data and their CRC. */
#include "io/image_text.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/tensors.h"

enum { HEADER_END = 8 + 25 }; /* signature and IHDR */

static void add32(Str *s, uint32_t x) {
    const char b[4] = {(char)(x >> 24), (char)(x >> 16), (char)(x >> 8), (char)x};
    str_addn(s, b, 4);
}

static bool ascii(const char *text) {
    for (; *text; text++)
        if ((unsigned char)*text >= 0x80) return false;
    return true;
}

static void add_chunk(Str *s, const ImageText *t) {
    Str body = {0};
    const bool plain = ascii(t->text);
    str_add(&body, plain ? "tEXt" : "iTXt");
    str_addn(&body, t->key, strlen(t->key) + 1);
    if (!plain)
        str_addn(&body, "\0\0\0\0", 4); /* not packed; no language, no other key */
    str_add(&body, t->text);
    add32(s, (uint32_t)body.n - 4);
    str_addn(s, body.s, body.n);
    add32(s, (uint32_t)crc32_z(0, (const Bytef *)body.s, body.n));
    str_free(&body);
}

bool image_write_png_texts(const char *path, const Image *im, const ImageText *t, int n,
                           Err *e) {
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)im->w,
                     .height = (png_uint_32)im->h,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t bytes = 0;
    if (!png_image_write_get_memory_size(png, bytes, 0, im->rgb, 0, NULL))
        return err_fail(e, "cannot make '%s': %s", path, png.message);
    char *data = malloc(bytes);
    bool ok =
        data && png_image_write_to_memory(&png, data, &bytes, 0, im->rgb, 0, NULL);
    if (!ok)
        err_fail(e, "cannot make '%s': %s", path, data ? png.message : "no memory");
    Str s = {0};
    if (ok) {
        str_addn(&s, data, HEADER_END);
        for (int i = 0; i < n; i++)
            if (t[i].text) add_chunk(&s, &t[i]);
        str_addn(&s, data + HEADER_END, bytes - HEADER_END);
        ok = file_write(path, s.s, s.n, e);
    }
    str_free(&s);
    free(data);
    return ok;
}
