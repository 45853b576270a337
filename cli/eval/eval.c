/* The eval command: tensors in, one document's graph, tensors out. */
#include "cli/eval/eval.h"

#include <string.h>

#include "cli/files/file_tool.h"
#include "cli/job/mixed_precision.h"
#include "cli/job/setting.h"
#include "runtime/device.h"
#include "runtime/layout.h"

/* ---- tensors in and out ---- */
const TensorEntry *eval_input(Eval *v, const char *name) {
    const TensorEntry *t = tensors_find(v->in, name);
    if (t) v->used[t - v->in->entry] = true;
    return t;
}

static int64_t plane(const Type *t) {
    return t->dim[2] * t->dim[3];
}

void *eval_read(Eval *v, const TensorEntry *entry, DType dtype, bool picture, Type *t) {
    int64_t n = type_count(&entry->type);
    void *raw = arena_alloc(v->arena, 1, type_bytes(&entry->type));
    memcpy(raw, entry->data, type_bytes(&entry->type)); /* files may be unaligned */
    void *data = arena_alloc(v->arena, (size_t)n, dtype_size(dtype));
    convert(data, dtype, raw, entry->type.dtype, n);
    *t = entry->type;
    t->dtype = dtype;
    if (!picture || t->rank != 4 || dtype != F32) return data;
    float *last = NEW(v->arena, float, n);
    nchw_to_nhwc(last, data, t->dim[0], t->dim[1], plane(t));
    const int64_t d[4] = {t->dim[0], t->dim[2], t->dim[3], t->dim[1]};
    *t = type_of(F32, 4, d);
    return last;
}

void eval_record(Eval *v, const char *key, Type type, const void *data) {
    void *copy =
        memcpy(arena_alloc(v->arena, 1, type_bytes(&type)), data, type_bytes(&type));
    TensorOut out = {arena_strdup(v->arena, key), type, copy};
    PUSH(v->arena, v->out, v->n_out, v->cap_out, out);
}

bool eval_record_value(Eval *v, Exec *x, const char *value, const char *key,
                       bool picture, Err *e) {
    Type t = *exec_type(x, value);
    void *data = arena_alloc(v->arena, 1, type_bytes(&t));
    if (!exec_read(x, value, data, type_bytes(&t), e)) return false;
    if (picture && t.rank == 4 && t.dtype == F32) {
        float *first = NEW(v->arena, float, type_count(&t));
        nhwc_to_nchw(first, data, t.dim[0], t.dim[3], t.dim[1] * t.dim[2]);
        const int64_t d[4] = {t.dim[0], t.dim[3], t.dim[1], t.dim[2]};
        t = type_of(F32, 4, d);
        data = first;
    }
    eval_record(v, key, t, data);
    return true;
}

bool eval_all_used(const Eval *v, Err *e) {
    for (int i = 0; i < v->in->n; i++)
        if (!v->used[i])
            return err_usage(e, "%s: nothing in '%s' takes the tensor '%s'",
                             v->in->path, v->doc->name, v->in->entry[i].name);
    return true;
}

/* ---- graph ---- */
static const char *drawn_name(const Node *n, const char *prefix) {
    size_t k = strlen(prefix);
    bool random = (n->op->flags & OP_RANDOM) && n->at.path;
    return random && !strncmp(n->at.path, prefix, k) ? n->at.path + k : NULL;
}

Graph *eval_replace_draws(Eval *v, const Graph *old, const char *prefix, Err *e) {
    Id *map;
    Graph *g = graph_rewrite(old, &map);
    for (uint32_t i = 0; i < old->n_node; i++) {
        const Node *n = old->node[i];
        const char *name = drawn_name(n, prefix);
        if (name && eval_input(v, name)) {
            const Value *was = old->value[n->out[0]];
            Id id = graph_value(g, ROLE_INPUT, was->type, name, n->at.loc);
            g->value[id]->batch = was->batch;
            map[n->out[0]] = id;
        } else if (!graph_copy_node(g, n, old, map, e)) {
            return NULL;
        }
    }
    graph_copy_outputs(g, old, map);
    return g;
}

static Id sum_all(Eval *v, Graph *g, Id x, Err *e) {
    const Op *op = op_find("sum");
    void *attrs = attrs_new(v->arena, op);
    Str axes = {0};
    int rank = g->value[x]->type.rank;
    if (rank == 0) return x;
    for (int i = 0; i < rank; i++) str_printf(&axes, "%s%d", i ? "," : "[", i);
    str_add(&axes, "]");
    bool ok = attr_parse(v->arena, attr_find(op, "over"), attrs, axes.s, e);
    str_free(&axes);
    return ok ? graph_op(g, op, attrs, 1, &x, e) : NO_ID;
}

