/* optimizer: everything between the gradients and the new parameters.
 *
 * Needs: outputs "loss" and "grad.NAME" for every trainable. Guarantees: outputs
 *   grad_norm  L2 norm over all gradients, before clipping
 *   ok         1 if loss and norm are finite; with 0 every update leaves all as it is
 * (norm, gradients and sums as if the loss had not been scaled: passes/loss_scale.c);
 * one `update` node per trainable that has a gradient (a constant is none), in the order of the trainables, with the program of the
 * recipe's optimizer, or nodes and `assign` for an optimizer that is no program; state
 * values "NAME.STATE"; step scalars "lr.0", "lr.1" ..., one for each learning rate that
 * occurs (Param.lr of the scalar), written before every step. Behind the updates norms of
 * modules are bounded (passes/norms.c), then the recipe's `average` follows, on the new
 * parameters as wholes.
 * Outputs "grad.NAME" go, unless gradients are recorded.
 *
 * With accumulation one plan does both kinds of micro-batch. State "NAME.sum" holds the sum
 * of gradients / count, and is what the norm, the updates and the outputs see; the scalar
 * "sum.keep" (0 for the first of a window) lets it start anew, the scalar "sum.update" (1 for
 * the last) lets the updates happen. State "NAME.touched": slices that learnt since then. */
#include "ops/ops.h"
#include "passes/private.h"

#include <string.h>

typedef struct Rates { /* distinct learning rates and their scalars */
    double *rate;
    Id *scalar;
    int n, cap_rate, cap_scalar;
} Rates;

typedef struct Updates {
    Graph *g;
    const UpdateProgram *program;
    const char *states; /* names separated by spaces */
    Rates rates;
    Id scale, norm, ok;
    int accumulate;
    Id loss_scale;              /* or NO_ID */
    Id keep, update, one, part; /* of accumulation: two scalars, 1, and 1 / count */
    const Id *now;              /* behind the updates: values_now */
} Updates;

static Id rate_of(Updates *u, double lr) {
    Rates *r = &u->rates;
    for (int i = 0; i < r->n; i++)
        if (r->rate[i] == lr) return r->scalar[i];
    Arena *a = u->g->arena;
    Id id = graph_value(u->g, ROLE_SCALAR, type_scalar(F32),
                        arena_printf(a, "lr.%d", r->n), loc_none());
    u->g->value[id]->param = param_new(a);
    u->g->value[id]->param->lr = lr;
    int n = r->n;
    PUSH(a, r->rate, n, r->cap_rate, lr);
    PUSH(a, r->scalar, r->n, r->cap_scalar, id);
    return id;
}

static int64_t slices_of(const Value *v) {
    const Param *p = v->param;
    return p && p->slice_axis >= 0 ? v->type.dim[p->slice_axis] / p->slice_size : 1;
}

/* ---- accumulation ---- */
static Id step_scalar(Graph *g, const char *name) {
    Id id = graph_value(g, ROLE_SCALAR, type_scalar(F32), name, loc_none());
    g->value[id]->param = param_new(g->arena);
    return id;
}

static Id zero_state(Graph *g, Type t, const Value *v, const char *name) {
    Id id = graph_value(g, ROLE_STATE, t,
                        arena_printf(g->arena, "%s.%s", v->name, name), v->loc);
    Param *p = param_new(g->arena);
    p->init.kind = INIT_ZEROS;
    g->value[id]->param = p;
    return id;
}

/* x put into `state` by a formula over p (what it was), g (x * scale) and lr (keep). */
static Id gather(Updates *u, Id state, Id x, Id scale, const char *formula, Err *e) {
    Id in[] = {state, x, u->keep, scale, u->one, NO_ID};
    UpdateAttrs at = {formula, "", -1, 0};
    const Node *n = graph_add(u->g, &op_update, &at, COUNT(in), in, e);
    return n ? n->out[0] : NO_ID;
}

/* x without the loss scale. */
static Id unscaled(Updates *u, Id x, Err *e) {
    if (x == NO_ID || u->loss_scale == NO_ID) return x;
    return add_formula(u->g, F32, "x0 / x1", 2, (Id[]){x, u->loss_scale}, e);
}

