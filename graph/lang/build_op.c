/* A node with `op:`: attributes and inputs by the row's tables, tensors that it owns, the
 * row's resolve, and then one node of the graph. Nothing here knows an operator; `like` is
 * a word of the language: the row of the node that an adapter wraps.
 *
 * Which values count samples (Value.batch): an output does if its first dimension follows
 * when the first dimensions of all per-sample inputs are doubled, asked of the row's shape
 * rule; where the rule refuses (a shape given in numbers), if it equals that of the first
 * per-sample input. Random values do if they are `like` such a value or their shape begins
 * with the symbol B (attribute `batch`). */
#include "graph/lang/build_private.h"

#include <math.h>
#include <string.h>

static const char *const param_keys[] = {"init",   "train",  "lr",
                                         "shared", "active", NULL};

/* One op node on its way into the graph. */
typedef struct Use {
    Ctx *c;
    Level *l;
    const YNode *n;
    const Op *op;
    bool like; /* op: like */
    Lang lang;
    unsigned flags[MOST_OPERANDS]; /* of OpIn, per input */
    Id in[MOST_OPERANDS];
} Use;

/* ---- keys ---- */

static bool is_param_key(const char *key) {
    for (const char *const *k = param_keys; *k; k++)
        if (!strcmp(*k, key)) return true;
    return false;
}

static const OpIn *input_find(const Op *op, const char *key) {
    for (const OpIn *in = op->in; in->name; in++)
        if (*in->name && !(in->flags & IN_IR) && !strcmp(in->name, key)) return in;
    return NULL;
}

static const Attr *yaml_attr(const Op *op, const char *key) {
    const Attr *at = attr_find(op, key);
    return at && !(at->flags & ATTR_IR) ? at : NULL;
}

static bool owns_tensors(const Op *op) {
    for (const OpIn *in = op->in; in->name; in++)
        if (in->flags & IN_PARAM) return true;
    return false;
}

static bool key_known(const Use *u, const char *key) {
    if (!strcmp(key, "op") || is_node_key(key)) return true;
    if (is_param_key(key)) return owns_tensors(u->op);
    return input_find(u->op, key) || yaml_attr(u->op, key);
}

static bool check_keys(const Use *u, Err *e) {
    const char *names[128] = {0};
    int n = 0;
    for (const OpIn *in = u->op->in; in->name && n < 40; in++)
        if (*in->name && !(in->flags & IN_IR)) names[n++] = in->name;
    for (const Attr *at = u->op->attrs; at && at->name && n < 80; at++)
        if (!(at->flags & ATTR_IR)) names[n++] = at->name;
    for (const char *const *k = param_keys; owns_tensors(u->op) && *k; k++)
        names[n++] = *k;
    for (int i = 0; i < u->n->n; i++) {
        const YNode *key = u->n->key[i];
        if (!key_known(u, key->s))
            return err_at(e, key->loc, "unknown key '%s' for op %s%s", key->s,
                          u->like ? "like" : u->op->name,
                          did_you_mean(u->c->a, key->s, names));
        if (is_param_key(key->s) && !u->c->module)
            return err_at(
                e, key->loc,
                "'%s' outside an adapter: tensors of networks come from a checkpoint",
                key->s);
    }
    return true;
}

/* ---- attributes ---- */

/* Bare words of a list are symbols, unless the attribute takes that word. */
static bool bind_symbols(Use *u, const Attr *at, Val *v, Loc loc, Err *e) {
    if (v->kind == VAL_LIST) {
        for (int i = 0; i < v->list.n; i++)
            if (!bind_symbols(u, at, &v->list.item[i], loc, e)) return false;
        return true;
    }
    if (v->kind != VAL_WORD) return true;
    for (int i = 0; at->words && at->words[i]; i++)
        if (!strcmp(at->words[i], v->word)) return true;
    const Val *dim = u->c->dims ? args_get(u->c->dims, v->word) : NULL;
    if (!dim) {
        const char *hint =
            u->c->dims ? did_you_mean(u->c->a, v->word, args_names(u->c->a, u->c->dims))
                       : "";
        return err_at(e, loc, "'%s': no symbol '%s' here%s", at->name, v->word, hint);
    }
    *v = *dim;
    return true;
}

