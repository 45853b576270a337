/* What expressions mean: integers, floats, booleans, words and lists, evaluated when a
 * document is read or a graph is built. Every evaluation ends: trees are finite, lists hold
 * at most MAX_LIST values, and nothing loops but divisor(), which is bounded. */
#include "graph/lang/expr.h"
#include <math.h>
#include <string.h>

enum { MAX_LIST = 1024 };

const char *const initialiser_functions[] = {"normal", "uniform", "constant", NULL};

/* ---- values ---- */
Val val_int(int64_t i) {
    return (Val){.kind = VAL_INT, .i = i};
}
Val val_float(double f) {
    return (Val){.kind = VAL_FLOAT, .f = f};
}
Val val_bool(bool b) {
    return (Val){.kind = VAL_BOOL, .b = b};
}
Val val_word(const char *w) {
    return (Val){.kind = VAL_WORD, .word = w};
}

bool val_number(const Val *v, double *out) {
    if (v->kind == VAL_INT)
        *out = (double)v->i;
    else if (v->kind == VAL_FLOAT)
        *out = v->f;
    else if (v->kind == VAL_BOOL)
        *out = v->b;
    else
        return false;
    return true;
}

/* Integers and booleans. */
static bool whole(const Val *v, int64_t *out) {
    if (v->kind == VAL_INT)
        *out = v->i;
    else if (v->kind == VAL_BOOL)
        *out = v->b;
    else
        return false;
    return true;
}

bool val_equal(const Val *a, const Val *b) {
    double x, y;
    int64_t i, j;
    if (whole(a, &i) && whole(b, &j)) return i == j;
    if (val_number(a, &x) && val_number(b, &y)) return x == y;
    if (a->kind != b->kind) return false;
    if (a->kind == VAL_WORD) return !strcmp(a->word, b->word);
    if (a->kind != VAL_LIST) return true;
    if (a->list.n != b->list.n) return false;
    for (int k = 0; k < a->list.n; k++)
        if (!val_equal(&a->list.item[k], &b->list.item[k])) return false;
    return true;
}

void val_print(Str *s, const Val *v) {
    switch (v->kind) {
    case VAL_NONE:
        str_add(s, "nothing");
        break;
    case VAL_INT:
        str_printf(s, "%lld", (long long)v->i);
        break;
    case VAL_FLOAT:
        str_double(s, v->f);
        break;
    case VAL_BOOL:
        str_add(s, v->b ? "true" : "false");
        break;
    case VAL_WORD:
        str_add(s, v->word);
        break;
    case VAL_LIST:
        str_add(s, "[");
        for (int i = 0; i < v->list.n; i++) {
            if (i) str_add(s, ", ");
            val_print(s, &v->list.item[i]);
        }
        str_add(s, "]");
        break;
    }
}

static const char *val_text(Arena *a, const Val *v) {
    Str s = {0};
    val_print(&s, v);
    bool cut = s.n > 60;
    char *text =
        cut ? arena_printf(a, "%.57s...", s.s) : arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return text;
}

/* ---- arguments ---- */
Args *args_new(Arena *a) {
    Args *args = NEW(a, Args, 1);
    args->arena = a;
    return args;
}

Args *args_copy(Arena *a, const Args *from) {
    Args *args = args_new(a);
    for (int i = 0; from && i < from->n; i++)
        args_set(args, from->name[i], from->val[i]);
    return args;
}

Val *args_get(const Args *args, const char *name) {
    for (int i = 0; args && i < args->n; i++)
        if (!strcmp(args->name[i], name)) return &args->val[i];
    return NULL;
}

double args_number(const Args *args, const char *name) {
    const Val *v = args_get(args, name);
    double x;
    return v && val_number(v, &x) ? x : NAN;
}

void args_set(Args *args, const char *name, Val v) {
    Val *old = args_get(args, name);
    if (old) {
        *old = v;
        return;
    }
    int cap = args->cap, n = args->n;
    PUSH(args->arena, args->name, n, cap, arena_strdup(args->arena, name));
    PUSH(args->arena, args->val, args->n, args->cap, v);
}

const char *const *args_names(Arena *a, const Args *args) {
    const char **names = NEW(a, const char *, (args ? args->n : 0) + 1);
    for (int i = 0; args && i < args->n; i++) names[i] = args->name[i];
    return names;
}

