/* An optimizer's update as nodes of the graph, for documents that are no program of
 * formulas: ops (means over rows), totals over all parameters, states that are shared or
 * kept as codes.
 *
 * All parameters walk through the update in step, node by node, so that a total can be
 * taken of what each has at that place. A node that depends on shared states and totals
 * alone is made once. In the end every new value is assigned, where `ok` is not 0 and, of
 * a tensor that learns in slices, in the slices that learn: such a tensor is seen with an
 * axis that counts slices put in front of its axis of slices, and every number of its own
 * is one per slice. */
#include "graph/lang/build_private.h"

#include <string.h>

typedef struct State {
    const char *name;
    Loc loc;
    double start;
    bool shared;
    bool coded, is_signed;
    int64_t block, at_least;
} State;

/* One parameter on its way through the update. */
typedef struct Track {
    const UpdateParam *in;
    Ctx c;
    Level l;
    Type type;  /* with the axis of slices */
    Id mask;    /* f32, 1 where slices learn, or NO_ID */
    Type *of;   /* of each state */
    Id *target; /* persistent value of each state; of codes, the codes */
    Id *scale;  /* of codes; else NO_ID */
} Track;

typedef struct Update {
    Build *b;
    Arena *a;
    const Doc *d;
    const Args *args;
    State *state;
    int n_state;
    Track *track;
    int n_track;
    Scope *global; /* names of values that all parameters have in common */
    bool aside;    /* built to learn types, in a graph thrown away */
    Err *e;
} Update;

/* ---- states ---- */

static bool number_of(Update *u, const YNode *n, double *out) {
    Env env = {.args = u->args};
    Val v;
    if (!slot_eval(u->a, n, &env, &v, u->e)) return false;
    return val_number(&v, out) || err_at(u->e, n->loc, "want a number");
}

static bool read_number(Update *u, const YNode *map, const char *key, double def,
                        double *out) {
    const YNode *n = yaml_get(map, key);
    *out = def;
    return !n || number_of(u, n, out);
}

static bool read_state(Update *u, const YNode *key, const YNode *n, State *s) {
    *s = (State){.name = key->s, .loc = key->loc};
    static const char *const taken[] = {"p", "g", "lr"};
    for (size_t i = 0; i < COUNT(taken); i++)
        if (!strcmp(key->s, taken[i]))
            return err_at(u->e, key->loc, "'%s' cannot be a state", key->s);
    if (n->kind == Y_SCALAR) return number_of(u, n, &s->start);
    double shared, block, at_least;
    const YNode *codes = yaml_get(n, "codes");
    if (!read_number(u, n, "start", 0, &s->start) ||
        !read_number(u, n, "shared", 0, &shared) ||
        !read_number(u, n, "block", 256, &block) ||
        !read_number(u, n, "at_least", 1, &at_least))
        return false;
    s->shared = shared != 0;
    s->coded = codes != NULL;
    s->is_signed = codes && !strcmp(codes->s, "signed");
    if (!(block >= 1 && block <= 1 << 20))
        return err_at(u->e, n->loc, "'block' is %g, want 1 to %d", block, 1 << 20);
    s->block = (int64_t)block;
    s->at_least = at_least > 1 && at_least < 1e15 ? (int64_t)at_least : 1;
    if (s->coded && (s->shared || s->start != 0))
        return err_at(u->e, n->loc,
                      "a state with codes starts as 0 and is none that is shared");
    return true;
}

static bool read_states(Update *u) {
    const YNode *state = yaml_get(u->d->root, "state");
    u->n_state = state ? state->n : 0;
    u->state = NEW(u->a, State, u->n_state + 1);
    for (int i = 0; i < u->n_state; i++)
        if (!read_state(u, state->key[i], state->item[i], &u->state[i])) return false;
    return true;
}

static bool is_coded(const State *s, const Track *t) {
    return s->coded && t->in->slice_axis < 0 && type_count(&t->type) >= s->at_least;
}

/* States stay f32 beside a parameter in half. */
static Type in_f32(Type t) {
    t.dtype = F32;
    return t;
}

static Id persistent(Graph *g, const char *name, Type t, double start, Loc loc) {
    Id id = graph_find(g, name);
    if (id != NO_ID) return id;
    id = graph_value(g, ROLE_STATE, t, name, loc);
    Param *p = g->value[id]->param = param_new(g->arena);
    p->init.kind = start == 0 ? INIT_ZEROS : INIT_CONSTANT;
    p->init.number = start;
    return id;
}

