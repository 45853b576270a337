/* The table itself: names, attribute texts both ways, defaults, errors of attribute values,
 * and how YAML forms become IR forms. */
#include "ops/ops.h"

#include <math.h>
#include <string.h>

#include "tests/check.h"

static void test_names(void) {
    int n = 0;
    for (; ops[n]; n++) {
        CHECK(op_find(ops[n]->name) == ops[n], "%s is not found", ops[n]->name);
        CHECK(!strcmp(op_names()[n], ops[n]->name), "name %d is %s", n, op_names()[n]);
    }
    CHECK(!op_names()[n] && n > 40, "%d rows", n);
    CHECK(!op_find("sum_") && !op_find(""), "rows that are not there");
    CHECK(op_in_yaml(op_find("dropout")) && op_in_yaml(op_find("param")),
          "graph files");
    CHECK(!op_in_yaml(op_find("pointwise")) && !op_in_yaml(op_find("linear_grad_w")),
          "IR");
}

static void check_print(const Op *op, const void *attrs, const char *want) {
    Str s = {0};
    attrs_print(&s, op, attrs);
    CHECK(!strcmp(s.s, want), "%s: got %s, want %s", op->name, s.s, want);
    str_free(&s);
}

static void test_print(Arena *a) {
    DropoutAttrs *d = attrs_new(a, &op_dropout);
    check_print(&op_dropout, d,
                "{p=0, each=element, rescale=true, batch=false, stream=0}");
    d->p = 0.1, d->each = EACH_MODULE;
    check_print(&op_dropout, d,
                "{p=0.1, each=module, rescale=true, batch=false, stream=0}");
    ReduceAttrs *r = attrs_new(a, &op_mean);
    check_print(&op_mean, r, "{over=[all], keep=false}");
    check_print(&op_part, attrs_new(a, &op_part), "{}"); /* YAML only: not in the IR */
    PointwiseAttrs p = {"x0 \"\\", BF16};
    check_print(&op_pointwise, &p, "{f=\"x0 \\\"\\\\\", dtype=bf16}");
    DropoutAttrs *e = attrs_new(a, &op_dropout);
    CHECK(!attrs_equal(&op_dropout, d, e), "different attributes are equal");
    *e = *d;
    CHECK(attrs_equal(&op_dropout, d, e), "equal attributes differ");
}

static bool set(Arena *a, const Op *op, void *attrs, const char *name, const char *text,
                Err *e) {
    return attr_parse(a, attr_find(op, name), attrs, text, e);
}

static void test_parse(Arena *a) {
    Err e = {0};
    ReduceAttrs *r = attrs_new(a, &op_mean);
    CHECK(set(a, &op_mean, r, "over", "[1, -2]", &e) && r->over.n == 2 &&
              r->over.v[1] == -2,
          "a list: %s", e.text);
    CHECK(set(a, &op_mean, r, "over", "2", &e) && r->over.n == 1 && r->over.v[0] == 2,
          "one number: %s", e.text);
    CHECK(set(a, &op_mean, r, "over", "[]", &e) && !r->over.n, "none: %s", e.text);
    CHECK(set(a, &op_mean, r, "over", "sample", &e) && r->over.v[0] == -LIST_WORD,
          "a word: %s", e.text);
    CHECK(set(a, &op_mean, r, "keep", "true", &e) && r->keep, "%s", e.text);
    PointwiseAttrs *p = attrs_new(a, &op_pointwise);
    CHECK(set(a, &op_pointwise, p, "f", "\"a\\\"b\\\\\\n\\r\\u0001\"", &e) &&
              !strcmp(p->f, "a\"b\\\n\r\x01"),
          "quoted: '%s'", p->f);
    CHECK(set(a, &op_pointwise, p, "f", "x0 + 1", &e) && !strcmp(p->f, "x0 + 1"),
          "bare");
    CHECK(set(a, &op_pointwise, p, "dtype", "f16", &e) && p->dtype == F16, "%s",
          e.text);
    DropoutAttrs *d = attrs_new(a, &op_dropout);
    CHECK(set(a, &op_dropout, d, "p", "1e-05", &e) && d->p == 1e-5, "%s", e.text);
}