/* ---- expressions ---- */
typedef struct Eval {
    Arena *arena;
    const Env *env;
    Err *e;
} Eval;

static bool eval(Eval *v, const Expr *x, Val *out);

static bool not_a_number(Eval *v, const Expr *x, const char *what, const Val *got) {
    return err_at(v->e, x->loc, "'%s' wants numbers, got %s", what,
                  val_text(v->arena, got));
}

static bool give(Eval *v, const Expr *x, double f, Val *out) {
    *out = val_float(f);
    return isfinite(f) ||
           err_at(v->e, x->loc, "'%s' gives %s here, want a finite number", x->name,
                  isnan(f) ? "not-a-number" : "infinity");
}

static bool truth(Eval *v, const Expr *x, bool *out) {
    Val val;
    double f;
    if (!eval(v, x, &val)) return false;
    if (!val_number(&val, &f))
        return err_at(v->e, x->loc, "want true or false, got %s",
                      val_text(v->arena, &val));
    *out = f != 0;
    return true;
}

static bool overflow(Eval *v, const Expr *x, int64_t a, int64_t b) {
    return err_at(v->e, x->loc, "%lld %s %lld does not fit in 64 bits", (long long)a,
                  x->name, (long long)b);
}

static bool int_power(Eval *v, const Expr *x, int64_t a, int64_t b, Val *out) {
    int64_t r = 1, base = a;
    for (int64_t n = b; n; n >>= 1) {
        if ((n & 1) && __builtin_mul_overflow(r, base, &r)) return overflow(v, x, a, b);
        if (n > 1 && __builtin_mul_overflow(base, base, &base))
            return overflow(v, x, a, b);
    }
    *out = val_int(r);
    return true;
}

/* Integer / integer stays an integer when it divides; // and % round towards minus
 * infinity, so that a == (a // b) * b + a % b. */
static bool int_divide(Eval *v, const Expr *x, int64_t a, int64_t b, Val *out) {
    if (b == -1) {
        int64_t r;
        if (__builtin_sub_overflow((int64_t)0, a, &r)) return overflow(v, x, a, b);
        *out = val_int(x->name[0] == '%' ? 0 : r);
        return true;
    }
    int64_t q = a / b, r = a % b;
    if (!strcmp(x->name, "/")) {
        *out = r ? val_float((double)a / (double)b) : val_int(q);
        return true;
    }
    bool down = r && (r < 0) != (b < 0);
    *out = val_int(x->name[0] == '%' ? r + (down ? b : 0) : q - down);
    return true;
}

static bool int_arithmetic(Eval *v, const Expr *x, int64_t a, int64_t b, Val *out) {
    int64_t r = 0;
    bool over = false;
    switch (x->name[0]) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case '^':
        return b < 0 ? give(v, x, pow((double)a, (double)b), out)
                     : int_power(v, x, a, b, out);
    default:
        return int_divide(v, x, a, b, out);
    }
    *out = val_int(r);
    return !over || overflow(v, x, a, b);
}

static bool arithmetic(Eval *v, const Expr *x, const Val *l, const Val *r, Val *out) {
    double a, b;
    int64_t i, j;
    if (!val_number(l, &a)) return not_a_number(v, x, x->name, l);
    if (!val_number(r, &b)) return not_a_number(v, x, x->name, r);
    if (b == 0 && strchr("/%", x->name[0]))
        return err_at(v->e, x->loc, "division by zero");
    if (whole(l, &i) && whole(r, &j)) return int_arithmetic(v, x, i, j, out);
    switch (x->name[0]) {
    case '+':
        return give(v, x, a + b, out);
    case '-':
        return give(v, x, a - b, out);
    case '*':
        return give(v, x, a * b, out);
    case '^':
        return give(v, x, pow(a, b), out);
    case '%':
        return give(v, x, a - floor(a / b) * b, out);
    default:
        return give(v, x, x->name[1] ? floor(a / b) : a / b, out);
    }
}