static Id decoded(Update *u, Track *t, int i, const char *name) {
    Graph *g = t->c.g;
    const State *s = &u->state[i];
    int64_t n = type_count(&t->type), blocks = (n + s->block - 1) / s->block;
    t->target[i] = persistent(g, arena_printf(u->a, "%s.codes", name),
                              type_of(U8, 1, &n), 0, s->loc);
    t->scale[i] = persistent(g, arena_printf(u->a, "%s.scale", name),
                             type_of(F32, 1, &blocks), 0, s->loc);
    const Op *op = op_find("decode");
    void *at = attrs_new(u->a, op);
    Str shape = {0};
    for (int k = 0; k < t->type.rank; k++)
        str_printf(&shape, "%s%lld", k ? "," : "[", (long long)t->type.dim[k]);
    str_add(&shape, "]");
    Str block = {0};
    str_printf(&block, "%lld", (long long)s->block);
    bool ok = attr_parse(u->a, attr_find(op, "shape"), at, shape.s, u->e) &&
              attr_parse(u->a, attr_find(op, "block"), at, block.s, u->e) &&
              attr_parse(u->a, attr_find(op, "signed"), at,
                         s->is_signed ? "true" : "false", u->e);
    str_free(&shape);
    str_free(&block);
    return ok ? graph_op(g, op, at, 2, (Id[]){t->target[i], t->scale[i]}, u->e) : NO_ID;
}

/* State i in sight of the nodes. */
static bool open_state(Update *u, Track *t, int i) {
    const State *s = &u->state[i];
    Graph *g = t->c.g;
    const char *name = arena_printf(u->a, "%s.%s", t->in->name, s->name);
    Id seen;
    t->scale[i] = NO_ID;
    if (u->aside)
        seen = graph_value(g, ROLE_INPUT, t->of[i], name, s->loc);
    else if (s->shared)
        seen = t->target[i] =
            persistent(g, arena_printf(u->a, "%s.%s", u->d->name, s->name), t->of[i],
                       s->start, s->loc);
    else if (is_coded(s, t))
        seen = decoded(u, t, i, name);
    else
        seen = t->target[i] = persistent(g, name, t->of[i], s->start, s->loc);
    if (seen == NO_ID) return false;
    scope_set(t->l.scope, s->name, seen);
    if (s->shared) scope_set(u->global, s->name, seen);
    return true;
}

/* ---- parameters ---- */

static Type cut_type(const UpdateParam *p, Type t) {
    if (p->slice_axis < 0) return t;
    int a = p->slice_axis;
    for (int i = t.rank; i > a; i--) t.dim[i] = t.dim[i - 1];
    t.rank++;
    t.dim[a] /= p->slice_size;
    t.dim[a + 1] = p->slice_size;
    return t;
}

/* 1 where slices learn, with the axis of slices in its place. */
static bool open_mask(Update *u, Track *t) {
    t->mask = NO_ID;
    if (t->in->active == NO_ID || t->in->slice_axis < 0) return true;
    Type shape = type_scalar(I32);
    shape.rank = t->type.rank - t->in->slice_axis;
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = 1;
    shape.dim[0] = t->type.dim[t->in->slice_axis];
    Id view = graph_view(t->c.g, t->in->active, shape, u->e);
    t->mask = view == NO_ID ? NO_ID : graph_cast(t->c.g, view, F32, u->e);
    return t->mask != NO_ID;
}

static bool open_track(Update *u, Track *t, const UpdateParam *p, const Type *of) {
    Graph *g = u->b->g;
    t->in = p;
    t->type = cut_type(p, g->value[p->p]->type);
    if (t->type.rank > MAX_RANK)
        return err_at(u->e, u->d->root->loc, "'%s' has too many axes to be cut",
                      p->name);
    t->c = ctx_new(u->b, p->name);
    t->c.slices = p->slice_axis;
    t->l =
        (Level){.doc = u->d, .scope = scope_new(u->a), .args = u->args, .prefix = ""};
    t->of = NEW(u->a, Type, u->n_state + 1);
    t->target = NEW(u->a, Id, u->n_state + 1);
    t->scale = NEW(u->a, Id, u->n_state + 1);
    for (int i = 0; i < u->n_state; i++) {
        t->of[i] = of ? of[i] : type_scalar(F64);
        if (is_coded(&u->state[i], t)) t->of[i] = in_f32(t->type);
    }
    Id value[] = {graph_view(g, p->p, t->type, u->e),
                  graph_view(g, p->grad, t->type, u->e), p->lr};
    static const char *const name[] = {"p", "g", "lr"};
    for (int i = 0; i < 3; i++) {
        if (value[i] == NO_ID) return false;
        scope_set(t->l.scope, name[i], value[i]);
    }
    if (!open_mask(u, t)) return false;
    for (int i = 0; i < u->n_state; i++)
        if (!open_state(u, t, i)) return false;
    return true;
}

