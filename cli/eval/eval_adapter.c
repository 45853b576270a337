/* An adapter on one node: inputs x, w (the weight in the checkpoint's form: [out,in] or
 * [out,in,k,k]), optionally b, and the adapter's tensors by node path; output y.
 * --set stride=, pad= for a convolution; every other key is an argument of the adapter. */
#include <math.h>
#include <string.h>

#include "cli/eval/eval.h"
#include "cli/files/adapted_node.h"

static bool data_in_inputs(void *ctx, const char *name, Tensor *out) {
    Eval *v = ctx;
    const TensorEntry *t = eval_input(v, !strcmp(name, "node.node.weight") ? "w" : "b");
    if (t) *out = (Tensor){(void *)t->data, &t->type};
    return t != NULL;
}

/* --set keys of the node go to it, the rest to the adapter; *rest: those. */
static bool split_settings(Eval *v, AdaptedNode *node, Args *rest, Err *e) {
    for (int i = 0; i < v->set->n; i++) {
        const char *name = v->set->name[i];
        int64_t *of_node = !strcmp(name, "stride") ? &node->stride
                           : !strcmp(name, "pad")  ? &node->pad
                                                   : NULL;
        double x;
        if (!of_node)
            args_set(rest, name, v->set->val[i]);
        else if (val_number(&v->set->val[i], &x) && x == floor(x) && x >= 0 && x < 1e6)
            *of_node = (int64_t)x;
        else
            return err_usage(e, "--set %s: want a whole number", name);
    }
    return true;
}

static bool symbols_of(Eval *v, const Type *x, bool conv, Args *dims, Err *e) {
    if (x->rank != (conv ? 4 : 3))
        return err_usage(e, "%s: 'x' is %s, want %s", v->in->path,
                         type_text(v->arena, x),
                         conv ? "[B,C,H,W] for a 4-D 'w'" : "[B,N,C] for a 2-D 'w'");
    args_set(dims, "B", val_int(x->dim[0]));
    args_set(dims, "C", val_int(x->dim[conv ? 1 : 2]));
    args_set(dims, conv ? "H" : "N", val_int(x->dim[conv ? 2 : 1]));
    if (conv) args_set(dims, "W", val_int(x->dim[3]));
    return true;
}

bool eval_adapter(Eval *v, Err *e) {
    const TensorEntry *x = eval_input(v, "x"), *w = eval_input(v, "w"),
                      *b = eval_input(v, "b");
    if (!x || !w)
        return err_usage(e, "%s: '%s' is missing", v->in->path, x ? "w" : "x");
    bool conv = w->type.rank == 4;
    if (w->type.rank != 2 && !conv)
        return err_usage(e, "%s: 'w' is %s, want [out,in] or [out,in,k,k]", v->in->path,
                         type_text(v->arena, &w->type));
    Args *adapter = args_new(v->arena), *dims = args_new(v->arena);
    AdaptedNode node = {.arena = v->arena,
                        .library = v->job.library,
                        .adapter = v->doc,
                        .args = adapter,
                        .weight = w->type,
                        .bias = b ? b->type : (Type){0},
                        .stride = 1,
                        .training = true};
    if (!split_settings(v, &node, adapter, e) ||
        !symbols_of(v, &x->type, conv, dims, e) ||
        !adapted_node_build(&node, dims, &v->job.note, e))
        return false;
    Graph *g = node.graph;
    if (v->opt->grad) {
        Value *in = g->value[graph_find(g, "x")];
        in->role = ROLE_TRAIN;
        in->param = param_new(v->arena);
    }
    if (v->opt->grad && !eval_loss(v, g, e)) return false;
    WeightSource source = {v, data_in_inputs};
    Options opt = {.net = &node.net, .n_net = 1, .dims = dims};
    Store *store = NULL;
    Exec *exec = eval_bind(v, g, &opt, &source, &store, e);
    bool ok = exec && eval_run(v, exec, e) && eval_record_outputs(v, exec, e);
    if (exec) exec_close(exec);
    if (store) store_close(store);
    return ok;
}
