/* Samples while training: `generate` on the model and the adapters as they are, in plans of
 * its own that live only as long as it draws (training.md 7.4). The training reads nothing
 * of it. The adapters go through a file, so what is drawn is what would be saved. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/generate.h"
#include "cli/talk.h"
#include "cli/train.h"
#include "io/file.h"
#include "io/image_write.h"

enum { STRIP = 16 /* pictures of a prompt that are kept at most */ };

typedef struct Strip { /* pictures of one prompt, in the order of time */
    Image picture[STRIP];
    int64_t number[STRIP]; /* of the drawing, from 0 */
    int n;
    int64_t every; /* of the drawings, all that are a multiple of it are kept */
} Strip;

struct Samples {
    GenerateOptions o;
    Strip *strip; /* per prompt */
    int n;
    int64_t drawings;
};

/* ---- the model and its adapters ---- */
/* As the recipe has it. */
static const char *adapter_name(const Trainer *t) {
    const Doc *d = t->modules->item[0].adapter;
    return file_exists(d->src->path) ? d->src->path : d->name;
}

static bool use_file(Generate *g, const char *path, double multiplier,
                     const char *adapter, Err *e) {
    TensorFile *f = tensors_open(path, e);
    return f && generate_use(g, f, adapter, multiplier, e);
}

/* --base_weights are adapters here, not merged. */
static bool use_base_weights(Generate *g, const TrainOptions *o, Err *e) {
    for (int i = 0; i < o->base_weights.n; i++) {
        double ratio;
        if (!train_base_ratio(o, i, &ratio, e) ||
            !use_file(g, o->base_weights.word[i], ratio, "lora", e))
            return false;
    }
    return true;
}

/* lora: the file of the adapters that are trained, or NULL. g is to be closed also on
 * failure. */
static bool open_model(Trainer *t, Generate *g, const char *lora, Err *e) {
    const TrainOptions *o = t->o;
    *g = (Generate){.common = t->common,
                    .o = &t->samples->o,
                    .arena = arena_new(),
                    .dev = t->dev,
                    .while_training = true};
    g->use = NEW(g->arena, AdapterUse, o->base_weights.n + 2);
    g->file = NEW(g->arena, AdapterFile *, o->base_weights.n + 2);
    if (!use_base_weights(g, o, e) ||
        (lora && !use_file(g, lora, 1, adapter_name(t), e)))
        return false;
    DrawSpec spec = {.ckpt = g->o->ckpt,
                     .vae = o->vae,
                     .clip_skip = o->clip_skip,
                     .v_prediction = o->v_parameterization,
                     .exact = o->exact,
                     .use = g->use,
                     .n_use = g->n_use};
    g->draw = draw_open(&spec, t->dev, e);
    return g->draw && generate_requests(g, e);
}

/* ---- files ---- */
/* What every file's name begins with: "DIR/sample/NAME_". */
static const char *begin(const Trainer *t, Arena *a) {
    const char *name = t->o->output_name;
    return arena_printf(a, "%s/sample/%s%s", t->o->output_dir, name ? name : "",
                        name ? "_" : "");
}
/* "NAME_e000002" or "NAME_000100", as sd-scripts. */
static const char *stem(const Trainer *t, Arena *a, int64_t step, int epoch) {
    const char *all = begin(t, a);
    return epoch ? arena_printf(a, "%se%06d", all, epoch)
                 : arena_printf(a, "%s%06" PRId64, all, step);
}

static bool write_picture(Trainer *t, Generate *g, int i, const char *stem, Err *e) {
    const Request *r = &g->request[i];
    const char *seed = r->seeded ? arena_printf(g->arena, "_%" PRId64, r->seed) : "";
    const char *path =
        arena_printf(g->arena, "%s_%02d_%s%s.png", stem, i, g->time, seed);
    if (!generate_write(g, path, r, &g->picture[i], e)) return false;
    progress_say(t->progress, arena_printf(g->arena, "sampled: %s", path));
    return true;
}

/* Leaves every second one out, but for the newest. */
static void thin(Strip *s) {
    int kept = 0;
    s->every *= 2;
    for (int i = 0; i < s->n; i++) {
        if (s->number[i] % s->every) {
            image_free(&s->picture[i]);
            continue;
        }
        s->picture[kept] = s->picture[i];
        s->number[kept++] = s->number[i];
    }
    s->n = kept;
}

/* The newest stands at the end, however many were left out before it. Takes the picture. */
static void strip_add(Strip *s, Image *picture, int64_t number) {
    if (s->n && s->number[s->n - 1] % s->every) image_free(&s->picture[--s->n]);
    if (s->n == STRIP) thin(s);
    s->picture[s->n] = *picture;
    s->number[s->n++] = number;
    *picture = (Image){0};
}

static bool write_strip(Trainer *t, Generate *g, int i, Err *e) {
    const Strip *s = &t->samples->strip[i];
    Image all;
    if (!generate_beside(s->picture, s->n, s->n, &all, e)) return false;
    const char *path =
        arena_printf(g->arena, "%sstrip_%02d.png", begin(t, g->arena), i);
    bool ok = image_write_png(path, &all, e);
    image_free(&all);
    return ok;
}