/* ---- nodes ---- */

static Id masked(Update *u, Track *t, Id x, Id otherwise) {
    if (t->mask == NO_ID) return x;
    bool wide = t->c.g->value[x]->type.dtype == F64 &&
                (otherwise == NO_ID || t->c.g->value[otherwise]->type.dtype == F64);
    Id mask = wide ? graph_cast(t->c.g, t->mask, F64, u->e) : t->mask;
    if (mask == NO_ID) return NO_ID;
    if (otherwise == NO_ID)
        return pointwise(&t->c, "where(x0 != 0, x1, 0)", 2, (Id[]){mask, x}, u->e);
    return pointwise(&t->c, "where(x0 != 0, x1, x2)", 3, (Id[]){mask, x, otherwise},
                     u->e);
}

/* `total: FORMULA`: added up within each parameter, then over them. */
static bool run_total(Update *u, const YNode *key, const YNode *n) {
    Graph *g = u->b->g;
    const Op *sum = op_find("sum");
    Id *part = NEW(u->a, Id, u->n_track);
    if (n->n != 1)
        return err_at(u->e, n->loc, "no other key stands beside 'total' in '%s'",
                      key->s);
    for (int i = 0; i < u->n_track; i++) {
        Track *t = &u->track[i];
        Id x;
        if (!formula_eval(&t->c, &t->l, yaml_get(n, "total"), &x, u->e)) return false;
        if ((x = masked(u, t, x, NO_ID)) == NO_ID) return false;
        IntList over = {0};
        while (over.n < g->value[x]->type.rank) over.v[over.n] = over.n, over.n++;
        void *at = attrs_new(u->a, sum);
        *(IntList *)((char *)at + attr_find(sum, "over")->offset) = over;
        part[i] = over.n ? graph_op(g, sum, at, 1, &x, u->e) : x;
        if (part[i] == NO_ID) return false;
    }
    Id all = graph_op(g, op_find("total"), NULL, u->n_track, part, u->e);
    for (int i = 0; all != NO_ID && i < u->n_track; i++)
        scope_set(u->track[i].l.scope, key->s, all);
    scope_set(u->global, key->s, all);
    return all != NO_ID;
}

static bool only_global(const Update *u, const Expr *x) {
    if (x->kind == EX_NAME && !scope_find(u->global, x->name)) return false;
    for (int i = 0; i < x->n; i++)
        if (!only_global(u, x->arg[i])) return false;
    return true;
}

/* Is the node a formula over values that all parameters have in common? */
static bool is_global(const Update *u, const YNode *n) {
    static const char *const slots[] = {"is", "else"};
    Err ignored = {0};
    if (n->kind == Y_SCALAR) {
        const Expr *x = expr_parse(u->a, n, &ignored);
        return x && only_global(u, x);
    }
    if (!yaml_get(n, "is")) return false;
    for (size_t i = 0; i < COUNT(slots); i++) {
        const YNode *slot = yaml_get(n, slots[i]);
        const Expr *x = slot ? expr_parse(u->a, slot, &ignored) : NULL;
        if (slot && (!x || !only_global(u, x))) return false;
    }
    return true;
}

static const State *shared_state(const Update *u, const char *name) {
    for (int i = 0; i < u->n_state; i++)
        if (u->state[i].shared && !strcmp(u->state[i].name, name)) return &u->state[i];
    return NULL;
}

static bool run_one(Update *u, const YNode *key, const YNode *n) {
    if (!strcmp(key->s, "g") || !strcmp(key->s, "lr"))
        return err_at(u->e, key->loc, "'%s' is given and cannot be changed", key->s);
    if (n->kind == Y_MAP && yaml_get(n, "total")) return run_total(u, key, n);
    bool global = is_global(u, n);
    if (shared_state(u, key->s) && !global)
        return err_at(u->e, key->loc,
                      "'%s' is one number for all parameters, but this reads what each "
                      "has for itself; `total` adds up over them",
                      key->s);
    for (int i = 0; i < u->n_track; i++) {
        Track *t = &u->track[i];
        if (i && global)
            scope_set(t->l.scope, key->s, scope_find(u->global, key->s)->id);
        else if (!run_node(&t->c, &t->l, key, n, u->e))
            return false;
        if (!i && global)
            scope_set(u->global, key->s, scope_find(t->l.scope, key->s)->id);
    }
    /* a later reading of the name must not find an older common value */
    if (!global && scope_find(u->global, key->s))
        return err_at(u->e, key->loc,
                      "'%s' was common to all parameters and is not "
                      "here: give it another name",
                      key->s);
    return true;
}

