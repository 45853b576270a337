/* Recipes: merging, options, entries, presets by block, rules, and what --set may name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "graph/lang/doc.h"
#include "tests/check.h"

typedef struct Job {
    Arena *a;
    Library *lib;
    Args *set;
    Recipe r;
    Err e;
} Job;

/* One recipe; key=value words as from the command line. */
static Job job(const char *text, const char *const *set) {
    Job j = {.a = arena_new()};
    j.lib = library_new(j.a);
    j.set = args_new(j.a);
    for (; set && *set; set++) {
        const char *eq = strchr(*set, '=');
        args_set(j.set, arena_strndup(j.a, *set, (size_t)(eq - *set)),
                 val_word(eq + 1));
    }
    Source *src = source_text(j.a, "graphs/recipes/mine.yaml", text, strlen(text));
    Doc *d = doc_parse(j.lib, src, &j.e);
    if (d) recipe_eval(j.a, j.lib, d, j.set, &j.r, &j.e);
    return j;
}

static Job job_from(const char *rest, const char *const *set) {
    char text[2048];
    snprintf(text, sizeof text, "recipe: mine\nfrom: [sd15-lora.yaml]\n%s", rest);
    return job(text, set);
}

static const char *text_of(Job *j, const Args *args, const char *name) {
    const Val *v = args_get(args, name);
    Str s = {0};
    if (!v) return "absent";
    val_print(&s, v);
    char *text = arena_strdup(j->a, s.s ? s.s : "");
    str_free(&s);
    return text;
}

#define IS(job, args, name, want)                                                      \
    CHECK(!strcmp(text_of(&(job), args, name), want), "%s is %s, want %s", name,       \
          text_of(&(job), args, name), want)

static void test_defaults(void) {
    Job j = job_from("", NULL);
    CHECK(!j.e.set, "%s", j.e.text);
    if (j.e.set) return;
    const Recipe *r = &j.r;
    CHECK(r->n_network == 3 && !strcmp(r->network[0].name, "unet"), "%d networks",
          r->n_network);
    CHECK(!r->network[0].weights && !strcmp(r->network[0].variant, "sd15"),
          "no checkpoint");
    IS(j, r->network[1].args, "clip_skip", "1");
    CHECK(r->n_adapter == 2 && r->n_rule == 0, "%d adapters, %d rules", r->n_adapter,
          r->n_rule);
    const AdapterEntry *te = &r->adapter[0], *unet = &r->adapter[1];
    CHECK(!strcmp(te->doc->name, "lora") && te->n_on == 1, "%s", te->doc->name);
    CHECK(!strcmp(te->on[0].network, "text_encoder"), "%s", te->on[0].network);
    CHECK(!strcmp(te->on[0].pattern[0], "**.self_attn.*") &&
              !strcmp(te->on[0].pattern[1], "**.mlp.*") && !te->on[0].pattern[2],
          "targets become patterns");
    CHECK(!strcmp(unet->on[0].pattern[0], "**.attentions.**"), "%s",
          unet->on[0].pattern[0]);
    CHECK(!unet->preset && !unet->stack, "no preset without values");
    IS(j, unet->args, "rank", "4");
    IS(j, unet->args, "lr", "0.0001");
    CHECK(!args_get(unet->args, "use") && !args_get(unet->args, "on"),
          "keys are no arguments");
    IS(j, r->objective_args, "prediction", "epsilon");
    IS(j, r->objective_args, "huber_c", "0.1");
    IS(j, r->optimizer_args, "betas", "[0.9, 0.999]");
    IS(j, r->train, "steps", "1600");
    IS(j, r->train, "schedule", "constant");
    IS(j, r->data, "resolution", "[512, 512]");
    IS(j, r->data, "batch", "1");
    IS(j, r->data, "config", "");
    arena_free(j.a);
}

static void test_options(void) {
    const char *const set[] = {"network-dim=8",
                               "unet_lr=2e-4",
                               "conv_dim=2",
                               "v_parameterization=true",
                               "clip_skip=2",
                               "pretrained_model_name_or_path=/m/a-b 1.ckpt",
                               NULL};
    Job j =
        job_from("options: {network_dim: 16, network_alpha: $network_dim / 2}\n", set);
    CHECK(!j.e.set, "%s", j.e.text);
    if (j.e.set) return;
    IS(j, j.r.options, "network_dim", "8");
    IS(j, j.r.options, "network_alpha", "4");
    IS(j, j.r.options, "text_encoder_lr", "0.0001");
    CHECK(!strcmp(j.r.network[0].weights, "/m/a-b 1.ckpt"), "%s",
          j.r.network[0].weights);
    CHECK(j.r.n_adapter == 4, "C3Lier: %d entries", j.r.n_adapter);
    IS(j, j.r.adapter[3].args, "rank", "2");
    IS(j, j.r.adapter[2].args, "rank", "8");
    IS(j, j.r.adapter[1].args, "lr", "0.0002");
    IS(j, j.r.network[1].args, "clip_skip", "2");
    IS(j, j.r.objective_args, "prediction", "v");
    const char *const *names = recipe_options(j.a, j.r.doc);
    CHECK(!strcmp(names[0], "pretrained_model_name_or_path"), "%s", names[0]);
    int n = 0;
    while (names[n]) n++;
    CHECK(n == j.r.options->n, "%d names, %d options", n, j.r.options->n);
    arena_free(j.a);
}

