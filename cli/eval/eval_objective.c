/* An objective with the networks of the recipe `lora`, weights from --weights: inputs by
 * their declared names and, where given, nodes by theirs ("noise" and "t" instead of draws);
 * outputs loss, log.NAME, NETWORK.OUTPUT. */
#include <string.h>

#include "cli/eval/eval.h"

static const char *const *given_nodes(Eval *v) {
    const YNode *nodes = yaml_get(v->doc->root, "nodes");
    const char **list = NEW(v->arena, const char *, nodes->n + 1);
    int n = 0;
    for (int i = 0; i < nodes->n; i++)
        if (tensors_find(v->in, nodes->key[i]->s)) list[n++] = nodes->key[i]->s;
    return list;
}

static const char *const *absent_inputs(Eval *v) {
    const YNode *inputs = yaml_get(v->doc->root, "inputs");
    const char **list = NEW(v->arena, const char *, inputs->n + 1);
    int n = 0;
    for (int i = 0; i < inputs->n; i++)
        if (!tensors_find(v->in, inputs->key[i]->s)) list[n++] = inputs->key[i]->s;
    return list;
}

static bool sizes(Eval *v, Args *dims, Err *e) {
    const TensorEntry *x = eval_input(v, "latent"), *ids = eval_input(v, "ids");
    if (!x || x->type.rank != 4 || !ids || ids->type.rank != 3)
        return err_usage(e, "%s: want 'latent' [B,4,h,w] and 'ids' [B,n,77]",
                         v->in->path);
    args_set(dims, "B", val_int(x->type.dim[0]));
    args_set(dims, "H", val_int(x->type.dim[2]));
    args_set(dims, "W", val_int(x->type.dim[3]));
    args_set(dims, "N", val_int(ids->type.dim[1]));
    return true;
}

bool eval_objective(Eval *v, Err *e) {
    if (!v->opt->weights) return err_usage(e, "an objective needs --weights FILE");
    Args *set = args_new(v->arena), *dims = args_new(v->arena),
         *args = args_new(v->arena);
    args_set(set, "pretrained_model_name_or_path", val_word(v->opt->weights));
    const char *what = arena_printf(v->arena, "objective '%s'", v->doc->name);
    job_close(&v->job);
    if (!job_load(&v->job, "lora", e) || !job_open(&v->job, set, e)) return false;
    v->doc = doc_load(v->job.library, v->doc_name, DOC_OBJECTIVE, NULL, loc_none(), e);
    if (!v->doc || !sizes(v, dims, e) ||
        !args_bind(v->arena, yaml_get(v->doc->root, "args"), v->set, what, loc_none(),
                   args, e))
        return false;
    Build b = {.g = graph_new(v->arena, v->doc->name),
               .net = v->job.net,
               .n_net = v->job.n_net,
               .given = given_nodes(v),
               .absent = absent_inputs(v)};
    if (!build_objective(&b, v->doc, args, dims, e)) return false;
    WeightSource w = job_weights(&v->job);
    Options opt = {.net = v->job.net, .n_net = v->job.n_net, .dims = dims};
    Store *store = NULL;
    Exec *x = eval_bind(v, b.g, &opt, &w, &store, e);
    bool ok = x && eval_run(v, x, e) && eval_record_outputs(v, x, e);
    if (x) exec_close(x);
    if (store) store_close(store);
    return ok;
}
