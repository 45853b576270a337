/* The safetensors reader against hostile headers, and the writer against the reference
 * implementation: digests of what safetensors 0.5.3 (Python) wrote for the same tensors. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "io/file.h"
#include "io/lora_file.h"

static char folder[] = "/tmp/graphrun-safetensors-XXXXXX";
static char path_buffer[256];

static const char *in_folder(const char *name) {
    snprintf(path_buffer, sizeof path_buffer, "%s/%s", folder, name);
    return path_buffer;
}

/* A file's bytes from a header and `data` bytes of data; *n: how many. The block has
 * exactly that size, so that a sanitizer sees a read past it. */
static char *file_bytes(const char *header, size_t data, size_t *n) {
    size_t h = strlen(header);
    *n = 8 + h + data;
    char *b = calloc(1, *n);
    for (int i = 0; i < 8; i++) b[i] = (char)(h >> (8 * i));
    memcpy(b + 8, header, h);
    return b;
}

static TensorFile *file_new(void) {
    Arena *a = arena_new();
    TensorFile *f = NEW(a, TensorFile, 1);
    f->arena = a;
    f->path = "hostile.safetensors";
    return f;
}

#define T(name, dtype, shape, range)                                                   \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                           \
    ",\"data_offsets\":" range "}"

/* header, bytes of data, what the message must say (NULL: accepted) */
static const struct {
    const char *header;
    size_t data;
    const char *message;
} headers[] = {
    {"{}", 0, NULL},
    {" {} ", 0, NULL},
    {"{\"__metadata__\":null}", 0, NULL},
    {"{" T("a", "F32", "[]", "[0,4]") "}", 4, NULL},
    {"{" T("a", "F16", "[0,7]", "[0,0]") "}", 0, NULL},
    {"{" T("a", "U8", "[1]", "[0,1]") "," T("b", "F32", "[1]", "[1,5]") "}", 5, NULL},
    {"{" T("b", "U8", "[2]", "[2,4]") "," T("a", "U8", "[2]", "[0,2]") "}", 4, NULL},
    {"{\"a\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":[]}}", 1,
     NULL},
    {"{" T("a", "F32", "[]", "[0,4]"), 4, "not valid JSON"},
    {"[]", 0, "not a JSON object"},
    {"{\"a\":\"\xff\"}", 0, "not valid JSON"},
    {"", 0, "not valid JSON"},
    {"{" T("a", "U8", "[1]", "[0,1]") "," T("a", "U8", "[1]", "[1,2]") "}", 2,
     "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}",
     1, "duplicate"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "metadata 'k' is not a string"},
    {"{\"__metadata__\":[]}", 0, "'__metadata__' is not an object"},
    {"{\"a\":7}", 0, "its entry is not an object"},
    {"{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "'dtype' is missing"},
    {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "'shape' is missing"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 1, "'data_offsets' is missing"},
    {"{" T("a", "f32", "[]", "[0,4]") "}", 4, "no element type 'f32'"},
    {"{" T("a", "F8_E4M3", "[4]", "[0,4]") "}", 4, "F8_E4M3 are not supported"},
    {"{" T("a", "U8", "[-1]", "[0,1]") "}", 1, "'shape' holds"},
    {"{" T("a", "U8", "[1.0]", "[0,1]") "}", 1, "'shape' holds"},
    {"{" T("a", "U8", "[1,1,1,1,1,1,1]", "[0,1]") "}", 1, "7 dimensions are too many"},
    {"{" T("a", "U8", "[4294967296,4294967296,4294967296]", "[0,1]") "}", 1,
     "too large"},
    {"{" T("a", "U8", "[4294967296,0,4294967296,4294967296]", "[0,0]") "}", 0, NULL},
    {"{" T("a", "F64", "[288230376151711744]", "[0,0]") "}", 0, "too large"},
    {"{" T("a", "U8", "[99999999999999999999]", "[0,1]") "}", 1, "not valid JSON"},
    {"{" T("a", "U8", "[1]", "[0]") "}", 1, "'data_offsets' is missing or not two"},
    {"{" T("a", "U8", "[1]", "[0,1,2]") "}", 1, "'data_offsets' is missing or not two"},
    {"{" T("a", "U8", "[1]", "[-1,0]") "}", 1, "'data_offsets' is missing or not two"},
    {"{" T("a", "U8", "[1]", "[1,0]") "}", 1, "bytes 1 to 0 are outside"},
    {"{" T("a", "U8", "[9]", "[0,9]") "}", 8,
     "bytes 0 to 9 are outside the data, which has 8"},
    {"{" T("a", "F32", "[1]", "[0,8]") "}", 8, "needs 4 bytes, 'data_offsets' has 8"},
    {"{" T("a", "F64", "[1099511627776,1048576]", "[0,0]") "}", 0, "too large"},
    {"{" T("a", "F32", "[2]", "[0,4]") "}", 4, "needs 8 bytes, 'data_offsets' has 4"},
    {"{" T("a", "U8", "[1]", "[1,2]") "}", 2, "begin at 1, want 0"},
    {"{" T("a", "U8", "[1]", "[0,1]") "," T("b", "U8", "[1]", "[2,3]") "}", 3,
     "want 1"},
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[1,3]") "}", 3,
     "want 2"},
    {"{" T("a", "U8", "[2]", "[0,2]") "," T("b", "U8", "[2]", "[0,2]") "}", 2,
     "want 2"},
    {"{" T("a", "U8", "[1]", "[0,1]") "}", 2,
     "the tensors have 1 bytes, the file has 2"},
    {"{" T("\\u001b[31m", "U8", "[9]", "[0,1]") "}", 1, "tensor '?[31m'"},
    {"{" T("a\\u0000b", "U8", "[1]", "[0,1]") "}", 1, "not valid JSON"},
};

