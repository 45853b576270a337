/* The compiler of register programs: splits the formula into its scalar part and its
 * tile-wide part and gives registers away at their last use. */
#include "kernels/program.h"
#include "kernels/isa.h"

#include <string.h>

typedef struct Compiler {
    Arena *a;
    Formula *f;
    Program *p;
    bool *used, *tile; /* per node: needed; has one value per element */
    uint16_t *where;   /* per node: its operand */
    int *last;         /* per node: the last node that reads it; roots: INT32_MAX */
    uint16_t *free_reg;
    int n_free;
} Compiler;

static int operands(const FNode *n, int out[3]) {
    int arity = formula_arity(n->op);
    out[0] = n->a, out[1] = n->b, out[2] = n->c;
    return arity;
}

/* Powers that are cheaper as something else: the exact same product, root or quotient. */
static int cheap_power(Formula *f, int a, double b) {
    int one = formula_number(f, 1);
    if (b == 2) return formula_add(f, F_MUL, a, a, 0);
    if (b == 3) return formula_add(f, F_MUL, formula_add(f, F_MUL, a, a, 0), a, 0);
    if (b == 0.5) return formula_add(f, F_SQRT, a, 0, 0);
    if (b == -0.5)
        return formula_add(f, F_DIV, one, formula_add(f, F_SQRT, a, 0, 0), 0);
    if (b == -1) return formula_add(f, F_DIV, one, a, 0);
    if (b == -2) return formula_add(f, F_DIV, one, formula_add(f, F_MUL, a, a, 0), 0);
    return -1;
}

/* Copies the formula with cheap powers; map[i] is the new node of node i. */
static Formula *cheapen(Arena *a, const Formula *f, int *map) {
    Formula *g = formula_new(a);
    for (int i = 0; i < f->n; i++) {
        const FNode *n = &f->node[i];
        int in[3], arity = operands(n, in);
        for (int k = 0; k < arity; k++) in[k] = map[in[k]];
        map[i] = -1;
        if (n->op == F_POW && f->node[n->b].op == F_NUMBER)
            map[i] = cheap_power(g, in[0], f->node[n->b].x);
        if (map[i] >= 0) continue;
        if (n->op == F_VAR)
            map[i] = formula_var(g, n->a);
        else if (n->op == F_NUMBER)
            map[i] = formula_number(g, n->x);
        else
            map[i] = formula_add(g, n->op, in[0], in[1], in[2]);
    }
    return g;
}

static void analyse(Compiler *c, const int *root, int n_root, const bool *wide) {
    int n = c->f->n;
    for (int i = 0; i < n_root; i++) {
        c->used[root[i]] = true;
        c->last[root[i]] = INT32_MAX;
    }
    for (int i = n - 1; i >= 0; i--) {
        int in[3], arity = operands(&c->f->node[i], in);
        for (int k = 0; k < arity && c->used[i]; k++) {
            c->used[in[k]] = true;
            if (c->last[in[k]] < i) c->last[in[k]] = i;
        }
    }
    for (int i = 0; i < n; i++) {
        const FNode *node = &c->f->node[i];
        int in[3], arity = operands(node, in);
        c->tile[i] = node->op == F_VAR && wide[node->a];
        for (int k = 0; k < arity; k++) c->tile[i] |= c->tile[in[k]];
    }
}

static void place_leaves(Compiler *c) {
    Program *p = c->p;
    for (int i = 0; i < c->f->n; i++) {
        const FNode *n = &c->f->node[i];
        if (!c->used[i]) continue;
        if (n->op == F_VAR && c->tile[i]) {
            c->where[i] = (uint16_t)p->n_load;
            p->load[p->n_load] = (SlotVar){(uint16_t)p->n_load, n->a};
            p->n_load++;
        } else if (!c->tile[i]) {
            c->where[i] = (uint16_t)(SCALAR | p->n_slot);
            if (n->op == F_NUMBER) p->number[p->n_slot] = n->x;
            if (n->op == F_VAR)
                p->scalar[p->n_scalar++] = (SlotVar){(uint16_t)p->n_slot, n->a};
            p->n_slot++;
        }
    }
    p->n_reg = p->n_load;
}

