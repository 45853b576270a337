/* Shared expressions: building with simplification, reading and printing. The derivative
 * rules stand in formula_grad.c. */
#include "kernels/formula.h"
#include "graph/lang/expr.h"

#include <math.h>
#include <string.h>

/* ---- the functions: names, operands, values ---- */

static const struct {
    const char *name;
    int arity;
    bool infix; /* name is an operator of the grammar */
} functions[F_OPS] = {
    /* clang-format off */
    [F_NUMBER] = {"", 0, 0},        [F_VAR] = {"", 0, 0},
    [F_NEG] = {"-", 1, 1},          [F_NOT] = {"not", 1, 1},
    [F_ADD] = {"+", 2, 1},          [F_SUB] = {"-", 2, 1},
    [F_MUL] = {"*", 2, 1},          [F_DIV] = {"/", 2, 1},
    [F_FLOORDIV] = {"//", 2, 1},    [F_MOD] = {"%", 2, 1},
    [F_POW] = {"^", 2, 1},          [F_EQ] = {"==", 2, 1},
    [F_NE] = {"!=", 2, 1},          [F_LT] = {"<", 2, 1},
    [F_LE] = {"<=", 2, 1},          [F_GT] = {">", 2, 1},
    [F_GE] = {">=", 2, 1},          [F_AND] = {"and", 2, 1},
    [F_OR] = {"or", 2, 1},          [F_SQRT] = {"sqrt", 1, 0},
    [F_EXP] = {"exp", 1, 0},        [F_LN] = {"ln", 1, 0},
    [F_EXPM1] = {"expm1", 1, 0},    [F_ABS] = {"abs", 1, 0},
    [F_SIGN] = {"sign", 1, 0},      [F_FLOOR] = {"floor", 1, 0},
    [F_ROUND] = {"round", 1, 0},    [F_SIN] = {"sin", 1, 0},
    [F_COS] = {"cos", 1, 0},        [F_TANH] = {"tanh", 1, 0},
    [F_SIGMOID] = {"sigmoid", 1, 0}, [F_SILU] = {"silu", 1, 0},
    [F_GELU] = {"gelu", 1, 0},      [F_QUICK_GELU] = {"quick_gelu", 1, 0},
    [F_ERF] = {"erf", 1, 0},        [F_MIN] = {"min", 2, 0},
    [F_MAX] = {"max", 2, 0},        [F_WHERE] = {"where", 3, 0},
    /* clang-format on */
};

int formula_arity(FOp op) {
    return functions[op].arity;
}

#define T        double
#define FN(name) name
#define APPLY    apply
#include "kernels/formula_apply.h"

double formula_apply(FOp op, double a, double b, double c) {
    return apply(op, a, b, c);
}

/* ---- nodes ---- */

Formula *formula_new(Arena *a) {
    Formula *f = NEW(a, Formula, 1);
    f->arena = a;
    return f;
}

static uint64_t bits(double x) {
    union {
        double x;
        uint64_t u;
    } v = {x};
    return v.u;
}

