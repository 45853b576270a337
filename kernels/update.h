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

/* The row `updates`: the same step for n tensors that are whole slices. Inputs: lr, scale and
 * ok of all; then for each tensor what is written over, p and its states; then for each its
 * g. The outputs are the middle part. */
enum { UPS_LR, UPS_SCALE, UPS_OK, UPS_OVER };
/* How many tensors; 0: the inputs are no such list. per: 1 and the states. */
int updates_count(const Sig *s, int *per);
/* Tensor i's step as one use of the row `update`, whose op the caller knows; in, out: room
 * for UPS_ONE types. */
enum { UPS_ONE = 40, UPS_OUTS = 64, UPS_TENSORS = 32 /* of a node */ };
Sig updates_one(const Sig *s, int i, const UpdateAttrs *at, Type *in, Type *out);
/* Input `in` of that use, as one of all inputs; -1: absent. */
int updates_input(int n, int per, int i, int in);

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