static bool starts_with_b(const Val *v) {
    const Val *first = v->kind == VAL_LIST && v->list.n ? &v->list.item[0] : v;
    return first->kind == VAL_WORD && !strcmp(first->word, "B");
}

static void set_batch(Use *u) {
    const Attr *at = attr_find(u->op, "batch");
    if (at && at->kind == 'b') *(bool *)((char *)u->lang.attrs + at->offset) = true;
}

/* A row's message without its "error: ", at a place. */
static bool refused(Loc loc, const Err *why, Err *e) {
    return err_at(e, loc, "%s", err_said(why));
}

static bool attr_set(Use *u, const Attr *at, const YNode *slot, Err *e) {
    void *room[2];
    Env env = level_env(u->c, u->l, room);
    Val v;
    if (!slot_eval(u->c->a, slot, &env, &v, e)) return false;
    if (at->kind == 'l') {
        if (starts_with_b(&v)) set_batch(u);
        if (!bind_symbols(u, at, &v, slot->loc, e)) return false;
    }
    Str s = {0};
    val_print(&s, &v);
    Err why = {0};
    bool ok = attr_parse(u->c->a, at, u->lang.attrs, s.s ? s.s : "", &why);
    str_free(&s);
    return ok || refused(slot->loc, &why, e);
}

/* A key that may be an input or an attribute (`bias`): a name is a value. */
static bool is_attr_slot(const Use *u, const char *key, const YNode *slot) {
    if (!yaml_attr(u->op, key)) return false;
    if (!input_find(u->op, key)) return true;
    if (slot->kind != Y_SCALAR) return false;
    return !strcmp(slot->s, "true") || !strcmp(slot->s, "false") ||
           strchr(slot->s, '$');
}

static bool read_attrs(Use *u, Err *e) {
    for (int i = 0; i < u->n->n; i++) {
        const char *key = u->n->key[i]->s;
        if (is_node_key(key) || !strcmp(key, "op") ||
            !is_attr_slot(u, key, u->n->item[i]))
            continue;
        if (!attr_set(u, yaml_attr(u->op, key), u->n->item[i], e)) return false;
    }
    for (const Attr *at = u->op->attrs; at && at->name; at++)
        if ((at->flags & ATTR_REQUIRED) && !(at->flags & ATTR_IR) && !u->like &&
            !yaml_get(u->n, at->name))
            return err_at(e, u->n->loc, "op %s needs '%s'", u->op->name, at->name);
    return true;
}

/* `like`: kernel, stride and padding of the wrapped node; not its `out` and `bias`. */
static void like_attrs(Use *u) {
    static const char sizes[] = {['i'] = sizeof(int64_t),
                                 ['f'] = sizeof(double),
                                 ['b'] = sizeof(bool),
                                 ['w'] = sizeof(int32_t),
                                 ['d'] = sizeof(DType)};
    const Node *from = u->c->wrapped->node;
    for (const Attr *at = u->op->attrs; at && at->name; at++) {
        if (!strcmp(at->name, "out") || input_find(u->op, at->name)) continue;
        size_t size = at->kind == 'l'   ? sizeof(IntList)
                      : at->kind == 's' ? sizeof(char *)
                                        : (size_t)sizes[(int)at->kind];
        memcpy((char *)u->lang.attrs + at->offset,
               (const char *)from->attrs + at->offset, size);
    }
}

/* ---- inputs ---- */

static bool add_input(Use *u, unsigned flags, Id id, Loc loc, Err *e) {
    if (u->lang.n_in == MOST_OPERANDS)
        return err_at(e, loc, "op %s got more than %d inputs", u->op->name,
                      MOST_OPERANDS);
    u->flags[u->lang.n_in] = flags;
    u->in[u->lang.n_in++] = id;
    if (id != NO_ID && u->c->g->value[id]->batch && !(flags & IN_PARAM)) set_batch(u);
    return true;
}

static bool read_variadic(Use *u, const OpIn *in, const YNode *slot, Err *e) {
    int n = slot->kind == Y_LIST ? slot->n : 1;
    for (int i = 0; i < n; i++) {
        const YNode *s = slot->kind == Y_LIST ? slot->item[i] : slot;
        Id id;
        if (!formula_eval(u->c, u->l, s, &id, e)) return false;
        if (!add_input(u, in->flags, id, s->loc, e)) return false;
    }
    return true;
}

