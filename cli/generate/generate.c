/* generate: pictures from prompts, as sd-scripts' gen_img draws them (training.md 8). */
#include "cli/generate/generate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/files/file_tool.h"
#include "cli/job/job_plan.h"
#include "cli/talk.h"
#include "io/file.h"
#include "runtime/device.h"

/* ---- networks ---- */

static bool multiplier(Generate *g, int i, Err *e) {
    const WordList *mul = &g->o->network_mul;
    char *end;
    g->use[i].multiplier = 1;
    if (i >= mul->n) return true;
    g->use[i].multiplier = strtod(mul->word[i], &end);
    return (end != mul->word[i] && !*end && isfinite(g->use[i].multiplier)) ||
           err_usage(e, "--network_mul: got '%s', want a number", mul->word[i]);
}

static void show_meta(const TensorFile *t) {
    printf("%s\n", t->path);
    for (int i = 0; i < t->n_meta; i++)
        printf("  %s: %s\n", t->meta_key[i], t->meta_value[i]);
}

bool generate_use(Generate *g, TensorFile *t, const char *adapter, double multiplier,
                  Err *e) {
    AdapterFile *f = adapter_file_open(t, adapter, NULL, e);
    if (!f) return false;
    g->file[g->n_use] = f;
    g->use[g->n_use++] = (AdapterUse){.file = f, .multiplier = multiplier};
    return true;
}

static bool open_network(Generate *g, int i, Err *e) {
    TensorFile *t = tensors_open(g->o->network_weights.word[i], e);
    if (!t) return false;
    if (g->o->network_show_meta) show_meta(t);
    return generate_use(g, t, adapter_word(&g->o->adapter, i), 1, e) &&
           multiplier(g, i, e);
}

static bool open_networks(Generate *g, Err *e) {
    const GenerateOptions *o = g->o;
    const int n = o->network_weights.n;
    if (o->network_module.n && o->network_module.n != n)
        return err_usage(e, "got %d --network_weights for %d --network_module", n,
                         o->network_module.n);
    if (o->network_mul.n > n)
        return err_usage(e, "got %d --network_mul for %d --network_weights",
                         o->network_mul.n, n);
    if (o->lbws.n && o->lbws.n != n)
        return err_usage(e, "got %d --lbws for %d --network_weights, want one each",
                         o->lbws.n, n);
    if (o->adapter.n > 1 && o->adapter.n != n)
        return err_usage(e,
                         "got %d --adapter for %d --network_weights, want one, or "
                         "one each",
                         o->adapter.n, n);
    g->use = NEW(g->arena, AdapterUse, n + 1);
    g->file = NEW(g->arena, AdapterFile *, n + 1);
    for (int i = 0; i < n; i++)
        if (!open_network(g, i, e) ||
            (o->lbws.n && !block_weights(g->arena, o->lbws.word[i], &g->use[i].weight,
                                         &g->use[i].n_weight, e)))
            return false;
    return true;
}

void generate_close(Generate *g) {
    for (int i = 0; g->picture && i < g->n; i++) image_free(&g->picture[i]);
    draw_close(g->draw);
    for (int i = 0; i < g->n_use; i++) adapter_file_close(g->file[i]);
    arena_free(g->arena);
}

/* ---- the run ---- */

static void tell_unused(const Generate *g) {
    int of;
    const char *first;
    const int n = draw_unused(g->draw, &of, &first);
    if (n && !g->common->quiet)
        fprintf(stderr,
                "warning: %d of %d modules of the networks are not in this model, the "
                "first is '%s'\n",
                n, of, first);
}

/* From request i on: how many go into one batch. */
static int batch_from(const Generate *g, int i) {
    int n = 1;
    while (n < g->o->batch_size && i + n < g->n &&
           generate_same(g, &g->request[i], &g->request[i + n]))
        n++;
    return n;
}

static bool draw_all(Generate *g, Err *e) {
    g->picture = NEW(g->arena, Image, g->n + 1);
    for (int i = 0, n; i < g->n; i += n) {
        n = batch_from(g, i);
        if (!generate_batch(g, &g->request[i], n, i == 0, &g->picture[i], e))
            return false;
        for (int k = 0; k < n; k++)
            if (!generate_save(g, &g->request[i + k], g->request[i].small.w ? "1" : "",
                               k, &g->picture[i + k], e))
                return false;
        if (i == 0) tell_unused(g);
        for (int k = 0; k < n && !g->o->grid; k++) image_free(&g->picture[i + k]);
    }
    return !g->o->grid || generate_grid(g, e);
}

void generate_time(char text[16]) {
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    time_t t = epoch ? (time_t)strtoll(epoch, NULL, 10) : time(NULL);
    struct tm tm;
    if (!(epoch ? gmtime_r(&t, &tm) : localtime_r(&t, &tm))) memset(&tm, 0, sizeof tm);
    strftime(text, 16, "%Y%m%d%H%M%S", &tm);
}