static bool order(Eval *v, const Expr *x, const Val *l, const Val *r, Val *out) {
    double a, b;
    if (!val_number(l, &a)) return not_a_number(v, x, x->name, l);
    if (!val_number(r, &b)) return not_a_number(v, x, x->name, r);
    bool less = x->name[0] == '<', equal = x->name[1] == '=';
    *out = val_bool(less ? (equal ? a <= b : a < b) : (equal ? a >= b : a > b));
    return true;
}

static bool binary(Eval *v, const Expr *x, Val *out) {
    Val l, r;
    bool a, b;
    if (!strcmp(x->name, "and") ||
        !strcmp(x->name, "or")) { /* the right side only if needed */
        if (!truth(v, x->arg[0], &a)) return false;
        *out = val_bool(a);
        if (a == (x->name[0] == 'o')) return true;
        if (!truth(v, x->arg[1], &b)) return false;
        *out = val_bool(b);
        return true;
    }
    if (!eval(v, x->arg[0], &l) || !eval(v, x->arg[1], &r)) return false;
    if (x->name[1] == '=' && strchr("=!", x->name[0])) {
        *out = val_bool(val_equal(&l, &r) == (x->name[0] == '='));
        return true;
    }
    if (strchr("<>", x->name[0])) return order(v, x, &l, &r, out);
    return arithmetic(v, x, &l, &r, out);
}

static bool unary(Eval *v, const Expr *x, Val *out) {
    bool b;
    if (x->name[0] == 'n') {
        if (!truth(v, x->arg[0], &b)) return false;
        *out = val_bool(!b);
        return true;
    }
    Val zero = val_int(0), r;
    if (!eval(v, x->arg[0], &r)) return false;
    if (r.kind == VAL_FLOAT) {
        *out = val_float(-r.f);
        return true;
    }
    return arithmetic(v, x, &zero, &r, out);
}

/* ---- functions ---- */
static bool f_min(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    double best = 0, f;
    for (int i = 0; i < n; i++) {
        if (!val_number(&a[i], &f)) return not_a_number(v, x, x->name, &a[i]);
        bool better = x->name[1] == 'i' ? f < best : f > best;
        if (i && !better) continue;
        best = f;
        *out = a[i];
    }
    return true;
}

static bool f_real(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    static const struct {
        const char *name;
        double (*f)(double);
    } functions[] = {{"sqrt", sqrt}, {"ln", log}, {"sin", sin}, {"cos", cos}};
    double f;
    (void)n;
    if (!val_number(a, &f)) return not_a_number(v, x, x->name, a);
    for (size_t i = 0; i < COUNT(functions); i++)
        if (!strcmp(x->name, functions[i].name))
            return give(v, x, functions[i].f(f), out);
    return false;
}

static bool to_int(Eval *v, const Expr *x, double f, Val *out) {
    if (!(fabs(f) < 9.2e18))
        return err_at(v->e, x->loc, "%g does not fit in 64 bits", f);
    *out = val_int((int64_t)f);
    return true;
}

static bool f_floor(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    double f;
    (void)n;
    if (a->kind == VAL_INT) {
        *out = *a;
        return true;
    }
    if (!val_number(a, &f)) return not_a_number(v, x, x->name, a);
    return to_int(v, x, floor(f), out);
}

static bool f_len(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    (void)n;
    if (a->kind != VAL_LIST)
        return err_at(v->e, x->loc, "'len' wants a list, got %s",
                      val_text(v->arena, a));
    *out = val_int(a->list.n);
    return true;
}

/* The largest divisor of n that is not above `most`. */
static bool f_divisor(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    enum { LARGEST = 1 << 30 }; /* 32,768 trial divisions at most */
    int64_t of, best = 1;
    double most;
    (void)n;
    if (!whole(&a[0], &of) || of < 1 || of > LARGEST)
        return err_at(v->e, x->loc, "'divisor' wants an integer from 1 to 2^30, got %s",
                      val_text(v->arena, &a[0]));
    if (!val_number(&a[1], &most) || most < 1)
        return err_at(v->e, x->loc, "'divisor' wants a limit of at least 1, got %s",
                      val_text(v->arena, &a[1]));
    for (int64_t d = 1; d * d <= of; d++) {
        if (of % d) continue;
        if ((double)d <= most && d > best) best = d;
        if ((double)(of / d) <= most && of / d > best) best = of / d;
    }
    *out = val_int(best);
    return true;
}

