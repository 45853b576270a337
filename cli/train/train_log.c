/* --logging_dir: numbers of every micro-batch as a TensorBoard event file and as JSON lines
 * beside it, under sd-scripts' names (training.md 7.5). x is the number of finished updates;
 * the learning rates are those of the update itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/train/train.h"
#include "io/events.h"
#include "io/file.h"

typedef struct Rate {          /* a learning rate of the plan */
    const char *name, *scalar; /* of whose tensors; in the plan */
    const char *tag, *d_tag;   /* "lr/unet"; "lr/d*lr/unet" */
} Rate;

struct TrainLog {
    Arena *arena;
    Events *events;
    FILE *lines;
    const char *lines_path;
    Rate *rate;
    int n_rate, cap_rate;
    const char *d; /* the factor of all rates that an optimizer may find */
    Scalar *now;   /* of the event being made */
    int n_now, cap_now;
    double epoch_loss; /* sum over the epoch so far */
    int64_t epoch_n;
};

/* ---- which rates there are ---- */
/* The module whose tensor it is, or NULL: a tensor of a network that is trained itself. */
static const Module *module_of(const Trainer *t, const char *tensor) {
    const size_t n = strcspn(tensor, ".");
    for (int i = 0; i < t->modules->n; i++) {
        const Module *m = &t->modules->item[i];
        if (strlen(m->root) == n && !strncmp(m->root, tensor, n)) return m;
    }
    return NULL;
}

/* Has the network learning rates by block? */
static bool by_block(const Trainer *t, const char *network) {
    for (int i = 0; i < t->modules->n; i++) {
        const Module *m = &t->modules->item[i];
        for (int k = 0; k < m->args->n; k++)
            if (!strcmp(m->network, network) && !strcmp(m->args->name[k], "lr") &&
                !strcmp(m->from[k], "preset"))
                return true;
    }
    return false;
}

static const char *scalar_of(const Plan *p, double rate) {
    for (uint32_t i = 0; i < p->n_value; i++) {
        const PlanValue *v = &p->value[i];
        if (v->role == ROLE_SCALAR && !strncmp(v->name, "lr.", 3) &&
            v->param->lr == rate)
            return v->name;
    }
    return NULL;
}

static const char *original_name(const char *network) {
    return strcmp(network, "text_encoder") ? network : "textencoder";
}

/* sd-scripts' names: "textencoder", "unet", "unet_block7", and "unet plus" for tensors
 * whose rate is another than their module's (LoRA+). */
static const char *name_of(const Trainer *t, const char *tensor, double rate) {
    const Module *m = module_of(t, tensor);
    Arena *a = t->arena;
    if (!m) return original_name(arena_strndup(a, tensor, strcspn(tensor, ".")));
    const char *network = original_name(m->network);
    const char *plus = rate == m->lr ? "" : " plus";
    if (m->block < 0 || !by_block(t, m->network))
        return arena_printf(a, "%s%s", network, plus);
    return arena_printf(a, "%s_block%d%s", network, m->block, plus);
}

static void add_rate(TrainLog *l, const char *name, const char *scalar) {
    for (int i = 0; i < l->n_rate; i++)
        if (!strcmp(l->rate[i].name, name) && !strcmp(l->rate[i].scalar, scalar))
            return;
    Rate r = {.name = name, .scalar = scalar};
    PUSH(l->arena, l->rate, l->n_rate, l->cap_rate, r);
}

/* Where one name has several rates (rules by path) they are "unet_group0" … */
static void name_rates(TrainLog *l) {
    for (int i = 0; i < l->n_rate; i++) {
        Rate *r = &l->rate[i];
        int all = 0, before = 0;
        for (int k = 0; k < l->n_rate; k++) {
            const bool same = !strcmp(l->rate[k].name, r->name);
            all += same;
            before += same && k < i;
        }
        const char *name =
            all == 1 ? r->name : arena_printf(l->arena, "%s_group%d", r->name, before);
        r->tag = arena_printf(l->arena, "lr/%s", name);
        r->d_tag = arena_printf(l->arena, "lr/d*lr/%s", name);
    }
}

static void find_rates(TrainLog *l, const Trainer *t, const Plan *p) {
    for (uint32_t i = 0; i < t->adapted->n_value; i++) {
        const Value *v = t->adapted->value[i];
        if (v->role != ROLE_TRAIN) continue;
        const double rate = v->param ? v->param->lr : 1;
        const char *scalar = scalar_of(p, rate); /* none: nothing of it is learnt */
        if (scalar) add_rate(l, name_of(t, v->name, rate), scalar);
    }
    name_rates(l);
    /* a step size that the optimizer finds: D-Adaptation's and Prodigy's d */
    l->d = arena_printf(l->arena, "%s.d", t->job.recipe.optimizer->name);
}

