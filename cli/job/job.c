/* Recipes with their models: finding tensors, config arguments, variants, forward plans. */
#include "cli/job/job.h"

#include <string.h>

#include "io/model_config.h"
#include "io/names.h"

struct JobNet {
    Checkpoint *model; /* NULL: none */
};

enum { LONGEST_NAME = 512 };

static bool find_named(const Checkpoint *m, const char *path, Type *t,
                       const void **data, char name[LONGEST_NAME]) {
    for (const char *const *c = checkpoint_components; *c; c++) {
        size_t n = strlen(*c), rest = strlen(path);
        if (n + rest + 2 > LONGEST_NAME) return false;
        memcpy(name, *c, n);
        name[n] = '.';
        memcpy(name + n + 1, path, rest + 1);
        if (checkpoint_find(m, name, t, data)) return true;
    }
    return false;
}

static bool find_path(const Checkpoint *m, const char *path, Type *t,
                      const void **data) {
    char name[LONGEST_NAME];
    return find_named(m, path, t, data, name);
}

static bool shape_in_model(void *ctx, const char *path, Type *out) {
    const void *data;
    return find_path(ctx, path, out, &data);
}

const WeightShapes *job_shapes(Job *j, Checkpoint *model) {
    WeightShapes *s = NEW(j->arena, WeightShapes, 1);
    *s = (WeightShapes){model, shape_in_model};
    return s;
}

Checkpoint *job_model(Job *j, const char *path, Err *e) {
    for (int i = 0; i < j->n_base; i++)
        if (!strcmp(checkpoint_path(j->base[i]), path)) return j->base[i];
    Checkpoint *c = checkpoint_open(path, e);
    if (c) PUSH(j->arena, j->base, j->n_base, j->cap_base, c);
    return c;
}

/* The component whose config describes a network: the one that its adapters' peft prefix
 * names, else the one its own name starts with ("vae_encoder" -> "vae"). */
static const char *component_of(const Doc *d) {
    const YNode *prefix = yaml_get(d->root, "prefix");
    const YNode *peft = prefix ? yaml_get(prefix, "peft") : NULL;
    const char *name = peft ? peft->s : d->name;
    for (const char *const *c = checkpoint_components; *c; c++)
        if (!strncmp(name, *c, strlen(*c))) return *c;
    return NULL;
}

bool job_config(Job *j, Checkpoint *model, const Doc *network, Args *given, Err *e) {
    const char *component = component_of(network);
    const char *json = component ? checkpoint_config(model, component) : NULL;
    if (!json || !*json) return true;
    Args *found = args_new(j->arena);
    const char *path = checkpoint_config_path(model, component);
    if (!model_config_args(j->arena, component, json, path, found, e)) return false;
    const YNode *declared = yaml_get(network->root, "args");
    for (int i = 0; i < found->n; i++)
        if (declared && yaml_get(declared, found->name[i]) &&
            !args_get(given, found->name[i]))
            args_set(given, found->name[i], found->val[i]);
    return true;
}

/* ---- a network of a known model, without the model ---- */
typedef struct KnownForms {
    Arena *arena;
    const char *family, *network;
    bool opened; /* the table is large, and a plan from the cache does not ask */
    const Names *names;
    const char *component; /* NULL: the family does not know the network */
} KnownForms;

static bool convolution_in_files(void *ctx, const char *path) {
    KnownForms *k = ctx;
    Err ignored = {0};
    if (!k->opened) {
        k->opened = true;
        k->names = names_open(k->arena, k->family, &ignored);
        k->component = k->names ? names_component(k->names, k->network) : NULL;
    }
    if (!k->component) return false;
    const char *name = arena_printf(k->arena, "%s.%s", k->component, path);
    NameTo to;
    return names_to_file(k->names, k->arena, name, &to) && to.conv_diffusers;
}

/* The forms of the model that has this variant of the network; NULL: none is known. */
static const WeightForms *known_forms(Arena *a, const char *network,
                                      const char *variant) {
    for (const char *const *model = names_models(a); *model; model++) {
        const char *family, *its = names_variant(a, *model, network, &family);
        if (!its || strcmp(its, variant)) continue;
        KnownForms *k = NEW(a, KnownForms, 1);
        *k = (KnownForms){.arena = a, .family = family, .network = network};
        WeightForms *f = NEW(a, WeightForms, 1);
        *f = (WeightForms){k, convolution_in_files};
        return f;
    }
    return NULL;
}

