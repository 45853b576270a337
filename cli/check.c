/* `graphrun check FILE…`: is a graph file good? Every kind is loaded and built once, at
 * small sizes and without weights, so that what a user's file gets wrong shows here. */
#include <stdio.h>
#include <string.h>

#include "cli/check_adapter.h"
#include "cli/job/setting.h"
#include "cli/opt.h"
#include "graph/lang/build.h"
#include "passes/passes.h"

typedef struct CheckOptions {
    bool modules;
    WordList set;
} CheckOptions;

/* One file being checked. */
typedef struct Check {
    Arena *a;
    Library *lib;
    const Doc *doc;
    const Args *set;
    bool modules;
    const char *found; /* what else there is to say of a good file */
} Check;

/* ---- networks ---- */

/* The named variant if the document has it, else its first; NULL: it has none. */
static const char *variant_of(const Doc *d, const char *wanted) {
    const YNode *v = yaml_get(d->root, "variants");
    if (!v || !v->n) return NULL;
    return wanted && yaml_get(v, wanted) ? wanted : v->key[0]->s;
}

static bool bind_net(Check *c, const Doc *d, const char *name, const char *variant,
                     const Args *given, Net *out, Err *e) {
    const Args *some = given ? given : args_new(c->a);
    return net_bind(c->a, d, name, variant, some, NULL, out, NULL, e);
}

static Graph *network_graph(Check *c, Net *net, bool training, Err *e) {
    Graph *g = graph_new(c->a, net->name);
    Build b = {.g = g, .training = training};
    Named *in, *out;
    int n_in, n_out;
    const Args *dims = probe_dims(c->a, net->doc);
    if (!build_inputs(&b, net->doc, net->args, dims, "", &in, &n_in, e) ||
        !build_network(&b, net, in, n_in, &out, &n_out, e))
        return NULL;
    for (int i = 0; i < n_out; i++) graph_output(g, out[i].name, out[i].value);
    return g;
}

static bool check_network(Check *c, Err *e) {
    Net net;
    if (!bind_net(c, c->doc, c->doc->name, variant_of(c->doc, NULL), c->set, &net, e))
        return false;
    Graph *g = network_graph(c, &net, false, e);
    return g && graph_verify(g, e);
}

/* A network for documents that only name it: "unet" by its file, "text_encoder" is clip;
 * the tiny variant where there is one. */
static bool stand_in(Check *c, const char *name, Net *out, Err *e) {
    const char *file = strcmp(name, "text_encoder") ? name : "clip";
    const Doc *d = doc_load(c->lib, file, DOC_NETWORK, c->doc, loc_none(), e);
    return d && bind_net(c, d, name, variant_of(d, "tiny"), NULL, out, e);
}

/* ---- adapters ---- */

static void print_modules(const Modules *m) {
    Str s = {0};
    for (int i = 0; i < m->n; i++) {
        const Module *k = &m->item[i];
        str_printf(&s, "%s  %s.%s  adapter %s\n", k->root, k->network, k->path,
                   k->adapter->name);
        for (int j = 0; j < k->args->n; j++) {
            str_printf(&s, "  %s = ", k->args->name[j]);
            val_print(&s, &k->args->val[j]);
            str_printf(&s, "  (%s)\n", k->from[j]);
        }
    }
    fputs(s.s ? s.s : "", stdout);
    str_free(&s);
}

/* `norm:` can be made of the module's tensors. */
static bool check_norm(Check *c, Graph *g, const Module *m, Err *e) {
    if (!yaml_get(m->adapter->root, "norm")) return true;
    Id *now = NEW(c->a, Id, m->n_tensor + 1);
    for (int i = 0; i < m->n_tensor; i++) now[i] = graph_find(g, m->tensor_name[i]);
    Build b = {.g = g, .training = true};
    ModuleNorm norm;
    return module_norm(&b, m, now, &norm, e);
}

/* Modules of a recipe's entries in g, injected, with all their tensors named and reached. */
static bool check_modules(Check *c, const Graph *g, const Recipe *r, const Net *net,
                          int n_net, Err *e) {
    Modules m = {0};
    if (!modules_match(c->a, g, r, net, n_net, &m, e)) return false;
    Graph *with = adapters_inject(g, &m, true, e);
    if (!with || !graph_verify(with, e) || !modules_learn(with, g, &m, e)) return false;
    for (int i = 0; i < m.n; i++) {
        const YNode *save = yaml_get(m.item[i].adapter->root, "save");
        for (int k = 0; save && k < save->n; k++) {
            SavedTensor *t;
            int n;
            if (!module_saved(c->a, &m.item[i], with, save->key[k]->s, &t, &n, e))
                return false;
        }
        if (!check_norm(c, with, &m.item[i], e)) return false;
    }
    if (c->modules) print_modules(&m);
    return true;
}

