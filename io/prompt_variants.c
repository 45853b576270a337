/* Choices in prompts (see prompt_variants.h). A group is what sd-scripts' pattern
 * \{((e|E)\$\$)?(([\d\-]+)\$\$)?(([^\|\}]+?)\$\$)?(.+?((\|).+?)*?)\} takes: it ends at the
 * first brace behind at least one letter, and a part in front that leaves nothing is none. */
#include "io/prompt_variants.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"

typedef struct Group {
    const char *begin, *end; /* with its braces */
    bool all;
    int least, most; /* how many of the variants */
    const char *separator, **variant;
    int n;
} Group;

/* ---- reading ---- */

/* Behind "$$" if the n letters of s are followed by it and by something more. */
static const char *behind(const char *s, size_t n, const char *end) {
    const char *next = s + n + 2;
    return next < end && s[n] == '$' && s[n + 1] == '$' ? next : NULL;
}

static const char *take_all(Group *g, const char *s, const char *end) {
    const char *next = *s == 'e' || *s == 'E' ? behind(s, 1, end) : NULL;
    g->all = next != NULL;
    return next ? next : s;
}

/* "2" or "1-2", in either order; what is neither counts as 1. */
static const char *take_count(Group *g, const char *s, const char *end) {
    const size_t n = strspn(s, "0123456789-");
    const char *next = n ? behind(s, n, end) : NULL;
    if (!next) return s;
    char *rest;
    const long a = strtol(s, &rest, 10);
    long b = a;
    bool good = rest != s && *s != '-';
    if (good && *rest == '-') {
        const char *second = rest + 1;
        b = strtol(second, &rest, 10);
        good = rest != second && *second != '-';
    }
    if (!good || rest != s + n || a > INT32_MAX || b > INT32_MAX) return next;
    g->least = (int)(a < b ? a : b);
    g->most = (int)(a < b ? b : a);
    return next;
}

static const char *take_separator(Arena *a, Group *g, const char *s, const char *end) {
    for (const char *p = s + 1; p < end && p[-1] != '|'; p++) {
        const char *next = behind(s, (size_t)(p - s), end);
        if (!next) continue;
        g->separator = arena_strndup(a, s, (size_t)(p - s));
        return next;
    }
    return s;
}

/* The first group at or behind s, or false. */
static bool next_group(Arena *a, const char *s, Group *g) {
    const char *open = strchr(s, '{'), *end = open;
    if (open && open[1]) end = strchr(open + 2, '}');
    if (!open || !open[1] || !end) return false;
    *g = (Group){open, end + 1, .least = 1, .most = 1, .separator = ", "};
    s = take_all(g, open + 1, end);
    s = take_count(g, s, end);
    s = take_separator(a, g, s, end);
    for (int cap = 0;; s++) {
        const char *bar = memchr(s, '|', (size_t)(end - s));
        const char *to = bar ? bar : end;
        PUSH(a, g->variant, g->n, cap, arena_strndup(a, s, (size_t)(to - s)));
        s = to;
        if (!bar) break;
    }
    if (g->most > g->n) g->most = g->n;
    if (g->least > g->most) g->least = g->most;
    return true;
}

/* ---- choosing ---- */

static const char *joined(Arena *a, const Group *g, const int *pick, int n) {
    Str s = {0};
    for (int i = 0; i < n; i++) {
        if (i) str_add(&s, g->separator);
        str_add(&s, g->variant[pick[i]]);
    }
    const char *out = arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return out;
}

typedef struct Dice {
    uint64_t seed;
    uint32_t prompt, count;
} Dice;

static int below(Dice *d, int n) {
    uint32_t c[4] = {d->count++, rng_stream("generate", "variants"), d->prompt, 0};
    philox(c, (uint32_t)d->seed, (uint32_t)(d->seed >> 32));
    return (int)((uint64_t)c[0] * (uint64_t)n >> 32);
}

