/* An optimizer document as one program: the statements of its update, arguments replaced
 * by numbers. A state is one number per slice if nothing elementwise (p, g, or a state
 * that is not such a number) flows into it. */
#include "graph/lang/build_private.h"

#include <string.h>

/* A name of the program: p, g, lr, a state, or a statement's. */
typedef struct Name {
    const char *name;
    bool wide; /* elementwise: differs from element to element */
} Name;

typedef struct Program {
    Arena *a;
    const Doc *d;
    const Args *args;
    const YNode **key;
    Expr **expr;
    int n;
    UpdateState *state;
    int n_state;
} Program;

/* The formula of an update node with `when` decided; NULL with a message if it is an op. */
static const YNode *formula_of(Program *p, const YNode *key, const YNode *n, Err *e) {
    if (n->kind == Y_SCALAR) return n;
    const YNode *is = yaml_get(n, "is"), *when = yaml_get(n, "when");
    const YNode *other = yaml_get(n, "else");
    if (!is) {
        err_at(e, n->loc,
               "node '%s' of optimizer '%s' is not a formula; an update that runs "
               "must consist of formulas",
               key->s, p->d->name);
        return NULL;
    }
    if (!when) return is;
    Env env = {.args = p->args};
    Val v;
    double x;
    if (!slot_eval(p->a, when, &env, &v, e)) return NULL;
    if (!val_number(&v, &x)) {
        err_at(e, when->loc, "'when' must be true or false");
        return NULL;
    }
    if (x != 0) return is;
    if (!other)
        err_at(e, n->loc,
               "node '%s' may be left out ('when') and has no 'x' to pass on: "
               "give 'else'",
               key->s);
    return other;
}

static bool read_statements(Program *p, Err *e) {
    const YNode *update = yaml_get(p->d->root, "update");
    int n = update ? update->n : 0;
    p->key = NEW(p->a, const YNode *, n + 1);
    p->expr = NEW(p->a, Expr *, n + 1);
    for (int i = 0; i < n; i++) {
        const YNode *key = update->key[i], *f = formula_of(p, key, update->item[i], e);
        if (!f) return false;
        if (is_formula_function(key->s))
            return err_at(e, key->loc, "'%s' is a function and cannot name a value",
                          key->s);
        if (!strcmp(key->s, "g") || !strcmp(key->s, "lr"))
            return err_at(e, key->loc, "'%s' is given and cannot be changed", key->s);
        Expr *x = expr_parse(p->a, f, e);
        p->key[i] = key;
        p->expr[i] = x ? formula_fold(p->a, p->args, x, e) : NULL;
        if (!p->expr[i]) return false;
    }
    p->n = n;
    return true;
}

static bool read_states(Program *p, Err *e) {
    const YNode *state = yaml_get(p->d->root, "state");
    p->n_state = state ? state->n : 0;
    p->state = NEW(p->a, UpdateState, p->n_state + 1);
    for (int i = 0; i < p->n_state; i++) {
        const char *name = state->key[i]->s;
        if (!strcmp(name, "p") || !strcmp(name, "g") || !strcmp(name, "lr"))
            return err_at(e, state->key[i]->loc, "'%s' cannot be a state", name);
        Expr *x = expr_parse(p->a, state->item[i], e);
        Val v;
        Env env = {.args = p->args};
        if (!x || !(x = formula_fold(p->a, p->args, x, e))) return false;
        if (!expr_eval(p->a, x, &env, &v, e)) return false;
        p->state[i] = (UpdateState){.name = name, .scalar = true};
        if (!val_number(&v, &p->state[i].start))
            return err_at(e, state->item[i]->loc, "a state starts as a number");
    }
    return true;
}

static Name *name_find(Name *list, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

/* Is the value of x elementwise? Every name must be known. */
static bool reads(Program *p, const Expr *x, Name *list, int n, bool *wide, Err *e) {
    if (x->kind == EX_NAME) {
        const Name *m = name_find(list, n, x->name);
        if (m) *wide |= m->wide;
        if (m) return true;
        const char **names = NEW(p->a, const char *, n + 1);
        for (int i = 0; i < n; i++) names[i] = list[i].name;
        return err_at(e, x->loc, "no value '%s' here%s", x->name,
                      did_you_mean(p->a, x->name, names));
    }
    if (x->kind == EX_CALL && !is_formula_function(x->name))
        return err_at(e, x->loc, "no function '%s'; an update has no tables", x->name);
    for (int i = 0; i < x->n; i++)
        if (!reads(p, x->arg[i], list, n, wide, e)) return false;
    return true;
}

/* One walk over the statements; changed: some state turned out to be elementwise. */
static bool walk(Program *p, bool *changed, Err *e) {
    Name *list = NEW(p->a, Name, 3 + p->n_state + p->n);
    int n = 0;
    list[n++] = (Name){"p", true};
    list[n++] = (Name){"g", true};
    list[n++] = (Name){"lr", false};
    for (int i = 0; i < p->n_state; i++)
        list[n++] = (Name){p->state[i].name, !p->state[i].scalar};
    *changed = false;
    for (int i = 0; i < p->n; i++) {
        bool wide = false;
        if (!reads(p, p->expr[i], list, n, &wide, e)) return false;
        Name *m = name_find(list, n, p->key[i]->s);
        if (!m)
            list[n++] = (Name){p->key[i]->s, wide};
        else
            m->wide = wide;
        for (int k = 0; k < p->n_state; k++) {
            if (strcmp(p->state[k].name, p->key[i]->s) || !p->state[k].scalar || !wide)
                continue;
            p->state[k].scalar = false;
            *changed = true;
        }
    }
    return true;
}

bool build_update(Arena *a, const Doc *d, const Args *args, UpdateProgram *out,
                  Err *e) {
    Args *bound = args_new(a);
    if (!doc_bind(a, d, args, bound, e)) return false;
    Program p = {.a = a, .d = d, .args = bound};
    if (!read_statements(&p, e) || !read_states(&p, e)) return false;
    bool changed = true, has_p = false;
    while (changed)
        if (!walk(&p, &changed, e)) return false;
    Str s = {0};
    for (int i = 0; i < p.n; i++) {
        str_printf(&s, "%s%s = ", i ? "; " : "", p.key[i]->s);
        expr_print(&s, p.expr[i]);
        has_p |= !strcmp(p.key[i]->s, "p");
    }
    *out = (UpdateProgram){s.s ? arena_strndup(a, s.s, s.n) : "", p.state, p.n_state};
    str_free(&s);
    if (has_p) return true;
    return err_at(e, d->root->loc, "optimizer '%s' gives no new 'p'", d->name);
}
