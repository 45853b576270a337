/* Rows that write persistent tensors: update, the optimizer's step of one trainable, and
 * assign. Their outputs are their inputs' memory. The end of a step: no gradients. */
#include "ops/optim.h"
#include "ops/ops.h"

/* Does the new value of a scalar state depend on elements? */
static bool depends_on_elements(Arena *a, const UpdateForm *u, int root) {
    bool *used = NEW(a, bool, u->f->n);
    formula_reach(u->f, root, used);
    for (int i = 0; i < u->f->n; i++)
        if (used[i] && u->f->node[i].op == F_VAR && u->wide[u->f->node[i].a])
            return true;
    return false;
}

static bool states_fit(Arena *a, const Sig *s, Err *e) {
    UpdateForm u;
    if (!update_read(a, s, &u, e)) return false;
    int64_t n = slices_of(s->attrs, &s->in[UP_P]).n;
    Type numbers = type_of(F64, 1, &n);
    for (int i = 0; i < u.n_state; i++) {
        const Type *t = &s->in[UP_STATE + i];
        if (u.wide[VAR_STATE + i]) continue;
        if (!type_equal(t, &numbers))
            return shape_error(e, "state %d is %s, want %s or %s", i, type_name(t).s,
                               type_name(&s->in[UP_P]).s, type_name(&numbers).s);
        if (depends_on_elements(a, &u, u.root[1 + i]))
            return shape_error(
                e,
                "state %d is one number per slice (%s) but depends on p, g "
                "or a state of every element",
                i, type_name(t).s);
    }
    return true;
}

static bool slices_fit(const Sig *s, Err *e) {
    const UpdateAttrs *at = s->attrs;
    const Type *p = &s->in[UP_P], *flags = &s->in[UP_ACTIVE];
    if (at->axis < -1 || at->axis >= p->rank)
        return shape_error(e, "got axis %lld of %s", (long long)at->axis,
                           type_name(p).s);
    if (at->axis >= 0 && (at->size < 1 || p->dim[at->axis] % at->size))
        return shape_error(e, "'size' must divide the axis: %lld does not divide %lld",
                           (long long)at->size, (long long)p->dim[at->axis]);
    int64_t n = slices_of(at, p).n;
    bool counts = flags->rank == 1 && flags->dim[0] == n;
    if (flags->rank >= 0 && (flags->dtype != I32 || !counts))
        return shape_error(e, "'active' is %s, want i32[%lld]", type_name(flags).s,
                           (long long)n);
    return true;
}

static bool update_shape(Sig *s, Err *e) {
    const Type *p = &s->in[UP_P];
    enum { MOST_STATES = 32 };
    if (s->n_in < UP_STATE || s->n_in > UP_STATE + MOST_STATES)
        return shape_error(e, "got %d inputs, want %d and the states (at most %d)",
                           s->n_in, UP_STATE, MOST_STATES);
    const Type *g = &s->in[UP_G];
    if (!dtype_is_float(p->dtype))
        return shape_error(e, "'p' is %s, want floating numbers", type_name(p).s);
    if (!type_same_shape(p, g) || !dtype_mix(p->dtype, g->dtype))
        return shape_error(e, "'g' is %s, want %s as p", type_name(&s->in[UP_G]).s,
                           type_name(p).s);
    for (int i = UP_LR; i <= UP_OK; i++)
        if (type_count(&s->in[i]) != 1)
            return shape_error(e, "'%s' is %s, want one number", s->op->in[i].name,
                               type_name(&s->in[i]).s);
    if (!slices_fit(s, e)) return false;
    Arena *a = arena_new();
    bool ok = states_fit(a, s, e);
    arena_free(a);
    s->n_out = 1 + s->n_in - UP_STATE;
    s->out[0] = *p;
    for (int i = UP_STATE; i < s->n_in; i++) s->out[1 + i - UP_STATE] = s->in[i];
    return ok;
}

static uint64_t update_flops(const Sig *s) {
    Arena *a = arena_new();
    UpdateForm u;
    Err e = {0};
    uint64_t steps = 0;
    if (update_read(a, s, &u, &e))
        for (int i = 0; i < u.f->n; i++) steps += formula_arity(u.f->node[i].op) > 0;
    arena_free(a);
    return steps * (uint64_t)type_count(&s->in[UP_P]);
}