bool eval_loss(Eval *v, Graph *g, Err *e) {
    Id total = NO_ID;
    for (uint32_t i = 0, n = g->n_output; i < n; i++) {
        Id y = g->output[i].value, terms[2] = {y, NO_ID};
        const char *name = arena_printf(v->arena, "d.%s", g->output[i].name);
        if (eval_input(v, name)) {
            terms[1] = graph_value(g, ROLE_INPUT, g->value[y]->type, name, loc_none());
            terms[0] = graph_formula(g, "x0 * x1", 2, terms, e);
        }
        Id sum = terms[0] == NO_ID ? NO_ID : sum_all(v, g, terms[0], e);
        Id both[2] = {total, sum};
        total = sum == NO_ID || total == NO_ID
                    ? sum
                    : graph_formula(g, "x0 + x1", 2, both, e);
        if (total == NO_ID) return false;
    }
    graph_output(g, "loss", total);
    return true;
}

Exec *eval_bind(Eval *v, Graph *g, Options *opt, const WeightSource *w, Store **store,
                Err *e) {
    opt->reference_kernels = v->opt->exact;
    opt->cuda = device_is_cuda(v->dev);
    opt->mixed_precision = mixed_precision_of(v->opt->mixed_precision);
    opt->train = opt->record_gradients = v->opt->grad;
    g = passes_run(g, opt, "infer-shapes", e);
    Plan *p = g ? plan_lower(g, opt, e) : NULL;
    if (!p) return NULL;
    *store = store_open(v->dev, w, (uint64_t)v->opt->seed);
    return exec_open(*store, p, e);
}

/* The tensor of an adapter alone goes by its node path ("lora_down.weight"), without the
 * module. */
static const char *file_name(const Eval *v, const PlanValue *value) {
    const char *module = value->param ? value->param->module : NULL;
    if (v->doc->kind != DOC_ADAPTER) return value->name;
    return module ? value->name + strlen(module) + 1 : value->name;
}

bool eval_run(Eval *v, Exec *x, Err *e) {
    const Plan *p = exec_plan(x);
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *value = &p->value[i];
        if (!value->name || (value->role != ROLE_INPUT && value->role != ROLE_TRAIN &&
                             value->role != ROLE_STATE))
            continue; /* a state here: an adapter's tensor that does not learn */
        const TensorEntry *t = eval_input(v, file_name(v, value));
        if (!t && value->role != ROLE_INPUT) continue; /* as initialised */
        if (!t)
            return err_usage(e, "%s: '%s' is missing", v->in->path,
                             file_name(v, value));
        Type got;
        bool picture = value->type.rank == 4 && !(value->param && value->param->module);
        void *data = eval_read(v, t, value->type.dtype, picture, &got);
        if (type_count(&got) != type_count(&value->type))
            return err_usage(e, "%s: '%s' is %s, want %s", v->in->path, t->name,
                             type_text(v->arena, &got),
                             type_text(v->arena, &value->type));
        if (!exec_write(x, value->name, data, type_bytes(&value->type), e))
            return false;
    }
    exec_run(x);
    return true;
}

/* "g.NAME" for the gradient "grad.NAME" of a value; *tensor: its name in the inputs file if
 * it is an adapter's, which has no channels to turn, or NULL. */
static const char *gradient_key(Eval *v, const Plan *p, const char *of,
                                const char **tensor) {
    const char *in_file = of;
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *value = &p->value[i];
        if (!value->name || strcmp(value->name, of)) continue;
        in_file = file_name(v, value);
        if (value->param && value->param->module) *tensor = in_file;
    }
    return arena_printf(v->arena, "g.%s", in_file);
}

/* The gradient of a matrix that the inputs file has as [out,in,1,1] is recorded so. */
static void like_input(Eval *v, const char *in_file) {
    const TensorEntry *given = eval_input(v, in_file);
    Type *t = &v->out[v->n_out - 1].type;
    if (given && type_count(&given->type) == type_count(t))
        *t = type_of(t->dtype, given->type.rank, given->type.dim);
}

bool eval_record_outputs(Eval *v, Exec *x, Err *e) {
    const Plan *p = exec_plan(x);
    for (uint32_t i = 0; i < p->n_output; i++) {
        const char *name = p->output[i].name, *key = name, *tensor = NULL;
        if (!strcmp(name, "loss") && v->doc->kind != DOC_OBJECTIVE) continue;
        if (!strncmp(name, "grad.", 5)) key = gradient_key(v, p, name + 5, &tensor);
        if (!eval_record_value(v, x, name, key, !tensor, e)) return false;
        if (tensor) like_input(v, tensor);
    }
    return true;
}

