/* Files of torch.save: what PyTorch itself wrote (golden/torch) is read to the last number,
 * what is written comes back, is laid out as loaders want it, and zip64 is understood. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "io/file.h"
#include "io/torch_file.h"
#include "io/zip.h"
#include "tests/hostile/build.h"
#include "tests/hostile/pickles.h"

#define GOLDEN "tests/golden/torch/"

static char folder[] = "/tmp/graphrun-torch-XXXXXX";
static Arena *paths;

static const char *in_folder(const char *name) {
    return arena_printf(paths, "%s/%s", folder, name);
}

/* ---- PyTorch's files ---- */
static void numbers(const TensorFile *f, const char *name, DType dtype, int rank,
                    const int64_t *dim, const double *want) {
    const TensorEntry *x = tensors_find(f, name);
    Type t = type_of(dtype, rank, dim);
    CHECK(x && type_equal(&x->type, &t), "%s: '%s' is %s, want %s", f->path, name,
          x ? type_text(paths, &x->type) : "missing", type_text(paths, &t));
    if (!x || !type_equal(&x->type, &t)) return;
    for (int64_t i = 0; i < type_count(&t); i++) {
        double got;
        convert(&got, F64, (const char *)x->data + (size_t)i * dtype_size(dtype), dtype,
                1);
        CHECK(got == want[i], "%s: '%s'[%lld] is %g, want %g", f->path, name,
              (long long)i, got, want[i]);
    }
}

static void check_golden(const char *path, bool wrapped) {
    static const double x[] = {0, 1, 2, 3, 4, 5}, across[] = {0, 3, 1, 4, 2, 5},
                        minus[] = {-1.5, -1.5, -1.5, -1.5}, scalar[] = {2.5};
    double positions[77];
    for (int i = 0; i < 77; i++) positions[i] = i;
    Err e = {0};
    TensorFile *f = tensors_open(path, &e);
    CHECK(f && f->n == 11, "%s: %s", path, e.text);
    if (!f) return;
    numbers(f, "matrix", F32, 2, (int64_t[]){2, 3}, x);
    numbers(f, "transposed", F32, 2, (int64_t[]){3, 2}, across);
    numbers(f, "half", F16, 1, (int64_t[]){6}, x);
    numbers(f, "bfloat", BF16, 1, (int64_t[]){3}, x + 2);
    numbers(f, "double", F64, 1, (int64_t[]){6}, x);
    numbers(f, "int", I32, 1, (int64_t[]){6}, x);
    numbers(f, "byte", U8, 1, (int64_t[]){6}, x);
    numbers(f, "long", I64, 2, (int64_t[]){1, 77}, positions);
    numbers(f, "parameter", F32, 4, (int64_t[]){2, 1, 1, 2}, minus);
    numbers(f, "scalar", F32, 0, NULL, scalar);
    numbers(f, "empty", F32, 2, (int64_t[]){0, 3}, NULL);
    CHECK(f->n_note == 1 && strstr(f->note[0], "'short' is left out"), "%s: %d notes",
          path, f->n_note);
    CHECK(f->wrapped == wrapped && f->epoch == (wrapped ? 3 : 0) &&
              f->global_step == (wrapped ? 70000 : 0),
          "%s: epoch %lld, step %lld", path, (long long)f->epoch,
          (long long)f->global_step);
    tensors_close(f);
}

static void test_golden(void) {
    check_golden(GOLDEN "plain.pt", false);
    check_golden(GOLDEN "deflated.pt", false);
    check_golden(GOLDEN "old-form.pt", true);
    check_golden(GOLDEN "lightning.ckpt", true);
    check_golden(GOLDEN "lightning-old-form.ckpt", true);
    Err e = {0};
    CHECK(!torch_open(GOLDEN "lightning.ckpt", true, &e) &&
              strstr(e.text, "ModelCheckpoint', which is not needed"),
          "strict reading: %s", e.text);
    e = (Err){0};
    TensorFile *f = torch_open(GOLDEN "plain.pt", true, &e);
    CHECK(f, "strict reading of tensors alone: %s", e.text);
    tensors_close(f);
}

