/* `graphrun diff` of two LoRAs. Modules are compared by what they add to the weights,
 * whatever their ranks: |A - B| / |A| in the Frobenius norm, from the factors alone. As a
 * difference of inner products it is good to about 1e-8; equal factors are told by bytes. */
#include <math.h>

#include "cli/files/adapter_file.h"
#include "cli/files/diff.h"
#include "io/lora_read.h"

/* below it a difference of inner products in double is rounding */
static const double same = 1e-7;

typedef struct Compared {
    DiffPairs pairs;
    const LoraFile *a, *b;
} Compared;

bool diff_is_lora(const char *path) {
    Err ignored = {0};
    TensorFile *f = tensors_open(path, &ignored);
    bool is = f && lora_is(f) && !adapter_file_is(f);
    tensors_close(f);
    return is;
}

/* NULL: not there. */
static const LoraModule *in_a(const Compared *c, const DiffPair *p) {
    return p->a < 0 ? NULL : &c->a->module[p->a];
}
static const LoraModule *in_b(const Compared *c, const DiffPair *p) {
    return p->b < 0 ? NULL : &c->b->module[p->b];
}

static bool same_layers(const LoraModule *x, const LoraModule *y) {
    return x && y && lora_same_shape(x, y);
}

static void compare_pair(Compared *c, DiffPair *p) {
    const LoraModule *x = in_a(c, p), *y = in_b(c, p);
    const double aa = x ? fmax(0, lora_dot(x, x)) : 0;
    const double bb = y ? fmax(0, lora_dot(y, y)) : 0;
    double square = aa + bb;
    p->equal = same_layers(x, y) && x->alpha == y->alpha &&
               diff_same_bytes(&x->down, &y->down) && diff_same_bytes(&x->up, &y->up);
    if (p->equal)
        square = 0;
    else if (same_layers(x, y))
        square = fmax(0, aa + bb - 2 * lora_dot(x, y));
    diff_count(&c->pairs, p, square, aa, bb);
}

static const char *name_of(const void *list, int i) {
    return ((const LoraFile *)list)->module[i].name;
}

/* ---- text ---- */
static void put_head(Str *s, const void *ctx) {
    const Compared *c = ctx;
    const DiffPairs *p = &c->pairs;
    str_printf(s, "A %s: %d modules, names of %s\nB %s: %d modules, names of %s\n",
               c->a->file->path, c->a->n, lora_form_name(c->a->form), c->b->file->path,
               c->b->n, lora_form_name(c->b->form));
    str_printf(
        s,
        "%d modules are equal, %d differ, %d are only in A, %d only in B; in all "
        "|A - B| / |A| = %.3g\n",
        p->equal, p->n - p->equal - p->only_a - p->only_b, p->only_a, p->only_b,
        diff_whole(p));
}

static void put_pair(Str *s, const void *ctx, const DiffPair *p) {
    const LoraModule *a = in_a(ctx, p), *b = in_b(ctx, p);
    if (p->equal) return;
    str_printf(s, "  %s: ", p->name);
    if (a && b && !same_layers(a, b))
        str_printf(s, "of different layers, %lld x %lld and %lld x %lld",
                   (long long)a->out, (long long)a->in, (long long)b->out,
                   (long long)b->in);
    else if (a && b && p->relative < same)
        str_printf(s, "other factors with the same product, norm %.4g", p->norm_a);
    else
        diff_pair_text(s, p);
    if (a && b && a->rank != b->rank)
        str_printf(s, ", ranks %lld and %lld", (long long)a->rank, (long long)b->rank);
    if (a && b && a->alpha != b->alpha)
        str_printf(s, ", alphas %g and %g", a->alpha, b->alpha);
    str_add(s, "\n");
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
    str_json_number(s, norm);
    str_add(s, "}");
}

static void put_sides(Str *s, const void *ctx, const DiffPair *p) {
    put_side(s, "a", in_a(ctx, p), p->norm_a);
    put_side(s, "b", in_b(ctx, p), p->norm_b);
}

bool diff_lora(const Common *common, const DiffFiles *f, Err *e) {
    static const DiffForm form = {"lora",    "modules", true,
                                  put_sides, put_head,  put_pair};
    LoraFile *x = lora_open(f->a, e), *y = x ? lora_open(f->b, e) : NULL;
    if (x && y) {
        Compared c = {{.arena = x->arena, .a = x->file, .b = y->file}, x, y};
        diff_match(&c.pairs, name_of, x, x->n, y, y->n);
        for (int i = 0; i < c.pairs.n; i++) compare_pair(&c, &c.pairs.item[i]);
        diff_show(common, &form, &c.pairs, &c);
    }
    lora_close(x);
    lora_close(y);
    return x && y;
}