static bool f_initialiser(Eval *v, const Expr *x, const Val *a, int n, Val *out) {
    double f;
    (void)n;
    if (!val_number(a, &f)) return not_a_number(v, x, x->name, a);
    Val *item = NEW(v->arena, Val, 2);
    item[0] = val_word(x->name);
    item[1] = *a;
    *out = (Val){.kind = VAL_LIST, .list = {item, 2}};
    return true;
}

/* clang-format off */
static const struct Function {
    const char *name;
    int least, most; /* arguments */
    bool (*run)(Eval *v, const Expr *x, const Val *a, int n, Val *out); /* NULL: not strict */
} functions[] = {
    { "min",      1, 64, f_min },
    { "max",      1, 64, f_min },
    { "sqrt",     1, 1,  f_real },
    { "ln",       1, 1,  f_real },
    { "sin",      1, 1,  f_real },
    { "cos",      1, 1,  f_real },
    { "floor",    1, 1,  f_floor },
    { "len",      1, 1,  f_len },
    { "divisor",  2, 2,  f_divisor },
    { "normal",   1, 1,  f_initialiser },
    { "uniform",  1, 1,  f_initialiser },
    { "constant", 1, 1,  f_initialiser },
    { "if",       3, 3,  NULL },
    { "channels", 1, 1,  NULL },
    { "rank",     1, 1,  NULL },
};
/* clang-format on */

static const struct Function *function(Eval *v, const Expr *x) {
    const char *names[COUNT(functions) + 1] = {0};
    for (size_t i = 0; i < COUNT(functions); i++) {
        const struct Function *f = &functions[i];
        names[i] = f->name;
        if (strcmp(f->name, x->name)) continue;
        if (x->n >= f->least && x->n <= f->most) return f;
        err_at(v->e, x->loc, "'%s' takes %d argument%s, got %d", f->name, f->least,
               f->least == 1 ? "" : "s", x->n);
        return NULL;
    }
    err_at(v->e, x->loc, "no function '%s' here%s", x->name,
           did_you_mean(v->arena, x->name, names));
    return NULL;
}

/* channels(NAME) and rank(NAME) */
static bool of_value(Eval *v, const Expr *x, Val *out) {
    const Expr *value = x->arg[0];
    int rank;
    int64_t last = 0;
    if (value->kind != EX_NAME)
        return err_at(v->e, value->loc, "'%s' wants the name of a value", x->name);
    if (!v->env->value)
        return err_at(v->e, x->loc, "'%s' has no values to look at here", x->name);
    if (!v->env->value(v->env->ctx, value->name, value->loc, &rank, &last, v->e))
        return false;
    bool channels = !strcmp(x->name, "channels");
    if (channels && rank == 0)
        return err_at(v->e, value->loc, "'%s' is a number and has no channels",
                      value->name);
    *out = val_int(channels ? last : rank);
    return true;
}

static bool call(Eval *v, const Expr *x, Val *out) {
    const struct Function *f = function(v, x);
    Val a[64];
    bool yes;
    if (!f) return false;
    if (!strcmp(f->name, "channels") || !strcmp(f->name, "rank"))
        return of_value(v, x, out);
    if (!f->run) return truth(v, x->arg[0], &yes) && eval(v, x->arg[yes ? 1 : 2], out);
    for (int i = 0; i < x->n; i++)
        if (!eval(v, x->arg[i], &a[i])) return false;
    return f->run(v, x, a, x->n, out);
}

static const Val *argument(Eval *v, const Expr *x) {
    const Val *val = args_get(v->env->args, x->name);
    if (val) return val;
    const char *const *names = args_names(v->arena, v->env->args);
    const char *near = nearest(x->name, names);
    err_at(v->e, x->loc,
           near ? "no argument '$%s' here; did you mean '$%s'?"
                : "no argument '$%s' here",
           x->name, near);
    return NULL;
}

static bool pick(Eval *v, const Expr *x, Val *out) {
    const Val *list = argument(v, x);
    Val index;
    int64_t i;
    if (!list || !eval(v, x->arg[0], &index)) return false;
    if (list->kind != VAL_LIST)
        return err_at(v->e, x->loc, "'$%s' is not a list, got %s", x->name,
                      val_text(v->arena, list));
    if (!list->list.n) return err_at(v->e, x->loc, "'$%s' is empty", x->name);
    if (!whole(&index, &i) || i < 0 || i >= list->list.n)
        return err_at(v->e, x->loc, "'$%s' has entries 0 to %d, got index %s", x->name,
                      list->list.n - 1, val_text(v->arena, &index));
    *out = list->list.item[i];
    return true;
}

