/* `graphrun diff --sd_model MODEL` of two adapters, of any two kinds: module by module, what
 * each changes in the model's layer, |A - B| / |A| in the Frobenius norm. Good to the
 * rounding of the model's weights in f32. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/adapter_delta.h"
#include "cli/diff.h"
#include "cli/file_tool.h"
#include "runtime/exec.h"

typedef struct Pair {
    const char *module;
    bool in_a, in_b;
    double norm_a, norm_b, relative;
} Pair;

typedef struct Compared {
    Arena *arena;
    AdapterFile *a, *b;
    BaseLayers *base;
    Device *dev;
    Pair *pair;
    int n, only_a, only_b;
    double square, square_a; /* of the whole difference, and of A */
} Compared;

static bool compare_pair(Compared *c, Pair *p, Err *e) {
    LayerDelta a = {0}, b = {0};
    bool ok = (!p->in_a || layer_delta(c->base, c->a, p->module, c->dev, &a, e)) &&
              (!p->in_b || layer_delta(c->base, c->b, p->module, c->dev, &b, e));
    if (ok) {
        const double aa = delta_square(&a), bb = delta_square(&b);
        double square = a.n && b.n ? 0 : aa + bb;
        for (int64_t i = 0; a.n && i < b.n; i++)
            square += ((double)a.x[i] - b.x[i]) * ((double)a.x[i] - b.x[i]);
        p->norm_a = sqrt(aa), p->norm_b = sqrt(bb);
        p->relative = diff_relative(square, aa);
        c->square += square;
        c->square_a += aa;
        c->only_a += !p->in_b;
        c->only_b += !p->in_a;
    }
    free(a.x);
    free(b.x);
    return ok;
}

/* Both lists are sorted. */
static bool match(Compared *c, Err *e) {
    const ModelAdapter *a = adapter_file_layers(c->a), *b = adapter_file_layers(c->b);
    c->pair = NEW(c->arena, Pair, a->n + b->n + 1);
    for (int i = 0, k = 0; i < a->n || k < b->n;) {
        const int order = i == a->n   ? 1
                          : k == b->n ? -1
                                      : strcmp(a->module[i], b->module[k]);
        Pair *p = &c->pair[c->n++];
        *p = (Pair){.module = order <= 0 ? a->module[i] : b->module[k],
                    .in_a = order <= 0,
                    .in_b = order >= 0};
        if (!compare_pair(c, p, e)) return false;
        i += order <= 0;
        k += order >= 0;
    }
    return true;
}

static const char *adapter_name(const AdapterFile *f) {
    return adapter_file_doc(f)->name;
}

static void put_text(Str *s, const Compared *c) {
    const ModelAdapter *a = adapter_file_layers(c->a), *b = adapter_file_layers(c->b);
    str_printf(s, "A %s: %s, %d modules\nB %s: %s, %d modules\n", a->file->path,
               adapter_name(c->a), a->n, b->file->path, adapter_name(c->b), b->n);
    str_printf(
        s,
        "%d modules are in both, %d only in A, %d only in B; what they change in "
        "the model: in all |A - B| / |A| = %.3g\n",
        c->n - c->only_a - c->only_b, c->only_a, c->only_b,
        diff_relative(c->square, c->square_a));
    for (int i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[i];
        if (p->relative == 0) continue;
        str_printf(s, "  %s: ", p->module);
        if (!p->in_b)
            str_printf(s, "only in A, norm %.4g\n", p->norm_a);
        else if (!p->in_a)
            str_printf(s, "only in B, norm %.4g\n", p->norm_b);
        else
            str_printf(s, "differs by %.3g, norms %.4g and %.4g\n", p->relative,
                       p->norm_a, p->norm_b);
    }
    diff_meta_text(s, a->file, b->file);
}

static void put_norm(Str *s, const char *side, bool there, double norm) {
    str_printf(s, ", \"%s\": ", side);
    diff_ratio(s, there ? norm : NAN);
}

static void put_json(Str *s, const Compared *c) {
    const ModelAdapter *a = adapter_file_layers(c->a), *b = adapter_file_layers(c->b);
    str_add(s, "{\"kind\": \"adapters\", \"a\": ");
    str_json(s, a->file->path);
    str_add(s, ", \"b\": ");
    str_json(s, b->file->path);
    str_printf(s, ", \"only_a\": %d, \"only_b\": %d, \"relative\": ", c->only_a,
               c->only_b);
    diff_ratio(s, diff_relative(c->square, c->square_a));
    str_add(s, ", \"modules\": [");
    for (int i = 0; i < c->n; i++) {
        const Pair *p = &c->pair[i];
        str_add(s, i ? ", {\"name\": " : "{\"name\": ");
        str_json(s, p->module);
        put_norm(s, "norm_a", p->in_a, p->norm_a);
        put_norm(s, "norm_b", p->in_b, p->norm_b);
        str_add(s, ", \"relative\": ");
        diff_ratio(s, p->relative);
        str_add(s, "}");
    }
    str_add(s, "], ");
    diff_meta_json(s, a->file, b->file);
    str_add(s, "}\n");
}

bool diff_adapters(const Common *common, const DiffFiles *f, Err *e) {
    Compared c = {.arena = arena_new()};
    bool ok = (c.a = delta_file_open(f->a, f->adapter, e)) &&
              (c.b = delta_file_open(f->b, f->adapter, e)) &&
              (c.base = base_layers_open(f->base, e)) &&
              (c.dev = tool_device(common, NULL, e)) && match(&c, e);
    if (ok) {
        Str s = {0};
        if (common->json)
            put_json(&s, &c);
        else
            put_text(&s, &c);
        fputs(s.s, stdout);
        str_free(&s);
    }
    cpu_close(c.dev);
    base_layers_close(c.base);
    adapter_file_close(c.b);
    adapter_file_close(c.a);
    arena_free(c.arena);
    return ok;
}
