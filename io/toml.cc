/* toml++ behind a C interface: the one C++ file. The tree is copied into the arena, so that
 * nothing of the library outlives a call.
 *
 * Depth is bounded before the library sees the text (names joined by dots) and by the
 * library (256 nested values); no exception leaves this file. */
/* Debian's compiled library throws; the headers alone need not. */
#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <cstring>

extern "C" {
#include "io/file.h"
}
#include "io/toml.h"

enum { BYTES_MAX = 1 << 20, DOTS_MAX = 128 };

static Loc loc_from(const Source *src, const toml::source_region &r) {
    Loc at = {src, r.begin.line, r.begin.column, 0};
    if (r.end.line == r.begin.line && r.end.column > r.begin.column)
        at.len = r.end.column - r.begin.column;
    return at;
}

static bool fill(Arena *a, const Source *src, const toml::node &node, Toml *out,
                 Err *e);

static bool fill_text(Arena *a, const std::string &s, Loc at, const char **out,
                      Err *e) {
    if (memchr(s.data(), 0, s.size()))
        return err_at(e, at, "a text must not contain \\u0000");
    *out = arena_strndup(a, s.data(), s.size());
    return true;
}

static bool fill_array(Arena *a, const Source *src, const toml::array &array, Toml *out,
                       Err *e) {
    out->kind = TOML_ARRAY;
    out->item = NEW(a, Toml, array.size());
    for (const toml::node &node : array)
        if (!fill(a, src, node, &out->item[out->n++], e)) return false;
    return true;
}

static bool fill_table(Arena *a, const Source *src, const toml::table &table, Toml *out,
                       Err *e) {
    out->kind = TOML_TABLE;
    out->item = NEW(a, Toml, table.size());
    for (auto &&[key, node] : table) {
        Toml *item = &out->item[out->n++];
        item->key_loc = loc_from(src, key.source());
        if (!fill_text(a, std::string(key.str()), item->key_loc, &item->key, e) ||
            !fill(a, src, node, item, e))
            return false;
    }
    std::sort(out->item, out->item + out->n, [](const Toml &x, const Toml &y) {
        return x.key_loc.line != y.key_loc.line ? x.key_loc.line < y.key_loc.line
                                                : x.key_loc.col < y.key_loc.col;
    });
    return true;
}

static bool fill(Arena *a, const Source *src, const toml::node &node, Toml *out,
                 Err *e) {
    out->loc = loc_from(src, node.source());
    if (auto *v = node.as_table()) return fill_table(a, src, *v, out, e);
    if (auto *v = node.as_array()) return fill_array(a, src, *v, out, e);
    if (auto *v = node.as_string()) {
        out->kind = TOML_TEXT;
        return fill_text(a, v->get(), out->loc, &out->text, e);
    }
    if (auto *v = node.as_integer()) {
        out->kind = TOML_INT;
        out->i = v->get();
        out->x = (double)out->i;
    } else if (auto *f = node.as_floating_point()) {
        out->kind = TOML_FLOAT;
        out->x = f->get();
    } else if (auto *b = node.as_boolean()) {
        out->kind = TOML_BOOL;
        out->b = b->get();
    } else {
        out->kind = TOML_DATE;
    }
    return true;
}

/* Long chains of names, a.a.a.a…, would nest tables without bound. */
static bool check_dots(const Source *src, Err *e) {
    uint32_t line = 1, dots = 0;
    for (size_t i = 0; i < src->len; i++) {
        unsigned char c = (unsigned char)src->text[i];
        if (c == '\n') line++;
        if (c == '.')
            dots++;
        else if (!isalnum(c) && !strchr("_-\"' \t", c))
            dots = 0;
        if (dots > DOTS_MAX)
            return err_at(e, Loc{src, line, 1, 0}, "more than %d names joined by dots",
                          (int)DOTS_MAX);
    }
    return true;
}

const Toml *toml_parse(Arena *a, const Source *src, Err *e) {
    if (!check_dots(src, e)) return nullptr;
    Toml *top = NEW(a, Toml, 1);
    try {
        toml::parse_result r = toml::parse(std::string_view(src->text, src->len));
        if (r) return fill_table(a, src, r.table(), top, e) ? top : nullptr;
        std::string_view why = r.error().description();
        Loc at = loc_from(src, r.error().source());
        err_at(e, at, "not valid TOML: %.*s", (int)std::min<size_t>(why.size(), 300),
               why.data());
    } catch (const std::exception &x) {
        err_fail(e, "'%s' cannot be read: %s", src->path, x.what());
    }
    return nullptr;
}

const Toml *toml_read(Arena *a, const char *path, Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return nullptr;
    if (n > BYTES_MAX) {
        file_unmap(map, n);
        err_fail(e, "'%s' is too long for a TOML file: %zu bytes, at most %d", path, n,
                 (int)BYTES_MAX);
        return nullptr;
    }
    Source *src = NEW(a, Source, 1);
    src->path = arena_strdup(a, path);
    src->text = n ? arena_strndup(a, (const char *)map, n) : "";
    src->len = n;
    file_unmap(map, n);
    return toml_parse(a, src, e);
}

const Toml *toml_get(const Toml *table, const char *key) {
    for (int i = 0; i < table->n; i++)
        if (!strcmp(table->item[i].key, key)) return &table->item[i];
    return nullptr;
}

const char *toml_kind_name(TomlKind kind) {
    static const char *const names[] = {
        "a text", "an integer", "a number with a point", "true or false", "a date",
        "a list", "a table"};
    return names[kind];
}
