/* --logging_dir: numbers of every micro-batch as a TensorBoard event file and as JSON lines
 * beside it, under sd-scripts' names (training.md 7.5). x is the number of finished updates;
 * the learning rates are those of the update itself. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/train.h"
#include "io/events.h"
#include "io/file.h"

typedef struct
    Rate { /* a learning rate of the plan, as one network's tensors have it */
    const char *scalar, *tag, *network;
} Rate;

struct TrainLog {
    Arena *arena;
    Events *events;
    FILE *lines;
    const char *lines_path;
    Rate *rate;
    int n_rate, cap_rate;
    Scalar *now; /* of the event being made */
    int n_now, cap_now;
    double epoch_loss; /* sum over the epoch so far */
    int64_t epoch_n;
};

/* ---- which rates there are ---- */
static void add_rate(TrainLog *l, const char *network, const char *scalar) {
    for (int i = 0; i < l->n_rate; i++)
        if (!strcmp(l->rate[i].network, network) && !strcmp(l->rate[i].scalar, scalar))
            return;
    Rate r = {arena_strdup(l->arena, scalar), NULL, network};
    PUSH(l->arena, l->rate, l->n_rate, l->cap_rate, r);
}

/* Of a trainable: an adapter's starts with its module's root, others with their network. */
static const char *network_of(const Trainer *t, const char *tensor) {
    size_t n = strcspn(tensor, ".");
    const char *root = arena_strndup(t->arena, tensor, n);
    for (int i = 0; i < t->modules->n; i++)
        if (!strcmp(t->modules->item[i].root, root)) return t->modules->item[i].network;
    return root;
}

/* A step that reads a rate and a trainable says whose rate it is. */
static void rate_of_step(TrainLog *l, const Trainer *t, const Plan *p,
                         const PlanStep *s) {
    const char *scalar = NULL, *tensor = NULL;
    for (int i = 0; i < s->n_in; i++) {
        if (s->in[i] == UINT32_MAX) continue;
        const PlanValue *v = &p->value[s->in[i]];
        if (v->role == ROLE_TRAIN && !tensor) tensor = v->name;
        if (v->role == ROLE_SCALAR && !strncmp(v->name, "lr.", 3)) scalar = v->name;
    }
    if (!scalar || !tensor) return;
    add_rate(l, network_of(t, tensor), scalar);
}

static int rates_of(const TrainLog *l, const char *network) {
    int n = 0;
    for (int i = 0; i < l->n_rate; i++) n += !strcmp(l->rate[i].network, network);
    return n;
}

/* "textencoder" and "unet"; of a network with several rates "unet_group0" … */
static void find_rates(TrainLog *l, const Trainer *t, const Plan *p) {
    for (uint32_t k = 0; k < p->n_step; k++) rate_of_step(l, t, p, &p->step[k]);
    for (int i = 0; i < l->n_rate; i++) {
        Rate *r = &l->rate[i];
        const char *name =
            strcmp(r->network, "text_encoder") ? r->network : "textencoder";
        int before = 0;
        for (int k = 0; k < i; k++) before += !strcmp(l->rate[k].network, r->network);
        r->tag = rates_of(l, r->network) == 1
                     ? arena_printf(l->arena, "lr/%s", name)
                     : arena_printf(l->arena, "lr/%s_group%d", name, before);
    }
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
    for (int i = 0; i < l->n_rate; i++) {
        float rate;
        if (!exec_read(x, l->rate[i].scalar, &rate, sizeof rate, e)) return false;
        add(l, l->rate[i].tag, (double)rate);
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