static Instr instr_of(const Compiler *c, int i) {
    int in[3], arity = operands(&c->f->node[i], in);
    uint16_t w[3] = {0};
    for (int k = 0; k < arity; k++) w[k] = c->where[in[k]];
    return (Instr){(uint8_t)c->f->node[i].op, c->where[i], w[0], w[1], w[2]};
}

static bool place_instr(Compiler *c, int i, Err *e) {
    Program *p = c->p;
    int in[3], arity = operands(&c->f->node[i], in);
    for (int k = 0; k < arity; k++) { /* a register read here for the last time */
        bool again = (k > 0 && in[k] == in[0]) || (k > 1 && in[k] == in[1]);
        if (again || !c->tile[in[k]] || c->last[in[k]] != i) continue;
        if (c->where[in[k]] >= p->n_load) c->free_reg[c->n_free++] = c->where[in[k]];
    }
    bool root = c->last[i] == INT32_MAX;
    if (!root && c->n_free)
        c->where[i] = c->free_reg[--c->n_free];
    else
        c->where[i] = (uint16_t)p->n_reg++;
    if (p->n_reg > MOST_REGISTERS)
        return err_fail(e, "a formula needs more than %d values at a time",
                        MOST_REGISTERS);
    p->instr[p->n_instr++] = instr_of(c, i);
    return true;
}

bool program_compile(Arena *a, Formula *f, const int *root, int n_root,
                     const bool *wide, int n_var, Program **out, Err *e) {
    (void)n_var;
    int *map = NEW(a, int, f->n + 1), *roots = NEW(a, int, n_root + 1);
    Formula *g = cheapen(a, f, map);
    size_t n = (size_t)g->n;
    for (int i = 0; i < n_root; i++) roots[i] = map[root[i]];
    if (n > MOST_NODES)
        return err_fail(e, "a formula with %zu steps, at most %d", n, MOST_NODES);
    Program *p = NEW(a, Program, 1);
    Compiler c = {a,
                  g,
                  p,
                  NEW(a, bool, n),
                  NEW(a, bool, n),
                  NEW(a, uint16_t, n),
                  NEW(a, int, n),
                  NEW(a, uint16_t, n),
                  0};
    p->instr = NEW(a, Instr, n), p->once = NEW(a, Instr, n);
    p->load = NEW(a, SlotVar, n), p->scalar = NEW(a, SlotVar, n);
    p->number = NEW(a, double, n);
    p->out = NEW(a, uint16_t, n_root + 1);
    p->n_out = n_root;
    analyse(&c, roots, n_root, wide);
    place_leaves(&c);
    for (int i = 0; i < g->n; i++) {
        if (!c.used[i] || !formula_arity(g->node[i].op)) continue;
        if (!c.tile[i])
            p->once[p->n_once++] = instr_of(&c, i);
        else if (!place_instr(&c, i, e))
            return false;
    }
    for (int i = 0; i < n_root; i++) p->out[i] = c.where[roots[i]];
    *out = p;
    return true;
}

void program_once(const Program *p, const double *var, double *slot) {
    memcpy(slot, p->number, (size_t)p->n_slot * sizeof *slot);
    for (int i = 0; i < p->n_scalar; i++) slot[p->scalar[i].at] = var[p->scalar[i].var];
    for (int i = 0; i < p->n_once; i++) {
        const Instr *n = &p->once[i];
        double a = slot[n->a & ~SCALAR], b = slot[n->b & ~SCALAR],
               c = slot[n->c & ~SCALAR];
        slot[n->dst & ~SCALAR] = formula_apply((FOp)n->op, a, b, c);
    }
}

void slots_to(const TileOps *t, void *dst, const double *slot, int n) {
    if (t->dtype == F64)
        memcpy(dst, slot, (size_t)n * sizeof *slot);
    else
        for (int i = 0; i < n; i++) ((float *)dst)[i] = (float)slot[i];
}

bool have_avx2(void) {
    return cpu_has_avx2();
}
