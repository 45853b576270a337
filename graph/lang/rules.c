/* What the tables of the schema cannot say: the rules of nodes (one kind each, keys of its
 * op), of templates (reserved names, no recursion, what a use gives), and those that need a
 * whole document (save lines, variants, networks that are called). Each looks at the text
 * alone; what needs shapes or a path in the graph is judged when a graph is built. */
#include "graph/lang/schema.h"
#include <string.h>

enum { MAX_FROM = 8, MAX_ENTRIES = 512, MAX_TEMPLATE_DEPTH = 32 };

static bool is_in(const char *s, const char *const *list) {
    for (; list && *list; list++)
        if (!strcmp(s, *list)) return true;
    return false;
}

/* Names that are collected for a suggestion. */
typedef struct Names {
    Arena *arena;
    const char **s; /* n names, then NULL */
    int n, cap;
} Names;

static void add_name(Names *l, const char *s) {
    PUSH(l->arena, l->s, l->n, l->cap, s);
    PUSH(l->arena, l->s, l->n, l->cap, NULL);
    l->n--;
}

static void add_keys(Names *l, const YNode *map) {
    for (int i = 0; map && map->kind == Y_MAP && i < map->n; i++)
        add_name(l, map->key[i]->s);
}

static void add_items(Names *l, const YNode *list) {
    for (int i = 0; list && list->kind == Y_LIST && i < list->n; i++)
        if (list->item[i]->kind == Y_SCALAR) add_name(l, list->item[i]->s);
}

static bool has_item(const YNode *list, const char *s) {
    for (int i = 0; list && list->kind == Y_LIST && i < list->n; i++)
        if (list->item[i]->kind == Y_SCALAR && !strcmp(list->item[i]->s, s))
            return true;
    return false;
}

/* ---- small rules ---- */
bool check_from(Checker *c, const YNode *n, Err *e) {
    (void)c;
    if (n->kind != Y_LIST || n->n <= MAX_FROM) return true;
    return err_at(e, n->loc, "'from' takes at most %d files, got %d", MAX_FROM, n->n);
}

static bool value_name(const YNode *n, Err *e) {
    if (n->kind != Y_SCALAR || !is_in(n->s, formula_functions)) return true;
    return err_at(e, n->loc, "'%s' is a function and cannot name a value", n->s);
}

bool check_inputs(Checker *c, const YNode *n, Err *e) {
    return check_count(c, n, e) && check_value_names(c, n, e);
}

bool check_value_names(Checker *c, const YNode *n, Err *e) {
    (void)c;
    for (int i = 0; n->kind == Y_MAP && i < n->n; i++)
        if (!value_name(n->key[i], e)) return false;
    return true;
}

/* Keeps every search in a list of names short, also in hostile files. */
bool check_count(Checker *c, const YNode *n, Err *e) {
    (void)c;
    if (n->kind == Y_SCALAR || n->n <= MAX_ENTRIES) return true;
    return err_at(e, n->loc, "at most %d entries are allowed here, got %d", MAX_ENTRIES,
                  n->n);
}

bool check_output(Checker *c, const YNode *n, Err *e) {
    static const char *const kinds[] = {"add", "replace", "weight", NULL};
    (void)c;
    for (int i = 0; n->kind == Y_MAP && i < n->n; i++)
        if (!is_in(n->key[i]->s, kinds))
            return true; /* an unknown key, reported as such */
    if (n->kind != Y_MAP || n->n == 1) return true;
    return err_at(e, n->loc, "'output' needs exactly one of add, replace, weight");
}

/* Ops that only the compiler makes have no YAML form. */
static const char *const *yaml_ops(Arena *a) {
    Names l = {.arena = a};
    for (int i = 0; ops[i]; i++)
        if (op_in_yaml(ops[i])) add_name(&l, ops[i]->name);
    return l.s;
}

static const Op *find_op(Checker *c, const YNode *n, Err *e) {
    const Op *op = n->kind == Y_SCALAR ? op_find(n->s) : NULL;
    if (op && op_in_yaml(op)) return op;
    if (n->kind != Y_SCALAR)
        err_at(e, n->loc, "'op' wants a name, got a %s", yaml_kind(n));
    else if (op)
        err_at(e, n->loc, "op '%s' is made by the compiler: graph files cannot use it",
               n->s);
    else
        err_at(e, n->loc, "no op '%.60s'%s", n->s,
               did_you_mean(c->arena, n->s, yaml_ops(c->arena)));
    return NULL;
}

