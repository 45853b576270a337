/* Names of saved files, and which old one goes when a new one is there: as the original
 * program's functions said (tests/golden/save_names.json). */
#include <string.h>

#include "check.h"
#include "cli/train/train.h"
#include "io/json.h"

static Arena *arena;

static const char *named(const json_t *row, SaveKind kind, int64_t number) {
    TrainOptions o = {.output_name =
                          json_string_value(json_object_get(row, "output_name"))};
    return arena_printf(arena, "%s.safetensors", train_stem(arena, &o, kind, number));
}

static void names(const json_t *rows) {
    static const struct {
        const char *key;
        SaveKind kind;
        int64_t number;
    } as[] = {{"epoch3", SAVE_EPOCH, 3},
              {"step1200", SAVE_STEP, 1200},
              {"last", SAVE_LAST, 0}};
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        for (size_t k = 0; k < COUNT(as); k++) {
            const char *want = json_string_value(json_object_get(row, as[k].key));
            const char *got = named(row, as[k].kind, as[k].number);
            CHECK(want && !strcmp(got, want), "%s: got %s, want %s", as[k].key, got,
                  want);
        }
    }
}

static int64_t number(const json_t *row, const char *key) {
    const json_t *v = json_object_get(row, key);
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static void removal(const json_t *row) {
    int64_t epochs = number(row, "save_every_n_epochs");
    int64_t steps = number(row, "save_every_n_steps");
    int64_t keep = number(row, epochs > 0 ? "save_last_n_epochs" : "save_last_n_steps");
    size_t i;
    const json_t *pair;
    json_array_foreach(json_object_get(row, "remove"), i, pair) {
        int64_t at = json_integer_value(json_array_get(pair, 0));
        const json_t *old = json_array_get(pair, 1);
        int64_t want = json_is_integer(old) ? json_integer_value(old) : -1;
        int64_t got = epochs > 0 ? train_epoch_to_remove(at, epochs, keep)
                                 : train_step_to_remove(at, steps, keep);
        CHECK(got == want, "every %lld, keep %lld, at %lld: got %lld, want %lld",
              (long long)(epochs > 0 ? epochs : steps), (long long)keep, (long long)at,
              (long long)got, (long long)want);
    }
}

int main(void) {
    arena = arena_new();
    Err e = {0};
    json_t *top = json_read(arena, "tests/golden/save_names.json", NULL, &e);
    CHECK(top, "%s", e.text);
    if (top) {
        size_t i, n = json_array_size(json_object_get(top, "removal"));
        CHECK(n == 7, "%zu rows", n);
        names(json_object_get(top, "names"));
        for (i = 0; i < n; i++)
            removal(json_array_get(json_object_get(top, "removal"), i));
    }
    json_decref(top);
    arena_free(arena);
    return check_done("save_names");
}
