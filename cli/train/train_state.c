/* Going on from a saved state: what a run is made of, as names and values that are stored
 * with the state and compared when the run goes on. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY /* the size of a state */
#include <xxhash.h>

#include "cli/train/train.h"
#include "cli/version.h"

typedef struct Facts {
    Arena *arena;
    Meta *item;
    int n, cap;
} Facts;

static void add(Facts *f, const char *key, const char *value) {
    Meta m = {key, value};
    PUSH(f->arena, f->item, f->n, f->cap, m);
}

static void add_hash(Facts *f, const char *key, uint64_t hash) {
    add(f, key, arena_printf(f->arena, "%016" PRIx64, hash));
}

static const char *text_of(Arena *a, const Val *v) {
    Str s = {0};
    if (v->kind != VAL_NONE) val_print(&s, v);
    const char *text = arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return text;
}

/* Every option that decides what is computed. What the recipe makes of an option counts,
 * not what was given. */
static void add_options(Facts *f, const Trainer *t) {
    bool group_anew = false;
    for (const Opt *o = train_options; o->name; o++) {
        if (!*o->name) group_anew = o->anew;
        if (!*o->name || o->ignored || o->refused || o->anew || group_anew) continue;
        const Val *recipe = args_get(t->job.recipe.options, o->name);
        Val own = opt_value(f->arena, o, t->o);
        add(f, arena_printf(f->arena, "--%s", o->name),
            text_of(f->arena, recipe ? recipe : &own));
    }
}

/* Options of the recipe that are no options of the command line. */
static void add_recipe_options(Facts *f, const Trainer *t) {
    const Args *options = t->job.recipe.options;
    for (int i = 0; options && i < options->n; i++)
        if (!opt_find(&cmd_train, options->name[i]))
            add(f, arena_printf(f->arena, "--set %s", options->name[i]),
                text_of(f->arena, &options->val[i]));
}

/* ---- hashes ---- */
static void mix(XXH3_state_t *h, const void *data, size_t n) {
    XXH3_64bits_update(h, data, n);
}
static void mix_text(XXH3_state_t *h, const char *text) {
    mix(h, text, strlen(text) + 1);
}

/* Pictures by name, size and caption, in their order; not by the place of the folder. */
static uint64_t data_hash(const Dataset *d, XXH3_state_t *h) {
    XXH3_64bits_reset(h);
    for (int i = 0; i < d->n; i++) {
        const Sample *s = &d->sample[i];
        const char *slash = strrchr(s->path, '/');
        const int number[] = {s->w,        s->h,         s->bucket_w, s->bucket_h,
                              s->repeats,  s->reg,       s->dataset,  s->subset,
                              s->mirrored, s->resized_w, s->resized_h};
        mix_text(h, slash ? slash + 1 : s->path);
        mix_text(h, s->caption);
        mix(h, number, sizeof number);
    }
    mix(h, &d->batches_per_epoch, sizeof d->batches_per_epoch);
    return XXH3_64bits_digest(h);
}

/* Names, types and the first bytes of every tensor: models that differ, differ there. */
static uint64_t model_hash(const Checkpoint *c, XXH3_state_t *h) {
    enum { MOST = 4096 };
    XXH3_64bits_reset(h);
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *key, *name = checkpoint_name(c, i, &key);
        Type type;
        const void *data;
        if (!checkpoint_find(c, name, &type, &data)) continue;
        size_t n = type_bytes(&type);
        mix_text(h, name);
        mix(h, &type.dtype, sizeof type.dtype);
        mix(h, type.dim, (size_t)type.rank * sizeof *type.dim);
        mix(h, data, n < MOST ? n : MOST);
    }
    return XXH3_64bits_digest(h);
}

static void add_hashes(Facts *f, const Trainer *t) {
    XXH3_state_t h;
    if (t->data) add_hash(f, "the data", data_hash(t->data, &h));
    for (int i = 0; i < t->job.n_base; i++)
        add_hash(f, arena_printf(f->arena, "base model %d", i),
                 model_hash(t->job.base[i], &h));
}

/* The last two parts of a document's path: where a folder of graphs lies does not count. */
static const char *document_name(Arena *a, const char *part) {
    const char *at = part + strlen(part);
    for (int slashes = 0; at > part; at--)
        if (at[-1] == '/' && ++slashes == 2) break;
    return at == part ? part : arena_printf(a, "document %s", at);
}