static uint32_t hash(const FNode *n) {
    uint64_t h = 0x9E3779B97F4A7C15u * (uint64_t)(n->op + 1);
    h = (h ^ (uint64_t)(uint32_t)n->a) * 0x100000001B3u;
    h = (h ^ (uint64_t)(uint32_t)n->b) * 0x100000001B3u;
    h = (h ^ (uint64_t)(uint32_t)n->c) * 0x100000001B3u;
    h = (h ^ bits(n->x)) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

static bool same(const FNode *a, const FNode *b) {
    return a->op == b->op && a->a == b->a && a->b == b->b && a->c == b->c &&
           bits(a->x) == bits(b->x);
}

static int find_slot(const Formula *f, const FNode *n) {
    int i = (int)(hash(n) & (uint32_t)(f->n_slot - 1));
    while (f->slot[i] >= 0 && !same(&f->node[f->slot[i]], n))
        i = (i + 1) & (f->n_slot - 1);
    return i;
}

static void grow_slots(Formula *f) {
    f->n_slot = f->n_slot ? 2 * f->n_slot : 64;
    f->slot = NEW(f->arena, int, f->n_slot);
    memset(f->slot, 0xff, (size_t)f->n_slot * sizeof(int));
    for (int i = 0; i < f->n; i++) f->slot[find_slot(f, &f->node[i])] = i;
}

static int share(Formula *f, FNode n) {
    if (2 * (f->n + 1) > f->n_slot) grow_slots(f);
    int slot = find_slot(f, &n);
    if (f->slot[slot] >= 0) return f->slot[slot];
    if (n.op == F_ADD ||
        n.op == F_MUL) { /* the same with operands swapped, bit for bit */
        FNode m = n;
        m.a = n.b, m.b = n.a;
        int other = find_slot(f, &m);
        if (f->slot[other] >= 0) return f->slot[other];
    }
    f->slot[slot] = f->n;
    PUSH(f->arena, f->node, f->n, f->cap, n);
    return f->n - 1;
}

int formula_number(Formula *f, double x) {
    return share(f, (FNode){F_NUMBER, 0, 0, 0, x});
}
int formula_var(Formula *f, int number) {
    return share(f, (FNode){F_VAR, number, 0, 0, 0});
}

static bool is(const Formula *f, int i, double x) {
    return f->node[i].op == F_NUMBER && f->node[i].x == x;
}
static bool is_op(const Formula *f, int i, FOp op) {
    return f->node[i].op == op;
}
static int neg(Formula *f, int i) {
    return formula_add(f, F_NEG, i, 0, 0);
}

/* x + y and x - y; -1: nothing to simplify */
static int simplify_sum(Formula *f, FOp op, int a, int b) {
    bool minus = op == F_SUB;
    if (is(f, b, 0)) return a;
    if (is(f, a, 0)) return minus ? neg(f, b) : b;
    if (is_op(f, b, F_NEG))
        return formula_add(f, minus ? F_ADD : F_SUB, a, f->node[b].a, 0);
    if (!minus && is_op(f, a, F_NEG)) return formula_add(f, F_SUB, b, f->node[a].a, 0);
    return -1;
}

static int simplify_product(Formula *f, FOp op, int a, int b) {
    bool divide = op == F_DIV;
    if (is(f, b, 1)) return a;
    if (is(f, b, -1)) return neg(f, a);
    if (is(f, a, 0) || (!divide && is(f, b, 0))) return formula_number(f, 0);
    if (!divide && is(f, a, 1)) return b;
    if (!divide && is(f, a, -1)) return neg(f, b);
    if (is_op(f, a, F_NEG)) return neg(f, formula_add(f, op, f->node[a].a, b, 0));
    if (is_op(f, b, F_NEG)) return neg(f, formula_add(f, op, a, f->node[b].a, 0));
    return -1;
}

static int simplify(Formula *f, FOp op, int a, int b, int c) {
    switch (op) {
    case F_NEG:
        return is_op(f, a, F_NEG) ? f->node[a].a : -1;
    case F_ADD:
    case F_SUB:
        return simplify_sum(f, op, a, b);
    case F_MUL:
    case F_DIV:
        return simplify_product(f, op, a, b);
    case F_POW:
        return is(f, b, 1) ? a : is(f, b, 0) ? formula_number(f, 1) : -1;
    case F_MIN:
    case F_MAX:
        return a == b ? a : -1;
    case F_WHERE:
        if (is_op(f, a, F_NUMBER)) return f->node[a].x != 0 ? b : c;
        return b == c ? b : -1;
    default:
        return -1;
    }
}

int formula_add(Formula *f, FOp op, int a, int b, int c) {
    int arity = functions[op].arity;
    if (arity < 2) b = 0;
    if (arity < 3) c = 0;
    bool fold = is_op(f, a, F_NUMBER) && (arity < 2 || is_op(f, b, F_NUMBER)) &&
                (arity < 3 || is_op(f, c, F_NUMBER));
    if (fold)
        return formula_number(
            f, formula_apply(op, f->node[a].x, f->node[b].x, f->node[c].x));
    int simple = simplify(f, op, a, b, c);
    return simple >= 0 ? simple : share(f, (FNode){op, a, b, c, 0});
}

/* ---- names ---- */

int fnames_get(const FNames *names, const char *name) {
    for (int i = names->n; i--;)
        if (!strcmp(names->item[i].name, name)) return names->item[i].node;
    return -1;
}

void fnames_set(Arena *a, FNames *names, const char *name, int node) {
    for (int i = names->n; i--;)
        if (!strcmp(names->item[i].name, name)) {
            names->item[i].node = node;
            return;
        }
    FName item = {arena_strdup(a, name), node};
    PUSH(a, names->item, names->n, names->cap, item);
}

void fnames_inputs(Formula *f, FNames *names, int n) {
    for (int i = 0; i < n; i++)
        fnames_set(f->arena, names, arena_printf(f->arena, "x%d", i),
                   formula_var(f, i));
}

/* ---- text to nodes ---- */

static int node_of(Formula *f, const Expr *x, const FNames *names, Err *e);

static int unknown(const FNames *names, Formula *f, const Expr *x, Err *e) {
    const char **known = NEW(f->arena, const char *, names->n + 1);
    for (int i = 0; i < names->n; i++) known[i] = names->item[i].name;
    err_at(e, x->loc, "no value '%s' in the formula%s", x->name,
           did_you_mean(f->arena, x->name, known));
    return -1;
}

static int unknown_function(Formula *f, const Expr *x, Err *e) {
    const char *known[F_OPS + 2];
    int n = 0;
    for (int op = 0; op < F_OPS; op++)
        if (functions[op].arity && !functions[op].infix)
            known[n++] = functions[op].name;
    known[n++] = "clamp";
    known[n] = NULL;
    err_at(e, x->loc, "no function '%s' in a formula%s", x->name,
           did_you_mean(f->arena, x->name, known));
    return -1;
}

static int call_of(Formula *f, const Expr *x, const FNames *names, Err *e) {
    bool clamp = x->kind == EX_CALL && !strcmp(x->name, "clamp");
    FOp op = F_NUMBER;
    for (int i = F_NEG; i < F_OPS && !clamp; i++)
        if (functions[i].infix == (x->kind != EX_CALL) &&
            !strcmp(functions[i].name, x->name) &&
            (x->kind == EX_CALL || functions[i].arity == x->n))
            op = (FOp)i;
    if (!clamp && op == F_NUMBER) return unknown_function(f, x, e);
    int want = clamp ? 3 : functions[op].arity, arg[3] = {0};
    if (x->n != want) {
        err_at(e, x->loc, "function '%s': got %d values, want %d", x->name, x->n, want);
        return -1;
    }
    for (int i = 0; i < want; i++)
        if ((arg[i] = node_of(f, x->arg[i], names, e)) < 0) return -1;
    if (!clamp) return formula_add(f, op, arg[0], arg[1], arg[2]);
    return formula_add(f, F_MIN, formula_add(f, F_MAX, arg[0], arg[1], 0), arg[2], 0);
}

/* Recursion is bounded by the grammar's depth of 64. */
static int node_of(Formula *f, const Expr *x, const FNames *names, Err *e) {
    switch (x->kind) {
    case EX_NUMBER:
        return formula_number(f, x->number);
    case EX_NAME: {
        int node = fnames_get(names, x->name);
        return node >= 0 ? node : unknown(names, f, x, e);
    }
    case EX_UNARY:
    case EX_BINARY:
    case EX_CALL:
        return call_of(f, x, names, e);
    default:
        err_at(e, x->loc, "argument '$%s' in a compiled formula", x->name);
        return -1;
    }
}

/* Where the name of "NAME = ..." ends, or NULL if the statement is a bare expression. */
static const char *assignment(const char *s, const char *end) {
    for (const char *p = s; p < end; p++) {
        if (*p != '=') continue;
        bool compare = (p + 1 < end && p[1] == '=') ||
                       (p > s && (p[-1] == '=' || strchr("!<>", p[-1])));
        if (!compare) return p;
        if (p + 1 < end && p[1] == '=') p++;
    }
    return NULL;
}

static const char *trimmed(Arena *a, const char *s, const char *end) {
    while (s < end && *s == ' ') s++;
    while (end > s && end[-1] == ' ') end--;
    return arena_strndup(a, s, (size_t)(end - s));
}

bool formula_parse(Formula *f, const char *text, FNames *names, int *value, Err *e) {
    *value = -1;
    for (const char *s = text; s && *s;) {
        const char *end = strchr(s, ';');
        const char *stop = end ? end : s + strlen(s);
        const char *equals = assignment(s, stop);
        const char *expression = trimmed(f->arena, equals ? equals + 1 : s, stop);
        const Expr *x = expr_parse_text(f->arena, expression, e);
        if (!x) return false;
        int node = node_of(f, x, names, e);
        if (node < 0) return false;
        if (equals)
            fnames_set(f->arena, names, trimmed(f->arena, s, equals), node);
        else
            *value = node;
        s = end ? end + 1 : NULL;
    }
    return true;
}

/* ---- nodes to text ---- */

void formula_reach(const Formula *f, int root, bool *used) {
    memset(used, 0, (size_t)f->n * sizeof *used);
    used[root] = true;
    for (int i = root; i >= 0; i--) {
        if (!used[i]) continue;
        const FNode *n = &f->node[i];
        int arity = functions[n->op].arity;
        if (arity > 0) used[n->a] = true;
        if (arity > 1) used[n->b] = true;
        if (arity > 2) used[n->c] = true;
    }
}

/* Nodes of one statement's tree: keeps its text below the grammar's 1 KiB and its depth
 * below 64. */
enum { STATEMENT_NODES = 24 };

typedef struct Writer {
    Arena *a;
    const Formula *f;
    const int *number;
    Expr **expr; /* per node: its tree, or the name of its statement */
    int *size, *uses;
} Writer;

static Expr *expr_new(Arena *a, ExprKind kind, const char *name, int n) {
    Expr *x = NEW(a, Expr, 1);
    x->kind = kind;
    x->name = name;
    x->n = n;
    x->arg = NEW(a, Expr *, 3);
    return x;
}

static Expr *tree_of(Writer *w, int i) {
    const FNode *n = &w->f->node[i];
    int arity = functions[n->op].arity, operand[3] = {n->a, n->b, n->c};
    w->size[i] = 1;
    if (n->op == F_VAR)
        return expr_new(w->a, EX_NAME, arena_printf(w->a, "x%d", w->number[n->a]), 0);
    if (n->op == F_NUMBER) {
        Expr *x = expr_new(w->a, EX_NUMBER, NULL, 0);
        x->number = fabs(n->x);
        x->is_int = x->number == floor(x->number) && x->number < 1e15;
        if (!signbit(n->x)) return x;
        Expr *minus = expr_new(w->a, EX_UNARY, "-", 1);
        minus->arg[0] = x;
        return minus;
    }
    ExprKind kind = !functions[n->op].infix ? EX_CALL
                    : arity == 1            ? EX_UNARY
                                            : EX_BINARY;
    Expr *x = expr_new(w->a, kind, functions[n->op].name, arity);
    for (int k = 0; k < arity; k++) {
        x->arg[k] = w->expr[operand[k]];
        w->size[i] += w->size[operand[k]];
    }
    return x;
}

static void count_uses(Writer *w, int root, const bool *used) {
    for (int i = 0; i <= root; i++) {
        const FNode *n = &w->f->node[i];
        int arity = used[i] ? functions[n->op].arity : 0;
        if (arity > 0) w->uses[n->a]++;
        if (arity > 1) w->uses[n->b]++;
        if (arity > 2) w->uses[n->c]++;
    }
}

void formula_print(Str *s, const Formula *f, int root, const int *number) {
    Arena *a = arena_new();
    size_t n = (size_t)f->n;
    Writer w = {a, f, number, NEW(a, Expr *, n), NEW(a, int, n), NEW(a, int, n)};
    bool *used = NEW(a, bool, n);
    formula_reach(f, root, used);
    count_uses(&w, root, used);
    int statements = 0;
    for (int i = 0; i <= root; i++) {
        if (!used[i]) continue;
        w.expr[i] = tree_of(&w, i);
        bool leaf = !functions[f->node[i].op].arity;
        if (leaf || i == root || (w.uses[i] < 2 && w.size[i] < STATEMENT_NODES))
            continue;
        const char *name = arena_printf(a, "t%d", statements++);
        str_printf(s, "%s = ", name);
        expr_print(s, w.expr[i]);
        str_add(s, "; ");
        w.expr[i] = expr_new(a, EX_NAME, name, 0);
        w.size[i] = 1;
    }
    expr_print(s, w.expr[root]);
    arena_free(a);
}
