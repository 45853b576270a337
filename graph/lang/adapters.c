/* Adapters on networks (language.md section 7): which nodes a recipe's entries wrap and
 * with which arguments. Putting them into the graph stands in adapters_inject.c.
 *
 * A node is found by its path in the graph ("NETWORK.path") and by its op being one that
 * the adapter wraps; nodes that only belong to it (its input's formula) share the path but
 * not the op. */
#include "graph/lang/adapters_private.h"

#include <string.h>

/* ---- the wrapped node ---- */

int input_index(const Op *op, const char *name) {
    for (int i = 0; op->in[i].name; i++)
        if (!strcmp(op->in[i].name, name)) return i;
    return -1;
}

bool adapter_wraps(const Doc *d, const Node *n) {
    const YNode *wraps = yaml_get(d->root, "wraps");
    if (!n->at.path || input_index(n->op, "weight") < 0) return false;
    for (int i = 0; wraps && i < wraps->n; i++)
        if (!strcmp(wraps->item[i]->s, n->op->name)) return true;
    return false;
}

/* Path inside the network, or NULL if the node is not of it. */
const char *path_in(const Node *n, const char *network) {
    size_t k = strlen(network);
    if (!n->at.path || strncmp(n->at.path, network, k) || n->at.path[k] != '.')
        return NULL;
    return n->at.path + k + 1;
}

/* ---- arguments of one module ---- */

typedef struct Match {
    Arena *a;
    const Graph *g;
    const Recipe *r;
    const Net *net;
    const AdapterEntry *entry;
    Scope *taken; /* "NETWORK.path" -> the last module on it */
    bool *rule_hit;
    Modules *out;
    int first; /* of this entry's modules */
} Match;

/* Values by name, each with where it came from. */
typedef struct Origins {
    Args *args;
    const char **from;
    int n, cap;
} Origins;

static void give(Arena *a, Origins *o, const char *name, Val v, const char *from) {
    bool fresh = !args_get(o->args, name);
    args_set(o->args, name, v);
    if (fresh) PUSH(a, o->from, o->n, o->cap, from);
    for (int i = 0; i < o->args->n; i++)
        if (!strcmp(o->args->name[i], name)) o->from[i] = from;
}

static void give_all(Arena *a, Origins *o, const Args *args, const char *from) {
    for (int i = 0; args && i < args->n; i++)
        give(a, o, args->name[i], args->val[i], from);
}

/* Facts of the wrapped node: $in $out $kernel $stride $fan_in $taps $point $block. */
static void give_facts(Arena *a, Origins *o, const Graph *g, const Node *n) {
    const Type *w = &g->value[n->in[input_index(n->op, "weight")]]->type;
    const Type *x = &g->value[n->in[0]]->type;
    const Attr *kernel = attr_find(n->op, "kernel"),
               *stride = attr_find(n->op, "stride");
    int64_t k = kernel && w->rank == 4 ? w->dim[2] : 1, step = 1;
    if (stride && stride->kind == 'i')
        step = *(const int64_t *)((const char *)n->attrs + stride->offset);
    Val two[2][2] = {{val_int(k), val_int(k)}, {val_int(1), val_int(1)}};
    Val list[2];
    for (int i = 0; i < 2; i++) {
        list[i] = (Val){.kind = VAL_LIST};
        list[i].list.n = kernel ? 2 : 0;
        list[i].list.item = NEW(a, Val, 2);
        memcpy(list[i].list.item, two[i], sizeof two[i]);
    }
    give(a, o, "in", val_int(x->dim[x->rank - 1]), "node");
    give(a, o, "out", val_int(w->dim[0]), "node");
    give(a, o, "kernel", val_int(k), "node");
    give(a, o, "stride", val_int(step), "node");
    give(a, o, "fan_in", val_int(type_count(w) / w->dim[0]), "node");
    give(a, o, "taps", list[0], "node");
    give(a, o, "point", list[1], "node");
    give(a, o, "block", val_int(n->at.block), "node");
}

/* A number that every adapter may be given beside its own arguments. */
static bool take_number(Arena *a, Origins *o, const char *name, double def, double *out,
                        const char **from, Loc loc, Err *e) {
    *out = def;
    *from = "adapter";
    int at = 0;
    while (at < o->args->n && strcmp(o->args->name[at], name)) at++;
    if (at == o->args->n) return true;
    if (!val_number(&o->args->val[at], out))
        return err_at(e, loc, "'%s' of an adapter must be a number", name);
    *from = o->from[at];
    Args *rest = args_new(a);
    int n = 0;
    for (int i = 0; i < o->args->n; i++) {
        if (i == at) continue;
        args_set(rest, o->args->name[i], o->args->val[i]);
        o->from[n++] = o->from[i];
    }
    o->args = rest;
    o->n = n;
    return true;
}