/* ---- networks ---- */
/* Symbols of the declared shapes from the tensors' shapes. */
static bool bind_symbols(Eval *v, const Doc *d, Args *dims, Err *e) {
    const YNode *inputs = yaml_get(d->root, "inputs"),
                *symbols = yaml_get(d->root, "symbols");
    for (int i = 0; inputs && i < inputs->n; i++) {
        const char *name = inputs->key[i]->s;
        const YNode *shape = yaml_get(inputs->item[i], "shape");
        const TensorEntry *t = eval_input(v, name);
        if (!t) return err_usage(e, "%s: '%s' is missing", v->in->path, name);
        Type got = t->type;
        if (got.rank == 4) /* [B,C,H,W] -> [B,H,W,C] */
            got.dim[1] = t->type.dim[2], got.dim[2] = t->type.dim[3],
            got.dim[3] = t->type.dim[1];
        if (got.rank != shape->n)
            return err_usage(e, "%s: '%s' has %d dimensions, want %d", v->in->path,
                             name, got.rank, shape->n);
        for (int k = 0; k < shape->n; k++) {
            const char *word = shape->item[k]->s;
            if (!symbols || !word || !yaml_get(symbols, word)) continue;
            const Val *had = args_get(dims, word);
            if (had && had->i != got.dim[k])
                return err_usage(e, "%s: '%s' makes %s %lld, another tensor %lld",
                                 v->in->path, name, word, (long long)got.dim[k],
                                 (long long)had->i);
            args_set(dims, word, val_int(got.dim[k]));
        }
    }
    return true;
}

static bool bind_network(Eval *v, Net *net, Err *e) {
    Args *given = args_copy(v->arena, v->set);
    const WeightShapes *shapes = NULL;
    Checkpoint *model = NULL;
    if (v->opt->weights) {
        model = job_model(&v->job, v->opt->weights, e);
        if (!model || !job_config(&v->job, model, v->doc, given, e)) return false;
        shapes = job_shapes(&v->job, model);
    }
    if (!net_bind(v->arena, v->doc, v->doc->name, v->opt->variant, given, shapes, net,
                  &v->job.note, e))
        return false;
    job_use_net(&v->job, net, model);
    return true;
}

/* --network_weights */
static bool open_adapters(Eval *v, Err *e) {
    const EvalOptions *o = v->opt;
    if (!o->network_weights)
        return !o->adapter && !o->network_args.n
                   ? true
                   : err_usage(e, "--%s wants --network_weights",
                               o->adapter ? "adapter" : "network_args");
    Args *args = args_new(v->arena);
    if (!settings(v->arena, &o->network_args, "--network_args", args, e)) return false;
    v->network_weights = adapter_file_at(o->network_weights, o->adapter, args, e);
    return v->network_weights != NULL;
}

/* The adapters of the file in g; what they draw is read from the inputs file, as
 * "MODULE.NODE", where it is there. */
static Graph *adapted(Eval *v, Graph *g, Net *net, Err *e) {
    const AdapterUse use = {.file = v->network_weights, .multiplier = 1};
    if (!adapters_use(v->arena, g, net, &use, 1, v->opt->grad, NULL, &v->adapters, e))
        return NULL;
    if (!v->adapters.modules.n)
        return err_fail(e, "'%s': none of its modules is in network '%s'",
                        v->opt->network_weights, net->name),
               NULL;
    return v->adapters.graph = eval_replace_draws(v, v->adapters.graph, "", e);
}

bool eval_network(Eval *v, Err *e) {
    Net net;
    Args *dims = args_new(v->arena);
    if (!bind_network(v, &net, e) || !bind_symbols(v, v->doc, dims, e)) return false;
    Graph *g = graph_new(v->arena, net.name);
    Build b = {.g = g, .net = &net, .n_net = 1};
    Named *in, *out;
    int n_in, n_out;
    if (!build_inputs(&b, v->doc, net.args, dims, "", &in, &n_in, e) ||
        !build_network(&b, &net, in, n_in, &out, &n_out, e))
        return false;
    for (int i = 0; i < n_out; i++) graph_output(g, out[i].name, out[i].value);
    g = eval_replace_draws(v, g, arena_printf(v->arena, "%s.", net.name), e);
    if (g && v->network_weights) g = adapted(v, g, &net, e);
    if (!g) return false;
    for (uint32_t i = 0; v->opt->grad && i < g->n_value; i++)
        if (g->value[i]->role == ROLE_INPUT &&
            dtype_is_float(g->value[i]->type.dtype)) {
            g->value[i]->role = ROLE_TRAIN; /* so that it gets a gradient */
            g->value[i]->param = param_new(v->arena);
            g->value[i]->param->init.kind = INIT_ZEROS;
        }
    if (v->opt->grad && !eval_loss(v, g, e)) return false;
    WeightSource w = job_weights(&v->job);
    Options opt = {.net = &net, .n_net = 1, .dims = dims};
    Store *store = NULL;
    Exec *x = eval_bind(v, g, &opt, &w, &store, e);
    bool ok = x && (!v->network_weights || adapters_fill(&v->adapters, x, e)) &&
              eval_run(v, x, e) && eval_record_outputs(v, x, e);
    if (x) exec_close(x);
    if (store) store_close(store);
    return ok;
}

