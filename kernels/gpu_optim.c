/* Launches of an optimizer's program, in optim.cu. */
#include "kernels/gpu_host.h"
#include "kernels/kernels.h"
#include "kernels/update.h"

typedef struct Prep {
    const Program *program;
    const bool *wide; /* per variable */
    int n_state;
    GpuUpdate parameter; /* without addresses */
} Prep;

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    UpdateForm u;
    Program *p;
    if (!update_read(a, s, &u, e) ||
        !program_compile(a, u.f, u.root, 1 + u.n_state, u.wide, u.n_var, &p, e))
        return false;
    Prep *out = NEW(a, Prep, 1);
    GpuUpdate *g = &out->parameter;
    if (!gpu_code(&g->code, p))
        return err_fail(e, "the optimizer's program is too long for CUDA");
    *out = (Prep){p, u.wide, u.n_state, *g};
    const Slices cut = slices_of(s->attrs, &s->in[UP_P]);
    g->slices = cut.n, g->run = cut.run, g->row = cut.row, g->count = cut.count;
    g->n_single = p->n_scalar, g->n_out = 1 + u.n_state;
    for (int i = 0; i < p->n_scalar; i++) {
        g->slot_of[i] = p->scalar[i].at;
        g->each[i] = p->scalar[i].var >= VAR_STATE;
    }
    *prep = out;
    return true;
}

static size_t work(const Sig *s) {
    Arena *a = arena_new();
    const void *prep = NULL;
    Err e = {0};
    size_t bytes = 0;
    if (prepare(a, s, &prep, &e)) {
        const GpuUpdate *g = &((const Prep *)prep)->parameter;
        bytes = (size_t)g->slices * (size_t)g->code.n_slot * sizeof(double);
    }
    arena_free(a);
    return bytes;
}

static bool fits(const Sig *s) {
    Arena *a = arena_new();
    const void *prep = NULL;
    Err e = {0};
    bool ok = s->in[UP_P].dtype != F64 && gpu_types_load(s) && prepare(a, s, &prep, &e);
    arena_free(a);
    return ok;
}

static int input_of(int var) {
    return var < VAR_STATE ? var : UP_STATE + var - VAR_STATE;
}

static void run(const Call *c) {
    const Prep *prep = c->prep;
    const Program *p = prep->program;
    GpuUpdate g = prep->parameter;
    g.ok = gpu_tensor(&c->in[UP_OK]), g.active = gpu_tensor(&c->in[UP_ACTIVE]);
    g.slot = c->work;
    for (int i = 0; i < p->n_load; i++)
        g.x[i] = gpu_tensor(&c->in[input_of(p->load[i].var)]);
    for (int i = 0; i < p->n_scalar; i++)
        g.single[i] = gpu_tensor(&c->in[input_of(p->scalar[i].var)]);
    for (int i = 0; i < g.n_out; i++)
        if (i && !prep->wide[VAR_STATE + i - 1])
            g.number[i] = gpu_tensor(&c->out[i]);
        else
            g.wide[i] = gpu_tensor(&c->out[i]);
    gpu_elements(c, "gr_update_numbers", g.slices, &g, sizeof g);
    gpu_elements(c, "gr_update", g.slices * g.count, &g, sizeof g);
}

const Kernel cuda_update[] = {
    {.name = "cuda", .fits = fits, .work = work, .prepare = prepare, .run = run}, {0}};

/* ---- many tensors ---- */

_Static_assert((int)UPS_TENSORS == (int)GPU_TENSORS, "one bound of a node");

typedef struct Many {
    const Program *program;
    const bool *wide; /* per variable */
    int n, per;
    GpuUpdates parameter; /* without addresses */
} Many;

static bool prepare_many(Arena *a, const Sig *s, const void **prep, Err *e) {
    Type in[UPS_ONE], out[UPS_ONE];
    UpdateForm u;
    Program *p;
    Many *m = NEW(a, Many, 1);
    GpuUpdates *g = &m->parameter;
    *prep = m;
    m->n = updates_count(s, &m->per);
    const Sig one = updates_one(s, 0, s->attrs, in, out);
    if (!update_read(a, &one, &u, e) ||
        !program_compile(a, u.f, u.root, 1 + u.n_state, u.wide, u.n_var, &p, e))
        return false;
    m->program = p, m->wide = u.wide;
    if (!gpu_code(&g->code, p) || p->n_load > GPU_EACH || p->n_scalar > GPU_EACH ||
        m->per > GPU_EACH)
        return err_fail(e, "the optimizer's program is too long for CUDA");
    g->n = m->n, g->n_single = p->n_scalar, g->n_out = m->per;
    for (int i = 0; i < p->n_scalar; i++) g->slot_of[i] = p->scalar[i].at;
    for (int i = 0; i < m->n; i++) {
        const int at = updates_input(m->n, m->per, i, UP_P);
        g->first[i + 1] = g->first[i] + type_count(&s->in[at]);
    }
    return true;
}

static size_t work_many(const Sig *s) {
    Arena *a = arena_new();
    const void *prep = NULL;
    Err e = {0};
    size_t bytes = 0;
    if (prepare_many(a, s, &prep, &e)) {
        const Many *m = prep;
        bytes = (size_t)m->n * (size_t)m->parameter.code.n_slot * sizeof(double);
    }
    arena_free(a);
    return bytes;
}

static bool fits_many(const Sig *s) {
    Arena *a = arena_new();
    const void *prep = NULL;
    Err e = {0};
    bool ok = s->in[UPS_OVER].dtype != F64 && gpu_types_load(s) &&
              prepare_many(a, s, &prep, &e);
    arena_free(a);
    return ok;
}

static GpuTensor variable(const Call *c, const Many *m, int i, int var) {
    return gpu_tensor(&c->in[updates_input(m->n, m->per, i, input_of(var))]);
}

static void run_many(const Call *c) {
    const Many *m = c->prep;
    const Program *p = m->program;
    GpuUpdates g = m->parameter;
    g.ok = gpu_tensor(&c->in[UPS_OK]), g.slot = c->work;
    for (int i = 0; i < m->n; i++) {
        for (int k = 0; k < p->n_load; k++)
            g.x[i][k] = variable(c, m, i, p->load[k].var);
        for (int k = 0; k < p->n_scalar; k++)
            g.single[i][k] = variable(c, m, i, p->scalar[k].var);
        for (int k = 0; k < m->per; k++) {
            const GpuTensor y = gpu_tensor(&c->out[i * m->per + k]);
            if (k && !m->wide[VAR_STATE + k - 1])
                g.number[i][k] = y;
            else
                g.wide[i][k] = y;
        }
    }
    gpu_elements(c, "gr_updates_numbers", m->n, &g, sizeof g);
    gpu_elements(c, "gr_updates", g.first[m->n], &g, sizeof g);
}

const Kernel cuda_updates[] = {{.name = "cuda",
                                .fits = fits_many,
                                .work = work_many,
                                .prepare = prepare_many,
                                .run = run_many},
                               {0}};
