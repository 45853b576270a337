/* Failures as values: the first one is kept, rendered with its line and a caret. */
#include "graph/base/base.h"

#include <stdio.h>
#include <string.h>

Loc loc_none(void) {
    return (Loc){0};
}

static void append(Err *e, const char *fmt, va_list args) {
    size_t n = strlen(e->text);
    vsnprintf(e->text + n, sizeof e->text - n, fmt, args);
}

PRINTF(2, 3) static void add(Err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    append(e, fmt, args);
    va_end(args);
}

static bool is_continuation(char c) {
    return ((unsigned char)c & 0xC0) == 0x80;
}

/* The line of the place and a caret under it; tabs stay tabs so that both lines agree. A
 * long line is cut to a window of about 100 characters around the place. */
static void show_line(Err *e, Loc loc) {
    const char *line = loc.src->text, *end = loc.src->text + loc.src->len;
    for (uint32_t l = 1; l < loc.line && line < end; l++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline) return;
        line = newline + 1;
    }
    const char *stop = memchr(line, '\n', (size_t)(end - line));
    if (!stop) stop = end;
    if (stop > line && stop[-1] == '\r') stop--;
    const char *at = line;
    for (uint32_t c = 1; c < loc.col && at < stop; c++) {
        at++;
        while (at < stop && is_continuation(*at)) at++;
    }
    const char *from = at - line > 60 ? at - 60 : line,
               *to = stop - at > 60 ? at + 60 : stop;
    while (from > line && is_continuation(*from)) from--;
    while (to < stop && is_continuation(*to)) to++;
    const char *dots = from > line ? "…" : "";
    add(e, "\n%5u | %s%.*s%s\n      | ", loc.line, dots, (int)(to - from), from,
        to < stop ? "…" : "");
    if (*dots) add(e, " ");
    for (const char *p = from; p < at; p++)
        if (!is_continuation(*p)) add(e, "%c", *p == '\t' ? '\t' : ' ');
    add(e, "^");
    for (uint32_t i = 1; i < loc.len && i < 60 && at + i < to; i++) add(e, "~");
}

static bool fail(Err *e, int code, Loc loc, const char *fmt, va_list args) {
    if (e->set) return false;
    e->set = true;
    e->code = code;
    e->text[0] = 0;
    if (loc.src && loc.line)
        add(e, "%s:%u:%u: ", loc.src->path, loc.line, loc.col);
    else if (loc.src)
        add(e, "%s: ", loc.src->path);
    add(e, "error: ");
    append(e, fmt, args);
    if (loc.src && loc.line) show_line(e, loc);
    return false;
}

bool err_at(Err *e, Loc loc, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail(e, EXIT_MISUSE, loc, fmt, args);
    va_end(args);
    return false;
}

bool err_usage(Err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail(e, EXIT_MISUSE, loc_none(), fmt, args);
    va_end(args);
    return false;
}

bool err_fail(Err *e, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fail(e, EXIT_FAILED, loc_none(), fmt, args);
    va_end(args);
    return false;
}

const char *err_said(const Err *e) {
    static const char prefix[] = "error: ";
    bool bare = strncmp(e->text, prefix, sizeof prefix - 1) != 0;
    return bare ? e->text : e->text + sizeof prefix - 1;
}

void err_note(Err *e, const char *fmt, ...) {
    if (!e->set) return;
    add(e, "\n");
    va_list args;
    va_start(args, fmt);
    append(e, fmt, args);
    va_end(args);
}
