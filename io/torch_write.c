/* Writing what torch.load reads: a zip of stored entries.
 *
 * Only data.pkl, data/N and version, because some loaders refuse everything else. The CRC
 * and, for streams, the sizes are known when an entry has been written, so they stand in a
 * data descriptor behind it and in the central directory (bit 3), as PyTorch itself does.
 * Every entry begins at a multiple of 64 bytes; the gap is an extra field "FB". */
#include "io/torch_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/file.h"

enum {
    ALIGN = 64,
    FLAGS = 1 << 3 | 1 << 11, /* sizes follow the data; names are UTF-8 */
    VERSION64 = 45,           /* of the zip format: zip64 */
    DOS_DATE_1980 = 0x0021,
    PIECE_BYTES = 1 << 20,
};
static const char folder[] = "archive/";
static const uint64_t small = UINT32_MAX; /* from here on a number needs zip64 */

/* Names: torch/storage.py */
static const char *const storage_names[DTYPES] = {
    [F64] = "DoubleStorage",    [F32] = "FloatStorage", [F16] = "HalfStorage",
    [BF16] = "BFloat16Storage", [I64] = "LongStorage",  [I32] = "IntStorage",
    [U8] = "ByteStorage",
};

typedef struct Done { /* an entry that is written */
    const char *name;
    uint64_t header, bytes;
    uint32_t crc;
} Done;

typedef struct Writer {
    Arena *arena;
    FileOut *out;
    uint64_t at;
    Done *done;
    int n, cap;
    Err *e;
} Writer;

/* ---- numbers ---- */
static void add16(Str *s, uint64_t x) {
    char b[2] = {(char)x, (char)(x >> 8)};
    str_addn(s, b, 2);
}
static void add32(Str *s, uint64_t x) {
    add16(s, x);
    add16(s, x >> 16);
}
static void add64(Str *s, uint64_t x) {
    add32(s, x);
    add32(s, x >> 32);
}
static uint64_t capped(uint64_t x) {
    return x < small ? x : small;
}

/* ---- the zip ---- */
static bool put(Writer *w, const void *data, size_t n) {
    w->at += n;
    return file_put(w->out, data, n, w->e);
}

static bool put_text(Writer *w, Str *s) {
    bool ok = put(w, s->s, s->n);
    str_free(s);
    return ok;
}

/* bytes: of the data that follows; entries of 4 GiB need the zip64 field here already */
static bool begin_entry(Writer *w, const char *name, uint64_t bytes) {
    bool wide = bytes >= small;
    Done d = {.name = name, .header = w->at, .bytes = bytes};
    PUSH(w->arena, w->done, w->n, w->cap, d);
    size_t n = strlen(name), fixed = 30 + n + (wide ? 20 : 0) + 4;
    size_t gap = (ALIGN - (w->at + fixed) % ALIGN) % ALIGN;
    Str s = {0};
    add32(&s, 0x04034b50);
    add16(&s, wide ? VERSION64 : 0);
    add16(&s, FLAGS);
    add16(&s, 0); /* stored */
    add16(&s, 0); /* time */
    add16(&s, DOS_DATE_1980);
    add32(&s, 0); /* CRC: behind the data */
    add32(&s, wide ? small : 0);
    add32(&s, wide ? small : 0);
    add16(&s, n);
    add16(&s, (wide ? 20 : 0) + 4 + gap);
    str_addn(&s, name, n);
    if (wide) {
        add16(&s, 1);
        add16(&s, 16);
        add64(&s, 0);
        add64(&s, 0);
    }
    str_addn(&s, "FB", 2);
    add16(&s, gap);
    for (size_t i = 0; i < gap; i++) str_addn(&s, "Z", 1);
    return put_text(w, &s);
}

static bool put_data(Writer *w, const void *data, size_t n) {
    Done *d = &w->done[w->n - 1];
    d->crc = (uint32_t)crc32_z(d->crc, data, n);
    return put(w, data, n);
}

static bool end_entry(Writer *w) {
    const Done *d = &w->done[w->n - 1];
    Str s = {0};
    add32(&s, 0x08074b50);
    add32(&s, d->crc);
    if (d->bytes >= small) {
        add64(&s, d->bytes);
        add64(&s, d->bytes);
    } else {
        add32(&s, d->bytes);
        add32(&s, d->bytes);
    }
    return put_text(w, &s);
}