/* A rule may match modules of several adapters: each takes what it has. */
static void give_rule(Match *m, Origins *o, const AdapterRule *rule, const char *from) {
    const YNode *decl = yaml_get(m->entry->doc->root, "args");
    for (int i = 0; i < rule->args->n; i++) {
        const char *name = rule->args->name[i];
        bool common = !strcmp(name, "lr") || !strcmp(name, "multiplier");
        if (common || (decl && yaml_get(decl, name)))
            give(m->a, o, name, rule->args->val[i], from);
    }
}

static bool rule_given(const AdapterRule *rule) {
    return !rule->loc.src;
}

/* The entry's arguments, its preset's at the block, then matching rules, later ones over
 * earlier. `lr`: the entry's is a rate, that of preset and rules a factor on it. */
static bool module_given(Match *m, const Node *n, Origins *o, double *rate, Err *e) {
    const char *from;
    const AdapterEntry *entry = m->entry;
    give_all(m->a, o, entry->args, "entry");
    if (!take_number(m->a, o, "lr", 1, rate, &from, entry->loc, e)) return false;
    if (entry->preset && n->at.block >= 0)
        give_all(m->a, o, entry->preset->at[n->at.block], "preset");
    for (int i = 0; i < m->r->n_rule; i++) {
        const AdapterRule *rule = &m->r->rule[i];
        if (!pattern_match(rule->match, n->at.path)) continue;
        m->rule_hit[i] = true;
        give_rule(m, o, rule, rule_given(rule) ? "--set" : "rule");
    }
    return true;
}

/* All arguments of a module on node n; wrapped: false if it is not to be made. */
static bool module_args(Match *m, const Node *n, Module *mod, bool *wrapped, Err *e) {
    Arena *a = m->a;
    const Doc *d = m->entry->doc;
    Origins o = {.args = args_new(a)}, all = {.args = args_new(a)};
    double rate, factor, multiplier;
    const char *from_lr, *from_m;
    Args *bound = args_new(a);
    if (!module_given(m, n, &o, &rate, e) ||
        !take_number(a, &o, "lr", 1, &factor, &from_lr, m->entry->loc, e) ||
        !take_number(a, &o, "multiplier", 1, &multiplier, &from_m, m->entry->loc, e))
        return false;
    const char *what = arena_printf(a, "adapter '%s'", d->name);
    if (!args_bind(a, yaml_get(d->root, "args"), o.args, what, m->entry->loc, bound, e))
        return false;
    give_all(a, &all, bound, "adapter");
    for (int i = 0; i < o.args->n; i++)
        give(a, &all, o.args->name[i], *args_get(bound, o.args->name[i]), o.from[i]);
    give_facts(a, &all, m->g, n);
    give(a, &all, "lr", val_float(rate * factor),
         strcmp(from_lr, "adapter") ? from_lr : "entry");
    give(a, &all, "multiplier", val_float(multiplier), from_m);
    int plain = all.args->n;
    if (!let_bind(a, d, all.args, e)) return false;
    for (int i = plain; i < all.args->n; i++)
        PUSH(a, all.from, all.n, all.cap, "adapter");
    mod->args = all.args;
    mod->from = all.from;
    mod->lr = rate * factor;
    *wrapped = mod->lr != 0 || (m->entry->keep && factor != 0);
    const YNode *when = yaml_get(d->root, "when");
    if (!when || !*wrapped) return true;
    Env env = {.args = all.args};
    Val v;
    double x;
    if (!slot_eval(a, when, &env, &v, e)) return false;
    if (!val_number(&v, &x))
        return err_at(e, when->loc, "'when' of adapter '%s' must be true or false",
                      d->name);
    *wrapped = x != 0;
    return true;
}

/* ---- names ---- */

static const char *with_underscores(Arena *a, const char *prefix, const char *path) {
    char *name = arena_printf(a, "%s%s", prefix, path);
    for (char *p = name + strlen(prefix); *p; p++)
        if (*p == '.') *p = '_';
    return name;
}

const char *scheme_prefix(Arena *a, const Doc *network, const char *name,
                          const char *scheme) {
    const YNode *prefix = yaml_get(network->root, "prefix");
    const YNode *own = prefix ? yaml_get(prefix, scheme) : NULL;
    if (own) return own->s;
    return arena_printf(a, strcmp(scheme, "kohya") ? "%s." : "lora_%s_", name);
}

/* ---- matching ---- */

static const Net *net_find(const Net *net, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(net[i].name, name)) return &net[i];
    return NULL;
}

/* The module before this one on the same node, or NULL. */
static const Module *before_on(Match *m, const Node *n) {
    const ScopeSlot *s = scope_find(m->taken, n->at.path);
    return s ? &m->out->item[s->id] : NULL;
}

