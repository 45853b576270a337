/* Options of prompt lines against sd-scripts', as recorded. */
#include "io/prompt_line.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

#include "io/tensors.h"
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

/* What a file with this text gives; -1: it is refused, with `says` in the message. */
static int prompts_of(Arena *a, const char *name, const char *text, const char *says,
                      PromptLine **out) {
    const char *path =
        arena_printf(a, "/tmp/graphrun-prompts-%ld%s", (long)getpid(), name);
    Err e = {0};
    int n;
    CHECK(file_write(path, text, strlen(text), &e), "%s", e.text);
    bool ok = prompt_file(a, path, true, out, &n, &e);
    unlink(path);
    CHECK(ok ? !says : says && strstr(e.text, says), "'%s': got '%s'", text, e.text);
    return ok ? n : -1;
}

static void test_files(void) {
    Arena *a = arena_new();
    PromptLine *p;
    int n = prompts_of(a, ".toml",
                       "[prompt]\nwidth = 128\nscale = 5\n"
                       "[[prompt.subset]]\nprompt = \"a\"\n"
                       "[[prompt.subset]]\nprompt = \"b --w 8\"\nwidth = 64\nseed = 7\n"
                       "negative_prompt = \"c\"\nsample_sampler = \"euler\"\n",
                       NULL, &p);
    CHECK(n == 2 && p[0].w == 128 && p[0].scale == 5 && !p[0].n_seed &&
              p[0].h == PROMPT_UNSET && isnan(p[0].strength),
          "what all have in common");
    CHECK(n == 2 && !strcmp(p[1].prompt, "b --w 8") && p[1].w == 64 &&
              p[1].seed[0] == 7 && !strcmp(p[1].negative, "c") &&
              !strcmp(p[1].sampler, "euler"),
          "what one says itself");
    n = prompts_of(a, ".json",
                   "[\"a --w 64\", {\"prompt\": \"b\", \"scale\": 2, \"seed\": null}]",
                   NULL, &p);
    CHECK(n == 2 && p[0].w == 64 && p[1].scale == 2 && !p[1].n_seed, "a list");
    prompts_of(a, ".txt", "# nothing\n", "has no prompts", &p);
    prompts_of(a, ".json", "{}", "want a list of prompts", &p);
    prompts_of(a, ".json", "[3]", "want a prompt", &p);
    prompts_of(a, ".json", "[{\"steps\": 3}]", "no key 'steps' in a prompt", &p);
    prompts_of(a, ".json", "[{\"sample_steps\": 1001}]", "want 1 … 1000", &p);
    prompts_of(a, ".json", "[{\"width\": 0}]", "'width' is 0", &p);
    prompts_of(a, ".toml", "[prompt]\n[[prompt.subset]]\nscale = \"5\"\n",
               "'scale' is a text, want a number", &p);
    prompts_of(a, ".toml", "[prompts]\n", "no table 'prompts'", &p);
    prompts_of(a, ".toml", "[prompt]\nsubset = [1]\n", "'subset' holds", &p);
    arena_free(a);
}

int main(void) {
    test_files();
    test_lines();
    return check_done("prompt_line_test");
}