static bool prepare(Generate *g, Err *e) {
    const GenerateOptions *o = g->o;
    if (!o->ckpt) return err_usage(e, "generate needs --ckpt FILE");
    if (!o->prompt == !o->from_file)
        return err_usage(e, "generate needs --prompt TEXT or --from_file FILE, one");
    g->dev = step_device(g->common, o->device, e);
    if (!g->dev || !open_networks(g, e)) return false;
    DrawWord *word;
    if (!generate_words(g, &word, e)) return false;
    DrawSpec spec = {.ckpt = o->ckpt,
                     .vae = o->vae,
                     .clip_skip = o->clip_skip,
                     .v_prediction = o->v_parameterization,
                     .exact = o->exact,
                     .vae_tiling = o->vae_tiling,
                     .encodes = o->image_path || (!isnan(o->highres_fix_scale) &&
                                                  !o->highres_fix_latents_upscaling),
                     .use = g->use,
                     .n_use = g->n_use,
                     .word = word,
                     .n_word = o->textual_inversion_embeddings.n};
    if (o->memory_budget && !byte_size(o->memory_budget, &spec.decode_bytes))
        return err_usage(e, "--memory_budget: got '%s', want bytes, or as 6GiB",
                         o->memory_budget);
    g->draw = draw_open(&spec, g->dev, e);
    if (!g->draw) return false;
    if (g->common->verbose) fputs(draw_note(g->draw), stderr);
    if (o->inputs && !(g->in = safetensors_open(o->inputs, e))) return false;
    generate_time(g->time);
    return generate_sources(g, e) && generate_requests(g, e) &&
           folder_make(o->outdir, e);
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)words;
    Generate g = {.common = c, .o = opts, .arena = arena_new()};
    bool ok = !args_get(given, "strength") || g.o->image_path ||
              !isnan(g.o->highres_fix_scale) ||
              err_usage(e, "--strength needs --image_path: without a picture to begin "
                           "with, all steps are run");
    ok = ok && prepare(&g, e);
    if (ok) g.progress = talk_progress(g.arena, c, "steps", g.all);
    ok = ok && draw_all(&g, e);
    if (g.progress) progress_end(g.progress);
    if (ok && g.o->record)
        ok = safetensors_write(g.o->record, g.out, g.n_out, NULL, 0, e);
    tensors_close(g.in);
    generate_close(&g);
    device_close(g.dev);
    return ok ? EXIT_DONE : e->code;
}

const GenerateOptions generate_defaults = {.outdir = "outputs",
                                           .sampler = "ddim",
                                           .device = "cpu",
                                           .n_iter = 1,
                                           .images_per_prompt = 1,
                                           .W = 512,
                                           .H = 512,
                                           .batch_size = 1,
                                           .steps = 50,
                                           .scale = 7.5,
                                           .negative_scale = UNSET_FLOAT,
                                           .strength = 0.8,
                                           .highres_fix_scale = UNSET_FLOAT,
                                           .highres_fix_strength = UNSET_FLOAT,
                                           .highres_fix_steps = 28,
                                           .seed = UNSET_INT,
                                           .clip_skip = 1,
                                           .max_embeddings_multiples = 1};
