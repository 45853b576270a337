/* Convolutions of 3 x 3 by Winograd's minimal filtering (kernels/winograd.c). */
#ifndef GRAPHRUN_WINOGRAD_H
#define GRAPHRUN_WINOGRAD_H
#include "graph/op.h"

/* Of conv2d: x[b,h,w,c], w[o,c,3,3], bias[o], add -> y; stride 1, one pixel of zeros around. */
bool winograd_fits(const Sig *s);
size_t winograd_work(const Sig *s);
void winograd_run(const Call *c);
/* Of conv2d_grad_x: dy[b,h,w,o], w[o,c,3,3], add -> dx. */
bool winograd_grad_x_fits(const Sig *s);
size_t winograd_grad_x_work(const Sig *s);
void winograd_grad_x_run(const Call *c);
#endif