static void test_headers(void) {
    for (size_t i = 0; i < COUNT(headers); i++) {
        size_t n;
        char *b = file_bytes(headers[i].header, headers[i].data, &n);
        TensorFile *f = file_new();
        Err e = {0};
        bool ok = safetensors_parse(f, b, n, &e), want = !headers[i].message;
        CHECK(ok == want, "case %zu %s: %s", i, headers[i].header,
              e.set ? e.text : "accepted");
        bool says = !e.set || want || strstr(e.text, headers[i].message);
        CHECK(says, "case %zu: got '%s', want '%s'", i, e.text, headers[i].message);
        CHECK(!e.set ||
                  (e.code == EXIT_FAILED && strstr(e.text, "hostile.safetensors")),
              "case %zu: exit code %d, text '%s'", i, e.code, e.text);
        tensors_close(f);
        free(b);
    }
}

static void test_lengths(void) {
    const struct {
        size_t n;
        uint64_t header;
        const char *message;
    } files[] = {{0, 0, "too short"},
                 {7, 0, "too short"},
                 {8, 100000001, "at most 100000000"},
                 {8, UINT64_MAX, "at most 100000000"},
                 {16, 9, "is cut off"},
                 {16, 8, "not valid JSON"}};
    for (size_t i = 0; i < COUNT(files); i++) {
        char *b = calloc(1, files[i].n + 1);
        for (size_t k = 0; k < 8 && k < files[i].n; k++)
            b[k] = (char)(files[i].header >> (8 * k));
        TensorFile *f = file_new();
        Err e = {0};
        bool ok = safetensors_parse(f, b, files[i].n, &e);
        CHECK(!ok && strstr(e.text, files[i].message), "file %zu: '%s'", i, e.text);
        tensors_close(f);
        free(b);
    }
    Err e = {0};
    CHECK(!safetensors_open("/tmp", &e) && strstr(e.text, "not a regular file"), "%s",
          e.text);
    e = (Err){0};
    CHECK(!safetensors_open(in_folder("none"), &e) && strstr(e.text, "No such file"),
          "%s", e.text);
}

