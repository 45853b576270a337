/* init-weights: a checkpoint of random weights for the named networks, so that tests,
 * benches and full-size runs need no download.
 *
 * Every element is a function of the seed, the tensor's name and its index (Philox, see
 * kernels/rng.h): neither the form of the file nor the other networks in it change it.
 * Weights are uniform with variance 1/fan_in (He et al. 2015 without the gain of 2: the
 * networks normalise before each activation), biases 0, norms' weights 1, so that a forward
 * pass has outputs of the size of one. The file is made piece by piece. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "cli/job/setting.h"
#include "graph/lang/build.h"
#include "io/names.h"
#include "io/torch_file.h"
#include "kernels/rng.h"

typedef struct InitWeights {
    WordList variant, set;
    int64_t seed;
    const char *dtype, *names, *family, *o;
} InitWeights;

typedef struct Made { /* a tensor by its Diffusers name, before it gets a file's */
    const char *name;
    Type type;
} Made;

typedef struct Stored { /* a tensor of the file: equal parts, made one by one */
    const char *key;
    Type type;
    const char *part[NAME_PARTS]; /* Diffusers names: the streams of random numbers */
    int parts;
} Stored;

typedef struct Job {
    Arena *arena;
    const InitWeights *opt;
    Library *library;
    const Names *names;
    const char *family;
    Args *set;
    bool *used; /* settings that some network took */
    Made *made;
    int n_made, cap_made;
    Stored *stored;
    int n_stored, cap_stored;
} Job;

/* ---- which networks ---- */

/* The variant of a network: --variant NETWORK=V, or --variant NAME, the name of a model
 * whose parts fit together ("sd15" means clip_l for the text encoder), or else a variant
 * that the network has itself. NULL: its arguments come from --set. */
static const char *variant_of(Job *j, const char *network) {
    const char *plain = NULL, *family;
    size_t n = strlen(network);
    for (int i = 0; i < j->opt->variant.n; i++) {
        const char *word = j->opt->variant.word[i];
        if (!strncmp(word, network, n) && word[n] == '=') return word + n + 1;
        if (!strchr(word, '=')) plain = word;
    }
    const char *part = plain ? names_variant(j->arena, plain, network, &family) : NULL;
    return part ? part : plain;
}

/* "key=value" goes to every network with that argument, "network.key=value" to one. */
static Args *settings_of(Job *j, const Doc *doc) {
    Args *out = args_new(j->arena);
    const YNode *declared = yaml_get(doc->root, "args");
    for (int i = 0; i < j->set->n; i++) {
        const char *name = j->set->name[i], *dot = strrchr(name, '.');
        const char *key = dot ? dot + 1 : name;
        bool mine = !dot || (strlen(doc->name) == (size_t)(dot - name) &&
                             !strncmp(name, doc->name, (size_t)(dot - name)));
        if (!mine || (!dot && !(declared && yaml_get(declared, key)))) continue;
        j->used[i] = true;
        args_set(out, key, j->set->val[i]);
    }
    return out;
}

/* Sizes of a graph that is built for its parameters only: those do not depend on them. */
static const Args *some_sizes(Arena *a, const Doc *doc) {
    enum { SOME = 16 };
    Args *dims = args_new(a);
    const YNode *symbols = yaml_get(doc->root, "symbols");
    for (int i = 0; symbols && i < symbols->n; i++)
        args_set(dims, symbols->key[i]->s,
                 val_int(strlen(symbols->key[i]->s) && *symbols->key[i]->s == 'B'
                             ? 1
                             : SOME));
    return dims;
}

static bool add_network(Job *j, const char *word, Err *e) {
    const Doc *doc = doc_load(j->library, word, DOC_NETWORK, NULL, loc_none(), e);
    if (!doc) return false;
    const char *component = names_component(j->names, doc->name);
    Net net;
    if (!net_bind(j->arena, doc, component ? component : doc->name,
                  variant_of(j, doc->name), settings_of(j, doc), NULL, &net, NULL, e))
        return false;
    Graph *g = graph_new(j->arena, doc->name);
    Build b = {.g = g, .net = &net, .n_net = 1};
    Named *in, *out;
    int n_in, n_out;
    if (!build_inputs(&b, doc, net.args, some_sizes(j->arena, doc), "", &in, &n_in,
                      e) ||
        !build_network(&b, &net, in, n_in, &out, &n_out, e))
        return false;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role != ROLE_FROZEN) continue;
        Made m = {v->name, v->type};
        PUSH(j->arena, j->made, j->n_made, j->cap_made, m);
    }
    return true;
}

static bool settings_used(const Job *j, Err *e) {
    for (int i = 0; i < j->set->n; i++)
        if (!j->used[i])
            return err_usage(e, "--set: no network named here has the argument '%s'",
                             j->set->name[i]);
    return true;
}

