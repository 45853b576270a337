/* Writing pictures. Files appear whole or not at all. */
#ifndef GRAPHRUN_IMAGE_WRITE_H
#define GRAPHRUN_IMAGE_WRITE_H
#include "io/data.h"

/* RGB, 8 bits. */
bool image_write_png(const char *path, const Image *im, Err *e);
/* quality 1 ... 100; colours at half the resolution, as Pillow does. */
bool image_write_jpeg(const char *path, const Image *im, int quality, Err *e);
/* The same as a file's bytes, which the caller frees. */
bool image_jpeg_bytes(const Image *im, int quality, uint8_t **bytes, size_t *n, Err *e);
#endif