static void test_one_side(void) {
    const char *const unet[] = {"network_train_unet_only=true", NULL};
    const char *const text[] = {"network_train_text_encoder_only=true", "conv_dim=4",
                                NULL};
    Job j = job_from("", unet);
    CHECK(!j.e.set && j.r.n_adapter == 1, "%s", j.e.text);
    CHECK(j.e.set || !strcmp(j.r.adapter[0].on[0].network, "unet"), "the U-Net alone");
    arena_free(j.a);
    j = job_from("", text);
    CHECK(!j.e.set && j.r.n_adapter == 1, "%s", j.e.text);
    CHECK(j.e.set || !strcmp(j.r.adapter[0].on[0].network, "text_encoder"),
          "the text encoder");
    arena_free(j.a);
}

static void test_by_block(void) {
    char dims[200] = "block_dims=2", *end = dims + strlen(dims);
    for (int i = 1; i < 25; i++) end += sprintf(end, ",%d", i);
    const char *const set[] = {"preset=uneven", dims, NULL};
    Job j = job_from("", set);
    CHECK(!j.e.set, "%s", j.e.text);
    const Preset *p = j.e.set ? NULL : j.r.adapter[1].preset;
    CHECK(p && p->n_block == 25 && !strcmp(p->block[24], "OUT11"),
          "a preset with 25 blocks");
    if (p) {
        IS(j, p->at[9], "rank", "9"); /* the list is stronger than the preset */
        IS(j, p->at[9], "alpha", "2");
        IS(j, p->at[12], "lr", "2");
        CHECK(!j.r.adapter[0].preset, "the text encoder has no blocks");
    }
    arena_free(j.a);
}

static void test_merging(void) {
    Job j = job_from(
        "options: {mine: 3}\n"
        "rules: [{match: 'unet.**', rank: $mine}]\n"
        "objective: {use: ddpm, min_snr_gamma: 5}\n"
        "optimizer: {use: lion, weight_decay: 0.8}\n"
        "train: {seed: $mine}\n"
        "adapters:\n"
        "  - {use: loha, on: {unet: [resnet, '**.conv1']}, rank: 3, stack: true}\n",
        NULL);
    CHECK(!j.e.set, "%s", j.e.text);
    if (j.e.set) return;
    CHECK(j.r.n_adapter == 1 && !strcmp(j.r.adapter[0].doc->name, "loha"),
          "adapters replaced");
    CHECK(j.r.adapter[0].stack, "stack");
    const char *const *pattern = j.r.adapter[0].on[0].pattern;
    CHECK(!strcmp(pattern[1], "**.conv_shortcut") && !strcmp(pattern[2], "**.conv1"),
          "targets and patterns");
    CHECK(j.r.n_rule == 1 && !strcmp(j.r.rule[0].match, "unet.**"), "%d rules",
          j.r.n_rule);
    IS(j, j.r.rule[0].args, "rank", "3");
    IS(j, j.r.objective_args, "min_snr_gamma", "5");
    IS(j, j.r.objective_args, "loss_type", "l2");
    CHECK(!strcmp(j.r.optimizer->name, "lion"), "%s", j.r.optimizer->name);
    IS(j, j.r.optimizer_args, "weight_decay", "0.8");
    IS(j, j.r.train, "seed", "3");
    IS(j, j.r.train, "steps", "1600");
    CHECK(!strcmp(text_of(&j, j.r.options, "mine"), "3"),
          "options may be added where used");
    arena_free(j.a);
}

static void test_text_options(void) {
    Job j = job_from("options:\n"
                     "  pretrained_model_name_or_path: \"/m/$x.ckpt\"\n"
                     "  loss_type: l1\n"
                     "  dataset_config: ../my-data/set 1.toml\n",
                     NULL);
    CHECK(!j.e.set, "%s", j.e.text);
    if (j.e.set) return;
    IS(j, j.r.options, "pretrained_model_name_or_path", "/m/$x.ckpt");
    IS(j, j.r.options, "dataset_config", "../my-data/set 1.toml");
    IS(j, j.r.objective_args, "loss_type", "l1");
    arena_free(j.a);
}