static bool add_module(Match *m, const Node *n, const char *path, Err *e) {
    const ScopeSlot *taken = scope_find(m->taken, n->at.path);
    if (taken && (int)taken->id >= m->first)
        return true; /* by another pattern, or call */
    Module mod = {.network = m->net->name,
                  .path = path,
                  .adapter = m->entry->doc,
                  .block = n->at.block,
                  .loc = m->entry->loc};
    bool wrapped;
    if (!module_args(m, n, &mod, &wrapped, e)) return false;
    if (!wrapped) return true;
    const Module *old = before_on(m, n);
    if (old && !m->entry->stack)
        return err_at(e, m->entry->loc,
                      "'%s' is wrapped already, by adapter '%s' at %s:%u; "
                      "say 'stack: true' to have both",
                      n->at.path, old->adapter->name,
                      old->loc.src ? old->loc.src->path : "?", old->loc.line);
    const char *prefix = scheme_prefix(m->a, m->net->doc, m->net->name, "kohya");
    mod.name = mod.root = with_underscores(m->a, prefix, path);
    mod.peft = scheme_prefix(m->a, m->net->doc, m->net->name, "peft");
    if (old) {
        const char *plus = strrchr(old->root, '+');
        int count = plus ? plus[1] - '0' : 1;
        if (count == 9)
            return err_at(e, m->entry->loc, "more than 9 adapters on one node");
        mod.root = arena_printf(m->a, "%s+%d", mod.name, count + 1);
    }
    mod.weight = m->g->value[n->in[input_index(n->op, "weight")]]->type;
    mod.weight4 = mod.weight.rank == 4;
    PUSH(m->a, m->out->item, m->out->n, m->out->cap, mod);
    scope_set(m->taken, n->at.path, (Id)m->out->n - 1);
    return true;
}

static bool check_preset(const Match *m, Err *e) {
    const Preset *p = m->entry->preset;
    if (!p) return true;
    const YNode *blocks = yaml_get(m->net->doc->root, "blocks");
    int n = blocks ? blocks->n : 0;
    if (n != p->n_block)
        return err_at(e, m->entry->loc,
                      "preset '%s' has %d blocks, network '%s' has %d", p->doc->name,
                      p->n_block, m->net->name, n);
    for (int i = 0; i < n; i++)
        if (strcmp(blocks->item[i]->s, p->block[i]))
            return err_at(e, m->entry->loc,
                          "block %d of preset '%s' is '%s', of network '%s' it is '%s'",
                          i + 1, p->doc->name, p->block[i], m->net->name,
                          blocks->item[i]->s);
    return true;
}

static bool match_target(Match *m, const AdapterTarget *t, Err *e) {
    int n_pattern = 0;
    while (t->pattern[n_pattern]) n_pattern++;
    bool *hit = NEW(m->a, bool, n_pattern + 1);
    for (uint32_t i = 0; i < m->g->n_node; i++) {
        const Node *n = m->g->node[i];
        const char *path = path_in(n, t->network);
        if (!path || !adapter_wraps(m->entry->doc, n)) continue;
        bool any = false;
        for (int k = 0; k < n_pattern; k++)
            if (pattern_match(t->pattern[k], path)) hit[k] = any = true;
        if (any && !add_module(m, n, path, e)) return false;
    }
    for (int k = 0; k < n_pattern; k++)
        if (!hit[k])
            return err_at(e, t->loc,
                          "'%s' matches no node of network '%s' that adapter '%s' "
                          "can wrap",
                          t->pattern[k], t->network, m->entry->doc->name);
    return true;
}

static bool match_entry(Match *m, int n_net, const Net *net, Err *e) {
    m->first = m->out->n;
    for (int i = 0; i < m->entry->n_on; i++) {
        const AdapterTarget *t = &m->entry->on[i];
        m->net = net_find(net, n_net, t->network);
        if (!m->net) {
            const char **names = NEW(m->a, const char *, n_net + 1);
            for (int k = 0; k < n_net; k++) names[k] = net[k].name;
            return err_at(e, t->loc, "no network '%s' here%s", t->network,
                          did_you_mean(m->a, t->network, names));
        }
        if (!check_preset(m, e) || !match_target(m, t, e)) return false;
    }
    return true;
}

bool modules_match(Arena *a, const Graph *g, const Recipe *r, const Net *net, int n_net,
                   Modules *out, Err *e) {
    Match m = {.a = a, .g = g, .r = r, .taken = scope_new(a), .out = out};
    m.rule_hit = NEW(a, bool, r->n_rule + 1);
    out->item = NULL;
    out->n = out->cap = 0;
    for (int i = 0; i < r->n_adapter; i++) {
        m.entry = &r->adapter[i];
        if (!match_entry(&m, n_net, net, e)) return false;
    }
    for (int i = 0; i < r->n_rule; i++) {
        const AdapterRule *rule = &r->rule[i];
        if (m.rule_hit[i]) continue;
        if (rule_given(rule))
            return err_usage(e, "--set: '%s' matches no adapted node", rule->match);
        return err_at(e, rule->loc, "rule '%s' matches no adapted node", rule->match);
    }
    return true;
}
