/* group_norm, layer_norm and their gradients, whole rows of channels at a time
 * (kernels/norm_fast.c). */
#ifndef GRAPHRUN_NORM_FAST_H
#define GRAPHRUN_NORM_FAST_H
#include "kernels/epilogue.h"

bool norm_fast_fits(const Sig *s);
size_t group_norm_fast_work(const Sig *s);
void group_norm_fast(const Call *c);
size_t group_norm_grad_fast_work(const Sig *s);
void group_norm_grad_fast(const Call *c);
void layer_norm_fast(const Call *c);
size_t layer_norm_grad_fast_work(const Sig *s);
void layer_norm_grad_fast(const Call *c);
#endif