/* ---- drawing ---- */
static bool draw_prompts(Trainer *t, Generate *g, const char *stem, Err *e) {
    Samples *s = t->samples;
    g->picture = NEW(g->arena, Image, g->n);
    generate_time(g->time);
    g->progress = talk_progress(g->arena, t->common, "sampling", g->all);
    bool ok = true;
    for (int i = 0; ok && i < g->n; i++)
        ok = generate_batch(g, &g->request[i], 1, false, &g->picture[i], e) &&
             write_picture(t, g, i, stem, e);
    progress_end(g->progress);
    for (int i = 0; ok && i < g->n; i++) {
        strip_add(&s->strip[i], &g->picture[i], s->drawings);
        ok = write_strip(t, g, i, e);
    }
    s->drawings++;
    return ok;
}

/* epoch: 0 after a step. */
static bool sample(Trainer *t, Exec *x, int64_t step, int epoch, Err *e) {
    Arena *a = arena_new();
    Generate g = {0};
    const char *folder = arena_printf(a, "%s/sample", t->o->output_dir);
    const char *now =
                   arena_printf(a, "%s/.now", folder), /* the pictures name the LoRA */
        *lora = arena_printf(a, "%s/%s.safetensors", now,
                             train_stem(a, t->o, SAVE_LAST, 0));
    bool ok = folder_make(now, e) && lora_write(lora, x, &t->lora, F32, NULL, 0, e);
    if (ok) {
        ok = open_model(t, &g, lora, e) &&
             draw_prompts(t, &g, stem(t, a, step, epoch), e);
        generate_close(&g);
        ok = folder_remove(now, e) && ok;
    }
    arena_free(a);
    return ok;
}

bool train_samples_first(Trainer *t, Exec *x, Err *e) {
    return !t->samples || !t->o->sample_at_first || t->place.update ||
           sample(t, x, 0, 0, e);
}

bool train_samples(Trainer *t, Exec *x, const StepResult *r, Err *e) {
    if (!t->samples) return true;
    const int64_t steps = t->o->sample_every_n_steps,
                  epochs = t->o->sample_every_n_epochs;
    if (epochs != UNSET_INT)
        return !r->last_of_epoch || r->epoch % epochs ||
               sample(t, x, r->step, r->epoch, e);
    return steps == UNSET_INT || r->step % steps || sample(t, x, r->step, 0, e);
}

/* ---- before the first step ---- */
static bool options_are_good(const Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    const bool when = o->sample_every_n_steps != UNSET_INT ||
                      o->sample_every_n_epochs != UNSET_INT || o->sample_at_first;
    if (!o->sample_prompts && !when) return true;
    if (!o->sample_prompts)
        return err_usage(e, "samples are wanted, but no --sample_prompts FILE");
    if (!when)
        return err_usage(e, "--sample_prompts: say when: --sample_every_n_steps, "
                            "--sample_every_n_epochs or --sample_at_first");
    if (ends_with(o->sample_prompts, ".toml") || ends_with(o->sample_prompts, ".json"))
        return err_usage(e,
                         "--sample_prompts: got '%s', want a text file, a prompt "
                         "with its options on each line",
                         o->sample_prompts);
    return !t->model ||
           err_usage(e,
                     "--sample_prompts: recipe '%s' trains a network itself; "
                     "samples are drawn with adapters only",
                     t->job.doc->name);
}

bool train_samples_open(Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    if (!options_are_good(t, e)) return false;
    if (!o->sample_prompts) return true;
    Checkpoint *unet = job_checkpoint(&t->job, "unet");
    if (!unet)
        return err_usage(e, "--sample_prompts: recipe '%s' has no U-Net to draw with",
                         t->job.doc->name);
    t->samples = NEW(t->arena, Samples, 1);
    t->samples->o = (GenerateOptions){.ckpt = checkpoint_path(unet),
                                      .vae = o->vae,
                                      .from_file = o->sample_prompts,
                                      .sampler = o->sample_sampler,
                                      .n_iter = 1,
                                      .images_per_prompt = 1,
                                      .W = 512,
                                      .H = 512,
                                      .batch_size = 1,
                                      .steps = 30,
                                      .scale = 7.5,
                                      .negative_scale = UNSET_FLOAT,
                                      .highres_fix_scale = UNSET_FLOAT,
                                      .seed = (int64_t)(t->seed & INT64_MAX),
                                      .clip_skip = o->clip_skip,
                                      .max_embeddings_multiples = 3};
    Generate g;
    bool ok = open_model(t, &g, NULL, e);
    t->samples->n = g.n;
    t->samples->strip = NEW(t->arena, Strip, g.n);
    for (int i = 0; i < g.n; i++) t->samples->strip[i].every = 1;
    generate_close(&g);
    return ok;
}

void train_samples_close(Trainer *t) {
    Samples *s = t->samples;
    for (int i = 0; s && i < s->n; i++)
        for (int k = 0; k < s->strip[i].n; k++) image_free(&s->strip[i].picture[k]);
}
