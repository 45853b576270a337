/* Launches of formulas: the register program of the CPU, with its layout, as the parameter
 * of gr_program (pointwise.cu). What is too large for it has no CUDA kernel. */
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"
#include "kernels/layout.h"
#include "kernels/program.h"

_Static_assert((int)SCALAR == (int)GPU_SCALAR, "one meaning of operands");

typedef struct Prep {
    const Program *program;
    GpuProgram parameter; /* without addresses */
} Prep;

static GpuInstr instr_of(const Instr *i) {
    return (GpuInstr){i->op, i->dst, i->a, i->b, i->c};
}

static bool small_enough(const Program *p) {
    return p->n_load <= GPU_LOADS && p->n_scalar <= GPU_LOADS && p->n_reg <= GPU_REGS &&
           p->n_slot <= GPU_SLOTS && p->n_instr <= GPU_INSTR && p->n_once <= GPU_INSTR;
}

static void describe(Prep *out, const Program *p, const Layout *l) {
    GpuProgram *g = &out->parameter;
    out->program = p;
    g->n_load = p->n_load, g->n_single = p->n_scalar, g->n_slot = p->n_slot;
    g->n_instr = p->n_instr, g->n_once = p->n_once, g->out = p->out[0];
    for (int i = 0; i < p->n_instr; i++) g->instr[i] = instr_of(&p->instr[i]);
    for (int i = 0; i < p->n_once; i++) g->once[i] = instr_of(&p->once[i]);
    for (int i = 0; i < p->n_slot; i++) g->number[i] = p->number[i];
    for (int i = 0; i < p->n_scalar; i++) g->slot_of[i] = p->scalar[i].at;
    g->rank = l->rank;
    for (int k = 0; k < l->rank; k++) {
        g->dim[k] = l->dim[k];
        for (int i = 0; i < p->n_load; i++) g->stride[i][k] = l->stride[i][k];
    }
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
    if (!small_enough(p))
        return err_fail(e, "formula '%s' is too long for CUDA", at->f);
    Type *loaded = NEW(a, Type, s->n_in + 1);
    for (int i = 0; i < p->n_load; i++) loaded[i] = s->in[p->load[i].var];
    Prep *out = NEW(a, Prep, 1);
    describe(out, p, layout_new(a, &s->out[0], loaded, p->n_load));
    *prep = out;
    return true;
}

/* Wide operands of types that the kernel reads, and a program that fits into it. */
static bool fits(const Sig *s) {
    if (((const PointwiseAttrs *)s->attrs)->dtype == F64) return false;
    Sig wide = *s;
    Type in[64];
    for (int i = 0; i < s->n_in; i++) {
        in[i] = s->in[i];
        if (in[i].dtype == F64 && type_count(&in[i]) == 1) in[i].dtype = F32;
    }
    wide.in = in;
    if (!gpu_types_fit(&wide)) return false;
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
    for (int i = 0; i < g.n_load; i++)
        g.x[i] = gpu_tensor(&c->in[prep->program->load[i].var]);
    for (int i = 0; i < g.n_single; i++)
        g.single[i] = gpu_tensor(&c->in[prep->program->scalar[i].var]);
    g.y = gpu_tensor(&c->out[0]);
    g.n = type_count(c->out[0].type);
    gpu_elements(c, "gr_program", g.n, &g, sizeof g);
}

const Kernel cuda_pointwise[] = {
    {.name = "cuda", .fits = fits, .prepare = prepare, .run = run}, {0}};