/* ---- writing ---- */
static void *pattern(size_t n, int k) {
    unsigned char *b = malloc(n + 1);
    for (size_t i = 0; i < n; i++)
        b[i] = (unsigned char)(i * 31 + (size_t)k * 7 + (i >> 8));
    return b;
}

static TensorOut tensor(const char *name, DType t, int rank, int64_t d0, int64_t d1,
                        int k) {
    TensorOut out = {name, type_of(t, rank, (int64_t[]){d0, d1}), NULL};
    out.data = pattern(type_bytes(&out.type), k);
    return out;
}

enum { TENSORS = 11 };
static void tensors(TensorOut t[TENSORS]) {
    t[0] = tensor("b.10", F32, 2, 3, 5, 1);
    t[1] = tensor("b.2", F32, 1, 2, 0, 2);
    t[2] = tensor("z.alpha", I64, 0, 0, 0, 3);
    t[3] = tensor("a.alpha", F32, 0, 0, 0, 4);
    t[4] = tensor("big.lora_down.weight", F32, 2, 64, 4500, 5);
    t[5] = tensor("half", F16, 2, 7, 3, 6);
    t[6] = tensor("bytes", U8, 1, 9, 0, 7);
    t[7] = tensor("ids", I32, 1, 4, 0, 8);
    t[8] = tensor("empty", F16, 2, 0, 3, 9);
    t[9] = tensor("d", F64, 1, 2, 0, 10);
    t[10] = tensor("brain", BF16, 1, 5, 0, 11);
}

static void tensors_free(TensorOut t[TENSORS]) {
    for (int i = 0; i < TENSORS; i++) free((void *)t[i].data);
}

static void test_reference_bytes(void) {
    TensorOut t[TENSORS];
    tensors(t);
    const char *path = in_folder("ours.safetensors");
    Err e = {0};
    CHECK(safetensors_write(path, t, TENSORS, &(Meta){"ss_network_dim", "4"}, 1, &e),
          "%s", e.text);
    char old[9] = "", full[65] = "";
    CHECK(model_hashes(path, old, full, &e), "%s", e.text);
    const char *want =
        "c823a4e744489ac485e48378510b0b3ac0c80b235f48793684ccc4db38616d4c";
    CHECK(!strcmp(full, want), "file hash %s, want %s", full, want);
    CHECK(!strcmp(old, "3efd2e28"), "old hash %s, want 3efd2e28", old);
    TensorFile *f = safetensors_open(path, &e);
    CHECK(f && f->n == TENSORS && f->n_meta == 1, "%s", e.text);
    for (int i = 0; f && i < TENSORS; i++) {
        const TensorEntry *x = tensors_find(f, t[i].name);
        CHECK(x && type_equal(&x->type, &t[i].type), "tensor %s", t[i].name);
        CHECK(x && !memcmp(x->data, t[i].data, type_bytes(&x->type)), "bytes of %s",
              t[i].name);
    }
    CHECK(f && !tensors_find(f, "b.3"), "a tensor that is not there was found");
    tensors_close(f);
    tensors_free(t);
}

static const Meta lora_meta[] = {{"ss_network_dim", "4"},
                                 {"modelspec.title", "a \"b\"\n\\ é"},
                                 {"ss_tag", "{\"x\": 1}"},
                                 {"sd", "x"}};

static void test_lora_hashes(void) {
    TensorOut t[TENSORS];
    tensors(t);
    char model[65] = "", old[9] = "";
    Err e = {0};
    const char *want =
        "15c685a4a452f5cdc7112024b47ade7870b5f7bc9d8df918cc3fb331c2a918da";
    CHECK(lora_hashes(t, TENSORS, lora_meta, 4, model, old, &e), "%s", e.text);
    CHECK(!strcmp(model, want), "model hash %s, want %s", model, want);
    CHECK(!strcmp(old, "46b5ada5"), "legacy hash %s, want 46b5ada5", old);
    CHECK(lora_hashes(t, TENSORS, NULL, 0, model, old, &e), "%s", e.text);
    CHECK(!strcmp(old, "d1bb9ad9"), "legacy hash without metadata %s, want d1bb9ad9",
          old);
    tensors_free(t);
}

