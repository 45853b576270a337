/* Saving a base model of which networks were trained themselves: the model they came from,
 * in its own form (a file with the original's names, or a Diffusers folder), with the
 * trained numbers in place of the old ones. */
#include <string.h>

#include "cli/train/train.h"
#include "io/file.h"
#include "io/model_write.h"

static bool trained(const Trainer *t, const PlanValue *v, const char **network) {
    if (v->role != ROLE_TRAIN) return false;
    const char *dot = strchr(v->name, '.');
    *network = dot ? arena_strndup(t->arena, v->name, (size_t)(dot - v->name)) : "";
    const Net *net = job_net(&t->job, *network);
    return net && net->train;
}

bool train_model_open(Trainer *t, Err *e) {
    for (int i = 0; i < t->job.n_net; i++) {
        const Net *net = &t->job.net[i];
        if (!net->train) continue;
        Checkpoint *from = job_checkpoint(&t->job, net->name);
        if (!from)
            return err_at(e, t->job.recipe.network[i].loc,
                          "network '%s' is trained and has no 'from': its weights have "
                          "to start somewhere",
                          net->name);
        if (t->model && from != t->model)
            return err_at(e, t->job.recipe.network[i].loc,
                          "trained networks come from '%s' and '%s': they can only be "
                          "saved together, want one model",
                          checkpoint_path(t->model), checkpoint_path(from));
        t->model = from;
    }
    return true;
}

/* Where the numbers are copied to when they are saved: made once. */
static bool keep_trained(Trainer *t, Exec *x, Err *e) {
    const Plan *p = exec_plan(x);
    int cap = 0;
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        const char *network;
        if (!trained(t, v, &network)) continue;
        TrainedTensor k = {v->name, NEW(t->arena, float, type_count(&v->type))};
        const char *name = job_tensor_name(&t->job, v->name);
        if (!name || !checkpoint_replace(t->model, name, v->type, k.data))
            return err_fail(e, "'%s' is not in '%s'", v->name,
                            checkpoint_path(t->model));
        PUSH(t->arena, t->trained, t->n_trained, cap, k);
    }
    return true;
}

static bool write_file(const Trainer *t, const char *path, int precision,
                       const Meta *meta, int n_meta, int64_t step, int64_t *overflow,
                       Err *e) {
    Arena *a = arena_new();
    StoredList list = {.arena = a, .model = t->model};
    const char *family = model_family(t->model);
    TorchTop top = {t->last_epoch, step};
    bool config, ok = model_to_ldm(&list, t->model, family, precision, e) &&
                      stored_write(path, &list, meta, n_meta, &top, e) &&
                      config_beside(path, t->model, family, &config, e);
    *overflow = list.overflow;
    arena_free(a);
    return ok;
}

/* The numbers of now, or their running means. */
static bool read_trained(Trainer *t, Exec *x, bool average, Err *e) {
    Arena *a = arena_new();
    bool ok = true;
    for (int i = 0; ok && i < t->n_trained; i++) {
        const TrainedTensor *k = &t->trained[i];
        const char *value = k->value;
        size_t bytes = type_bytes(exec_type(x, value));
        if (average)
            value =
                arena_printf(a, "%s.%s.average", value, t->job.recipe.average->name);
        ok = exec_read(x, value, k->data, bytes, e);
    }
    arena_free(a);
    return ok;
}

bool train_model_file(Trainer *t, Exec *x, const char *path, int64_t step, Err *e) {
    int64_t overflow;
    return (t->trained || keep_trained(t, x, e)) && read_trained(t, x, false, e) &&
           write_file(t, path, STORED_KEEP, NULL, 0, step, &overflow, e);
}

bool train_model_write(Trainer *t, Exec *x, const char *stem, bool average,
                       int precision, const Meta *meta, int n_meta, int64_t step,
                       const char **path, Err *e) {
    if (!t->trained && !keep_trained(t, x, e)) return false;
    if (!read_trained(t, x, average, e)) return false;
    int64_t overflow = 0;
    bool ok;
    if (folder_exists(checkpoint_path(t->model))) {
        *path = stem;
        DiffusersSave how = {.family = model_family(t->model),
                             .precision = precision,
                             .v_prediction = t->o->v_parameterization};
        ok = diffusers_write(stem, t->model, &how, &overflow, e);
    } else {
        *path = arena_printf(t->arena, "%s.%s", stem, t->o->save_model_as);
        ok = write_file(t, *path, precision, meta, n_meta, step, &overflow, e);
    }
    if (ok && overflow)
        progress_say(t->progress, arena_printf(t->arena,
                                               "warning: %lld numbers are larger than "
                                               "fp16 can hold and became infinite",
                                               (long long)overflow));
    return ok;
}
