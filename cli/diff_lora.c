/* `graphrun diff` of two LoRAs. Modules are compared by what they add to the weights,
 * whatever their ranks: |A - B| / |A| in the Frobenius norm, from the factors alone. As a
 * difference of inner products it is good to about 1e-8; equal factors are told by bytes. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/adapter_file.h"
#include "cli/diff.h"
#include "io/lora_read.h"

/* below it a difference of inner products in double is rounding */
static const double same = 1e-7;

typedef struct Pair {
    const LoraModule *a, *b; /* one may be NULL */
    bool shapes, equal;      /* of the weights they belong to; every byte, and alpha */
    double norm_a, norm_b, relative;
} Pair;

typedef struct Compared {
    const LoraFile *a, *b;
    Pair *pair;
    int n, equal, only_a, only_b;
    double square, square_a; /* of the whole difference, and of A */
} Compared;

bool diff_is_lora(const char *path) {
    Err ignored = {0};
    TensorFile *f = tensors_open(path, &ignored);
    bool is = f && lora_is(f) && !adapter_file_is(f);
    tensors_close(f);
    return is;
}

static void compare_pair(Compared *c, Pair *p) {
    double aa = p->a ? fmax(0, lora_dot(p->a, p->a)) : 0;
    double bb = p->b ? fmax(0, lora_dot(p->b, p->b)) : 0, square = aa + bb;
    p->norm_a = sqrt(aa);
    p->norm_b = sqrt(bb);
    p->shapes = p->a && p->b && lora_same_shape(p->a, p->b);
    p->equal = p->shapes && p->a->alpha == p->b->alpha &&
               diff_same_bytes(&p->a->down, &p->b->down) &&
               diff_same_bytes(&p->a->up, &p->b->up);
    if (p->equal)
        square = 0;
    else if (p->shapes)
        square = fmax(0, aa + bb - 2 * lora_dot(p->a, p->b));
    p->relative = diff_relative(square, aa);
    c->equal += p->equal;
    c->only_a += !p->b;
    c->only_b += !p->a;
    c->square += square;
    c->square_a += aa;
}

/* Both lists are sorted by name. */
static void match(Compared *c) {
    c->pair = NEW(c->a->arena, Pair, c->a->n + c->b->n);
    for (int i = 0, k = 0; i < c->a->n || k < c->b->n;) {
        const LoraModule *a = i < c->a->n ? &c->a->module[i] : NULL;
        const LoraModule *b = k < c->b->n ? &c->b->module[k] : NULL;
        int order = !a ? 1 : !b ? -1 : strcmp(a->name, b->name);
        c->pair[c->n++] =
            (Pair){.a = order <= 0 ? a : NULL, .b = order >= 0 ? b : NULL};
        i += order <= 0;
        k += order >= 0;
    }
    for (int i = 0; i < c->n; i++) compare_pair(c, &c->pair[i]);
}

/* ---- text ---- */
static void put_pair(Str *s, const Pair *p) {
    if (p->equal) return;
    str_printf(s, "  %s: ", (p->a ? p->a : p->b)->name);
    if (!p->b)
        str_printf(s, "only in A, norm %.4g", p->norm_a);
    else if (!p->a)
        str_printf(s, "only in B, norm %.4g", p->norm_b);
    else if (!p->shapes)
        str_printf(s, "of different layers, %lld x %lld and %lld x %lld",
                   (long long)p->a->out, (long long)p->a->in, (long long)p->b->out,
                   (long long)p->b->in);
    else if (p->relative < same)
        str_printf(s, "other factors with the same product, norm %.4g", p->norm_a);
    else
        str_printf(s, "differs by %.3g, norms %.4g and %.4g", p->relative, p->norm_a,
                   p->norm_b);
    if (p->a && p->b && p->a->rank != p->b->rank)
        str_printf(s, ", ranks %lld and %lld", (long long)p->a->rank,
                   (long long)p->b->rank);
    if (p->a && p->b && p->a->alpha != p->b->alpha)
        str_printf(s, ", alphas %g and %g", p->a->alpha, p->b->alpha);
    str_add(s, "\n");
}

static double relative(const Compared *c) {
    return diff_relative(c->square, c->square_a);
}

static void put_text(Str *s, const Compared *c) {
    str_printf(s, "A %s: %d modules, names of %s\nB %s: %d modules, names of %s\n",
               c->a->file->path, c->a->n, lora_form_name(c->a->form), c->b->file->path,
               c->b->n, lora_form_name(c->b->form));
    str_printf(
        s,
        "%d modules are equal, %d differ, %d are only in A, %d only in B; in all "
        "|A - B| / |A| = %.3g\n",
        c->equal, c->n - c->equal - c->only_a - c->only_b, c->only_a, c->only_b,
        relative(c));
    for (int i = 0; i < c->n; i++) put_pair(s, &c->pair[i]);
    diff_meta_text(s, c->a->file, c->b->file);
}

/* ---- JSON ---- */
static void put_side(Str *s, const char *side, const LoraModule *m, double norm) {
    str_printf(s, ", \"%s\": ", side);
    if (!m) {
        str_add(s, "null");
        return;
    }
    str_printf(s, "{\"rank\": %lld, \"alpha\": ", (long long)m->rank);
    str_double(s, m->alpha);
    str_add(s, ", \"norm\": ");
    if (isfinite(norm))
        str_double(s, norm);
    else
        str_add(s, "null");
    str_add(s, "}");
}

static void put_json(Str *s, const Compared *c) {
    str_add(s, "{\"kind\": \"lora\", \"a\": ");
    str_json(s, c->a->file->path);
    str_add(s, ", \"b\": ");
    str_json(s, c->b->file->path);
    str_printf(s, ", \"equal\": %d, \"only_a\": %d, \"only_b\": %d, \"relative\": ",
               c->equal, c->only_a, c->only_b);
    diff_ratio(s, relative(c));
    str_add(s, ", \"modules\": [");
    for (int i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[i];
        str_add(s, i ? ", {\"name\": " : "{\"name\": ");
        str_json(s, (p->a ? p->a : p->b)->name);
        str_printf(s, ", \"equal\": %s", p->equal ? "true" : "false");
        put_side(s, "a", p->a, p->norm_a);
        put_side(s, "b", p->b, p->norm_b);
        str_add(s, ", \"relative\": ");
        diff_ratio(s, p->relative);
        str_add(s, "}");
    }
    str_add(s, "], ");
    diff_meta_json(s, c->a->file, c->b->file);
    str_add(s, "}\n");
}

bool diff_lora(const Common *common, const DiffFiles *f, Err *e) {
    LoraFile *x = lora_open(f->a, e), *y = x ? lora_open(f->b, e) : NULL;
    if (x && y) {
        Compared c = {.a = x, .b = y};
        match(&c);
        Str s = {0};
        if (common->json)
            put_json(&s, &c);
        else
            put_text(&s, &c);
        fputs(s.s, stdout);
        str_free(&s);
    }
    lora_close(x);
    lora_close(y);
    return x && y;
}
