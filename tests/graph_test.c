/* The graph's text form, its reader against hostile text, and the checkers. */
#include <stdlib.h>
#include <string.h>

#include "graph/lang/yaml.h"
#include "graph/plan/plan.h"
#include "tests/check.h"

static Graph *read_text(Arena *a, const char *text, Err *e) {
    *e = (Err){0};
    return graph_parse(a, source_text(a, "t.gr", text, strlen(text)), e);
}

/* The example of every row as a graph: printed, read, printed again. */
static void test_examples(void) {
    for (const Op *const *op = ops; *op; op++) {
        if ((*op)->flags & OP_YAML_ONLY) continue;
        Arena *a = arena_new();
        Err e;
        Str one = {0}, two = {0};
        const char *text = arena_printf(a, "graph example {\n%s}\n", (*op)->example);
        Graph *g = read_text(a, text, &e);
        CHECK(g, "%s: %s", (*op)->name, e.text);
        if (g) {
            graph_print(&one, g);
            Graph *again = read_text(a, one.s, &e);
            CHECK(again, "%s: %s", (*op)->name, e.text);
            if (again) graph_print(&two, again);
            CHECK(again && !strcmp(one.s, two.s), "%s: %s", (*op)->name, one.s);
        }
        str_free(&one);
        str_free(&two);
        arena_free(a);
    }
}

typedef struct Wrong {
    const char *text, *message; /* what the message must hold */
} Wrong;

static const Wrong wrong[] = {
    {"", "t.gr: error: expected 'graph NAME {', got nothing"},
    {"grph x {\n}\n", "t.gr:1:1: error: expected 'graph NAME {', got 'grph'"},
    {"graph x {\n", "not closed"},
    {"graph x {\n}\nmore\n", "t.gr:3:1: error: expected nothing behind the graph"},
    {"graph x {\n  inptu @x : f32[]\n}\n", "t.gr:2:3: error: expected input scalar"},
    {"graph x {\n  input @x : f31[2]\n}\n", "t.gr:2:14: error: expected a type"},
    {"graph x {\n  input @x : f32[0]\n}\n", "0 is out of range: want 1"},
    {"graph x {\n  input @x : f32[1,2,3,4,5,6,7]\n}\n", "at most 6 dimensions"},
    {"graph x {\n  input @x : f32[1000000,1000000,1000000]\n}\n", "more than 2^47"},
    {"graph x {\n  input @x : f32[99999999999999999999]\n}\n", "is out of range"},
    {"graph x {\n  input @x : f32[2]\n  input @x : f32[2]\n}\n",
     "t.gr:3:10: error: value 'x' is there twice"},
    {"graph x {\n  const @c : f32[3] = [1, 2]\n}\n", "got 2 numbers, want 3"},
    {"graph x {\n  const @c : f32[1000000000] = [1]\n}\n", "fewer numbers"},
    {"graph x {\n  const @c : f32[]\n}\n", "expected '='"},
    {"graph x {\n  %a = linaer @x\n}\n",
     "no op 'linaer' in graphs; did you mean 'linear'?"},
    {"graph x {\n  %a = detach @x\n}\n", "t.gr:2:15: error: no value '@x' here"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach @x {k=1}\n}\n",
     "op detach has no attribute 'k'"},
    {"graph x {\n  input @x : f32[2]\n  %a = view @x\n}\n",
     "op view needs attribute 'shape'"},
    {"graph x {\n  input @x : f32[2]\n  %a = view @x {shape=[2], shape=[2]}\n}\n",
     "attribute 'shape' is there twice"},
    {"graph x {\n  input @x : f32[2]\n  %a = view @x {shape=[3]}\n}\n",
     "t.gr:3:8: error: view:"},
    {"graph x {\n  input @x : f32[2]\n  %a, %b = detach @x\n}\n",
     "has 1 outputs, got 2 names"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach @x : f32[3]\n}\n",
     "detach makes f32[2], got f32[3]"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach @x\n  %a = detach @x\n}\n",
     "t.gr:4:3: error: value '%a' is there twice"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach @x, @x\n}\n",
     "got 2 inputs, want at most 1"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach _\n}\n", "input 'x' is missing"},
    {"graph x {\n  input @x : f32[2]\n  %a = detach @x  # update nothing\n}\n",
     "expected a block"},
    {"graph x {\n  train @a : f32[2] {init=zero}\n}\n",
     "no init 'zero'; did you mean 'zeros'?"},
    {"graph x {\n  train @a : f32[2] {init=value(%9)}\n}\n", "no value '%9' here"},
    {"graph x {\n  train @a : f32[4] {init=zeros, slice=0:3}\n}\n",
     "do not divide f32[4]"},
    {"graph x {\n  train @a : f32[4] {init=zeros, slice=1:2}\n}\n",
     "out of range: want 0 to 0"},
    {"graph x {\n  input @\"a\n}\n", "a quoted text without its end"},
    {"graph x {\n  input @\"\\q\" : f32[]\n}\n", "expected an escape of JSON"},
    {"graph x {\n  output y = @z\n}\n", "no value '@z' here"},
    {"graph x {\n  input @z : f32[]\n  output y = @z\n  output y = @z\n}\n",
     "output 'y' is there twice"},
};