/* On every node of the U-Net that it may wrap. */
static bool check_adapter(Check *c, Err *e) {
    static const char *const everything[] = {"**", NULL};
    Net net;
    if (!stand_in(c, "unet", &net, e)) return false;
    Graph *g = network_graph(c, &net, true, e);
    if (!g) return false;
    AdapterTarget on = {
        .network = net.name, .pattern = everything, .loc = c->doc->root->loc};
    AdapterEntry entry = {
        .doc = c->doc, .on = &on, .n_on = 1, .loc = c->doc->root->loc};
    entry.args = args_copy(c->a, c->set);
    Recipe r = {.adapter = &entry, .n_adapter = 1};
    AdapterProof p = {.library = c->lib, .doc = c->doc, .args = c->set};
    if (!check_modules(c, g, &r, &net, 1, e) || !adapter_prove(&p, e)) return false;
    c->found = !p.proved ? ""
               : p.not_affine
                   ? ": changes nothing at the start; cannot be merged, it is "
                     "not affine in its input"
                   : ": changes nothing at the start; can be merged";
    return true;
}

/* ---- documents around networks ---- */

static bool check_objective(Check *c, Err *e) {
    const YNode *names = yaml_get(c->doc->root, "networks");
    int n = names ? names->n : 0;
    Net *net = NEW(c->a, Net, n + 1);
    for (int i = 0; i < n; i++)
        if (!stand_in(c, names->item[i]->s, &net[i], e)) return false;
    Graph *g = graph_new(c->a, c->doc->name);
    Build b = {.g = g, .net = net, .n_net = n, .training = true};
    return build_objective(&b, c->doc, c->set, probe_dims(c->a, c->doc), e) &&
           graph_verify(g, e);
}

/* A model that answers with an input of the latent's type. */
static bool any_model(void *ctx, Build *b, const Named *in, int n_in, Id *out, Err *e) {
    const Type *latent = ctx;
    char name[32];
    (void)in, (void)n_in, (void)e;
    snprintf(name, sizeof name, "model.%u", b->g->n_value);
    *out = graph_value(b->g, ROLE_INPUT, *latent, name, loc_none());
    b->g->value[*out]->batch = true;
    return true;
}

static bool check_sampler(Check *c, Err *e) {
    Type latent = type_of(F32, 4, (int64_t[]){2, 8, 8, 4});
    SamplerModel model = {&latent, any_model};
    Build b = {.g = graph_new(c->a, c->doc->name)};
    return build_sampler(&b, c->doc, c->set, latent, &model, e) && graph_verify(b.g, e);
}

/* On a matrix and a vector, the matrix learning in slices or not. */
static bool check_update(Check *c, const Doc *d, const Args *args, bool watch, Err *e) {
    for (int cut = 0; cut < 2; cut++) {
        Graph *g = graph_new(c->a, d->name);
        Build b = {.g = g};
        UpdateParam p[2];
        for (int i = 0; i < 2; i++) {
            const char *name = i ? "vector" : "matrix";
            Type t = type_of(F32, i ? 1 : 2, (int64_t[]){6, 4});
            p[i] = (UpdateParam){.name = name, .slice_axis = -1, .active = NO_ID};
            p[i].watch = watch;
            p[i].p = graph_value(g, ROLE_TRAIN, t, name, loc_none());
            p[i].grad = graph_value(g, ROLE_INPUT, t, i ? "g1" : "g0", loc_none());
            p[i].lr = graph_value(g, ROLE_SCALAR, type_scalar(F64), i ? "lr1" : "lr0",
                                  loc_none());
        }
        if (cut) {
            p[0].slice_axis = 0;
            p[0].slice_size = 2;
            p[0].active = graph_value(g, ROLE_INPUT, type_of(I32, 1, (int64_t[]){3}),
                                      "on", loc_none());
        }
        Id ok = graph_number(g, 1, F32);
        if (!build_update_nodes(&b, d, args, p, 2, ok, e) || !graph_verify(g, e))
            return false;
    }
    return true;
}

