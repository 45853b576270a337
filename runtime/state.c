/* The state folder: JSON by jansson, tensors as safetensors, which the JSON names with size
 * and hash, so that files of two states cannot be mixed up. */
#include "runtime/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "io/json.h"
#include "runtime/store.h"

static const char format[] = "graphrun-state", json_name[] = "train_state.json",
                  tensor_name[] = "state.safetensors",
                  losses[] = "graphrun:losses"; /* no value of a plan has a ':' */

struct StateFile {
    Arena *arena;
    const char *path; /* of the tensors */
    TensorFile *tensors;
};

static const char *inside(Arena *a, const char *folder, const char *name) {
    return arena_printf(a, "%s/%s", folder, name);
}

/* ---- writing ---- */
static bool write_tensors(Arena *a, const char *path, const Store *store,
                          const TrainState *s, Err *e) {
    TensorOut *t = NEW(a, TensorOut, store->n_kept + 1);
    int n = 0;
    for (uint32_t i = 0; i < store->n_kept; i++) {
        const Kept *k = &store->kept[i];
        const void *data = store_bytes(store, k, a, e);
        if (!data) return false;
        t[n++] = (TensorOut){k->name, k->type, data};
    }
    const int64_t count = s->n_loss;
    if (count) t[n++] = (TensorOut){losses, type_of(F64, 1, &count), s->loss};
    return safetensors_write(path, t, n, NULL, 0, e);
}

/* Size and hash of a file, as they stand in the JSON. */
static bool fingerprint(const char *path, int64_t *bytes, char hash[17], Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return false;
    snprintf(hash, 17, "%016" PRIx64, (uint64_t)XXH3_64bits(map, n));
    *bytes = (int64_t)n;
    file_unmap(map, n);
    return true;
}

static json_t *facts(const TrainState *s) {
    json_t *run = json_object();
    for (int i = 0; i < s->n_fact; i++)
        json_object_set_new(run, s->fact[i].key, json_string(s->fact[i].value));
    return run;
}

static json_t *described(const TrainState *s, int64_t bytes, const char *hash) {
    json_t *tensors = json_object(), *top = json_object();
    json_object_set_new(tensors, "file", json_string(tensor_name));
    json_object_set_new(tensors, "bytes", json_integer(bytes));
    json_object_set_new(tensors, "xxh3", json_string(hash));
    const struct {
        const char *name;
        int64_t number;
    } number[] = {{"version", STATE_VERSION},
                  {"current_epoch", s->epoch}, /* these two as sd-scripts names them */
                  {"current_step", s->place.update},
                  {"micro_batches", s->place.micro},
                  {"micro_batches_added_up", s->place.in_window},
                  {"samples", (int64_t)s->place.sample},
                  {"steps", s->steps},
                  {"seed", (int64_t)s->seed}};
    json_object_set_new(top, "format", json_string(format));
    json_object_set_new(top, "program", json_string(s->program));
    for (size_t i = 0; i < COUNT(number); i++)
        json_object_set_new(top, number[i].name, json_integer(number[i].number));
    json_object_set_new(top, "tensors", tensors);
    json_object_set_new(top, "run", facts(s));
    return top;
}

static bool write_json(const char *path, const TrainState *s, int64_t bytes,
                       const char *hash, Err *e) {
    json_t *top = described(s, bytes, hash);
    char *text = json_dumps(top, JSON_INDENT(1));
    json_decref(top);
    if (!text) return err_fail(e, "cannot write '%s': a text is not UTF-8", path);
    bool ok = file_write(path, text, strlen(text), e);
    free(text);
    return ok;
}

bool state_may_replace(const char *folder) {
    Arena *a = arena_new();
    bool state = file_exists(inside(a, folder, json_name));
    arena_free(a);
    return state || !folder_exists(folder);
}

bool state_write(const char *folder, const Store *store, const TrainState *s, Err *e) {
    if (!state_may_replace(folder))
        return err_fail(e, "'%s' is there and is no state folder", folder);
    FolderOut *f = folder_begin(folder, true, e);
    if (!f) return false;
    Arena *a = arena_new();
    const char *tensors = inside(a, folder_place(f), tensor_name),
               *json = inside(a, folder_place(f), json_name);
    int64_t bytes = 0;
    char hash[17] = "";
    bool ok = write_tensors(a, tensors, store, s, e) &&
              fingerprint(tensors, &bytes, hash, e) &&
              write_json(json, s, bytes, hash, e);
    arena_free(a);
    if (ok) return folder_commit(f, e);
    folder_abort(f);
    return false;
}

/* ---- reading ---- */
typedef struct Reading {
    Arena *arena;
    const char *path; /* of the JSON */
    json_t *top;
    Err *e;
} Reading;

static bool bad(const Reading *r, const char *key) {
    return err_fail(r->e, "'%s': '%s' is missing or out of range", r->path, key);
}

static bool number(const Reading *r, const json_t *in, const char *key, int64_t *out) {
    const json_t *v = json_object_get(in, key);
    *out = json_integer_value(v);
    return (json_is_integer(v) && *out >= 0) || bad(r, key);
}

static bool text(const Reading *r, const json_t *in, const char *key,
                 const char **out) {
    const char *s = json_string_value(json_object_get(in, key));
    *out = s ? arena_strdup(r->arena, s) : "";
    return s || bad(r, key);
}

