/* Choices in prompts: which prompts one with braces stands for. */
#include "io/prompt_variants.h"

#include <string.h>

#include "tests/check.h"

/* All prompts of a text, between bars. */
static const char *ways(Arena *a, const char *text, int64_t repeat, uint64_t seed) {
    const char **list;
    int n;
    Err e = {0};
    if (!prompt_variants(a, text, repeat, seed, &list, &n, &e))
        return arena_strdup(a, e.text);
    const char *all = "";
    for (int i = 0; i < n; i++)
        all = arena_printf(a, "%s%s%s", all, i ? "|" : "", list[i]);
    return all;
}

static const struct {
    const char *text, *want;
} listed[] = {
    {"a cat", "a cat"}, /* once: whoever draws it repeats it */
    {"a {cat}", "a cat|a cat"},
    {"{e$$a|b|c} x", "a x|b x|c x"},
    {"{e$$a|b}{E$$1|2}", "a1|a2|b1|b2"},
    {"{e$$2$$a|b|c}", "a, b|a, c|b, c"},
    {"{e$$1-2$$ and $$a|b}", "a|b|a and b"},
    {"{e$$2-1$$a|b}", "a|b|a, b"},
    {"{e$$0-9$$+$$a|b}!", "!|a!|b!|a+b!"},
    {"{e$$1-2-3$$a|b}", "a|b"},
    {"{e$$a||b}", "a||b"}, /* the middle one is empty */
    {"no { end", "no { end"},
    {"{}", "{}"},
    {"{e$$}", "e$$|e$$"}, /* nothing would be left */
    {"{2$$ $$a|a} --d 1", "a a --d 1|a a --d 1"},
};

static void test_listed(void) {
    for (size_t i = 0; i < COUNT(listed); i++) {
        Arena *a = arena_new();
        const char *got = ways(a, listed[i].text, 2, 1);
        CHECK(!strcmp(got, listed[i].want), "'%s': '%s', want '%s'", listed[i].text,
              got, listed[i].want);
        arena_free(a);
    }
}

/* Of 600 draws each of three comes between 140 and 260 times (deviation 11.5), pairs are
 * two different ones, and the seed decides. */
static void test_drawn(void) {
    Arena *a = arena_new();
    const char **list;
    int n, seen[3] = {0};
    Err e = {0};
    CHECK(prompt_variants(a, "{a|b|c}", 600, 7, &list, &n, &e) && n == 600, "%d", n);
    for (int i = 0; i < n; i++) seen[list[i][0] - 'a']++;
    for (int i = 0; i < 3; i++)
        CHECK(seen[i] > 140 && seen[i] < 260, "%c: %d times", 'a' + i, seen[i]);
    CHECK(prompt_variants(a, "{2$$a|b|c}", 100, 7, &list, &n, &e), "pairs");
    for (int i = 0; i < n; i++)
        CHECK(strlen(list[i]) == 4 && list[i][0] != list[i][3], "'%s'", list[i]);
    const char *one = ways(a, "{a|b|c|d}{e|f|g|h}", 8, 1);
    CHECK(!strcmp(one, ways(a, "{a|b|c|d}{e|f|g|h}", 8, 1)), "same seed, other draws");
    CHECK(strcmp(one, ways(a, "{a|b|c|d}{e|f|g|h}", 8, 2)), "two seeds draw the same");
    arena_free(a);
}

static void test_too_many(void) {
    Arena *a = arena_new();
    const char *all = "{e$$0-20$$a|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t}",
               *ten = "{e$$0|1|2|3|4|5|6|7|8|9}";
    CHECK(strstr(ways(a, all, 1, 1), "more than 4096 prompts"), "2^20 ways");
    CHECK(strstr(ways(a, arena_printf(a, "%s%s%s%s", ten, ten, ten, ten), 1, 1),
                 "more than 4096 prompts"),
          "10^4 ways");
    arena_free(a);
}

int main(void) {
    test_listed();
    test_drawn();
    test_too_many();
    return check_done("prompt_variants_test");
}