static void test_wrong(void) {
    for (size_t i = 0; i < COUNT(wrong); i++) {
        Arena *a = arena_new();
        Err e;
        Graph *g = read_text(a, wrong[i].text, &e);
        CHECK(!g && e.set, "accepted: %s", wrong[i].text);
        CHECK(strstr(e.text, wrong[i].message), "got: %s\nwant: %s", e.text,
              wrong[i].message);
        CHECK(e.code == EXIT_MISUSE, "exit code %d", e.code);
        arena_free(a);
    }
}

static const char good[] =
    "graph g {\n  blocks A, \"B b\"\n  input @x : f32[B=2,3]  # f.yaml:1:2+3\n"
    "  const @$0 : f64[2] = [0.1, nan]\n  train @a : f16[4,3] {init=normal(0.5), "
    "lr=0.25, "
    "module=\"m\", key=\"k\"}\n  %0 \"label\" = linear @x, @a, _ : f32[B=2,4]  # "
    "backward \"B b\" "
    "p.q f.yaml:3:4\n  %1 = pointwise %0 {f=\"x0 * 2\", dtype=f32} : f32[B=2,4]\n"
    "  output y = %1\n}\n";

/* Every cut and many one-byte changes of a good text: an error or a graph, never a crash;
 * what is read prints and reads again. */
static void test_mutations(void) {
    size_t n = sizeof good - 1;
    int read = 0;
    for (size_t i = 0; i < n * 24; i++) {
        Arena *a = arena_new();
        char *text = arena_strndup(a, good, n);
        static const char bytes[] = "\0\n %@[]{},=:#\"\\-_9eB~\xff";
        if (i < n)
            text[i] = 0;
        else
            text[i % n] = bytes[i / n % (sizeof bytes - 1)];
        Err e = {0};
        size_t len = i < n ? i : n;
        Graph *g = graph_parse(a, source_text(a, "t.gr", text, len), &e);
        if (g) {
            Str one = {0}, two = {0};
            graph_print(&one, g);
            Graph *again = read_text(a, one.s, &e);
            if (again) graph_print(&two, again);
            CHECK(again && !strcmp(one.s, two.s), "byte %zu: %s\n%s", i, e.text, one.s);
            str_free(&one);
            str_free(&two);
            read++;
        } else if (!e.set) {
            CHECK(false, "byte %zu: no message", i);
        }
        arena_free(a);
    }
    CHECK(read > 50, "only %d changes were read", read);
}

static void test_print(void) {
    Arena *a = arena_new();
    Err e;
    Graph *g = read_text(a, good, &e);
    CHECK(g, "%s", e.text);
    Str s = {0};
    if (g) graph_print(&s, g);
    CHECK(s.s && !strcmp(s.s, good), "got:\n%s\nwant:\n%s", s.s, good);
    str_free(&s);
    arena_free(a);
}

/* graph_verify finds what a faulty pass could do. */
static void test_verify(void) {
    for (int i = 0; i < 9; i++) {
        Arena *a = arena_new();
        Err e;
        Graph *g = read_text(a, good, &e);
        switch (i) {
        case 0:
            g->node[0]->in[0] = 99;
            break;
        case 1:
            g->node[0]->in[0] = g->node[1]->out[0];
            break;
        case 2:
            g->value[g->node[0]->out[0]]->type.dim[1] = 5;
            break;
        case 3:
            g->value[0]->name = "a";
            break;
        case 4:
            g->node[1]->at.block = 2;
            break;
        case 5:
            g->output[0].value = 1000;
            break;
        case 6:
            g->value[g->node[1]->out[0]]->role = ROLE_INPUT;
            break;
        case 7:
            g->value[0]->type.dim[0] = -1;
            break;
        case 8:
            g->node[0]->index = 1;
            break;
        }
        e = (Err){0};
        CHECK(!graph_verify(g, &e) && e.set, "fault %d was not found", i);
        arena_free(a);
    }
}

static void test_names(void) {
    Arena *a = arena_new();
    Graph *g = graph_new(a, "names");
    for (int i = 0; i < 1000; i++)
        graph_value(g, ROLE_INPUT, type_scalar(F32), arena_printf(a, "v%d", i),
                    loc_none());
    for (int i = 0; i < 1000; i += 37)
        CHECK(graph_find(g, arena_printf(a, "v%d", i)) == (Id)i, "v%d", i);
    CHECK(graph_find(g, "v1000") == NO_ID, "a value that is not there");
    Id c = graph_number(g, 0.1, F32);
    CHECK(g->value[c]->data[0] == (double)0.1f, "got %.17g", g->value[c]->data[0]);
    arena_free(a);
}

int main(void) {
    test_examples();
    test_wrong();
    test_print();
    test_mutations();
    test_verify();
    test_names();
    return check_done("graph");
}