static bool read_inputs(Use *u, Err *e) {
    for (const OpIn *in = u->op->in; in->name; in++) {
        bool silent = !*in->name || (in->flags & IN_IR);
        const YNode *slot = silent ? NULL : yaml_get(u->n, in->name);
        if (slot && is_attr_slot(u, in->name, slot)) slot = NULL;
        if (slot && (in->flags & IN_VARIADIC)) {
            if (!read_variadic(u, in, slot, e)) return false;
            continue;
        }
        Id id = NO_ID;
        if (slot && !formula_eval(u->c, u->l, slot, &id, e)) return false;
        if (!slot && !(in->flags & (IN_OPTIONAL | IN_PARAM | IN_IR)))
            return err_at(e, u->n->loc, "op %s needs input '%s'",
                          u->like ? "like" : u->op->name, in->name);
        if (!add_input(u, in->flags, id, u->n->loc, e)) return false;
    }
    return true;
}

/* A weight given as a matrix takes the form that the wrapped node's weight has. */
static bool like_weight(Use *u, Err *e) {
    const Wrapped *w = u->c->wrapped;
    if (!u->like || w->in_weight < 0 || u->in[w->in_weight] == NO_ID) return true;
    const Graph *g = u->c->g;
    Type form = g->value[w->node->in[w->in_weight]]->type;
    const Type *got = &g->value[u->in[w->in_weight]]->type;
    if (got->rank != 2 || form.rank <= 2) return true;
    form.dim[0] = got->dim[0];
    if (type_count(&form) != type_count(got)) return true; /* the row will say so */
    u->in[w->in_weight] = graph_view(u->c->g, u->in[w->in_weight], form, e);
    return u->in[w->in_weight] != NO_ID;
}

/* ---- tensors ---- */

/* The type of a tensor that no checkpoint tells. */
static bool usual_type(const Net *net, const char *path, Type *t) {
    const WeightForms *f = net->forms;
    if (f && t->rank == 2 && f->convolution(f->ctx, path)) {
        t->rank = 4;
        t->dim[2] = t->dim[3] = 1;
    }
    return true;
}

/* The checkpoint's type of a tensor, or an error. Trailing ones are forms of one matrix. */
static bool checkpoint_type(Ctx *c, const char *path, Type *t, Loc loc, Err *e) {
    const Net *net = c->net;
    Type got;
    if (!net->shapes) return usual_type(net, path, t);
    const char *name = arena_printf(c->a, "%s.%s", net->name, path);
    if (!net->shapes->find(net->shapes->ctx, path, &got)) {
        c->misfit = arena_printf(c->a, "no '%s'", path);
        err_fail(e, "the checkpoint has no '%s'", name);
    } else {
        Type core = got;
        while (core.rank > t->rank && core.rank > 2 && core.dim[core.rank - 1] == 1)
            core.rank--;
        if (type_same_shape(&core, t) && dtype_is_float(got.dtype)) {
            *t = got;
            return true;
        }
        const char *have = shape_text(c->a, &got), *want = shape_text(c->a, t);
        c->misfit = arena_printf(c->a, "'%s' is %s, want %s", path, have, want);
        err_fail(e, "'%s' has shape %s in the checkpoint, want %s", name, have, want);
    }
    if (loc.src)
        err_note(e, "note: read by %s:%u:%u", loc.src->path, loc.line, loc.col);
    return false;
}

static bool network_tensor(Ctx *c, const char *path, Type t, Loc loc, Id *out, Err *e) {
    const char *name = full_path(c, path);
    *out = graph_find(c->g, name);
    if (*out != NO_ID) return true; /* the network is called twice */
    if (!checkpoint_type(c, path, &t, loc, e)) return false;
    if (c->net->train)
        t.dtype = F32; /* of the parameter; the weights' is the start's */
    *out = graph_value(c->g, c->net->train ? ROLE_TRAIN : ROLE_FROZEN, t, name, loc);
    c->g->value[*out]->param = param_new(c->a);
    if (c->net->train) c->g->value[*out]->param->lr = c->net->lr;
    return true;
}