static bool bind(Job *j, int i, Err *e) {
    const RecipeNetwork *r = &j->recipe.network[i];
    Args *given = args_copy(j->arena, r->args);
    Checkpoint *model = NULL;
    if (r->weights && *r->weights) {
        model = job_model(j, r->weights, e);
        if (!model || !job_config(j, model, r->doc, given, e)) return false;
    }
    j->source[i].model = model;
    const WeightShapes *shapes = model ? job_shapes(j, model) : NULL;
    if (!net_bind(j->arena, r->doc, r->name, r->variant, given, shapes, &j->net[i],
                  &j->note, e))
        return false;
    j->net[i].train = r->train && r->lr != 0;
    j->net[i].lr = r->lr;
    if (!shapes && r->variant)
        j->net[i].forms = known_forms(j->arena, r->doc->name, r->variant);
    return true;
}

bool job_load(Job *j, const char *recipe, Err *e) {
    *j = (Job){.arena = arena_new()};
    j->library = library_new(j->arena);
    j->doc = doc_load(j->library, recipe, DOC_RECIPE, NULL, loc_none(), e);
    return j->doc != NULL;
}

bool job_open(Job *j, const Args *set, Err *e) {
    return recipe_eval(j->arena, j->library, j->doc, set, &j->recipe, e) &&
           job_networks(j, e);
}

bool job_networks(Job *j, Err *e) {
    j->n_net = j->recipe.n_network;
    j->net = NEW(j->arena, Net, j->n_net);
    j->source = NEW(j->arena, JobNet, j->n_net);
    for (int i = 0; i < j->n_net; i++)
        if (!bind(j, i, e)) return false;
    return true;
}

void job_close(Job *j) {
    for (int i = 0; i < j->n_base; i++) checkpoint_close(j->base[i]);
    str_free(&j->note);
    arena_free(j->arena);
    *j = (Job){0};
}

static int net_index(const Job *j, const char *network, size_t n) {
    for (int i = 0; i < j->n_net; i++)
        if (strlen(j->net[i].name) == n && !memcmp(j->net[i].name, network, n))
            return i;
    return -1;
}

Checkpoint *job_checkpoint(const Job *j, const char *network) {
    int i = net_index(j, network, strlen(network));
    return i < 0 ? NULL : j->source[i].model;
}

const Net *job_net(const Job *j, const char *network) {
    int i = net_index(j, network, strlen(network));
    return i < 0 ? NULL : &j->net[i];
}

bool job_clip_skip_fits(const Job *j, Err *e) {
    for (int i = 0; i < j->n_net; i++) {
        const Val *layers = args_get(j->net[i].args, "layers");
        const Val *skip = args_get(j->net[i].args, "clip_skip");
        if (layers && skip && skip->i > layers->i)
            return err_usage(e, "--clip_skip: got %lld, '%s' has %lld layers",
                             (long long)skip->i, j->net[i].name, (long long)layers->i);
    }
    return true;
}

void job_use_net(Job *j, const Net *net, Checkpoint *model) {
    j->n_net = 1;
    j->net = NEW(j->arena, Net, 1);
    j->source = NEW(j->arena, JobNet, 1);
    j->net[0] = *net;
    j->source[0].model = model;
}

static bool find_weight(void *ctx, const char *name, Tensor *out) {
    const Job *j = ctx;
    const char *dot = strchr(name, '.');
    int i = dot ? net_index(j, name, (size_t)(dot - name)) : -1;
    if (i < 0 || !j->source[i].model) return false;
    Type *t = NEW(j->arena, Type, 1);
    const void *data;
    if (!find_path(j->source[i].model, dot + 1, t, &data)) return false;
    *out = (Tensor){(void *)data, t};
    return true;
}

const char *job_tensor_name(const Job *j, const char *tensor) {
    const char *dot = strchr(tensor, '.');
    int i = dot ? net_index(j, tensor, (size_t)(dot - tensor)) : -1;
    char name[LONGEST_NAME];
    Type t;
    const void *data;
    return i >= 0 && j->source[i].model &&
                   find_named(j->source[i].model, dot + 1, &t, &data, name)
               ? arena_strdup(j->arena, name)
               : NULL;
}

WeightSource job_weights(Job *j) {
    return (WeightSource){j, find_weight};
}

Plan *job_network_plan(Job *j, const Net *net, const Args *dims, const Options *like,
                       Err *e) {
    Graph *g = graph_new(j->arena, net->name);
    Build b = {.g = g, .net = (Net *)net, .n_net = 1};
    Named *in, *out;
    int n_in, n_out;
    if (!build_inputs(&b, net->doc, net->args, dims, "", &in, &n_in, e) ||
        !build_network(&b, net, in, n_in, &out, &n_out, e))
        return NULL;
    for (int i = 0; i < n_out; i++) graph_output(g, out[i].name, out[i].value);
    Options opt = {.net = (Net *)net,
                   .n_net = 1,
                   .dims = dims,
                   .report = like->report,
                   .mixed_precision = like->mixed_precision,
                   .reference_kernels = like->reference_kernels,
                   .cuda = like->cuda};
    g = passes_run(g, &opt, "infer-shapes", e);
    return g ? plan_lower(g, &opt, e) : NULL;
}