/* ---- our files ---- */
static const double some[6] = {0.5, -1, 2, 3, 4, 1e30};
static const int64_t whole[6] = {-1, 0, 1, 2, 3, INT64_MAX};
static const uint8_t bytes6[6] = {0, 1, 2, 3, 4, 255};
static const uint16_t half6[6] = {0x3c00, 0xbc00, 0, 0x7bff, 1, 0x8000};

static TensorOut outs[] = {
    {"z.f64", {F64, 2, {3, 2}}, some},        {"a.f32", {F32, 1, {12}}, some},
    {"b.f16", {F16, 4, {1, 6, 1, 1}}, half6}, {"c.bf16", {BF16, 3, {1, 2, 3}}, half6},
    {"d.i64", {I64, 1, {6}}, whole},          {"e.i32", {I32, 2, {2, 3}}, whole},
    {"f.u8", {U8, 1, {6}}, bytes6},           {"g.scalar", {F32, 0, {0}}, some},
    {"h.empty", {F32, 2, {0, 7}}, some},
};

static void check_written(const char *path, const TorchTop *top) {
    Err e = {0};
    CHECK(torch_write_made(path, outs, COUNT(outs), top, NULL, &e), "%s", e.text);
    TensorFile *f = torch_open(path, true, &e);
    CHECK(f && f->n == (int)COUNT(outs), "%s", e.text);
    if (!f) return;
    CHECK(f->wrapped == (top != NULL) &&
              (!top || (f->epoch == top->epoch && f->global_step == top->global_step)),
          "%s: epoch %lld, step %lld", path, (long long)f->epoch,
          (long long)f->global_step);
    for (size_t i = 0; i < COUNT(outs); i++) {
        const TensorEntry *x = tensors_find(f, outs[i].name);
        CHECK(x && type_equal(&x->type, &outs[i].type) &&
                  !memcmp(x->data, outs[i].data, type_bytes(&x->type)),
              "'%s' did not come back", outs[i].name);
        CHECK(!x || ((const char *)x->data - (const char *)f->map) % 64 == 0,
              "'%s' is not aligned", outs[i].name);
    }
    tensors_close(f);
}

/* Only the names that the strictest loaders accept, all stored. */
static void check_layout(const char *path) {
    void *map;
    size_t n;
    Err e = {0};
    CHECK(file_map(path, &map, &n, &e), "%s", e.text);
    Zip z = {.arena = paths, .path = path};
    CHECK(zip_parse(&z, map, n, &e) && z.n == (int)COUNT(outs) + 2, "%d entries: %s",
          z.n, e.text);
    for (int i = 0; i < z.n; i++) {
        const char *name = z.entry[i].name;
        bool known = !strcmp(name, "archive/data.pkl") ||
                     !strcmp(name, "archive/version") ||
                     (!strncmp(name, "archive/data/", 13) &&
                      strspn(name + 13, "0123456789") == strlen(name + 13));
        CHECK(known && !z.entry[i].deflated, "entry '%s'", name);
        CHECK(z.entry[i].crc == crc32(0, z.entry[i].data, (uInt)z.entry[i].bytes),
              "CRC of '%s'", name);
    }
    const ZipEntry *version = zip_find(&z, "archive/version");
    CHECK(version && version->bytes == 2 && !memcmp(version->data, "3\n", 2),
          "version");
    file_unmap(map, n);
}

static void test_writing(void) {
    check_written(in_folder("plain.pt"), NULL);
    check_layout(in_folder("plain.pt"));
    check_written(in_folder("wrapped.ckpt"), &(TorchTop){3, 70000});
    check_written(in_folder("wrapped.ckpt"), &(TorchTop){255, 1234});
    check_written(in_folder("wrapped.ckpt"), &(TorchTop){-1, INT64_C(1) << 40});
    Err e = {0};
    TensorOut twice[] = {outs[0], outs[0]};
    CHECK(!torch_write_made(in_folder("wrapped.ckpt"), twice, 2, NULL, NULL, &e) &&
              strstr(e.text, "given twice"),
          "%s", e.text);
    e = (Err){0};
    TensorFile *f = torch_open(in_folder("wrapped.ckpt"), false, &e);
    CHECK(f && f->global_step == INT64_C(1) << 40, "the old file is still there");
    tensors_close(f);
    e = (Err){0};
    CHECK(!torch_write_made(in_folder("none/x.pt"), outs, 1, NULL, NULL, &e) && e.set,
          "a folder that is not there");
}