bool check_wraps(Checker *c, const YNode *n, Err *e) {
    for (int i = 0; n->kind == Y_LIST && i < n->n; i++)
        if (!find_op(c, n->item[i], e)) return false;
    return true;
}

/* ---- nodes ---- */
static bool owns_tensors(const Op *op) {
    for (const OpIn *in = op->in; in && in->name; in++)
        if (in->flags & IN_PARAM) return true;
    return false;
}

/* A variadic input is a list; a text attribute is text; bias is an input and a flag. */
const Slot *op_key(const Op *op, const char *key) {
    static const Slot many = {
        .what = "a list of formulas", .scalar = FORMULA, .item = &slot_formula};
    static const Slot text = {.what = "text", .scalar = TEXT};
    for (const Attr *at = op->attrs; at && at->name; at++)
        if (!(at->flags & ATTR_IR) && !strcmp(at->name, key))
            return at->kind == 's' ? &text : &slot_value;
    for (const OpIn *in = op->in; in && in->name; in++)
        if (!(in->flags & IN_IR) && in->name[0] && !strcmp(in->name, key))
            return in->flags & IN_VARIADIC ? &many : &slot_formula;
    const Key *k = owns_tensors(op) ? key_find(param_keys, key) : NULL;
    return k ? k->slot : NULL;
}

static const char *const *op_key_names(Arena *a, const Op *op) {
    Names l = {.arena = a};
    for (const OpIn *in = op->in; in && in->name; in++)
        if (!(in->flags & IN_IR) && in->name[0]) add_name(&l, in->name);
    for (const Attr *at = op->attrs; at && at->name; at++)
        if (!(at->flags & ATTR_IR)) add_name(&l, at->name);
    for (const Key *k = param_keys; owns_tensors(op) && k->name; k++)
        add_name(&l, k->name);
    for (const Key *k = node_keys; k->name; k++) add_name(&l, k->name);
    return l.s;
}

static bool op_needs(const Op *op, const YNode *n, Err *e) {
    for (const OpIn *in = op->in; in && in->name; in++)
        if (!(in->flags & (IN_OPTIONAL | IN_PARAM | IN_IR)) && !yaml_get(n, in->name))
            return err_at(e, n->loc, "op %s needs the input '%s'", op->name, in->name);
    for (const Attr *at = op->attrs; at && at->name; at++)
        if ((at->flags & ATTR_REQUIRED) && !(at->flags & ATTR_IR) &&
            !yaml_get(n, at->name))
            return err_at(e, n->loc, "op %s needs '%s'", op->name, at->name);
    return true;
}

/* The one key of n that says what the node is. */
static const Key *kind_of(const YNode *n) {
    const Key *found = NULL;
    for (int i = 0; i < n->n; i++) {
        const Key *k = key_find(node_kinds, n->key[i]->s);
        if (k && found) return NULL;
        if (k) found = k;
    }
    return found;
}

/* What may stand behind a key that is neither the kind nor of every node. */
static const Slot *own_key(const Key *kind, const Op *op, const char *key) {
    static const Slot given = {.what = "a formula, an expression or a list",
                               .scalar = EXPR,
                               .item = &slot_formula};
    if (op) return op_key(op, key);
    if (!strcmp(kind->name, "use")) return &given; /* see check_use */
    if (!strcmp(kind->name, "call")) return &slot_formula;
    return !strcmp(kind->name, "push") && !strcmp(key, "x") ? &slot_formula : NULL;
}

static bool unknown_key(Checker *c, const Key *kind, const Op *op, const YNode *key,
                        Err *e) {
    if (op)
        return err_at(e, key->loc, "unknown key '%.60s' for op %s%s", key->s, op->name,
                      did_you_mean(c->arena, key->s, op_key_names(c->arena, op)));
    return err_at(e, key->loc, "unknown key '%.60s' in a node with '%s'%s", key->s,
                  kind->name,
                  did_you_mean(c->arena, key->s, key_names(c->arena, node_keys)));
}

