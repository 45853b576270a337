/* Convolutions of 3 x 3 by Winograd's minimal filtering (kernels/winograd.c). */
#ifndef GRAPHRUN_WINOGRAD_H
#define GRAPHRUN_WINOGRAD_H
#include "graph/op.h"

/* Of conv2d and conv2d_grad_x: 3 x 3, stride 1, one pixel of zeros around, wide enough. */
bool winograd_fits(const Sig *s);
size_t winograd_work(const Sig *s);
/* x[b,h,w,c], w[o,c,3,3], bias[o], add -> y[b,h,w,o] */
void winograd_run(const Call *c);
/* dy[b,h,w,o], w[o,c,3,3], add -> dx[b,h,w,c] */
void winograd_grad_x_run(const Call *c);
#endif