static bool put_entry(Writer *w, const char *name, const void *data, size_t n) {
    return begin_entry(w, name, n) && put_data(w, data, n) && end_entry(w);
}

static void add_central(Str *s, const Done *d) {
    bool wide = d->bytes >= small, far = d->header >= small;
    uint64_t extra = (wide ? 16 : 0) + (far ? 8 : 0);
    add32(s, 0x02014b50);
    add16(s, wide || far ? VERSION64 : 0); /* made by */
    add16(s, wide || far ? VERSION64 : 0); /* needed */
    add16(s, FLAGS);
    add16(s, 0);
    add16(s, 0);
    add16(s, DOS_DATE_1980);
    add32(s, d->crc);
    add32(s, capped(d->bytes));
    add32(s, capped(d->bytes));
    add16(s, strlen(d->name));
    add16(s, extra ? extra + 4 : 0);
    add16(s, 0); /* comment */
    add16(s, 0); /* disk */
    add16(s, 0); /* attributes */
    add32(s, 0);
    add32(s, capped(d->header));
    str_add(s, d->name);
    if (!extra) return;
    add16(s, 1);
    add16(s, extra);
    if (wide) {
        add64(s, d->bytes);
        add64(s, d->bytes);
    }
    if (far) add64(s, d->header);
}

static bool put_directory(Writer *w) {
    uint64_t from = w->at, n = (uint64_t)w->n;
    Str s = {0};
    for (int i = 0; i < w->n; i++) add_central(&s, &w->done[i]);
    uint64_t bytes = s.n, end = from + bytes;
    if (from >= small || bytes >= small || n >= 0xFFFF) {
        add32(&s, 0x06064b50);
        add64(&s, 44); /* bytes of this record that follow */
        add16(&s, VERSION64);
        add16(&s, VERSION64);
        add32(&s, 0);
        add32(&s, 0);
        add64(&s, n);
        add64(&s, n);
        add64(&s, bytes);
        add64(&s, from);
        add32(&s, 0x07064b50);
        add32(&s, 0);
        add64(&s, end);
        add32(&s, 1);
    }
    add32(&s, 0x06054b50);
    add32(&s, 0); /* disks */
    add16(&s, n < 0xFFFF ? n : 0xFFFF);
    add16(&s, n < 0xFFFF ? n : 0xFFFF);
    add32(&s, capped(bytes));
    add32(&s, capped(from));
    add16(&s, 0);
    return put_text(w, &s);
}

/* ---- the pickle, protocol 2 ---- */
static void pickle_text(Str *s, const char *text) {
    str_addn(s, "X", 1);
    add32(s, strlen(text));
    str_add(s, text);
}

/* The shortest opcode, as Python's own pickler chooses. */
static void pickle_int(Str *s, int64_t x) {
    if (x >= 0 && x < 256) {
        char b[2] = {'K', (char)x};
        str_addn(s, b, 2);
    } else if (x >= 0 && x < 65536) {
        str_addn(s, "M", 1);
        add16(s, (uint64_t)x);
    } else if (x >= INT32_MIN && x <= INT32_MAX) {
        str_addn(s, "J", 1);
        add32(s, (uint64_t)x);
    } else {
        char b[2] = {(char)0x8a, 8};
        str_addn(s, b, 2);
        add64(s, (uint64_t)x);
    }
}

static void pickle_ints(Str *s, const int64_t *x, int n) {
    str_addn(s, "(", 1);
    for (int i = 0; i < n; i++) pickle_int(s, x[i]);
    str_addn(s, "t", 1);
}

static void pickle_tensor(Str *s, const TensorOut *t, int index) {
    int64_t stride[MAX_RANK], step = 1;
    for (int d = t->type.rank - 1; d >= 0; d--) {
        stride[d] = step;
        step *= t->type.dim[d];
    }
    char key[16];
    snprintf(key, sizeof key, "%d", index);
    pickle_text(s, t->name);
    str_add(s, "ctorch._utils\n_rebuild_tensor_v2\n((");
    pickle_text(s, "storage");
    str_printf(s, "ctorch\n%s\n", storage_names[t->type.dtype]);
    pickle_text(s, key);
    pickle_text(s, "cpu");
    pickle_int(s, type_count(&t->type));
    str_add(s, "tQ");
    pickle_int(s, 0); /* offset */
    pickle_ints(s, t->type.dim, t->type.rank);
    pickle_ints(s, stride, t->type.rank);
    str_add(s, "\x89"
               "ccollections\nOrderedDict\n)RtR"); /* no gradient, no hooks */
}