/* Output 1 + i over state i, for as many as a program may have. */
#define S(i)                                                                           \
    { 1 + i, UP_STATE + i }
#define S8(i) S(i), S(i + 1), S(i + 2), S(i + 3), S(i + 4), S(i + 5), S(i + 6), S(i + 7)
static const OpAlias update_alias[] = {{0, UP_P}, S8(0),  S8(8),
                                       S8(16),    S8(24), {-1, -1}};
#undef S8
#undef S

static const Attr update_attrs[] = {
    {"f", 's', offsetof(UpdateAttrs, f), ATTR_IR, 0, NULL, "the program"},
    {"states", 's', offsetof(UpdateAttrs, states), ATTR_IR, 0, NULL,
     "names of the states, separated by spaces"},
    {"axis", 'i', offsetof(UpdateAttrs, axis), ATTR_IR, -1, NULL,
     "axis that is cut into slices, -1: one slice"},
    {"size", 'i', offsetof(UpdateAttrs, size), ATTR_IR, 0, NULL, "width of a slice"},
    {0}};

const Op op_update = {
    .name = "update",
    .doc =
        "an optimizer's step: f, statements over p, g * scale (as g), lr and the "
        "states, "
        "gives their new values, written over the old. What depends on no element is "
        "computed once per slice in f64, the rest in f32. ok 0, or active 0 of a "
        "slice: "
        "untouched",
    .example =
        "  train @p : f32[4,3] {init=normal(1)}\n"
        "  input @g : f32[4,3]\n"
        "  scalar @lr : f32[]\n"
        "  const @one : f32[] = [1]\n"
        "  const @on : i32[2] = [1, 0]\n"
        "  state @m : f32[4,3] {init=zeros}\n"
        "  state @t : f64[2] {init=zeros}\n"
        "  %0, %1, %2 = update @p, @g, @lr, @one, @one, @on, @m, @t {f=\"t = t + 1; "
        "m = 0.9 * m + 0.1 * g; p = p - lr / (1 - 0.9 ^ t) * m\", states=\"m t\", "
        "axis=0, size=2} : f32[4,3], f32[4,3], f64[2]\n"
        "  output p = %0\n"
        "  output m = %1\n"
        "  output t = %2\n",
    .in = (const OpIn[]){{"p", 0},
                         {"g", 0},
                         {"lr", 0},
                         {"scale", 0},
                         {"ok", 0},
                         {"active", IN_OPTIONAL | IN_INDEX},
                         {"state", IN_VARIADIC},
                         {0}},
    .n_out = -1,
    .flags = OP_IR | OP_NO_FOLD | OP_NO_GRAD,
    .attrs = update_attrs,
    .attrs_size = sizeof(UpdateAttrs),
    .shape = update_shape,
    .flops = update_flops,
    .alias = update_alias,
    .cpu = cpu_update,
    .cuda = cuda_update,
};

/* ---- many tensors ---- */

static bool alike(const Sig *first, const Sig *one) {
    for (int k = UP_STATE; k < one->n_in; k++) {
        const bool wide = type_same_shape(&one->in[k], &one->in[UP_P]),
                   was = type_same_shape(&first->in[k], &first->in[UP_P]);
        if (wide != was) return false;
    }
    return true;
}

static bool updates_shape(Sig *s, Err *e) {
    const UpdateAttrs *at = s->attrs;
    int per;
    const int n = updates_count(s, &per);
    if (!n || n > UPS_TENSORS || n * per > UPS_OUTS || per > UPS_ONE - UP_STATE)
        return shape_error(e,
                           "got %d inputs, want %d and for each tensor %d, at most %d "
                           "to be written",
                           s->n_in, UPS_OVER, per + 1, UPS_OUTS);
    if (at->axis >= 0)
        return shape_error(e, "tensors in slices have steps of their own");
    Type in[UPS_ONE], in0[UPS_ONE], out[UPS_ONE];
    const Sig first = updates_one(s, 0, at, in0, out);
    s->n_out = n * per;
    for (int i = 0; i < n; i++) {
        Sig one = updates_one(s, i, at, in, out);
        one.op = &op_update;
        if (!update_shape(&one, e)) return false;
        if (!alike(&first, &one))
            return shape_error(e, "states of tensor %d are other ones than the first's",
                               i);
        for (int o = 0; o < per; o++) s->out[i * per + o] = out[o];
    }
    return true;
}

