/* An optimizer on one tensor: inputs p, lr [1], g1, g2 …; outputs p1, p2 … and, after the
 * last update, every state. A missing number in between is a step without gradient: it is
 * skipped, as for a parameter that no loss reached. */
#include <stdio.h>

#include "cli/eval.h"

static Graph *update_graph(Eval *v, const UpdateProgram *u, Type p, Err *e) {
    Graph *g = graph_new(v->arena, v->doc->name);
    Arena *a = v->arena;
    Id in[64];
    Type one = type_scalar(F32);
    Str states = {0};
    int n = 0;
    in[n] = graph_value(g, ROLE_TRAIN, p, "p", loc_none());
    g->value[in[n++]]->param = param_new(a);
    in[n++] = graph_value(g, ROLE_INPUT, p, "g", loc_none());
    in[n++] = graph_value(g, ROLE_INPUT, one, "lr", loc_none());
    in[n++] = graph_number(g, 1, F32); /* scale */
    in[n++] = graph_number(g, 1, F32); /* ok */
    in[n++] = NO_ID;                   /* active: one slice */
    for (int i = 0; i < u->n_state; i++) {
        const int64_t slices = 1;
        Type t = u->state[i].scalar ? type_of(F64, 1, &slices) : p;
        const char *name = arena_printf(a, "state.%s", u->state[i].name);
        in[n] = graph_value(g, ROLE_STATE, t, name, loc_none());
        Param *param = g->value[in[n++]]->param = param_new(a);
        param->init = (Init){INIT_CONSTANT, u->state[i].start, NO_ID};
        str_printf(&states, "%s%s", i ? " " : "", u->state[i].name);
    }
    const Op *op = op_find("update");
    void *attrs = attrs_new(a, op);
    const char *names = arena_strdup(a, states.s ? states.s : "");
    bool ok = attr_parse(a, attr_find(op, "f"), attrs, u->formula, e) &&
              attr_parse(a, attr_find(op, "states"), attrs, names, e);
    str_free(&states);
    Node *node = ok ? graph_add(g, op, attrs, n, in, e) : NULL;
    if (!node) return NULL;
    graph_output(g, "p1", node->out[0]);
    for (int i = 0; i < u->n_state; i++)
        graph_output(g, arena_printf(a, "after.%s", u->state[i].name),
                     node->out[1 + i]);
    return g;
}

static bool one_update(Eval *v, Exec *x, int64_t step, const TensorEntry *g, Err *e) {
    Type t;
    void *data = eval_read(v, g, F32, false, &t);
    if (!exec_write(x, "g", data, type_bytes(&t), e)) return false;
    exec_run(x);
    return eval_record_value(
        v, x, "p", arena_printf(v->arena, "p%lld", (long long)step), false, e);
}

static bool updates(Eval *v, Exec *x, const UpdateProgram *u, Err *e) {
    int64_t last = 0;
    for (int i = 0; i < v->in->n; i++) {
        long long k;
        char rest;
        if (sscanf(v->in->entry[i].name, "g%lld%c", &k, &rest) == 1 && k > last)
            last = k;
    }
    if (last < 1 || last > 100000)
        return err_usage(e, "%s: 'g1' is missing", v->in->path);
    for (int64_t k = 1; k <= last; k++) {
        const TensorEntry *g =
            eval_input(v, arena_printf(v->arena, "g%lld", (long long)k));
        const char *key = arena_printf(v->arena, "p%lld", (long long)k);
        if (g ? !one_update(v, x, k, g, e)
              : !eval_record_value(v, x, "p", key, false, e))
            return false;
    }
    for (int i = 0; i < u->n_state; i++) {
        const char *name = arena_printf(v->arena, "state.%s", u->state[i].name);
        if (!eval_record_value(v, x, name, u->state[i].name, false, e)) return false;
    }
    return true;
}

bool eval_optimizer(Eval *v, Err *e) {
    const TensorEntry *p = eval_input(v, "p"), *lr = eval_input(v, "lr");
    if (!p || !lr)
        return err_usage(e, "%s: '%s' is missing", v->in->path, p ? "lr" : "p");
    Args *args = args_new(v->arena);
    const char *what = arena_printf(v->arena, "optimizer '%s'", v->doc->name);
    UpdateProgram u;
    Type t, one;
    float *start = eval_read(v, p, F32, false, &t),
          *rate = eval_read(v, lr, F32, false, &one);
    if (!args_bind(v->arena, yaml_get(v->doc->root, "args"), v->set, what, loc_none(),
                   args, e) ||
        !build_update(v->arena, v->doc, args, &u, e))
        return false;
    if (type_count(&one) != 1)
        return err_usage(e, "%s: 'lr' is %s, want one number", v->in->path,
                         type_text(v->arena, &one));
    Graph *g = update_graph(v, &u, t, e);
    Options opt = {.reference_kernels = v->opt->exact};
    Plan *plan = g ? plan_lower(g, &opt, e) : NULL;
    if (!plan) return false;
    WeightSource none = {0};
    Store *store = store_open(v->dev, &none, 0);
    Exec *x = exec_open(store, plan, e);
    bool ok = x && exec_write(x, "p", start, type_bytes(&t), e) &&
              exec_write(x, "lr", rate, sizeof *rate, e) && updates(v, x, &u, e);
    if (x) exec_close(x);
    store_close(store);
    return ok;
}
