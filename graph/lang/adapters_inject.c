/* Adapters put into the graph: every module's nodes behind the node it wraps, and what of
 * it is saved.
 *
 * The result is always old + m * (new - old) with the multiplier m: on weights for
 * `output: {weight: …}`, on outputs otherwise. Several modules on one node act in order:
 * `y` is what the ones before made of it, `w` the weight as they left it. */
#include "graph/lang/adapters_private.h"

#include <string.h>

typedef struct Inject {
    Graph *g;
    Modules *m;
    Build build;
    Scope *at; /* "NETWORK.path" -> first module on it */
    int *next; /* the next module on the same node, -1 */
} Inject;

/* One node with its modules: what it computes with the weight as it is now. */
typedef struct Site {
    Wrapped w;
    Id base;
} Site;

/* ---- outputs ---- */

/* The formula `one` for a multiplier of 1, else `many` with `m` as that number. */
static Id mixed(Ctx *c, const char *one, const char *many, double m, int n,
                const Id *in, Err *e) {
    if (m == 1) return pointwise(c, one, n, in, e);
    Str s = {0};
    for (const char *p = many; *p; p++) {
        if (*p == 'm')
            str_double(&s, m);
        else
            str_addn(&s, p, 1);
    }
    const char *f = arena_strndup(c->a, s.s, s.n);
    str_free(&s);
    return pointwise(c, f, n, in, e);
}

static bool as_y(Ctx *c, Id v, Id y, const YNode *slot, Err *e) {
    const Type *got = &c->g->value[v]->type, *want = &c->g->value[y]->type;
    if (type_same_shape(got, want)) return true;
    return err_at(e, slot->loc, "the output of adapter '%s' on '%s' is %s, want %s",
                  c->module->adapter->name, c->module->path, shape_text(c->a, got),
                  shape_text(c->a, want));
}

static Id output_add(Ctx *c, Site *s, Id v, double m, const YNode *slot, Err *e) {
    Id sum = mixed(c, "x0 + x1", "x0 + m * x1", m, 2, (Id[]){s->w.y, v}, e);
    return sum != NO_ID && as_y(c, sum, s->w.y, slot, e) ? sum : NO_ID;
}

static Id output_replace(Ctx *c, Site *s, Id v, double m, const YNode *slot, Err *e) {
    if (!as_y(c, v, s->w.y, slot, e)) return NO_ID;
    if (m == 1) return widen(c->g, v, true, e);
    return mixed(c, "", "x0 + m * (x1 - x0)", m, 2, (Id[]){s->w.y, v}, e);
}

/* The wrapped op with the weight v: [out, fan_in], or the weight's own form. */
static Id output_weight(Ctx *c, Site *s, Id v, double m, const YNode *slot, Level *l,
                        Err *e) {
    Graph *g = c->g;
    const Node *node = s->w.node;
    Type form = g->value[node->in[s->w.in_weight]]->type;
    const Type *got = &g->value[v]->type;
    Id w;
    if (!value_find(c, l, "w", slot->loc, &w, e)) return NO_ID;
    if (!type_same_shape(got, &g->value[w]->type)) {
        err_at(e, slot->loc, "the weight that adapter '%s' gives '%s' is %s, want %s",
               c->module->adapter->name, c->module->path, shape_text(c->a, got),
               shape_text(c->a, &g->value[w]->type));
        return NO_ID;
    }
    if (m != 1) v = mixed(c, "", "x0 + m * (x1 - x0)", m, 2, (Id[]){w, v}, e);
    Id *in = NEW(c->a, Id, node->n_in);
    memcpy(in, node->in, (size_t)node->n_in * sizeof *in);
    if (v != NO_ID) v = widen(g, v, true, e);
    in[s->w.in_weight] = v == NO_ID ? NO_ID : graph_view(g, v, form, e);
    if (in[s->w.in_weight] == NO_ID) return NO_ID;
    Node *n = graph_add(g, node->op, node->attrs, node->n_in, in, e);
    if (!n) return NO_ID;
    mark_batch(g, n);
    Id old = s->base, now = n->out[0];
    s->base = now;
    s->w.w = v;
    if (s->w.y == old) return now;
    return pointwise(c, "x0 + x1 - x2", 3, (Id[]){s->w.y, now, old}, e);
}