/* ---- files ---- */
static double wall_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool train_log_open(Trainer *t, Err *e) {
    const TrainOptions *o = t->o;
    if (!o->logging_dir) return true;
    TrainLog *l = NEW(t->arena, TrainLog, 1);
    char when[32], host[64] = "localhost";
    time_t started = (time_t)t->started;
    struct tm local;
    localtime_r(&started, &local);
    strftime(when, sizeof when, "%Y%m%d%H%M%S", &local);
    gethostname(host, sizeof host - 1);
    const char *folder = arena_printf(
        t->arena, "%s/%s%s/%s", o->logging_dir, o->log_prefix ? o->log_prefix : "",
        when, o->log_tracker_name ? o->log_tracker_name : "network_train");
    const char *events =
        arena_printf(t->arena, "%s/events.out.tfevents.%" PRId64 ".%s.%ld.0", folder,
                     t->started, host, (long)getpid());
    l->arena = t->arena;
    l->lines_path = arena_printf(t->arena, "%s/log.jsonl", folder);
    t->log = l;
    if (!folder_make(folder, e)) return false;
    l->events = events_open(t->arena, events, wall_clock(), e);
    if (!l->events) return false;
    l->lines = fopen(l->lines_path, "ab");
    return l->lines ||
           err_fail(e, "cannot write '%s': %s", l->lines_path, strerror(errno));
}

/* ---- numbers ---- */
static void add(TrainLog *l, const char *tag, double value) {
    Scalar s = {tag, value};
    PUSH(l->arena, l->now, l->n_now, l->cap_now, s);
}

static bool write_line(TrainLog *l, const char *x_name, int64_t x, int epoch, Err *e) {
    Str s = {0};
    str_printf(&s, "{\"%s\": %" PRId64, x_name, x);
    if (epoch) str_printf(&s, ", \"epoch\": %d", epoch);
    for (int i = 0; i < l->n_now; i++) {
        str_add(&s, ", ");
        str_json(&s, l->now[i].tag);
        str_add(&s, ": ");
        str_double(&s, l->now[i].value);
    }
    str_add(&s, "}\n");
    bool ok = fwrite(s.s, 1, s.n, l->lines) == s.n && !fflush(l->lines);
    str_free(&s);
    return ok || err_fail(e, "cannot write '%s': %s", l->lines_path, strerror(errno));
}

static bool end_event(TrainLog *l, const char *x_name, int64_t x, int epoch, Err *e) {
    bool ok = events_add(l->events, wall_clock(), x, l->now, l->n_now, e) &&
              write_line(l, x_name, x, epoch, e);
    l->n_now = 0;
    return ok;
}

static bool add_rates(TrainLog *l, const Trainer *t, Exec *x, Err *e) {
    if (!l->n_rate) find_rates(l, t, exec_plan(x));
    const Type *found = exec_type(x, l->d);
    double d = 1;
    if (found && found->dtype != F64) found = NULL;
    if (found && !exec_read(x, l->d, &d, sizeof d, e)) return false;
    for (int i = 0; i < l->n_rate; i++) {
        float rate;
        if (!exec_read(x, l->rate[i].scalar, &rate, sizeof rate, e)) return false;
        add(l, l->rate[i].tag, (double)rate);
        if (found) add(l, l->rate[i].d_tag, d * (double)rate);
    }
    return true;
}

/* Of --scale_weight_norms. */
static bool add_norms(TrainLog *l, Exec *x, Err *e) {
    static const char *const names[][2] = {
        {"max_norm.keys_scaled", "max_norm/keys_scaled"},
        {"max_norm.average_key_norm", "max_norm/average_key_norm"},
        {"max_norm.max_key_norm", "max_norm/max_key_norm"}};
    for (size_t i = 0; i < COUNT(names); i++) {
        float norm;
        if (!exec_type(x, names[i][0])) continue;
        if (!exec_read(x, names[i][0], &norm, sizeof norm, e)) return false;
        add(l, names[i][1], (double)norm);
    }
    return true;
}

static bool end_epoch(TrainLog *l, int epoch, Err *e) {
    if (l->epoch_n) add(l, "loss/epoch_average", l->epoch_loss / (double)l->epoch_n);
    l->epoch_loss = 0;
    l->epoch_n = 0;
    return end_event(l, "epoch", epoch, 0, e);
}

bool train_log_step(Trainer *t, Exec *x, const StepResult *r, double average, Err *e) {
    TrainLog *l = t->log;
    if (!l) return true;
    const bool number = isfinite(r->loss);
    if (number) add(l, "loss/current", (double)r->loss);
    add(l, "loss/average", average);
    if (r->updated && !add_rates(l, t, x, e)) return false;
    if (r->updated && isfinite(r->grad_norm))
        add(l, "norm/grad_norm", (double)r->grad_norm);
    if (r->updated && !add_norms(l, x, e)) return false;
    if (r->loss_scale > 0) add(l, "loss_scale", (double)r->loss_scale);
    l->epoch_loss += number ? (double)r->loss : 0;
    l->epoch_n += number;
    return end_event(l, "step", r->place.update, r->epoch, e) &&
           (!r->last_of_epoch || end_epoch(l, r->epoch, e));
}

bool train_log_number(Trainer *t, const char *tag, int64_t step, double value, Err *e) {
    if (!t->log) return true;
    add(t->log, tag, value);
    return end_event(t->log, "step", step, 0, e);
}

bool train_log_close(Trainer *t, Err *e) {
    TrainLog *l = t->log;
    if (!l) return true;
    t->log = NULL;
    bool ok = events_close(l->events, e);
    if (l->lines && fclose(l->lines) && ok)
        ok = err_fail(e, "cannot write '%s': %s", l->lines_path, strerror(errno));
    return ok;
}