/* ---- the command ---- */
static const struct {
    DocKind kind;
    bool (*run)(Eval *v, Err *e);
} kinds[] = {
    {DOC_NETWORK, eval_network},
    {DOC_ADAPTER, eval_adapter},
    {DOC_OBJECTIVE, eval_objective},
    {DOC_OPTIMIZER, eval_optimizer},
};

static bool evaluate(Eval *v, const char *name, Err *e) {
    v->doc_name = name;
    v->doc = doc_load(v->job.library, name, DOC_KINDS, NULL, loc_none(), e);
    if (!v->doc || !settings(v->arena, &v->opt->set, "--set", v->set, e)) return false;
    v->in = safetensors_open(v->opt->inputs, e);
    if (!v->in || !open_adapters(v, e)) return false;
    if (v->network_weights && v->doc->kind != DOC_NETWORK)
        return err_usage(e, "--network_weights go into a network, '%s' is a %s", name,
                         doc_kind_name(v->doc->kind));
    v->used = NEW(v->arena, bool, v->in->n + 1);
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (kinds[i].kind == v->doc->kind)
            return kinds[i].run(v, e) && eval_all_used(v, e) &&
                   safetensors_write(v->opt->record, v->out, v->n_out, NULL, 0, e);
    return err_usage(
        e,
        "'%s' is a %s: eval takes a network, an adapter, an objective or an "
        "optimizer",
        name, doc_kind_name(v->doc->kind));
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    const EvalOptions *o = opts;
    (void)given;
    if (!o->inputs || !o->record) {
        err_usage(e, "eval needs --inputs FILE and --record FILE");
        return e->code;
    }
    Device *dev = step_device(c, o->device, e);
    if (!dev) return e->code;
    Eval v = {.arena = arena_new(), .opt = o, .dev = dev};
    v.job.arena = arena_new();
    v.job.library = library_new(v.job.arena);
    v.set = args_new(v.arena);
    bool ok = evaluate(&v, words->word[0], e);
    if (v.in) tensors_close(v.in);
    adapter_file_close(v.network_weights);
    device_close(v.dev);
    job_close(&v.job);
    arena_free(v.arena);
    return ok ? EXIT_DONE : e->code;
}

static const EvalOptions defaults = {.device = "cpu"};
static const Opt options[] = {
    OPT(EvalOptions, TEXT, variant, "NAME",
        "variant of the network (default: what fits)"),
    OPT(EvalOptions, TEXT, weights, "FILE", "base model: file or Diffusers folder"),
    OPT(EvalOptions, EACH, set, "KEY=VALUE", "an argument of the document"),
    OPT(EvalOptions, TEXT, network_weights, "FILE",
        "a LoRA or another adapter's file in the network; with --grad g.MODULE.TENSOR "
        "too"),
    OPT(EvalOptions, TEXT, adapter, "NAME",
        "its graph file, if not told by the tensors' names"),
    OPT(EvalOptions, LIST, network_args, "K=V…",
        "arguments of the adapter that its tensors do not tell: unit=4 …"),
    OPT(EvalOptions, TEXT, inputs, "FILE",
        "input tensors by name, pictures as [B,C,H,W]"),
    OPT(EvalOptions, TEXT, record, "FILE", "every named output as a tensor"),
    OPT(EvalOptions, FLAG, grad, NULL,
        "gradients too: g.NAME, from upstream d.OUTPUT (ones where missing)"),
    OPT(EvalOptions, TEXT, mixed_precision, "TYPE", "no, fp16 or bf16",
        .words = mixed_precision_words),
    OPT(EvalOptions, TEXT, device, "NAME", "cpu or cuda"),
    OPT(EvalOptions, FLAG, exact, NULL, "reference kernels only"),
    OPT(EvalOptions, INT, seed, "N", "of random draws and initial weights"),
    OPT_END,
};
const Command cmd_eval = {
    .name = "eval",
    .args = "GRAPH",
    .doc = "Runs one network, adapter, objective or optimizer on tensors from a file.",
    .options = options,
    .size = sizeof(EvalOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 1,
    .run = run,
};
