/* Formulas and expressions as trees: lexer, precedence climbing, canonical printer.
 *
 * One grammar serves both meanings, so nothing here knows values. Nesting is limited while
 * parsing; left-leaning chains (a + b + c ...) are built in a loop, and their depth is
 * limited too, so that every walk over a tree may recurse. */
#include "graph/lang/expr.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_TEXT = 1024,
    MAX_NESTING = 64,
    MAX_MADE_TEXT = 65536,
    MAX_MADE_NESTING = 256
};
enum { MAX_TREE = 1024 }; /* depth of a tree, chains included */

const char *const formula_functions[] = {
    "sqrt",       "exp", "ln",  "expm1", "abs",     "sign", "floor",
    "round",      "sin", "cos", "tanh",  "sigmoid", "silu", "gelu",
    "quick_gelu", "min", "max", "clamp", "where",   NULL};

typedef enum Tok { T_END, T_NUMBER, T_NAME, T_ARG, T_OP, T_BAD } Tok;

typedef struct Parser {
    Arena *arena;
    const YNode *scalar; /* NULL: bare text */
    const char *text;
    size_t at; /* behind the current token */
    Tok tok;
    size_t start, len; /* the current token */
    YPlace walk;       /* over the scalar's places */
    Loc loc;           /* of the current token */
    const char *op;    /* T_OP: its text, from the table */
    int nesting, max_nesting;
    Err *e;
} Parser;

/* A tree and its depth, which only the parser needs. */
typedef struct Tree {
    Expr *x; /* NULL: failed */
    int depth;
    bool closed; /* stood in parentheses */
} Tree;

/* ---- lexer ---- */
static const char *const operators[] = {"//", "==", "!=", "<=", ">=", "+",
                                        "-",  "*",  "/",  "%",  "^",  "(",
                                        ")",  "<",  ">",  ",",  "=",  NULL};

