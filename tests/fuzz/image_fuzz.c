/* libFuzzer entry: any bytes as a picture; what is decoded is resized by every filter.
 * */
#include "io/image_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { PIXELS = 1 << 16 }; /* larger pictures are only decoded */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Image im;
    Why why = {""};
    if (!image_parse((Bytes){data, n}, &im, &why)) {
        if (!why.text[0]) __builtin_trap();
        return 0;
    }
    for (int f = FILTER_AREA; f <= FILTER_NEAREST && im.w * im.h <= PIXELS; f++) {
        Image out;
        Err e = {0};
        int w = n ? 1 + data[n / 2] : 1, h = n ? 1 + data[n / 3] : 1;
        if (!image_resize(&im, w, h, (Filter)f, &out, &e)) __builtin_trap();
        image_free(&out);
    }
    image_free(&im);
    return 0;
}
