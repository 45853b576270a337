/* Options of prompt lines against sd-scripts', as recorded. */
#include "io/prompt_line.h"

#include <math.h>
#include <string.h>

#include "tests/check.h"
#include "tests/tsv.h"

/* Field i of a line as text; NULL: not given. */
static const char *given(Tsv *t, int i) {
    if (!strcmp(t->field[i], "?")) return NULL;
    tsv_bytes(t, i);
    return t->field[i];
}

static bool same_text(const char *a, const char *b) {
    return a && b ? !strcmp(a, b) : a == b;
}

static bool same_number(int64_t x, const char *text) {
    return !strcmp(text, "?") ? x == PROMPT_UNSET : x == atoll(text);
}

static void test_lines(void) {
    Tsv t = tsv_open("tests/golden/prompt_lines.tsv");
    int lines = 0;
    while (tsv_next(&t)) {
        Arena *a = arena_new();
        PromptLine p;
        tsv_bytes(&t, 0);
        prompt_line(a, t.field[0], true, &p);
        CHECK(same_text(p.prompt, given(&t, 1)), "'%s': '%s'", t.field[0], p.prompt);
        CHECK(same_text(p.negative, given(&t, 2)), "'%s': --n", t.field[0]);
        CHECK(same_text(p.sampler, given(&t, 3)), "'%s': --ss", t.field[0]);
        CHECK(same_number(p.w, t.field[4]), "'%s': --w", t.field[0]);
        CHECK(same_number(p.h, t.field[5]), "'%s': --h", t.field[0]);
        CHECK(same_number(p.n_seed ? p.seed[0] : PROMPT_UNSET, t.field[6]), "'%s': --d",
              t.field[0]);
        CHECK(strcmp(t.field[7], "?") ? p.scale == atof(t.field[7]) : isnan(p.scale),
              "'%s': --l", t.field[0]);
        CHECK(same_number(p.steps, t.field[8]), "'%s': --s", t.field[0]);
        lines++;
        arena_free(a);
    }
    CHECK(lines == 13, "%d lines", lines);
    Arena *a = arena_new();
    PromptLine p;
    prompt_line(a, "w 5 --d 1,2,3 --am 0.8,-0.5 --nl 3 --c a dog --nl x", false, &p);
    CHECK(p.n_seed == 3 && p.seed[2] == 3 && p.w == PROMPT_UNSET, "seeds of generate");
    CHECK(p.n_multiplier == 2 && p.multiplier[1] == -0.5, "multipliers");
    CHECK(p.negative_scale == 3 && !strcmp(p.clip, "a dog"), "--nl and --c");
    CHECK(p.n_ignored == 1 && !strcmp(p.ignored[0], "nl x"), "what is ignored");
    prompt_line(a, "w --NL none", false, &p);
    CHECK(p.negative_scale == -1, "--nl none: %g", p.negative_scale);
    const char **list = prompt_lines(a, "a\n\n # no\n b \r\nc", 15);
    CHECK(!strcmp(list[0], "a") && !strcmp(list[1], "b") && !strcmp(list[2], "c") &&
              !list[3],
          "lines of a file");
    arena_free(a);
}

int main(void) {
    test_lines();
    return check_done("prompt_line_test");
}