static bool is_ours(const Reading *r) {
    const char *said = json_string_value(json_object_get(r->top, "format"));
    int64_t version;
    if (!said || strcmp(said, format))
        return err_fail(r->e,
                        "'%s' is not a state of graphrun's (sd-scripts' states hold "
                        "Python objects, which are not read)",
                        r->path);
    if (!number(r, r->top, "version", &version)) return false;
    return version == STATE_VERSION ||
           err_fail(r->e, "'%s': state version %lld, this program reads %d", r->path,
                    (long long)version, STATE_VERSION);
}

static bool place(const Reading *r, TrainState *s) {
    TrainPlace *p = &s->place;
    int64_t sample, seed;
    if (!number(r, r->top, "current_step", &p->update) ||
        !number(r, r->top, "current_epoch", &s->epoch) ||
        !number(r, r->top, "micro_batches", &p->micro) ||
        !number(r, r->top, "micro_batches_added_up", &p->in_window) ||
        !number(r, r->top, "samples", &sample) ||
        !number(r, r->top, "steps", &s->steps) || !number(r, r->top, "seed", &seed) ||
        !text(r, r->top, "program", &s->program))
        return false;
    p->sample = (uint64_t)sample;
    s->seed = (uint64_t)seed;
    if (!p->micro || p->micro < p->update) return bad(r, "micro_batches");
    if (p->in_window > p->micro - p->update) return bad(r, "micro_batches_added_up");
    return true;
}

static bool read_facts(const Reading *r, TrainState *s) {
    json_t *run = json_object_get(r->top, "run"), *v;
    const char *key;
    if (!json_is_object(run)) return bad(r, "run");
    Meta *fact = NEW(r->arena, Meta, json_object_size(run));
    s->fact = fact;
    json_object_foreach(run, key, v) {
        if (!json_is_string(v)) return bad(r, key);
        *fact++ = (Meta){arena_strdup(r->arena, key),
                         arena_strdup(r->arena, json_string_value(v))};
        s->n_fact++;
    }
    return true;
}

/* Are these the tensors that were written with this JSON? */
static bool tensors_fit(const Reading *r, const char *path) {
    const json_t *of = json_object_get(r->top, "tensors");
    int64_t bytes, found;
    const char *hash;
    char real[17];
    if (!number(r, of, "bytes", &bytes) || !text(r, of, "xxh3", &hash) ||
        !fingerprint(path, &found, real, r->e))
        return false;
    if (bytes != found)
        return err_fail(r->e, "'%s' has %lld bytes, %s says %lld", path,
                        (long long)found, json_name, (long long)bytes);
    return !strcmp(hash, real) ||
           err_fail(r->e, "'%s' is not as it was written: its hash is %s, %s says %s",
                    path, real, json_name, hash);
}

static bool read_losses(const StateFile *f, TrainState *s, Err *e) {
    const TensorEntry *t = tensors_find(f->tensors, losses);
    if (!t) return true;
    if (t->type.dtype != F64 || t->type.rank != 1 || t->type.dim[0] > INT32_MAX)
        return err_fail(e, "'%s': '%s' is %s, want f64[n]", f->path, losses,
                        type_text(f->arena, &t->type));
    double *x = NEW(f->arena, double, t->type.dim[0]);
    memcpy(x, t->data, type_bytes(&t->type));
    s->loss = x;
    s->n_loss = (int)t->type.dim[0];
    return true;
}

StateFile *state_open(Arena *a, const char *folder, TrainState *out, Err *e) {
    *out = (TrainState){0};
    if (!folder_exists(folder)) {
        err_fail(e, "--resume: there is no folder '%s'", folder);
        return NULL;
    }
    StateFile *f = NEW(a, StateFile, 1);
    *f = (StateFile){a, inside(a, folder, tensor_name), NULL};
    Reading r = {a, inside(a, folder, json_name), NULL, e};
    if (!file_exists(r.path)) {
        err_fail(e, "--resume: '%s' is no state folder: it has no %s", folder,
                 json_name);
        return NULL;
    }
    r.top = json_read(a, r.path, NULL, e);
    bool ok = r.top && is_ours(&r) && place(&r, out) && read_facts(&r, out) &&
              tensors_fit(&r, f->path);
    if (ok) f->tensors = safetensors_open(f->path, e);
    json_decref(r.top);
    if (f->tensors && read_losses(f, out, e)) return f;
    state_close(f);
    return NULL;
}

bool state_restore(const StateFile *f, Store *store, Err *e) {
    for (int i = 0; i < f->tensors->n; i++) {
        const TensorEntry *t = &f->tensors->entry[i];
        if (strcmp(t->name, losses) &&
            !store_restore(store, t->name, &t->type, t->data, e))
            return false;
    }
    return true;
}

bool state_used(const StateFile *f, const Exec *x, Err *e) {
    for (int i = 0; i < f->tensors->n; i++) {
        const char *name = f->tensors->entry[i].name;
        if (strcmp(name, losses) && !exec_type(x, name))
            return err_fail(e, "'%s' has a tensor '%s' that this run does not have",
                            f->path, name);
    }
    return true;
}

void state_close(StateFile *f) {
    if (f && f->tensors) tensors_close(f->tensors);
}