static bool check_call(Checker *c, const YNode *n, Err *e) {
    const Doc *d = c->doc;
    const char *const model[] = {"model", NULL};
    const YNode *declared = yaml_get(d->root, "networks");
    Names l = {.arena = c->arena};
    if (d->kind == DOC_LIBRARY || n->kind != Y_SCALAR) return true;
    if (d->kind != DOC_OBJECTIVE && d->kind != DOC_SAMPLER)
        return err_at(e, n->loc, "'call' is for objectives and samplers, not for a %s",
                      doc_kind_name(d->kind));
    if (d->kind == DOC_SAMPLER ? is_in(n->s, model) : has_item(declared, n->s))
        return true;
    if (declared && declared->kind == Y_LIST) add_items(&l, declared);
    const char *const *known = d->kind == DOC_SAMPLER ? model : l.s;
    return err_at(e, n->loc, "no network '%.60s' here%s", n->s,
                  known ? did_you_mean(c->arena, n->s, known)
                        : ": 'networks' lists those to call");
}

/* Keys that go only with others. */
static bool check_company(const YNode *node, const char *name, const Key *kind,
                          Err *e) {
    const YNode *repeat = yaml_key(node, "repeat"), *chain = yaml_key(node, "chain");
    const YNode *x = yaml_get(node, "x");
    if (repeat && strcmp(kind->name, "use"))
        return err_at(e, repeat->loc, "'repeat' goes only with 'use'");
    if (chain && !repeat)
        return err_at(e, chain->loc, "'chain' goes only with 'repeat'");
    if (!strcmp(kind->name, "push") && !x)
        return err_at(e, node->loc, "'push' needs the key 'x'");
    if (!yaml_get(node, "when") || yaml_get(node, "else") || (x && x->kind == Y_SCALAR))
        return true;
    return err_at(
        e, node->loc,
        "node '%s' may be left out ('when') and has no 'x' to pass on: give 'else'",
        name);
}

bool check_node(Checker *c, const YNode *n, Err *e) {
    const char *name = c->key ? c->key->s : "?";
    if (n->kind != Y_MAP) return true;
    const Key *kind = kind_of(n);
    if (!kind)
        return err_at(
            e, n->loc,
            "node '%s' needs exactly one of op, use, call, is, push, pop, peek%s", name,
            c->doc->kind == DOC_OPTIMIZER ? ", total" : "");
    if (!strcmp(kind->name, "total") && c->doc->kind != DOC_OPTIMIZER)
        return err_at(e, n->loc,
                      "'total' is for optimizers: elsewhere there are no "
                      "parameters to add over");
    const YNode *what = yaml_get(n, kind->name);
    const Op *op = NULL;
    if (!strcmp(kind->name, "op") && !(op = find_op(c, what, e))) return false;
    if (!strcmp(kind->name, "call") && !check_call(c, what, e)) return false;
    for (int i = 0; i < n->n; i++) {
        const YNode *key = n->key[i];
        const Key *k = key_find(node_keys, key->s);
        if (!k && !strcmp(key->s, kind->name)) k = kind;
        const Slot *slot = k ? k->slot : own_key(kind, op, key->s);
        if (!slot) return unknown_key(c, kind, op, key, e);
        c->key = key;
        if (!slot_check(c, slot, n->item[i], e)) return false;
    }
    return check_company(n, name, kind, e) && (!op || op_needs(op, n, e));
}

/* ---- templates ---- */
static bool reserved(const YNode *n, const char *what, Err *e) {
    if (n->kind != Y_SCALAR ||
        (!key_find(node_keys, n->s) && !key_find(node_kinds, n->s)))
        return true;
    return err_at(e, n->loc, "'%s' is a key of every node and cannot name an %s", n->s,
                  what);
}

bool check_template(Checker *c, const YNode *n, Err *e) {
    const YNode *args = yaml_get(n, "args"), *inputs = yaml_get(n, "inputs");
    if (inputs && !check_count(c, inputs, e)) return false;
    for (int i = 0; args && args->kind == Y_MAP && i < args->n; i++)
        if (!reserved(args->key[i], "argument", e)) return false;
    for (int i = 0; inputs && inputs->kind == Y_LIST && i < inputs->n; i++) {
        const YNode *in = inputs->item[i];
        if (in->kind != Y_SCALAR) return true; /* reported by the walk */
        if (!reserved(in, "input", e) || !value_name(in, e)) return false;
        if (yaml_get(args, in->s))
            return err_at(e, in->loc, "'%s' is an input and an argument", in->s);
        for (int k = 0; k < i; k++)
            if (!strcmp(inputs->item[k]->s, in->s))
                return err_at(e, in->loc, "input '%s' is given twice", in->s);
    }
    return true;
}

