/* What the command line and the recipe say, put together; and the data set. */
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cli/setting.h"
#include "cli/train.h"

enum { TOKENS_SD1_PAD = PAD_END, TOKENS_SD2_PAD = 0, LATENT_FACTOR = 8 };

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
        else if (listed(usual, name))
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
    return schedule_settings(t, set, e) && settings(a, &t->o->set, "--set", set, e);
}

static uint64_t random_seed(void) {
    uint32_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint32_t)time(NULL);
    return seed;
}

static const char *text_of(const Args *section, const char *key,
                           const char *otherwise) {
    const Val *v = args_get(section, key);
    return v && v->kind == VAL_WORD && *v->word ? v->word : otherwise;
}

/* The recipe's schedule; complete once the number of updates is known. */
static bool schedule_numbers(Trainer *t, Err *e) {
    const Args *train = t->job.recipe.train;
    LrSchedule *s = &t->lr;
    s->name = text_of(train, "schedule", "constant");
    s->rules = text_of(train, "step_rules", NULL);
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
    return (accumulate >= 1 && accumulate <= 1 << 20) ||
           err_usage(e, "gradient_accumulation_steps is %g, want 1 … %d", accumulate,
                     1 << 20);
}

bool train_setup(Trainer *t, const char *recipe, Err *e) {
    double steps;
    Args *set = args_new(t->arena);
    if (!job_load(&t->job, recipe, e) || !recipe_settings(t, set, e) ||
        !job_open(&t->job, set, e) || !train_model_open(t, e) ||
        !job_number(&t->job, t->job.recipe.train, "steps", 1600, &steps, e) ||
        !job_number(&t->job, t->job.recipe.train, "max_grad_norm", 1, &t->max_grad_norm,
                    e) ||
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

/* ---- data ---- */
static bool data_options(Trainer *t, DataOptions *d, Err *e) {
    const TrainOptions *o = t->o;
    const Args *data = t->job.recipe.data;
    double batch, weight;
    if (!job_number(&t->job, data, "batch", (double)o->train_batch_size, &batch, e) ||
        !job_number(&t->job, data, "prior_loss_weight", o->prior_loss_weight, &weight,
                    e))
        return false;
    *d = (DataOptions){.dataset_config = text_of(data, "config", o->dataset_config),
                       .train_data_dir = o->train_data_dir,
                       .reg_data_dir = o->reg_data_dir,
                       .train_batch_size = (int)batch,
                       .enable_bucket = o->enable_bucket,
                       .bucket_no_upscale = o->bucket_no_upscale,
                       .min_bucket_reso = (int)o->min_bucket_reso,
                       .max_bucket_reso = (int)o->max_bucket_reso,
                       .bucket_reso_steps = (int)o->bucket_reso_steps,
                       .caption_extension = o->caption_extention ? o->caption_extention
                                                                 : o->caption_extension,
                       .caption_separator = o->caption_separator,
                       .shuffle_caption = o->shuffle_caption,
                       .flip_aug = o->flip_aug,
                       .allow_missing_captions = o->allow_missing_captions,
                       .skip_bad_images = o->skip_bad_images,
                       .keep_tokens = (int)o->keep_tokens,
                       .dataset_repeats = (int)o->dataset_repeats,
                       .prior_loss_weight = weight,
                       .seed = t->seed,
                       .threads = (int)o->max_data_loader_n_workers};
    return train_resolution(o->resolution, &d->width, &d->height, e);
}

/* Rows of the text encoder's table: its argument `vocabulary`, if it has one. */
static int64_t vocabulary(const Trainer *t) {
    const Net *net = job_net(&t->job, "text_encoder");
    const Val *v = net ? args_get(net->args, "vocabulary") : NULL;
    return v && v->kind == VAL_INT ? v->i : INT32_MAX;
}

static bool tokenizer_for(Trainer *t, Err *e) {
    Checkpoint *base = job_checkpoint(&t->job, "text_encoder");
    t->tokenizer = tokenizer_open(base ? checkpoint_tokenizer(base) : NULL, e);
    return t->tokenizer != NULL;
}

/* Without data, a dry run takes --resolution and the batch size at their word. */
static bool shapes_of_options(Trainer *t, const DataOptions *d) {
    t->shape = NEW(t->arena, Shape, 1);
    t->n_shape = 1;
    t->shape[0] = (Shape){d->train_batch_size, d->height / LATENT_FACTOR,
                          d->width / LATENT_FACTOR, t->chunks};
    return true;
}

bool train_data_open(Trainer *t, Err *e) {
    DataOptions d;
    if (!data_options(t, &d, e)) return false;
    if (!d.dataset_config && !d.train_data_dir) {
        if (t->o->dry_run) return shapes_of_options(t, &d);
        return err_usage(e, "no data: give --train_data_dir or --dataset_config");
    }
    t->data = dataset_open(&d, e);
    if (!t->data) return false;
    /* an epoch ends with an update, of fewer micro-batches if need be */
    t->steps_per_epoch =
        (t->data->batches_per_epoch + t->accumulate - 1) / t->accumulate;
    if (t->o->max_train_epochs != UNSET_INT)
        t->steps = t->o->max_train_epochs * t->steps_per_epoch;
    t->epochs = (t->steps + t->steps_per_epoch - 1) / t->steps_per_epoch;
    if (!data_feed_shapes(t->arena, t->data, t->chunks, &t->shape, &t->n_shape, e))
        return false;
    if (t->o->dry_run) return true;
    if (!tokenizer_for(t, e)) return false;
    int32_t pad = t->o->v2 ? TOKENS_SD2_PAD : TOKENS_SD1_PAD;
    t->feed = data_feed_new(t->arena, t->data, &t->latents, t->tokenizer, t->chunks,
                            pad, vocabulary(t));
    return true;
}
