/* update: an optimizer's program over one tensor, slice by slice. Numbers of a slice
 * (learning rate, step count, bias corrections) are computed once in f64, elements in tiles
 * of f32, whatever they are stored in.
 * Outputs are written over their inputs. With ok 0, or for a slice that is not active,
 * nothing is touched.
 * assign: one tensor written over another, unless told not to. */
#include "kernels/kernels.h"
#include "kernels/program.h"
#include "kernels/update.h"

#include <string.h>

/* ---- the program ---- */

Slices slices_of(const UpdateAttrs *at, const Type *p) {
    int64_t all = type_count(p);
    if (at->axis < 0) return (Slices){1, all, all, all};
    int64_t inner = 1, d = p->dim[at->axis];
    for (int i = (int)at->axis + 1; i < p->rank; i++) inner *= p->dim[i];
    return (Slices){d / at->size, at->size * inner, d * inner, all / (d / at->size)};
}

static bool bind_states(Arena *a, const Sig *s, UpdateForm *u, FNames *names, Err *e) {
    const UpdateAttrs *at = s->attrs;
    char *list = arena_strdup(a, at->states ? at->states : ""), *rest = NULL;
    for (char *name = strtok_r(list, " ", &rest); name;
         name = strtok_r(NULL, " ", &rest)) {
        int i = u->n_state++;
        if (UP_STATE + i >= s->n_in)
            return err_at(e, loc_none(), "states '%s' for %d values", at->states,
                          s->n_in - UP_STATE);
        fnames_set(a, names, name, formula_var(u->f, VAR_STATE + i));
        const Type *t = &s->in[UP_STATE + i], *p = &s->in[UP_P];
        u->wide[VAR_STATE + i] = type_same_shape(t, p) && dtype_mix(t->dtype, p->dtype);
    }
    if (UP_STATE + u->n_state != s->n_in)
        return err_at(e, loc_none(), "states '%s' for %d values",
                      at->states ? at->states : "", s->n_in - UP_STATE);
    return true;
}

static bool find_roots(Arena *a, const UpdateAttrs *at, UpdateForm *u,
                       const FNames *names) {
    char *list = arena_strdup(a, at->states ? at->states : ""), *rest = NULL;
    u->root = NEW(a, int, u->n_state + 1);
    u->root[0] = fnames_get(names, "p");
    int i = 1;
    for (char *name = strtok_r(list, " ", &rest); name;
         name = strtok_r(NULL, " ", &rest))
        u->root[i++] = fnames_get(names, name);
    return true;
}

bool update_read(Arena *a, const Sig *s, UpdateForm *u, Err *e) {
    const UpdateAttrs *at = s->attrs;
    FNames names = {0};
    int last;
    *u = (UpdateForm){.f = formula_new(a)};
    u->wide = NEW(a, bool, VAR_STATE + s->n_in);
    u->wide[VAR_P] = u->wide[VAR_G] = true;
    int g = formula_add(u->f, F_MUL, formula_var(u->f, VAR_G),
                        formula_var(u->f, VAR_SCALE), 0);
    fnames_set(a, &names, "p", formula_var(u->f, VAR_P));
    fnames_set(a, &names, "g", g);
    fnames_set(a, &names, "lr", formula_var(u->f, VAR_LR));
    if (!bind_states(a, s, u, &names, e)) return false;
    if (!formula_parse(u->f, at->f ? at->f : "", &names, &last, e)) return false;
    u->n_var = VAR_STATE + u->n_state;
    return find_roots(a, at, u, &names);
}

typedef struct Prep {
    Program *program;
    Slices slices;
    const bool *wide;
    int n_state, n_var;
} Prep;

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    UpdateForm u;
    if (!update_read(a, s, &u, e)) return false;
    Prep *p = NEW(a, Prep, 1);
    if (!program_compile(a, u.f, u.root, 1 + u.n_state, u.wide, u.n_var, &p->program,
                         e))
        return false;
    p->slices = slices_of(s->attrs, &s->in[UP_P]);
    p->wide = u.wide;
    p->n_state = u.n_state;
    p->n_var = u.n_var;
    *prep = p;
    return true;
}

/* The slots of every slice, in f64. */
static size_t work(const Sig *s) {
    Arena *a = arena_new();
    const void *prep;
    Err e = {0};
    size_t bytes = 0;
    if (prepare(a, s, &prep, &e)) {
        const Prep *p = prep;
        bytes = (size_t)p->slices.n * (size_t)p->program->n_slot * sizeof(double);
    }
    arena_free(a);
    return bytes;
}

/* ---- a run ---- */