static bool output_of(Ctx *c, Level *l, Site *s, Err *e) {
    const Doc *d = c->module->adapter;
    const YNode *out = yaml_get(d->root, "output");
    if (!out || out->kind != Y_MAP || out->n != 1)
        return err_at(e, out ? out->loc : d->root->loc,
                      "'output' has exactly one of add, replace, weight");
    const char *kind = out->key[0]->s;
    const YNode *slot = out->item[0];
    const Val *multiplier = args_get(c->module->args, "multiplier");
    double m = 1;
    if (multiplier) val_number(multiplier, &m);
    Id v;
    c->g->at.path = full_path(c, "output");
    c->g->at.loc = slot->loc;
    if (!formula_eval(c, l, slot, &v, e)) return false;
    if (!strcmp(kind, "add"))
        v = output_add(c, s, v, m, slot, e);
    else if (!strcmp(kind, "replace"))
        v = output_replace(c, s, v, m, slot, e);
    else if (!strcmp(kind, "weight"))
        v = output_weight(c, s, v, m, slot, l, e);
    else
        return err_at(e, out->key[0]->loc,
                      "'output' is one of add, replace, weight; got '%s'", kind);
    s->w.y = v;
    return v != NO_ID;
}

/* ---- modules at their nodes ---- */

static bool run_module(Inject *j, Module *m, Site *s, Err *e) {
    Ctx c = ctx_new(&j->build, m->root);
    c.module = m;
    c.wrapped = &s->w;
    c.given = j->m->given;
    Level l = {
        .doc = m->adapter, .scope = scope_new(c.a), .args = m->args, .prefix = ""};
    scope_set(l.scope, "x", s->w.x);
    scope_set(l.scope, "y", s->w.y);
    scope_set(l.scope, "w", NO_ID);
    scope_set(l.scope, "b", NO_ID);
    Place keep = j->g->at;
    j->g->at = s->w.node->at;
    bool ok = run_nodes(&c, &l, yaml_get(m->adapter->root, "nodes"), e) &&
              stacks_empty(&c, m->adapter->root->loc, e) && output_of(&c, &l, s, e);
    j->g->at = keep;
    if (!ok)
        err_note(e, "note: adapter '%s' on '%s.%s'", m->adapter->name, m->network,
                 m->path);
    return ok;
}

/* `node`: a copy in the new graph; *y: its output behind the modules. */
static bool run_site(Inject *j, const Node *node, int first, Id *y, Err *e) {
    Site s = {.base = node->out[0]};
    s.w = (Wrapped){.node = node,
                    .x = node->in[0],
                    .y = node->out[0],
                    .w = NO_ID,
                    .b = NO_ID,
                    .in_weight = input_index(node->op, "weight"),
                    .in_bias = input_index(node->op, "bias")};
    for (int i = first; i >= 0; i = j->next[i])
        if (!run_module(j, &j->m->item[i], &s, e)) return false;
    *y = s.w.y;
    return true;
}

static void index_modules(Inject *j) {
    Arena *a = j->g->arena;
    j->at = scope_new(a);
    j->next = NEW(a, int, j->m->n + 1);
    for (int i = j->m->n - 1; i >= 0; i--) {
        const Module *m = &j->m->item[i];
        const char *path = arena_printf(a, "%s.%s", m->network, m->path);
        const ScopeSlot *s = scope_find(j->at, path);
        j->next[i] = s ? (int)s->id : -1;
        scope_set(j->at, path, (Id)i);
    }
}

Graph *adapters_inject(const Graph *g, Modules *m, bool training, Err *e) {
    Id *map;
    Inject j = {.g = graph_rewrite(g, &map), .m = m};
    j.build = (Build){.g = j.g, .training = training};
    index_modules(&j);
    for (int i = 0; i < m->n; i++) m->item[i].n_tensor = 0;
    for (uint32_t i = 0; i < g->n_node; i++) {
        const Node *old = g->node[i];
        const Node *n = graph_copy_node(j.g, old, g, map, e);
        if (!n) return NULL;
        const ScopeSlot *s = old->at.path ? scope_find(j.at, old->at.path) : NULL;
        if (!s || !adapter_wraps(m->item[s->id].adapter, old)) continue;
        if (!run_site(&j, n, (int)s->id, &map[old->out[0]], e)) return NULL;
    }
    graph_copy_outputs(j.g, g, map);
    return j.g;
}

