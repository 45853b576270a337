/* What the command line and the recipe say, put together. */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cli/job/setting.h"
#include "cli/train/train.h"
#include "io/model_write.h"

static bool listed(const char *const *names, const char *name) {
    for (; *names; names++)
        if (!strcmp(*names, name)) return true;
    return false;
}

/* Texts of the schedule's options become numbers. */
static bool schedule_settings(Trainer *t, Args *set, Err *e) {
    static const char *const parts[] = {"lr_warmup_steps", "lr_decay_steps"};
    for (size_t i = 0; i < COUNT(parts); i++) {
        const Val *v = args_get(set, parts[i]);
        double x;
        if (!v || v->kind != VAL_WORD) continue;
        if (!train_part(parts[i], v->word, &x, e)) return false;
        args_set(set, parts[i], val_float(x));
    }
    const char *rules;
    if (!train_step_rules(t->arena, &t->o->lr_scheduler_args, &rules, e)) return false;
    if (rules) args_set(set, "lr_step_rules", val_word(rules));
    return true;
}

/* Options that the recipe declares become its values. An option that the shipped recipe
 * `lora` declares and this one does not would change nothing: an error. */
static const char *const of_the_run[] = {"mixed_precision", "full_fp16", "full_bf16",
                                         NULL}; /* train_plans.c reads these too */

static bool recipe_settings(Trainer *t, Args *set, Err *e) {
    Arena *a = t->arena;
    const Doc *plain =
        doc_load(t->job.library, "lora", DOC_RECIPE, NULL, loc_none(), e);
    if (!plain) return false;
    const char *const *mine = recipe_options(a, t->job.doc);
    const char *const *usual = recipe_options(a, plain);
    for (int i = 0; i < t->given->n; i++) {
        const char *name = t->given->name[i];
        if (listed(mine, name))
            args_set(set, name, t->given->val[i]);
        else if (listed(usual, name) && !listed(of_the_run, name))
            return err_usage(e, "--%s: recipe '%s' has no such option", name,
                             t->job.doc->name);
    }
    Args *network = args_new(a);
    if (!train_network_args(a, &t->o->network_args, network, NULL, e)) return false;
    for (int i = 0; i < network->n; i++) {
        if (!listed(mine, network->name[i]))
            return err_usage(e, "--network_args: recipe '%s' has no option '%s'",
                             t->job.doc->name, network->name[i]);
        args_set(set, network->name[i], network->val[i]);
    }
    return train_optimizer(a, t->o, t->given, set, e) && schedule_settings(t, set, e) &&
           settings(a, &t->o->set, "--set", set, e);
}

/* sd-scripts multiplies by the weights and lets the mean of the context go where it will. */
static void compat_settings(Trainer *t, Args *set) {
    if (t->o->compat &&
        listed(recipe_options(t->arena, t->job.doc), "weighted_captions_mean"))
        args_set(set, "weighted_captions_mean", val_bool(false));
}

/* Masks in the dataset file are used without --masked_loss too, as in sd-scripts. */
static bool masks_setting(Trainer *t, Args *set, Err *e) {
    bool masks;
    compat_settings(t, set);
    if (!t->o->dataset_config && !t->o->alpha_mask) return true;
    if (!train_data_masks(t->arena, t->o, &masks, e)) return false;
    if (masks && listed(recipe_options(t->arena, t->job.doc), "masked_loss"))
        args_set(set, "masked_loss", val_bool(true));
    return true;
}

static uint64_t random_seed(void) {
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint32_t)time(NULL);
    return seed;
}

const char *train_text(const Args *section, const char *key, const char *otherwise) {
    const Val *v = args_get(section, key);
    return v && v->kind == VAL_WORD && *v->word ? v->word : otherwise;
}

