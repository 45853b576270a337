/* Which files a training leaves: LoRAs and state folders, when they are written and when old
 * ones are removed, as sd-scripts has it (training.md 7.1). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/files/file_tool.h"
#include "cli/train/train.h"
#include "io/file.h"
#include "io/lora_file.h"

typedef struct SaveAt { /* what stands in a file's metadata */
    int64_t update, epoch;
} SaveAt;

/* Unless told, that of the adapters' own numbers. */
static int save_dtype(const Trainer *t) {
    DType own = !t->full_half ? F32 : t->mixed_precision == PRECISION_FP16 ? F16 : BF16;
    return precision_of(t->o->save_precision, own);
}

/* ---- paths ---- */
/* what: of the file beside the LoRA itself, "" for that one */
static const char *file_path(Arena *a, const TrainOptions *o, SaveKind kind,
                             int64_t number, const char *what) {
    return arena_printf(a, "%s/%s%s.%s", o->output_dir, train_stem(a, o, kind, number),
                        what, o->save_model_as);
}

static const char *state_path(Arena *a, const TrainOptions *o, SaveKind kind,
                              int64_t number) {
    return arena_printf(a, "%s/%s-state", o->output_dir,
                        train_stem(a, o, kind, number));
}

/* ---- one file, one folder ---- */
static void tell(Trainer *t, const char *what, const char *path) {
    progress_say(t->progress, arena_printf(t->arena, "%s: %s", what, path));
}

/* The running mean of the adapters, NAME-ema beside NAME. */
static bool save_average(Trainer *t, Exec *x, const char *path, const Meta *meta, int n,
                         Err *e) {
    Arena *a = arena_new();
    LoraTensors mean = {NEW(a, LoraTensor, t->lora.n), t->lora.n};
    for (int i = 0; i < mean.n; i++) {
        mean.item[i] = t->lora.item[i];
        if (mean.item[i].value)
            mean.item[i].value = arena_printf(a, "%s.%s.average", mean.item[i].value,
                                              t->job.recipe.average->name);
    }
    bool ok = lora_write(path, x, &mean, save_dtype(t), meta, n, e);
    if (ok) tell(t, "saved", path);
    arena_free(a);
    return ok;
}

/* A base model that is trained itself; with a LoRA of the same run it is NAME-model. Its
 * running mean is NAME-ema or NAME-model-ema. */
static bool save_model(Trainer *t, Exec *x, const char *stem, const Meta *meta, int n,
                       int64_t update, Err *e) {
    bool ok = true;
    for (int mean = 0; ok && mean <= (t->job.recipe.average != NULL); mean++) {
        const char *path,
            *to = arena_printf(t->arena, "%s%s%s", stem, t->lora.n ? "-model" : "",
                               mean ? "-ema" : "");
        ok =
            train_model_write(t, x, to, mean, save_dtype(t), meta, n, update, &path, e);
        if (ok) tell(t, "saved", path);
    }
    return ok;
}

static bool save_file(Trainer *t, Exec *x, SaveKind kind, int64_t number,
                      const SaveAt *at, Err *e) {
    Arena *a = arena_new();
    Meta *meta = NEW(a, Meta, t->n_meta + 4);
    if (t->n_meta) memcpy(meta, t->meta, (size_t)t->n_meta * sizeof *meta);
    int n =
        t->n_meta + train_metadata_now(t, a, at->update, at->epoch, meta + t->n_meta);
    const char *path = file_path(a, t->o, kind, number, ""),
               *average = file_path(a, t->o, kind, number, "-ema");
    const char *stem = arena_printf(t->arena, "%s/%s", t->o->output_dir,
                                    train_stem(a, t->o, kind, number));
    bool ok = folder_make(t->o->output_dir, e);
    if (ok && t->lora.n) {
        ok = lora_write(path, x, &t->lora, save_dtype(t), meta, n, e);
        if (ok) tell(t, "saved", path);
        if (ok && t->job.recipe.average) ok = save_average(t, x, average, meta, n, e);
    }
    if (ok && t->model) ok = save_model(t, x, stem, meta, n, at->update, e);
    arena_free(a);
    return ok;
}

static bool save_state(Trainer *t, SaveKind kind, int64_t number, Err *e) {
    Arena *a = arena_new();
    const char *path = state_path(a, t->o, kind, number);
    bool ok = folder_make(t->o->output_dir, e) && train_state_write(t, path, e);
    if (ok) tell(t, "saved", path);
    arena_free(a);
    return ok;
}