/* A document without a new p only looks: a running mean. */
static bool check_optimizer(Check *c, Err *e) {
    bool watch = yaml_get(yaml_get(c->doc->root, "update"), "p") == NULL &&
                 yaml_get(yaml_get(c->doc->root, "state"), "average") != NULL;
    return check_update(c, c->doc, c->set, watch, e);
}

static bool check_preset(Check *c, Err *e) {
    Preset p;
    return preset_eval(c->a, c->doc, &p, e);
}

/* Options without a default are given a word, so that a recipe can be judged without the
 * files it will be used with. */
static void fill_options(Check *c, const Doc *d, Args *set) {
    static const char *const texts[] = {"path", "word"};
    const YNode *options = yaml_get(d->root, "options");
    for (int i = 0; options && i < options->n; i++)
        for (size_t k = 0; k < COUNT(texts); k++)
            if (options->item[i]->kind == Y_SCALAR &&
                !strcmp(options->item[i]->s, texts[k]) &&
                !args_get(set, options->key[i]->s))
                args_set(set, options->key[i]->s, val_word("check"));
    for (int i = 0; i < d->n_from; i++) fill_options(c, d->from[i], set);
}

static bool check_recipe(Check *c, Err *e) {
    Recipe r;
    Args *set = args_copy(c->a, c->set);
    fill_options(c, c->doc, set);
    if (!recipe_eval(c->a, c->lib, c->doc, set, &r, e)) return false;
    Net *net = NEW(c->a, Net, r.n_network + 1);
    for (int i = 0; i < r.n_network; i++) {
        const RecipeNetwork *n = &r.network[i];
        const char *variant = n->variant ? n->variant : variant_of(n->doc, NULL);
        if (!bind_net(c, n->doc, n->name, variant, n->args, &net[i], e)) return false;
    }
    Graph *g = graph_new(c->a, c->doc->name);
    Build b = {.g = g, .net = net, .n_net = r.n_network, .training = true};
    if (!build_objective(&b, r.objective, r.objective_args,
                         probe_dims(c->a, r.objective), e))
        return false;
    if (!check_update(c, r.optimizer, r.optimizer_args, false, e)) return false;
    if (r.average && !check_update(c, r.average, r.average_args, true, e)) return false;
    return check_modules(c, g, &r, net, r.n_network, e);
}

static bool check_library(Check *c, Err *e) {
    (void)c, (void)e;
    return true; /* templates have no meaning of their own; loading checked their form */
}

/* ---- the command ---- */

static bool (*const checks[DOC_KINDS])(Check *c, Err *e) = {
    [DOC_NETWORK] = check_network, [DOC_ADAPTER] = check_adapter,
    [DOC_PRESET] = check_preset,   [DOC_OBJECTIVE] = check_objective,
    [DOC_SAMPLER] = check_sampler, [DOC_OPTIMIZER] = check_optimizer,
    [DOC_RECIPE] = check_recipe,   [DOC_LIBRARY] = check_library,
};

static bool check_file(const char *file, const CheckOptions *o, Err *e) {
    Check c = {.a = arena_new(), .modules = o->modules};
    c.lib = library_new(c.a);
    Args *set = args_new(c.a);
    c.set = set;
    bool ok = settings(c.a, &o->set, "--set", set, e);
    if (ok) c.doc = doc_load(c.lib, file, DOC_KINDS, NULL, loc_none(), e);
    ok = c.doc && checks[c.doc->kind](&c, e);
    if (ok)
        printf("%s: ok (%s %s)%s\n", file, doc_kind_name(c.doc->kind), c.doc->name,
               c.found ? c.found : "");
    arena_free(c.a);
    return ok;
}

/* All files are checked; every failure but the last is printed here. */
static int run(const Common *common, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)common, (void)given;
    int code = EXIT_DONE;
    for (int i = 0; i < words->n; i++) {
        Err failed = {0};
        if (check_file(words->word[i], opts, &failed)) continue;
        if (e->set) fprintf(stderr, "%s\n", e->text);
        *e = failed;
        if (code == EXIT_DONE) code = failed.code;
    }
    return code;
}

static const CheckOptions defaults;
static const Opt options[] = {
    OPT(CheckOptions, FLAG, modules, NULL,
        "print the arguments of every module and where each comes from"),
    OPT(CheckOptions, EACH, set, "KEY=VALUE", "an argument or option of the document"),
    OPT_END,
};
const Command cmd_check = {
    .name = "check",
    .args = "FILE...",
    .doc = "Says whether graph files are good, and where they are not.",
    .options = options,
    .size = sizeof(CheckOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = -1,
    .run = run,
};