static uint64_t updates_flops(const Sig *s) {
    int per;
    const int n = updates_count(s, &per);
    uint64_t flops = 0;
    for (int i = 0; i < n; i++) {
        Type in[UPS_ONE], out[UPS_ONE];
        const Sig one = updates_one(s, i, s->attrs, in, out);
        flops += update_flops(&one);
    }
    return flops;
}

/* Output i over input UPS_OVER + i. */
#define S(i)                                                                           \
    { i, UPS_OVER + i }
#define S8(i) S(i), S(i + 1), S(i + 2), S(i + 3), S(i + 4), S(i + 5), S(i + 6), S(i + 7)
static const OpAlias updates_alias[] = {S8(0),  S8(8),  S8(16), S8(24),  S8(32),
                                        S8(40), S8(48), S8(56), {-1, -1}};
#undef S8
#undef S

const Op op_updates = {
    .name = "updates",
    .doc = "the same optimizer's step for several tensors, all or none of which learn, "
           "with "
           "one learning rate: as `update`. Over: p and the states of each; then the "
           "gradient of each. No gradient",
    .example =
        "  train @p : f32[4,3] {init=normal(1)}\n"
        "  train @q : f32[5] {init=normal(1)}\n"
        "  input @g : f32[4,3]\n"
        "  input @h : f32[5]\n"
        "  scalar @lr : f32[]\n"
        "  const @one : f32[] = [1]\n"
        "  state @m : f32[4,3] {init=zeros}\n"
        "  state @n : f32[5] {init=zeros}\n"
        "  state @t : f64[1] {init=zeros}\n"
        "  state @u : f64[1] {init=zeros}\n"
        "  %0, %1, %2, %3, %4, %5 = updates @lr, @one, @one, @p, @m, @t, @q, @n, @u, "
        "@g, @h {f=\"t = t + 1; m = 0.9 * m + 0.1 * g; p = p - lr / (1 - 0.9 ^ t) * "
        "m\", states=\"m t\", axis=-1, size=0} : f32[4,3], f32[4,3], f64[1], f32[5], "
        "f32[5], f64[1]\n"
        "  output p = %0\n"
        "  output q = %3\n",
    .in = (const OpIn[]){{"lr", IN_WIDE},
                         {"scale", IN_WIDE},
                         {"ok", IN_WIDE},
                         {"over", IN_VARIADIC},
                         {0}},
    .n_out = -1,
    .flags = OP_IR | OP_NO_FOLD | OP_NO_GRAD,
    .attrs = update_attrs,
    .attrs_size = sizeof(UpdateAttrs),
    .shape = updates_shape,
    .flops = updates_flops,
    .alias = updates_alias,
    .cpu = cpu_updates,
    .cuda = cuda_updates,
};

/* ---- assign ---- */

static bool assign_shape(Sig *s, Err *e) {
    const Type *to = &s->in[0], *from = &s->in[1];
    if (!type_same_shape(to, from) ||
        (to->dtype != from->dtype && !dtype_mix(to->dtype, from->dtype)))
        return shape_error(e, "%s over %s", type_name(from).s, type_name(to).s);
    if (s->n_in > 2 && s->in[2].rank >= 0 && type_count(&s->in[2]) != 1)
        return shape_error(e, "'when' is %s, want one number", type_name(&s->in[2]).s);
    return shape_same(s, e);
}

static const OpAlias assign_alias[] = {{0, 0}, {-1, -1}};

const Op op_assign = {
    .name = "assign",
    .doc =
        "value, written over the persistent tensor in its type unless `when` is 0; no "
        "gradient",
    .example = "  state @s : f32[2,3] {init=zeros}\n"
               "  input @x : f32[2,3]\n"
               "  scalar @on : f32[]\n"
               "  %0 = assign @s, @x, @on : f32[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"target", 0}, {"value", 0}, {"when", IN_OPTIONAL}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_NO_FOLD | OP_NO_GRAD,
    .shape = assign_shape,
    .alias = assign_alias,
    .cpu = cpu_assign,
    .cuda = cuda_assign,
};
