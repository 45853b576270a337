/* `graphrun diff` of files of tensors that are no plain LoRAs: tensor by tensor,
 * |A - B| / |A| in the Frobenius norm; equal ones are told by bytes. */
#include <string.h>

#include "cli/files/diff.h"
#include "cli/files/file_tool.h"

bool diff_is_tensors(const char *path) {
    Err ignored = {0};
    TensorFile *f = tensors_open(path, &ignored);
    tensors_close(f);
    return f != NULL;
}

static const char *name_of(const void *list, int i) {
    return ((const TensorFile *)list)->entry[i].name;
}

/* NULL: not there. */
static const TensorEntry *in_a(const DiffPairs *c, const DiffPair *p) {
    return p->a < 0 ? NULL : &c->a->entry[p->a];
}
static const TensorEntry *in_b(const DiffPairs *c, const DiffPair *p) {
    return p->b < 0 ? NULL : &c->b->entry[p->b];
}

static bool comparable(const TensorEntry *x, const TensorEntry *y) {
    return x && y && type_same_shape(&x->type, &y->type);
}

static void compare_pair(DiffPairs *c, DiffPair *p) {
    const TensorEntry *x = in_a(c, p), *y = in_b(c, p);
    TensorSquares s = {0};
    if (comparable(x, y)) {
        p->equal = diff_same_bytes(x, y);
        s = tensor_squares(x, y);
        if (p->equal) s.difference = 0; /* NaN among them */
    } else {
        if (x) s.a = tensor_squares(x, NULL).a;
        if (y) s.b = tensor_squares(NULL, y).b;
        s.difference = s.a + s.b;
    }
    diff_count(c, p, s.difference, s.a, s.b);
    if (x) tensors_release(c->a, x->data, type_bytes(&x->type));
    if (y) tensors_release(c->b, y->data, type_bytes(&y->type));
}

static void put_head(Str *s, const void *ctx) {
    const DiffPairs *c = ctx;
    str_printf(s, "A %s: %d tensors\nB %s: %d tensors\n", c->a->path, c->a->n,
               c->b->path, c->b->n);
    str_printf(s,
               "%d tensors are equal, %d differ, %d are only in A, %d only in B; in "
               "all |A - B| / |A| = %.3g\n",
               c->equal, c->n - c->equal - c->only_a - c->only_b, c->only_a, c->only_b,
               diff_whole(c));
}

static void put_pair(Str *s, const void *ctx, const DiffPair *p) {
    const DiffPairs *c = ctx;
    const TensorEntry *a = in_a(c, p), *b = in_b(c, p);
    if (p->equal) return;
    const char *x = a ? type_text(c->arena, &a->type) : NULL;
    const char *y = b ? type_text(c->arena, &b->type) : NULL;
    str_printf(s, "  %s: ", p->name);
    if (!y)
        str_printf(s, "only in A, %s, norm %.4g", x, p->norm_a);
    else if (!x)
        str_printf(s, "only in B, %s, norm %.4g", y, p->norm_b);
    else if (!comparable(a, b))
        str_printf(s, "of different shapes, %s and %s", x, y);
    else
        diff_pair_text(s, p);
    if (comparable(a, b) && strcmp(x, y)) str_printf(s, ", %s and %s", x, y);
    str_add(s, "\n");
}

static void put_side(Str *s, Arena *a, const char *side, const TensorEntry *x,
                     double norm) {
    str_printf(s, ", \"%s\": ", side);
    if (!x) {
        str_add(s, "null");
        return;
    }
    str_printf(s, "{\"type\": \"%s\", \"norm\": ", type_text(a, &x->type));
    str_json_number(s, norm);
    str_add(s, "}");
}

static void put_sides(Str *s, const void *ctx, const DiffPair *p) {
    const DiffPairs *c = ctx;
    put_side(s, c->arena, "a", in_a(c, p), p->norm_a);
    put_side(s, c->arena, "b", in_b(c, p), p->norm_b);
}

bool diff_tensors(const Common *common, const DiffFiles *f, Err *e) {
    static const DiffForm form = {"tensors", "tensors", true,
                                  put_sides, put_head,  put_pair};
    TensorFile *a = tensors_open(f->a, e), *b = a ? tensors_open(f->b, e) : NULL;
    if (a && b) {
        DiffPairs c = {.arena = arena_new(), .a = a, .b = b};
        diff_match(&c, name_of, a, a->n, b, b->n);
        for (int i = 0; i < c.n; i++) compare_pair(&c, &c.item[i]);
        diff_show(common, &form, &c, &c);
        arena_free(c.arena);
    }
    tensors_close(a);
    tensors_close(b);
    return a && b;
}
