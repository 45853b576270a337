/* Reading an optimizer's program: shared by the row, which checks it, and the kernel. */
#ifndef GRAPHRUN_UPDATE_H
#define GRAPHRUN_UPDATE_H
#include "graph/op.h"
#include "kernels/attrs.h"
#include "kernels/formula.h"

/* Inputs of the row; states stand from UP_STATE on. */
enum { UP_P, UP_G, UP_LR, UP_SCALE, UP_OK, UP_ACTIVE, UP_STATE };
/* Variables of the formula; state i is variable VAR_STATE + i. */
enum { VAR_P, VAR_G, VAR_LR, VAR_SCALE, VAR_STATE };

typedef struct UpdateForm {
    Formula *f;
    int n_state, n_var;
    bool *wide; /* per variable: one value per element */
    int *root;  /* new p, then the new states */
} UpdateForm;

/* How the tensor is cut: element e of slice s is element
 * e / run * row + s * run + e % run of the tensor. */
typedef struct Slices {
    int64_t n, run, row, count; /* slices; elements of a slice */
} Slices;

Slices slices_of(const UpdateAttrs *at, const Type *p);
bool update_read(Arena *a, const Sig *s, UpdateForm *out, Err *e);
#endif