/* `init:` of a tensor of type t. */
static bool read_init(Use *u, const char *name, const Type *t, Init *out, Err *e) {
    static const char *const words[] = {
        "zeros", "ones", "constant", "uniform", "normal", "kaiming_uniform", NULL};
    static const InitKind kinds[] = {INIT_ZEROS,   INIT_ONES,   INIT_CONSTANT,
                                     INIT_UNIFORM, INIT_NORMAL, INIT_KAIMING_UNIFORM};
    Ctx *c = u->c;
    const YNode *slot = yaml_get(u->n, "init");
    *out = (Init){.kind = INIT_ZEROS, .value = NO_ID};
    bool weight = !strcmp(name, "weight"), bias = !strcmp(name, "bias");
    if (!slot || bias) {
        if (weight) out->kind = INIT_KAIMING_UNIFORM;
        return true;
    }
    if (slot->kind == Y_MAP) {
        const YNode *value = yaml_get(slot, "value");
        if (!value) return err_at(e, slot->loc, "'init' as a map is {value: NODE}");
        out->kind = INIT_VALUE;
        if (!formula_eval(c, u->l, value, &out->value, e)) return false;
        const Type *got = &c->g->value[out->value]->type;
        if (type_count(got) != type_count(t))
            return err_at(e, value->loc, "the start is %s, want %s",
                          shape_text(c->a, got), shape_text(c->a, t));
        out->value = graph_view(c->g, out->value, *t, e);
        if (out->value != NO_ID) out->value = widen(c->g, out->value, true, e);
        return out->value != NO_ID;
    }
    const Expr *x = expr_parse(c->a, slot, e);
    if (!x) return false;
    int i = 0;
    while (words[i] && (!x->name || strcmp(words[i], x->name))) i++;
    bool number = words[i] && kinds[i] >= INIT_CONSTANT && kinds[i] <= INIT_NORMAL;
    if (!words[i] || x->kind != (number ? EX_CALL : EX_NAME) || x->n != number)
        return err_at(e, slot->loc,
                      "no initialiser '%s'; there are zeros, ones, constant(v), "
                      "uniform(b), normal(s), kaiming_uniform, {value: node}%s",
                      slot->s, x->name ? did_you_mean(c->a, x->name, words) : "");
    out->kind = kinds[i];
    if (!number) return true;
    void *room[2];
    Env env = level_env(c, u->l, room);
    Val v;
    if (!expr_eval(c->a, x->arg[0], &env, &v, e)) return false;
    if (val_number(&v, &out->number) && isfinite(out->number)) return true;
    return err_at(e, slot->loc, "'%s' needs a number", x->name);
}

static bool read_number(Use *u, const char *key, double def, double *out, Err *e) {
    const YNode *slot = yaml_get(u->n, key);
    *out = def;
    if (!slot) return true;
    void *room[2];
    Env env = level_env(u->c, u->l, room);
    Val v;
    if (!slot_eval(u->c->a, slot, &env, &v, e)) return false;
    if (val_number(&v, out) && isfinite(*out)) return true;
    return err_at(e, slot->loc, "'%s' needs a number", key);
}

/* `active: {axis, size, index}`: the slice of tensor `id` that learns in this step. */
static bool read_active(Use *u, Id *id, Err *e) {
    Ctx *c = u->c;
    const YNode *slot = yaml_get(u->n, "active");
    if (!slot) return true;
    const YNode *key[] = {yaml_get(slot, "axis"), yaml_get(slot, "size"),
                          yaml_get(slot, "index")};
    if (!key[0] || !key[1] || !key[2])
        return err_at(e, slot->loc, "'active' needs axis, size and index");
    const Op *op = op_find("active");
    Use a = {.c = c, .l = u->l, .n = u->n, .op = op};
    a.lang.attrs = attrs_new(c->a, op);
    const Attr *at[] = {attr_find(op, "axis"), attr_find(op, "size")};
    int64_t v[2];
    for (int i = 0; i < 2; i++) {
        if (!attr_set(&a, at[i], key[i], e)) return false;
        v[i] = *(int64_t *)((char *)a.lang.attrs + at[i]->offset);
    }
    Value *p = c->g->value[*id];
    if (v[0] < 0 || v[0] >= p->type.rank)
        return err_at(e, key[0]->loc, "'axis' is %lld, the tensor is %s",
                      (long long)v[0], shape_text(c->a, &p->type));
    if (v[1] < 1 || p->type.dim[v[0]] % v[1])
        return err_at(e, key[1]->loc,
                      "'size' must divide the axis: %lld does not divide %lld",
                      (long long)v[1], (long long)p->type.dim[v[0]]);
    Id index;
    if (!formula_eval(c, u->l, key[2], &index, e)) return false;
    index = graph_cast(c->g, index, I32, e);
    if (index == NO_ID) return false;
    p->param->slice_axis = (int32_t)v[0];
    p->param->slice_size = v[1];
    p->param->slice_index = index;
    *id = graph_op(c->g, op, a.lang.attrs, 2, (Id[]){*id, index}, e);
    return *id != NO_ID;
}