static void test_set(void) {
    const char *const set[] = {"unet.**.attn2.to_v.rank=8",
                               "unet.mid_block.**.lr=0.5",
                               "objective.loss_type=huber",
                               "optimizer.weight_decay=0.1",
                               "train.steps=7",
                               "train.schedule=cosine",
                               "data.resolution=768,512",
                               "sample.prompts=a b.txt",
                               NULL};
    Job j = job_from("rules: [{match: 'unet.**', rank: 2}]\n", set);
    CHECK(!j.e.set, "%s", j.e.text);
    if (j.e.set) return;
    CHECK(j.r.n_rule == 3 && !strcmp(j.r.rule[1].match, "unet.**.attn2.to_v"),
          "%d rules", j.r.n_rule);
    CHECK(args_get(j.r.rule[1].args, "rank")->kind == VAL_INT, "a number");
    IS(j, j.r.rule[1].args, "rank", "8");
    IS(j, j.r.rule[2].args, "lr", "0.5");
    IS(j, j.r.objective_args, "loss_type", "huber");
    IS(j, j.r.optimizer_args, "weight_decay", "0.1");
    IS(j, j.r.train, "steps", "7");
    IS(j, j.r.train, "schedule", "cosine");
    IS(j, j.r.data, "resolution", "[768, 512]");
    IS(j, j.r.sample, "prompts", "a b.txt");
    arena_free(j.a);
}

static void check_set_error(const char *word, const char *want) {
    const char *const set[] = {word, NULL};
    Job j = job_from("", set);
    CHECK(j.e.set && j.e.code == EXIT_MISUSE && !strcmp(j.e.text, want),
          "%s: got %s, want %s", word, j.e.text, want);
    arena_free(j.a);
}

static void test_set_errors(void) {
    check_set_error("netwrok_dim=8", "error: recipe 'mine' has no option "
                                     "'netwrok_dim'; did you mean 'network_dim'?");
    check_set_error(
        "network_dim=many",
        "error: option 'network_dim' of recipe 'mine' wants a number, got many");
    check_set_error("unet.**.rnak=8",
                    "error: no adapter of recipe 'mine' has an argument 'rnak'; "
                    "did you mean 'rank'?");
    check_set_error("unet.**.rank=v",
                    "error: argument 'rank' of adapter 'lora' wants a number, got v");
    check_set_error("unet.**.lr=fast", "error: 'lr' wants a number");
    check_set_error("objective.los_type=l1",
                    "error: objective 'ddpm' has no argument 'los_type'; "
                    "did you mean 'loss_type'?");
    check_set_error("optimizer.eps=v",
                    "error: argument 'eps' of optimizer 'adamw' wants a number, got v");
    check_set_error("train.step=3",
                    "error: 'train' has no key 'step'; did you mean 'steps'?");
}

/* A recipe of its own, and what belongs to its file is found beside it. */
static void test_own_file(void) {
    char dir[] = "/tmp/graphrun_recipe_XXXXXX", path[200];
    CHECK(mkdtemp(dir), "no temporary folder");
    snprintf(path, sizeof path, "%s/tiny.yaml", dir);
    FILE *f = fopen(path, "w");
    CHECK(f, "%s", path);
    if (!f) return;
    fputs("adapter: tiny\nwraps: [linear]\nnodes: {d: {op: param, shape: [$out, $in], "
          "init: zeros}}\n"
          "output: {weight: w + d}\nsave: {kohya: {d: d}}\n",
          f);
    fclose(f);
    Arena *a = arena_new();
    Err e = {0};
    Recipe r;
    Library *lib = library_new(a);
    const char *text = "recipe: mine\nfrom: [sd15-lora.yaml]\n"
                       "adapters: [{use: tiny, on: {unet: ['**.to_q']}}]\n";
    const char *at = arena_printf(a, "%s/mine.yaml", dir);
    Doc *d = doc_parse(lib, source_text(a, at, text, strlen(text)), &e);
    CHECK(d && !strcmp(d->from[0]->src->path, "graphs/recipes/sd15-lora.yaml"), "%s",
          e.text);
    if (d && recipe_eval(a, lib, d, NULL, &r, &e))
        CHECK(!strcmp(r.adapter[0].doc->src->path, path), "%s",
              r.adapter[0].doc->src->path);
    CHECK(!e.set, "%s", e.text);
    unlink(path);
    rmdir(dir);
    arena_free(a);
}

int main(void) {
    unsetenv("GRAPHRUN_GRAPHS");
    test_defaults();
    test_options();
    test_one_side();
    test_by_block();
    test_merging();
    test_text_options();
    test_set();
    test_set_errors();
    test_own_file();
    return check_done("recipe");
}
