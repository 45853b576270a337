/* What comparisons of two files have in common: pairs by name, what they add up to, and how
 * it is told (see diff.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/files/diff.h"

bool diff_same_bytes(const TensorEntry *x, const TensorEntry *y) {
    return type_equal(&x->type, &y->type) &&
           !memcmp(x->data, y->data, type_bytes(&x->type));
}

/* ---- pairs ---- */

void diff_match(DiffPairs *p, DiffName *name, const void *a, int n_a, const void *b,
                int n_b) {
    p->item = NEW(p->arena, DiffPair, n_a + n_b + 1);
    for (int i = 0, k = 0; i < n_a || k < n_b;) {
        const char *x = i < n_a ? name(a, i) : NULL, *y = k < n_b ? name(b, k) : NULL;
        const int order = !x ? 1 : !y ? -1 : strcmp(x, y);
        p->item[p->n++] = (DiffPair){.name = order <= 0 ? x : y,
                                     .a = order <= 0 ? i : -1,
                                     .b = order >= 0 ? k : -1};
        i += order <= 0;
        k += order >= 0;
    }
}

/* sqrt(square / of), 0 for equal ones, infinite where `of` is 0 */
static double relative(double square, double of) {
    return square == 0 ? 0 : of > 0 ? sqrt(square / of) : INFINITY;
}

void diff_count(DiffPairs *all, DiffPair *p, double square, double square_a,
                double square_b) {
    p->norm_a = sqrt(square_a);
    p->norm_b = sqrt(square_b);
    p->relative = relative(square, square_a);
    all->equal += p->equal;
    all->only_a += p->b < 0;
    all->only_b += p->a < 0;
    all->square += square;
    all->square_a += square_a;
}

double diff_whole(const DiffPairs *p) {
    return relative(p->square, p->square_a);
}

void diff_pair_text(Str *s, const DiffPair *p) {
    if (p->b < 0)
        str_printf(s, "only in A, norm %.4g", p->norm_a);
    else if (p->a < 0)
        str_printf(s, "only in B, norm %.4g", p->norm_b);
    else
        str_printf(s, "differs by %.3g, norms %.4g and %.4g", p->relative, p->norm_a,
                   p->norm_b);
}

/* ---- metadata whose values differ ---- */

typedef void PutMeta(Str *s, const char *key, const char *a, const char *b);

static void each_meta(Str *s, const TensorFile *a, const TensorFile *b, PutMeta *put) {
    for (int i = 0; i < a->n_meta; i++) {
        const char *other = tensors_meta(b, a->meta_key[i]);
        if (!other || strcmp(other, a->meta_value[i]))
            put(s, a->meta_key[i], a->meta_value[i], other);
    }
    for (int i = 0; i < b->n_meta; i++)
        if (!tensors_meta(a, b->meta_key[i]))
            put(s, b->meta_key[i], NULL, b->meta_value[i]);
}

static void put_shown(Str *s, const char *value) {
    enum { MOST_SHOWN = 60 };
    str_printf(s, "%.*s%s", MOST_SHOWN, value ? value : "(not there)",
               value && strlen(value) > MOST_SHOWN ? "..." : "");
}

static void meta_line(Str *s, const char *key, const char *a, const char *b) {
    str_printf(s, "  %s: ", key);
    put_shown(s, a);
    str_add(s, " | ");
    put_shown(s, b);
    str_add(s, "\n");
}

static void meta_key(Str *s, const char *key, const char *a, const char *b) {
    (void)a, (void)b;
    str_add(s, s->n ? ", " : "");
    str_json(s, key);
}

static void meta_text(Str *s, const TensorFile *a, const TensorFile *b) {
    Str lines = {0};
    each_meta(&lines, a, b, meta_line);
    if (lines.n) str_printf(s, "metadata\n%s", lines.s);
    str_free(&lines);
}

static void meta_json(Str *s, const TensorFile *a, const TensorFile *b) {
    Str keys = {0};
    each_meta(&keys, a, b, meta_key);
    str_printf(s, "\"metadata\": [%s]", keys.n ? keys.s : "");
    str_free(&keys);
}

/* ---- both forms ---- */

static void put_json(Str *s, const DiffForm *f, const DiffPairs *p, const void *ctx) {
    str_printf(s, "{\"kind\": \"%s\", \"a\": ", f->kind);
    str_json(s, p->a->path);
    str_add(s, ", \"b\": ");
    str_json(s, p->b->path);
    if (f->equal) str_printf(s, ", \"equal\": %d", p->equal);
    str_printf(s, ", \"only_a\": %d, \"only_b\": %d, \"relative\": ", p->only_a,
               p->only_b);
    str_json_number(s, diff_whole(p));
    str_printf(s, ", \"%s\": [", f->list);
    for (int i = 0; i < p->n; i++) {
        const DiffPair *x = &p->item[i];
        str_add(s, i ? ", {\"name\": " : "{\"name\": ");
        str_json(s, x->name);
        if (f->equal) str_printf(s, ", \"equal\": %s", x->equal ? "true" : "false");
        f->sides(s, ctx, x);
        str_add(s, ", \"relative\": ");
        str_json_number(s, x->relative);
        str_add(s, "}");
    }
    str_add(s, "], ");
    meta_json(s, p->a, p->b);
    str_add(s, "}\n");
}

void diff_show(const Common *c, const DiffForm *f, const DiffPairs *p,
               const void *ctx) {
    Str s = {0};
    if (c->json) {
        put_json(&s, f, p, ctx);
    } else {
        f->head(&s, ctx);
        for (int i = 0; i < p->n; i++) f->pair(&s, ctx, &p->item[i]);
        meta_text(&s, p->a, p->b);
    }
    fputs(s.s, stdout);
    str_free(&s);
}
