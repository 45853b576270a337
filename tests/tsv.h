/* Golden tables: lines of fields between tabs, '#' lines are comments, texts in hex. */
#ifndef GRAPHRUN_TSV_H
#define GRAPHRUN_TSV_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TSV_FIELDS = 24, TSV_LINE = 1 << 18 };
typedef struct Tsv {
    FILE *f;
    char *line, *field[TSV_FIELDS];
    int n;
} Tsv;

/* Ends the program when the file is not there: run tests from the project's root. */
static inline Tsv tsv_open(const char *path) {
    Tsv t = {.f = fopen(path, "r"), .line = malloc(TSV_LINE)};
    if (t.f && t.line) return t;
    perror(path);
    exit(1);
}

static inline int tsv_next(Tsv *t) {
    do {
        if (!fgets(t->line, TSV_LINE, t->f)) {
            fclose(t->f);
            free(t->line);
            return 0;
        }
    } while (*t->line == '#');
    t->line[strcspn(t->line, "\n")] = 0;
    t->n = 0;
    for (char *s = t->line; s && t->n < TSV_FIELDS;) {
        t->field[t->n++] = s;
        s = strchr(s, '\t');
        if (s) *s++ = 0;
    }
    return 1;
}

static inline int tsv_int(const Tsv *t, int i) {
    return i < t->n ? atoi(t->field[i]) : -1;
}

/* Hex in place to bytes, with a NUL behind; "-" is the empty text. Returns the length. */
static inline size_t tsv_bytes(const Tsv *t, int i) {
    char *s = t->field[i];
    size_t n = strcmp(s, "-") ? strlen(s) / 2 : 0;
    for (size_t k = 0; k < n; k++) {
        unsigned byte;
        sscanf(s + 2 * k, "%2x", &byte);
        s[k] = (char)byte;
    }
    s[n] = 0;
    return n;
}
#endif
