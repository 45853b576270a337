/* One plan per bucket and batch size, compiled once; all share one store. */
#include <string.h>

#include "cli/job/mixed_precision.h"
#include "cli/train/train.h"
#include "io/file.h"
#include "runtime/device.h"

static const char *const drawn[] = {"k", NULL}; /* DyLoRA's unit */
static const char *const given_nodes[] = {"noise", "t", NULL};
static const char *const given_text[] = {"text", NULL};
static const char *const recorded[] = {"unet.noise", "text_encoder.context", NULL};

static bool same(const Shape *a, const Shape *b) {
    return a->batch == b->batch && a->h == b->h && a->w == b->w &&
           a->chunks == b->chunks;
}

const char *train_shape_text(Arena *a, const Shape *s) {
    return arena_printf(a, "%d x %d, batch %d", s->w * LATENT_FACTOR,
                        s->h * LATENT_FACTOR, s->batch);
}

bool train_given_plan(Trainer *t, Err *e) {
    Err why = {0};
    bool old;
    t->cache = plan_cache_default(t->arena);
    if (!t->o->plan) return true;
    if (!file_exists(t->o->plan))
        return err_usage(e, "--plan: no file '%s'", t->o->plan);
    t->given_plan = job_plan_read(t->job.arena, t->o->plan, &old, &why);
    if (!t->given_plan)
        str_printf(&t->job.note, "warning: the plan is compiled again: %s\n",
                   err_said(&why));
    return true;
}

/* Inputs with a default that this run does not write. */
static const char *const *absent_inputs(const Trainer *t) {
    int n = 0, all = 0;
    while (job_absent_inputs[all]) all++;
    const char **out = NEW(t->arena, const char *, all + 1);
    for (int i = 0; i < all; i++) {
        const char *name = job_absent_inputs[i];
        bool written =
            strcmp(name, "mask") ? train_uses_weights(t) : train_uses_masks(t);
        if (!written) out[n++] = name;
    }
    return out;
}

/* `--memory_budget free`: of what the card had free before anything was put there, 15 of 16
 * parts, in steps so that the plan cache can be of use. */
static bool budget_text(Trainer *t, const char **out, Err *e) {
    const uint64_t mib = 1 << 20, large = 256 * mib;
    *out = t->o->memory_budget;
    if (!*out || strcmp(*out, "free")) return true;
    if (!device_is_cuda(t->dev))
        return err_usage(e, "--memory_budget free is what a card has free: want "
                            "--device cuda, or a size as 6GiB");
    if (!t->budget) {
        uint64_t bytes;
        if (!device_unused(t->dev, &bytes, e)) return false;
        bytes -= bytes / 16;
        bytes -= bytes % (bytes > 4 * large ? large : mib);
        t->budget = arena_printf(t->arena, "%llu", (unsigned long long)bytes);
        str_printf(&t->job.note, "memory budget: %llu MiB, of what the card has free\n",
                   (unsigned long long)(bytes / mib));
    }
    *out = t->budget;
    return true;
}

bool train_options_of_plan(Trainer *t, const Shape *s, Options *opt, Err *e) {
    bool first = !t->n_plan, replay = t->o->inputs != NULL;
    *opt = (Options){.recipe = &t->job.recipe,
                     .net = t->job.net,
                     .n_net = t->job.n_net,
                     .dims = job_dims(&t->job, s),
                     .given = replay          ? given_nodes
                              : t->text_given ? given_text
                                              : NULL,
                     .given_draws = replay && inputs_have_ranks(t->in) ? drawn : NULL,
                     .absent = absent_inputs(t),
                     .train = true,
                     .max_grad_norm = t->max_grad_norm,
                     .scale_weight_norms = t->scale_weight_norms,
                     .accumulate = t->accumulate,
                     .record = t->o->record ? recorded : NULL,
                     .record_gradients = t->o->record != NULL,
                     .reference_kernels = t->o->exact,
                     .cuda = device_is_cuda(t->dev),
                     .report = first ? &t->report : NULL,
                     .modules = t->modules,
                     .adapted = t->adapted};
    const char *budget;
    if (!budget_text(t, &budget, e)) return false;
    bool asked = args_get(t->given, "mixed_precision");
    return job_precision(&t->job, asked ? t->o->mixed_precision : NULL, t->o->full_fp16,
                         t->o->full_bf16, opt, e) &&
           job_memory(&t->job, budget, t->o->gradient_checkpointing, opt, e);
}

static Plan *compiled(Trainer *t, const Shape *s, Err *e) {
    bool first = !t->n_plan;
    Options opt;
    if (!train_options_of_plan(t, s, &opt, e)) return NULL;
    t->mixed_precision = opt.mixed_precision;
    t->full_half = opt.full_half;
    PlanWish wish = {.cache = &t->cache, .given = t->given_plan, .to_run = true};
    PlanOrigin from;
    Plan *p = job_plan(&t->job, &opt, &wish, &from, e);
    if (from.note.s && t->n_shape > 1)
        str_printf(&t->job.note, "bucket %s: ", train_shape_text(t->arena, s));
    if (from.note.s) str_add(&t->job.note, from.note.s);
    str_free(&from.note);
    if (!p || !first) return p;
    t->modules = opt.modules;
    t->adapted = opt.adapted;
    return lora_tensors(t->arena, t->modules, opt.adapted, "kohya", &t->lora, e) ? p
                                                                                 : NULL;
}

/* Nothing of the text encoder is trained, and no caption changes from draw to draw. What
 * --plan and --record name has the text encoder in it. */