/* The gradient outputs become those of the whole window. */
static bool sum_gradients(Updates *u, int n, const Id *train, Id *grad, Err *e) {
    Graph *g = u->g;
    u->keep = step_scalar(g, "sum.keep");
    u->update = step_scalar(g, "sum.update");
    u->one = graph_number(g, 1, F32);
    u->part = graph_number(g, 1.0 / u->accumulate, F32);
    u->part = unscaled(u, u->part, e);
    if (u->part == NO_ID) return false;
    for (int i = 0; i < n; i++) {
        const Value *v = g->value[train[i]];
        if (g->value[grad[i]]->role == ROLE_CONST) continue;
        g->at = (Place){.loc = v->loc, .block = -1, .phase = UPDATE};
        Type t = v->type;
        t.dtype = dtype_wide(t.dtype);
        Id sum = gather(u, zero_state(g, t, v, "sum"), grad[i], u->part,
                        "p = where(lr == 0, g, p + g)", e);
        if (sum == NO_ID) return false;
        for (uint32_t o = 0; o < g->n_output; o++)
            if (g->output[o].value == grad[i] &&
                !strncmp(g->output[o].name, "grad.", 5))
                g->output[o].value = sum;
        grad[i] = sum;
    }
    return true;
}

/* f32[slices], 1 for the slices that learnt in this window. */
static Id touched(Updates *u, const Value *v, Id is, Err *e) {
    Id state = zero_state(u->g, u->g->value[is]->type, v, "touched");
    return gather(u, state, is, u->one, "p = where(lr == 0, g, max(p, g))", e);
}

/* i32[slices], 1 for a slice that learns; absent if the whole tensor does. */
static bool active_slices(Updates *u, const Value *v, Id *out, Err *e) {
    const Param *p = v->param;
    *out = NO_ID;
    if (!p || p->slice_axis < 0 || p->slice_index == NO_ID) return true;
    Graph *g = u->g;
    int64_t n = slices_of(v);
    double *numbers = NEW(g->arena, double, n);
    for (int64_t i = 0; i < n; i++) numbers[i] = (double)i;
    Id index = graph_view(g, p->slice_index, type_scalar(I32), e);
    if (index == NO_ID) return false;
    Id in[] = {graph_const(g, type_of(F32, 1, &n), numbers), index};
    Id is = graph_formula(g, "x0 == x1", 2, in, e);
    if (is != NO_ID && u->accumulate > 1) is = touched(u, v, is, e);
    if (is != NO_ID) *out = graph_cast(g, is, I32, e);
    return *out != NO_ID;
}

static Id state_value(Updates *u, const Value *v, const UpdateState *s) {
    Graph *g = u->g;
    int64_t slices = slices_of(v);
    /* beside a half parameter too: the squares of small gradients are no halves */
    Type t = s->scalar ? type_of(F64, 1, &slices)
                       : type_of(dtype_wide(v->type.dtype), v->type.rank, v->type.dim);
    Id id = graph_value(g, ROLE_STATE, t,
                        arena_printf(g->arena, "%s.%s", v->name, s->name), v->loc);
    Param *p = param_new(g->arena);
    p->init.kind = s->start == 0 ? INIT_ZEROS : INIT_CONSTANT;
    p->init.number = s->start;
    g->value[id]->param = p;
    return id;
}

static bool add_update(Updates *u, const Value *v, Id grad, Err *e) {
    enum { FIXED = 6 };
    int n = FIXED + u->program->n_state;
    Id *in = NEW(u->g->arena, Id, n);
    u->g->at = (Place){.loc = v->loc, .block = -1, .phase = UPDATE};
    in[0] = v->id;
    in[1] = grad;
    in[2] = rate_of(u, v->param ? v->param->lr : 1);
    in[3] = u->scale;
    in[4] = u->ok;
    if (!active_slices(u, v, &in[5], e)) return false;
    for (int i = 0; i < u->program->n_state; i++)
        in[FIXED + i] = state_value(u, v, &u->program->state[i]);
    bool sliced = v->param && v->param->slice_axis >= 0;
    UpdateAttrs at = {u->program->formula, u->states,
                      sliced ? v->param->slice_axis : -1,
                      sliced ? v->param->slice_size : 0};
    return graph_add(u->g, &op_update, &at, n, in, e) != NULL;
}

