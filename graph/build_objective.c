/* Objectives and sampler steps: documents around whole networks. */
#include "graph/build_private.h"

#include <string.h>

static bool bind(Arena *a, const Doc *d, const Args *given, Args *out, Err *e) {
    const char *what = arena_printf(a, "%s '%s'", doc_kind_name(d->kind), d->name);
    const Args *some = given ? given : args_new(a);
    return args_bind(a, yaml_get(d->root, "args"), some, what, d->root->loc, out, e) &&
           let_bind(a, d, out, e);
}

/* ---- objectives ---- */

static bool all_given(const Build *b, const bool *seen, const Doc *d, Err *e) {
    for (int i = 0; b->given && b->given[i]; i++)
        if (!seen[i])
            return err_usage(e, "objective '%s' has no node '%s' to give", d->name,
                             b->given[i]);
    return true;
}

static bool loss_outputs(Ctx *c, Level *l, const Doc *d, Err *e) {
    const YNode *loss = yaml_get(d->root, "loss"), *log = yaml_get(d->root, "log");
    Id id;
    if (!loss) return err_at(e, d->root->loc, "objective '%s' has no 'loss'", d->name);
    if (!formula_eval(c, l, loss, &id, e)) return false;
    const Type *t = &c->g->value[id]->type;
    if (t->rank)
        return err_at(e, loss->loc, "the loss must be one number, got %s", shape_text(c->a, t));
    graph_output(c->g, "loss", id);
    for (int i = 0; log && i < log->n; i++) {
        if (!formula_eval(c, l, log->item[i], &id, e)) return false;
        graph_output(c->g, arena_printf(c->a, "log.%s", log->key[i]->s), id);
    }
    return true;
}

bool build_objective(Build *b, const Doc *d, const Args *args, const Args *dims, Err *e) {
    Ctx c = ctx_new(b, NULL);
    Args *bound = args_new(c.a);
    Named *in;
    int n_in, n_given = 0;
    if (!bind(c.a, d, args, bound, e)) return false;
    if (!build_inputs(b, d, bound, dims, "", &in, &n_in, e)) return false;
    while (b->given && b->given[n_given]) n_given++;
    c.given = b->given;
    c.given_seen = NEW(c.a, bool, n_given + 1);
    c.dims = dims;
    c.record = c.calls = true;
    Level l = {.doc = d, .scope = scope_new(c.a), .args = bound, .prefix = ""};
    for (int i = 0; i < n_in; i++) scope_set(l.scope, in[i].name, in[i].value);
    const YNode *nodes = yaml_get(d->root, "nodes");
    return run_nodes(&c, &l, nodes, e) && stacks_empty(&c, d->root->loc, e) &&
           all_given(b, c.given_seen, d, e) && loss_outputs(&c, &l, d, e);
}

/* ---- samplers ---- */

typedef struct Sampler {
    Build *b;
    const Doc *d;
    const Args *args;
    const SamplerModel *model;
    Type latent;
    Type *type; /* of each state */
    Id *start, *next; /* of each state: before the first step, after this one */
} Sampler;

static bool sampler_start(Sampler *s, Ctx *c, Level *l, Err *e) {
    const YNode *state = yaml_get(s->d->root, "state");
    Id noise = graph_value(c->g, ROLE_INPUT, s->latent, "noise", s->d->root->loc);
    c->g->value[noise]->batch = true;
    Level with = *l;
    with.scope = scope_new(c->a);
    for (int i = 0; i < l->scope->n; i++)
        scope_set(with.scope, l->scope->item[i].name, l->scope->item[i].id);
    scope_set(with.scope, "noise", noise);
    for (int i = 0; state && i < state->n; i++)
        if (!formula_eval(c, &with, state->item[i], &s->start[i], e)) return false;
    return true;
}

