/* `graphrun diff --sd_model MODEL` of two adapters, of any two kinds: module by module, what
 * each changes in the model's layer, |A - B| / |A| in the Frobenius norm. Good to the
 * rounding of the model's weights in f32. */
#include <math.h>
#include <stdlib.h>

#include "cli/files/adapter_delta.h"
#include "cli/files/diff.h"
#include "cli/files/file_tool.h"
#include "runtime/exec.h"

typedef struct Compared {
    DiffPairs pairs;
    AdapterFile *a, *b;
    BaseLayers *base;
    Device *dev;
} Compared;

static bool compare_pair(Compared *c, DiffPair *p, Err *e) {
    LayerDelta a = {0}, b = {0};
    bool ok = (p->a < 0 || layer_delta(c->base, c->a, p->name, c->dev, &a, e)) &&
              (p->b < 0 || layer_delta(c->base, c->b, p->name, c->dev, &b, e));
    if (ok) {
        const double aa = delta_square(&a), bb = delta_square(&b);
        double square = a.n && b.n ? 0 : aa + bb;
        for (int64_t i = 0; a.n && i < b.n; i++)
            square += ((double)a.x[i] - b.x[i]) * ((double)a.x[i] - b.x[i]);
        diff_count(&c->pairs, p, square, aa, bb);
    }
    free(a.x);
    free(b.x);
    return ok;
}

static const char *name_of(const void *list, int i) {
    return ((const ModelAdapter *)list)->module[i];
}

static bool compare(Compared *c, Err *e) {
    const ModelAdapter *a = adapter_file_layers(c->a), *b = adapter_file_layers(c->b);
    DiffPairs *p = &c->pairs;
    p->a = a->file, p->b = b->file;
    diff_match(p, name_of, a, a->n, b, b->n);
    for (int i = 0; i < p->n; i++)
        if (!compare_pair(c, &p->item[i], e)) return false;
    return true;
}

static void put_file(Str *s, const char *side, const AdapterFile *f) {
    const ModelAdapter *m = adapter_file_layers(f);
    str_printf(s, "%s %s: %s, %d modules\n", side, m->file->path,
               adapter_file_doc(f)->name, m->n);
}

static void put_head(Str *s, const void *ctx) {
    const Compared *c = ctx;
    const DiffPairs *p = &c->pairs;
    put_file(s, "A", c->a);
    put_file(s, "B", c->b);
    str_printf(
        s,
        "%d modules are in both, %d only in A, %d only in B; what they change in "
        "the model: in all |A - B| / |A| = %.3g\n",
        p->n - p->only_a - p->only_b, p->only_a, p->only_b, diff_whole(p));
}

static void put_pair(Str *s, const void *ctx, const DiffPair *p) {
    (void)ctx;
    if (p->relative == 0) return;
    str_printf(s, "  %s: ", p->name);
    diff_pair_text(s, p);
    str_add(s, "\n");
}

static void put_norm(Str *s, const char *side, bool there, double norm) {
    str_printf(s, ", \"%s\": ", side);
    str_json_number(s, there ? norm : NAN);
}

static void put_sides(Str *s, const void *ctx, const DiffPair *p) {
    (void)ctx;
    put_norm(s, "norm_a", p->a >= 0, p->norm_a);
    put_norm(s, "norm_b", p->b >= 0, p->norm_b);
}

bool diff_adapters(const Common *common, const DiffFiles *f, Err *e) {
    static const DiffForm form = {"adapters", "modules", false,
                                  put_sides,  put_head,  put_pair};
    Compared c = {.pairs.arena = arena_new()};
    bool ok = (c.a = adapter_file_at(f->a, f->adapter, NULL, e)) &&
              (c.b = adapter_file_at(f->b, f->adapter, NULL, e)) &&
              (c.base = base_layers_open(f->base, e)) &&
              (c.dev = tool_device(common, NULL, e)) && compare(&c, e);
    if (ok) diff_show(common, &form, &c.pairs, &c);
    cpu_close(c.dev);
    base_layers_close(c.base);
    adapter_file_close(c.b);
    adapter_file_close(c.a);
    arena_free(c.pairs.arena);
    return ok;
}
