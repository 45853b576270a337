/* Launches of formulas: the register program of the CPU, with its layout, as the parameter
 * of gr_program (pointwise.cu). What is too large for it has no CUDA kernel. */
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"
#include "kernels/layout.h"
#include "kernels/program.h"

typedef struct Prep {
    const Program *program;
    GpuProgram parameter; /* without addresses */
} Prep;

static bool describe(Prep *out, const Program *p, const Layout *l) {
    GpuProgram *g = &out->parameter;
    out->program = p;
    if (!gpu_code(&g->code, p)) return false;
    g->n_single = p->n_scalar;
    for (int i = 0; i < p->n_scalar; i++) g->slot_of[i] = p->scalar[i].at;
    g->rank = l->rank;
    for (int k = 0; k < l->rank; k++) {
        g->dim[k] = l->dim[k];
        for (int i = 0; i < p->n_load; i++) g->stride[i][k] = l->stride[i][k];
    }
    return true;
}

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    const PointwiseAttrs *at = s->attrs;
    Formula *f = formula_new(a);
    FNames names = {0};
    Program *p;
    int root;
    fnames_inputs(f, &names, s->n_in);
    bool *wide = NEW(a, bool, s->n_in + 1);
    for (int i = 0; i < s->n_in; i++) wide[i] = type_count(&s->in[i]) != 1;
    if (!formula_parse(f, at->f, &names, &root, e) ||
        !program_compile(a, f, &root, 1, wide, s->n_in, &p, e))
        return false;
    Type *loaded = NEW(a, Type, s->n_in + 1);
    for (int i = 0; i < p->n_load; i++) loaded[i] = s->in[p->load[i].var];
    Prep *out = NEW(a, Prep, 1);
    if (!describe(out, p, layout_new(a, &s->out[0], loaded, p->n_load)))
        return err_fail(e, "formula '%s' is too long for CUDA", at->f);
    out->parameter.wide = at->dtype == F64;
    *prep = out;
    return true;
}

static bool fits(const Sig *s) {
    if (!gpu_types_load(s)) return false;
    Arena *a = arena_new();
    Err e = {0};
    const void *prep;
    bool ok = prepare(a, s, &prep, &e);
    arena_free(a);
    return ok;
}

static void run(const Call *c) {
    const Prep *prep = c->prep;
    GpuProgram g = prep->parameter;
    for (int i = 0; i < g.code.n_load; i++)
        g.x[i] = gpu_tensor(&c->in[prep->program->load[i].var]);
    for (int i = 0; i < g.n_single; i++)
        g.single[i] = gpu_tensor(&c->in[prep->program->scalar[i].var]);
    g.y = gpu_tensor(&c->out[0]);
    g.n = type_count(c->out[0].type);
    gpu_elements(c, g.wide ? "gr_program_wide" : "gr_program", g.n, &g, sizeof g);
}

const Kernel cuda_pointwise[] = {
    {.name = "cuda", .fits = fits, .prepare = prepare, .run = run}, {0}};
