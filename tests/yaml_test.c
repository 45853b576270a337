/* YAML to trees: kinds, texts, places of everything, limits. */
#include <string.h>
#include <unistd.h>

#include "graph/lang/yaml.h"
#include "tests/check.h"

static YNode *parse(Arena *a, const char *text, Err *e) {
    return yaml_parse(a, source_text(a, "t.yaml", text, strlen(text)), e);
}

static void check_place(const YNode *n, const char *what, uint32_t line, uint32_t col,
                        uint32_t len) {
    CHECK(n, "%s is missing", what);
    if (!n) return;
    CHECK(n->loc.line == line && n->loc.col == col && n->loc.len == len,
          "%s: at %u:%u length %u, want %u:%u length %u", what, n->loc.line, n->loc.col,
          n->loc.len, line, col, len);
}

static void test_tree(void) {
    Arena *a = arena_new();
    Err e = {0};
    const YNode *n = parse(a,
                           "# a comment\n"
                           "one: two\n"
                           "größe: {übung: \"a b\", x: [1, 'zwei', y]}\r\n"
                           "empty:\n"
                           "text: |\n"
                           "  line\n"
                           "  more\n",
                           &e);
    CHECK(n && n->kind == Y_MAP && n->n == 4, "%s", e.text);
    if (!n) return;
    check_place(n, "root", 2, 1, 0);
    check_place(yaml_get(n, "one"), "two", 2, 6, 3);
    check_place(yaml_key(n, "größe"), "größe", 3, 1, 5);
    const YNode *map = yaml_get(n, "größe");
    check_place(map, "the map", 3, 8, 0);
    check_place(yaml_get(map, "übung"), "quoted", 3, 16, 5);
    CHECK(yaml_get(map, "übung")->quoted && !yaml_get(n, "one")->quoted, "quoted");
    CHECK(!strcmp(yaml_get(map, "übung")->s, "a b"), "%s", yaml_get(map, "übung")->s);
    const YNode *list = yaml_get(map, "x");
    CHECK(list->kind == Y_LIST && list->n == 3, "%d entries", list->n);
    check_place(list->item[1], "zwei", 3, 30, 6);
    const YNode *empty = yaml_get(n, "empty");
    CHECK(empty->kind == Y_SCALAR && !empty->s[0] && !empty->quoted, "an empty scalar");
    const YNode *block = yaml_get(n, "text");
    CHECK(block->block && !strcmp(block->s, "line\nmore\n"), "%s", block->s);
    CHECK(!yaml_get(n, "no") && !yaml_key(n, "no") && !yaml_get(list, "x"),
          "absent keys");
    arena_free(a);
}

/* Places inside scalars: plain, quoted, folded over lines, escaped, block. */
static void test_offsets(void) {
    static const struct {
        const char *text;
        size_t offset;
        uint32_t line, col;
    } cases[] = {
        {"a: x + yy", 4, 1, 8},         {"a: \"x + yy\"", 4, 1, 9},
        {"a: 'x + yy'", 4, 1, 9},       {"a: x +\n   yy", 4, 2, 4},
        {"a: x +  \n\n   yy", 4, 3, 4}, {"a: ü + yy", 5, 1, 8},
        {"a: \"\\x41 + b\"", 4, 1, 4},  {"a: |\n  x + y\n", 4, 1, 4},
        {"{a: x , b: c}", 0, 1, 5},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        Arena *a = arena_new();
        Err e = {0};
        const YNode *n = yaml_get(parse(a, cases[i].text, &e), "a");
        CHECK(n, "%s: %s", cases[i].text, e.text);
        Loc loc = n ? yaml_offset(n, cases[i].offset, 1) : loc_none();
        CHECK(loc.line == cases[i].line && loc.col == cases[i].col,
              "%s byte %zu: got %u:%u, want %u:%u", cases[i].text, cases[i].offset,
              loc.line, loc.col, cases[i].line, cases[i].col);
        arena_free(a);
    }
}

static void check_error(const char *text, const char *want) {
    Arena *a = arena_new();
    Err e = {0};
    CHECK(!parse(a, text, &e), "'%.40s' is accepted", text);
    CHECK(strstr(e.text, want), "'%.40s': got %s, want %s", text, e.text, want);
    CHECK(e.code == EXIT_MISUSE, "code %d", e.code);
    arena_free(a);
}

static void test_errors(void) {
    check_error("", "t.yaml:1:1: error: the file is empty");
    check_error("a: &x 1", "t.yaml:1:4: error: anchors (&x) are not allowed");
    check_error("a: *x", "t.yaml:1:4: error: aliases (*x) are not allowed");
    check_error("a: !x 1", "t.yaml:1:4: error: tags (!x) are not allowed");
    check_error("a: !<x> [1]", "t.yaml:1:4: error: tags (x) are not allowed");
    check_error("a: 1\nb: 2\na: 3", "t.yaml:3:1: error: key 'a' is given twice");
    check_error("a: 1\n---\nb: 1", "t.yaml:2:1: error: one file holds one document");
    check_error("[a]: 1", "t.yaml:1:1: error: a key must be a name");
    check_error("a: {b", "t.yaml:");
    check_error("a: \"b", "t.yaml:");
    check_error("a: \"\\0\"", "t.yaml:1:4: error: a NUL character in a scalar");
    check_error("a: \xff\xfe", "t.yaml:1:4: error: ");
    check_error("a: 1\nb: \x01", "t.yaml:2:4: error: ");
}

static void test_limits(void) {
    Arena *a = arena_new();
    Err e = {0};
    char *text = NEW(a, char, (1 << 20) + 100);
    memset(text, '[', 63);
    memset(text + 63, ']', 63);
    YNode *n = yaml_parse(a, source_text(a, "t.yaml", text, 126), &e);
    CHECK(n, "depth 63: %s", e.text);
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    CHECK(!yaml_parse(a, source_text(a, "t.yaml", text, 130), &e), "depth 65");
    CHECK(strstr(e.text, "1:65: error: YAML is nested deeper than 64"), "%s", e.text);

    memset(text, ' ', 1 << 20);
    memcpy(text, "a: b\n#", 6);
    e = (Err){0};
    CHECK(yaml_parse(a, source_text(a, "t.yaml", text, 1 << 20), &e), "1 MiB: %s",
          e.text);
    CHECK(!yaml_parse(a, source_text(a, "t.yaml", text, (1 << 20) + 1), &e),
          "above 1 MiB");
    CHECK(strstr(e.text, "t.yaml:1:1: error: the file is larger than 1 MiB"), "%s",
          e.text);
    arena_free(a);
}

static void test_files(void) {
    Arena *a = arena_new();
    Err e = {0};
    CHECK(!source_read(a, "/no/such/file.yaml", &e) && e.code == EXIT_MISUSE,
          "a missing file");
    CHECK(strstr(e.text, "cannot read '/no/such/file.yaml': No such file"), "%s",
          e.text);
    e = (Err){0};
    CHECK(!source_read(a, "/", &e), "a folder is no file");
    e = (Err){0};
    Source *endless = source_read(a, "/dev/zero", &e);
    CHECK(endless && !yaml_parse(a, endless, &e) && strstr(e.text, "larger than 1 MiB"),
          "%s", e.text);
    arena_free(a);
}

int main(void) {
    test_tree();
    test_offsets();
    test_errors();
    test_limits();
    test_files();
    return check_done("yaml");
}
