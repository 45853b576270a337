/* Attention block by block, without the matrix of probabilities (kernels/flash.c). */
#ifndef GRAPHRUN_FLASH_H
#define GRAPHRUN_FLASH_H
#include "graph/op.h"

bool flash_fits(const Sig *s);
size_t flash_work(const Sig *s);
void flash_run(const Call *c);
size_t flash_grad_work(const Sig *s);
void flash_grad_run(const Call *c);
#endif