/* Tables, starts, and one step whose states have s->type (rank -1: that of the start). */
static bool sampler_step(Sampler *s, Err *e) {
    const YNode *root = s->d->root, *state = yaml_get(root, "state");
    Ctx c = ctx_new(s->b, NULL);
    c.model = s->model;
    c.calls = true;
    Level l = {.doc = s->d, .scope = scope_new(c.a), .args = s->args, .prefix = ""};
    if (!run_nodes(&c, &l, yaml_get(root, "tables"), e)) return false;
    if (!sampler_start(s, &c, &l, e)) return false;
    Id k = graph_value(c.g, ROLE_SCALAR, type_scalar(F64), "k", root->loc);
    scope_set(l.scope, "k", k);
    for (int i = 0; state && i < state->n; i++) {
        if (s->type[i].rank < 0) s->type[i] = c.g->value[s->start[i]]->type;
        const char *name = arena_printf(c.a, "state.%s", state->key[i]->s);
        if (s->type[i].dtype == F64) s->type[i].dtype = F32;
        Id id = graph_value(c.g, ROLE_INPUT, s->type[i], name, state->key[i]->loc);
        c.g->value[id]->batch = s->type[i].rank > 0;
        scope_set(l.scope, state->key[i]->s, id);
    }
    if (!run_nodes(&c, &l, yaml_get(root, "step"), e)) return false;
    if (!stacks_empty(&c, root->loc, e)) return false;
    for (int i = 0; state && i < state->n; i++) {
        s->next[i] = scope_find(l.scope, state->key[i]->s)->id;
        s->next[i] = widen(c.g, s->next[i], true, e);
        if (s->next[i] == NO_ID) return false;
    }
    return true;
}

/* A state has the shape of its update: steps are built aside until no type changes. */
static bool state_types(Sampler *s, int n, Err *e) {
    for (int round = 0; round <= n + 1; round++) {
        Arena *a = arena_new();
        Build b = *s->b;
        b.g = graph_new(a, s->d->name);
        Sampler aside = *s;
        aside.b = &b;
        bool ok = sampler_step(&aside, e), changed = false;
        for (int i = 0; ok && i < n; i++) {
            Type t = b.g->value[aside.next[i]]->type;
            if (!type_equal(&t, &s->type[i])) changed = true;
            s->type[i] = t;
        }
        arena_free(a);
        if (!ok) return false;
        if (!changed) return true;
    }
    return err_at(e, s->d->root->loc, "the states of sampler '%s' grow with every step",
                  s->d->name);
}

/* `id` spread to type t. */
static Id spread(Ctx *c, Id id, Type t, Err *e) {
    const Type *from = &c->g->value[id]->type;
    if (type_equal(from, &t)) return id;
    Id zeros = graph_const(c->g, t, NEW(c->a, double, type_count(&t)));
    c->g->value[zeros]->batch = true;
    return pointwise(c, "x0 + x1", 2, (Id[]){id, zeros}, e);
}

bool build_sampler(Build *b, const Doc *d, const Args *args, Type latent,
                   const SamplerModel *model, Err *e) {
    Ctx c = ctx_new(b, NULL);
    const YNode *state = yaml_get(d->root, "state");
    int n = state ? state->n : 0;
    Args *bound = args_new(c.a);
    if (!bind(c.a, d, args, bound, e)) return false;
    Sampler s = {.b = b, .d = d, .args = bound, .model = model, .latent = latent,
                 .type = NEW(c.a, Type, n + 1), .start = NEW(c.a, Id, n + 1),
                 .next = NEW(c.a, Id, n + 1)};
    for (int i = 0; i < n; i++) s.type[i].rank = -1;
    if (!state_types(&s, n, e) || !sampler_step(&s, e)) return false;
    for (int i = 0; i < n; i++) {
        const char *name = state->key[i]->s;
        Id start = spread(&c, s.start[i], s.type[i], e);
        if (start == NO_ID) return false;
        graph_output(b->g, arena_printf(c.a, "start.%s", name), start);
        graph_output(b->g, arena_printf(c.a, "state.%s", name), s.next[i]);
    }
    return true;
}