/* A type word or a list with one of int, float: the argument must be given. */
static bool is_required(const YNode *decl) {
    static const char *const types[] = {"int", "float", "bool", "word", "path", NULL};
    if (decl->kind == Y_LIST)
        return decl->n == 1 && decl->item[0]->kind == Y_SCALAR &&
               !decl->item[0]->quoted &&
               (!strcmp(decl->item[0]->s, "int") || !strcmp(decl->item[0]->s, "float"));
    return decl->kind == Y_SCALAR && !decl->quoted && is_in(decl->s, types);
}

static bool check_given(Checker *c, const YNode *n, const YNode *t, const char *name,
                        Err *e) {
    const YNode *args = yaml_get(t, "args"), *inputs = yaml_get(t, "inputs");
    for (int i = 0; i < n->n; i++) {
        const YNode *key = n->key[i];
        if (key_find(node_keys, key->s) || !strcmp(key->s, "use")) continue;
        c->key = key;
        if (has_item(inputs, key->s)) {
            if (!slot_check(c, &slot_formula, n->item[i], e)) return false;
        } else if (!yaml_get(args, key->s)) {
            Names l = {.arena = c->arena};
            add_items(&l, inputs);
            add_keys(&l, args);
            return err_at(e, key->loc,
                          "template '%s' has no input or argument '%.60s'%s", name,
                          key->s, l.s ? did_you_mean(c->arena, key->s, l.s) : "");
        }
    }
    return true;
}

/* A node with `use`: the template is there, takes what it is given, has what it needs. */
static bool check_use(Checker *c, const YNode *n, Err *e) {
    const YNode *use = yaml_get(n, "use"), *chain = yaml_get(n, "chain");
    const Doc *owner;
    const YNode *t = doc_template(c->doc, use->s, &owner);
    if (!t)
        return err_at(
            e, use->loc, "no template '%.60s'%s", use->s,
            did_you_mean(c->arena, use->s, doc_template_names(c->arena, c->doc)));
    const YNode *args = yaml_get(t, "args"), *inputs = yaml_get(t, "inputs");
    if (!check_given(c, n, t, use->s, e)) return false;
    for (int i = 0; inputs && i < inputs->n; i++)
        if (!yaml_get(n, inputs->item[i]->s))
            return err_at(e, n->loc, "template '%s' needs the input '%s'", use->s,
                          inputs->item[i]->s);
    for (int i = 0; args && i < args->n; i++)
        if (is_required(args->item[i]) && !yaml_get(n, args->key[i]->s))
            return err_at(e, n->loc, "template '%s' needs the argument '%s'", use->s,
                          args->key[i]->s);
    if (chain && !has_item(inputs, chain->s))
        return err_at(e, chain->loc, "template '%s' has no input '%.60s' to chain",
                      use->s, chain->s);
    return true;
}

static bool check_uses(Checker *c, const YNode *nodes, Err *e) {
    for (int i = 0; nodes && i < nodes->n; i++)
        if (yaml_get(nodes->item[i], "use") && !check_use(c, nodes->item[i], e))
            return false;
    return true;
}

/* Depth-first over the templates of one document; those of libraries cannot use them.
 * state: 0 not seen, 1 on the way, 2 done. */
static bool check_recursion(const YNode *templates, int t, char *state, int depth,
                            Loc loc, Err *e) {
    const char *name = templates->key[t]->s;
    if (state[t] == 2) return true;
    if (state[t] == 1) return err_at(e, loc, "template '%s' uses itself", name);
    if (depth > MAX_TEMPLATE_DEPTH)
        return err_at(e, loc, "templates use each other deeper than %d",
                      MAX_TEMPLATE_DEPTH);
    state[t] = 1;
    const YNode *nodes = yaml_get(templates->item[t], "nodes");
    for (int i = 0; i < nodes->n; i++) {
        const YNode *use = yaml_get(nodes->item[i], "use");
        for (int k = 0; use && k < templates->n; k++)
            if (!strcmp(templates->key[k]->s, use->s) &&
                !check_recursion(templates, k, state, depth + 1, use->loc, e))
                return false;
    }
    state[t] = 2;
    return true;
}

