/* Samples while training: `generate` on the model and the adapters as they are, in plans of
 * its own that live only as long as it draws (training.md 7.4). The training reads nothing
 * of it. Adapters go through files, one for each kind, and networks that are trained
 * themselves through a model's, so what is drawn is what would be saved. A signal ends the
 * drawing before the next run of the sampler; what was begun is not written. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/generate/generate.h"
#include "cli/talk.h"
#include "cli/train/train.h"
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
/* What is drawn with: files of the moment, or (before the first step) the base alone. */
typedef struct Drawn {
    const char *ckpt;
    const char **lora; /* one file per adapter document */
    const Doc **adapter;
    int n;
} Drawn;

/* As the recipe has it. */
static const char *adapter_name(const Doc *d) {
    return file_exists(d->src->path) ? d->src->path : d->name;
}

static bool use_file(Generate *g, const char *path, double multiplier,
                     const char *adapter, Err *e) {
    TensorFile *f = tensors_open(path, e);
    /* in LoRA's own form it is one, whatever trained it */
    return f && generate_use(g, f, lora_only(f) ? NULL : adapter, multiplier, e);
}

/* --base_weights are adapters here, not merged; a trained model's file has them in it. */
static bool use_base_weights(Generate *g, const Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    for (int i = 0; i < o->base_weights.n && !t->model; i++) {
        double ratio;
        if (!train_base_ratio(o, i, &ratio, e) ||
            !use_file(g, o->base_weights.word[i], ratio, "lora", e))
            return false;
    }
    return true;
}

static bool predicts_velocity(const Trainer *t) {
    const Val *v = args_get(t->job.recipe.objective_args, "prediction");
    return v && v->kind == VAL_WORD && !strcmp(v->word, "v");
}

/* g is to be closed also on failure. */
static bool open_model(Trainer *t, Generate *g, const Drawn *d, Err *e) {
    const TrainOptions *o = t->o;
    const int most = o->base_weights.n + d->n;
    *g = (Generate){.common = t->common,
                    .o = &t->samples->o,
                    .arena = arena_new(),
                    .dev = t->dev,
                    .while_training = true,
                    .stop = t->stop};
    g->use = NEW(g->arena, AdapterUse, most + 1);
    g->file = NEW(g->arena, AdapterFile *, most + 1);
    if (!use_base_weights(g, t, e)) return false;
    for (int i = 0; i < d->n; i++)
        if (!use_file(g, d->lora[i], 1, adapter_name(d->adapter[i]), e)) return false;
    DrawSpec spec = {.ckpt = d->ckpt,
                     .vae = o->vae,
                     .clip_skip = g->o->clip_skip,
                     .v_prediction = predicts_velocity(t),
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

/* ---- the files of the moment ---- */
/* The tensors of modules with this adapter document. */
static LoraTensors tensors_of(Arena *a, const LoraTensors *all, const Doc *adapter) {
    LoraTensors out = {NEW(a, LoraTensor, all->n + 1), 0};
    for (int i = 0; i < all->n; i++)
        if (all->item[i].module->adapter == adapter) out.item[out.n++] = all->item[i];
    return out;
}

/* The first has the LoRA's own name, which the pictures show. */
static bool write_adapters(Trainer *t, Arena *a, Exec *x, const char *stem, Drawn *d,
                           Err *e) {
    d->lora = NEW(a, const char *, t->lora.n + 1);
    d->adapter = NEW(a, const Doc *, t->lora.n + 1);
    for (int i = 0; i < t->lora.n; i++) {
        const Doc *doc = t->lora.item[i].module->adapter;
        int k = 0;
        while (k < d->n && d->adapter[k] != doc) k++;
        if (k < d->n) continue;
        const LoraTensors own = tensors_of(a, &t->lora, doc);
        d->adapter[k] = doc;
        d->lora[k] = arena_printf(a, "%s%s%s.safetensors", stem, k ? "-" : "",
                                  k ? doc->name : "");
        d->n++;
        if (!lora_write(d->lora[k], x, &own, F32, NULL, 0, e)) return false;
    }
    return true;
}

static bool write_now(Trainer *t, Arena *a, Exec *x, int64_t step, const char *folder,
                      Drawn *d, Err *e) {
    const char *stem =
        arena_printf(a, "%s/%s", folder, train_stem(a, t->o, SAVE_LAST, 0));
    if (!folder_make(folder, e) || !write_adapters(t, a, x, stem, d, e)) return false;
    if (!t->model) return true;
    d->ckpt = arena_printf(a, "%s-model.safetensors", stem);
    return train_model_file(t, x, d->ckpt, step, e);
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
    if (!ok && !e->set && generate_stopped(g)) {
        progress_say(t->progress, "the drawing of samples was ended");
        return true;
    }
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
    Drawn d = {.ckpt = t->samples->o.ckpt};
    const char *now = arena_printf(a, "%s/sample/.now", t->o->output_dir);
    bool ok = write_now(t, a, x, step, now, &d, e);
    if (ok) {
        ok =
            open_model(t, &g, &d, e) && draw_prompts(t, &g, stem(t, a, step, epoch), e);
        generate_close(&g);
    }
    Err also = {0};
    ok = folder_remove(now, ok ? e : &also) && ok;
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
static bool options_are_good(const TrainOptions *o, Err *e) {
    const bool when = o->sample_every_n_steps != UNSET_INT ||
                      o->sample_every_n_epochs != UNSET_INT || o->sample_at_first;
    if (!o->sample_prompts && !when) return true;
    if (!o->sample_prompts)
        return err_usage(e, "samples are wanted, but no --sample_prompts FILE");
    if (!when)
        return err_usage(e, "--sample_prompts: say when: --sample_every_n_steps, "
                            "--sample_every_n_epochs or --sample_at_first");
    return true;
}

/* Of the recipe's text encoder. */
static int64_t clip_skip(const Trainer *t) {
    const Net *net = job_net(&t->job, "text_encoder");
    const Val *v = net ? args_get(net->args, "clip_skip") : NULL;
    return v && v->kind == VAL_INT ? v->i : t->o->clip_skip;
}

bool train_samples_open(Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    if (!options_are_good(o, e)) return false;
    if (!o->sample_prompts) return true;
    Checkpoint *unet = job_checkpoint(&t->job, "unet");
    if (!unet)
        return err_usage(e, "--sample_prompts: recipe '%s' has no U-Net to draw with",
                         t->job.doc->name);
    t->samples = NEW(t->arena, Samples, 1);
    GenerateOptions *with = &t->samples->o;
    *with = generate_defaults; /* but for what sd-scripts has otherwise for samples */
    with->ckpt = checkpoint_path(unet);
    with->vae = o->vae;
    with->from_file = o->sample_prompts;
    with->sampler = o->sample_sampler;
    with->steps = 30;
    with->seed = (int64_t)(t->seed & INT64_MAX);
    with->clip_skip = clip_skip(t);
    with->max_embeddings_multiples = 3;
    Generate g;
    const Drawn base = {.ckpt = t->samples->o.ckpt};
    bool ok = open_model(t, &g, &base, e);
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