/* The norm of all gradients, the factor that clips it, and the flag. */
static bool add_scalars(Updates *u, double most, int n, const Id *grad, Err *e) {
    Graph *g = u->g;
    g->at = (Place){.block = -1, .phase = UPDATE};
    Id norm = graph_op(g, &op_global_norm, NULL, n, grad, e);
    if (u->accumulate <= 1) norm = unscaled(u, norm, e); /* sums are that already */
    if (norm == NO_ID) return false;
    Str clip = {0};
    str_add(&clip, "min(1, ");
    str_double(&clip, most);
    str_add(&clip, " / (x0 + 1e-06))"); /* torch.nn.utils.clip_grad_norm_ */
    u->scale =
        most > 0 ? graph_formula(g, clip.s, 1, &norm, e) : graph_number(g, 1, F32);
    str_free(&clip);
    if (u->accumulate <= 1) u->scale = unscaled(u, u->scale, e);
    Id loss = graph_output_find(g, "loss");
    u->ok = u->scale == NO_ID ? NO_ID
                              : graph_op(g, &op_finite, NULL, 2, (Id[]){loss, norm}, e);
    if (u->ok == NO_ID) return false;
    graph_output(g, "grad_norm", norm);
    graph_output(g, "ok", u->ok);
    u->norm = norm;
    if (u->accumulate > 1)
        u->ok = graph_formula(g, "x0 * x1", 2, (Id[]){u->ok, u->update}, e);
    return u->ok != NO_ID;
}

/* ---- optimizers that are no program ---- */

Id *values_now(const Graph *g) {
    Id *now = NEW(g->arena, Id, g->n_value + 1),
       *root = NEW(g->arena, Id, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) now[i] = root[i] = i;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        for (const OpAlias *al = n->op->alias; al && al->out >= 0; al++) {
            if (al->in >= n->n_in || al->out >= n->n_out || n->in[al->in] == NO_ID)
                continue;
            root[n->out[al->out]] = root[n->in[al->in]];
            now[root[n->in[al->in]]] = n->out[al->out];
        }
    }
    return now;
}

/* The states of a document that only watches stand beside the optimizer's, under its own
 * name. */
static bool parameter(Updates *u, const Value *v, Id grad, const Doc *watch,
                      UpdateParam *p, Err *e) {
    Graph *g = u->g;
    g->at = (Place){.loc = v->loc, .block = -1, .phase = UPDATE};
    *p = (UpdateParam){
        .name = v->name, .p = v->id, .slice_axis = -1, .active = NO_ID, .watch = watch};
    if (watch) p->name = arena_printf(g->arena, "%s.%s", v->name, watch->name);
    p->lr = graph_cast(g, rate_of(u, v->param ? v->param->lr : 1), F64, e);
    if (p->lr == NO_ID) return false;
    if (watch) {
        p->p = p->grad = u->now[v->id];
        return true;
    }
    if (v->param && v->param->slice_axis >= 0) {
        p->slice_axis = v->param->slice_axis;
        p->slice_size = v->param->slice_size;
    }
    p->grad = graph_formula(g, "x0 * x1", 2, (Id[]){grad, u->scale}, e);
    return p->grad != NO_ID && active_slices(u, v, &p->active, e);
}

static bool add_nodes(Updates *u, const Doc *d, const Args *args, int n,
                      const Id *train, const Id *grad, bool watch, Err *e) {
    Graph *g = u->g;
    UpdateParam *p = NEW(g->arena, UpdateParam, n + 1);
    int count = 0;
    for (int i = 0; i < n; i++)
        if (g->value[grad[i]]->role != ROLE_CONST &&
            !parameter(u, g->value[train[i]], grad[i], watch ? d : NULL, &p[count++],
                       e))
            return false;
    g->at = (Place){.loc = d->root->loc, .block = -1, .phase = UPDATE};
    Build b = {.g = g, .training = true};
    return build_update_nodes(&b, d, args, p, count, u->ok, e);
}