typedef struct Run {
    const Call *c;
    const Prep *prep;
    const TileOps *tile;
    int64_t blocks; /* per slice */
} Run;

static bool active(const Call *c, int64_t slice) {
    const int32_t *flags = c->in[UP_ACTIVE].data;
    return !flags || flags[slice];
}

static int input_of(int var) {
    return var < VAR_STATE ? var : UP_STATE + var - VAR_STATE;
}
static int output_input(int out) {
    return out ? UP_STATE + out - 1 : UP_P;
}

/* Slots of all active slices; then the new numbers, because they overwrite the old. */
static void per_slice(const Run *r) {
    const Call *c = r->c;
    const Program *p = r->prep->program;
    double *slots = c->work, var[64];
    for (int64_t s = 0; s < r->prep->slices.n; s++, slots += p->n_slot) {
        if (!active(c, s)) continue;
        var[VAR_LR] = var[VAR_SCALE] = 0;
        for (int v = VAR_LR; v < r->prep->n_var; v++) {
            const Tensor *t = &c->in[input_of(v)];
            if (v < VAR_STATE)
                tile_f64.load(&var[v], t->data, t->type->dtype, 1);
            else if (!r->prep->wide[v])
                var[v] = ((const double *)t->data)[s];
        }
        program_once(p, var, slots);
        for (int i = 0; i < r->prep->n_state; i++)
            if (!r->prep->wide[VAR_STATE + i])
                ((double *)c->out[1 + i].data)[s] = slots[p->out[1 + i] & ~SCALAR];
    }
}

/* Elements e ... e+n-1 of a slice into a register or out of it, by the runs in which they
 * lie in memory. */
static void move(const Run *r, const Tensor *t, char *reg, int64_t slice, int64_t e,
                 int64_t n, bool out) {
    const Slices *s = &r->prep->slices;
    const DType type = t->type->dtype;
    while (n) {
        int64_t at = e / s->run * s->row + slice * s->run + e % s->run;
        int64_t run = s->run - e % s->run < n ? s->run - e % s->run : n;
        char *m = (char *)t->data + (size_t)at * dtype_size(type);
        if (out)
            r->tile->store(m, type, reg, run);
        else
            r->tile->load(reg, m, type, run);
        reg += (size_t)run * r->tile->size;
        e += run, n -= run;
    }
}

static void tile_update(const Run *r, char *tiles, void **reg, const void *slots,
                        const double *numbers, int64_t slice, int64_t e, int64_t n) {
    const Program *p = r->prep->program;
    size_t bytes = TILE * r->tile->size;
    for (int i = 0; i <= p->n_reg; i++) reg[i] = tiles + (size_t)i * bytes;
    for (int i = 0; i < p->n_load; i++)
        move(r, &r->c->in[input_of(p->load[i].var)], reg[i], slice, e, n, false);
    r->tile->run(p, reg, slots, (int)n);
    for (int i = 0; i <= r->prep->n_state; i++) {
        if (i && !r->prep->wide[VAR_STATE + i - 1]) continue;
        uint16_t root = p->out[i];
        void *from = reg[root & SCALAR ? p->n_reg : root];
        if (root & SCALAR) r->tile->fill(from, numbers[root & ~SCALAR], n);
        move(r, &r->c->out[i], from, slice, e, n, true);
    }
}

static void block(void *arg, int64_t index, void *scratch) {
    const Run *r = arg;
    const Program *p = r->prep->program;
    int64_t slice = index / r->blocks, b = index % r->blocks;
    if (!active(r->c, slice)) return;
    const double *numbers = (const double *)r->c->work + slice * p->n_slot;
    void *slots = scratch;
    void **reg = (void **)((double *)slots + p->n_slot);
    char *tiles = (char *)(((uintptr_t)(reg + p->n_reg + 1) + 63) & ~(uintptr_t)63);
    slots_to(r->tile, slots, numbers, p->n_slot);
    int64_t end = (b + 1) * BLOCK, count = r->prep->slices.count;
    if (end > count) end = count;
    for (int64_t e = b * BLOCK; e < end; e += TILE)
        tile_update(r, tiles, reg, slots, numbers, slice, e,
                    end - e < TILE ? end - e : TILE);
}

static void run_with(const Call *c, const TileOps *tile) {
    Run r = {c, c->prep, tile, 0};
    double ok;
    for (int i = 0; i < c->n_out; i++) {
        const Tensor *old = &c->in[output_input(i)];
        if (old->data != c->out[i].data)
            memcpy(c->out[i].data, old->data, type_bytes(old->type));
    }
    tile_f64.load(&ok, c->in[UP_OK].data, c->in[UP_OK].type->dtype, 1);
    if (ok == 0) return;
    r.blocks = blocks_of(r.prep->slices.count);
    per_slice(&r);
    c->dev->par(c->dev, r.prep->slices.n * r.blocks, block, &r);
}

