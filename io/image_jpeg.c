/* JPEG by libjpeg-turbo, with its default (exact integer) transform and smooth chroma,
 * as Pillow. Grey becomes RGB; CMYK is taken as Adobe's (inverted). EXIF rotation is
 * not applied. A file whose data ends early is an error, not a half grey picture. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "io/image_format.h"

enum {
    SCANS_MAX = 500
}; /* a small progressive file may ask for any number of passes */

static bool jpeg_is(Bytes f) {
    return f.n >= 3 && f.b[0] == 0xFF && f.b[1] == 0xD8 && f.b[2] == 0xFF;
}

static bool is_frame(uint8_t marker) { /* SOF0 to SOF15 without DHT, JPG, DAC */
    return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 &&
           marker != 0xCC;
}

static bool has_end(Bytes f) {
    for (size_t i = f.n; i >= 2; i--)
        if (f.b[i - 2] == 0xFF && f.b[i - 1] == 0xD9) return true;
    return false;
}

static bool jpeg_size(Bytes f, int *w, int *h, Why *why) {
    for (size_t at = 2; f.n - at >= 4;) {
        if (f.b[at] != 0xFF) return why_set(why, "JPEG: no marker at byte %zu", at);
        uint8_t marker = f.b[at + 1];
        if (marker == 0xFF || (marker >= 0xD0 && marker <= 0xD7) || marker == 1) {
            at += marker == 0xFF ? 1 : 2;
            continue;
        }
        uint32_t n = be16(f.b + at + 2);
        if (n < 2 || n > f.n - at - 2) break;
        if (is_frame(marker)) {
            if (n < 8) break;
            *h = (int)be16(f.b + at + 5), *w = (int)be16(f.b + at + 7);
            if (!*w || !*h) return why_set(why, "JPEG of %d x %d pixels", *w, *h);
            return has_end(f) ||
                   why_set(why, "JPEG cut off: no end marker in %zu bytes", f.n);
        }
        if (marker == 0xDA || marker == 0xD9) break;
        at += n + 2;
    }
    return why_set(why, "JPEG without a frame header in %zu bytes", f.n);
}

typedef struct Manager {
    struct jpeg_error_mgr base;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    Why *why;
} Manager;

_Noreturn static void jpeg_fail(j_common_ptr c) {
    Manager *m = (Manager *)c->err;
    char text[JMSG_LENGTH_MAX];
    m->base.format_message(c, text);
    why_set(m->why, "JPEG: %s", text);
    longjmp(m->back, 1);
}

static void jpeg_message(j_common_ptr c, int level) {
    int code = c->err->msg_code;
    if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) jpeg_fail(c);
}

static void jpeg_progress(j_common_ptr c) {
    Manager *m = (Manager *)c->err;
    if (!c->is_decompressor || ((j_decompress_ptr)c)->input_scan_number <= SCANS_MAX)
        return;
    why_set(m->why, "JPEG of more than %d scans", SCANS_MAX);
    longjmp(m->back, 1);
}

/* Pillow's CMYK to RGB, from Adobe's inverted values. */
static void cmyk_row(const uint8_t *in, int w, uint8_t *rgb) {
    for (int x = 0; x < w; x++, in += 4, rgb += 3)
        for (int c = 0; c < 3; c++) {
            unsigned k = in[3],
                     v = (255u - in[c]) * k + 128; /* round((255-in)*k / 255) */
            unsigned ink = ((v >> 8) + v) >> 8;
            rgb[c] = (uint8_t)(k - ink);
        }
}

static void jpeg_rows(struct jpeg_decompress_struct *c, int w, uint8_t *rgb,
                      uint8_t *row) {
    while (c->output_scanline < c->output_height) {
        uint8_t *to = rgb + (size_t)c->output_scanline * w * 3, *line = row ? row : to;
        jpeg_read_scanlines(c, &line, 1);
        if (row) cmyk_row(row, w, to);
    }
}

static bool jpeg_decode(Bytes f, int w, int h, uint8_t *rgb, Why *why) {
    struct jpeg_decompress_struct c = {0};
    Manager m = {.why = why};
    uint8_t *row = malloc((size_t)w * 4); /* for CMYK; not changed behind setjmp */
    if (!row) return why_set(why, "out of memory for a row of %d pixels", w);
    c.err = jpeg_std_error(&m.base);
    m.base.error_exit = jpeg_fail;
    m.base.emit_message = jpeg_message;
    m.progress.progress_monitor = jpeg_progress;
    volatile bool ok = false;
    if (!setjmp(m.back)) {
        jpeg_create_decompress(&c);
        c.progress = &m.progress;
        jpeg_mem_src(&c, f.b, (unsigned long)f.n);
        jpeg_read_header(&c, TRUE);
        bool inks = c.jpeg_color_space == JCS_CMYK || c.jpeg_color_space == JCS_YCCK;
        c.out_color_space = inks ? JCS_CMYK : JCS_RGB;
        jpeg_start_decompress(&c);
        if ((int)c.output_width == w && (int)c.output_height == h) {
            jpeg_rows(&c, w, rgb, inks ? row : NULL);
            ok = true;
        } else {
            why_set(why, "JPEG: two frames of different sizes");
        }
    }
    jpeg_destroy_decompress(&c);
    free(row);
    return ok;
}

const ImageFormat image_jpeg = {"JPEG", jpeg_is, jpeg_size, jpeg_decode, NULL};
