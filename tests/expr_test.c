/* Formulas and expressions: parsing and printing (same tree again), places, values of every
 * operator and function, limits, patterns. */
#include <math.h>
#include <string.h>

#include "graph/lang/expr.h"
#include "tests/check.h"

/* ---- parsing and printing ---- */
static bool same(const Expr *a, const Expr *b) {
    if (a->kind != b->kind || a->n != b->n || a->is_int != b->is_int) return false;
    if (a->kind == EX_NUMBER) return a->number == b->number;
    if (strcmp(a->name, b->name)) return false;
    for (int i = 0; i < a->n; i++)
        if (!same(a->arg[i], b->arg[i])) return false;
    return true;
}

static void check_print(const char *text, const char *want) {
    Arena *a = arena_new();
    Err e = {0};
    Str s = {0};
    Expr *x = expr_parse_text(a, text, &e);
    CHECK(x, "%s: %s", text, e.text);
    if (x) expr_print(&s, x);
    CHECK(!x || !strcmp(s.s, want), "%s: got %s, want %s", text, s.s, want);
    Expr *again = x ? expr_parse_text(a, s.s, &e) : NULL;
    CHECK(!x || (again && same(x, again)), "%s: printed %s, which is another tree",
          text, s.s);
    str_free(&s);
    arena_free(a);
}

