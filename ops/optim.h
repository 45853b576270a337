/* How the inputs of an optimizer's rows lie: for the passes that make them. */
#ifndef GRAPHRUN_OPS_OPTIM_H
#define GRAPHRUN_OPS_OPTIM_H
#include "kernels/update.h"
#endif
