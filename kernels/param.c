/* Kernels of index and active_grad; active is a view. */
#include "kernels/kernels.h"

#include <string.h>

static void index_run(const Call *c) {
    double *y = c->out[0].data;
    for (int64_t i = 0; i < type_count(c->out[0].type); i++) y[i] = (double)i;
}

const Kernel cpu_index[] = {{.name = "ref", .run = index_run}, {0}};

const Kernel cpu_active[] = {{0}};

/* dy[outer, slices, size * inner]: copies slice k, clears the others; in place as well. */
static void active_grad_run(const Call *c) {
    const ActiveAttrs *at = c->attrs;
    const Type *t = c->in[0].type;
    int axis = (int)(at->axis < 0 ? at->axis + t->rank : at->axis);
    size_t run = dtype_size(t->dtype) * (size_t)at->size;
    for (int i = axis + 1; i < t->rank; i++) run *= (size_t)t->dim[i];
    int64_t slices = t->dim[axis] / at->size, outer = 1;
    for (int i = 0; i < axis; i++) outer *= t->dim[i];
    int32_t k = *(const int32_t *)c->in[1].data;
    for (int64_t i = 0; i < outer * slices; i++) {
        char *dx = (char *)c->out[0].data + (size_t)i * run;
        const char *dy = (const char *)c->in[0].data + (size_t)i * run;
        if (i % slices != k)
            memset(dx, 0, run);
        else if (dx != dy)
            memcpy(dx, dy, run);
    }
}

const Kernel cpu_active_grad[] = {{.name = "ref", .run = active_grad_run}, {0}};
