/* The pickle machine: every opcode it knows gives the value that Python gives, names are
 * sorted into known, opaque and refused. What must be refused: hostile_test.c. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "io/pickle.h"
#include "tests/hostile/pickles.h"

static Arena *arena;

static PickleValue read_it(const char *bytes, size_t n, bool strict, Err *e) {
    Pickle p = {0};
    *e = (Err){0};
    bool ok = pickle_read(arena, "test", bytes, n, strict, &p, e);
    CHECK(ok != e->set, "a failure without a message, or the other way round");
    CHECK(!ok || p.used == n, "%zu bytes used, want %zu", p.used, n);
    if (!ok) p.top.kind = 0xFF;
    return p.top;
}

static PickleValue value(const char *bytes, size_t n) {
    Err e;
    PickleValue v = read_it(bytes, n, false, &e);
    CHECK(!e.set, "%s", e.text);
    return v;
}

static void test_numbers(void) {
    static const struct {
        const char *bytes;
        size_t n;
        int64_t want;
    } rows[] = {
        {BYTES("K\377."), 255},
        {BYTES("M\1\2."), 513},
        {BYTES("J\376\377\377\377."), -2},
        {BYTES("J\377\377\377\177."), INT32_MAX},
        {BYTES("\212\0."), 0},
        {BYTES("\212\1\377."), -1},
        {BYTES("\212\2\377\0."), 255},
        {BYTES("\212\5\0\0\0\0\1."), INT64_C(1) << 32},
        {BYTES("\212\10\0\0\0\0\0\0\0\200."), INT64_MIN},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        PickleValue v = value(rows[i].bytes, rows[i].n);
        CHECK(v.kind == PICKLE_INT && v.i == rows[i].want, "row %zu: %lld, want %lld",
              i, (long long)v.i, (long long)rows[i].want);
    }
    PickleValue v = value(BYTES("G\277\320\0\0\0\0\0\0."));
    CHECK(v.kind == PICKLE_FLOAT && v.f == -0.25, "%g", v.f);
    v = value(BYTES("\212\11\0\0\0\0\0\0\0\0\1."));
    CHECK(v.kind == PICKLE_OPAQUE, "a number of 9 bytes is opaque");
    CHECK(value(BYTES("N.")).kind == PICKLE_NONE, "None");
    v = value(BYTES("\210."));
    CHECK(v.kind == PICKLE_BOOL && v.i, "True");
    v = value(BYTES("\211."));
    CHECK(v.kind == PICKLE_BOOL && !v.i, "False");
}

static void test_texts(void) {
    PickleValue v = value(BYTES("X\3\0\0\0abc."));
    CHECK(pickle_is(&v, "abc") && !pickle_is(&v, "ab"), "BINUNICODE");
    v = value(BYTES("U\2ab."));
    CHECK(pickle_is(&v, "ab"), "SHORT_BINSTRING");
    v = value(BYTES("\214\1a."));
    CHECK(pickle_is(&v, "a"), "SHORT_BINUNICODE");
    v = value(BYTES("X\0\0\0\0."));
    CHECK(pickle_is(&v, ""), "an empty text");
}

static void ints(const PickleValue *v, PickleKind kind, const int64_t *want,
                 uint32_t n) {
    CHECK(v->kind == kind && v->list->n == n, "kind %d, %u items", v->kind,
          v->kind == kind ? v->list->n : 0);
    for (uint32_t i = 0; v->kind == kind && i < n && i < v->list->n; i++)
        CHECK(v->list->item[i].kind == PICKLE_INT && v->list->item[i].i == want[i],
              "item %u", i);
}

static void test_containers(void) {
    const int64_t want[] = {1, 2, 3, 4};
    PickleValue v = value(BYTES("(K\1K\2K\3K\4t."));
    ints(&v, PICKLE_TUPLE, want, 4);
    v = value(BYTES("K\1K\2K\3\207."));
    ints(&v, PICKLE_TUPLE, want, 3);
    v = value(BYTES("K\1K\2\206."));
    ints(&v, PICKLE_TUPLE, want, 2);
    v = value(BYTES("](K\1K\2eK\3a."));
    ints(&v, PICKLE_LIST, want, 3);
    v = value(BYTES("\217(K\1K\2\220."));
    ints(&v, PICKLE_LIST, want, 2);
    v = value(BYTES("}(K\1K\2uK\3K\4s."));
    ints(&v, PICKLE_DICT, want, 4);
    v = value(BYTES("ccollections\nOrderedDict\n]](K\1K\2ea\205R."));
    ints(&v, PICKLE_DICT, want, 2);
    CHECK(value(BYTES(").")).list->n == 0, "an empty tuple");
    v = value(BYTES("}X\1\0\0\0aK\1sX\1\0\0\0aK\2s."));
    const PickleValue *last = pickle_get(&v, "a");
    CHECK(last && last->i == 2, "the later of two equal keys counts");
    CHECK(!pickle_get(&v, "b") && !pickle_get(last, "a"), "keys that are not there");
    /* a list in the memo is the same list: what is added later is in both */
    v = value(BYTES("}X\1\0\0\0a]q\1sX\1\0\0\0bh\1K\7as."));
    const PickleValue *list = pickle_get(&v, "a");
    CHECK(list && list->kind == PICKLE_LIST && list->list->n == 1, "a list in a dict");
}