static void remember(Module *m, Arena *a, const char *path, const char *name, Id id) {
    for (int i = 0; i < m->n_tensor; i++)
        if (!strcmp(m->tensor[i].name, path)) return;
    int n = m->n_tensor++;
    m->tensor = arena_grow(a, m->tensor, (size_t)n, (size_t)n + 1, sizeof *m->tensor);
    m->tensor_name =
        arena_grow(a, m->tensor_name, (size_t)n, (size_t)n + 1, sizeof *m->tensor_name);
    m->tensor[n] = (Named){path, id};
    m->tensor_name[n] = name;
}

/* A tensor of an adapter: "MODULE.path", or one for all modules with this shape. */
static bool adapter_tensor(Use *u, const char *node, const char *path,
                           const char *input, Type t, Id *out, Err *e) {
    Ctx *c = u->c;
    Module *m = c->module;
    double shared, train, lr;
    if (!read_number(u, "shared", 0, &shared, e) ||
        !read_number(u, "train", 1, &train, e) || !read_number(u, "lr", 1, &lr, e))
        return false;
    const char *name = full_path(c, path);
    if (shared != 0) {
        Str s = {0};
        str_printf(&s, "%s.", path);
        for (int i = 0; i < t.rank; i++)
            str_printf(&s, "%s%lld", i ? "x" : "", (long long)t.dim[i]);
        name = arena_strndup(c->a, s.s, s.n);
        str_free(&s);
    }
    *out = graph_find(c->g, name);
    if (*out == NO_ID) {
        Init init;
        if (!read_init(u, input, &t, &init, e)) return false;
        *out =
            graph_value(c->g, train != 0 ? ROLE_TRAIN : ROLE_STATE, t, name, u->n->loc);
        Param *p = param_new(c->a);
        p->init = init;
        p->lr = m->lr * lr;
        p->module = shared != 0 ? NULL : m->name;
        p->key = node;
        c->g->value[*out]->param = p;
    }
    remember(m, c->a, path, name, *out);
    return read_active(u, out, e);
}

static bool own_tensors(Use *u, Err *e) {
    Ctx *c = u->c;
    int i = 0;
    for (const OpIn *in = u->op->in; in->name; in++, i++) {
        if (!(in->flags & IN_PARAM) || i >= u->lang.n_in || u->in[i] != NO_ID) continue;
        Type t;
        Own own = u->op->owns ? u->op->owns(&u->lang, i, &t, e) : OWN_NO;
        if (own == OWN_FAILED) return false;
        if (own == OWN_NO) continue;
        const char *node = u->lang.path;
        const char *path =
            *in->name ? arena_printf(c->a, "%s.%s", node, in->name) : node;
        if (!c->net && !c->module)
            return err_at(e, u->n->loc,
                          "op %s owns a tensor ('%s'), which only nodes of "
                          "networks and adapters may",
                          u->op->name, path);
        bool ok = c->module ? adapter_tensor(u, node, path, in->name, t, &u->in[i], e)
                            : network_tensor(c, path, t, u->n->loc, &u->in[i], e);
        if (!ok) return false;
    }
    return true;
}

/* ---- into the graph ---- */

static Id rng_key(Graph *g) {
    Id id = graph_find(g, "rng");
    if (id != NO_ID) return id;
    return graph_value(g, ROLE_SCALAR, type_of(I32, 1, (int64_t[]){8}), "rng",
                       g->at.loc);
}

static bool same_first(const Type *a, const Type *b) {
    return a->rank && b->rank && a->dim[0] == b->dim[0];
}