/* The output of a template is one of its nodes or inputs, or NAME.OUT of a call. */
static bool check_template_output(Checker *c, const YNode *t, Err *e) {
    const YNode *out = yaml_get(t, "output"), *nodes = yaml_get(t, "nodes");
    const char *dot = strrchr(out->s, '.');
    if (yaml_get(nodes, out->s) || has_item(yaml_get(t, "inputs"), out->s)) return true;
    const char *call =
        dot ? arena_strndup(c->arena, out->s, (size_t)(dot - out->s)) : "";
    if (yaml_get(yaml_get(nodes, call), "call")) return true;
    Names l = {.arena = c->arena};
    add_keys(&l, nodes);
    add_items(&l, yaml_get(t, "inputs"));
    return err_at(e, out->loc, "no value '%.60s' here%s", out->s,
                  l.s ? did_you_mean(c->arena, out->s, l.s) : "");
}

static bool check_all_templates(Checker *c, Err *e) {
    const YNode *templates = yaml_get(c->doc->root, "templates");
    char state[MAX_ENTRIES] = {0};
    for (int i = 0; templates && i < templates->n; i++) {
        const YNode *t = templates->item[i];
        if (!check_uses(c, yaml_get(t, "nodes"), e) ||
            !check_template_output(c, t, e) ||
            !check_recursion(templates, i, state, 1, templates->key[i]->loc, e))
            return false;
    }
    return true;
}

/* ---- whole documents ---- */
/* Does node `name` with this op own the tensor: NAME.weight, or NAME itself of a param? */
static bool owns(const Op *op, const char *name, const char *tensor) {
    size_t n = strlen(name);
    if (strncmp(name, tensor, n)) return false;
    for (const OpIn *in = op->in; in && in->name; in++)
        if ((in->flags & IN_PARAM) &&
            (in->name[0] ? tensor[n] == '.' && !strcmp(tensor + n + 1, in->name)
                         : !tensor[n]))
            return true;
    return false;
}

static const Op *op_of(const YNode *node) {
    const YNode *op = yaml_get(node, "op");
    return op ? op_find(op->s) : NULL;
}

static bool saves(const YNode *nodes, const char *tensor) {
    for (int i = 0; i < nodes->n; i++) {
        const Op *op = op_of(nodes->item[i]);
        if (op && owns(op, nodes->key[i]->s, tensor)) return true;
    }
    return false;
}

static bool no_tensor(Checker *c, const YNode *line, const YNode *nodes, Err *e) {
    Names l = {.arena = c->arena};
    for (int i = 0; i < nodes->n; i++) {
        const Op *op = op_of(nodes->item[i]);
        for (const OpIn *in = op ? op->in : NULL; in && in->name; in++)
            if (in->flags & IN_PARAM)
                add_name(&l, arena_printf(c->arena, "%s%s%s", nodes->key[i]->s,
                                          in->name[0] ? "." : "", in->name));
    }
    return err_at(e, line->loc, "no node owns a tensor '%.60s'%s", line->s,
                  l.s ? did_you_mean(c->arena, line->s, l.s) : "");
}

/* A bare name behind `save:` is a tensor of a node; all else is an expression. */
static bool check_save(Checker *c, Err *e) {
    const YNode *save = yaml_get(c->doc->root, "save"),
                *nodes = yaml_get(c->doc->root, "nodes");
    for (int i = 0; i < save->n; i++) {
        for (int k = 0; k < save->item[i]->n; k++) {
            const YNode *line = save->item[i]->item[k];
            const Expr *x = expr_parse(c->arena, line, e);
            if (x->kind == EX_NAME && !saves(nodes, x->name))
                return no_tensor(c, line, nodes, e);
        }
    }
    return true;
}

/* What a norm scales are tensors of nodes, each named once. */
static bool check_norm(Checker *c, Err *e) {
    const YNode *norm = yaml_get(c->doc->root, "norm");
    const YNode *scale = norm ? yaml_get(norm, "scale") : NULL;
    const YNode *nodes = yaml_get(c->doc->root, "nodes");
    if (scale && !scale->n) return err_at(e, scale->loc, "'scale' names no tensor");
    for (int i = 0; scale && i < scale->n; i++) {
        if (!saves(nodes, scale->item[i]->s))
            return no_tensor(c, scale->item[i], nodes, e);
        for (int k = 0; k < i; k++)
            if (!strcmp(scale->item[k]->s, scale->item[i]->s))
                return err_at(e, scale->item[i]->loc, "'%s' is named twice",
                              scale->item[i]->s);
    }
    return !norm || check_uses(c, yaml_get(norm, "nodes"), e);
}