/* The recipe's schedule; complete once the number of updates is known. */
static bool schedule_numbers(Trainer *t, Err *e) {
    const Args *train = t->job.recipe.train;
    LrSchedule *s = &t->lr;
    s->name = train_text(train, "schedule", "constant");
    s->rules = train_text(train, "step_rules", NULL);
    double accumulate;
    if (!job_number(&t->job, train, "warmup", 0, &s->warmup, e) ||
        !job_number(&t->job, train, "decay_steps", 0, &s->decay, e) ||
        !job_number(&t->job, train, "cycles", 1, &s->cycles, e) ||
        !job_number(&t->job, train, "power", 1, &s->power, e) ||
        !job_number(&t->job, train, "timescale", 0, &s->timescale, e) ||
        !job_number(&t->job, train, "min_lr_ratio", 0, &s->min_ratio, e) ||
        !job_number(&t->job, train, "learning_rate", t->o->learning_rate, &s->base,
                    e) ||
        !job_number(&t->job, train, "gradient_accumulation_steps", 1, &accumulate, e))
        return false;
    t->accumulate = (int)accumulate;
    const char *nan = train_text(train, "on_nan", "stop");
    t->skip_nan = !strcmp(nan, "skip");
    if (!t->skip_nan && strcmp(nan, "stop"))
        return err_usage(e, "on_nan is '%s', want stop or skip", nan);
    return (accumulate >= 1 && accumulate <= 1 << 20) ||
           err_usage(e, "gradient_accumulation_steps is %g, want 1 … %d", accumulate,
                     1 << 20);
}

/* --v2 decides how captions are padded, and what the file's metadata says; with --inputs
 * nothing hangs on it, and it may be left out. */
static bool version_as_told(const Trainer *t, const Checkpoint *base, Err *e) {
    bool sd2 = !strcmp(model_family(base), "sd2");
    if (t->o->v2 == sd2 || (sd2 && t->o->inputs)) return true;
    return err_usage(e,
                     sd2 ? "'%s' is a Stable Diffusion 2.x model: add --v2"
                         : "--v2: '%s' is no Stable Diffusion 2.x model",
                     checkpoint_path(base));
}

/* What the options say of the base, against what it is. */
static bool base_as_told(const Trainer *t, Err *e) {
    for (int i = 0; i < t->job.n_net; i++) {
        const Net *net = &t->job.net[i];
        const Checkpoint *base = job_checkpoint(&t->job, net->name);
        if (base && !strcmp(net->name, "unet") && !version_as_told(t, base, e))
            return false;
    }
    return job_clip_skip_fits(&t->job, e);
}

bool train_setup(Trainer *t, const char *recipe, Err *e) {
    double steps;
    Args *set = args_new(t->arena);
    if (!job_load(&t->job, recipe, e) || !recipe_settings(t, set, e) ||
        !masks_setting(t, set, e) || !train_weights_open(t, set, e) ||
        !job_open(&t->job, set, e) || !base_as_told(t, e) ||
        !train_weights_rules(t, e) || !train_model_open(t, e) ||
        !job_number(&t->job, t->job.recipe.train, "steps", 1600, &steps, e) ||
        !job_number(&t->job, t->job.recipe.train, "max_grad_norm", 1, &t->max_grad_norm,
                    e) ||
        !job_number(&t->job, t->job.recipe.train, "scale_weight_norms", 0,
                    &t->scale_weight_norms, e) ||
        !schedule_numbers(t, e))
        return false;
    if (!(steps >= 1 && steps <= 1e9))
        return err_usage(e, "the number of steps is %g, want 1 … 1e9", steps);
    t->steps = (int64_t)steps;
    t->seed = t->o->seed == UNSET_INT ? random_seed() : (uint64_t)t->o->seed;
    t->chunks = t->o->max_token_length == 225   ? 3
                : t->o->max_token_length == 150 ? 2
                                                : 1;
    t->weights = job_weights(&t->job);
    return true;
}

bool train_schedule(Trainer *t, Err *e) {
    t->lr.steps = t->steps;
    return lr_schedule(t->arena, &t->lr, e);
}