void mark_batch(Graph *g, Node *n) {
    Sig s = node_sig(g->arena, g, n);
    Type *in = NEW(g->arena, Type, n->n_in ? n->n_in : 1);
    const Type *first = NULL;
    for (int i = 0; i < n->n_in; i++) {
        in[i] = s.in[i];
        if (n->in[i] == NO_ID || !g->value[n->in[i]]->batch || !in[i].rank) continue;
        if (!first) first = &s.in[i];
        in[i].dim[0] *= 2;
    }
    const Attr *at = attr_find(n->op, "batch");
    bool random = at && at->kind == 'b' && *(bool *)((char *)n->attrs + at->offset);
    Type out[64] = {0}; /* as many as a node may have */
    Sig twice = s;
    twice.in = in;
    twice.out = out;
    twice.n_out = n->op->n_out < 0 ? 0 : n->op->n_out;
    Err quiet = {0};
    bool answered = first && n->op->shape(&twice, &quiet) && twice.n_out == n->n_out;
    for (int i = 0; i < n->n_out; i++) {
        Value *v = g->value[n->out[i]];
        const Type *t = &v->type;
        if (!first)
            v->batch = random && t->rank;
        else if (answered)
            v->batch = t->rank && out[i].rank && out[i].dim[0] == 2 * t->dim[0];
        else
            v->batch = same_first(t, first);
    }
}

/* Is input i one whose element type the builder sees to? */
static bool is_operand(const Use *u, int i) {
    return u->in[i] != NO_ID && !(u->flags[i] & (IN_INDEX | IN_IR | IN_SHAPE));
}

/* f32 and f64 not mixed; halves only where weights may stand. */
static bool settle(Use *u, Err *e) {
    bool wide = true;
    for (int i = 0; i < u->lang.n_in; i++)
        if (is_operand(u, i))
            wide = wide && u->c->g->value[u->in[i]]->type.dtype == F64;
    for (int i = 0; i < u->lang.n_in; i++) {
        if (!is_operand(u, i)) continue;
        bool weight =
            (u->flags[i] & IN_PARAM) && u->c->g->value[u->in[i]]->type.dtype != F64;
        if (!weight) u->in[i] = widen(u->c->g, u->in[i], !wide, e);
        if (u->in[i] == NO_ID) return false;
    }
    return true;
}

/* Inputs that only lent their shape are not of the graph; returns how many are. */
static int drop_shapes(Use *u) {
    int n = 0;
    for (int i = 0; i < u->lang.n_in; i++)
        if (!(u->flags[i] & IN_SHAPE)) u->in[n++] = u->in[i];
    return n;
}

static bool find_row(Use *u, Err *e) {
    const YNode *name = yaml_get(u->n, "op");
    u->like = !strcmp(name->s, "like");
    if (u->like && !u->c->wrapped)
        return err_at(e, name->loc,
                      "op like outside an adapter: there is no wrapped node");
    u->op = u->like ? u->c->wrapped->node->op : op_find(name->s);
    if (u->op) return true;
    return err_at(e, name->loc, "no op '%s'%s", name->s,
                  did_you_mean(u->c->a, name->s, op_names()));
}

bool run_op(Ctx *c, Level *l, const char *path, const YNode *n, Id *out, Err *e) {
    Use u = {.c = c, .l = l, .n = n};
    if (!find_row(&u, e) || !check_keys(&u, e)) return false;
    Graph *g = c->g;
    u.lang = (Lang){.g = g,
                    .path = path,
                    .in = u.in,
                    .pass_on = NO_ID,
                    .rng = NO_ID,
                    .training = c->b->training,
                    .slices = c->slices + 1,
                    .loc = n->loc};
    u.lang.attrs = attrs_new(c->a, u.op);
    if (u.like) like_attrs(&u);
    if (!read_inputs(&u, e) || !read_attrs(&u, e) || !like_weight(&u, e)) return false;
    if (!own_tensors(&u, e)) return false;
    if (!settle(&u, e)) return false;
    if (u.op->flags & OP_RANDOM) u.lang.rng = rng_key(g);
    u.lang.path = full_path(c, path);
    if (u.op->resolve && !u.op->resolve(&u.lang, e)) return false;
    *out = u.lang.pass_on;
    if (*out != NO_ID) return true;
    Node *node = graph_add(g, u.op, u.lang.attrs, drop_shapes(&u), u.in, e);
    if (!node) return false;
    mark_batch(g, node);
    *out = node->out[0];
    return true;
}
