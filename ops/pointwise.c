/* The pointwise row: any formula over broadcast inputs, one kernel. Its gradient is
 * another formula per input, made by differentiating the text. */
#include "kernels/formula.h"
#include "ops/ops.h"

enum { MOST_INPUTS = 64 };

/* Text to nodes over x0 ... x(n-1). */
static Formula *read_formula(Arena *a, const char *text, int n_in, int *root, Err *e) {
    Formula *f = formula_new(a);
    FNames names = {0};
    fnames_inputs(f, &names, n_in);
    if (!text || !formula_parse(f, text, &names, root, e)) {
        if (!text) shape_error(e, "there is no formula 'f'");
        return NULL;
    }
    if (*root < 0) {
        shape_error(e, "formula '%s' ends without a value", text);
        return NULL;
    }
    return f;
}

static bool shape(Sig *s, Err *e) {
    const PointwiseAttrs *at = s->attrs;
    if (s->n_in > MOST_INPUTS)
        return shape_error(e, "got %d inputs, want at most %d", s->n_in, MOST_INPUTS);
    Type out = type_scalar(at->dtype);
    for (int i = 0; i < s->n_in; i++) {
        Type before = out;
        if (!type_broadcast(&before, &s->in[i], &out))
            return shape_error(e,
                               "shapes %s and %s do not meet: dimensions from the last "
                               "on must be equal or 1",
                               type_name(&before).s, type_name(&s->in[i]).s);
    }
    out.dtype = at->dtype;
    s->out[0] = out;
    Arena *a = arena_new();
    int root;
    bool ok = read_formula(a, at->f, s->n_in, &root, e);
    arena_free(a);
    return ok;
}

static uint64_t flops(const Sig *s) {
    Arena *a = arena_new();
    Err e = {0};
    int root;
    uint64_t steps = 0;
    Formula *f =
        read_formula(a, ((const PointwiseAttrs *)s->attrs)->f, s->n_in, &root, &e);
    if (f) {
        bool *used = NEW(a, bool, f->n);
        formula_reach(f, root, used);
        for (int i = 0; i < f->n; i++) steps += used[i] && formula_arity(f->node[i].op);
    }
    arena_free(a);
    return steps * (uint64_t)type_count(&s->out[0]);
}

/* ---- gradient ---- */

/* A pointwise node for `root` over the variables of n (n_in of them, then dy). */
static Id emit(Graph *g, const Formula *f, int root, const Node *n, Id dy, DType dtype,
               Err *e) {
    Arena *a = arena_new();
    bool *used = NEW(a, bool, f->n);
    int number[MOST_INPUTS + 1] = {0};
    Id in[MOST_INPUTS + 1];
    int n_in = 0;
    formula_reach(f, root, used);
    for (int v = 0; v <= n->n_in; v++)
        for (int i = 0; i < f->n; i++)
            if (used[i] && f->node[i].op == F_VAR && f->node[i].a == v) {
                number[v] = n_in;
                in[n_in++] = v < n->n_in ? n->in[v] : dy;
            }
    Str text = {0};
    formula_print(&text, f, root, number);
    Id id = add_formula(g, dtype, text.s, n_in, in, e);
    str_free(&text);
    arena_free(a);
    return id;
}

/* dx of one input: the derivative, summed over what was broadcast. The formula gives
 * dy's shape because dy is among its inputs. */
static Id input_grad(Graph *g, const Formula *f, int root, const Node *n, int input,
                     Id dy, Err *e) {
    const Type *t = type_at(g, n->in[input]);
    bool just_dy = f->node[root].op == F_VAR && f->node[root].a == n->n_in;
    bool reduces = type_count(t) != type_count(type_at(g, dy));
    DType dtype = reduces ? dtype_wide(type_at(g, dy)->dtype) : t->dtype;
    Id dx = just_dy ? dy : emit(g, f, root, n, dy, dtype, e);
    return add_reduce_to(g, dx, t, e);
}

static bool grad(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                 Err *e) {
    const PointwiseAttrs *at = n->attrs;
    Arena *a = arena_new();
    int root, derivative[MOST_INPUTS];
    Formula *f = read_formula(a, at->f, n->n_in, &root, e);
    bool ok = f != NULL;
    if (ok) formula_grad(f, root, formula_var(f, n->n_in), n->n_in, derivative);
    for (int i = 0; ok && i < n->n_in; i++) {
        dx[i] = NO_ID;
        const FNode *d = &f->node[derivative[i]];
        if (!need[i] || (d->op == F_NUMBER && d->x == 0)) continue;
        dx[i] = input_grad(g, f, derivative[i], n, i, dy[0], e);
        ok = dx[i] != NO_ID;
    }
    arena_free(a);
    return ok;
}

Id add_formula(Graph *g, DType dtype, const char *formula, int n_in, const Id *in,
               Err *e) {
    for (int i = 0; i < n_in; i++)
        if (in[i] == NO_ID) return NO_ID;
    PointwiseAttrs at = {arena_strdup(g->arena, formula), dtype};
    return graph_op(g, &op_pointwise, &at, n_in, in, e);
}

const Op op_pointwise = {
    .name = "pointwise",
    .doc =
        "y = f(x0, x1, ...) for every element of the broadcast inputs. f: statements "
        "'t0 = ...; ...; expression'. Comparisons, logic, floor, round, sign, // and % "
        "have no gradient; min and max send it to the chosen side",
    .example = "  input @a : f32[2,1,3]\n"
               "  input @b : f32[2,1]\n"
               "  input @c : f32[]\n"
               "  %0 = pointwise @a, @b, @c {f=\"t0 = sigmoid(x0 * x1); t0 * x2 + "
               "gelu(x0) ^ 2\", dtype=f32} : f32[2,2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", IN_VARIADIC}, {0}},
    .n_out = 1,
    .flags = OP_IR,
    .attrs = (const Attr[]){{"f", 's', offsetof(PointwiseAttrs, f), ATTR_IR, 0, NULL,
                             "formula over x0, x1 ..."},
                            {"dtype", 'd', offsetof(PointwiseAttrs, dtype), ATTR_IR,
                             F32, NULL, "type of the result; halves compute in f32"},
                            {0}},
    .attrs_size = sizeof(PointwiseAttrs),
    .shape = shape,
    .grad = grad,
    .flops = flops,
    .inplace = ~(uint64_t)0,
    .cpu = cpu_pointwise,
    .cuda = cuda_pointwise,
};
