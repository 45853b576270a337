/* PNG by libpng. 16-bit samples keep their high byte, transparency is dropped, no
 * gamma. */
#include <png.h>
#include <string.h>

#include "io/image_format.h"

static bool png_is(Bytes f) {
    return f.n >= 8 && !memcmp(f.b, "\x89PNG\r\n\x1a\n", 8);
}

/* Chunks: length, name, data, CRC; from IHDR to IEND. */
static bool png_size(Bytes f, int *w, int *h, Why *why) {
    if (f.n < 33 || be32(f.b + 8) != 13 || memcmp(f.b + 12, "IHDR", 4))
        return why_set(why, "PNG without a header");
    uint32_t width = be32(f.b + 16), height = be32(f.b + 20);
    if (!width || !height || width > INT32_MAX || height > INT32_MAX)
        return why_set(why, "PNG of %u x %u pixels", width, height);
    bool data = false;
    for (size_t at = 33; f.n - at >= 12;) {
        uint32_t n = be32(f.b + at);
        if (!memcmp(f.b + at + 4, "IEND", 4)) {
            *w = (int)width, *h = (int)height;
            return data || why_set(why, "PNG without pixels");
        }
        data |= !memcmp(f.b + at + 4, "IDAT", 4);
        if (n > f.n - at - 12) break;
        at += (size_t)n + 12;
    }
    return why_set(why, "PNG cut off: no end chunk in %zu bytes", f.n);
}

typedef struct Reader {
    Bytes f;
    size_t at;
    Why *why;
} Reader;

static void png_fetch(png_structp png, png_bytep to, size_t n) {
    Reader *r = png_get_io_ptr(png);
    if (n > r->f.n - r->at) png_error(png, "cut off");
    memcpy(to, r->f.b + r->at, n);
    r->at += n;
}

static void png_fail(png_structp png, png_const_charp text) {
    Reader *r = png_get_error_ptr(png);
    why_set(r->why, "PNG: %s", text);
    png_longjmp(png, 1);
}

static void png_ignore(png_structp png, png_const_charp text) {
    (void)png, (void)text;
}

/* Everything to 8-bit RGB or RGBA; returns how often the rows must be gone through. */
static int png_to_rgb(png_structp png, png_infop info, bool alpha) {
    png_set_strip_16(png);
    png_set_palette_to_rgb(png);
    if (png_get_bit_depth(png, info) < 8 &&
        png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(png);
    png_set_gray_to_rgb(png);
    if (alpha) {
        if (png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
        png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
    } else {
        png_set_strip_alpha(png);
    }
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return passes;
}

/* to: h rows of w pixels of 3 or, with alpha, 4 bytes. */
static bool png_rows(Bytes f, int w, int h, bool alpha, uint8_t *to, Why *why) {
    Reader r = {f, 0, why};
    png_infop info = NULL;
    size_t row = (size_t)w * (alpha ? 4 : 3);
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &r, png_fail, png_ignore);
    if (png) info = png_create_info_struct(png);
    if (!info || setjmp(png_jmpbuf(png))) {
        if (!info) why_set(why, "out of memory in libpng");
        png_destroy_read_struct(&png, &info, NULL);
        return false;
    }
    png_set_user_limits(png, INT32_MAX, INT32_MAX);
    png_set_read_fn(png, &r, png_fetch);
    png_read_info(png, info);
    int passes = png_to_rgb(png, info, alpha);
    if (png_get_rowbytes(png, info) != row) png_error(png, "row of another size");
    for (int p = 0; p < passes; p++)
        for (int y = 0; y < h; y++) png_read_row(png, to + (size_t)y * row, NULL);
    png_destroy_read_struct(&png, &info, NULL);
    return true;
}

static bool png_decode(Bytes f, int w, int h, uint8_t *rgb, Why *why) {
    return png_rows(f, w, h, false, rgb, why);
}

static bool png_rgba(Bytes f, int w, int h, uint8_t *rgba, Why *why) {
    return png_rows(f, w, h, true, rgba, why);
}

const ImageFormat image_png = {"PNG", png_is, png_size, png_decode, png_rgba};