static const char *meta_value(const TensorFile *f, const char *key, int *times) {
    const char *found = NULL;
    *times = 0;
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta_key[i], key)) found = f->meta_value[i], ++*times;
    return found;
}

static void test_lora_file(void) {
    TensorOut t[TENSORS];
    tensors(t);
    const Meta stale[] = {{"sshs_model_hash", "old"},
                          {"ss_network_dim", "4"},
                          {"sshs_legacy_hash", "old"}};
    const char *path = in_folder("lora.safetensors");
    Err e = {0};
    CHECK(lora_file_write(path, t, TENSORS, LORA_KEEP, stale, 3, &e), "%s", e.text);
    TensorFile *f = safetensors_open(path, &e);
    int times = 0;
    const char *hash = f ? meta_value(f, "sshs_model_hash", &times) : NULL;
    const char *want =
        "15c685a4a452f5cdc7112024b47ade7870b5f7bc9d8df918cc3fb331c2a918da";
    CHECK(hash && times == 1 && !strcmp(hash, want), "sshs_model_hash %s",
          hash ? hash : "-");
    hash = f ? meta_value(f, "sshs_legacy_hash", &times) : NULL;
    CHECK(hash && times == 1 && !strcmp(hash, "3efd2e28"), "sshs_legacy_hash %s",
          hash ? hash : "-");
    tensors_close(f);

    const float x[3] = {1.0f, -0.333251953125f, 65504.0f};
    const int64_t id = 7;
    TensorOut two[] = {{"m.lora_up.weight", type_of(F32, 1, (int64_t[]){3}), x},
                       {"m.alpha", type_scalar(I64), &id}};
    CHECK(lora_file_write(path, two, 2, F16, NULL, 0, &e), "%s", e.text);
    f = safetensors_open(path, &e);
    const TensorEntry *up = f ? tensors_find(f, "m.lora_up.weight") : NULL;
    CHECK(up && up->type.dtype == F16, "not stored as f16");
    const uint16_t half[3] = {0x3C00, 0xB555, 0x7BFF};
    CHECK(up && !memcmp(up->data, half, sizeof half), "wrong halves");
    const TensorEntry *alpha = f ? tensors_find(f, "m.alpha") : NULL;
    CHECK(alpha && alpha->type.dtype == F16, "alpha is cast as well");
    CHECK(alpha && !memcmp(alpha->data, &(uint16_t){0x4700}, 2), "alpha is not 7");
    tensors_close(f);
    tensors_free(t);
}

static void test_write_refuses(void) {
    const float x = 1;
    TensorOut twice[] = {{"a", type_scalar(F32), &x},
                         {"b", type_scalar(F32), &x},
                         {"a", type_scalar(I32), &x}};
    const char *path = in_folder("refused.safetensors");
    Err e = {0};
    CHECK(!safetensors_write(path, twice, 3, NULL, 0, &e) &&
              strstr(e.text, "'a' is given twice"),
          "%s", e.text);
    e = (Err){0};
    TensorOut bad = {"\xc3(", type_scalar(F32), &x};
    CHECK(!safetensors_write(path, &bad, 1, NULL, 0, &e) && strstr(e.text, "UTF-8"),
          "%s", e.text);
    e = (Err){0};
    CHECK(!safetensors_write(path, twice, 1, &(Meta){"k", "\xed\xa0\x80"}, 1, &e),
          "accepted");
    CHECK(access(path, F_OK), "a refused file is there");
    e = (Err){0};
    CHECK(!safetensors_write("/nowhere/at/all", twice, 1, NULL, 0, &e) &&
              e.code == EXIT_FAILED,
          "%s", e.text);
}

