/* Networks: their arguments bound to a checkpoint, their inputs declared, and the document
 * expanded wherever it is called. */
#include "graph/lang/build_private.h"

#include <string.h>

/* ---- inputs ---- */

/* Symbols that a document declares, for suggestions. */
static const char *const *symbol_names(Arena *a, const Doc *d) {
    const YNode *symbols = yaml_get(d->root, "symbols");
    int n = symbols ? symbols->n : 0;
    const char **names = NEW(a, const char *, n + 1);
    for (int i = 0; i < n; i++) names[i] = symbols->key[i]->s;
    return names;
}

/* One entry of `shape:`: a number, or the symbol it is. */
static bool shape_entry(Arena *a, const Doc *d, const Args *args, const YNode *slot,
                        int64_t *number, const char **symbol, Err *e) {
    Env env = {.args = args};
    Val v;
    double x;
    if (!slot_eval(a, slot, &env, &v, e)) return false;
    *symbol = NULL;
    if (v.kind == VAL_WORD) {
        const YNode *symbols = yaml_get(d->root, "symbols");
        if (!symbols || !yaml_get(symbols, v.word))
            return err_at(e, slot->loc, "no symbol '%s' in 'symbols'%s", v.word,
                          did_you_mean(a, v.word, symbol_names(a, d)));
        *symbol = v.word;
        return true;
    }
    if (!val_number(&v, &x) || x != (double)(int64_t)x || x < 1 || x > 0x1p31)
        return err_at(e, slot->loc,
                      "a dimension is a symbol or a whole number above 0");
    *number = (int64_t)x;
    return true;
}

static bool symbol_value(const Doc *d, const Args *dims, const char *symbol, Loc loc,
                         int64_t *out, Err *e) {
    const Val *v = dims ? args_get(dims, symbol) : NULL;
    double x;
    const YNode *doc = yaml_get(yaml_get(d->root, "symbols"), symbol);
    if (!v)
        return err_at(e, loc, "the size '%s' (%s) is not given", symbol,
                      doc->s ? doc->s : "");
    if (!val_number(v, &x) || x != (double)(int64_t)x || x < 1 || x > 0x1p31)
        return err_at(e, loc, "the size '%s' (%s) must be a whole number above 0",
                      symbol, doc->s ? doc->s : "");
    *out = (int64_t)x;
    return true;
}

static bool input_dtype(const YNode *decl, DType *out, Err *e) {
    const YNode *dtype = yaml_get(decl, "dtype");
    *out = F32;
    if (!dtype || dtype_parse(dtype->s, out)) return true;
    return err_at(e, dtype->loc, "no type '%s'", dtype->s);
}

/* The type of a declared input with symbols bound by dims; batch: it begins with B. */
static bool input_type(Arena *a, const Doc *d, const Args *args, const Args *dims,
                       const YNode *decl, Type *t, bool *batch, Err *e) {
    const YNode *shape = yaml_get(decl, "shape");
    *t = (Type){0};
    *batch = false;
    if (!input_dtype(decl, &t->dtype, e)) return false;
    if (shape && shape->n > MAX_RANK)
        return err_at(e, shape->loc, "%d dimensions, at most %d", shape->n, MAX_RANK);
    for (int i = 0; shape && i < shape->n; i++) {
        const char *symbol;
        if (!shape_entry(a, d, args, shape->item[i], &t->dim[i], &symbol, e))
            return false;
        if (symbol &&
            !symbol_value(d, dims, symbol, shape->item[i]->loc, &t->dim[i], e))
            return false;
        if (symbol && i == 0 && !strcmp(symbol, "B")) *batch = true;
        t->rank = i + 1;
    }
    uint64_t count = 1;
    for (int i = 0; i < t->rank; i++)
        if (!mul_u64(count, (uint64_t)t->dim[i], &count) || count > (uint64_t)1 << 47)
            return err_at(e, decl->loc, "an input of %s elements is too large",
                          shape_text(a, t));
    return true;
}

