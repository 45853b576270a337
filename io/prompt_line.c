/* Options of a prompt line (see prompt_line.h). A piece that fits no option is told and has
 * no effect: a prompt may hold " --" for other reasons. */
#include "io/prompt_line.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct Piece {
    Arena *arena;
    const char *value;
    PromptLine *out;
    bool while_training;
} Piece;

static bool digits(const char *s, int64_t *x) {
    const size_t n = strspn(s, "0123456789");
    if (!n || n > 18) return false;
    *x = strtoll(s, NULL, 10);
    return true;
}

static bool take_w(Piece *p) {
    return digits(p->value, &p->out->w);
}
static bool take_h(Piece *p) {
    return digits(p->value, &p->out->h);
}
static bool take_s(Piece *p) {
    enum { MOST = 1000 };
    int64_t x;
    if (!digits(p->value, &x)) return false;
    p->out->steps = x < 1 ? 1 : x > MOST ? MOST : x;
    return true;
}

static bool number(const char *s, double *x) {
    char *end;
    const size_t n = strspn(s, ".0123456789");
    const double got = strtod(s, &end);
    if (!n || (size_t)(end - s) != n) return false; /* "3.5.1" */
    *x = got;
    return true;
}

static bool take_l(Piece *p) {
    return number(p->value, &p->out->scale);
}
static bool take_nl(Piece *p) {
    double x = -1;
    if (p->while_training || (strcasecmp(p->value, "none") && !number(p->value, &x)))
        return false;
    p->out->negative_scale = x;
    return true;
}
static bool take_t(Piece *p) {
    double x;
    if (p->while_training || !number(p->value, &x) || x > 1) return false;
    p->out->strength = x;
    return true;
}

static bool take_d(Piece *p) {
    int64_t x;
    int n = 0;
    for (const char *s = p->value; digits(s, &x) && n < PROMPT_SEEDS;) {
        p->out->seed[n++] = x;
        s += strspn(s, "0123456789");
        if (p->while_training || *s != ',') break;
        s++;
    }
    if (n) p->out->n_seed = n;
    return n > 0;
}

static bool take_am(Piece *p) {
    int n = 0;
    for (const char *s = p->value; n < PROMPT_MULTIPLIERS;) {
        char *end;
        const double x = strtod(s, &end);
        if (end == s || !isfinite(x)) break;
        p->out->multiplier[n++] = x;
        if (*end != ',') break;
        s = end + 1;
    }
    if (n) p->out->n_multiplier = n;
    return n > 0;
}

static bool take_n(Piece *p) {
    p->out->negative = p->value;
    return true;
}
static bool take_c(Piece *p) {
    p->out->clip = p->while_training ? NULL : p->value;
    return !p->while_training;
}
static bool take_ss(Piece *p) {
    p->out->sampler = p->value;
    return true;
}

static const struct {
    const char *name;
    bool (*take)(Piece *p);
} options[] = {{"w", take_w}, {"h", take_h},   {"s", take_s},   {"l", take_l},
               {"d", take_d}, {"am", take_am}, {"ss", take_ss}, {"n", take_n},
               {"t", take_t}, {"nl", take_nl}, {"c", take_c}};

static bool take(Piece *p, const char *text) {
    for (size_t i = 0; i < COUNT(options); i++) {
        const size_t n = strlen(options[i].name);
        if (strncasecmp(text, options[i].name, n) || text[n] != ' ' || !text[n + 1])
            continue;
        p->value = text + n + 1;
        return options[i].take(p);
    }
    return false;
}

static const char *trimmed(Arena *a, const char *s, size_t n) {
    while (n && isspace((unsigned char)*s)) s++, n--;
    while (n && isspace((unsigned char)s[n - 1])) n--;
    return arena_strndup(a, s, n);
}

PromptLine prompt_unset(void) {
    return (PromptLine){.w = PROMPT_UNSET,
                        .h = PROMPT_UNSET,
                        .steps = PROMPT_UNSET,
                        .scale = NAN,
                        .strength = NAN,
                        .negative_scale = NAN};
}

void prompt_line(Arena *a, const char *line, bool while_training, PromptLine *out) {
    *out = prompt_unset();
    out->line = line;
    Piece p = {.arena = a, .out = out, .while_training = while_training};
    int cap = 0;
    line = trimmed(a, line, strlen(line));
    for (bool first = true; line; first = false) {
        const char *next = strstr(line, " --");
        const char *text =
            arena_strndup(a, line, next ? (size_t)(next - line) : strlen(line));
        if (first) out->prompt = text;
        if ((!first || while_training) && !take(&p, text) && !first)
            PUSH(a, out->ignored, out->n_ignored, cap, text);
        line = next ? next + 3 : NULL;
    }
}

const char **prompt_lines(Arena *a, const char *text, size_t n) {
    const char **list = NULL;
    int count = 0, cap = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t len = end ? (size_t)(end - text) - at : n - at;
        const char *line = trimmed(a, text + at, len);
        if (*line && *line != '#') PUSH(a, list, count, cap, line);
        at += len + 1;
    }
    PUSH(a, list, count, cap, NULL);
    return list;
}