static void test_parse_errors(Arena *a) {
    static const struct {
        const char *op, *attr, *text, *want;
    } cases[] = {
        {"dropout", "each", "elment", "did you mean 'element'?"},
        {"dropout", "p", "much", "'p': got 'much', want a number"},
        {"dropout", "rescale", "maybe", "want true or false"},
        {"draw", "below", "2.5", "'below': got '2.5', want an integer"},
        {"draw", "below", "1e300", "want an integer"},
        {"mean", "over", "[1, x]", "want one of sample, all"},
        {"mean", "over", "[1", "want a list"},
        {"view", "shape", "[1,2,3,4,5,6,7,8,9]", "at most 8"},
        {"cast", "to", "f99", "want a type"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        const Op *op = op_find(cases[i].op);
        Err e = {0};
        bool ok = set(a, op, attrs_new(a, op), cases[i].attr, cases[i].text, &e);
        CHECK(!ok && strstr(e.text, cases[i].want), "%s %s: got '%s', want '%s'",
              cases[i].op, cases[i].text, e.text, cases[i].want);
    }
}

/* ---- resolve ---- */

static Lang use(Graph *g, const Op *op, Id *in, int n_in, bool training) {
    Type key = type_of(I32, 1, (int64_t[]){8});
    Id rng = graph_find(g, "rng");
    if (rng == NO_ID) rng = graph_value(g, ROLE_SCALAR, key, "rng", loc_none());
    return (Lang){.g = g,
                  .path = "unet.a",
                  .attrs = attrs_new(g->arena, op),
                  .in = in,
                  .n_in = n_in,
                  .training = training,
                  .rng = rng,
                  .pass_on = NO_ID};
}

static void test_over(Arena *a) {
    static const struct {
        const char *over, *want;
    } cases[] = {{"sample", "{over=[1,2,3], keep=false}"},
                 {"all", "{over=[0,1,2,3], keep=false}"},
                 {"-1", "{over=[3], keep=false}"},
                 {"[2, -4]", "{over=[0,2], keep=false}"},
                 {"[]", "{over=[], keep=false}"}};
    Graph *g = graph_new(a, "g");
    Type t = type_of(F32, 4, (int64_t[]){2, 3, 4, 5});
    Id x = graph_value(g, ROLE_INPUT, t, "x", loc_none());
    Err e = {0};
    for (size_t i = 0; i < COUNT(cases); i++) {
        Lang l = use(g, &op_mean, &x, 1, true);
        bool ok = set(a, &op_mean, l.attrs, "over", cases[i].over, &e) &&
                  op_mean.resolve(&l, &e);
        CHECK(ok, "over %s: %s", cases[i].over, e.text);
        if (ok) check_print(&op_mean, l.attrs, cases[i].want);
    }
    Lang l = use(g, &op_mean, &x, 1, true);
    set(a, &op_mean, l.attrs, "over", "4", &e);
    CHECK(!op_mean.resolve(&l, &e) &&
              strstr(e.text, "axis 4, the value is f32[2,3,4,5]"),
          "got '%s'", e.text);
}

/* Dropout disappears where it does nothing; otherwise it gets its stream and the key. */
static void test_dropout(Arena *a) {
    for (int training = 0; training < 2; training++)
        for (int drops = 0; drops < 2; drops++) {
            Graph *g = graph_new(a, "g");
            Type t = type_of(F32, 2, (int64_t[]){2, 3});
            Id in[2] = {graph_value(g, ROLE_INPUT, t, "x", loc_none()), NO_ID};
            g->value[in[0]]->batch = true;
            Lang l = use(g, &op_dropout, in, 2, training);
            DropoutAttrs *d = l.attrs;
            d->p = drops ? 0.5 : 0;
            Err e = {0};
            CHECK(op_dropout.resolve(&l, &e), "%s", e.text);
            bool node = training && drops;
            CHECK((l.pass_on == NO_ID) == node, "training %d, p %g", training, d->p);
            if (node)
                CHECK(in[1] == l.rng && d->stream && d->batch, "key, stream, batch");
        }
}

static void test_yaml_forms(Arena *a) {
    Graph *g = graph_new(a, "g");
    Type t = type_of(F32, 3, (int64_t[]){2, 3, 8});
    Id x = graph_value(g, ROLE_INPUT, t, "x", loc_none());
    Err e = {0};
    Lang l = use(g, &op_part, &x, 1, true);
    *(PartAttrs *)l.attrs = (PartAttrs){1, 2};
    bool ok = op_part.resolve(&l, &e);
    CHECK(ok && type_at(g, l.pass_on)->dim[2] == 4, "part: %s", e.text);
    l = use(g, &op_transpose, &x, 1, true);
    ok = op_transpose.resolve(&l, &e);
    CHECK(ok && type_at(g, l.pass_on)->dim[2] == 3, "transpose: %s", e.text);
    l = use(g, &op_flatten_chunks, &x, 1, true);
    ok = op_flatten_chunks.resolve(&l, &e);
    CHECK(ok && type_at(g, l.pass_on)->rank == 2 &&
              type_at(g, l.pass_on)->dim[0] == 6 && g->value[l.pass_on]->batch,
          "flatten_chunks: %s", e.text);
    l = use(g, &op_part, &x, 1, true);
    *(PartAttrs *)l.attrs = (PartAttrs){0, 3};
    CHECK(!op_part.resolve(&l, &e) && strstr(e.text, "3 does not divide 8"), "got '%s'",
          e.text);
    Id in[2] = {NO_ID, x};
    Lang n = use(g, &op_normal, in, 2, true);
    g->value[x]->batch = true;
    Err none = {0};
    ok = op_normal.resolve(&n, &none);
    RandomAttrs *at = n.attrs;
    CHECK(ok && at->shape.n == 3 && at->shape.v[2] == 8 && at->batch && in[0] == n.rng,
          "normal like x: %s", none.text);
}

/* One row by itself: a constant folded in f64, a view, an update over its own memory. */
static void test_run(Arena *a) {
    Err e = {0};
    PointwiseAttrs at = {"x0 / 3", F64};
    Type t = type_of(F64, 1, (int64_t[]){2}), out_type;
    Sig s = {&op_pointwise, &at, &t, 1, &out_type, 1};
    double x[2] = {1, 2};
    Tensor in = {x, &t}, out;
    bool ok = op_pointwise.shape(&s, &e) && op_run(a, &s, &in, &out, &e);
    CHECK(ok && ((double *)out.data)[1] == 2.0 / 3, "%s", e.text);
    ShapeAttrs shape = {{2, {2, 1}}};
    Sig v = {&op_view, &shape, &t, 1, &out_type, 1};
    ok = op_view.shape(&v, &e) && op_run(a, &v, &in, &out, &e);
    CHECK(ok && out.type->rank == 2 && ((double *)out.data)[1] == 2, "%s", e.text);
    Type two[2] = {t, t};
    Sig w = {&op_assign, NULL, two, 2, &out_type, 1};
    Tensor both[2] = {{x, &t}, {(double[]){5, 6}, &t}};
    ok = op_assign.shape(&w, &e) && op_run(a, &w, both, &out, &e);
    CHECK(ok && ((double *)out.data)[1] == 6 && x[1] == 2,
          "assign must not reach its input");
}

int main(void) {
    Arena *a = arena_new();
    test_names();
    test_print(a);
    test_parse(a);
    test_parse_errors(a);
    test_over(a);
    test_dropout(a);
    test_yaml_forms(a);
    test_run(a);
    arena_free(a);
    return check_done("op_table");
}
