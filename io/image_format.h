/* The picture formats, one row each; the first row whose `is` says yes reads the file. */
#ifndef GRAPHRUN_IMAGE_FORMAT_H
#define GRAPHRUN_IMAGE_FORMAT_H
#include "io/data.h"

typedef struct Bytes {
    const uint8_t *b;
    size_t n;
} Bytes;
typedef struct Why { /* the reason of a failure */
    char text[200];
} Why;
bool why_set(Why *why, const char *fmt, ...) PRINTF(2, 3); /* returns false */

typedef struct ImageFormat {
    const char *name;
    bool (*is)(Bytes f); /* looks at the first bytes; f.n may be 0 */
    /* Header and structure to the end; w, h at least 1 when true. */
    bool (*size)(Bytes f, int *w, int *h, Why *why);
    /* rgb[h*w*3], of the size that `size` gave: any mode as 8-bit RGB, alpha dropped. */
    bool (*decode)(Bytes f, int w, int h, uint8_t *rgb, Why *why);
    /* The same with its alpha, rgba[h*w*4]; NULL: such files have none. */
    bool (*rgba)(Bytes f, int w, int h, uint8_t *rgba, Why *why);
} ImageFormat;
/* As image_read, from memory. */
bool image_parse(Bytes f, Image *out, Why *why);
/* As image_size; the reason without the file's name. */
bool image_probe(const char *path, int *w, int *h, Why *why);
extern const ImageFormat image_png, image_jpeg, image_webp, image_bmp;

static inline uint32_t le16(const uint8_t *b) {
    return (uint32_t)b[0] | (uint32_t)b[1] << 8;
}
static inline uint32_t le32(const uint8_t *b) {
    return le16(b) | le16(b + 2) << 16;
}
static inline uint32_t be16(const uint8_t *b) {
    return (uint32_t)b[0] << 8 | b[1];
}
static inline uint32_t be32(const uint8_t *b) {
    return be16(b) << 16 | be16(b + 2);
}
#endif
