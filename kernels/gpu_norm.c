/* Launches of the norms in norm.cu. */
#include "kernels/epilogue.h"
#include "kernels/gpu_host.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

#include <math.h>

/* The formula behind the norm, over n_var variables; *prep NULL: there is none. */
static bool prepare_code(Arena *a, const Sig *s, int n_var, const void **prep, Err *e) {
    const char *f = ((const NormAttrs *)s->attrs)->f;
    Program *p;
    *prep = NULL;
    if (!f) return true;
    GpuNormProgram *out = NEW(a, GpuNormProgram, 1);
    if (!epilogue_prepare(a, f, n_var, &p, e)) return false;
    *prep = out;
    return gpu_code(&out->code, p) ||
           err_fail(e, "formula '%s' is too long for CUDA", f);
}
static bool prepare_norm(Arena *a, const Sig *s, const void **prep, Err *e) {
    return prepare_code(a, s, 1, prep, e);
}
static bool prepare_grad(Arena *a, const Sig *s, const void **prep, Err *e) {
    return prepare_code(a, s, 2, prep, e);
}
static bool norm_fits(const Sig *s) {
    Arena *a = arena_new();
    Err e = {0};
    const void *prep;
    bool ok = gpu_types_fit(s) && prepare_grad(a, s, &prep, &e);
    arena_free(a);
    return ok;
}

/* The kernel, or its form with a formula. */
static void launch(const Call *c, const char *plain, const char *with, int64_t blocks,
                   int64_t n, const GpuNorm *p) {
    if (!c->prep) {
        gpu_blocks(c, plain, blocks, n, p, sizeof *p);
        return;
    }
    GpuNormProgram f = *(const GpuNormProgram *)c->prep;
    f.norm = *p;
    gpu_blocks(c, with, blocks, n, &f, sizeof f);
}

/* Parts of a group norm of x; of a layer norm if groups is 0. */
static GpuNorm parts_of(const Call *c, int64_t groups) {
    const Type *x = c->in[0].type;
    GpuNorm p = {.x = gpu_tensor(&c->in[0]), .w = gpu_tensor(&c->in[1])};
    p.y = gpu_tensor(&c->out[0]);
    p.eps = ((const NormAttrs *)c->attrs)->eps;
    p.same_weight = !groups;
    p.samples = groups ? x->dim[0] : 1;
    p.parts = groups ? groups : type_rows(x);
    p.rows = groups ? type_rows(x) / x->dim[0] : 1;
    p.width = groups ? type_last(x) / groups : type_last(x);
    return p;
}

static void norm(const Call *c, int64_t groups) {
    GpuNorm p = parts_of(c, groups);
    p.b = gpu_tensor(&c->in[2]);
    p.mean = c->out[1].data, p.rstd = c->out[2].data;
    launch(c, "gr_norm", "gr_norm_f", p.samples * p.parts, p.rows * p.width, &p);
}
static void norm_grad(const Call *c, int64_t groups) {
    GpuNorm p = parts_of(c, groups);
    p.mean = c->in[2].data, p.rstd = c->in[3].data;
    p.dy = gpu_tensor(&c->in[4]);
    if (c->prep) p.b = gpu_tensor(&c->in[5]);
    const int residual = groups ? 6 : 5;
    if (given(c, residual)) p.residual = gpu_tensor(&c->in[residual]);
    launch(c, "gr_norm_grad", "gr_norm_grad_f", p.samples * p.parts, p.rows * p.width,
           &p);
    if (c->n_out < 3) return;
    p.dw = c->out[1].data, p.db = c->out[2].data;
    const Type *x = c->in[0].type;
    const int64_t rows = type_rows(x);
    launch(c, "gr_norm_grad_weight", "gr_norm_grad_weight_f", type_last(x), rows, &p);
}
static void group_norm(const Call *c) {
    norm(c, ((const NormAttrs *)c->attrs)->groups);
}
static void group_norm_grad(const Call *c) {
    norm_grad(c, ((const NormAttrs *)c->attrs)->groups);
}
static void layer_norm(const Call *c) {
    norm(c, 0);
}
static void layer_norm_grad(const Call *c) {
    norm_grad(c, 0);
}

#define NORM(op, prep, body)                                                           \
    const Kernel cuda_##op[] = {                                                       \
        {.name = "cuda", .fits = norm_fits, .prepare = prep, .run = body}, {0}}
NORM(group_norm, prepare_norm, group_norm);
NORM(group_norm_grad, prepare_grad, group_norm_grad);
NORM(layer_norm, prepare_norm, layer_norm);
NORM(layer_norm_grad, prepare_grad, layer_norm_grad);