#define G(...) OPT(GenerateOptions, __VA_ARGS__)
static const Opt options[] = {
    OPT_GROUP("model"),
    G(TEXT, ckpt, "PATH", "a checkpoint file or a Diffusers folder"),
    G(TEXT, vae, "PATH", "the VAE of another file"),
    G(FLAG, v2, NULL, "the model is Stable Diffusion 2.x; told by itself"),
    G(FLAG, v_parameterization, NULL,
      "the model predicts velocity; told by its config if it has one"),
    G(INT, clip_skip, "N", "use the text encoder's layer N from the end", .min = 1,
      .max = 24),
    OPT_GROUP("what to draw"),
    G(TEXT, prompt, "TEXT", "the prompt, with options: 'a cat --n dog --w 512 --d 1'"),
    G(TEXT, from_file, "FILE",
      "prompts, one per line, # begins a comment; or tables as .toml or .json"),
    G(INT, W, "N", "width; a multiple of 8", .min = 64, .max = 4096),
    G(INT, H, "N", "height; a multiple of 8", .min = 64, .max = 4096),
    G(INT, images_per_prompt, "N", "pictures of each prompt", .min = 1, .max = 1 << 20),
    G(INT, n_iter, "N", "times that all prompts are gone through", .min = 1,
      .max = 1 << 20),
    G(INT, max_embeddings_multiples, "N", "chunks of 75 tokens that a prompt may have",
      .min = 1, .max = 16),
    OPT_GROUP("from pictures"),
    G(TEXT, image_path, "PATH",
      "a picture to begin with, or a folder of them; resized to --W and --H"),
    G(TEXT, mask_path, "PATH", "white is drawn, black is kept; a picture or a folder"),
    G(FLOAT, strength, "X", "share of the steps that are run on it; 1: all", .min = 0,
      .max = 1),
    OPT_GROUP("in two goes"),
    G(FLOAT, highres_fix_scale, "X",
      "draw at X of the size, enlarge that and begin with it (--strength)", .min = 0.01,
      .max = 1),
    G(INT, highres_fix_steps, "N", "steps of the first go", .min = 1, .max = 1000),
    G(FLOAT, highres_fix_strength, "X",
      "of the first go on --image_path; without it --strength", .min = 0, .max = 1),
    G(FLAG, highres_fix_latents_upscaling, NULL, "enlarge latents, not pictures"),
    G(FLAG, highres_fix_save_1st, NULL, "save what the first go draws as well"),
    OPT_GROUP("how"),
    G(TEXT, sampler, "NAME",
      "a file in graphs/samplers, by name or path; sd-scripts' names are known too"),
    G(INT, steps, "N", "steps of the sampler", .min = 1, .max = 1000),
    G(FLOAT, scale, "X", "of guidance; 1: none", .min = 0, .max = 1000),
    G(FLOAT, negative_scale, "X",
      "of what leads away from the negative prompt; without it --scale does both",
      .min = 0, .max = 1000),
    G(INT, seed, "N", "of the one picture, or of a list of seeds; without it a new one",
      .min = 0, .max = INT64_MAX),
    G(FLAG, iter_same_seed, NULL, "one seed for all prompts of an iteration"),
    G(INT, batch_size, "N", "pictures that are drawn at once", .min = 1, .max = 64),
    OPT_GROUP("LoRAs and other adapters"),
    G(LIST, network_weights, "FILE..", "their files"),
    G(LIST, network_mul, "X..", "strength of each; without it 1"),
    G(LIST, lbws, "LIST..",
      "weights by block for each, as JSON: 12, 17, 20, 25 or 26 numbers"),
    G(LIST, adapter, "GRAPH..",
      "their graph files, by name or path, one for all or one each; \"auto\" or "
      "nothing: "
      "the files tell"),
    G(LIST, network_module, "NAME..", "accepted; files tell what they are"),
    G(FLAG, network_merge, NULL, "accepted; a merged network draws the same"),
    G(FLAG, network_show_meta, NULL, "print the files' metadata"),
    G(LIST, textual_inversion_embeddings, "FILE..",
      "textual inversion: in prompts, a file's name without ending is what it learnt"),
    OPT_GROUP("files"),
    G(TEXT, outdir, "DIR", "folder of the pictures"),
    G(FLAG, sequential_file_name, NULL, "im_000001.png ... instead of time and seed"),
    G(FLAG, grid, NULL, "all pictures in one as well"),
    G(TEXT, inputs, "FILE",
      "noise [B,4,h,w] and step_noise [steps,B,4,h,w] of the first batch"),
    G(TEXT, record, "FILE",
      "embeddings, init, latents.N, decoded, image of the first batch, as tensors"),
    OPT_GROUP("the machine"),
    G(TEXT, device, "NAME", "cpu or cuda"),
    G(FLAG, exact, NULL, "reference kernels only"),
    G(FLAG, vae_tiling, NULL,
      "decode pictures in tiles of 512 x 512 that overlap by a quarter and are "
      "blended"),
    G(TEXT, memory_budget, "SIZE",
      "bytes, or 6GiB: what decoding a picture may take; if more, in tiles that fit"),
    OPT_REFUSED("vae_slices", INT, "N",
                "--vae_tiling or --memory_budget decode piece by piece"),
    OPT_REFUSED("highres_fix_upscaler", TEXT, "MODULE",
                "a Python module cannot be loaded; without it Lanczos, or "
                "--highres_fix_latents_upscaling"),
    OPT_REFUSED("interactive", FLAG, NULL, "give --prompt or --from_file"),
    OPT_IGNORED("fp16", FLAG, NULL, "arithmetic is f32"),
    OPT_IGNORED("bf16", FLAG, NULL, "arithmetic is f32"),
    OPT_IGNORED("xformers", FLAG, NULL, "attention is always computed in blocks"),
    OPT_IGNORED("sdpa", FLAG, NULL, "attention is always computed in blocks"),
    OPT_IGNORED("no_half_vae", FLAG, NULL, "arithmetic is f32"),
    OPT_IGNORED("network_args", LIST, "KEY=VALUE..", "files tell their arguments"),
    OPT_END,
};
#undef G

const Command cmd_generate = {
    .name = "generate",
    .args = "",
    .doc = "Draws pictures from prompts, with LoRAs.",
    .options = options,
    .size = sizeof(GenerateOptions),
    .defaults = &generate_defaults,
    .run = run,
};
