/* Formulas to values (language.md section 4). A whole formula becomes one `pointwise` node
 * over x0, x1 ... in order of first appearance; arguments become literals, literals are
 * folded in f64, and a table read becomes an `embedding` node in front of it.
 *
 * Types: a formula over f64 values only (constants, step numbers) is f64, any other f32;
 * f64 operands of the latter are cast, halves are widened, integers are read as they are.
 * Broadcasting: dimensions missing on a value whose first one counts samples are inserted
 * behind that one by a view; then numpy's rule holds. */
#include "graph/lang/build_private.h"

#include <math.h>
#include <string.h>

/* ---- functions ---- */

static double f_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double f_silu(double x) {
    return x * f_sigmoid(x);
}
static double f_gelu(double x) {
    return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
}
static double f_quick_gelu(double x) {
    return x * f_sigmoid(1.702 * x);
}
static double f_sign(double x) {
    return (x > 0) - (x < 0);
}

typedef struct Function {
    const char *name;
    int n;
    double (*one)(double); /* NULL: two or three operands, see fold_call */
} Function;

static const Function functions[] = {
    {"sqrt", 1, sqrt},   {"exp", 1, exp},     {"ln", 1, log},
    {"expm1", 1, expm1}, {"abs", 1, fabs},    {"sign", 1, f_sign},
    {"floor", 1, floor}, {"round", 1, rint},  {"sin", 1, sin},
    {"cos", 1, cos},     {"tanh", 1, tanh},   {"sigmoid", 1, f_sigmoid},
    {"silu", 1, f_silu}, {"gelu", 1, f_gelu}, {"quick_gelu", 1, f_quick_gelu},
    {"min", 2, NULL},    {"max", 2, NULL},    {"clamp", 3, NULL},
    {"where", 3, NULL},
};

static const Function *function_find(const char *name) {
    for (size_t i = 0; i < COUNT(functions); i++)
        if (!strcmp(functions[i].name, name)) return &functions[i];
    return NULL;
}

bool is_formula_function(const char *name) {
    return function_find(name) != NULL;
}

/* ---- folding ---- */

static Expr *expr_new(Arena *a, ExprKind kind, const char *name, int n, Expr **arg,
                      Loc loc) {
    Expr *x = NEW(a, Expr, 1);
    *x = (Expr){.kind = kind, .name = name, .n = n, .arg = arg, .loc = loc};
    return x;
}

static Expr *literal(Arena *a, double v, Loc loc) {
    Expr *x = expr_new(a, EX_NUMBER, NULL, 0, NULL, loc);
    x->number = fabs(v);
    x->is_int = x->number == floor(x->number) && x->number < 0x1p53;
    if (!signbit(v) || v == 0) return x;
    Expr **arg = NEW(a, Expr *, 1);
    arg[0] = x;
    return expr_new(a, EX_UNARY, "-", 1, arg, loc);
}

/* A number, or minus a number. */
static bool is_literal(const Expr *x, double *v) {
    bool minus = x->kind == EX_UNARY && !strcmp(x->name, "-");
    const Expr *n = minus ? x->arg[0] : x;
    if (n->kind != EX_NUMBER) return false;
    *v = minus ? -n->number : n->number;
    return true;
}

static double fold_binary(const char *op, double a, double b) {
    switch (op[0]) {
    case '+':
        return a + b;
    case '-':
        return a - b;
    case '*':
        return a * b;
    case '/':
        return op[1] ? floor(a / b) : a / b;
    case '%':
        return a - b * floor(a / b);
    case '^':
        return pow(a, b);
    case '=':
        return a == b;
    case '!':
        return a != b;
    case '<':
        return op[1] ? a <= b : a < b;
    case '>':
        return op[1] ? a >= b : a > b;
    case 'a':
        return a != 0 && b != 0;
    default:
        return a != 0 || b != 0; /* or */
    }
}

static double fold_call(const char *name, const double *v) {
    switch (name[1]) {
    case 'i':
        return fmin(v[0], v[1]); /* min */
    case 'a':
        return fmax(v[0], v[1]); /* max */
    case 'l':
        return fmin(fmax(v[0], v[1]), v[2]); /* clamp */
    default:
        return v[0] != 0 ? v[1] : v[2]; /* where */
    }
}

/* x, or its value if all operands are literals and the result is finite. */
static Expr *folded(Arena *a, Expr *x) {
    double v[3];
    if (x->n < 1 || x->n > 3) return x;
    for (int i = 0; i < x->n; i++)
        if (!is_literal(x->arg[i], &v[i])) return x;
    double r;
    const Function *f = x->kind == EX_CALL ? function_find(x->name) : NULL;
    if (x->kind == EX_UNARY)
        r = x->name[0] == '-' ? -v[0] : v[0] == 0;
    else if (x->kind == EX_BINARY)
        r = fold_binary(x->name, v[0], v[1]);
    else if (f)
        r = f->one ? f->one(v[0]) : fold_call(x->name, v);
    else
        return x;
    return isfinite(r) ? literal(a, r, x->loc) : x;
}