static bool make_fails(void *ctx, int index, int64_t first, int64_t n, void *buf,
                       Err *e) {
    (void)index, (void)first;
    memset(buf, 0, (size_t)n * 4);
    return ++*(int *)ctx < 3 || err_fail(e, "made to fail");
}

/* An interrupted write leaves what was there, and nothing beside it. */
static void test_whole_or_not(void) {
    const char *path = in_folder("kept.safetensors");
    Err e = {0};
    CHECK(file_write(path, "old", 3, &e), "%s", e.text);
    int calls = 0;
    TensorOut big = {"big", type_of(F32, 1, (int64_t[]){1 << 20}), NULL};
    bool ok = safetensors_write_made(path, &big, 1, NULL, 0,
                                     &(TensorFill){&calls, make_fails}, &e);
    CHECK(!ok && strstr(e.text, "made to fail"), "%s", e.text);
    void *map;
    size_t n;
    e = (Err){0};
    CHECK(file_map(path, &map, &n, &e) && n == 3 && !memcmp(map, "old", 3),
          "the old file is gone");
    file_unmap(map, n);
    char command[300];
    snprintf(command, sizeof command, "test -z \"$(find %s -name '*.tmp')\"", folder);
    CHECK(!system(command), "a temporary file was left");
}

/* Read a file of the reference writer, write it again: every byte, metadata included. */
static void test_rewrite(const char *golden) {
    Err e = {0};
    TensorFile *f = safetensors_open(golden, &e);
    CHECK(f && f->n > 0, "%s", e.text);
    if (!f) return;
    TensorOut *t = calloc((size_t)f->n, sizeof *t);
    Meta *meta = calloc((size_t)f->n_meta + 1, sizeof *meta);
    for (int i = 0; i < f->n; i++) /* backwards: the writer sorts, not the caller */
        t[i] = (TensorOut){f->entry[f->n - 1 - i].name, f->entry[f->n - 1 - i].type,
                           f->entry[f->n - 1 - i].data};
    for (int i = 0; i < f->n_meta; i++)
        meta[i] = (Meta){f->meta_key[i], f->meta_value[i]};
    const char *path = in_folder("again.safetensors");
    CHECK(safetensors_write(path, t, f->n, meta, f->n_meta, &e), "%s", e.text);
    void *map;
    size_t n;
    CHECK(file_map(path, &map, &n, &e), "%s", e.text);
    CHECK(n == f->map_bytes && !memcmp(map, f->map, n),
          "%s: other bytes (%zu, want %zu)", golden, n, f->map_bytes);
    file_unmap(map, n);
    free(t);
    free(meta);
    tensors_close(f);
}

static void test_folders(void) {
    Err e = {0};
    CHECK(folder_make(in_folder("x/y//z/"), &e) && folder_exists(in_folder("x/y/z")),
          "%s", e.text);
    CHECK(folder_make(in_folder("x/y/z"), &e), "%s", e.text);
    CHECK(file_write(in_folder("x/file"), "", 0, &e), "%s", e.text);
    CHECK(!folder_make(in_folder("x/file/y"), &e) && e.code == EXIT_FAILED,
          "a file is no folder");
}

int main(int argc, char **argv) {
    if (!mkdtemp(folder)) return 1;
    test_headers();
    test_lengths();
    test_reference_bytes();
    test_lora_hashes();
    test_lora_file();
    test_write_refuses();
    test_whole_or_not();
    test_rewrite("tests/golden/nano/models.safetensors");
    test_rewrite("tests/golden/nano/lierla.safetensors");
    test_rewrite("tests/golden/sd2/nano-sd2.safetensors");
    for (int i = 1; i < argc; i++) test_rewrite(argv[i]);
    test_folders();
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(!system(command), "cannot remove %s", folder);
    return check_done("safetensors");
}