/* ---- saving ---- */

static int tensor_find(const Module *m, const char *name) {
    for (int i = 0; i < m->n_tensor; i++)
        if (!strcmp(m->tensor[i].name, name)) return i;
    return -1;
}

/* May some module of this adapter have a tensor of this name? Its node's path, or that and
 * the tensor's. */
static bool could_exist(const Doc *d, const char *name) {
    const YNode *nodes = yaml_get(d->root, "nodes");
    const char *dot = strrchr(name, '.');
    for (int i = 0; nodes && i < nodes->n; i++) {
        const char *key = nodes->key[i]->s;
        if (!strcmp(key, name)) return true;
        if (dot && strlen(key) == (size_t)(dot - name) &&
            !strncmp(key, name, strlen(key)))
            return true;
    }
    return false;
}

static bool saved_number(Arena *a, const Module *m, const YNode *slot, SavedTensor *t,
                         Err *e) {
    Env env = {.args = m->args};
    Val v;
    if (!slot_eval(a, slot, &env, &v, e)) return false;
    t->value = NO_ID;
    t->type = type_scalar(F32);
    if (val_number(&v, &t->number)) return true;
    return err_at(e, slot->loc, "'%s' is not a number", slot->s);
}

/* Tensor i of the module under this key. The stored form: matrices of linear layers are
 * 4-D where the wrapped weight is. */
static bool saved_tensor(Arena *a, const Module *m, const Graph *g, int i,
                         SavedTensor *t, const char *suffix, Err *e) {
    const char *path = m->tensor[i].name, *name = m->tensor_name[i];
    size_t root = strlen(m->root);
    bool own = !strncmp(name, m->root, root) && name[root] == '.';
    if (!own) t->key = arena_printf(a, "%s%s", suffix, name + strlen(path));
    t->value = graph_find(g, name);
    if (t->value == NO_ID)
        return err_fail(e, "the graph has lost the tensor '%s'", name);
    t->type = g->value[t->value]->type;
    if (m->weight4 && t->type.rank == 2 && ends_with(path, ".weight")) {
        t->type.rank = 4;
        t->type.dim[2] = t->type.dim[3] = 1;
    }
    return true;
}

bool module_saved(Arena *a, const Module *m, const Graph *g, const char *scheme,
                  SavedTensor **out, int *n, Err *e) {
    const YNode *save = yaml_get(m->adapter->root, "save");
    const YNode *map = save ? yaml_get(save, scheme) : NULL;
    int cap = 0;
    *out = NULL;
    *n = 0;
    if (!map)
        return err_at(e, m->adapter->root->loc,
                      "adapter '%s' has no names under 'save: %s'", m->adapter->name,
                      scheme);
    const char *base = m->name;
    if (strcmp(scheme, "kohya")) base = arena_printf(a, "%s%s", m->peft, m->path);
    for (int i = 0; i < map->n; i++) {
        const YNode *slot = map->item[i];
        SavedTensor t = {.key = arena_printf(a, "%s.%s", base, map->key[i]->s)};
        if (slot->kind == Y_SCALAR && strchr(slot->s, '$')) {
            if (!saved_number(a, m, slot, &t, e)) return false;
        } else {
            int at = slot->kind == Y_SCALAR ? tensor_find(m, slot->s) : -1;
            if (at < 0 && (slot->kind != Y_SCALAR || !could_exist(m->adapter, slot->s)))
                return err_at(e, slot->loc,
                              "'save' names no tensor of adapter '%s': '%s'",
                              m->adapter->name, slot->kind == Y_SCALAR ? slot->s : "");
            if (at < 0) continue;
            if (!saved_tensor(a, m, g, at, &t, map->key[i]->s, e)) return false;
        }
        PUSH(a, *out, *n, cap, t);
    }
    return true;
}