/* ---- names and shapes of the file ---- */
static Stored *stored_find(Job *j, const char *key) {
    for (int i = 0; i < j->n_stored; i++)
        if (!strcmp(j->stored[i].key, key)) return &j->stored[i];
    return NULL;
}

static Type as_convolution(Type t) {
    if (t.rank != 2) return t;
    t.rank = 4;
    t.dim[2] = t.dim[3] = 1;
    return t;
}

static bool add_stored(Job *j, const Made *m, Err *e) {
    bool ldm = !strcmp(j->opt->names, "ldm");
    NameTo to = {.key = m->name, .parts = 1};
    bool known = names_to_file(j->names, j->arena, m->name, &to);
    if (!ldm)
        to.key = m->name, to.part = 0, to.parts = 1;
    else if (!known)
        return err_usage(
            e, "'%s' has no name in LDM files of family %s: want --names diffusers",
            m->name, j->family);
    Type t = m->type;
    dtype_parse(j->opt->dtype, &t.dtype);
    if (ldm ? to.conv_ldm : to.conv_diffusers) t = as_convolution(t);
    Stored *s = to.parts > 1 ? stored_find(j, to.key) : NULL;
    if (!s) {
        Stored fresh = {.key = to.key, .type = t, .parts = to.parts};
        fresh.type.dim[0] *= to.parts > 1 ? to.parts : 1;
        PUSH(j->arena, j->stored, j->n_stored, j->cap_stored, fresh);
        s = &j->stored[j->n_stored - 1];
    }
    s->part[to.part] = m->name;
    return true;
}

/* Files of SD2 hold one layer more than is run; a reader that has no config leaves out the
 * last one. So the last layer is there once more, under the next number. */
static void add_unused_layer(Job *j) {
    static const char layers[] = "text_encoder.text_model.encoder.layers.";
    size_t n = sizeof layers - 1;
    int last = -1, number, used;
    for (int i = 0; i < j->n_made; i++)
        if (!strncmp(j->made[i].name, layers, n) &&
            sscanf(j->made[i].name + n, "%d", &number) == 1 && number > last)
            last = number;
    for (int i = 0, count = j->n_made; last >= 0 && i < count; i++) {
        Made m = j->made[i];
        if (strncmp(m.name, layers, n) ||
            sscanf(m.name + n, "%d%n", &number, &used) != 1 || number != last)
            continue;
        m.name = arena_printf(j->arena, "%s%d%s", layers, last + 1, m.name + n + used);
        PUSH(j->arena, j->made, j->n_made, j->cap_made, m);
    }
}

static bool name_tensors(Job *j, Err *e) {
    if (!strcmp(j->opt->names, "ldm") && !strcmp(j->family, "sd2")) add_unused_layer(j);
    for (int i = 0; i < j->n_made; i++)
        if (!add_stored(j, &j->made[i], e)) return false;
    return true;
}

/* ---- numbers ---- */
/* Elements [first, first + n) of the tensor called `name`. bound: of the uniform law. */
static void draw(int64_t seed, const char *name, float bound, int64_t first, int64_t n,
                 float *out) {
    int32_t key[RNG_WORDS] = {[RNG_SEED_LO] = (int32_t)(uint32_t)seed,
                              [RNG_SEED_HI] =
                                  (int32_t)(uint32_t)((uint64_t)seed >> 32)};
    uint32_t stream = rng_stream(name, "init"), word[4] = {0};
    for (int64_t i = first; i < first + n; i++) {
        if (i == first || i % 4 == 0)
            rng_block(key, stream, 0, (uint32_t)(i / 4), word);
        out[i - first] = (2 * rng_uniform(word[i % 4]) - 1) * bound;
    }
}

static void fill_part(const Job *j, const Stored *s, int part, int64_t first, int64_t n,
                      float *out) {
    const char *name = s->part[part];
    if (s->type.rank > 1) {
        int64_t fan_in = type_count(&s->type) / s->type.dim[0];
        draw(j->opt->seed, name, (float)sqrt(3.0 / (double)fan_in), first, n, out);
        return;
    }
    float x = ends_with(name, ".bias") ? 0 : 1;
    for (int64_t i = 0; i < n; i++) out[i] = x;
}

static bool make_piece(void *ctx, int index, int64_t first, int64_t n, void *buf,
                       Err *e) {
    enum { PIECE = 4096 };
    (void)e;
    const Job *j = ctx;
    const Stored *s = &j->stored[index];
    int64_t per_part = type_count(&s->type) / s->parts;
    float x[PIECE];
    for (int64_t at = 0, some; at < n; at += some) {
        int64_t i = first + at, part = i / per_part, left = (part + 1) * per_part - i;
        some = n - at < PIECE ? n - at : PIECE;
        if (some > left) some = left;
        fill_part(j, s, (int)part, i - part * per_part, some, x);
        convert((char *)buf + (size_t)at * dtype_size(s->type.dtype), s->type.dtype, x,
                F32, some);
    }
    return true;
}