static bool listed(const char *const *names, const char *name) {
    for (; names && *names; names++)
        if (!strcmp(*names, name)) return true;
    return false;
}

bool build_inputs(Build *b, const Doc *d, const Args *doc_args, const Args *dims,
                  const char *prefix, Named **in, int *n_in, Err *e) {
    Graph *g = b->g;
    const YNode *inputs = yaml_get(d->root, "inputs");
    *n_in = inputs ? inputs->n : 0;
    *in = NEW(g->arena, Named, *n_in ? *n_in : 1);
    for (int i = 0; i < *n_in; i++) {
        const YNode *decl = inputs->item[i], *def = yaml_get(decl, "default");
        const char *name = inputs->key[i]->s;
        Type t;
        bool batch;
        (*in)[i].name = name;
        if (def && listed(b->absent, name)) {
            Env env = {.args = doc_args};
            Val v;
            double x;
            if (!slot_eval(g->arena, def, &env, &v, e)) return false;
            if (!val_number(&v, &x))
                return err_at(e, def->loc, "'default' must be a number");
            (*in)[i].value = graph_number(g, x, F64);
            continue;
        }
        if (!input_type(g->arena, d, doc_args, dims, decl, &t, &batch, e)) return false;
        const char *full = arena_printf(g->arena, "%s%s", prefix ? prefix : "", name);
        (*in)[i].value = graph_value(g, ROLE_INPUT, t, full, inputs->key[i]->loc);
        g->value[(*in)[i].value]->batch = batch;
    }
    return true;
}

/* ---- expansion ---- */

