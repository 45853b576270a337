/* `graphrun diff` of files of tensors that are no plain LoRAs: tensor by tensor,
 * |A - B| / |A| in the Frobenius norm; equal ones are told by bytes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/diff.h"

typedef struct Pair {
    const TensorEntry *a, *b; /* one may be NULL */
    bool equal, comparable;   /* of one shape */
    double norm_a, norm_b, relative;
} Pair;

typedef struct Compared {
    Arena *arena;
    const TensorFile *a, *b;
    Pair *pair;
    int n, equal, only_a, only_b;
    double square, square_a; /* of the whole difference, and of A */
} Compared;

bool diff_is_tensors(const char *path) {
    Err ignored = {0};
    TensorFile *f = tensors_open(path, &ignored);
    tensors_close(f);
    return f != NULL;
}

typedef struct Squares {
    double a, b, difference;
} Squares;

static const void *from(const TensorEntry *x, int64_t at) {
    return (const char *)x->data + (size_t)at * dtype_size(x->type.dtype);
}

/* Sums of squares; one of both may be NULL, and counts as zeros. */
static Squares squares(const TensorEntry *x, const TensorEntry *y) {
    enum { PIECE = 2048 };
    double u[PIECE] = {0}, v[PIECE] = {0};
    const int64_t n = type_count(x ? &x->type : &y->type);
    Squares s = {0};
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        if (x) convert(u, F64, from(x, at), x->type.dtype, m);
        if (y) convert(v, F64, from(y, at), y->type.dtype, m);
        for (int64_t i = 0; i < m; i++) {
            s.a += u[i] * u[i];
            s.b += v[i] * v[i];
            s.difference += (u[i] - v[i]) * (u[i] - v[i]);
        }
    }
    return s;
}

static void compare_pair(Compared *c, Pair *p) {
    p->comparable = p->a && p->b && type_same_shape(&p->a->type, &p->b->type);
    Squares s = {0};
    if (p->comparable) {
        p->equal = diff_same_bytes(p->a, p->b);
        s = squares(p->a, p->b);
        if (p->equal) s.difference = 0; /* NaN among them */
    } else {
        if (p->a) s.a = squares(p->a, NULL).a;
        if (p->b) s.b = squares(NULL, p->b).b;
        s.difference = s.a + s.b;
    }
    p->norm_a = sqrt(s.a);
    p->norm_b = sqrt(s.b);
    p->relative = diff_relative(s.difference, s.a);
    c->equal += p->equal;
    c->only_a += !p->b;
    c->only_b += !p->a;
    c->square += s.difference;
    c->square_a += s.a;
    if (p->a) tensors_release(c->a, p->a->data, type_bytes(&p->a->type));
    if (p->b) tensors_release(c->b, p->b->data, type_bytes(&p->b->type));
}

/* Both lists are sorted by name. */
static void match(Compared *c) {
    c->pair = NEW(c->arena, Pair, c->a->n + c->b->n + 1);
    for (int i = 0, k = 0; i < c->a->n || k < c->b->n;) {
        const TensorEntry *a = i < c->a->n ? &c->a->entry[i] : NULL;
        const TensorEntry *b = k < c->b->n ? &c->b->entry[k] : NULL;
        const int order = !a ? 1 : !b ? -1 : strcmp(a->name, b->name);
        c->pair[c->n] = (Pair){.a = order <= 0 ? a : NULL, .b = order >= 0 ? b : NULL};
        compare_pair(c, &c->pair[c->n++]);
        i += order <= 0;
        k += order >= 0;
    }
}

/* ---- text ---- */

static void put_pair(Str *s, Arena *a, const Pair *p) {
    if (p->equal) return;
    const char *x = p->a ? type_text(a, &p->a->type) : NULL;
    const char *y = p->b ? type_text(a, &p->b->type) : NULL;
    str_printf(s, "  %s: ", (p->a ? p->a : p->b)->name);
    if (!y)
        str_printf(s, "only in A, %s, norm %.4g\n", x, p->norm_a);
    else if (!x)
        str_printf(s, "only in B, %s, norm %.4g\n", y, p->norm_b);
    else if (!p->comparable)
        str_printf(s, "of different shapes, %s and %s\n", x, y);
    else if (strcmp(x, y))
        str_printf(s, "differs by %.3g, norms %.4g and %.4g, %s and %s\n", p->relative,
                   p->norm_a, p->norm_b, x, y);
    else
        str_printf(s, "differs by %.3g, norms %.4g and %.4g\n", p->relative, p->norm_a,
                   p->norm_b);
}

static void put_text(Str *s, const Compared *c) {
    str_printf(s, "A %s: %d tensors\nB %s: %d tensors\n", c->a->path, c->a->n,
               c->b->path, c->b->n);
    str_printf(s,
               "%d tensors are equal, %d differ, %d are only in A, %d only in B; in "
               "all |A - B| / |A| = %.3g\n",
               c->equal, c->n - c->equal - c->only_a - c->only_b, c->only_a, c->only_b,
               diff_relative(c->square, c->square_a));
    for (int i = 0; i < c->n; i++) put_pair(s, c->arena, &c->pair[i]);
    diff_meta_text(s, c->a, c->b);
}

/* ---- JSON ---- */

static void put_side(Str *s, Arena *a, const char *side, const TensorEntry *x,
                     double norm) {
    str_printf(s, ", \"%s\": ", side);
    if (!x) {
        str_add(s, "null");
        return;
    }
    str_printf(s, "{\"type\": \"%s\", \"norm\": ", type_text(a, &x->type));
    diff_ratio(s, norm);
    str_add(s, "}");
}

static void put_json(Str *s, const Compared *c) {
    str_add(s, "{\"kind\": \"tensors\", \"a\": ");
    str_json(s, c->a->path);
    str_add(s, ", \"b\": ");
    str_json(s, c->b->path);
    str_printf(s, ", \"equal\": %d, \"only_a\": %d, \"only_b\": %d, \"relative\": ",
               c->equal, c->only_a, c->only_b);
    diff_ratio(s, diff_relative(c->square, c->square_a));
    str_add(s, ", \"tensors\": [");
    for (int i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[i];
        str_add(s, i ? ", {\"name\": " : "{\"name\": ");
        str_json(s, (p->a ? p->a : p->b)->name);
        str_printf(s, ", \"equal\": %s", p->equal ? "true" : "false");
        put_side(s, c->arena, "a", p->a, p->norm_a);
        put_side(s, c->arena, "b", p->b, p->norm_b);
        str_add(s, ", \"relative\": ");
        diff_ratio(s, p->relative);
        str_add(s, "}");
    }
    str_add(s, "], ");
    diff_meta_json(s, c->a, c->b);
    str_add(s, "}\n");
}

bool diff_tensors(const Common *common, const DiffFiles *f, Err *e) {
    TensorFile *a = tensors_open(f->a, e), *b = a ? tensors_open(f->b, e) : NULL;
    if (a && b) {
        Compared c = {.arena = arena_new(), .a = a, .b = b};
        match(&c);
        Str s = {0};
        if (common->json)
            put_json(&s, &c);
        else
            put_text(&s, &c);
        fputs(s.s, stdout);
        str_free(&s);
        arena_free(c.arena);
    }
    tensors_close(a);
    tensors_close(b);
    return a && b;
}