static const char *state_names(Arena *a, const UpdateProgram *p) {
    const char *all = "";
    for (int i = 0; i < p->n_state; i++)
        all = arena_printf(a, "%s%s%s", all, i ? " " : "", p->state[i].name);
    return all;
}

static bool drop_gradients(Graph *g) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_output; i++)
        if (strncmp(g->output[i].name, "grad.", 5)) g->output[kept++] = g->output[i];
    g->n_output = kept;
    return true;
}

/* Outputs of gradients are those of the loss itself. */
static bool record_gradients(Updates *u, Err *e) {
    Graph *g = u->g;
    for (uint32_t i = 0; u->accumulate <= 1 && i < g->n_output; i++) {
        if (strncmp(g->output[i].name, "grad.", 5)) continue;
        g->output[i].value = unscaled(u, g->output[i].value, e);
        if (g->output[i].value == NO_ID) return false;
    }
    return true;
}

static bool find_gradients(const Graph *g, Id **train, Id **grad, int *n, Err *e) {
    int cap = 0, cap2 = 0, n2 = 0;
    for (uint32_t i = 0; i < g->n_value; i++) {
        if (g->value[i]->role != ROLE_TRAIN) continue;
        const char *name = arena_printf(g->arena, "grad.%s", g->value[i]->name);
        Id dx = graph_output_find(g, name);
        if (dx == NO_ID) {
            err_usage(e, "the graph has no output '%s'", name);
            err_note(e, "note: pass 'differentiate' makes it");
            return false;
        }
        PUSH(g->arena, *train, *n, cap, i);
        PUSH(g->arena, *grad, n2, cap2, dx);
    }
    return *n > 0 ||
           err_usage(e, "nothing to train: the graph has no trainable tensor");
}

/* One `update` node per trainable. */
static bool add_updates(Updates *u, const Recipe *r, int n, const Id *train,
                        const Id *grad, Err *e) {
    Graph *g = u->g;
    UpdateProgram program;
    if (!build_update(g->arena, r->optimizer, r->optimizer_args, &program, e))
        return false;
    u->program = &program;
    u->states = state_names(g->arena, &program);
    for (int i = 0; i < n; i++)
        if (g->value[grad[i]]->role != ROLE_CONST &&
            !add_update(u, g->value[train[i]], grad[i], e))
            return false;
    return true;
}

Graph *pass_optimizer(Graph *g, Options *opt, Err *e) {
    const Recipe *r = opt->recipe;
    Id *train = NULL, *grad = NULL;
    int n = 0;
    if (!find_gradients(g, &train, &grad, &n, e)) return NULL;
    Updates u = {.g = g, .accumulate = opt->accumulate};
    u.loss_scale = loss_scale_of(g);
    Place keep = g->at;
    if (u.accumulate > 1 && !sum_gradients(&u, n, train, grad, e)) return NULL;
    if (!add_scalars(&u, opt->max_grad_norm, n, grad, e)) return NULL;
    bool ok =
        update_is_program(r->optimizer)
            ? add_updates(&u, r, n, train, grad, e)
            : add_nodes(&u, r->optimizer, r->optimizer_args, n, train, grad, false, e);
    if (!ok) return NULL;
    if (opt->scale_weight_norms > 0 &&
        !limit_norms(g, opt->modules, opt->scale_weight_norms, u.ok, e))
        return NULL;
    u.now = values_now(g);
    if (r->average &&
        !add_nodes(&u, r->average, r->average_args, n, train, grad, true, e))
        return NULL;
    g->at = (Place){.block = -1, .phase = UPDATE};
    if (u.loss_scale != NO_ID &&
        !loss_scale_next(g, graph_output_find(g, "loss"), u.norm,
                         u.accumulate > 1 ? u.update : NO_ID, e))
        return NULL;
    if (!(opt->record_gradients ? record_gradients(&u, e) : drop_gradients(g)))
        return NULL;
    g->at = keep;
    const YNode *state = yaml_get(r->optimizer->root, "state");
    report(g, "optimizer: %d trainables, %d learning rates, %d states each", n,
           u.rates.n, state ? state->n : 0);
    return g;
}
