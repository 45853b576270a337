/* What is told of a run's progress, with a clock that the test turns. */
#include <math.h>
#include <string.h>

#include "runtime/progress.h"
#include "tests/check.h"

static double clock_seconds;
static Str told;
static double seconds(void *ctx) {
    return (void)ctx, clock_seconds;
}
static void put(void *ctx, const char *text) {
    (void)ctx, str_add(&told, text);
}

static Progress *start(Arena *a, ProgressMode mode, int columns, int64_t total) {
    ProgressOut out = {mode, columns, seconds, put, NULL};
    str_free(&told);
    clock_seconds = 100;
    return progress_new(a, &out, "steps", total);
}

static void told_is(const char *want) {
    CHECK(!strcmp(told.s ? told.s : "", want), "got '%s', want '%s'", told.s, want);
    str_free(&told);
}

static void lines(Arena *a) {
    Progress *p = start(a, PROGRESS_LINES, 0, 400);
    for (int i = 1; i <= 3; i++) {
        clock_seconds += 0.25;
        progress_at(p, i, NULL);
    }
    told_is("");
    clock_seconds += 0.25;
    ProgressNumbers n = {0.125, 0.25, (uint64_t)3 << 29};
    progress_at(p, 4, &n);
    told_is("steps 4/400  4/s  left 01:39  loss 0.125  average 0.25  1.50 GiB\n");
    for (int i = 5; i < 44; i++) {
        clock_seconds += 0.25;
        progress_at(p, i, &n);
    }
    told_is("");
    clock_seconds += 0.25;
    progress_at(p, 44, NULL);
    told_is("steps 44/400  4/s  left 01:29\n");
    progress_say(p, "saving checkpoint: x");
    told_is("saving checkpoint: x\n");
    clock_seconds = 100 + 3675;
    n = (ProgressNumbers){NAN, NAN, 0};
    progress_at(p, 400, &n);
    CHECK(told.s && strstr(told.s, "steps 400/400") &&
              strstr(told.s, "  took 1:01:15\n"),
          "got '%s'", told.s);
    str_free(&told);
    progress_end(p);
    told_is("");
}

static void minutes_after_two_minutes(Arena *a) {
    Progress *p = start(a, PROGRESS_LINES, 0, 1000);
    int n = 0;
    for (int i = 1; i <= 600; i++) {
        clock_seconds += 1;
        progress_at(p, i, NULL);
        n += told.s != NULL;
        str_free(&told);
    }
    /* after 1, 11 … 111 seconds, then at 171, 231 … 591 */
    CHECK(n == 12 + 8, "%d lines in ten minutes", n);
}

static void bar(Arena *a) {
    Progress *p = start(a, PROGRESS_BAR, 120, 10);
    clock_seconds += 2;
    progress_at(p, 1, NULL);
    told_is("\r\x1b[Ksteps 1/10 [##..................]  2 s each  left 00:18");
    clock_seconds += 0.05;
    progress_at(p, 2, NULL);
    told_is("");
    progress_say(p, "epoch 2/3");
    told_is("\r\x1b[Kepoch 2/3\n");
    clock_seconds += 0.95;
    progress_at(p, 10, NULL);
    told_is("\r\x1b[Ksteps 10/10 [####################]  3.33/s  took 00:03");
    progress_end(p);
    told_is("\n");
    progress_end(p);
    told_is("");
}

static void narrow(Arena *a) {
    Progress *p = start(a, PROGRESS_BAR, 20, 10);
    clock_seconds += 2;
    progress_at(p, 1, NULL);
    told_is("\r\x1b[Ksteps 1/10  2 s eac"); /* 19 columns: the last one stays free */
}

static void quiet(Arena *a) {
    Progress *p = start(a, PROGRESS_QUIET, 0, 2);
    clock_seconds += 100;
    progress_at(p, 1, NULL);
    progress_say(p, "saving");
    progress_at(p, 2, NULL);
    progress_end(p);
    told_is("");
}

/* A slow first step does not spoil the estimate for long. */
static void window(Arena *a) {
    Progress *p = start(a, PROGRESS_LINES, 0, 1000);
    clock_seconds += 60;
    progress_at(p, 1, NULL);
    str_free(&told);
    for (int i = 2; i <= 80; i++) {
        clock_seconds += 0.5;
        progress_at(p, i, NULL);
    }
    CHECK(told.s && strstr(told.s, "  2/s"), "got '%s'", told.s);
}

/* What a resumed run had behind it says nothing of its speed. */
static void resumed(Arena *a) {
    Progress *p = start(a, PROGRESS_BAR, 120, 10);
    progress_from(p, 8);
    clock_seconds += 2;
    progress_at(p, 9, NULL);
    CHECK(told.s && strstr(told.s, "steps 9/10 ") &&
              strstr(told.s, "  2 s each  left 00:02"),
          "got '%s'", told.s);
    str_free(&told);
}

static void averages(Arena *a) {
    LossAverage l = {0};
    CHECK(loss_average_add(a, &l, 1, 0, 1) == 1, "one");
    CHECK(loss_average_add(a, &l, 1, 1, 3) == 2, "two");
    CHECK(loss_average_add(a, &l, 2, 0, 5) == 4,
          "the second epoch replaces the first entry");
    CHECK(loss_average_add(a, &l, 2, 1, 3) == 4 && l.n == 2, "and the second");
    CHECK(loss_average_add(a, &l, 2, 2, 1) == 3 && l.n == 3, "a longer epoch adds one");
    LossAverage again = {0};
    loss_average_restore(a, &again, l.loss, l.n);
    CHECK(loss_average_add(a, &again, 3, 0, 8) == 4 && again.n == 3, "as it was");
}

int main(void) {
    Arena *a = arena_new();
    lines(a);
    minutes_after_two_minutes(a);
    bar(a);
    narrow(a);
    quiet(a);
    window(a);
    resumed(a);
    averages(a);
    str_free(&told);
    arena_free(a);
    return check_done("progress");
}