static bool name_start(char c) {
    return isalpha((unsigned char)c) || c == '_';
}
static bool name_part(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static size_t name_end(const char *s, size_t i, bool dots) {
    for (;;) {
        while (name_part(s[i])) i++;
        if (!dots || s[i] != '.' || !name_part(s[i + 1])) return i;
        i++;
    }
}

static size_t number_end(const char *s, size_t i) {
    while (isdigit((unsigned char)s[i])) i++;
    if (s[i] == '.') i++;
    while (isdigit((unsigned char)s[i])) i++;
    if (s[i] != 'e' && s[i] != 'E') return i;
    size_t j = i + 1 + (s[i + 1] == '-' || s[i + 1] == '+');
    if (!isdigit((unsigned char)s[j])) return i;
    while (isdigit((unsigned char)s[j])) j++;
    return j;
}

static void advance(Parser *p) {
    const char *s = p->text;
    size_t i = p->at;
    while (s[i] && strchr(" \t\r\n", s[i])) i++;
    p->start = i;
    p->op = NULL;
    if (!s[i]) {
        p->tok = T_END;
    } else if (isdigit((unsigned char)s[i]) ||
               (s[i] == '.' && isdigit((unsigned char)s[i + 1]))) {
        p->tok = T_NUMBER;
        i = number_end(s, i);
    } else if (name_start(s[i])) {
        p->tok = T_NAME;
        i = name_end(s, i, true);
    } else if (s[i] == '$' && name_start(s[i + 1])) {
        p->tok = T_ARG;
        i = name_end(s, i + 1, false);
    } else {
        p->tok = T_BAD;
        for (int k = 0; operators[k] && !p->op; k++)
            if (s[i] == operators[k][0] &&
                !strncmp(s + i, operators[k], strlen(operators[k])))
                p->op = operators[k];
        if (p->op) p->tok = T_OP;
        i += p->op ? strlen(p->op) : 1;
        while (p->tok == T_BAD && ((unsigned char)s[i] & 0xC0) == 0x80) i++;
    }
    p->at = i;
    p->len = i - p->start;
    if (p->scalar) p->loc = yaml_place_at(&p->walk, p->start, p->len);
}

static bool is_op(const Parser *p, const char *op) {
    return p->tok == T_OP && !strcmp(p->op, op);
}

static bool is_word(const Parser *p, const char *word) {
    return p->tok == T_NAME && p->len == strlen(word) &&
           !strncmp(p->text + p->start, word, p->len);
}

/* ---- failures ---- */
/* A plain scalar inside {...} or [...] ends at a comma: then the formula was cut. */
static bool cut_by_comma(const Parser *p) {
    const YNode *n = p->scalar;
    if (!n || n->quoted || n->block || !n->loc.src) return false;
    const char *rest = n->loc.src->text + n->at, *end = strchr(rest, '\n');
    const char *comma = memchr(rest, ',', end ? (size_t)(end - rest) : strlen(rest));
    if (!comma) return false;
    while (comma > rest && comma[-1] == ' ') comma--;
    return (size_t)(comma - rest) == strlen(p->text) &&
           !strncmp(rest, p->text, strlen(p->text));
}

static Tree unexpected(Parser *p, const char *wanted) {
    Loc loc = p->loc;
    if (p->tok == T_END && cut_by_comma(p))
        err_at(
            p->e, p->scalar->loc,
            "formula '%.80s' ends at the comma; quote formulas with commas inside {…}",
            p->text);
    else if (p->tok == T_END)
        err_at(p->e, p->scalar ? p->scalar->loc : loc,
               "%s missing at the end of '%.80s'", wanted, p->text);
    else
        err_at(p->e, loc, "unexpected '%.*s' in '%.80s'", (int)p->len,
               p->text + p->start, p->text);
    return (Tree){.x = NULL};
}

/* ---- trees ---- */
static Tree leaf(Parser *p, ExprKind kind, const char *name) {
    Expr *x = NEW(p->arena, Expr, 1);
    x->kind = kind;
    x->name = name;
    x->loc = p->loc;
    return (Tree){.x = x, .depth = 1};
}

static Tree branch(Parser *p, ExprKind kind, const char *name, Loc loc, Tree a,
                   Tree b) {
    Tree t = {.x = NEW(p->arena, Expr, 1)};
    t.depth = 1 + (a.depth > b.depth ? a.depth : b.depth);
    t.x->kind = kind;
    t.x->name = name;
    t.x->loc = loc;
    t.x->n = b.x ? 2 : 1;
    t.x->arg = NEW(p->arena, Expr *, t.x->n);
    t.x->arg[0] = a.x;
    if (b.x) t.x->arg[1] = b.x;
    if (t.depth <= MAX_TREE) return t;
    err_at(p->e, loc, "expression is a chain of more than %d terms", MAX_TREE);
    return (Tree){.x = NULL};
}

/* ---- grammar ---- */
enum { P_OR = 1, P_AND, P_NOT, P_COMPARE, P_SUM, P_PRODUCT, P_NEGATE, P_POWER };

static const struct {
    const char *op;
    int level;
} binary[] = {{"or", P_OR},      {"and", P_AND},    {"==", P_COMPARE},
              {"!=", P_COMPARE}, {"<", P_COMPARE},  {"<=", P_COMPARE},
              {">", P_COMPARE},  {">=", P_COMPARE}, {"+", P_SUM},
              {"-", P_SUM},      {"*", P_PRODUCT},  {"/", P_PRODUCT},
              {"//", P_PRODUCT}, {"%", P_PRODUCT},  {"^", P_POWER}};

static int level_of(const char *op) {
    for (size_t i = 0; i < COUNT(binary); i++)
        if (!strcmp(binary[i].op, op)) return binary[i].level;
    return 0;
}

/* How tightly a tree holds together. */
static int binds(const Expr *x) {
    if (x->kind == EX_BINARY) return level_of(x->name);
    if (x->kind == EX_UNARY) return x->name[0] == '-' ? P_NEGATE : P_NOT;
    if (x->kind == EX_NUMBER && signbit(x->number)) return P_NEGATE;
    return P_POWER + 1;
}

/* The operator at the current token from the table, or NULL. */
static const char *binary_here(const Parser *p, int *level) {
    if (p->tok != T_OP && (p->tok != T_NAME || p->len > 3)) return NULL;
    for (size_t i = 0; i < COUNT(binary); i++) {
        if (binary[i].op[0] != p->text[p->start]) continue;
        *level = binary[i].level;
        if (is_op(p, binary[i].op) || is_word(p, binary[i].op)) return binary[i].op;
    }
    return NULL;
}

static Tree parse(Parser *p, int least);

static Tree number(Parser *p) {
    Tree t = leaf(p, EX_NUMBER, NULL);
    const char *s = p->text + p->start;
    t.x->number = strtod(s, NULL);
    t.x->is_int = strspn(s, "0123456789") == p->len;
    if (!isfinite(t.x->number) || (t.x->is_int && t.x->number >= 9007199254740992.0)) {
        err_at(p->e, t.x->loc, "number %.*s is too large",
               (int)(p->len < 40 ? p->len : 40), s);
        return (Tree){.x = NULL};
    }
    advance(p);
    return t;
}

/* The arguments behind '(' up to ')'. */
static Tree arguments(Parser *p, Tree call) {
    Expr *x = call.x;
    int cap = 0;
    for (;;) {
        Tree t = parse(p, P_OR);
        if (!t.x) return t;
        PUSH(p->arena, x->arg, x->n, cap, t.x);
        if (t.depth >= call.depth) call.depth = t.depth + 1;
        bool end = is_op(p, ")");
        if (!end && !is_op(p, ",")) return unexpected(p, "')' is");
        advance(p);
        if (end) return call;
    }
}

static Tree name_or_call(Parser *p) {
    bool arg = p->tok == T_ARG;
    const char *s = arena_strndup(p->arena, p->text + p->start + arg, p->len - arg);
    Tree t = leaf(p, arg ? EX_ARG : EX_NAME, s);
    advance(p);
    if (!is_op(p, "(")) return t;
    advance(p);
    t.x->kind = arg ? EX_ARGCALL : EX_CALL;
    Loc at = p->loc;
    t = arguments(p, t);
    if (t.x && arg && t.x->n != 1) {
        err_at(p->e, at, "'$%s(i)' takes one index, got %d", s, t.x->n);
        t.x = NULL;
    }
    return t;
}

static Tree atom(Parser *p, int least) {
    Loc loc = p->loc;
    if (p->tok == T_NUMBER) return number(p);
    if (is_op(p, "(")) {
        advance(p);
        Tree t = parse(p, P_OR);
        if (!t.x) return t;
        if (!is_op(p, ")")) return unexpected(p, "')' is");
        advance(p);
        t.closed = true;
        return t;
    }
    bool not = is_word(p, "not");
    if (is_op(p, "-") || (not &&least <= P_NOT)) {
        advance(p);
        Tree t = parse(p, not ? P_NOT : P_NEGATE);
        return t.x ? branch(p, EX_UNARY, not ? "not" : "-", loc, t, (Tree){.x = NULL})
                   : t;
    }
    int level;
    if (p->tok == T_ARG || (p->tok == T_NAME && !not &&!binary_here(p, &level)))
        return name_or_call(p);
    return unexpected(p, "a value is");
}

static Tree climb(Parser *p, int least) {
    Tree l = atom(p, least);
    while (l.x) {
        int level;
        Loc loc = p->loc;
        const char *op = binary_here(p, &level);
        if (!op || level < least) return l;
        if (level == P_COMPARE && !l.closed && binds(l.x) == P_COMPARE) {
            err_at(p->e, loc, "comparisons do not chain: write 'a < b and b < c'");
            return (Tree){.x = NULL};
        }
        advance(p);
        Tree r = parse(p, level == P_POWER ? P_POWER : level + 1);
        if (!r.x) return r;
        l = branch(p, EX_BINARY, op, loc, l, r);
    }
    return l;
}

/* Everything that binds at least as tightly as `least`. */
static Tree parse(Parser *p, int least) {
    if (++p->nesting > p->max_nesting) {
        err_at(p->e, p->loc, "expression is nested deeper than %d", p->max_nesting);
        return (Tree){.x = NULL};
    }
    Tree t = climb(p, least);
    p->nesting--;
    return t;
}

static Expr *parse_all(Parser *p) {
    advance(p);
    if (p->tok == T_END) {
        err_at(p->e, p->scalar ? p->scalar->loc : loc_none(),
               "an expression is missing here");
        return NULL;
    }
    Tree t = parse(p, P_OR);
    if (t.x && p->tok != T_END) return unexpected(p, "").x;
    return t.x;
}

Expr *expr_parse(Arena *a, const YNode *scalar, Err *e) {
    Parser p = {.arena = a,
                .scalar = scalar,
                .text = scalar->s,
                .max_nesting = MAX_NESTING,
                .e = e};
    if (scalar->kind != Y_SCALAR) {
        err_at(e, scalar->loc, "want an expression, got a %s",
               scalar->kind == Y_LIST ? "list" : "mapping");
        return NULL;
    }
    if (strlen(scalar->s) > MAX_TEXT) {
        err_at(e, scalar->loc, "expression is longer than 1 KiB");
        return NULL;
    }
    p.walk = yaml_place(scalar);
    return parse_all(&p);
}

Expr *expr_parse_text(Arena *a, const char *text, Err *e) {
    Parser p = {.arena = a, .text = text, .max_nesting = MAX_MADE_NESTING, .e = e};
    if (strlen(text) > MAX_MADE_TEXT) {
        err_usage(e, "expression is longer than %d KiB", MAX_MADE_TEXT >> 10);
        return NULL;
    }
    return parse_all(&p);
}

/* ---- printer ---- */
static void print(Str *s, const Expr *x, int least);

static void print_number(Str *s, const Expr *x) {
    size_t from = s->n;
    str_double(s, x->number);
    if (!x->is_int && !strpbrk(s->s + from, ".en")) str_add(s, ".0");
    if (x->is_int &&
        strpbrk(s->s + from, ".e")) { /* 1e+06 would read back as a float */
        s->n = from;
        str_printf(s, "%.0f", x->number);
    }
}

static void print_binary(Str *s, const Expr *x) {
    int level = level_of(x->name);
    bool power = level == P_POWER, compare = level == P_COMPARE;
    print(s, x->arg[0], level + (power || compare));
    str_printf(s, " %s ", x->name);
    /* a minus may follow ^ bare: it reads as the exponent's sign */
    bool sign = power && binds(x->arg[1]) == P_NEGATE;
    print(s, x->arg[1], sign ? P_NEGATE : level + !power);
}

static void print_bare(Str *s, const Expr *x) {
    switch (x->kind) {
    case EX_NUMBER:
        print_number(s, x);
        break;
    case EX_NAME:
        str_add(s, x->name);
        break;
    case EX_ARG:
        str_printf(s, "$%s", x->name);
        break;
    case EX_BINARY:
        print_binary(s, x);
        break;
    case EX_UNARY:
        str_add(s, x->name[0] == '-' ? "-" : "not ");
        print(s, x->arg[0], x->name[0] == '-' ? P_NEGATE : P_NOT);
        break;
    case EX_CALL:
    case EX_ARGCALL:
        str_printf(s, "%s%s(", x->kind == EX_ARGCALL ? "$" : "", x->name);
        for (int i = 0; i < x->n; i++) {
            if (i) str_add(s, ", ");
            print(s, x->arg[i], P_OR);
        }
        str_add(s, ")");
        break;
    }
}

static void print(Str *s, const Expr *x, int least) {
    bool wrap = binds(x) < least;
    if (wrap) str_add(s, "(");
    print_bare(s, x);
    if (wrap) str_add(s, ")");
}

void expr_print(Str *s, const Expr *x) {
    print(s, x, P_OR);
}
