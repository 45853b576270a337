/* A sampler's document as two plans: what it starts with, and one run of its step. Random
 * numbers become inputs: each picture has its own, whatever batch it is in. */
#include "cli/generate/sampler_plan.h"

#include <string.h>

/* The results of the sampler's random nodes as inputs. */
static Graph *draws_given(Arena *a, const Graph *old, SamplerPlans *out, Err *e) {
    Id *map;
    Graph *g = graph_rewrite(old, &map);
    int cap = 0;
    out->draw = NULL, out->n_draw = 0;
    for (uint32_t i = 0; i < old->n_node; i++) {
        const Node *n = old->node[i];
        if (!(n->op->flags & OP_RANDOM)) {
            if (!graph_copy_node(g, n, old, map, e)) return NULL;
            continue;
        }
        const Value *was = old->value[n->out[0]];
        const char *name = arena_printf(a, "draw.%d", out->n_draw);
        const Id id = graph_value(g, ROLE_INPUT, was->type, name, n->at.loc);
        g->value[id]->batch = was->batch;
        map[n->out[0]] = id;
        PUSH(a, out->draw, out->n_draw, cap, name);
    }
    graph_copy_outputs(g, old, map);
    return g;
}

/* Outputs "PREFIX.NAME", under another prefix: a state's input has the same name. */
static void keep_outputs(Graph *g, const char *prefix, const char *as) {
    const size_t n = strlen(prefix);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_output; i++) {
        const char *name = g->output[i].name;
        if (strncmp(name, prefix, n)) continue;
        g->output[kept] = g->output[i];
        g->output[kept++].name = arena_printf(g->arena, "%s%s", as, name + n);
    }
    g->n_output = kept;
}

static Plan *finished(Graph *g, const Options *opt, Err *e) {
    Options own = *opt;
    g = g ? passes_run(g, &own, "infer-shapes", e) : NULL;
    return g ? plan_lower(g, &own, e) : NULL;
}

/* What a start does not look at. */
static bool any_answer(void *ctx, Build *b, const Named *in, int n_in, Id *out,
                       Err *e) {
    (void)ctx, (void)b, (void)n_in, (void)e;
    *out = in[0].value;
    return true;
}

static Graph *built(Arena *a, const SamplerWish *w, const SamplerModel *model,
                    const Options *opt, Err *e) {
    Build b = {.g = graph_new(a, w->doc->name), .net = opt->net, .n_net = opt->n_net};
    return build_sampler(&b, w->doc, w->args, w->latent, model, e) ? b.g : NULL;
}

bool sampler_plans(Arena *a, const SamplerWish *w, const Options *opt,
                   SamplerPlans *out, Err *e) {
    const SamplerModel unasked = {NULL, any_answer};
    *out = (SamplerPlans){0};
    if (!sampler_runs(a, w->doc, w->args, &out->runs, e)) return false;
    Graph *g = built(a, w, &unasked, opt, e);
    if (!g) return false;
    keep_outputs(g, "start.", "start.");
    out->start = finished(g, opt, e);
    if (!out->start) return false;
    if (yaml_get(w->doc->root, "picture")) {
        g = built(a, w, &unasked, opt, e);
        if (!g) return false;
        keep_outputs(g, "picture.", "picture.");
        out->picture = finished(g, opt, e);
        if (!out->picture) return false;
    }
    g = built(a, w, w->model, opt, e);
    if (!g) return false;
    keep_outputs(g, "state.", "next.");
    g = draws_given(a, g, out, e);
    if (g && w->adapt) g = w->adapt(w->ctx, g, e);
    out->step = finished(g, opt, e);
    return out->step != NULL;
}
