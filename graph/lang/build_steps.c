/* Samplers: documents that carry values from step to step. A state has the shape of its
 * update, so steps are built aside, in graphs thrown away, until no state's type changes
 * any more; then once for good. */
#include "graph/lang/build_private.h"

#include <string.h>

typedef struct Steps {
    Build *b;
    const Doc *d;
    const Args *args;
    const SamplerModel *model;
    Type type; /* of the latent */
    const YNode *state;
    int n;
    Type *of;         /* type of each state; rank -1: not known, that of its start */
    Id *start, *next; /* each state before the first step and after this one */
    Id picture;       /* NO_ID: the sampler has no such thing */
} Steps;

static Id input(Ctx *c, Level *l, const char *name, const char *as, Type t, bool batch,
                Loc loc) {
    Id id = graph_value(c->g, ROLE_INPUT, t, name, loc);
    c->g->value[id]->batch = batch;
    scope_set(l->scope, as, id);
    return id;
}

/* The level with names of its own beside those that it has. */
static Level with_names(const Ctx *c, const Level *l) {
    Level with = *l;
    with.scope = scope_new(c->a);
    for (int i = 0; i < l->scope->n; i++)
        scope_set(with.scope, l->scope->item[i].name, l->scope->item[i].id);
    return with;
}

/* Starts see the tables, and `noise`. */
static bool starts(Steps *s, Ctx *c, Level *l, Err *e) {
    Level with = with_names(c, l);
    input(c, &with, "noise", "noise", s->type, true, s->d->root->loc);
    for (int i = 0; i < s->n; i++)
        if (!formula_eval(c, &with, s->state->item[i], &s->start[i], e)) return false;
    return true;
}

/* The state x at run k if it was a picture's latent with noise. */
static bool picture(Steps *s, Ctx *c, const Level *l, Err *e) {
    const YNode *x = yaml_get(yaml_get(s->d->root, "picture"), "x");
    s->picture = NO_ID;
    if (!x) return true;
    Level with = with_names(c, l);
    scope_set(with.scope, "noise", graph_find(c->g, "noise"));
    input(c, &with, "image", "image", s->type, true, x->loc);
    return formula_eval(c, &with, x, &s->picture, e);
}

/* Tables, starts, one step. */
static bool one_step(Steps *s, Err *e) {
    const YNode *root = s->d->root;
    Ctx c = ctx_new(s->b, NULL);
    c.model = s->model;
    c.calls = s->model != NULL;
    Level l = {.doc = s->d, .scope = scope_new(c.a), .args = s->args, .prefix = ""};
    if (!run_nodes(&c, &l, yaml_get(root, "tables"), e) || !starts(s, &c, &l, e))
        return false;
    scope_set(l.scope, "k",
              graph_value(c.g, ROLE_SCALAR, type_scalar(F64), "k", root->loc));
    if (!picture(s, &c, &l, e)) return false;
    for (int i = 0; i < s->n; i++) {
        const char *name = s->state->key[i]->s;
        if (s->of[i].rank < 0) s->of[i] = c.g->value[s->start[i]]->type;
        if (s->of[i].dtype == F64) s->of[i].dtype = F32;
        bool batch = s->of[i].rank > 0;
        input(&c, &l, arena_printf(c.a, "state.%s", name), name, s->of[i], batch,
              s->state->key[i]->loc);
    }
    if (!run_nodes(&c, &l, yaml_get(root, "step"), e)) return false;
    if (!stacks_empty(&c, root->loc, e)) return false;
    for (int i = 0; i < s->n; i++) {
        Id id = scope_find(l.scope, s->state->key[i]->s)->id;
        s->next[i] = widen(c.g, id, true, e);
        if (s->next[i] == NO_ID) return false;
    }
    return true;
}

static bool settle_types(Steps *s, Err *e) {
    for (int round = 0; round <= s->n + 1; round++) {
        Arena *a = arena_new();
        Build b = *s->b;
        b.g = graph_new(a, s->d->name);
        Steps aside = *s;
        aside.b = &b;
        bool ok = one_step(&aside, e), changed = false;
        for (int i = 0; ok && i < s->n; i++) {
            Type t = b.g->value[aside.next[i]]->type;
            changed |= !type_equal(&t, &s->of[i]);
            s->of[i] = t;
        }
        arena_free(a);
        if (!ok) return false;
        if (!changed) return true;
    }
    return err_at(e, s->d->root->loc,
                  "the states of sampler '%s' change their shape with every step",
                  s->d->name);
}

