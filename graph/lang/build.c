/* Expands a document's ordered nodes into the graph (language.md section 3): scopes,
 * templates, repeats, `when`, stacks. What a formula is stands in build_formula.c, what an
 * op is in build_op.c.
 *
 * Invariants: a node sees inputs and nodes above it in its own list only; recursion is
 * bounded by the depth of templates; every node and every repeat counts against
 * MOST_NODES, so a short file cannot grow without end. */
#include "graph/lang/build_private.h"

#include <string.h>

/* ---- scopes ---- */

Scope *scope_new(Arena *a) {
    Scope *s = NEW(a, Scope, 1);
    s->arena = a;
    return s;
}

static uint32_t slot_of(const Scope *s, const char *name) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *p = name; *p; p++) h = (h ^ (uint8_t)*p) * 16777619u;
    uint32_t i = h & (s->n_index - 1);
    while (s->index[i] && strcmp(s->item[s->index[i] - 1].name, name))
        i = (i + 1) & (s->n_index - 1);
    return i;
}

ScopeSlot *scope_find(const Scope *s, const char *name) {
    if (!s->n_index) return NULL;
    uint32_t at = s->index[slot_of(s, name)];
    return at ? &s->item[at - 1] : NULL;
}

void scope_set(Scope *s, const char *name, Id id) {
    ScopeSlot *old = scope_find(s, name);
    if (old) {
        old->id = id;
        return;
    }
    ScopeSlot slot = {name, id};
    PUSH(s->arena, s->item, s->n, s->cap, slot);
    if (2 * (uint32_t)s->n <= s->n_index) {
        s->index[slot_of(s, name)] = (uint32_t)s->n;
        return;
    }
    s->n_index = s->n_index ? 2 * s->n_index : 16;
    s->index = NEW(s->arena, uint32_t, s->n_index);
    for (int i = 0; i < s->n; i++)
        s->index[slot_of(s, s->item[i].name)] = (uint32_t)i + 1;
}

const char *const *scope_names(Arena *a, const Scope *s) {
    const char **names = NEW(a, const char *, s->n + 1);
    for (int i = 0; i < s->n; i++) names[i] = s->item[i].name;
    return names;
}

/* ---- small things ---- */

static const char *const node_keys[] = {"when",   "else",  "block", "dtype",
                                        "repeat", "chain", NULL};
enum {
    NODE_OP,
    NODE_USE,
    NODE_CALL,
    NODE_IS,
    NODE_PUSH,
    NODE_POP,
    NODE_PEEK,
    NODE_TOTAL,
    NODE_KINDS
};
static const char *const node_kinds[] = {"op",   "use", "call", "is",
                                         "push", "pop", "peek", "total"};

bool is_node_key(const char *key) {
    for (const char *const *k = node_keys; *k; k++)
        if (!strcmp(*k, key)) return true;
    return false;
}

Ctx ctx_new(Build *b, const char *root) {
    return (Ctx){.b = b, .g = b->g, .a = b->g->arena, .root = root, .slices = -1};
}

const char *full_path(Ctx *c, const char *path) {
    return c->root ? arena_printf(c->a, "%s.%s", c->root, path) : path;
}