static bool check_absent(Checker *c, Err *e) {
    const YNode *save = yaml_get(c->doc->root, "save"),
                *absent = yaml_get(c->doc->root, "absent");
    Names l = {.arena = c->arena};
    for (int k = 0; absent && k < save->n; k++) add_keys(&l, save->item[k]);
    for (int i = 0; absent && i < absent->n; i++) {
        const YNode *key = absent->key[i];
        if (!is_in(key->s, l.s))
            return err_at(e, key->loc, "no key '%.60s' is saved%s", key->s,
                          l.s ? did_you_mean(c->arena, key->s, l.s) : "");
    }
    return true;
}

/* Names that an adapter's arguments cannot have: keys of a recipe's entry, and what every
 * module has. */
static bool check_adapter_args(Checker *c, Err *e) {
    static const char *const entry[] = {"use",   "on",    "preset", "when",
                                        "stack", "match", NULL};
    static const char *const given[] = {"in",     "out",        "kernel", "stride",
                                        "fan_in", "taps",       "point",  "block",
                                        "lr",     "multiplier", NULL};
    const YNode *args = yaml_get(c->doc->root, "args"),
                *let = yaml_get(c->doc->root, "let");
    for (int i = 0; args && i < args->n; i++) {
        const YNode *key = args->key[i];
        if (is_in(key->s, entry))
            return err_at(
                e, key->loc,
                "'%s' is a key of every adapter entry and cannot name an argument",
                key->s);
        if (is_in(key->s, given))
            return err_at(e, key->loc, "every adapter has '$%s': it cannot be declared",
                          key->s);
    }
    for (int i = 0; let && i < let->n; i++)
        if (is_in(let->key[i]->s, given))
            return err_at(e, let->key[i]->loc,
                          "every adapter has '$%s': it cannot be declared",
                          let->key[i]->s);
    return true;
}

static bool check_let(Checker *c, Err *e) {
    const YNode *args = yaml_get(c->doc->root, "args"),
                *let = yaml_get(c->doc->root, "let");
    for (int i = 0; let && i < let->n; i++)
        if (yaml_get(args, let->key[i]->s))
            return err_at(e, let->key[i]->loc, "'%s' is already an argument",
                          let->key[i]->s);
    return true;
}

static bool check_variants(Checker *c, Err *e) {
    const YNode *variants = yaml_get(c->doc->root, "variants");
    const YNode *args = yaml_get(c->doc->root, "args");
    const char *what = arena_printf(c->arena, "network '%s'", c->doc->name);
    for (int i = 0; variants && i < variants->n; i++)
        for (int k = 0; k < variants->item[i]->n; k++) {
            const YNode *key = variants->item[i]->key[k];
            if (!name_known(c->arena, key->s, args, NULL, "argument", what, key->loc,
                            e))
                return false;
        }
    return true;
}

/* The first dimension of a declared input may be the batch; a symbol must be declared. */
static bool check_symbols(Checker *c, Err *e) {
    const YNode *inputs = yaml_get(c->doc->root, "inputs");
    const YNode *symbols = yaml_get(c->doc->root, "symbols");
    for (int i = 0; inputs && i < inputs->n; i++) {
        const YNode *shape = yaml_get(inputs->item[i], "shape");
        for (int k = 0; k < shape->n; k++) {
            const Expr *x = expr_parse(c->arena, shape->item[k], e);
            Names l = {.arena = c->arena};
            if (x->kind != EX_NAME || yaml_get(symbols, x->name)) continue;
            add_keys(&l, symbols);
            return err_at(e, shape->item[k]->loc, "no symbol '%s' is declared%s",
                          x->name, l.s ? did_you_mean(c->arena, x->name, l.s) : "");
        }
    }
    return true;
}

bool document_rules(Checker *c, Err *e) {
    static const char *const lists[] = {"nodes", "tables", "step", "update"};
    const Doc *d = c->doc;
    for (size_t i = 0; i < COUNT(lists); i++)
        if (!check_uses(c, yaml_get(d->root, lists[i]), e)) return false;
    if (!check_all_templates(c, e) || !check_let(c, e) || !check_symbols(c, e))
        return false;
    if (d->kind == DOC_NETWORK) return check_variants(c, e);
    if (d->kind == DOC_ADAPTER)
        return check_adapter_args(c, e) && check_save(c, e) && check_absent(c, e) &&
               check_norm(c, e);
    return true;
}