/* Parts of the plan's key that options do not say: the texts of graph files. */
static void add_documents(Facts *f, const Trainer *t) {
    const Plan *p = t->plan[0].plan;
    for (uint32_t i = 0; i < p->n_part; i++)
        if (!strncmp(p->part[i].name, "document ", 9))
            add_hash(f, document_name(f->arena, p->part[i].name), p->part[i].hash);
}

void train_facts(Trainer *t) {
    Facts f = {.arena = t->arena};
    add_options(&f, t);
    add_recipe_options(&f, t);
    add_hashes(&f, t);
    add_documents(&f, t);
    t->fact = f.item;
    t->n_fact = f.n;
}

/* ---- writing ---- */
bool train_state_write(Trainer *t, const char *folder, Err *e) {
    TrainState s = {.place = t->place,
                    .epoch = t->last_epoch,
                    .steps = t->steps,
                    .seed = t->seed,
                    .program = version_text(),
                    .loss = t->average.loss,
                    .n_loss = t->average.n,
                    .fact = t->fact,
                    .n_fact = t->n_fact};
    return state_write(folder, t->store, &s, e);
}

/* ---- going on ---- */
bool train_resume_open(Trainer *t, Err *e) {
    if (!t->o->resume) return true;
    t->resume = state_open(t->arena, t->o->resume, &t->resumed, e);
    if (!t->resume) return false;
    if (t->o->seed == UNSET_INT) t->seed = t->resumed.seed;
    return t->seed == t->resumed.seed ||
           err_usage(e, "--resume: the run of '%s' has --seed %llu, got %llu",
                     t->o->resume, (unsigned long long)t->resumed.seed,
                     (unsigned long long)t->seed);
}

static const char *fact(const Meta *m, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].key, key)) return m[i].value;
    return NULL;
}

/* Lines of what differs, the first few. *option: one of them is an option. */
static int differences(const Trainer *t, Str *s, bool *option) {
    enum { MOST_LINES = 8 };
    int n = 0;
    const TrainState *then = &t->resumed;
    for (int i = 0; i < t->n_fact; i++) {
        const Meta *m = &t->fact[i];
        const char *old = fact(then->fact, then->n_fact, m->key);
        bool is_option = !strncmp(m->key, "--", 2);
        if (old ? !strcmp(old, m->value) : is_option) continue;
        *option |= is_option;
        if (++n > MOST_LINES) continue;
        if (is_option)
            str_printf(s, "\n  %s: '%.100s' there, '%.100s' here", m->key, old,
                       m->value);
        else
            str_printf(s, "\n  %s: not the same", m->key);
    }
    if (n > MOST_LINES) str_printf(s, "\n  and %d more", n - MOST_LINES);
    return n;
}

static void tell_steps(Trainer *t) {
    const TrainState *r = &t->resumed;
    if (strcmp(r->program, version_text()))
        str_printf(&t->job.note,
                   "note: the state was saved by version %s: rounding may differ\n",
                   r->program);
    if (r->steps != t->steps)
        str_printf(&t->job.note,
                   "note: the saved run was to make %lld steps, this one makes %lld; "
                   "the learning rate follows the latter from here\n",
                   (long long)r->steps, (long long)t->steps);
}

bool train_resume_check(Trainer *t, Err *e) {
    if (!t->resume) return true;
    Str s = {0};
    bool option = false;
    if (differences(t, &s, &option)) {
        if (option)
            err_usage(e, "--resume: '%s' was saved by another run:%s", t->o->resume,
                      s.s);
        else
            err_fail(e, "--resume: '%s' was saved by another run:%s", t->o->resume,
                     s.s);
        str_free(&s);
        return false;
    }
    if (t->resumed.place.update > t->steps)
        return err_usage(e,
                         "--resume: '%s' is from step %lld, and this run ends at "
                         "%lld",
                         t->o->resume, (long long)t->resumed.place.update,
                         (long long)t->steps);
    tell_steps(t);
    t->place = t->resumed.place;
    t->last_epoch = (int)t->resumed.epoch;
    t->micro = t->place.micro;
    loss_average_restore(t->arena, &t->average, t->resumed.loss, t->resumed.n_loss);
    return true;
}
