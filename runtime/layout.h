/* Between Torch's layout of files ([B,C,H,W]) and ours ([B,H,W,C]). */
#ifndef GRAPHRUN_LAYOUT_H
#define GRAPHRUN_LAYOUT_H
#include <stdint.h>

static inline void nchw_to_nhwc(float *out, const float *in, int64_t b, int64_t c,
                                int64_t hw) {
    for (int64_t n = 0; n < b; n++, in += c * hw, out += c * hw)
        for (int64_t i = 0; i < hw; i++)
            for (int64_t k = 0; k < c; k++) out[i * c + k] = in[k * hw + i];
}
static inline void nhwc_to_nchw(float *out, const float *in, int64_t b, int64_t c,
                                int64_t hw) {
    for (int64_t n = 0; n < b; n++, in += c * hw, out += c * hw)
        for (int64_t i = 0; i < hw; i++)
            for (int64_t k = 0; k < c; k++) out[k * hw + i] = in[i * c + k];
}
#endif