typedef struct Fill {
    int calls;
    bool fail;
} Fill;

static bool make(void *ctx, int index, int64_t first, int64_t n, void *buf, Err *e) {
    Fill *f = ctx;
    f->calls++;
    if (f->fail) return err_fail(e, "no more of %d", index);
    for (int64_t i = 0; i < n; i++) ((float *)buf)[i] = (float)(first + i);
    return true;
}

static void test_made(void) {
    enum { N = 700001 };
    TensorOut t = {"w", type_of(F32, 1, (int64_t[]){N}), NULL};
    Fill fill = {0};
    Err e = {0};
    const char *path = in_folder("made.pt");
    CHECK(torch_write_made(path, &t, 1, NULL, &(TensorFill){&fill, make}, &e), "%s",
          e.text);
    TensorFile *f = torch_open(path, true, &e);
    CHECK(f && fill.calls > 1, "%s", e.text);
    if (f)
        for (int i = 0; i < N; i += 9999)
            CHECK(((const float *)f->entry->data)[i] == (float)i, "element %d", i);
    tensors_close(f);
    fill.fail = true;
    CHECK(!torch_write_made(path, &t, 1, NULL, &(TensorFill){&fill, make}, &e),
          "failure");
    e = (Err){0};
    f = torch_open(path, true, &e);
    CHECK(f && f->n == 1, "the old file is still there: %s", e.text);
    tensors_close(f);
}

/* Sizes, offset and counts in zip64 fields, as in files above 4 GiB. */
static void test_zip64(void) {
    static const float x[4] = {1, 2, 3, 4};
    static const char pickle[] = DICT(SOUND);
    Part part[] = {part_of("a/data.pkl", pickle, sizeof pickle - 1),
                   part_of("a/data/0", x, sizeof x)};
    Str s = {0}, t = {0};
    Places at;
    zip_of(&s, part, 2, &at);
    size_t n_name = strlen(part[1].name), from = at.central[0];
    str_addn(&t, s.s, at.central[1] + 46 + n_name);
    patch(&t, at.central[1] + 20, 0xFFFFFFFF, 4);
    patch(&t, at.central[1] + 24, 0xFFFFFFFF, 4);
    patch(&t, at.central[1] + 30, 28, 2);
    patch(&t, at.central[1] + 42, 0xFFFFFFFF, 4);
    put(&t, 1, 2);
    put(&t, 24, 2);
    put(&t, sizeof x, 8);
    put(&t, sizeof x, 8);
    put(&t, at.local[1], 8);
    size_t end = t.n;
    put(&t, 0x06064b50, 4);
    put(&t, 44, 8);
    put(&t, 45, 2);
    put(&t, 45, 2);
    put(&t, 0, 8);
    put(&t, 2, 8);
    put(&t, 2, 8);
    put(&t, end - from, 8);
    put(&t, from, 8);
    put(&t, 0x07064b50, 4);
    put(&t, 0, 4);
    put(&t, end, 8);
    put(&t, 1, 4);
    put(&t, 0x06054b50, 4);
    put(&t, 0, 4);
    put(&t, 0xFFFFFFFF, 4);
    put(&t, 0xFFFFFFFF, 4);
    put(&t, 0xFFFFFFFF, 4);
    put(&t, 0, 2);
    Err e = {0};
    const char *path = in_folder("64.pt");
    CHECK(file_write(path, t.s, t.n, &e), "%s", e.text);
    TensorFile *f = tensors_open(path, &e);
    CHECK(f && f->n == 1 && !memcmp(f->entry->data, x, sizeof x), "%s", e.text);
    tensors_close(f);
    patch(&t, end + 76 - 20 + 8, end - 1, 8); /* the locator */
    CHECK(file_write(path, t.s, t.n, &e), "%s", e.text);
    f = tensors_open(path, &e);
    CHECK(!f && strstr(e.text, "zip64 end record is not at"), "%s", e.text);
    tensors_close(f);
    str_free(&s);
    str_free(&t);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    paths = arena_new();
    test_golden();
    test_writing();
    test_made();
    test_zip64();
    CHECK(!system(arena_printf(paths, "rm -r %s", folder)), "cannot remove %s", folder);
    arena_free(paths);
    return check_done("torch_file");
}
