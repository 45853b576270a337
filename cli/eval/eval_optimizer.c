/* An optimizer on tensors: inputs p, lr [1], g1, g2 …; or several tensors, p.NAME and
 * g1.NAME …, for optimizers that add up over all of them. Outputs p1, p2 … (p1.NAME …)
 * and, after the last update, every state (STATE, STATE.NAME, and the shared ones). A
 * missing number in between is a step without gradient: it is skipped, as for a parameter
 * that no loss reached. The pass of training makes the update. */
#include <stdio.h>
#include <string.h>

#include "cli/eval/eval.h"
#include "runtime/device.h"

enum { MOST_UPDATES = 100000 };

typedef struct Params {
    const char **suffix; /* "" or ".NAME" */
    int n, cap;
} Params;

static bool find_params(Eval *v, Params *p, Err *e) {
    for (int i = 0; i < v->in->n; i++) {
        const char *name = v->in->entry[i].name;
        if (strcmp(name, "p") && strncmp(name, "p.", 2)) continue;
        PUSH(v->arena, p->suffix, p->n, p->cap, name + 1);
    }
    return p->n > 0 || err_usage(e, "%s: 'p' is missing", v->in->path);
}

static const char *key_of(Eval *v, const char *what, int64_t k, const char *suffix) {
    return k ? arena_printf(v->arena, "%s%lld%s", what, (long long)k, suffix)
             : arena_printf(v->arena, "%s%s", what, suffix);
}

/* Parameters with inputs as their gradients. */
static Graph *parameters(Eval *v, const Params *p) {
    Graph *g = graph_new(v->arena, v->doc->name);
    graph_output(g, "loss", graph_number(g, 0, F32));
    for (int i = 0; i < p->n; i++) {
        Type t;
        const char *name = key_of(v, "p", 0, p->suffix[i]);
        eval_read(v, eval_input(v, name), F32, false, &t);
        Id id = graph_value(g, ROLE_TRAIN, t, name, loc_none());
        g->value[id]->param = param_new(v->arena);
        Id grad =
            graph_value(g, ROLE_INPUT, t, key_of(v, "g", 0, p->suffix[i]), loc_none());
        graph_output(g, arena_printf(v->arena, "grad.%s", name), grad);
    }
    return g;
}

static Plan *update_plan(Eval *v, const Params *p, Err *e) {
    const char *what = arena_printf(v->arena, "optimizer '%s'", v->doc->name);
    Recipe r = {
        .doc = v->doc, .optimizer = v->doc, .optimizer_args = args_new(v->arena)};
    if (!args_bind(v->arena, yaml_get(v->doc->root, "args"), v->set, what, loc_none(),
                   r.optimizer_args, e))
        return NULL;
    Options opt = {.recipe = &r,
                   .train = true,
                   .reference_kernels = v->opt->exact,
                   .cuda = device_is_cuda(v->dev)};
    Graph *g = passes_run(parameters(v, p), &opt, "optimizer", e);
    return g ? plan_lower(g, &opt, e) : NULL;
}

/* Gradients of update k, where there are any; *all: there are. */
static bool give_gradients(Eval *v, Exec *x, const Params *p, int64_t k, bool *all,
                           Err *e) {
    int there = 0;
    for (int i = 0; i < p->n; i++) {
        const TensorEntry *g = eval_input(v, key_of(v, "g", k, p->suffix[i]));
        Type t;
        if (!g) continue;
        void *data = eval_read(v, g, F32, false, &t);
        if (!exec_write(x, key_of(v, "g", 0, p->suffix[i]), data, type_bytes(&t), e))
            return false;
        there++;
    }
    *all = there == p->n;
    return *all || !there ||
           err_usage(e, "%s: update %lld has a gradient for %d of %d tensors",
                     v->in->path, (long long)k, there, p->n);
}

/* A state's key: "m" or "m.NAME"; shared ones have the optimizer's name in front. */
static const char *state_key(Eval *v, const Params *p, const char *value) {
    for (int i = 0; i < p->n; i++) {
        const char *name = key_of(v, "p", 0, p->suffix[i]);
        size_t n = strlen(name);
        if (!strncmp(value, name, n) && value[n] == '.')
            return arena_printf(v->arena, "%s%s", value + n + 1, p->suffix[i]);
    }
    const char *dot = strchr(value, '.');
    return dot ? dot + 1 : value;
}

static bool updates(Eval *v, Exec *x, const Params *p, Err *e) {
    int64_t last = 0;
    for (int i = 0; i < v->in->n; i++) {
        long long k;
        char rest = '.';
        if (sscanf(v->in->entry[i].name, "g%lld%c", &k, &rest) >= 1 && rest == '.' &&
            k > last)
            last = k;
    }
    if (last < 1 || last > MOST_UPDATES)
        return err_usage(e, "%s: 'g1' is missing", v->in->path);
    for (int64_t k = 1; k <= last; k++) {
        bool all;
        if (!give_gradients(v, x, p, k, &all, e)) return false;
        if (all) exec_run(x);
        for (int i = 0; i < p->n; i++)
            if (!eval_record_value(v, x, key_of(v, "p", 0, p->suffix[i]),
                                   key_of(v, "p", k, p->suffix[i]), false, e))
                return false;
    }
    const Plan *plan = exec_plan(x);
    for (uint32_t i = 0; i < plan->n_value; i++) {
        const PlanValue *value = &plan->value[i];
        if (value->role == ROLE_STATE &&
            !eval_record_value(v, x, value->name, state_key(v, p, value->name), false,
                               e))
            return false;
    }
    return true;
}

static bool starts(Eval *v, Exec *x, const Params *p, const float *rate, Err *e) {
    for (int i = 0; i < p->n; i++) {
        Type t;
        const char *name = key_of(v, "p", 0, p->suffix[i]);
        const void *data = eval_read(v, eval_input(v, name), F32, false, &t);
        if (!exec_write(x, name, data, type_bytes(&t), e)) return false;
    }
    /* an optimizer that sets its own rate reads none */
    return !exec_type(x, "lr.0") || exec_write(x, "lr.0", rate, sizeof *rate, e);
}

bool eval_optimizer(Eval *v, Err *e) {
    Params p = {0};
    const TensorEntry *lr = eval_input(v, "lr");
    Type one;
    if (!find_params(v, &p, e)) return false;
    if (!lr) return err_usage(e, "%s: 'lr' is missing", v->in->path);
    float *rate = eval_read(v, lr, F32, false, &one);
    if (type_count(&one) != 1)
        return err_usage(e, "%s: 'lr' is %s, want one number", v->in->path,
                         type_text(v->arena, &one));
    Plan *plan = update_plan(v, &p, e);
    if (!plan) return false;
    WeightSource none = {0};
    Store *store = store_open(v->dev, &none, 0);
    Exec *x = exec_open(store, plan, e);
    bool ok = x && starts(v, x, &p, rate, e) && updates(v, x, &p, e);
    if (x) exec_close(x);
    store_close(store);
    return ok;
}