static const Named *named_find(const Named *list, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

/* Binds symbols to the sizes of a given value, and refuses what cannot be its type. */
static bool accept_input(Ctx *c, const Net *net, Args *dims, const YNode *key,
                         const YNode *decl, Id *id, Err *e) {
    const YNode *shape = yaml_get(decl, "shape");
    Graph *g = c->g;
    const Type *got = &g->value[*id]->type;
    int rank = shape ? shape->n : 0;
    if (got->rank != rank)
        return err_at(e, key->loc,
                      "input '%s' of network '%s' has %d dimensions, got %s", key->s,
                      net->name, rank, shape_text(c->a, got));
    for (int i = 0; i < rank; i++) {
        int64_t want = got->dim[i];
        const char *symbol;
        if (!shape_entry(c->a, net->doc, net->args, shape->item[i], &want, &symbol, e))
            return false;
        const Val *known = symbol ? args_get(dims, symbol) : NULL;
        if (known)
            want = known->i;
        else if (symbol)
            args_set(dims, symbol, val_int(want));
        if (want != got->dim[i])
            return err_at(
                e, shape->item[i]->loc,
                "input '%s' of network '%s' got %s: dimension %d is %lld, want %lld",
                key->s, net->name, shape_text(c->a, got), i + 1, (long long)got->dim[i],
                (long long)want);
    }
    DType t;
    if (!input_dtype(decl, &t, e)) return false;
    if (!dtype_is_float(got->dtype) && !dtype_is_float(t) && got->dtype != t)
        return err_at(e, key->loc, "input '%s' of network '%s' is %s, want %s", key->s,
                      net->name, dtype_name(got->dtype), dtype_name(t));
    bool batch = g->value[*id]->batch;
    *id = graph_cast(g, *id, t, e);
    if (*id != NO_ID) g->value[*id]->batch = batch;
    return *id != NO_ID;
}

static const char *const *block_names(Arena *a, const Doc *d, int *n) {
    const YNode *blocks = yaml_get(d->root, "blocks");
    *n = blocks ? blocks->n : 0;
    if (!*n) return NULL;
    const char **names = NEW(a, const char *, *n + 1);
    for (int i = 0; i < *n; i++) names[i] = blocks->item[i]->s;
    return names;
}

static bool give_inputs(Ctx *c, Level *l, const Net *net, Args *dims, const Named *in,
                        int n_in, Err *e) {
    const YNode *inputs = yaml_get(net->doc->root, "inputs");
    for (int i = 0; inputs && i < inputs->n; i++) {
        const YNode *key = inputs->key[i];
        const Named *given = named_find(in, n_in, key->s);
        if (!given)
            return err_at(e, c->g->at.loc, "network '%s' needs input '%s'", net->name,
                          key->s);
        Id id = given->value;
        if (!accept_input(c, net, dims, key, inputs->item[i], &id, e)) return false;
        scope_set(l->scope, key->s, id);
    }
    return true;
}

static bool expand(Ctx *c, Level *l, const Net *net, Args *dims, const Named *in,
                   int n_in, Named **out, int *n_out, Err *e) {
    const YNode *root = net->doc->root, *outputs = yaml_get(root, "outputs");
    if (!give_inputs(c, l, net, dims, in, n_in, e)) return false;
    const YNode *nodes = yaml_get(root, "nodes");
    if (!run_nodes(c, l, nodes, e)) return false;
    if (!stacks_empty(c, nodes ? nodes->loc : root->loc, e)) return false;
    *n_out = outputs ? outputs->n : 0;
    *out = NEW(c->a, Named, *n_out ? *n_out : 1);
    for (int i = 0; i < *n_out; i++) {
        (*out)[i].name = outputs->key[i]->s;
        c->g->at.path = full_path(c, outputs->key[i]->s);
        c->g->at.loc = outputs->item[i]->loc;
        if (!formula_eval(c, l, outputs->item[i], &(*out)[i].value, e)) return false;
    }
    if (*n_out) return true;
    return err_at(e, root->loc, "network '%s' has no outputs", net->name);
}

static bool build_network_as(Build *b, const Net *net, const Named *in, int n_in,
                             Named **out, int *n_out, const char **misfit, Err *e) {
    Graph *g = b->g;
    Ctx c = ctx_new(b, net->name);
    Args *dims = args_new(g->arena);
    const char *const *blocks = block_names(g->arena, net->doc, &c.n_blocks);
    if (blocks && !g->blocks) g->blocks = blocks;
    c.net = net;
    c.dims = dims;
    Level l = {
        .doc = net->doc, .scope = scope_new(g->arena), .args = net->args, .prefix = ""};
    Place keep = g->at;
    g->at.block = -1;
    bool ok = expand(&c, &l, net, dims, in, n_in, out, n_out, e);
    g->at = keep;
    if (misfit) *misfit = c.misfit;
    return ok;
}

bool build_network(Build *b, const Net *net, const Named *in, int n_in, Named **out,
                   int *n_out, Err *e) {
    return build_network_as(b, net, in, n_in, out, n_out, NULL, e);
}

/* ---- calls ---- */

static const Net *net_find(const Build *b, const char *name) {
    for (int i = 0; i < b->n_net; i++)
        if (!strcmp(b->net[i].name, name)) return &b->net[i];
    return NULL;
}

static bool call_inputs(Ctx *c, Level *l, const YNode *n, Named *in, int *n_in,
                        Err *e) {
    *n_in = 0;
    for (int i = 0; i < n->n; i++) {
        const char *key = n->key[i]->s;
        if (is_node_key(key) || !strcmp(key, "call")) continue;
        if (!formula_eval(c, l, n->item[i], &in[*n_in].value, e)) return false;
        in[(*n_in)++].name = key;
    }
    return true;
}

static bool check_call(Ctx *c, const Net *net, const YNode *n, Err *e) {
    const YNode *inputs = yaml_get(net->doc->root, "inputs");
    const char **names = NEW(c->a, const char *, (inputs ? inputs->n : 0) + 1);
    for (int i = 0; inputs && i < inputs->n; i++) names[i] = inputs->key[i]->s;
    for (int i = 0; i < n->n; i++) {
        const YNode *key = n->key[i];
        if (is_node_key(key->s) || !strcmp(key->s, "call") || listed(names, key->s))
            continue;
        return err_at(e, key->loc, "network '%s' has no input '%s'%s", net->name,
                      key->s, did_you_mean(c->a, key->s, names));
    }
    return true;
}

bool run_call(Ctx *c, Level *l, const char *name, const YNode *n, Id *out, Err *e) {
    const YNode *call = yaml_get(n, "call");
    if (!c->calls) return err_at(e, call->loc, "'call' is for objectives and samplers");
    Named *in = NEW(c->a, Named, n->n), *result;
    int n_in, n_result;
    if (!call_inputs(c, l, n, in, &n_in, e)) return false;
    if (c->model) {
        if (strcmp(call->s, "model"))
            return err_at(e, call->loc, "a sampler calls 'model'; got '%s'", call->s);
        return c->model->call(c->model->ctx, c->b, in, n_in, out, e);
    }
    const Net *net = net_find(c->b, call->s);
    if (!net) {
        const char **names = NEW(c->a, const char *, c->b->n_net + 1);
        for (int i = 0; i < c->b->n_net; i++) names[i] = c->b->net[i].name;
        return err_at(e, call->loc, "no network '%s' here%s", call->s,
                      did_you_mean(c->a, call->s, names));
    }
    if (!check_call(c, net, n, e)) return false;
    if (!build_network(c->b, net, in, n_in, &result, &n_result, e)) return false;
    for (int i = 0; i < n_result; i++) {
        scope_set(l->scope, arena_printf(c->a, "%s.%s", name, result[i].name),
                  result[i].value);
        const char *record = arena_printf(c->a, "%s.%s", net->name, result[i].name);
        if (c->record && graph_output_find(c->g, record) == NO_ID)
            graph_output(c->g, record, result[i].value);
    }
    *out = result[0].value;
    return true;
}

/* ---- arguments ---- */

/* The names of required arguments that `given` lacks; n = how many. */
static const char *missing_args(Arena *a, const YNode *decl, const Args *given,
                                int *n) {
    static const char *const types[] = {"int", "float", "bool", "word", "path", NULL};
    Str s = {0};
    *n = 0;
    for (int i = 0; decl && i < decl->n; i++) {
        const YNode *d = decl->item[i];
        if (d->kind == Y_LIST && d->n == 1) d = d->item[0];
        bool required = d->kind == Y_SCALAR && !d->quoted && listed(types, d->s);
        if (!required || args_get(given, decl->key[i]->s)) continue;
        str_printf(&s, "%s'%s'", (*n)++ ? ", " : "", decl->key[i]->s);
    }
    const char *text = s.s ? arena_strndup(a, s.s, s.n) : "";
    str_free(&s);
    return text;
}

static bool variant_args(Arena *a, const YNode *variant, const Args *given, Args *out,
                         Err *e) {
    for (int i = 0; i < variant->n; i++) {
        Env env = {.args = out};
        Val v;
        if (!slot_eval(a, variant->item[i], &env, &v, e)) return false;
        v.loc = variant->item[i]->loc;
        args_set(out, variant->key[i]->s, v);
    }
    for (int i = 0; i < given->n; i++) args_set(out, given->name[i], given->val[i]);
    return true;
}

static bool bind(Arena *a, const Doc *doc, const char *name, const Args *given,
                 Args *out, Err *e) {
    const char *what = arena_printf(a, "network '%s'", name);
    return args_bind(a, yaml_get(doc->root, "args"), given, what, doc->root->loc, out,
                     e);
}

const Args *probe_dims(Arena *a, const Doc *d) {
    Args *dims = args_new(a);
    const YNode *symbols = yaml_get(d->root, "symbols");
    for (int i = 0; symbols && i < symbols->n; i++) {
        const char *s = symbols->key[i]->s;
        bool few = !strcmp(s, "B") || !strcmp(s, "N");
        args_set(dims, s, val_int(few ? 2 : 16));
    }
    return dims;
}

/* Does every tensor of the network fit its shapes? misfit: why not. */
static bool probe(const Net *net, const char **misfit, Err *e) {
    Arena *a = arena_new();
    Graph *g = graph_new(a, net->name);
    Build b = {.g = g};
    Named *in, *out;
    int n_in, n_out;
    bool ok = build_inputs(&b, net->doc, net->args, probe_dims(a, net->doc), "", &in,
                           &n_in, e) &&
              build_network_as(&b, net, in, n_in, &out, &n_out, misfit, e);
    if (*misfit) *misfit = arena_strdup(net->args->arena, *misfit);
    arena_free(a);
    return ok;
}

static bool no_variant(const YNode *variants, const char *name, const char *const *why,
                       Err *e) {
    err_fail(e, "no variant of network '%s' fits the checkpoint", name);
    for (int i = 0; i < variants->n; i++)
        err_note(e, "  %s: %s", variants->key[i]->s, why[i]);
    return false;
}

/* The first variant whose tensors all fit. */
static bool fitting_variant(Arena *a, const YNode *variants, const Args *given,
                            Net *net, Str *note, Err *e) {
    const char **why = NEW(a, const char *, variants->n);
    const Args *found = NULL;
    const char *first = NULL;
    for (int i = 0; i < variants->n; i++) {
        Args *with = args_new(a), *bound = args_new(a);
        Err failed = {0};
        if (!variant_args(a, variants->item[i], given, with, e)) return false;
        if (!bind(a, net->doc, net->name, with, bound, e)) return false;
        Net try = *net;
        try.args = bound;
        if (!probe(&try, &why[i], &failed)) {
            if (why[i]) continue;
            *e = failed;
            return false;
        }
        if (!found) {
            found = bound;
            first = variants->key[i]->s;
            net->args = bound;
        } else if (note) {
            str_printf(note,
                       "network '%s': variant '%s' fits too; '%s' is taken, which "
                       "stands before it\n",
                       net->name, variants->key[i]->s, first);
        }
    }
    if (!found) return no_variant(variants, net->name, why, e);
    if (note) str_printf(note, "network '%s': variant '%s'\n", net->name, first);
    return true;
}

bool net_bind(Arena *a, const Doc *doc, const char *name, const char *variant,
              const Args *given, const WeightShapes *shapes, Net *out, Str *note,
              Err *e) {
    const YNode *variants = yaml_get(doc->root, "variants");
    Args *with = args_new(a);
    for (int i = 0; given && i < given->n; i++)
        args_set(with, given->name[i], given->val[i]);
    *out = (Net){.name = name, .doc = doc, .args = args_new(a), .shapes = shapes};
    if (variant) {
        const YNode *v = variants ? yaml_get(variants, variant) : NULL;
        if (!v) {
            const char **names = NEW(a, const char *, (variants ? variants->n : 0) + 1);
            for (int i = 0; variants && i < variants->n; i++)
                names[i] = variants->key[i]->s;
            return err_usage(e, "network '%s' has no variant '%s'%s", doc->name,
                             variant, did_you_mean(a, variant, names));
        }
        Args *both = args_new(a);
        return variant_args(a, v, with, both, e) &&
               bind(a, doc, name, both, out->args, e);
    }
    int n;
    const char *missing = missing_args(a, yaml_get(doc->root, "args"), with, &n);
    if (!n) return bind(a, doc, name, with, out->args, e);
    if (shapes && variants && variants->n)
        return fitting_variant(a, variants, with, out, note, e);
    return err_usage(
        e,
        "network '%s' needs its argument%s %s: name a variant, give %s, or give "
        "a checkpoint",
        name, n == 1 ? "" : "s", missing, n == 1 ? "it" : "them");
}