/* ---- types of states ---- */

/* The value of state i after the update. */
static Id next_of(Update *u, Track *t, int i) {
    Id now = scope_find(t->l.scope, u->state[i].name)->id;
    DType d = t->c.g->value[now]->type.dtype;
    return d == F64 || d == F32 ? now : graph_cast(t->c.g, now, F32, u->e);
}

/* The shape that slices give to a number of their own. */
static Type per_slice(const Track *t, Type x) {
    if (t->mask == NO_ID) return x;
    Type shape = type_scalar(x.dtype), out = x;
    shape.rank = t->type.rank - t->in->slice_axis;
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = 1;
    shape.dim[0] = t->type.dim[t->in->slice_axis];
    type_broadcast(&x, &shape, &out);
    out.dtype = x.dtype;
    return out;
}

/* One parameter alone, in a graph thrown away: the types that its states take. */
static bool types_once(Update *u, const UpdateParam *p, Type *of, bool *changed) {
    Graph *from = u->b->g;
    Build b = *u->b;
    Arena *a = arena_new();
    b.g = graph_new(a, u->d->name);
    Update s = *u;
    s.b = &b;
    s.a = a;
    s.aside = true;
    s.n_track = 1;
    s.track = NEW(a, Track, 1);
    s.global = scope_new(a);
    Type t = from->value[p->p]->type;
    UpdateParam q = *p;
    q.p = graph_value(b.g, ROLE_INPUT, t, "p", u->d->root->loc);
    q.grad = graph_value(b.g, ROLE_INPUT, t, "g", u->d->root->loc);
    q.lr = graph_value(b.g, ROLE_SCALAR, type_scalar(F64), "lr", u->d->root->loc);
    if (p->active != NO_ID)
        q.active = graph_value(b.g, ROLE_INPUT, from->value[p->active]->type, "active",
                               u->d->root->loc);
    const YNode *update = yaml_get(u->d->root, "update");
    bool ok = open_track(&s, &s.track[0], &q, of);
    for (int i = 0; ok && i < update->n; i++)
        ok = run_one(&s, update->key[i], update->item[i]);
    *changed = false;
    for (int i = 0; ok && i < u->n_state; i++) {
        Id id = next_of(&s, &s.track[0], i);
        if (id == NO_ID) ok = false;
        if (!ok) break;
        Type now = b.g->value[id]->type;
        if (!u->state[i].shared) now = per_slice(&s.track[0], now);
        if (is_coded(&u->state[i], &s.track[0])) now = in_f32(s.track[0].type);
        *changed |= !type_equal(&now, &of[i]);
        of[i] = now;
    }
    arena_free(a);
    return ok;
}

static bool settle(Update *u, const UpdateParam *p, Type *of) {
    bool changed = true;
    for (int i = 0; i < u->n_state; i++) of[i] = type_scalar(F64);
    for (int round = 0; changed && round <= u->n_state + 1; round++)
        if (!types_once(u, p, of, &changed)) return false;
    return !changed || err_at(u->e, u->d->root->loc,
                              "the states of optimizer '%s' change their shape with "
                              "every update",
                              u->d->name);
}

static bool same_kind(const Graph *g, const UpdateParam *a, const UpdateParam *b) {
    return type_equal(&g->value[a->p]->type, &g->value[b->p]->type) &&
           a->slice_axis == b->slice_axis && a->slice_size == b->slice_size &&
           (a->active == NO_ID) == (b->active == NO_ID);
}

static bool open_tracks(Update *u, const UpdateParam *p) {
    Type **of = NEW(u->a, Type *, u->n_track + 1);
    for (int i = 0; i < u->n_track; i++) {
        int k = 0;
        while (k < i && !same_kind(u->b->g, &p[k], &p[i])) k++;
        of[i] = k < i ? of[k] : NEW(u->a, Type, u->n_state + 1);
        if (k == i && !settle(u, &p[i], of[i])) return false;
        if (!open_track(u, &u->track[i], &p[i], of[i])) return false;
    }
    return true;
}

/* ---- new values ---- */