static bool eval(Eval *v, const Expr *x, Val *out) {
    const Val *arg;
    switch (x->kind) {
    case EX_NUMBER:
        *out = x->is_int ? val_int((int64_t)x->number) : val_float(x->number);
        return true;
    case EX_NAME:
        *out = val_word(x->name);
        if (!strcmp(x->name, "true")) *out = val_bool(true);
        if (!strcmp(x->name, "false")) *out = val_bool(false);
        return true;
    case EX_ARG:
        arg = argument(v, x);
        if (arg) *out = *arg;
        return arg != NULL;
    case EX_UNARY:
        return unary(v, x, out);
    case EX_BINARY:
        return binary(v, x, out);
    case EX_CALL:
        return call(v, x, out);
    case EX_ARGCALL:
        return pick(v, x, out);
    }
    return false;
}

bool expr_eval(Arena *a, const Expr *x, const Env *env, Val *out, Err *e) {
    Eval v = {a, env, e};
    if (!eval(&v, x, out)) return false;
    out->loc = x->loc;
    return true;
}

/* Lists are flat: a list that an item evaluates to is spliced. */
static bool list_eval(Arena *a, const YNode *n, const Env *env, Val *out, Err *e) {
    Val list = {.kind = VAL_LIST, .loc = n->loc};
    int cap = 0;
    for (int i = 0; i < n->n; i++) {
        const YNode *item = n->item[i];
        Val v;
        if (item->kind == Y_LIST)
            return err_at(e, item->loc, "a list cannot hold a list here");
        if (!slot_eval(a, item, env, &v, e)) return false;
        int more = v.kind == VAL_LIST ? v.list.n : 1;
        const Val *from = v.kind == VAL_LIST ? v.list.item : &v;
        if (list.list.n + more > MAX_LIST)
            return err_at(e, item->loc, "a list holds at most %d values", MAX_LIST);
        for (int k = 0; k < more; k++)
            PUSH(a, list.list.item, list.list.n, cap, from[k]);
    }
    *out = list;
    return true;
}

bool slot_eval(Arena *a, const YNode *n, const Env *env, Val *out, Err *e) {
    if (n->kind == Y_MAP) return err_at(e, n->loc, "want an expression, got a mapping");
    if (n->kind == Y_LIST) return list_eval(a, n, env, out, e);
    Expr *x = expr_parse(a, n, e);
    if (!x || !expr_eval(a, x, env, out, e)) return false;
    out->loc = n->loc;
    return true;
}

/* ---- path patterns ---- */
static size_t component(const char *s) {
    return strcspn(s, ".");
}

/* One component against a piece of pattern; * is any run of characters. */
static bool component_match(const char *p, size_t np, const char *s, size_t ns) {
    size_t i = 0, j = 0, star = SIZE_MAX, retry = 0;
    while (j < ns) {
        if (i < np && p[i] == '*') {
            star = i++;
            retry = j;
        } else if (i < np && p[i] == s[j]) {
            i++;
            j++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            j = ++retry;
        } else {
            return false;
        }
    }
    while (i < np && p[i] == '*') i++;
    return i == np;
}

static const char *skip(const char *s, size_t n) {
    return s[n] ? s + n + 1 : s + n;
}

bool pattern_match(const char *p, const char *s) {
    const char *star = NULL,
               *retry = NULL; /* behind the last **, and what it stops before */
    while (*s) {
        size_t np = component(p), ns = component(s);
        if (np == 2 && !strncmp(p, "**", 2)) {
            star = p = skip(p, np);
            retry = s;
        } else if (*p && component_match(p, np, s, ns)) {
            p = skip(p, np);
            s = skip(s, ns);
        } else if (star) {
            p = star;
            s = retry = skip(retry, component(retry));
        } else {
            return false;
        }
    }
    while (!strncmp(p, "**", 2) && component(p) == 2) p = skip(p, 2);
    return !*p;
}