/* `id` spread to type t. */
static Id spread(Ctx *c, Id id, Type t, Err *e) {
    if (type_equal(&c->g->value[id]->type, &t)) return id;
    Id zeros = graph_const(c->g, t, NEW(c->a, double, type_count(&t)));
    c->g->value[zeros]->batch = true;
    return pointwise(c, "x0 + x1", 2, (Id[]){id, zeros}, e);
}

bool build_sampler(Build *b, const Doc *d, const Args *args, Type latent,
                   const SamplerModel *model, Err *e) {
    Ctx c = ctx_new(b, NULL);
    Args *bound = args_new(c.a);
    if (!doc_bind(c.a, d, args, bound, e)) return false;
    const YNode *state = yaml_get(d->root, "state");
    int n = state ? state->n : 0;
    Steps s = {.b = b,
               .d = d,
               .args = bound,
               .model = model,
               .type = latent,
               .state = state,
               .n = n,
               .of = NEW(c.a, Type, n + 1),
               .start = NEW(c.a, Id, n + 1),
               .next = NEW(c.a, Id, n + 1)};
    for (int i = 0; i < n; i++) s.of[i].rank = -1;
    if (!settle_types(&s, e) || !one_step(&s, e)) return false;
    for (int i = 0; i < n; i++) {
        const char *name = state->key[i]->s;
        Id start = spread(&c, s.start[i], s.of[i], e);
        if (start == NO_ID) return false;
        graph_output(b->g, arena_printf(c.a, "start.%s", name), start);
        graph_output(b->g, arena_printf(c.a, "state.%s", name), s.next[i]);
    }
    if (s.picture == NO_ID) return true;
    const Id noised = widen(c.g, s.picture, true, e);
    if (noised == NO_ID) return false;
    graph_output(b->g, "picture.x", noised);
    return true;
}

static bool slot_number(Arena *a, const YNode *slot, const Args *bound, double *n,
                        Err *e) {
    Env env = {.args = bound};
    Val v = {.kind = VAL_NONE};
    return slot_eval(a, slot, &env, &v, e) &&
           (val_number(&v, n) || err_at(e, slot->loc, "want a number"));
}

bool sampler_first(Arena *a, const Doc *d, const Args *args, int64_t *run, Err *e) {
    Args *bound = args_new(a);
    int64_t runs;
    double n;
    const YNode *slot = yaml_get(yaml_get(d->root, "picture"), "run");
    if (!slot)
        return err_at(e, d->root->loc,
                      "sampler '%s' does not say how it begins with a picture: it has "
                      "no 'picture:'",
                      d->name);
    if (!sampler_runs(a, d, args, &runs, e) || !doc_bind(a, d, args, bound, e) ||
        !slot_number(a, slot, bound, &n, e))
        return false;
    if (!(n >= 0 && n < (double)runs && n == (double)(int64_t)n))
        return err_at(e, slot->loc,
                      "sampler '%s' would begin with run %g, want one of 0 ... %lld",
                      d->name, n, (long long)runs - 1);
    *run = (int64_t)n;
    return true;
}

bool sampler_runs(Arena *a, const Doc *d, const Args *args, int64_t *runs, Err *e) {
    enum { MOST = 10000 };
    Args *bound = args_new(a);
    if (!doc_bind(a, d, args, bound, e)) return false;
    const YNode *slot = yaml_get(d->root, "runs");
    Env env = {.args = bound};
    Val v = {.kind = VAL_NONE};
    if (slot && !slot_eval(a, slot, &env, &v, e)) return false;
    const Val *steps = slot ? &v : args_get(bound, "steps");
    double n;
    if (!steps || !val_number(steps, &n))
        return err_at(e, slot ? slot->loc : d->root->loc,
                      "sampler '%s' does not say how often it runs: it wants a number "
                      "'runs:' or the argument 'steps'",
                      d->name);
    if (!(n >= 1 && n <= MOST && n == (double)(int64_t)n))
        return err_at(e, slot ? slot->loc : d->root->loc,
                      "sampler '%s' would run %g times, want 1 ... %d", d->name, n,
                      MOST);
    *runs = (int64_t)n;
    return true;
}