const char *shape_text(Arena *a, const Type *t) {
    Str s = {0};
    str_add(&s, "[");
    for (int i = 0; i < t->rank; i++)
        str_printf(&s, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
    str_add(&s, "]");
    const char *text = arena_strndup(a, s.s, s.n);
    str_free(&s);
    return text;
}

/* In an optimizer the axis that counts slices is not seen. */
static bool value_shape(void *ctx, const char *name, Loc loc, int *rank, int64_t *last,
                        Err *e) {
    void **room = ctx;
    Ctx *c = room[0];
    Id id;
    if (!value_find(c, room[1], name, loc, &id, e)) return false;
    const Type *t = &c->g->value[id]->type;
    bool cut = c->slices >= 0 && t->rank > 0;
    *rank = t->rank - cut;
    int at = t->rank - 1 - (cut && c->slices == t->rank - 1);
    if (*rank) *last = t->dim[at];
    return true;
}

/* How expressions at this level see the world; room lives as long as the Env. */
Env level_env(Ctx *c, Level *l, void *room[2]) {
    room[0] = c;
    room[1] = l;
    return (Env){.args = l->args, .value = value_shape, .ctx = room};
}

bool let_bind(Arena *a, const Doc *d, Args *args, Err *e) {
    const YNode *let = yaml_get(d->root, "let");
    for (int i = 0; let && i < let->n; i++) {
        Env env = {.args = args};
        Val v;
        if (!slot_eval(a, let->item[i], &env, &v, e)) return false;
        args_set(args, let->key[i]->s, v);
    }
    return true;
}

static bool eval_slot(Ctx *c, Level *l, const YNode *n, Val *v, Err *e) {
    void *room[2];
    Env env = level_env(c, l, room);
    return slot_eval(c->a, n, &env, v, e);
}

static bool eval_int(Ctx *c, Level *l, const YNode *n, const char *what, int64_t low,
                     int64_t high, int64_t *out, Err *e) {
    Val v;
    double x;
    if (!eval_slot(c, l, n, &v, e)) return false;
    if (!val_number(&v, &x) || v.kind == VAL_BOOL || x != (double)(int64_t)x) {
        Str s = {0};
        val_print(&s, &v);
        err_at(e, n->loc, "'%s' is %s, want an integer", what, s.s);
        str_free(&s);
        return false;
    }
    if (x < (double)low || x > (double)high)
        return err_at(e, n->loc, "'%s' is %.17g, want %lld to %lld", what, x,
                      (long long)low, (long long)high);
    *out = (int64_t)x;
    return true;
}

static bool eval_bool(Ctx *c, Level *l, const YNode *n, const char *what, bool *out,
                      Err *e) {
    Val v;
    double x;
    if (!eval_slot(c, l, n, &v, e)) return false;
    if (!val_number(&v, &x)) {
        Str s = {0};
        val_print(&s, &v);
        err_at(e, n->loc, "'%s' is %s, want true or false", what, s.s);
        str_free(&s);
        return false;
    }
    *out = x != 0;
    return true;
}

/* ---- stacks ---- */

static Stack *stack_find(Ctx *c, const char *name) {
    for (int i = 0; i < c->n_stack; i++)
        if (!strcmp(c->stack[i].name, name)) return &c->stack[i];
    return NULL;
}

static bool run_push(Ctx *c, Level *l, const YNode *n, Id *out, Err *e) {
    const YNode *name = yaml_get(n, "push"), *x = yaml_get(n, "x");
    if (!x) return err_at(e, n->loc, "'push' needs 'x', the value to keep");
    if (!formula_eval(c, l, x, out, e)) return false;
    Stack *s = stack_find(c, name->s);
    if (!s) {
        Stack fresh = {.name = name->s};
        PUSH(c->a, c->stack, c->n_stack, c->cap_stack, fresh);
        s = &c->stack[c->n_stack - 1];
    }
    PUSH(c->a, s->item, s->n, s->cap, *out);
    return true;
}

static bool run_pop(Ctx *c, const YNode *n, const char *kind, Id *out, Err *e) {
    const YNode *name = yaml_get(n, kind);
    Stack *s = stack_find(c, name->s);
    if (!s || !s->n)
        return err_at(e, n->loc, "'%s' from the empty stack '%s'", kind, name->s);
    *out = s->item[s->n - 1];
    if (!strcmp(kind, "pop")) s->n--;
    return true;
}

bool stacks_empty(Ctx *c, Loc loc, Err *e) {
    for (int i = 0; i < c->n_stack; i++)
        if (c->stack[i].n)
            return err_at(e, loc, "stack '%s' still holds %d value%s at the end",
                          c->stack[i].name, c->stack[i].n,
                          c->stack[i].n == 1 ? "" : "s");
    return true;
}

/* ---- templates ---- */

static bool is_input(const YNode *inputs, const char *name) {
    for (int i = 0; inputs && i < inputs->n; i++)
        if (!strcmp(inputs->item[i]->s, name)) return true;
    return false;
}

static bool unknown_argument(Ctx *c, const YNode *key, const char *template,
                             const YNode *inputs, const YNode *args, Err *e) {
    int n_in = inputs ? inputs->n : 0, n_args = args ? args->n : 0;
    const char **names = NEW(c->a, const char *, n_in + n_args + 1);
    for (int i = 0; i < n_in; i++) names[i] = inputs->item[i]->s;
    for (int i = 0; i < n_args; i++) names[n_in + i] = args->key[i]->s;
    return err_at(e, key->loc, "template '%s' has no input or argument '%s'%s",
                  template, key->s, did_you_mean(c->a, key->s, names));
}

/* The outermost use of a template that is marked is a segment of recomputation. */
static bool enter_segment(Ctx *c, Level *l, const YNode *t, const char *prefix,
                          Err *e) {
    const YNode *mark = yaml_get(t, "checkpoint");
    bool is_segment = false;
    if (!mark || c->g->at.segment) return true;
    if (!eval_bool(c, l, mark, "checkpoint", &is_segment, e)) return false;
    if (is_segment)
        c->g->at.segment =
            full_path(c, arena_strndup(c->a, prefix, strlen(prefix) - 1));
    return true;
}

/* One instance: inputs and arguments of node n evaluated at level l, `chain` given. */
static bool run_instance(Ctx *c, Level *l, const YNode *n, const YNode *t,
                         const Doc *owner, const char *prefix, Id chain, Id *out,
                         Err *e) {
    const char *name = yaml_get(n, "use")->s;
    const YNode *inputs = yaml_get(t, "inputs"), *args = yaml_get(t, "args");
    const YNode *chained = yaml_get(n, "chain");
    Level inner = {.doc = owner, .scope = scope_new(c->a), .prefix = prefix};
    Args *given = args_new(c->a), *bound = args_new(c->a);
    for (int i = 0; i < n->n; i++) {
        const YNode *key = n->key[i];
        if (is_node_key(key->s) || !strcmp(key->s, "use")) continue;
        bool is_chain = chain != NO_ID && chained && !strcmp(chained->s, key->s);
        if (is_input(inputs, key->s)) {
            Id id = chain;
            if (!is_chain && !formula_eval(c, l, n->item[i], &id, e)) return false;
            scope_set(inner.scope, key->s, id);
        } else if (args && yaml_get(args, key->s)) {
            Val v;
            if (!eval_slot(c, l, n->item[i], &v, e)) return false;
            v.loc = n->item[i]->loc;
            args_set(given, key->s, v);
        } else {
            return unknown_argument(c, key, name, inputs, args, e);
        }
    }
    for (int i = 0; inputs && i < inputs->n; i++)
        if (!scope_find(inner.scope, inputs->item[i]->s))
            return err_at(e, n->loc, "template '%s' needs input '%s'", name,
                          inputs->item[i]->s);
    const char *what = arena_printf(c->a, "template '%s'", name);
    if (!args_bind(c->a, args, given, what, n->loc, bound, e)) return false;
    inner.args = bound;
    Place keep = c->g->at;
    if (!enter_segment(c, &inner, t, prefix, e)) return false;
    bool ok = run_nodes(c, &inner, yaml_get(t, "nodes"), e);
    c->g->at = keep;
    if (!ok) return false;
    const YNode *output = yaml_get(t, "output");
    return value_find(c, &inner, output->s, output->loc, out, e);
}

static bool run_repeats(Ctx *c, Level *l, const char *path, const YNode *n,
                        const YNode *t, const Doc *owner, Id *out, Err *e) {
    const YNode *repeat = yaml_get(n, "repeat"), *chain = yaml_get(n, "chain");
    int64_t times;
    if (!repeat)
        return run_instance(c, l, n, t, owner, arena_printf(c->a, "%s.", path), NO_ID,
                            out, e);
    if (!eval_int(c, l, repeat, "repeat", 0, MOST_REPEAT, &times, e)) return false;
    if (chain && !is_input(yaml_get(t, "inputs"), chain->s))
        return err_at(e, chain->loc, "template '%s' has no input '%s' to chain",
                      yaml_get(n, "use")->s, chain->s);
    if (times == 0) {
        const YNode *x = yaml_get(n, chain ? chain->s : "x");
        if (!x)
            return err_at(e, n->loc, "'repeat' is 0 and there is no 'x' to pass on");
        return formula_eval(c, l, x, out, e);
    }
    for (int64_t i = 0; i < times; i++) {
        if (++c->n_nodes > MOST_NODES)
            return err_at(e, n->loc, "more than %d nodes", MOST_NODES);
        Level here = *l;
        Args *args = args_copy(c->a, l->args);
        args_set(args, "i", val_int(i));
        here.args = args;
        const char *prefix = arena_printf(c->a, "%s.%lld.", path, (long long)i);
        if (!run_instance(c, &here, n, t, owner, prefix, i && chain ? *out : NO_ID, out,
                          e))
            return false;
    }
    return true;
}

static bool run_use(Ctx *c, Level *l, const char *path, const YNode *n, Id *out,
                    Err *e) {
    const YNode *use = yaml_get(n, "use");
    const Doc *owner = NULL;
    const YNode *t = doc_template(l->doc, use->s, &owner);
    if (!t)
        return err_at(e, use->loc, "no template '%s'%s", use->s,
                      did_you_mean(c->a, use->s, doc_template_names(c->a, l->doc)));
    for (int i = 0; i < c->depth; i++)
        if (c->open[i] == t)
            return err_at(e, use->loc, "template '%s' uses itself", use->s);
    if (c->depth == MOST_TEMPLATES)
        return err_at(e, use->loc, "templates within templates more than %d deep",
                      MOST_TEMPLATES);
    c->open[c->depth++] = t;
    bool ok = run_repeats(c, l, path, n, t, owner, out, e);
    c->depth--;
    return ok;
}

/* ---- nodes ---- */

/* Which of the eight keys a node has; NODE_KINDS: none, or more than one. */
static int kind_of(const YNode *n) {
    int kind = NODE_KINDS, count = 0;
    for (int k = 0; k < NODE_KINDS; k++)
        if (yaml_get(n, node_kinds[k])) kind = k, count++;
    return count == 1 ? kind : NODE_KINDS;
}

/* The value of a node that is left out: `else`, or its `x`. */
static bool pass_on(Ctx *c, Level *l, const char *name, const YNode *n, Id *out,
                    Err *e) {
    const YNode *instead = yaml_get(n, "else");
    if (!instead) instead = yaml_get(n, "x");
    if (!instead)
        return err_at(e, n->loc,
                      "node '%s' may be left out ('when') and has no 'x' to pass "
                      "on: give 'else'",
                      name);
    return formula_eval(c, l, instead, out, e);
}

static bool run_map(Ctx *c, Level *l, const char *name, const char *path,
                    const YNode *n, Id *out, Err *e) {
    int kind = kind_of(n);
    if (kind == NODE_KINDS)
        return err_at(e, n->loc,
                      "node '%s' needs exactly one of op, use, call, is, push, "
                      "pop, peek",
                      name);
    const YNode *block = yaml_get(n, "block"), *when = yaml_get(n, "when");
    int64_t number;
    if (block) {
        if (!c->n_blocks)
            return err_at(e, block->loc, "'block' in a document without 'blocks'");
        if (!eval_int(c, l, block, "block", 0, c->n_blocks - 1, &number, e))
            return false;
        c->g->at.block = (int)number;
    }
    bool made = true;
    if (when && !eval_bool(c, l, when, "when", &made, e)) return false;
    if (!made) return pass_on(c, l, name, n, out, e);
    switch (kind) {
    case NODE_OP:
        return run_op(c, l, path, n, out, e);
    case NODE_USE:
        return run_use(c, l, path, n, out, e);
    case NODE_CALL:
        return run_call(c, l, name, n, out, e);
    case NODE_IS:
        return formula_eval(c, l, yaml_get(n, "is"), out, e);
    case NODE_PUSH:
        return run_push(c, l, n, out, e);
    case NODE_TOTAL:
        return err_at(e, n->loc, "node '%s': 'total' is for nodes of an optimizer",
                      name);
    default:
        return run_pop(c, n, node_kinds[kind], out, e);
    }
}

static bool keep_type(Ctx *c, const YNode *n, Id *out, Err *e) {
    static const char *const words[] = {"f32", "f16", "bf16", "i32", NULL};
    const YNode *dtype = n->kind == Y_MAP ? yaml_get(n, "dtype") : NULL;
    if (!dtype) return true;
    for (int i = 0; words[i]; i++) {
        DType t;
        if (strcmp(words[i], dtype->s) || !dtype_parse(words[i], &t)) continue;
        bool batch = c->g->value[*out]->batch;
        *out = graph_cast(c->g, *out, t, e);
        if (*out != NO_ID) c->g->value[*out]->batch = batch;
        return *out != NO_ID;
    }
    return err_at(e, dtype->loc, "'dtype' is one of f32, f16, bf16, i32; got '%s'%s",
                  dtype->s, did_you_mean(c->a, dtype->s, words));
}

/* A top-level node named in `given` is an input of the node's type. */
static void make_input(Ctx *c, Level *l, const char *name, Id *out) {
    if (*l->prefix) return;
    for (int i = 0; c->given && c->given[i]; i++) {
        if (strcmp(c->given[i], name)) continue;
        const Value *v = c->g->value[*out];
        const char *path = full_path(c, name);
        Id id = graph_find(c->g, path);
        if (id == NO_ID) id = graph_value(c->g, ROLE_INPUT, v->type, path, v->loc);
        c->g->value[id]->batch = v->batch;
        if (c->given_seen) c->given_seen[i] = true;
        *out = id;
    }
}

bool run_node(Ctx *c, Level *l, const YNode *key, const YNode *n, Err *e) {
    if (++c->n_nodes > MOST_NODES)
        return err_at(e, n->loc, "more than %d nodes", MOST_NODES);
    if (is_formula_function(key->s))
        return err_at(e, key->loc, "'%s' is a function and cannot name a value",
                      key->s);
    const char *path = arena_printf(c->a, "%s%s", l->prefix, key->s);
    Place keep = c->g->at;
    c->g->at.path = full_path(c, path);
    c->g->at.loc = n->loc;
    Id id = NO_ID;
    bool ok = n->kind == Y_MAP ? run_map(c, l, key->s, path, n, &id, e)
                               : formula_eval(c, l, n, &id, e);
    if (ok) ok = keep_type(c, n, &id, e);
    c->g->at = keep;
    if (!ok) return false;
    make_input(c, l, key->s, &id);
    scope_set(l->scope, key->s, id);
    return true;
}

bool run_nodes(Ctx *c, Level *l, const YNode *nodes, Err *e) {
    for (int i = 0; nodes && i < nodes->n; i++)
        if (!run_node(c, l, nodes->key[i], nodes->item[i], e)) return false;
    return true;
}
