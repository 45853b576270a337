/* An adapter on one node: inputs x, w (the weight in the checkpoint's form: [out,in] or
 * [out,in,k,k]), optionally b, and the adapter's tensors by node path; output y.
 * --set stride=, pad= for a convolution; every other key is an argument of the adapter. */
#include <string.h>

#include "cli/eval.h"

/* The network around the node, as a document like any other. */
static const char network_text[] =
    "network: node\n"
    "prefix: {kohya: '', peft: ''}\n"
    "args: {out: int, kernel: 0, stride: 1, pad: 0, biased: false}\n"
    "symbols: {B: batch, N: tokens, H: height, W: width, C: channels}\n"
    "inputs:\n"
    "  x: {shape: [B, %s, C]}\n"
    "nodes:\n"
    "  node: {op: %s, x: x, out: $out, bias: $biased%s}\n"
    "outputs: {y: node}\n";

static bool shape_in_inputs(void *ctx, const char *name, Type *out) {
    Eval *v = ctx;
    bool weight = !strcmp(name, "node.weight");
    const TensorEntry *t = eval_input(v, weight ? "w" : "b");
    if (t) *out = t->type;
    return t != NULL;
}

static bool data_in_inputs(void *ctx, const char *name, Tensor *out) {
    Eval *v = ctx;
    const TensorEntry *t = eval_input(v, !strcmp(name, "node.node.weight") ? "w" : "b");
    if (t) *out = (Tensor){(void *)t->data, &t->type};
    return t != NULL;
}

static const Doc *network_around(Eval *v, bool conv, Err *e) {
    char *text = arena_printf(
        v->arena, network_text, conv ? "H, W" : "N", conv ? "conv2d" : "linear",
        conv ? ", kernel: $kernel, stride: $stride, pad: $pad" : "");
    Source *src = source_text(v->arena, "(the adapted node)", text, strlen(text));
    return doc_parse(v->job.library, src, e);
}

/* --set keys of the node go to it, the rest to the adapter */
static void split_settings(Eval *v, Args *node, Args *adapter) {
    for (int i = 0; i < v->set->n; i++) {
        bool of_node =
            !strcmp(v->set->name[i], "stride") || !strcmp(v->set->name[i], "pad");
        args_set(of_node ? node : adapter, v->set->name[i], v->set->val[i]);
    }
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

static Graph *wrapped(Eval *v, const Net *net, const Args *args, const Args *dims,
                      Err *e) {
    Graph *g = graph_new(v->arena, "node");
    Build b = {.g = g, .net = (Net *)net, .n_net = 1, .training = true};
    Named *in, *out;
    int n_in, n_out;
    if (!build_inputs(&b, net->doc, net->args, dims, "", &in, &n_in, e) ||
        !build_network(&b, net, in, n_in, &out, &n_out, e))
        return NULL;
    graph_output(g, "y", out[0].value);
    if (v->opt->grad) {
        g->value[in[0].value]->role = ROLE_TRAIN;
        g->value[in[0].value]->param = param_new(v->arena);
    }
    static const char *const pattern[] = {"node", NULL};
    AdapterTarget on = {.network = "node", .pattern = pattern};
    AdapterEntry entry = {.doc = v->doc, .on = &on, .n_on = 1, .args = (Args *)args};
    Recipe r = {.adapter = &entry, .n_adapter = 1};
    Modules m = {0};
    if (!modules_match(v->arena, g, &r, net, 1, &m, e)) return NULL;
    return adapters_inject(g, &m, true, e);
}

bool eval_adapter(Eval *v, Err *e) {
    const TensorEntry *x = eval_input(v, "x"), *w = eval_input(v, "w");
    if (!x || !w)
        return err_usage(e, "%s: '%s' is missing", v->in->path, x ? "w" : "x");
    bool conv = w->type.rank == 4;
    if (w->type.rank != 2 && !conv)
        return err_usage(e, "%s: 'w' is %s, want [out,in] or [out,in,k,k]", v->in->path,
                         type_text(v->arena, &w->type));
    const Doc *doc = network_around(v, conv, e);
    Args *node = args_new(v->arena), *adapter = args_new(v->arena),
         *dims = args_new(v->arena);
    if (!doc || !symbols_of(v, &x->type, conv, dims, e)) return false;
    split_settings(v, node, adapter);
    args_set(node, "out", val_int(w->type.dim[0]));
    if (conv) args_set(node, "kernel", val_int(w->type.dim[2]));
    args_set(node, "biased", val_bool(eval_input(v, "b") != NULL));
    WeightShapes shapes = {v, shape_in_inputs};
    Net net;
    if (!net_bind(v->arena, doc, "node", NULL, node, &shapes, &net, &v->job.note, e))
        return false;
    Graph *g = wrapped(v, &net, adapter, dims, e);
    if (!g || (v->opt->grad && !eval_loss(v, g, e))) return false;
    WeightSource source = {v, data_in_inputs};
    Options opt = {.net = &net, .n_net = 1, .dims = dims};
    Store *store = NULL;
    Exec *exec = eval_bind(v, g, &opt, &source, &store, e);
    bool ok = exec && eval_run(v, exec, e) && eval_record_outputs(v, exec, e);
    if (exec) exec_close(exec);
    if (store) store_close(store);
    return ok;
}