static bool right_arity(const Expr *x, const Function *f, Err *e) {
    if (x->n == f->n) return true;
    return err_at(e, x->loc, "'%s' got %d operands, want %d", f->name, x->n, f->n);
}

/* `$name` and `$list(i)` as a number. */
static Expr *argument(Arena *a, const Args *args, const Expr *x, Err *e) {
    Env env = {.args = args};
    Val v;
    double number;
    if (!expr_eval(a, x, &env, &v, e)) return NULL;
    if (val_number(&v, &number) && isfinite(number)) return literal(a, number, x->loc);
    Str s = {0};
    val_print(&s, &v);
    err_at(e, x->loc, "'$%s' is %s, want a number", x->name, s.s);
    str_free(&s);
    return NULL;
}

Expr *formula_fold(Arena *a, const Args *args, const Expr *x, Err *e) {
    if (x->kind == EX_ARG || x->kind == EX_ARGCALL) return argument(a, args, x, e);
    const Function *f = x->kind == EX_CALL ? function_find(x->name) : NULL;
    if (f && !right_arity(x, f, e)) return NULL;
    Expr **arg = NEW(a, Expr *, x->n ? x->n : 1);
    for (int i = 0; i < x->n; i++)
        if (!(arg[i] = formula_fold(a, args, x->arg[i], e))) return NULL;
    Expr *y = expr_new(a, x->kind, x->name, x->n, arg, x->loc);
    y->number = x->number;
    y->is_int = x->is_int;
    return folded(a, y);
}

/* ---- values ---- */

/* The matrix form of the wrapped node's weight, and its bias, made when asked for. */
static Id wrapped_value(Ctx *c, const char *name, Err *e) {
    Wrapped *w = c->wrapped;
    Graph *g = c->g;
    Id weight = w->node->in[w->in_weight];
    const Type *t = &g->value[weight]->type;
    if (!strcmp(name, "w")) {
        Type flat =
            type_of(t->dtype, 2, (int64_t[]){t->dim[0], type_count(t) / t->dim[0]});
        return w->w != NO_ID ? w->w : (w->w = graph_view(g, weight, flat, e));
    }
    if (w->b == NO_ID && w->in_bias >= 0 && w->in_bias < w->node->n_in)
        w->b = w->node->in[w->in_bias];
    if (w->b == NO_ID)
        w->b = graph_const(g, type_of(F32, 1, t->dim), NEW(c->a, double, t->dim[0]));
    return w->b;
}

bool value_find(Ctx *c, Level *l, const char *name, Loc loc, Id *out, Err *e) {
    ScopeSlot *s = scope_find(l->scope, name);
    if (!s)
        return err_at(e, loc, "no value '%s' here%s", name,
                      did_you_mean(c->a, name, scope_names(c->a, l->scope)));
    if (s->id == NO_ID) s->id = wrapped_value(c, name, e);
    *out = s->id;
    return *out != NO_ID;
}

Id widen(Graph *g, Id id, bool narrow, Err *e) {
    DType t = g->value[id]->type.dtype;
    bool change = t == F16 || t == BF16 || (t == F64 && narrow);
    return change ? graph_cast(g, id, F32, e) : id;
}

/* Missing dimensions of a per-sample value go behind its first one. */
static Id aligned(Graph *g, Id id, int rank, Err *e) {
    const Value *v = g->value[id];
    if (!v->batch || v->type.rank == 0 || v->type.rank >= rank) return id;
    Type t = v->type;
    int missing = rank - t.rank;
    for (int i = rank - 1; i >= 1; i--) t.dim[i] = i > missing ? t.dim[i - missing] : 1;
    t.rank = rank;
    Id view = graph_view(g, id, t, e);
    if (view != NO_ID) g->value[view]->batch = true;
    return view;
}

static void set_pointwise(const Op *op, void *attrs, const char *f, DType t) {
    *(const char **)((char *)attrs + attr_find(op, "f")->offset) = f;
    *(DType *)((char *)attrs + attr_find(op, "dtype")->offset) = t;
}

Id pointwise(Ctx *c, const char *f, int n, const Id *in, Err *e) {
    Graph *g = c->g;
    const Op *op = op_find("pointwise");
    Id operand[MOST_OPERANDS];
    int rank = 0;
    bool wide = true;
    for (int i = 0; i < n; i++) {
        const Type *t = &g->value[in[i]]->type;
        if (t->rank > rank) rank = t->rank;
        if (t->dtype != F64) wide = false;
    }
    for (int i = 0; i < n; i++) {
        operand[i] = aligned(g, in[i], rank, e);
        if (operand[i] != NO_ID) operand[i] = widen(g, operand[i], !wide, e);
        if (operand[i] == NO_ID) return NO_ID;
    }
    void *attrs = attrs_new(c->a, op);
    set_pointwise(op, attrs, f, wide ? F64 : F32);
    Node *node = graph_add(g, op, attrs, n, operand, e);
    if (!node) return NO_ID;
    mark_batch(g, node);
    return node->out[0];
}

/* ---- from an expression to operands and a formula over them ---- */