static void pickle_all(Str *s, const TensorOut *t, int n, const TorchTop *top) {
    str_addn(s, "\x80\x02", 2);
    if (top) {
        str_add(s, "}(");
        pickle_text(s, "state_dict");
    }
    str_add(s, "}(");
    for (int i = 0; i < n; i++) pickle_tensor(s, &t[i], i);
    str_add(s, "u");
    if (top) {
        pickle_text(s, "epoch");
        pickle_int(s, top->epoch);
        pickle_text(s, "global_step");
        pickle_int(s, top->global_step);
        str_add(s, "u");
    }
    str_add(s, ".");
}

/* ---- tensors ---- */
static bool put_made(Writer *w, const TensorOut *t, int index, const TensorFill *fill,
                     char *piece) {
    size_t size = dtype_size(t->type.dtype);
    int64_t most = PIECE_BYTES / (int64_t)size, count = type_count(&t->type);
    for (int64_t at = 0; at < count; at += most) {
        int64_t n = count - at < most ? count - at : most;
        if (!fill->make(fill->ctx, index, at, n, piece, w->e) ||
            !put_data(w, piece, (size_t)n * size))
            return false;
    }
    return true;
}

static bool put_tensors(Writer *w, const TensorOut *t, int n, const TensorFill *fill) {
    char *piece = malloc(PIECE_BYTES);
    if (!piece) return err_fail(w->e, "no memory for %d bytes", PIECE_BYTES);
    bool ok = true;
    for (int i = 0; ok && i < n; i++) {
        const char *name = arena_printf(w->arena, "%sdata/%d", folder, i);
        ok = begin_entry(w, name, type_bytes(&t[i].type)) &&
             (t[i].data || !fill ? put_data(w, t[i].data, type_bytes(&t[i].type))
                                 : put_made(w, &t[i], i, fill, piece)) &&
             end_entry(w);
    }
    free(piece);
    return ok;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A dict holds a name once: a second tensor would take the place of the first. */
static bool names_ok(Arena *a, const TensorOut *t, int n, Err *e) {
    const char **name = NEW(a, const char *, n);
    for (int i = 0; i < n; i++) name[i] = t[i].name;
    if (n) qsort(name, (size_t)n, sizeof *name, by_text);
    for (int i = 1; i < n; i++)
        if (!strcmp(name[i - 1], name[i]))
            return err_fail(e, "tensor '%s' is given twice", name[i]);
    return true;
}

bool path_is_torch(const char *path) {
    static const char *const ends[] = {".ckpt", ".pt", ".pth", ".bin"};
    for (size_t i = 0; i < COUNT(ends); i++)
        if (ends_with(path, ends[i])) return true;
    return false;
}

bool path_is_tensors(const char *path) {
    return path_is_torch(path) || ends_with(path, ".safetensors");
}

bool torch_write_made(const char *path, const TensorOut *t, int n, const TorchTop *top,
                      const TensorFill *fill, Err *e) {
    Writer w = {.arena = arena_new(), .e = e};
    if (ends_with(path, ".bin")) top = NULL;
    bool ok = names_ok(w.arena, t, n, e);
    w.out = ok ? file_begin(path, e) : NULL;
    Str pickle = {0};
    pickle_all(&pickle, t, n, top);
    ok = w.out &&
         put_entry(&w, arena_printf(w.arena, "%sdata.pkl", folder), pickle.s,
                   pickle.n) &&
         put_tensors(&w, t, n, fill) &&
         put_entry(&w, arena_printf(w.arena, "%sversion", folder), "3\n", 2) &&
         put_directory(&w);
    str_free(&pickle);
    arena_free(w.arena);
    if (ok) return file_commit(w.out, e);
    file_abort(w.out);
    return false;
}

bool tensors_write_made(const char *path, const TensorOut *t, int n, const Meta *meta,
                        int n_meta, const TorchTop *top, const TensorFill *fill,
                        Err *e) {
    return path_is_torch(path)
               ? torch_write_made(path, t, n, top, fill, e)
               : safetensors_write_made(path, t, n, meta, n_meta, fill, e);
}