static bool assign(Update *u, Id target, Id value, Id ok) {
    return graph_op(u->b->g, op_find("assign"), NULL, 3, (Id[]){target, value, ok},
                    u->e) != NO_ID;
}

/* x in the type of the persistent value, where slices learn. */
static Id settled(Update *u, Track *t, Id x, Id old, const Type *as, const char *what) {
    Graph *g = u->b->g;
    x = masked(u, t, x, old);
    if (x != NO_ID) x = graph_cast(g, x, as->dtype, u->e);
    if (x == NO_ID) return NO_ID;
    const Type *got = &g->value[x]->type;
    if (type_equal(got, as)) return x;
    err_at(u->e, u->d->root->loc, "the new '%s' of optimizer '%s' is %s, want %s", what,
           u->d->name, type_text(u->a, got), type_text(u->a, as));
    return NO_ID;
}

static bool close_codes(Update *u, Track *t, int i, Id x, Id ok) {
    const State *s = &u->state[i];
    const Op *op = op_find("encode");
    void *at = attrs_new(u->a, op);
    Str block = {0};
    str_printf(&block, "%lld", (long long)s->block);
    bool fine = attr_parse(u->a, attr_find(op, "block"), at, block.s, u->e) &&
                attr_parse(u->a, attr_find(op, "signed"), at,
                           s->is_signed ? "true" : "false", u->e);
    str_free(&block);
    const Type as = in_f32(t->type);
    x = fine ? settled(u, t, x, NO_ID, &as, s->name) : NO_ID;
    Node *n = x == NO_ID ? NULL : graph_add(u->b->g, op, at, 1, &x, u->e);
    return n && assign(u, t->target[i], n->out[0], ok) &&
           assign(u, t->scale[i], n->out[1], ok);
}

static bool close_state(Update *u, Track *t, int i, Id ok) {
    const State *s = &u->state[i];
    Id x = next_of(u, t, i);
    if (x == NO_ID) return false;
    if (x == t->target[i]) return true; /* nothing changes it */
    if (is_coded(s, t)) return close_codes(u, t, i, x, ok);
    const Type *as = &u->b->g->value[t->target[i]]->type;
    if (s->shared && t != u->track) return true;
    if (!s->shared) x = settled(u, t, x, t->target[i], as, s->name);
    return x != NO_ID && assign(u, t->target[i], x, ok);
}

static bool close_track(Update *u, Track *t, Id ok) {
    const Type *as = &u->b->g->value[t->in->p]->type;
    Id p = scope_find(t->l.scope, "p")->id;
    Id old = graph_view(u->b->g, t->in->p, t->type, u->e);
    if (old == NO_ID) return false;
    if (p != old && !t->in->watch) {
        p = settled(u, t, p, old, &t->type, "p");
        if (p != NO_ID) p = graph_view(u->b->g, p, *as, u->e);
        if (p == NO_ID || !assign(u, t->in->p, p, ok)) return false;
    }
    for (int i = 0; i < u->n_state; i++)
        if (!close_state(u, t, i, ok)) return false;
    return true;
}

bool build_update_nodes(Build *b, const Doc *d, const Args *args, const UpdateParam *p,
                        int n, Id ok, Err *e) {
    Update u = {.b = b, .a = b->g->arena, .d = d, .n_track = n, .e = e};
    Args *bound = args_new(u.a);
    if (!doc_bind(u.a, d, args, bound, e)) return false;
    u.args = bound;
    u.track = NEW(u.a, Track, n + 1);
    u.global = scope_new(u.a);
    const YNode *update = yaml_get(d->root, "update");
    if (!yaml_get(update, "p") && !(n && p[0].watch))
        return err_at(e, d->root->loc, "optimizer '%s' gives no new 'p'", d->name);
    if (!read_states(&u) || !open_tracks(&u, p)) return false;
    for (int i = 0; i < update->n; i++)
        if (!run_one(&u, update->key[i], update->item[i])) return false;
    for (int i = 0; i < n; i++)
        if (!close_track(&u, &u.track[i], ok)) return false;
    return true;
}

bool update_is_program(const Doc *d) {
    const YNode *state = yaml_get(d->root, "state"),
                *update = yaml_get(d->root, "update");
    for (int i = 0; state && i < state->n; i++)
        if (state->item[i]->kind != Y_SCALAR) return false;
    for (int i = 0; update && i < update->n; i++)
        if (update->item[i]->kind != Y_SCALAR && !yaml_get(update->item[i], "is"))
            return false;
    return true;
}
