/* PNG by libpng, JPEG by libjpeg, made in memory and written whole. */
#include "io/image_write.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

#include "io/tensors.h"

bool image_write_png(const char *path, const Image *im, Err *e) {
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)im->w,
                     .height = (png_uint_32)im->h,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t n = 0;
    if (!png_image_write_get_memory_size(png, n, 0, im->rgb, 0, NULL))
        return err_fail(e, "cannot make '%s': %s", path, png.message);
    void *bytes = malloc(n);
    bool ok = bytes && png_image_write_to_memory(&png, bytes, &n, 0, im->rgb, 0, NULL);
    if (!ok)
        err_fail(e, "cannot make '%s': %s", path,
                 bytes ? png.message : "out of memory");
    ok = ok && file_write(path, bytes, n, e);
    free(bytes);
    return ok;
}

typedef struct Manager {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
} Manager;

_Noreturn static void jpeg_fail(j_common_ptr c) {
    Manager *m = (Manager *)c->err;
    m->base.format_message(c, m->text);
    longjmp(m->back, 1);
}

/* libjpeg grows *bytes as it needs to; the caller frees it. */
static bool compress(const Image *im, int quality, Manager *m, unsigned char **bytes,
                     unsigned long *n) {
    struct jpeg_compress_struct c = {.err = jpeg_std_error(&m->base)};
    m->base.error_exit = jpeg_fail;
    if (setjmp(m->back)) {
        jpeg_destroy_compress(&c);
        return false;
    }
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, bytes, n);
    c.image_width = (JDIMENSION)im->w, c.image_height = (JDIMENSION)im->h;
    c.input_components = 3, c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, quality, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = im->rgb + (size_t)c.next_scanline * (size_t)im->w * 3;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return true;
}

bool image_jpeg_bytes(const Image *im, int quality, uint8_t **bytes, size_t *n,
                      Err *e) {
    Manager m;
    unsigned long size = 0;
    *bytes = NULL;
    bool ok = compress(im, quality, &m, bytes, &size);
    *n = size;
    if (ok) return true;
    free(*bytes);
    return err_fail(e, "cannot make a JPEG: %s", m.text);
}

bool image_write_jpeg(const char *path, const Image *im, int quality, Err *e) {
    uint8_t *bytes;
    size_t n;
    if (!image_jpeg_bytes(im, quality, &bytes, &n, e)) return false;
    bool ok = file_write(path, bytes, n, e);
    free(bytes);
    return ok;
}
