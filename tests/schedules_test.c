/* Learning rates by update and by block against sd-scripts' numbers. */
#include <math.h>

#include "cli/train/train_options.h"
#include "runtime/lr.h"
#include "tests/check.h"
#include "tests/tsv.h"

static Arena *arena;

static double given(const Tsv *t, int i, double otherwise) {
    return strcmp(t->field[i], "-") ? atof(t->field[i]) : otherwise;
}

static void test_rates(void) {
    Tsv t = tsv_open("tests/golden/lr.tsv");
    int cases = 0;
    while (tsv_next(&t)) {
        Err e = {0};
        LrSchedule s = {.name = t.field[0],
                        .base = given(&t, 1, 0),
                        .steps = tsv_int(&t, 2),
                        .warmup = given(&t, 3, 0),
                        .decay = given(&t, 4, 0),
                        .cycles = given(&t, 5, 1),
                        .power = given(&t, 6, 1),
                        .timescale = given(&t, 7, 0),
                        .min_ratio = given(&t, 8, 0),
                        .rules = t.field[9]};
        CHECK(lr_schedule(arena, &s, &e), "%s", e.text);
        char *at = t.field[10];
        int64_t n = 0;
        for (; s.formula && *at; n++) {
            double want = strtod(at, &at), got = s.base * lr_factor(&s, n);
            CHECK(fabs(got - want) <= 1e-7 * fabs(want) + 1e-18,
                  "%s warm-up %g, update %lld: %.10g, want %.10g", s.name, s.warmup,
                  (long long)n, got, want);
        }
        CHECK(n == 45, "%lld rates", (long long)n);
        cases++;
    }
    CHECK(cases == 26, "%d settings", cases);
}

static void refuses(LrSchedule s, const char *want) {
    Err e = {0};
    s.steps = 40;
    CHECK(!lr_schedule(arena, &s, &e) && strstr(e.text, want), "got '%s', want '%s'",
          e.text, want);
}

static void test_misuse(void) {
    refuses((LrSchedule){.name = "cosin"}, "did you mean 'cosine'?");
    refuses((LrSchedule){.name = "constant", .warmup = 3}, "constant has no warm-up");
    refuses((LrSchedule){.name = "cosine", .warmup = -1}, "got -1, want 0");
    refuses((LrSchedule){.name = "polynomial", .base = 1e-8}, "is not above it");
    refuses((LrSchedule){.name = "piecewise_constant"}, "step_rules is ''");
    refuses((LrSchedule){.name = "piecewise_constant", .rules = "1:10,2:5,1"},
            "step_rules is '1:10,2:5,1'");
}

static void test_blocks(void) {
    Tsv t = tsv_open("tests/golden/block_lr.tsv");
    int cases = 0;
    while (tsv_next(&t)) {
        Err e = {0};
        WordList words = {0};
        for (char *w = strtok(t.field[0], " "); w; w = strtok(NULL, " "))
            word_add(arena, &words, w);
        Args *out = args_new(arena);
        CHECK(train_network_args(arena, &words, out, NULL, &e), "%s", e.text);
        const Val *v = args_get(out, "block_lr_weight");
        char *at = t.field[1];
        for (int i = 0; v && i < v->list.n; i++) {
            double want = strtod(at, &at), got = v->list.item[i].f;
            CHECK(fabs(got - want) <= 1e-9, "case %d, block %d: %.12g, want %.12g",
                  cases, i, got, want);
        }
        CHECK(v && v->list.n == 25, "case %d: 25 weights", cases);
        cases++;
    }
    CHECK(cases == 56, "%d cases", cases);
}

int main(void) {
    arena = arena_new();
    test_rates();
    test_misuse();
    test_blocks();
    arena_free(arena);
    return check_done("schedules");
}
