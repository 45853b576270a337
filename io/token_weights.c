/* The bracket language of prompts, as the pipeline behind sd-scripts reads it: its regular
 * expression's alternatives, in their order, at each place. */
#include "io/token_weights.h"

#include <stdlib.h>
#include <string.h>

typedef struct Pieces {
    Arena *a;
    WeightedText *item;
    int n, cap;
} Pieces;

typedef struct Stack { /* first pieces of brackets that are open */
    int *item, n, cap;
} Stack;

static void add(Pieces *p, const char *s, size_t n) {
    WeightedText x = {arena_strndup(p->a, s, n), 1};
    PUSH(p->a, p->item, p->n, p->cap, x);
}

static void multiply(Pieces *p, int from, double by) {
    for (int i = from; i < p->n; i++) p->item[i].weight *= by;
}

static void open_bracket(Pieces *p, Stack *s) {
    PUSH(p->a, s->item, s->n, s->cap, p->n);
}

/* ":1.3)" at s: the number, and its length; 0: there is none. */
static size_t explicit_weight(const char *s, double *weight) {
    const char *from = s + 1;
    size_t sign = *from == '+' || *from == '-', n = strspn(from + sign, ".0123456789");
    char *end;
    if (*s != ':' || !n || from[sign + n] != ')') return 0;
    *weight = strtod(from, &end);
    return end == from + sign + n ? sign + n + 2 : 0;
}

/* One alternative at s; returns its length. */
static size_t step(Pieces *p, const char *s, Stack *round, Stack *square) {
    double weight = 1;
    size_t n = explicit_weight(s, &weight);
    if (*s == '\\') {
        bool escapes = s[1] && strchr("()[]\\", s[1]);
        add(p, s + 1, escapes);
        return escapes ? 2 : 1;
    }
    if (*s == '(' || *s == '[') {
        open_bracket(p, *s == '(' ? round : square);
    } else if (n && round->n) {
        multiply(p, round->item[--round->n], weight);
        return n;
    } else if (n) {
        add(p, s, n);
        return n;
    } else if (*s == ')' && round->n) {
        multiply(p, round->item[--round->n], 1.1);
    } else if (*s == ']' && square->n) {
        multiply(p, square->item[--square->n], 1 / 1.1);
    } else {
        n = strcspn(s, "\\()[]:");
        add(p, s, n ? n : 1);
        return n ? n : 1;
    }
    return 1;
}

static void merge(Pieces *p) {
    int kept = 0;
    for (int i = 1; i < p->n; i++) {
        WeightedText *last = &p->item[kept];
        if (last->weight == p->item[i].weight)
            last->text = arena_printf(p->a, "%s%s", last->text, p->item[i].text);
        else
            p->item[++kept] = p->item[i];
    }
    p->n = kept + 1;
}

int weights_parse(Arena *a, const char *text, WeightedText **out) {
    Pieces p = {.a = a};
    Stack round = {0}, square = {0};
    for (const char *s = text; *s;) s += step(&p, s, &round, &square);
    for (int i = 0; i < round.n; i++) multiply(&p, round.item[i], 1.1);
    for (int i = 0; i < square.n; i++) multiply(&p, square.item[i], 1 / 1.1);
    if (!p.n) add(&p, "", 0);
    merge(&p);
    *out = p.item;
    return p.n;
}