typedef struct Lowering {
    Ctx *c;
    Level *l;
    Id in[MOST_OPERANDS];
    int n;
    Err *e;
} Lowering;

static bool expr_value(Ctx *c, Level *l, const Expr *x, Id *out, Err *e);
static Expr *lower(Lowering *w, const Expr *x);

static Expr *operand(Lowering *w, Id id, Loc loc) {
    int i = 0;
    while (i < w->n && w->in[i] != id) i++;
    if (i == MOST_OPERANDS) {
        err_at(w->e, loc, "a formula reads more than %d values", MOST_OPERANDS);
        return NULL;
    }
    if (i == w->n) w->in[w->n++] = id;
    return expr_new(w->c->a, EX_NAME, arena_printf(w->c->a, "x%d", i), 0, NULL, loc);
}

static Expr *lower_name(Lowering *w, const Expr *x) {
    Id id;
    if (!value_find(w->c, w->l, x->name, x->loc, &id, w->e)) return NULL;
    const Value *v = w->c->g->value[id];
    bool number = v->role == ROLE_CONST && v->type.rank == 0 && v->type.dtype == F64;
    if (number && isfinite(v->data[0])) return literal(w->c->a, v->data[0], x->loc);
    return operand(w, id, x->loc);
}

/* Row `ids` of a table. */
static Id table_row(Graph *g, Id ids, Id table, Err *e) {
    const Op *op = op_find("embedding");
    if (g->value[ids]->type.dtype != F64) table = widen(g, table, true, e);
    if (table == NO_ID) return NO_ID;
    Node *n = graph_add(g, op, NULL, 2, (Id[]){ids, table}, e);
    if (!n) return NO_ID;
    mark_batch(g, n);
    return n->out[0];
}

static Expr *lower_table(Lowering *w, const Expr *x) {
    Ctx *c = w->c;
    if (!scope_find(w->l->scope, x->name)) {
        const char *names[COUNT(functions) + 1] = {0};
        for (size_t i = 0; i < COUNT(functions); i++) names[i] = functions[i].name;
        const char *hint = did_you_mean(c->a, x->name, names);
        if (!*hint) hint = did_you_mean(c->a, x->name, scope_names(c->a, w->l->scope));
        err_at(w->e, x->loc, "no function or table '%s'%s", x->name, hint);
        return NULL;
    }
    Id table, ids;
    if (!value_find(c, w->l, x->name, x->loc, &table, w->e)) return NULL;
    if (x->n != 1) {
        err_at(w->e, x->loc, "table '%s' got %d operands, want 1", x->name, x->n);
        return NULL;
    }
    if (c->g->value[table]->type.rank == 0) {
        err_at(w->e, x->loc, "'%s' is a number, not a table", x->name);
        return NULL;
    }
    if (!expr_value(c, w->l, x->arg[0], &ids, w->e)) return NULL;
    Id row = table_row(c->g, ids, table, w->e);
    return row == NO_ID ? NULL : operand(w, row, x->loc);
}

static Expr *lower(Lowering *w, const Expr *x) {
    Arena *a = w->c->a;
    switch (x->kind) {
    case EX_NUMBER:
        return literal(a, x->number, x->loc);
    case EX_NAME:
        return lower_name(w, x);
    case EX_ARG:
    case EX_ARGCALL:
        return argument(a, w->l->args, x, w->e);
    default:
        break;
    }
    const Function *f = x->kind == EX_CALL ? function_find(x->name) : NULL;
    if (x->kind == EX_CALL && !f) return lower_table(w, x);
    if (f && !right_arity(x, f, w->e)) return NULL;
    Expr **arg = NEW(a, Expr *, x->n);
    for (int i = 0; i < x->n; i++)
        if (!(arg[i] = lower(w, x->arg[i]))) return NULL;
    return folded(a, expr_new(a, x->kind, x->name, x->n, arg, x->loc));
}

static bool expr_value(Ctx *c, Level *l, const Expr *x, Id *out, Err *e) {
    if (x->kind == EX_NAME) return value_find(c, l, x->name, x->loc, out, e);
    Lowering w = {.c = c, .l = l, .e = e};
    Expr *y = lower(&w, x);
    if (!y) return false;
    double v;
    if (is_literal(y, &v)) {
        *out = graph_number(c->g, v, F64);
        return true;
    }
    if (y->kind == EX_NAME) { /* a table read by itself */
        *out = w.in[0];
        return true;
    }
    if (!w.n) return err_at(e, x->loc, "this number is not finite");
    Str s = {0};
    expr_print(&s, y);
    const char *text = arena_strndup(c->a, s.s, s.n);
    str_free(&s);
    *out = pointwise(c, text, w.n, w.in, e);
    return *out != NO_ID;
}

bool formula_eval(Ctx *c, Level *l, const YNode *slot, Id *out, Err *e) {
    if (slot->kind != Y_SCALAR)
        return err_at(e, slot->loc, "got a %s, want a formula",
                      slot->kind == Y_LIST ? "list" : "map");
    Expr *x = expr_parse(c->a, slot, e);
    return x && expr_value(c, l, x, out, e);
}
