/* --validation_split: a part of the pictures is held out, and the loss on them is told
 * every so often. sd-scripts' rules: after every epoch, or every N-th, or every N updates;
 * four timesteps for each batch; the first --max_validation_steps batches. */
#include <string.h>

#include "cli/train/train.h"
#include "io/dataset_config.h"
#include "runtime/validate.h"

struct Validator {
    Dataset *data;
    Latents latents;
    DataFeed *feed;
    BucketPlan *plan;
    int n_plan, cap_plan;
    uint64_t seed;
    int batches, times;
    double last;
};

static bool has_time(const Trainer *t) {
    return yaml_get(yaml_get(t->job.recipe.objective->root, "nodes"), "t") != NULL;
}

/* Forward only; adapters' tensors are those of the training plans, by their names. */
static Plan *compiled(Trainer *t, const Shape *s, Err *e) {
    Options opt;
    if (!train_options_of_plan(t, s, &opt, e)) return NULL;
    opt.train = false;
    /* the timestep, and the captions' states as in the training plan */
    const char *given[3] = {NULL};
    int n = 0;
    if (t->validator->times > 1) given[n++] = "t";
    if (t->text_given) given[n++] = "text";
    opt.given = given;
    opt.given_draws = NULL;
    opt.record = NULL;
    opt.record_gradients = false;
    opt.gradient_checkpointing = false;
    opt.report = NULL;
    opt.modules = NULL;
    opt.adapted = NULL;
    PlanWish wish = {.cache = &t->cache, .to_run = true};
    PlanOrigin from;
    Plan *p = job_plan(&t->job, &opt, &wish, &from, e);
    str_free(&from.note);
    return p;
}

static Exec *validation_exec(void *trainer, const Shape *s, Err *e) {
    Trainer *t = trainer;
    Validator *v = t->validator;
    for (int i = 0; i < v->n_plan; i++)
        if (!memcmp(&v->plan[i].shape, s, sizeof *s)) return v->plan[i].exec;
    BucketPlan b = {*s, compiled(t, s, e), NULL};
    if (b.plan) b.exec = exec_open(t->store, b.plan, e);
    if (b.exec) PUSH(t->arena, v->plan, v->n_plan, v->cap_plan, b);
    return b.exec;
}

/* Does any data set hold pictures out? */
static bool wanted(const Trainer *t) {
    const DataConfig *c = dataset_config(t->data);
    for (int i = 0; i < c->n; i++)
        if (c->dataset[i].validation_split > 0) return true;
    return false;
}

bool train_validation_open(Trainer *t, const DataOptions *options, Err *e) {
    if (!wanted(t)) {
        if (t->o->validate_every_n_steps != UNSET_INT ||
            t->o->validate_every_n_epochs != UNSET_INT)
            return err_usage(e, "there is nothing to validate with: give "
                                "--validation_split");
        return true;
    }
    Validator *v = NEW(t->arena, Validator, 1);
    DataOptions held = *options;
    held.validation = held.allow_missing_captions = true;
    v->data = dataset_open(&held, e);
    if (!v->data) return false;
    t->validator = v;
    v->seed = held.validation_seed;
    v->times = has_time(t) ? VALIDATION_TIMES : 1;
    v->batches = v->data->batches_per_epoch;
    if (t->o->max_validation_steps != UNSET_INT &&
        t->o->max_validation_steps < v->batches)
        v->batches = (int)t->o->max_validation_steps;
    if (t->o->dry_run) return true;
    DataFeedJob job = train_feed_job(t);
    job.data = v->data;
    job.latents = &v->latents;
    job.seed = v->seed;
    v->feed = data_feed_new(t->arena, &job);
    return true;
}

bool train_validation_encode(Trainer *t, Err *e) {
    Validator *v = t->validator;
    if (!v || job_wants_pixels(&t->job)) return true;
    LatentJob job = {.data = v->data,
                     .vae = {train_vae_exec, t},
                     .seed = v->seed,
                     .threads = t->readers,
                     .batch = (int)t->o->vae_batch_size,
                     .masks = train_uses_masks(t),
                     .once = true};
    return latents_encode(t->arena, &job, &v->latents, e);
}

static bool due(const Trainer *t, const StepResult *r) {
    int64_t steps = t->o->validate_every_n_steps,
            epochs = t->o->validate_every_n_epochs;
    if (r->step == t->steps) return true;
    if (steps != UNSET_INT && r->step % steps == 0) return true;
    if (!r->last_of_epoch || (steps != UNSET_INT && epochs == UNSET_INT)) return false;
    return epochs == UNSET_INT || r->epoch % epochs == 0;
}

bool train_validation(Trainer *t, const StepResult *r, Err *e) {
    Validator *v = t->validator;
    if (!v || !r->updated || !due(t, r)) return true;
    const Args *o = t->job.recipe.objective_args;
    const Val *low = args_get(o, "min_timestep"), *high = args_get(o, "max_timestep");
    double min = 0, max = 1000;
    if (low) val_number(low, &min);
    if (high) val_number(high, &max);
    Validation job = {.feed = data_feed(v->feed),
                      .exec = validation_exec,
                      .ctx = t,
                      .batches = v->batches,
                      .seed = v->seed,
                      .min_timestep = (int64_t)min,
                      .max_timestep = (int64_t)max,
                      .n_times = v->times};
    data_feed_seek(v->feed, 0);
    if (!validate(&job, &v->last, e)) return false;
    progress_say(t->progress, arena_printf(t->arena, "validation: step %lld, loss %.6g",
                                           (long long)r->step, v->last));
    return train_log_number(t, "loss/validation/step_average", r->step, v->last, e);
}

int train_validation_pictures(const Trainer *t) {
    return t->validator ? t->validator->data->n : 0;
}

void train_validation_text(Trainer *t, TextStates *text) {
    if (t->validator) data_feed_text(t->validator->feed, text);
}

void train_validation_close(Trainer *t) {
    Validator *v = t->validator;
    if (!v) return;
    for (int i = 0; i < v->n_plan; i++)
        if (v->plan[i].exec) exec_close(v->plan[i].exec);
    if (v->feed) data_feed_close(v->feed);
    dataset_close(v->data);
}