static bool write_file(Job *j, Err *e) {
    TensorOut *t = NEW(j->arena, TensorOut, j->n_stored);
    for (int i = 0; i < j->n_stored; i++)
        t[i] = (TensorOut){j->stored[i].key, j->stored[i].type, NULL};
    TensorFill fill = {j, make_piece};
    return tensors_write_made(j->opt->o, t, j->n_stored, &(Meta){"format", "pt"}, 1,
                              &(TorchTop){0}, &fill, e);
}

/* ---- the command ---- */
static void report(const Job *j, const Common *c) {
    uint64_t parameters = 0, bytes = 0;
    for (int i = 0; i < j->n_stored; i++) {
        parameters += (uint64_t)type_count(&j->stored[i].type);
        bytes += type_bytes(&j->stored[i].type);
    }
    if (c->json) {
        Str s = {0};
        str_add(&s, "{\"file\": ");
        str_json(&s, j->opt->o);
        printf("%s, \"tensors\": %d, \"parameters\": %llu, \"bytes\": %llu}\n", s.s,
               j->n_stored, (unsigned long long)parameters, (unsigned long long)bytes);
        str_free(&s);
    } else if (!c->quiet) {
        fprintf(stderr, "%s: %d tensors, %llu parameters, %.1f MB\n", j->opt->o,
                j->n_stored, (unsigned long long)parameters, (double)bytes / 1e6);
    }
}

/* The family whose file names are used: the one given, else that of the model. */
static bool choose_family(Job *j, Err *e) {
    const char *family = NULL;
    for (int i = 0; i < j->opt->variant.n && !family; i++)
        if (!strchr(j->opt->variant.word[i], '='))
            names_variant(j->arena, j->opt->variant.word[i], "unet", &family);
    j->family = j->opt->family ? j->opt->family : family ? family : "sd1";
    j->names = names_open(j->arena, j->family, e);
    return j->names != NULL;
}

/* NETWORK=V of a network that is not made would be lost without a word. */
static bool check_variants(const Job *j, const WordList *networks, Err *e) {
    for (int i = 0; i < j->opt->variant.n; i++) {
        const char *word = j->opt->variant.word[i], *equals = strchr(word, '=');
        bool found = !equals;
        for (int k = 0; k < networks->n && !found; k++)
            found = strlen(networks->word[k]) == (size_t)(equals - word) &&
                    !strncmp(word, networks->word[k], (size_t)(equals - word));
        if (!found)
            return err_usage(
                e, "--variant: '%s' is for a network that is not named here", word);
    }
    return true;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    Job j = {.arena = arena_new(), .opt = opts};
    j.library = library_new(j.arena);
    j.set = args_new(j.arena);
    bool ok = tool_output("-o", j.opt->o, e) && choose_family(&j, e) &&
              check_variants(&j, words, e) &&
              settings(j.arena, &j.opt->set, "--set", j.set, e);
    j.used = NEW(j.arena, bool, j.set->n + 1);
    for (int i = 0; ok && i < words->n; i++) ok = add_network(&j, words->word[i], e);
    ok = ok && settings_used(&j, e) && name_tensors(&j, e) && write_file(&j, e);
    if (ok) report(&j, c);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const char *const dtype_words[] = {"f32", "f16", "bf16", NULL};
static const char *const names_words[] = {"ldm", "diffusers", NULL};
static const char *const family_words[] = {"sd1", "sd2", NULL};
static const InitWeights defaults = {.dtype = "f16", .names = "ldm"};
static const Opt options[] = {
    OPT(InitWeights, EACH, variant, "V",
        "model whose parts fit together (sd15, sd21, tiny), a variant all networks "
        "have, or "
        "NETWORK=VARIANT; may be repeated"),
    OPT(InitWeights, EACH, set, "[NETWORK.]KEY=V",
        "argument of a network; may be repeated"),
    OPT(InitWeights, INT, seed, "N", "seed of the random numbers"),
    OPT(InitWeights, TEXT, dtype, "TYPE", "type of the stored numbers",
        .words = dtype_words),
    OPT(InitWeights, TEXT, names, "NAMES",
        "names of tensors: of original checkpoints or Diffusers", .words = names_words),
    OPT(InitWeights, TEXT, family, "FAMILY",
        "whose original names: sd1 or sd2; without it that of the model",
        .words = family_words),
    OPT(InitWeights, TEXT, o, "FILE",
        "the file to write: .safetensors, or .ckpt, .pt, .pth, .bin"),
    OPT_END,
};

const Command cmd_init_weights = {
    .name = "init-weights",
    .args = "NETWORK...",
    .doc = "Make a checkpoint of random weights for networks, the same for a seed "
           "everywhere.",
    .options = options,
    .size = sizeof(InitWeights),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = -1,
    .run = run,
};
