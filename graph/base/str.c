/* Growing text, shortest-exact numbers, JSON strings, nearest names. */
#include "graph/base/base.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reserve(Str *s, size_t more) {
    if (s->n + more + 1 <= s->cap) return;
    size_t cap = s->cap ? s->cap : 256;
    while (cap < s->n + more + 1) cap *= 2;
    char *p = realloc(s->s, cap);
    if (!p) {
        fprintf(stderr, "graphrun: error: out of memory: %zu bytes wanted\n", cap);
        exit(EXIT_FAILED);
    }
    s->s = p;
    s->cap = cap;
}

void str_addn(Str *s, const char *text, size_t n) {
    reserve(s, n);
    memcpy(s->s + s->n, text, n);
    s->n += n;
    s->s[s->n] = 0;
}

void str_add(Str *s, const char *text) {
    str_addn(s, text, strlen(text));
}

void str_printf(Str *s, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    reserve(s, (size_t)n);
    vsnprintf(s->s + s->n, (size_t)n + 1, fmt, again);
    va_end(again);
    s->n += (size_t)n;
}

void str_free(Str *s) {
    free(s->s);
    *s = (Str){0};
}

/* Whole numbers below `most` digit by digit ("10", not "1e+01"); true: x was one. */
static bool whole(Str *s, double x, double most) {
    if (!(fabs(x) < most) || x != trunc(x)) return false;
    str_printf(s, "%.0f", x);
    return true;
}

void str_double(Str *s, double x) {
    char text[40];
    if (whole(s, x, 1e15)) return;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x || isnan(x)) break;
    }
    str_add(s, text);
}

void str_json_number(Str *s, double x) {
    if (isfinite(x))
        str_double(s, x);
    else
        str_add(s, "null");
}

void str_float(Str *s, float x) {
    char text[40];
    if (whole(s, x, 0x1p24)) return;
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        if (strtof(text, NULL) == x || isnan(x)) break;
    }
    str_add(s, text);
}

void str_json(Str *s, const char *text) {
    str_add(s, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            str_printf(s, "\\%c", *p);
        else if (*p == '\n')
            str_add(s, "\\n");
        else if (*p == '\t')
            str_add(s, "\\t");
        else if (*p == '\r')
            str_add(s, "\\r");
        else if (*p < 0x20)
            str_printf(s, "\\u%04x", *p);
        else
            str_addn(s, (const char *)p, 1);
    }
    str_add(s, "\"");
}

/* Edit distance with a transposition counted as one; words longer than 63 are cut. */
static int distance(const char *a, const char *b) {
    enum { MOST = 64 };
    int n = (int)strnlen(a, MOST - 1), m = (int)strnlen(b, MOST - 1);
    int d[MOST][MOST];
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            bool swapped =
                i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    return d[n][m];
}

const char *nearest(const char *word, const char *const *names) {
    int limit = (int)strlen(word) / 3, best = limit > 1 ? limit + 1 : 2;
    const char *found = NULL;
    for (; names && *names; names++) {
        int d = distance(word, *names);
        if (d < best) {
            best = d;
            found = *names;
        }
    }
    return found;
}

const char *did_you_mean(Arena *a, const char *word, const char *const *names) {
    const char *name = nearest(word, names);
    return name ? arena_printf(a, "; did you mean '%s'?", name) : "";
}

const char *nearest_or_all(Arena *a, const char *word, const char *const *names) {
    const char *near = did_you_mean(a, word, names);
    if (*near || !names || !*names) return near;
    Str all = {0};
    for (int i = 0; names[i]; i++) str_printf(&all, "%s%s", i ? ", " : "", names[i]);
    const char *out = arena_printf(a, "; there are %s", all.s);
    str_free(&all);
    return out;
}

/* ---- words ---- */

bool starts_with(const char *s, const char *start) {
    return !strncmp(s, start, strlen(start));
}

bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}