/* ---- removing old ones ---- */
/* The files of one moment; a trained model's folder stays. */
static bool remove_file(Trainer *t, SaveKind kind, int64_t number, Err *e) {
    static const char *const beside[] = {"", "-ema", "-model", "-model-ema"};
    bool ok = true;
    Arena *a = arena_new();
    for (size_t i = 0; number >= 0 && ok && i < COUNT(beside); i++) {
        const char *path = file_path(a, t->o, kind, number, beside[i]);
        if (!file_exists(path)) continue;
        ok = !unlink(path) || err_fail(e, "cannot remove '%s'", path);
        if (ok) tell(t, "removed", path);
    }
    arena_free(a);
    return ok;
}

/* Only a folder that holds a state. */
static bool remove_state(Trainer *t, SaveKind kind, int64_t number, Err *e) {
    Arena *a = arena_new();
    const char *path = state_path(a, t->o, kind, number);
    bool there = number > 0 && folder_exists(path) && state_may_replace(path);
    bool ok = !there || folder_remove(path, e);
    if (ok && there) tell(t, "removed", path);
    arena_free(a);
    return ok;
}

/* What one kind of saving in between does: after epochs, or after updates. */
typedef struct Between {
    SaveKind kind;
    int64_t every, keep, keep_state; /* UNSET_INT: all are kept */
    int64_t (*to_remove)(int64_t number, int64_t every, int64_t keep);
} Between;

static bool save_now(Trainer *t, Exec *x, const Between *b, int64_t number,
                     const SaveAt *at, Err *e) {
    if (!save_file(t, x, b->kind, number, at, e)) return false;
    if (b->keep != UNSET_INT &&
        !remove_file(t, b->kind, b->to_remove(number, b->every, b->keep), e))
        return false;
    if (!t->o->save_state) return true;
    int64_t keep = b->keep_state != UNSET_INT ? b->keep_state : b->keep;
    return save_state(t, b->kind, number, e) &&
           (keep == UNSET_INT ||
            remove_state(t, b->kind, b->to_remove(number, b->every, keep), e));
}

/* At least `ratio` files over all epochs. */
static int64_t every_n_epochs(const Trainer *t) {
    int64_t ratio = t->o->save_n_epoch_ratio;
    if (ratio == UNSET_INT || ratio <= 0) return t->o->save_every_n_epochs;
    return t->epochs / ratio > 1 ? t->epochs / ratio : 1;
}

/* Epoch files for all but the last epoch, whose weights are the final file's. */
bool train_save_between(Trainer *t, Exec *x, const StepResult *r, Err *e) {
    const TrainOptions *o = t->o;
    const Between steps = {SAVE_STEP, o->save_every_n_steps, o->save_last_n_steps,
                           o->save_last_n_steps_state, train_step_to_remove};
    const Between epochs = {SAVE_EPOCH, every_n_epochs(t), o->save_last_n_epochs,
                            o->save_last_n_epochs_state, train_epoch_to_remove};
    const SaveAt in_epoch = {r->step, r->epoch - 1}, behind = {r->step, r->epoch};
    if (steps.every > 0 && r->step % steps.every == 0 &&
        !save_now(t, x, &steps, r->step, &in_epoch, e))
        return false;
    return epochs.every <= 0 || !r->last_of_epoch || r->epoch % epochs.every ||
           r->epoch >= t->epochs || save_now(t, x, &epochs, r->epoch, &behind, e);
}

bool train_save_end(Trainer *t, Err *e) {
    const SaveAt at = {t->place.update, t->epochs};
    bool state = t->o->save_state || t->o->save_state_on_train_end;
    return save_file(t, t->last, SAVE_LAST, 0, &at, e) &&
           (!state || save_state(t, SAVE_LAST, 0, e));
}

/* Between two updates the weights are those of the last one: so is the file. */
bool train_save_stopped(Trainer *t, const char **state, Err *e) {
    const SaveAt at = {t->place.update, t->last_epoch - 1};
    *state = state_path(t->arena, t->o, SAVE_STEP, t->place.update);
    return (!t->place.update ||
            save_file(t, t->last, SAVE_STEP, t->place.update, &at, e)) &&
           save_state(t, SAVE_STEP, t->place.update, e);
}