static void run(const Call *c) {
    run_with(c, c->in[UP_P].type->dtype == F64 ? &tile_f64 : &tile_f32);
}

#if defined(__x86_64__)
static bool fits_avx2(const Sig *s) {
    return s->in[UP_P].dtype == F32 && have_avx2();
}
static void run_avx2(const Call *c) {
    run_with(c, &tile_f32_avx2);
}
#endif

const Kernel cpu_update[] = {
#if defined(__x86_64__)
    {.name = "avx2",
     .fits = fits_avx2,
     .work = work,
     .prepare = prepare,
     .run = run_avx2},
#endif
    {.name = "ref", .work = work, .prepare = prepare, .run = run},
    {0}};

/* ---- many tensors ---- */

int updates_count(const Sig *s, int *per) {
    const char *name = ((const UpdateAttrs *)s->attrs)->states;
    *per = 1;
    for (const char *c = name; c && *c; c++)
        *per += *c != ' ' && (c == name || c[-1] == ' ');
    const int n = s->n_in - UPS_OVER;
    return n > 0 && n % (*per + 1) == 0 ? n / (*per + 1) : 0;
}

int updates_input(int n, int per, int i, int in) {
    if (in == UP_ACTIVE) return -1;
    if (in == UP_G) return UPS_OVER + n * per + i;
    if (in == UP_P) return UPS_OVER + i * per;
    return in < UP_STATE ? in - UP_LR : UPS_OVER + i * per + 1 + in - UP_STATE;
}

Sig updates_one(const Sig *s, int i, const UpdateAttrs *at, Type *in, Type *out) {
    int per;
    const int n = updates_count(s, &per);
    for (int k = 0; k < UP_STATE + per - 1; k++) {
        const int from = updates_input(n, per, i, k);
        in[k] = (Type){.rank = -1};
        if (from >= 0) in[k] = s->in[from];
    }
    return (Sig){NULL, at, in, UP_STATE + per - 1, out, per};
}

typedef struct Preps {
    const void **one;
    int n, per;
} Preps;

static bool prepare_many(Arena *a, const Sig *s, const void **prep, Err *e) {
    Preps *p = NEW(a, Preps, 1);
    p->n = updates_count(s, &p->per);
    p->one = NEW(a, const void *, p->n + 1);
    for (int i = 0; i < p->n; i++) {
        Type in[UPS_ONE], out[UPS_ONE];
        const Sig one = updates_one(s, i, s->attrs, in, out);
        if (!prepare(a, &one, &p->one[i], e)) return false;
    }
    *prep = p;
    return true;
}

static size_t work_many(const Sig *s) {
    int per;
    Type in[UPS_ONE], out[UPS_ONE];
    if (!updates_count(s, &per)) return 0;
    const Sig one = updates_one(s, 0, s->attrs, in, out);
    return work(&one); /* whole slices: all need the same */
}

static void run_many(const Call *c) {
    const Preps *p = c->prep;
    for (int i = 0; i < p->n; i++) {
        Tensor in[UPS_ONE];
        for (int k = 0; k < UP_STATE + p->per - 1; k++) {
            const int from = updates_input(p->n, p->per, i, k);
            static const Type none = {.rank = -1};
            in[k] = from < 0 ? (Tensor){NULL, &none} : c->in[from];
        }
        Call one = *c;
        one.in = in, one.n_in = UP_STATE + p->per - 1;
        one.out = c->out + (ptrdiff_t)i * p->per, one.n_out = p->per;
        one.prep = p->one[i];
        run(&one);
    }
}

const Kernel cpu_updates[] = {
    {.name = "ref", .work = work_many, .prepare = prepare_many, .run = run_many}, {0}};

/* ---- assign ---- */

static void assign_run(const Call *c) {
    const Type *to = c->out[0].type, *from = c->in[1].type;
    double when = 1;
    if (c->n_in > 2 && c->in[2].data)
        tile_f64.load(&when, c->in[2].data, c->in[2].type->dtype, 1);
    if (when != 0)
        convert(c->out[0].data, to->dtype, c->in[1].data, from->dtype, type_count(to));
    else if (c->out[0].data != c->in[0].data)
        memcpy(c->out[0].data, c->in[0].data, type_bytes(to));
}

const Kernel cpu_assign[] = {{.name = "ref", .run = assign_run}, {0}};