static bool text_is_fixed(Trainer *t, const Shape *s, bool *fixed, Err *e) {
    const Net *net = job_net(&t->job, "text_encoder");
    Options opt;
    *fixed = t->data && t->data->captions_fixed && net && !net->train &&
             !t->given_plan && !t->o->record;
    if (!*fixed) return true;
    if (!train_options_of_plan(t, s, &opt, e) || !job_modules(&t->job, &opt, e))
        return false;
    for (int i = 0; i < opt.modules->n; i++)
        *fixed = *fixed && strcmp(opt.modules->item[i].network, net->name) != 0;
    return true;
}

/* All plans read the captions' states, if the first can. */
static Plan *first_or_next(Trainer *t, const Shape *s, Err *e) {
    if (t->n_plan) return compiled(t, s, e);
    if (!text_is_fixed(t, s, &t->text_given, e)) return NULL;
    Plan *p = compiled(t, s, e);
    if (p) t->text_given = plan_has_input(p, "text");
    return p;
}

BucketPlan *train_plan(Trainer *t, const Shape *s, Err *e) {
    for (int i = 0; i < t->n_plan; i++)
        if (same(&t->plan[i].shape, s)) return &t->plan[i];
    BucketPlan b = {*s, first_or_next(t, s, e), NULL};
    if (!b.plan) return NULL;
    PUSH(t->arena, t->plan, t->n_plan, t->cap_plan, b);
    return &t->plan[t->n_plan - 1];
}

static bool open_store(Trainer *t, Err *e) {
    t->store = store_open(t->dev, &t->weights, t->seed);
    return !t->resume || state_restore(t->resume, t->store, e);
}

Exec *train_exec(void *trainer, const Shape *s, Err *e) {
    Trainer *t = trainer;
    BucketPlan *b = train_plan(t, s, e);
    if (!b) return NULL;
    if (!t->store && !open_store(t, e)) return NULL;
    if (!b->exec) b->exec = exec_open(t->store, b->plan, e);
    if (b->exec && t->resume && !t->last && !state_used(t->resume, b->exec, e))
        return NULL;
    if (b->exec && t->trace) exec_profile(b->exec, true);
    return b->exec;
}

static Plan *vae_compiled(Trainer *t, int n, int w, int h, Err *e) {
    const Net *net = job_net(&t->job, "vae_encoder");
    if (!net) {
        err_at(e, t->job.recipe.doc->root->loc,
               "recipe '%s' has no network 'vae_encoder' to encode pictures with",
               t->job.recipe.doc->name);
        return NULL;
    }
    Args *dims = args_new(t->arena);
    args_set(dims, "B", val_int(n));
    args_set(dims, "H", val_int(h));
    args_set(dims, "W", val_int(w));
    /* in fp16 the VAE's largest activations overflow */
    bool half = t->mixed_precision == PRECISION_BF16 && !t->o->no_half_vae;
    Options like = {.reference_kernels = t->o->exact,
                    .cuda = device_is_cuda(t->dev),
                    .mixed_precision = half ? PRECISION_BF16 : PRECISION_NO};
    return job_network_plan_kept(&t->job, net, dims, &like, &t->cache, &t->job.note, e);
}

Exec *train_vae_exec(void *trainer, int n, int w, int h, Err *e) {
    Trainer *t = trainer;
    Shape s = {n, h, w, 0};
    for (int i = 0; i < t->n_vae; i++)
        if (same(&t->vae_plan[i].shape, &s)) return t->vae_plan[i].exec;
    /* pictures come size by size: what the last size needed is given back; those that
     * vary come again */
    for (int i = 0; i < t->n_vae && !t->data->varies; i++)
        exec_close(t->vae_plan[i].exec);
    if (!t->data->varies) t->n_vae = 0;
    if (!t->vae_store) t->vae_store = store_open(t->dev, &t->weights, t->seed);
    BucketPlan b = {s, vae_compiled(t, n, w, h, e), NULL};
    if (b.plan) b.exec = exec_open(t->vae_store, b.plan, e);
    if (b.exec) PUSH(t->arena, t->vae_plan, t->n_vae, t->cap_vae, b);
    return b.exec;
}

/* ---- the text encoder on its own ---- */
static Exec *text_exec(void *trainer, Err *e) {
    Trainer *t = trainer;
    if (t->text_exec) return t->text_exec;
    Args *dims = args_new(t->arena);
    args_set(dims, "B", val_int(1));
    args_set(dims, "N", val_int(t->chunks));
    Options like = {.reference_kernels = t->o->exact,
                    .cuda = device_is_cuda(t->dev),
                    .mixed_precision = t->mixed_precision};
    const Net *net = job_net(&t->job, "text_encoder");
    Plan *p =
        job_network_plan_kept(&t->job, net, dims, &like, &t->cache, &t->job.note, e);
    if (!p) return NULL;
    t->text_store = store_open(t->dev, &t->weights, t->seed);
    return t->text_exec = exec_open(t->text_store, p, e);
}

void train_text_feed(Trainer *t) {
    if (!t->text_given) return;
    TextSource source = {text_exec, t, "context", t->chunks};
    TextStates *text = text_states_new(t->arena, &source);
    data_feed_text(t->feed, text);
    train_validation_text(t, text);
}

void train_vae_close(Trainer *t) {
    for (int i = 0; i < t->n_vae; i++) exec_close(t->vae_plan[i].exec);
    t->n_vae = 0;
    if (t->vae_store) store_close(t->vae_store);
    t->vae_store = NULL;
}

void train_plans_close(Trainer *t) {
    for (int i = 0; i < t->n_plan; i++)
        if (t->plan[i].exec) exec_close(t->plan[i].exec);
    if (t->store) store_close(t->store);
    if (t->text_exec) exec_close(t->text_exec);
    if (t->text_store) store_close(t->text_store);
    train_vae_close(t);
}
