/* Reading safetensors: `u64 LE n | n bytes of JSON | data`.
 *
 * Every check of the reference implementation (0.4.5), and stricter where its text is
 * stricter than its code: a tensor named twice is refused. The header is checked whole
 * before any entry is handed out; an entry that was handed out lies inside the file.
 * Element types that no kernel reads (F8, I16, ...) are refused by name. */
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

enum { MOST_NAME = 4096, NO_DTYPE = DTYPES };

typedef struct DTypeName {
    const char *name;
    int bits;
    int dtype; /* NO_DTYPE: not read by this program */
} DTypeName;

/* Names and widths: safetensors' format text. BOOL is read as U8: same bytes. */
static const DTypeName dtypes[] = {
    {"F32", 32, F32},
    {"F16", 16, F16},
    {"BF16", 16, BF16},
    {"F64", 64, F64},
    {"I64", 64, I64},
    {"I32", 32, I32},
    {"U8", 8, U8},
    {"BOOL", 8, U8},
    {"I8", 8, NO_DTYPE},
    {"I16", 16, NO_DTYPE},
    {"U16", 16, NO_DTYPE},
    {"U32", 32, NO_DTYPE},
    {"U64", 64, NO_DTYPE},
    {"C64", 64, NO_DTYPE},
    {"F8_E5M2", 8, NO_DTYPE},
    {"F8_E4M3", 8, NO_DTYPE},
    {"F8_E8M0", 8, NO_DTYPE},
    {"F8_E4M3FNUZ", 8, NO_DTYPE},
    {"F8_E5M2FNUZ", 8, NO_DTYPE},
    {"F4", 4, NO_DTYPE},
    {"F6_E2M3", 6, NO_DTYPE},
    {"F6_E3M2", 6, NO_DTYPE},
};

typedef struct Range {
    uint64_t begin, end;
    int entry;
} Range;

typedef struct Parse {
    TensorFile *f;
    const char *data;
    uint64_t data_bytes;
    Range *range;
    Err *e;
} Parse;

/* A name from the file, fit for a message: cut, control characters replaced. */
static const char *shown(Arena *a, const char *name) {
    enum { MOST_SHOWN = 120 };
    size_t n = strlen(name);
    char *s = n > MOST_SHOWN ? arena_printf(a, "%.*s...", MOST_SHOWN, name)
                             : arena_strdup(a, name);
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    return s;
}

PRINTF(3, 4) static bool bad(const Parse *p, const char *name, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(p->e, "'%s': tensor '%s': %s", p->f->path, shown(p->f->arena, name),
                    text);
}

static bool read_dtype(const Parse *p, const char *name, json_t *j,
                       const DTypeName **out) {
    const char *word = json_string_value(j);
    if (!word) return bad(p, name, "'dtype' is missing or not a string");
    for (size_t i = 0; i < COUNT(dtypes); i++) {
        if (strcmp(dtypes[i].name, word)) continue;
        *out = &dtypes[i];
        if (dtypes[i].dtype != NO_DTYPE) return true;
        return bad(p, name,
                   "elements of type %s are not supported, want F32, F16 or BF16",
                   word);
    }
    return bad(p, name, "no element type '%s'", shown(p->f->arena, word));
}

/* Dimensions into t, and the bytes they stand for. */
static bool read_shape(const Parse *p, const char *name, json_t *j, const DTypeName *d,
                       Type *t, uint64_t *bytes) {
    if (!json_is_array(j)) return bad(p, name, "'shape' is missing or not a list");
    size_t rank = json_array_size(j);
    if (rank > MAX_RANK)
        return bad(p, name, "%zu dimensions are too many, at most %d", rank, MAX_RANK);
    t->dtype = (DType)d->dtype;
    t->rank = (int)rank;
    uint64_t count = 1;
    for (size_t i = 0; i < rank; i++) {
        json_t *x = json_array_get(j, i);
        if (!json_is_integer(x) || json_integer_value(x) < 0)
            return bad(p, name,
                       "'shape' holds something that is not a whole number from 0 up");
        t->dim[i] = json_integer_value(x);
        if (!mul_u64(count, (uint64_t)t->dim[i], &count) ||
            t->dim[i] > (INT64_C(1) << 47))
            return bad(p, name, "the shape is too large");
    }
    uint64_t bits;
    if (!mul_u64(count, (uint64_t)d->bits, &bits))
        return bad(p, name, "the shape is too large");
    *bytes = bits / 8;
    return true;
}

static bool read_offsets(const Parse *p, const char *name, json_t *j, Range *r) {
    json_t *begin = json_array_get(j, 0), *end = json_array_get(j, 1);
    if (json_array_size(j) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < 0)
        return bad(p, name,
                   "'data_offsets' is missing or not two whole numbers from 0 up");
    r->begin = (uint64_t)json_integer_value(begin);
    r->end = (uint64_t)json_integer_value(end);
    if (r->end < r->begin || r->end > p->data_bytes)
        return bad(p, name, "bytes %llu to %llu are outside the data, which has %llu",
                   (unsigned long long)r->begin, (unsigned long long)r->end,
                   (unsigned long long)p->data_bytes);
    return true;
}