static void test_print(void) {
    static const char *const cases[][2] = {
        {"1+2*3", "1 + 2 * 3"},
        {"(1+2)*3", "(1 + 2) * 3"},
        {"a-(b-c)-d", "a - (b - c) - d"},
        {"a/(b*c)", "a / (b * c)"},
        {"(a/b)*c", "a / b * c"},
        {"2^3^2", "2 ^ 3 ^ 2"},
        {"(2^3)^2", "(2 ^ 3) ^ 2"},
        {"-x^2", "-x ^ 2"},
        {"(-x)^2", "(-x) ^ 2"},
        {"2^-x", "2 ^ -x"},
        {"2^-x*y", "2 ^ -x * y"},
        {"2^(-(x*y))", "2 ^ -(x * y)"},
        {"--x", "--x"},
        {"a - -b", "a - -b"},
        {"not a == b", "not a == b"},
        {"(not a) == b", "(not a) == b"},
        {"not (a and b) or c", "not (a and b) or c"},
        {"a or (b or c)", "a or (b or c)"},
        {"(a < b) < c", "(a < b) < c"},
        {"a < (b == c)", "a < (b == c)"},
        {"a<b and b<=c", "a < b and b <= c"},
        {"$a($i+1)//2%3", "$a($i + 1) // 2 % 3"},
        {"clamp( x , -30,20 )", "clamp(x, -30, 20)"},
        {"to_out.0 + net.0.proj", "to_out.0 + net.0.proj"},
        {"1e-5", "1e-05"},
        {"1.0", "1.0"},
        {"1e6", "1000000.0"},
        {"1000000", "1000000"},
        {"123456789012", "123456789012"},
        {".5", "0.5"},
        {"3.", "3.0"},
        {"5e-324", "5e-324"},
        {"notx + andy", "notx + andy"},
        {"x\n + y", "x + y"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) check_print(cases[i][0], cases[i][1]);
}

/* Random trees print and read back as themselves. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static Expr *random_tree(Arena *a, uint64_t *r, int depth) {
    static const char *const ops[] = {"+",  "-", "*",  "/", "//", "%",   "^", "==",
                                      "!=", "<", "<=", ">", ">=", "and", "or"};
    static const char *const names[] = {"x", "y.0", "clamp"};
    Expr *x = NEW(a, Expr, 1);
    int kinds = depth ? EX_ARGCALL + 1 : EX_ARG + 1;
    x->kind = (ExprKind)(next_random(r) % (uint64_t)kinds);
    x->name =
        x->kind == EX_ARG || x->kind == EX_ARGCALL ? "a" : names[next_random(r) % 3];
    if (x->kind == EX_NUMBER) {
        x->name = NULL;
        x->is_int = next_random(r) % 2;
        x->number = x->is_int ? (double)(next_random(r) % 1000)
                              : (double)(next_random(r) % 1000) / 7;
    }
    if (x->kind == EX_UNARY) x->name = next_random(r) % 2 ? "-" : "not";
    if (x->kind == EX_BINARY) x->name = ops[next_random(r) % COUNT(ops)];
    x->n = x->kind == EX_BINARY                           ? 2
           : x->kind == EX_UNARY || x->kind == EX_ARGCALL ? 1
                                                          : 0;
    if (x->kind == EX_CALL) x->n = 1 + (int)(next_random(r) % 3);
    x->arg = NEW(a, Expr *, x->n + 1);
    for (int i = 0; i < x->n; i++) x->arg[i] = random_tree(a, r, depth - 1);
    return x;
}

static void test_random_trees(void) {
    uint64_t r = 88172645463325252u;
    for (int i = 0; i < 3000; i++) {
        Arena *a = arena_new();
        Err e = {0};
        Str s = {0};
        Expr *x = random_tree(a, &r, 5);
        expr_print(&s, x);
        Expr *again = expr_parse_text(a, s.s, &e);
        CHECK(again && same(x, again), "%s: %s", s.s, e.text);
        str_free(&s);
        arena_free(a);
    }
}

static void check_refused(const char *text, const char *want) {
    Arena *a = arena_new();
    Err e = {0};
    CHECK(!expr_parse_text(a, text, &e), "'%s' is accepted", text);
    CHECK(strstr(e.text, want), "'%s': got %s, want %s", text, e.text, want);
    arena_free(a);
}

static void test_refused(void) {
    check_refused("", "an expression is missing here");
    check_refused("1 +", "a value is missing at the end of '1 +'");
    check_refused("(1", "')' is missing at the end of '(1'");
    check_refused("f(1", "')' is missing at the end of 'f(1'");
    check_refused("f(1,)", "unexpected ')' in 'f(1,)'");
    check_refused("f()", "unexpected ')' in 'f()'");
    check_refused("1 2", "unexpected '2' in '1 2'");
    check_refused("a = b", "unexpected '=' in 'a = b'");
    check_refused("$", "unexpected '$' in '$'");
    check_refused("$a.b", "unexpected '.' in '$a.b'");
    check_refused("x é", "unexpected 'é' in 'x é'");
    check_refused("and", "unexpected 'and' in 'and'");
    check_refused("1 + not x", "unexpected 'not' in '1 + not x'");
    check_refused("a < b < c", "comparisons do not chain");
    check_refused("$a(1, 2)", "'$a(i)' takes one index, got 2");
    check_refused("1e999", "number 1e999 is too large");
    check_refused("9007199254740993", "number 9007199254740993 is too large");
}

static Expr *parse_slot(Arena *a, const char *text, Err *e) {
    char *doc = arena_printf(a, "v: %s", text);
    YNode *root = yaml_parse(a, source_text(a, "t.yaml", doc, strlen(doc)), e);
    return root ? expr_parse(a, yaml_get(root, "v"), e) : NULL;
}

static void test_places(void) {
    Arena *a = arena_new();
    Err e = {0};
    Expr *x = parse_slot(a, "\"if($alpha == 0, $rank, alpha)\"", &e);
    CHECK(x && x->kind == EX_CALL && x->n == 3, "%s", e.text);
    CHECK(x && x->loc.col == 5 && x->arg[1]->loc.col == 21 && x->arg[1]->loc.len == 5,
          "column %u length %u", x->arg[1]->loc.col, x->arg[1]->loc.len);
    CHECK(x && x->arg[0]->loc.col == 15, "an operator stands at itself: %u",
          x->arg[0]->loc.col);
    arena_free(a);
}

static void test_limits(void) {
    Arena *a = arena_new();
    char text[1200];
    Err e = {0};
    memset(text, '(', 63);
    strcpy(text + 63, "1");
    memset(text + 64, ')', 63);
    text[127] = 0;
    CHECK(parse_slot(a, text, &e), "nesting 64: %s", e.text);
    memset(text, '-', 64);
    strcpy(text + 64, "1");
    CHECK(!parse_slot(a, text, &e) && strstr(e.text, "nested deeper than 64"), "%s",
          e.text);
    e = (Err){0};
    for (int i = 0; i < 1024; i += 2) memcpy(text + i, i + 2 < 1024 ? "1+" : "1 ", 2);
    text[1023] = 0;
    CHECK(parse_slot(a, text, &e), "512 terms: %s", e.text);
    strcpy(text + 1023, "+1");
    CHECK(!parse_slot(a, text, &e) && strstr(e.text, "longer than 1 KiB"), "%s",
          e.text);
    e = (Err){0};
    char *chain = NEW(a, char, 8192);
    for (int i = 0; i < 2000; i++) memcpy(chain + 2 * i, i ? "+1" : " 1", 2);
    CHECK(!expr_parse_text(a, chain, &e) && strstr(e.text, "more than 1024 terms"),
          "%s", e.text);
    arena_free(a);
}

/* ---- values ---- */
static bool value_of_name(void *ctx, const char *name, Loc loc, int *rank,
                          int64_t *last, Err *e) {
    (void)ctx;
    if (strcmp(name, "x.0")) return err_at(e, loc, "no value '%s' here", name);
    *rank = 4;
    *last = 320;
    return true;
}

static const char *value_of(Arena *a, const char *text) {
    Err e = {0};
    Str s = {0};
    Val v, three[3] = {val_int(4), val_int(8), val_int(16)};
    Args *args = args_new(a);
    args_set(args, "rank", val_int(4));
    args_set(args, "alpha", val_float(0.5));
    args_set(args, "list", (Val){.kind = VAL_LIST, .list = {three, 3}});
    args_set(args, "none", (Val){.kind = VAL_LIST});
    args_set(args, "on", val_bool(true));
    args_set(args, "big", val_int(INT64_MAX));
    args_set(args, "mode", val_word("v"));
    Env env = {.args = args, .value = value_of_name};
    char *doc = arena_printf(a, "v: %s", text);
    YNode *root = yaml_parse(a, source_text(a, "t", doc, strlen(doc)), &e);
    if (root && slot_eval(a, yaml_get(root, "v"), &env, &v, &e)) {
        static const char *const kinds[] = {"", "i", "f", "b", "w", "l"};
        str_add(&s, kinds[v.kind]);
        val_print(&s, &v);
    }
    char *got = arena_strdup(a, e.set ? strstr(e.text, "error: ") + 7 : s.s);
    if (e.set) got[strcspn(got, "\n")] = 0;
    str_free(&s);
    return got;
}

/* Kind (i f b w l) and text of the value, or the message. */
static void test_values(void) {
    static const char *const cases[][2] = {
        {"3", "i3"},
        {"1e-5", "f1e-05"},
        {"-3", "i-3"},
        {"1.5", "f1.5"},
        {"true", "btrue"},
        {"False", "wFalse"},
        {"yes", "wyes"},
        {"010", "i10"},
        {"word", "wword"},
        {"'$rank'", "i4"},
        {"\"if($alpha == 0, $rank, $alpha)\"", "f0.5"},
        {"1 + 2 * 3 - 4", "i3"},
        {"6 / 3", "i2"},
        {"7 / 2", "f3.5"},
        {"-7 // 2", "i-4"},
        {"7 // -2", "i-4"},
        {"-7 % 3", "i2"},
        {"7 % -3", "i-2"},
        {"7.5 // 2", "f3"},
        {"-7.5 % 2", "f0.5"},
        {"2 ^ 10", "i1024"},
        {"2 ^ -1", "f0.5"},
        {"-2 ^ 2", "i-4"},
        {"2 ^ 3 ^ 2", "i512"},
        {"2.0 ^ 0.5", "f1.4142135623730951"},
        {"0 ^ 0", "i1"},
        {"$big + 1", "9223372036854775807 + 1 does not fit in 64 bits"},
        {"3 ^ 50", "3 ^ 50 does not fit in 64 bits"},
        {"(0 - $big - 1) // -1", "-9223372036854775808 // -1 does not fit in 64 bits"},
        {"(0 - $big - 1) % -1", "-9223372036854775808 % -1 does not fit in 64 bits"},
        {"1 / 0", "division by zero"},
        {"1 // 0", "division by zero"},
        {"1 % 0.0", "division by zero"},
        {"(0 - 1) ^ 0.5", "'^' gives not-a-number here, want a finite number"},
        {"1e300 * 1e300", "'*' gives infinity here, want a finite number"},
        {"1 == 1.0", "btrue"},
        {"$mode == v", "btrue"},
        {"$mode != 3", "btrue"},
        {"$on == 1", "btrue"},
        {"$list == $list", "btrue"},
        {"$list == $none", "bfalse"},
        {"1 < 2", "btrue"},
        {"2 <= 2", "btrue"},
        {"1 > 2", "bfalse"},
        {"1 >= 2", "bfalse"},
        {"v < 3", "'<' wants numbers, got v"},
        {"v + 3", "'+' wants numbers, got v"},
        {"$on and 0 < 1", "btrue"},
        {"false and 1 / 0", "bfalse"},
        {"true or 1 / 0", "btrue"},
        {"not $on", "bfalse"},
        {"not v", "want true or false, got v"},
        {"$on + $on", "i2"},
        {"-$alpha", "f-0.5"},
        {"$list(1)", "i8"},
        {"$list(len($list) - 1)", "i16"},
        {"$list(3)", "'$list' has entries 0 to 2, got index 3"},
        {"$list(0.5)", "'$list' has entries 0 to 2, got index 0.5"},
        {"$none(0)", "'$none' is empty"},
        {"$rank(0)", "'$rank' is not a list, got 4"},
        {"$rnak", "no argument '$rnak' here; did you mean '$rank'?"},
        {"min(3, 1, 2)", "i1"},
        {"max(3, 3.5)", "f3.5"},
        {"min(v, 1)", "'min' wants numbers, got v"},
        {"sqrt(9)", "f3"},
        {"sqrt(0 - 1)", "'sqrt' gives not-a-number here, want a finite number"},
        {"ln(1)", "f0"},
        {"ln(0)", "'ln' gives infinity here, want a finite number"},
        {"sin(0)", "f0"},
        {"cos(0)", "f1"},
        {"floor(2.7)", "i2"},
        {"floor(0 - 2.5)", "i-3"},
        {"floor(1e19)", "1e+19 does not fit in 64 bits"},
        {"floor($list)", "'floor' wants numbers, got [4, 8, 16]"},
        {"len($list)", "i3"},
        {"len(3)", "'len' wants a list, got 3"},
        {"divisor(320, 8)", "i8"},
        {"divisor(320, 9.9)", "i8"},
        {"divisor(7, 6)", "i1"},
        {"divisor(1280, min(8, sqrt(1280)))", "i8"},
        {"divisor(36, 100)", "i36"},
        {"divisor(1073741824, 1e9)", "i536870912"},
        {"divisor(0, 3)", "'divisor' wants an integer from 1 to 2^30, got 0"},
        {"divisor(9, 0)", "'divisor' wants a limit of at least 1, got 0"},
        {"if(true, 1, 1 / 0)", "i1"},
        {"if(0, v, w)", "ww"},
        {"if(1, 2)", "'if' takes 3 arguments, got 2"},
        {"channels(x.0) * 4", "i1280"},
        {"channels(y)", "no value 'y' here"},
        {"channels(1)", "'channels' wants the name of a value"},
        {"normal(0.5)", "l[normal, 0.5]"},
        {"uniform($rank)", "l[uniform, 4]"},
        {"constant($alpha)", "l[constant, 0.5]"},
        {"kaiming_uniform", "wkaiming_uniform"},
        {"flor(1)", "no function 'flor' here; did you mean 'floor'?"},
        {"[$rank, $list, 1 + 1]", "l[4, 4, 8, 16, 2]"},
        {"[]", "l[]"},
        {"[$none]", "l[]"},
        {"[\"if($on, 1, 2)\", v]", "l[1, v]"},
        {"[[1]]", "a list cannot hold a list here"},
        {"{a: 1}", "want an expression, got a mapping"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        Arena *a = arena_new();
        const char *got = value_of(a, cases[i][0]);
        CHECK(!strcmp(got, cases[i][1]), "%s: got %s, want %s", cases[i][0], got,
              cases[i][1]);
        arena_free(a);
    }
}

/* Lists cannot grow without bound by being spliced into each other. */
static void test_list_limit(void) {
    Arena *a = arena_new();
    Err e = {0};
    Args *args = args_new(a);
    Env env = {.args = args};
    Val v;
    YNode *once = yaml_parse(a, source_text(a, "t", "[1, 2]", 6), &e);
    YNode *twice = yaml_parse(a, source_text(a, "t", "[$x, $x]", 8), &e);
    bool ok = once && twice && slot_eval(a, once, &env, &v, &e);
    for (int i = 0; ok && i < 40; i++) {
        args_set(args, "x", v);
        ok = slot_eval(a, twice, &env, &v, &e);
    }
    CHECK(!ok && strstr(e.text, "a list holds at most 1024 values"), "%s", e.text);
    arena_free(a);
}

static void test_args(void) {
    Arena *a = arena_new();
    Args *args = args_new(a);
    for (int i = 0; i < 40; i++) args_set(args, arena_printf(a, "a%d", i), val_int(i));
    args_set(args, "a7", val_word("seven"));
    CHECK(args->n == 40 && args_get(args, "a7")->kind == VAL_WORD, "replaced in place");
    Args *copy = args_copy(a, args);
    args_set(copy, "a8", val_int(0));
    CHECK(args_get(args, "a8")->i == 8 && args_get(copy, "a8")->i == 0,
          "a copy of its own");
    CHECK(!args_get(args, "b") && !args_get(NULL, "b"), "absent");
    CHECK(!strcmp(args_names(a, args)[39], "a39") && !args_names(a, args)[40], "names");
    arena_free(a);
}

/* ---- patterns ---- */
static void test_patterns(void) {
    static const struct {
        const char *pattern, *path;
        bool match;
    } cases[] = {
        {"a.b", "a.b", true},
        {"a.b", "a.b.c", false},
        {"a.b.c", "a.b", false},
        {"a.*", "a.b", true},
        {"a.*", "a", false},
        {"a.*", "a.b.c", false},
        {"*", "a", true},
        {"a*c.d", "abbc.d", true},
        {"a*c.d", "a.c.d", false},
        {"conv*", "conv", true},
        {"*.*", "a.b", true},
        {"**", "a", true},
        {"**", "a.b.c", true},
        {"**.x", "x", true},
        {"**.x", "a.b.x", true},
        {"**.x", "a.b.xx", false},
        {"a.**.x", "a.x", true},
        {"a.**.x", "a.b.c.x", true},
        {"a.**.x", "b.a.x", false},
        {"**.a.**", "a", true},
        {"**.a.**", "x.a.y.z", true},
        {"**.a.**", "x.ab.y", false},
        {"a.**", "a", true},
        {"**.a.b", "a.a.b", true},
        {"**.a.**.b", "a.x.a.b.c.b", true},
        {"unet.**.attn2.to_v", "unet.d.0.attn2.to_v", true},
        {"**.attentions.**", "down.0.attentions.1.proj_in", true},
        {"**.resnets.*.conv1", "up.3.resnets.2.conv1", true},
        {"**.resnets.*.conv1", "up.3.resnets.2.x.conv1", false},
        {"", "a", false},
        {"", "", true},
        {"***", "a", true},
        {"a**b", "axb", true},
        {"a**b", "a.b", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        CHECK(pattern_match(cases[i].pattern, cases[i].path) == cases[i].match,
              "%s %s %s", cases[i].pattern,
              cases[i].match ? "should match" : "should not match", cases[i].path);
    char stars[400], path[4000];
    for (int i = 0; i < 60; i++) memcpy(stars + 5 * i, "**.a.", 5);
    strcpy(stars + 300, "b");
    for (int i = 0; i < 1000; i++) memcpy(path + 2 * i, "a.", 2);
    strcpy(path + 2000, "c");
    CHECK(!pattern_match(stars, path), "many stars end quickly");
}

int main(void) {
    test_print();
    test_random_trees();
    test_refused();
    test_places();
    test_limits();
    test_values();
    test_list_limit();
    test_args();
    test_patterns();
    return check_done("expr");
}
