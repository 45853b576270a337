/* `graphrun train`: sd-scripts' train_network. Options and recipe are put together in
 * train_setup.c, plans in train_plans.c; here is the order of things, what is recorded
 * and saved after each update, and how a run ends. */
#include "cli/train/train.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/files/file_tool.h"
#include "cli/talk.h"
#include "io/file.h"
#include "runtime/device.h"

/* the signal that asked for an end; looked at between micro-batches and, while samples are
 * drawn, between the runs of the sampler */
static volatile int stop_signal;

/* The second one ends the program at once. */
static void ask_to_stop(int signal_number) {
    if (stop_signal) _exit(128 + signal_number);
    stop_signal = signal_number;
}

static void catch_signals(void) {
    struct sigaction s = {.sa_handler = ask_to_stop};
    sigaction(SIGINT, &s, NULL);
    sigaction(SIGTERM, &s, NULL);
}

static void say(const Trainer *t, const char *fmt, ...) {
    if (t->common->quiet) return;
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- after each update ---- */
static bool record_tensors(Trainer *t, Exec *x, int64_t step, Err *e) {
    for (int i = 0; i < t->lora.n; i++) {
        const LoraTensor *l = &t->lora.item[i];
        if (!l->value) continue;
        const char *grad = arena_printf(t->arena, "grad.%s", l->value);
        const char *g = arena_printf(t->arena, "g%lld.%s", (long long)step, l->key);
        const char *w = arena_printf(t->arena, "w%lld.%s", (long long)step, l->key);
        /* a tensor that stays as it was drawn (LoRA-FA's down) has no gradient */
        if ((exec_type(x, grad) && !record_tensor(t->record, x, grad, g, l->type, e)) ||
            !record_tensor(t->record, x, l->value, w, l->type, e))
            return false;
    }
    return true;
}

static bool record_step(Trainer *t, Exec *x, const StepResult *r, Err *e) {
    char key[32];
    const int64_t one = 1;
    snprintf(key, sizeof key, "m%lld.loss", (long long)t->micro);
    record_data(t->record, key, type_of(F32, 1, &one), &r->loss);
    if (t->micro == 0 && exec_type(x, "unet.noise") &&
        !record_picture(t->record, x, "unet.noise", "m0.unet_output", e))
        return false;
    if (t->micro == 0 && exec_type(x, "text_encoder.context") &&
        !record_plain(t->record, x, "text_encoder.context", "m0.encoder_hidden_states",
                      e))
        return false;
    return !r->updated || record_tensors(t, x, r->step, e);
}

static void say_loss_scale(Trainer *t, const StepResult *r) {
    float before = t->loss_scale;
    t->loss_scale = r->loss_scale;
    if (!r->skipped && (before == 0 || r->loss_scale == before)) return;
    const char *step = arena_printf(t->arena, "step %lld: ", (long long)r->step);
    const char *why = r->skipped ? "a gradient overflowed, no update; " : "";
    progress_say(t->progress, arena_printf(t->arena, "%s%sloss scale %g", step, why,
                                           (double)r->loss_scale));
}

static void say_nan(Trainer *t, const StepResult *r) {
    if (!r->nan || !r->updated) return;
    t->n_nan++;
    progress_say(t->progress,
                 arena_printf(t->arena,
                              "step %lld: not a number: loss %g, gradient norm %g; no "
                              "update (the %lld. of this run)",
                              (long long)r->step, (double)r->loss, (double)r->grad_norm,
                              (long long)t->n_nan));
}

static bool after_micro_batch(void *ctx, Exec *x, const StepResult *r, Err *e) {
    Trainer *t = ctx;
    if (t->record && !record_step(t, x, r, e)) return false;
    t->micro++;
    t->last = x;
    t->last_epoch = r->epoch;
    t->place = r->place;
    if (t->trace) trace_add(t->trace, x);
    say_loss_scale(t, r);
    say_nan(t, r);
    int64_t per_epoch = t->data ? t->data->batches_per_epoch : t->steps * t->accumulate;
    ProgressNumbers n = {.loss = r->loss, .memory_bytes = talk_memory_bytes()};
    const int place = (int)((r->place.micro - 1) % per_epoch);
    n.average = isfinite(r->loss)
                    ? loss_average_add(t->arena, &t->average, r->epoch, place, r->loss)
                    : loss_average(&t->average);
    if (!train_log_step(t, x, r, n.average, e)) return false;
    if (!r->updated) return true;
    progress_at(t->progress, r->step, &n);
    return train_validation(t, r, e) && train_save_between(t, x, r, e) &&
           train_samples(t, x, r, e);
}

static bool start(void *ctx, Exec *x, Err *e) {
    Trainer *t = ctx;
    return train_weights_start(t, x, e) &&
           (!t->in || inputs_start(t->in, x, &t->lora, e)) &&
           train_samples_first(t, x, e);
}

/* ---- before the first one ---- */
/* Where the latents came from, if not all from the pictures. */
static void tell_latents(const Trainer *t) {
    const Latents *l = &t->latents;
    if (l->from_cache) say(t, "latents: %d from the cache", l->from_cache);
    if (l->from_npz)
        say(t, "latents: %d from .npz files, which say nothing of the VAE they are of",
            l->from_npz);
    if (l->npz_refused) say(t, "note: .npz files are not used: %s", l->npz_refused);
}

static void introduce(const Trainer *t) {
    const Dataset *d = t->data;
    const YNode *doc = yaml_get(t->job.doc->root, "doc");
    say(t, "recipe: %s%s%s", t->job.doc->name, doc ? ": " : "", doc ? doc->s : "");
    if (d) {
        say(t, "pictures: %d to train on (with repeats), %d for regularisation",
            d->n_train, d->n_reg);
        say(t, "captions: %d found, %d missing", d->captions_found,
            d->captions_missing);
        for (int i = 0; i < d->n_note; i++) say(t, "note: %s", d->note[i]);
        for (int i = 0; i < d->n_bad; i++)
            say(t, "left out: %s: %s", d->bad_path[i], d->bad_reason[i]);
        say(t, "batches per epoch: %d, epochs: %lld", d->batches_per_epoch,
            (long long)t->epochs);
    }
    for (int i = 0; i < t->n_shape; i++)
        say(t, "bucket: %s", train_shape_text(t->arena, &t->shape[i]));
    if (t->text_given)
        say(t, "text: the text encoder is not trained; each caption is encoded once");
    if (t->validator)
        say(t, "held out for validation: %d pictures", train_validation_pictures(t));
    say(t, "steps: %lld, seed: %llu", (long long)t->steps, (unsigned long long)t->seed);
    if (t->resume)
        say(t, "goes on from '%s' after step %lld", t->o->resume,
            (long long)t->place.update);
    if (t->job.note.n) fputs(t->common->quiet ? "" : t->job.note.s, stderr);
    if (t->common->verbose && t->report.n) fputs(t->report.s, stderr);
    if (t->lora.n) say(t, "adapters: %d modules, %d tensors", t->modules->n, t->lora.n);
    WordList notes = {0};
    train_optimizer_notes(t->arena, &t->job.recipe, t->lr.base, &notes);
    for (int i = 0; i < notes.n; i++) say(t, "note: %s", notes.word[i]);
    for (int i = 0; i < t->job.n_net; i++)
        if (t->job.net[i].train) say(t, "trained itself: %s", t->job.net[i].name);
}

static bool open_inputs(Trainer *t, Err *e) {
    t->in = inputs_open(t->arena, t->o->inputs, t->steps * t->accumulate, e);
    if (!t->in) return false;
    t->shape = NEW(t->arena, Shape, 1);
    t->shape[0] = inputs_shape(t->in, 0);
    t->n_shape = 1;
    t->epochs = 1;
    return true;
}

/* The first shape's plan tells the modules; the others are compiled now too, so that a
 * mistake in a graph shows before an hour of training. */
static bool compile_all(Trainer *t, Err *e) {
    for (int i = 0; i < t->n_shape; i++)
        if (!train_plan(t, &t->shape[i], e)) return false;
    return !t->in || inputs_check(t->in, t->modules, &t->lora, e);
}

static int ended_early(Trainer *t, Err *e) {
    const char *name = stop_signal == SIGINT ? "SIGINT" : "SIGTERM", *state;
    if (!t->last) {
        say(t, "ended by %s before the first step: there is nothing to save", name);
        return 128 + stop_signal;
    }
    if (!train_save_stopped(t, &state, e)) return e->code;
    say(t, "ended by %s after %lld of %lld steps; to go on: --resume %s", name,
        (long long)t->place.update, (long long)t->steps, state);
    return 128 + stop_signal;
}

static int train(Trainer *t, Err *e) {
    TrainLoop loop = {.feed = t->in ? inputs_feed(t->in) : data_feed(t->feed),
                      .exec = train_exec,
                      .after = after_micro_batch,
                      .start = start,
                      .ctx = t,
                      .steps = t->steps,
                      .seed = t->seed,
                      .lr = &t->lr,
                      .accumulate = t->accumulate,
                      .skip_nan = t->skip_nan,
                      .stop = t->stop};
    TrainPlace place = t->place;
    catch_signals();
    t->progress = talk_progress(t->arena, t->common, "steps", t->steps);
    progress_from(t->progress, place.update);
    bool ok = train_log_open(t, e) && train_loop(&loop, &place, e);
    progress_end(t->progress);
    if (!train_log_close(t, e) || !ok) return e->code;
    if (place.update < t->steps) return ended_early(t, e);
    /* resumed behind its last step: the final file is all that is missing */
    if (!t->last) t->last = train_exec(t, &t->shape[0], e);
    if (!t->last) return e->code;
    if (!train_save_end(t, e)) return e->code;
    if (t->record && !record_write(t->record, t->o->record, e)) return e->code;
    if (t->trace && !trace_write(t->trace, t->o->profile, e)) return e->code;
    return EXIT_DONE;
}

static bool can_write(const char *option, const char *path, Err *e) {
    Err why = {0};
    FileOut *f = path ? file_begin(path, &why) : NULL;
    if (f) file_abort(f);
    return !path || f || err_fail(e, "%s: %s", option, err_said(&why));
}

/* Judged before hours of training, not after them. */
static bool output_is_good(const Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    if (!o->output_dir || !*o->output_dir)
        return err_usage(e, "--output_dir is missing: where shall the LoRA go?");
    if (o->output_name && (!*o->output_name || strchr(o->output_name, '/')))
        return err_usage(e, "--output_name: got '%s', want a name without '/'",
                         o->output_name);
    if (!folder_make(o->output_dir, e) || !can_write("--profile", o->profile, e) ||
        !can_write("--record", o->record, e))
        return false;
    if (!t->model || !folder_exists(checkpoint_path(t->model))) return true;
    const char *to = arena_printf(t->arena, "%s/%s", o->output_dir,
                                  o->output_name ? o->output_name : "last");
    return (!folder_exists(to) && !file_exists(to)) ||
           err_fail(e, "'%s' exists: a model's folder is not written over", to);
}

static int prepared(Trainer *t, const char *recipe, Err *e) {
    t->dev = step_device(t->common, t->o->device, e);
    if (!t->dev) return e->code;
    if (!train_setup(t, recipe, e) || !train_resume_open(t, e)) return e->code;
    if (!train_given_plan(t, e)) return e->code;
    if (t->o->profile) t->trace = trace_new(t->arena);
    bool replay = t->o->inputs != NULL;
    if (!(replay ? open_inputs(t, e) : train_data_open(t, e)) || !train_schedule(t, e))
        return e->code;
    if (t->o->dry_run) return train_report(t, e) ? EXIT_DONE : e->code;
    if (!output_is_good(t, e)) return e->code;
    if (!train_base_weights(t, e) || !compile_all(t, e) || !train_weights_judge(t, e))
        return e->code;
    train_facts(t);
    if (!train_resume_check(t, e)) return e->code;
    if (t->data) train_text_feed(t);
    if (!train_samples_open(t, e)) return e->code;
    introduce(t);
    if (t->data && !train_encode(t, e)) return e->code;
    if (t->data) tell_latents(t);
    if (t->o->record) t->record = record_new(t->arena);
    train_metadata(t);
    return train(t, e);
}

static int64_t now_or_given(void) {
    const char *given = getenv("SOURCE_DATE_EPOCH");
    return given ? strtoll(given, NULL, 10) : (int64_t)time(NULL);
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    Trainer t = {.common = c,
                 .o = opts,
                 .given = given,
                 .arena = arena_new(),
                 .epochs = 1,
                 .stop = &stop_signal};
    t.started = now_or_given();
    WordList notes = {0};
    int code = EXIT_MISUSE;
    if (words->n && strcmp(train_recipe(t.o), "lora")) {
        err_usage(e, "--network_module %s trains a recipe of its own: leave out '%s'",
                  t.o->network_module, words->word[0]);
    } else if (train_options_check(t.arena, t.o, given, &notes, e)) {
        if (!words->n && !t.o->set.n) train_options_idle(t.arena, t.o, given, &notes);
        for (int i = 0; i < notes.n; i++) say(&t, "warning: %s", notes.word[i]);
        code = prepared(&t, words->n ? words->word[0] : train_recipe(t.o), e);
    }
    train_samples_close(&t);
    train_validation_close(&t);
    train_plans_close(&t);
    if (t.feed) data_feed_close(t.feed);
    if (t.tokenizer) tokenizer_close(t.tokenizer);
    if (t.data) dataset_close(t.data);
    inputs_close(t.in);
    state_close(t.resume);
    if (t.start_lora) lora_close(t.start_lora);
    device_close(t.dev);
    if (t.job.arena) job_close(&t.job);
    str_free(&t.report);
    arena_free(t.arena);
    return code;
}

const Command cmd_train = {
    .name = "train",
    .args = "[RECIPE]",
    .doc = "Trains a LoRA as a recipe says; sd-scripts' options are options here.",
    .options = train_options,
    .size = sizeof(TrainOptions),
    .defaults = &train_defaults,
    .min_words = 0,
    .max_words = 1,
    .run = run,
};