/* So many of them in any order, each at most once. */
static const char *drawn(Arena *a, const Group *g, Dice *d) {
    int *pick = NEW(a, int, g->n);
    for (int i = 0; i < g->n; i++) pick[i] = i;
    const int n = g->least + below(d, g->most - g->least + 1);
    for (int i = 0; i < n; i++) {
        const int k = i + below(d, g->n - i), t = pick[i];
        pick[i] = pick[k];
        pick[k] = t;
    }
    return joined(a, g, pick, n);
}

typedef struct Texts {
    const char **text;
    int n, cap;
} Texts;

static bool too_many(const Group *g, Err *e) {
    return err_usage(e, "'%.*s' stands for more than %d prompts",
                     (int)(g->end - g->begin), g->begin, PROMPT_VARIANTS_MAX);
}

/* All ways to take least ... most of them, in order. */
static bool every(Arena *a, const Group *g, Texts *out, Err *e) {
    int *pick = NEW(a, int, g->n + 1);
    for (int n = g->least; n <= g->most; n++) {
        for (int i = 0; i < n; i++) pick[i] = i;
        for (;;) {
            if (out->n == PROMPT_VARIANTS_MAX) return too_many(g, e);
            PUSH(a, out->text, out->n, out->cap, joined(a, g, pick, n));
            int i = n - 1;
            while (i >= 0 && pick[i] == g->n - n + i) i--;
            if (i < 0) break;
            for (pick[i]++; i + 1 < n; i++) pick[i + 1] = pick[i] + 1;
        }
    }
    return true;
}

/* ---- whole prompts ---- */

/* Every text so far followed by what stands between `from` and the group, and by each of
 * its ways. */
static bool follow(Arena *a, Texts *all, const char *from, const Group *g, Err *e) {
    Texts way = {0}, next = {0};
    const char *between = arena_strndup(a, from, (size_t)(g->begin - from));
    if (!every(a, g, &way, e)) return false;
    if ((int64_t)way.n * all->n > PROMPT_VARIANTS_MAX) return too_many(g, e);
    for (int i = 0; i < all->n; i++)
        for (int k = 0; k < way.n; k++)
            PUSH(a, next.text, next.n, next.cap,
                 arena_printf(a, "%s%s%s", all->text[i], between, way.text[k]));
    *all = next;
    return true;
}

/* Groups of which all are wanted, one after the other; the others stay as they are. */
static bool enumerate(Arena *a, const char *text, Texts *out, Err *e) {
    Group g;
    const char *from = text;
    *out = (Texts){0};
    PUSH(a, out->text, out->n, out->cap, "");
    for (const char *s = text; next_group(a, s, &g); s = g.end) {
        if (!g.all) continue;
        if (!follow(a, out, from, &g, e)) return false;
        from = g.end;
    }
    for (int i = 0; i < out->n; i++)
        out->text[i] = arena_printf(a, "%s%s", out->text[i], from);
    return true;
}

static const char *draw_groups(Arena *a, const char *text, Dice d) {
    Str s = {0};
    Group g;
    for (; next_group(a, text, &g); text = g.end) {
        str_addn(&s, text, (size_t)(g.begin - text));
        str_add(&s, drawn(a, &g, &d));
    }
    str_add(&s, text);
    const char *out = arena_strdup(a, s.s ? s.s : "");
    str_free(&s);
    return out;
}

bool prompt_variants(Arena *a, const char *text, int64_t repeat, uint64_t seed,
                     const char ***out, int *n, Err *e) {
    Texts all = {0};
    Group g;
    bool some = false, each = false;
    for (const char *s = text; next_group(a, s, &g); s = g.end)
        some = true, each = each || g.all;
    if (each) {
        if (!enumerate(a, text, &all, e)) return false;
    } else {
        for (int64_t i = 0; i < (some ? repeat : 1); i++)
            PUSH(a, all.text, all.n, all.cap, text);
    }
    for (int i = 0; some && i < all.n; i++)
        all.text[i] = draw_groups(a, all.text[i], (Dice){seed, (uint32_t)i, 0});
    *out = all.text;
    *n = all.n;
    return true;
}
