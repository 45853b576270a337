/* The norms of modules, bounded behind every update (Options.scale_weight_norms; the
 * max-norm regularization of "Dropout", Srivastava et al. 2014, as LoRA trainers do it).
 *
 * Per module, with n = the length of its change of the weight (`norm:` of its adapter) and
 * m the largest that is allowed: r = m / n if n > m, else 1; each of the k tensors that
 * `norm:` scales becomes itself times r^(1/k). Outputs, of all modules:
 *   max_norm.keys_scaled       how many were too long
 *   max_norm.average_key_norm  mean of n * r
 *   max_norm.max_key_norm      largest n * r
 * A tensor that is not too long is not written at all, and none is where the update itself
 * is not made. */
#include "ops/ops.h"
#include "passes/private.h"

typedef struct Norms {
    Graph *g;
    double most;
    Id ok;
    const Id *now; /* per value: what stands in its place by now */
    Err *e;
} Norms;

/* A formula over x0, with the largest norm for M. */
static Id formula(Norms *s, const char *f, Id x) {
    Arena *a = s->g->arena;
    Str m = {0};
    str_double(&m, s->most);
    Str text = {0};
    for (; *f; f++) {
        if (*f == 'M')
            str_add(&text, m.s);
        else
            str_addn(&text, f, 1);
    }
    Id id = add_formula(s->g, F32, arena_strdup(a, text.s), 1, &x, s->e);
    str_free(&m);
    str_free(&text);
    return id;
}

/* The module's tensors as they are now, in f32. Copies: in a plan a view has the name of the
 * memory alone, so one of a tensor that was written may not be read. */
static Id *tensors_now(Norms *s, const Module *m) {
    Graph *g = s->g;
    Id *out = NEW(g->arena, Id, m->n_tensor + 1);
    for (int i = 0; i < m->n_tensor; i++) {
        Id id = graph_find(g, m->tensor_name[i]);
        if (id == NO_ID) {
            err_fail(s->e, "the graph has lost the tensor '%s'", m->tensor_name[i]);
            return NULL;
        }
        out[i] = add_formula(g, F32, "x0", 1, &s->now[id], s->e);
        if (out[i] == NO_ID) return NULL;
    }
    return out;
}

static bool scale(Norms *s, const Module *m, int i, int of, Id now, Id ratio, Id on) {
    Graph *g = s->g;
    Id target = graph_find(g, m->tensor_name[i]);
    if (g->value[target]->role != ROLE_TRAIN)
        return err_at(s->e, m->adapter->root->loc,
                      "'norm' of adapter '%s' scales '%s', which is not trained",
                      m->adapter->name, m->tensor[i].name);
    const char *f = of == 1   ? "x0 * x1"
                    : of == 2 ? "x0 * sqrt(x1)"
                              : arena_printf(g->arena, "x0 * x1 ^ (1 / %d)", of);
    Id x = add_formula(g, F32, f, 2, (Id[]){now, ratio}, s->e);
    if (x == NO_ID) return false;
    Id in[] = {s->now[target], x, on};
    return graph_op(g, &op_assign, NULL, 3, in, s->e) != NO_ID;
}

/* flag: 1 if it was too long; length: as it is after that. */
static bool one(Norms *s, const Module *m, Id *flag, Id *length) {
    Graph *g = s->g;
    Build b = {.g = g, .training = true};
    ModuleNorm norm;
    g->at = (Place){.loc = m->loc, .block = m->block, .phase = UPDATE};
    Id *now = tensors_now(s, m);
    if (!now || !module_norm(&b, m, now, &norm, s->e)) return false;
    Id n = graph_op(g, &op_global_norm, NULL, 1, &norm.of, s->e);
    if (n == NO_ID) return false;
    *flag = formula(s, "x0 > M", n);
    *length = formula(s, "min(x0, M)", n);
    Id ratio = formula(s, "where(x0 > M, M / x0, 1)", n);
    Id on = add_formula(g, F32, "x0 * x1", 2, (Id[]){*flag, s->ok}, s->e);
    if (*flag == NO_ID || ratio == NO_ID || on == NO_ID) return false;
    for (int i = 0; i < norm.n_scale; i++)
        if (!scale(s, m, norm.scale[i], norm.n_scale, now[norm.scale[i]], ratio, on))
            return false;
    return true;
}

/* The largest of n numbers, pair by pair. */
static Id largest(Norms *s, int n, Id *of) {
    for (; n > 1; n = (n + 1) / 2)
        for (int i = 0; i < n; i += 2) {
            of[i / 2] = i + 1 == n
                            ? of[i]
                            : add_formula(s->g, F32, "max(x0, x1)", 2, &of[i], s->e);
            if (of[i / 2] == NO_ID) return NO_ID;
        }
    return of[0];
}

static Id total(Norms *s, int n, const Id *of, const char *f) {
    Id sum = graph_op(s->g, &op_total, NULL, n, of, s->e);
    return sum == NO_ID ? NO_ID : add_formula(s->g, F32, f, 1, &sum, s->e);
}

bool limit_norms(Graph *g, const Modules *m, double most, Id ok, Err *e) {
    int n = m ? m->n : 0;
    if (!n) return err_usage(e, "scale_weight_norms: there is no adapter to limit");
    Norms s = {g, most, ok, values_now(g), e};
    Id *flag = NEW(g->arena, Id, n), *length = NEW(g->arena, Id, n);
    for (int i = 0; i < n; i++)
        if (!one(&s, &m->item[i], &flag[i], &length[i])) return false;
    g->at = (Place){.block = -1, .phase = UPDATE};
    Id keys = total(&s, n, flag, "x0");
    Id mean = total(&s, n, length, arena_printf(g->arena, "x0 / %d", n));
    Id max = largest(&s, n, length);
    if (keys == NO_ID || mean == NO_ID || max == NO_ID) return false;
    graph_output(g, "max_norm.keys_scaled", keys);
    graph_output(g, "max_norm.average_key_norm", mean);
    graph_output(g, "max_norm.max_key_norm", max);
    report(g, "optimizer: %d norms are kept below %g", n, most);
    return true;
}
