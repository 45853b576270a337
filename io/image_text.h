/* PNG files with texts in them, as programs that draw leave their settings. */
#ifndef GRAPHRUN_IMAGE_TEXT_H
#define GRAPHRUN_IMAGE_TEXT_H
#include "io/data.h"

typedef struct ImageText {
    const char *key, /* 1 ... 79 letters of ASCII */
        *text;       /* UTF-8; NULL: left out */
} ImageText;
/* RGB, 8 bits; ASCII texts as tEXt, others as iTXt (PNG specification, 11.3.4). */
bool image_write_png_texts(const char *path, const Image *im, const ImageText *t, int n,
                           Err *e);
#endif
