/* Formulas and expressions: one grammar, two meanings (language.md sections 4 and 5).
 *
 *   or | and | not | comparison | sum | product | power | unary; atoms: number, name, $arg,
 *   name(…), $arg(…), ( … ). Names may hold dots: to_out.0
 * Comparisons do not chain. Limits: 1 KiB of text, nesting 64 (expr_parse_text, which
 * also reads what fusion made: 64 KiB and 256). */
#ifndef GRAPHRUN_EXPR_H
#define GRAPHRUN_EXPR_H
#include "graph/lang/yaml.h"

typedef enum ExprKind {
    EX_NUMBER, /* number, is_int */
    EX_NAME,   /* name */
    EX_ARG,    /* $name */
    EX_UNARY,  /* op "-" or "not"; arg[0] */
    EX_BINARY, /* op: + - * / // % ^ == != < <= > >= and or; arg[0], arg[1] */
    EX_CALL,   /* name(arg …): a function, or a table read */
    EX_ARGCALL /* $name(arg) */
} ExprKind;
typedef struct Expr Expr;
struct Expr {
    ExprKind kind;
    /* NAME, ARG, CALL, ARGCALL: the name; UNARY, BINARY: the operator */
    const char *name;
    double number;
    bool is_int;
    int n;
    Expr **arg;
    Loc loc;
};
/* Parses a scalar's text; places of sub-expressions map into the file. */
Expr *expr_parse(Arena *a, const YNode *scalar, Err *e);
/* The same for bare text (text IR attributes, --set values); no places. */
Expr *expr_parse_text(Arena *a, const char *text, Err *e);
/* Functions of formulas, NULL-terminated (language.md section 4): none may name a value. */
extern const char *const formula_functions[];
/* Canonical text with the fewest parentheses; expr_parse_text(print(x)) has the same tree. */
void expr_print(Str *s, const Expr *x);

/* ---- values of expressions ---- */
typedef enum ValKind {
    VAL_NONE,
    VAL_INT,
    VAL_FLOAT,
    VAL_BOOL,
    VAL_WORD,
    VAL_LIST
} ValKind;
typedef struct Val Val;
struct Val {
    ValKind kind;
    union {
        int64_t i;
        double f;
        bool b;
        const char *word;
        struct {
            Val *item;
            int n;
        } list;
    };
    Loc loc; /* where it was written; may be none */
};
Val val_int(int64_t i);
Val val_float(double f);
Val val_bool(bool b);
Val val_word(const char *w);
bool val_number(const Val *v, double *out); /* INT, FLOAT, BOOL */
bool val_equal(const Val *a, const Val *b);
void val_print(Str *s, const Val *v);

typedef struct Args { /* named values, in order of definition */
    Arena *arena;
    const char **name;
    Val *val;
    int n, cap;
} Args;
Args *args_new(Arena *a);
Args *args_copy(Arena *a, const Args *from);
Val *args_get(const Args *args, const char *name);         /* NULL: none */
double args_number(const Args *args, const char *name);    /* NAN: none, or no number */
void args_set(Args *args, const char *name, Val v);        /* replaces */
const char *const *args_names(Arena *a, const Args *args); /* for suggestions */

/* How an expression sees the world. */
typedef struct Env {
    const Args *args;
    /* Of channels(NAME), the last dimension of a value, and rank(NAME), how many it has:
     * *rank, and *last if rank is not 0. NULL: no values here. */
    bool (*value)(void *ctx, const char *name, Loc loc, int *rank, int64_t *last,
                  Err *e);
    void *ctx;
} Env;
/* Evaluates an attribute slot: scalar (expression; a bare word is a word; quoted text is an
 * expression too), or a list of them ($list arguments are spliced). Maps are an error. */
bool expr_eval(Arena *a, const Expr *x, const Env *env, Val *out, Err *e);
bool slot_eval(Arena *a, const YNode *n, const Env *env, Val *out, Err *e);

/* The words of an initialiser that take a number: a call of one is the list [word, number]. */
extern const char *const initialiser_functions[]; /* normal uniform constant; NULL */

/* ---- path patterns: * one component or part of one; ** any number of components ---- */
bool pattern_match(const char *pattern, const char *path);
#endif