static bool read_tensor(Parse *p, const char *name, json_t *j) {
    if (strlen(name) > MOST_NAME) return bad(p, name, "the name is too long");
    if (!json_is_object(j)) return bad(p, name, "its entry is not an object");
    const DTypeName *d = NULL;
    Type t = {0};
    uint64_t want = 0;
    Range *r = &p->range[p->f->n];
    if (!read_dtype(p, name, json_object_get(j, "dtype"), &d) ||
        !read_shape(p, name, json_object_get(j, "shape"), d, &t, &want) ||
        !read_offsets(p, name, json_object_get(j, "data_offsets"), r))
        return false;
    if (r->end - r->begin != want)
        return bad(p, name, "its shape needs %llu bytes, 'data_offsets' has %llu",
                   (unsigned long long)want, (unsigned long long)(r->end - r->begin));
    r->entry = p->f->n;
    p->f->entry[p->f->n++] =
        (TensorEntry){arena_strdup(p->f->arena, name), t, p->data + r->begin};
    return true;
}

static bool read_metadata(Parse *p, json_t *meta) {
    TensorFile *f = p->f;
    if (json_is_null(meta)) return true;
    if (!json_is_object(meta))
        return err_fail(p->e, "'%s': '__metadata__' is not an object", f->path);
    f->meta_key = NEW(f->arena, const char *, json_object_size(meta));
    f->meta_value = NEW(f->arena, const char *, json_object_size(meta));
    const char *key;
    json_t *value;
    json_object_foreach(meta, key, value) {
        if (!json_is_string(value))
            return err_fail(p->e, "'%s': metadata '%s' is not a string", f->path,
                            shown(f->arena, key));
        f->meta_key[f->n_meta] = arena_strdup(f->arena, key);
        f->meta_value[f->n_meta++] = arena_strdup(f->arena, json_string_value(value));
    }
    return true;
}

static int by_range(const void *a, const void *b) {
    const Range *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const TensorEntry *)a)->name, ((const TensorEntry *)b)->name);
}

/* The ranges, sorted, cover the data without gap, overlap or rest. */
static bool check_cover(Parse *p) {
    qsort(p->range, (size_t)p->f->n, sizeof *p->range, by_range);
    uint64_t at = 0;
    for (int i = 0; i < p->f->n; i++) {
        const Range *r = &p->range[i];
        if (r->begin != at)
            return bad(
                p, p->f->entry[r->entry].name,
                "its bytes begin at %llu, want %llu: the data has a hole or an overlap",
                (unsigned long long)r->begin, (unsigned long long)at);
        at = r->end;
    }
    return at == p->data_bytes ||
           err_fail(p->e, "'%s': the tensors have %llu bytes, the file has %llu",
                    p->f->path, (unsigned long long)at,
                    (unsigned long long)p->data_bytes);
}

static bool read_header(Parse *p, json_t *root) {
    TensorFile *f = p->f;
    if (!json_is_object(root))
        return err_fail(p->e, "'%s': the header is not a JSON object", f->path);
    f->entry = NEW(f->arena, TensorEntry, json_object_size(root));
    p->range = NEW(f->arena, Range, json_object_size(root));
    const char *name;
    json_t *j;
    json_object_foreach(root, name, j) {
        bool ok = strcmp(name, "__metadata__") ? read_tensor(p, name, j)
                                               : read_metadata(p, j);
        if (!ok) return false;
    }
    if (!check_cover(p)) return false;
    qsort(f->entry, (size_t)f->n, sizeof *f->entry, by_name);
    return true;
}

bool safetensors_parse(TensorFile *f, const void *bytes, size_t n, Err *e) {
    if (n < 8)
        return err_fail(e, "'%s' is too short for a safetensors file: %zu bytes",
                        f->path, n);
    const unsigned char *b = bytes;
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--) header = header << 8 | b[i];
    if (header > SAFETENSORS_MOST_HEADER)
        return err_fail(
            e, "'%s' is no safetensors file: a header of %llu bytes, at most %d",
            f->path, (unsigned long long)header, SAFETENSORS_MOST_HEADER);
    if (header > n - 8)
        return err_fail(e, "'%s' is cut off: a header of %llu bytes in a file of %zu",
                        f->path, (unsigned long long)header, n);
    json_error_t why;
    json_t *root =
        json_loadb((const char *)b + 8, header, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return err_fail(e, "'%s': the header is not valid JSON: %s", f->path,
                        shown(f->arena, why.text));
    Parse p = {f, (const char *)b + 8 + header, n - 8 - header, NULL, e};
    bool ok = read_header(&p, root);
    json_decref(root);
    return ok;
}

TensorFile *safetensors_open(const char *path, Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return NULL;
    Arena *a = arena_new();
    TensorFile *f = NEW(a, TensorFile, 1);
    f->arena = a;
    f->path = arena_strdup(a, path);
    f->map = map;
    f->map_bytes = n;
    if (safetensors_parse(f, map, n, e)) return f;
    tensors_close(f);
    return NULL;
}

void tensors_close(TensorFile *f) {
    if (!f) return;
    file_unmap(f->map, f->map_bytes);
    arena_free(f->arena);
}

void tensors_release(const TensorFile *f, const void *data, size_t n) {
    file_release(f->map, f->map_bytes, data, n);
}

const TensorEntry *tensors_find(const TensorFile *f, const char *name) {
    TensorEntry key = {.name = name};
    return f->n ? bsearch(&key, f->entry, (size_t)f->n, sizeof *f->entry, by_name)
                : NULL;
}

const char *tensors_meta(const TensorFile *f, const char *key) {
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta_key[i], key)) return f->meta_value[i];
    return NULL;
}
