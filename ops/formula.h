/* Formulas as shared expressions, for those who rewrite pointwise rows: parse, join, print
 * (kernels/formula.h). What runs them stays with the kernels. */
#ifndef GRAPHRUN_OPS_FORMULA_H
#define GRAPHRUN_OPS_FORMULA_H
#include "kernels/formula.h"
#endif