/* pickle.dumps(["ab", "ab"], protocol=4) and protocol 2 */
static void test_memo(void) {
    PickleValue v = value(BYTES("\200\4\225\14\0\0\0\0\0\0\0]\224(\214\2ab\224h\1e."));
    CHECK(v.kind == PICKLE_LIST && v.list->n == 2 && pickle_is(&v.list->item[1], "ab"),
          "protocol 4");
    v = value(BYTES("\200\2]q\0(X\2\0\0\0abq\1h\1e."));
    CHECK(v.kind == PICKLE_LIST && v.list->n == 2 && pickle_is(&v.list->item[1], "ab"),
          "protocol 2");
    v = value(BYTES("\200\2Nr\5\0\0\0K\1\206j\5\0\0\0\206."));
    CHECK(v.kind == PICKLE_TUPLE && v.list->item[1].kind == PICKLE_NONE, "LONG_BINPUT");
}

/* Unknown callables swallow what they are given; strict reading refuses them. */
static void test_opaque(void) {
    static const struct {
        const char *bytes;
        size_t n;
    } rows[] = {
        {BYTES(
            "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(X\2\0\0\0f8K\0K\1tRtR.")},
        {BYTES("clightning\nThing\n)\201}X\1\0\0\0aK\1sb.")},
        {BYTES("clightning\nDict\n)R(X\1\0\0\0aK\1u.")},
        {BYTES("clightning\nList\n)R(K\1K\2e.")},
        {BYTES("\214\11lightning\214\5Thing\223)R.")},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        Err e;
        PickleValue v = read_it(rows[i].bytes, rows[i].n, false, &e);
        CHECK(!e.set && v.kind == PICKLE_OPAQUE, "row %zu: %s", i, e.text);
        read_it(rows[i].bytes, rows[i].n, true, &e);
        CHECK(e.set && strstr(e.text, "(strict reading)"), "row %zu: %s", i, e.text);
    }
    Err e;
    PickleValue v = read_it(BYTES(DICT(SOUND)), true, &e);
    CHECK(!e.set && v.kind == PICKLE_DICT, "tensors are strict enough: %s", e.text);
}

static void test_tensor(void) {
    PickleValue v = value(BYTES(DICT(TENSOR(F4, "K\1", "K\3K\1\206", "K\1K\1\206"))));
    const PickleValue *w = pickle_get(&v, "w");
    CHECK(w && w->kind == PICKLE_TENSOR, "a tensor");
    if (!w || w->kind != PICKLE_TENSOR) return;
    const PickleTensor *t = w->tensor;
    CHECK(t->type.dtype == F32 && t->type.rank == 2 && t->type.dim[0] == 3 &&
              t->stride[0] == 1 && t->offset == 1 && t->item_bytes == 4,
          "its numbers");
    CHECK(!strcmp(t->storage->key, "0") && t->storage->numel == 4, "its storage");
    /* a bfloat16 tensor in an untyped storage of 16 bytes */
    v = value(BYTES("\200\2}(" TEXT1(
        "w") "ctorch._utils\n_rebuild_tensor_v3\n((X\7\0\0\0storage"
             "ctorch.storage\nUntypedStorage\nX\1\0\0\0000X\3\0\0\0cpuK\20tQ"
             "K\0K\10\205K\1\205\211ccollections\nOrderedDict\n)Rctorch\nbfloat16\n"
             "tRu."));
    w = pickle_get(&v, "w");
    CHECK(w && w->kind == PICKLE_TENSOR && w->tensor->type.dtype == BF16, "version 3");
    v = value(BYTES("\200\2}(" TEXT1("w") "ctorch._utils\n_rebuild_parameter\n(" SOUND
                                          "\210ccollections\nOrderedDict\n)RtRu."));
    w = pickle_get(&v, "w");
    CHECK(w && w->kind == PICKLE_TENSOR, "a parameter is its tensor");
}

int main(void) {
    arena = arena_new();
    test_numbers();
    test_texts();
    test_containers();
    test_memo();
    test_opaque();
    test_tensor();
    arena_free(arena);
    return check_done("pickle");
}
