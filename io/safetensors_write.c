/* Writing safetensors byte for byte as the reference writer does, and the hashes that are
 * defined over such a file. The same layout feeds a file or a hash: nothing is held whole.
 *
 * Layout: metadata first, then tensors by dtype (order below), then name, byte by byte;
 * JSON without spaces; header padded with spaces to a multiple of 8. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"

enum { PIECE_BYTES = 1 << 20 };

/* safetensors' order, largest first; I8, I16 ... do not occur here */
static const struct {
    const char *name;
    int rank;
} dtypes[DTYPES] = {
    [I64] = {"I64", 0},   [F64] = {"F64", 1}, [F32] = {"F32", 2}, [I32] = {"I32", 3},
    [BF16] = {"BF16", 4}, [F16] = {"F16", 5}, [U8] = {"U8", 6},
};

typedef struct Layout {
    const TensorOut **order; /* as in the file */
    const TensorOut *first;  /* the caller's list */
    int n;
    Str header; /* with the 8 bytes in front and the padding */
} Layout;

/* Where bytes go, in order. */
typedef struct Sink {
    bool (*put)(void *ctx, const void *data, size_t n, Err *e);
    void *ctx;
} Sink;

static int by_dtype_and_name(const void *a, const void *b) {
    const TensorOut *x = *(const TensorOut *const *)a,
                    *y = *(const TensorOut *const *)b;
    int d = dtypes[x->type.dtype].rank - dtypes[y->type.dtype].rank;
    return d ? d : strcmp(x->name, y->name);
}

static bool is_utf8(const char *s) {
    const unsigned char *p = (const unsigned char *)s;
    while (*p) {
        int more = *p < 0x80                 ? 0
                   : *p >= 0xC2 && *p < 0xE0 ? 1
                   : (*p & 0xF0) == 0xE0     ? 2
                   : *p >= 0xF0 && *p < 0xF5 ? 3
                                             : -1;
        if (more < 0) return false;
        bool low = (*p == 0xE0 && p[1] < 0xA0) || (*p == 0xF0 && p[1] < 0x90);
        bool high = (*p == 0xED && p[1] >= 0xA0) || (*p == 0xF4 && p[1] >= 0x90);
        if (more && (low || high)) return false;
        for (p++; more; more--, p++)
            if ((*p & 0xC0) != 0x80) return false;
    }
    return true;
}

static bool names_ok(const Layout *l, Err *e) {
    for (int i = 0; i < l->n; i++) {
        const char *name = l->order[i]->name;
        if (!is_utf8(name)) return err_fail(e, "tensor name '%s' is not UTF-8", name);
        if (!strcmp(name, "__metadata__"))
            return err_fail(e, "no tensor may be called '%s'", name);
    }
    return true;
}

/* Sorted by name within a dtype only: equal names of two dtypes are found as well. */
static int by_name(const void *a, const void *b) {
    return strcmp((*(const TensorOut *const *)a)->name,
                  (*(const TensorOut *const *)b)->name);
}

static bool names_differ(const Layout *l, Err *e) {
    const TensorOut **t = malloc(sizeof *t * (size_t)(l->n + 1));
    if (!t) return err_fail(e, "no memory for %d tensor names", l->n);
    memcpy(t, l->order, sizeof *t * (size_t)l->n);
    qsort(t, (size_t)l->n, sizeof *t, by_name);
    bool ok = true;
    for (int i = 1; ok && i < l->n; i++)
        if (!strcmp(t[i - 1]->name, t[i]->name))
            ok = err_fail(e, "tensor '%s' is given twice", t[i]->name);
    free(t);
    return ok;
}

/* meta NULL: no __metadata__ at all; with n_meta 0 an empty one. */
static bool header_meta(Str *h, const Meta *meta, int n_meta, Err *e) {
    if (!meta) return true;
    str_add(h, "\"__metadata__\":{");
    for (int i = 0; i < n_meta; i++) {
        if (!is_utf8(meta[i].key) || !is_utf8(meta[i].value))
            return err_fail(e, "metadata '%s' is not UTF-8", meta[i].key);
        if (i) str_add(h, ",");
        str_json(h, meta[i].key);
        str_add(h, ":");
        str_json(h, meta[i].value);
    }
    str_add(h, "}");
    return true;
}

static void header_tensors(Str *h, const Layout *l) {
    uint64_t at = 0;
    for (int i = 0; i < l->n; i++) {
        const TensorOut *t = l->order[i];
        if (h->n > 9) str_add(h, ",");
        str_json(h, t->name);
        str_printf(h, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[t->type.dtype].name);
        for (int d = 0; d < t->type.rank; d++)
            str_printf(h, "%s%lld", d ? "," : "", (long long)t->type.dim[d]);
        uint64_t end = at + type_bytes(&t->type);
        str_printf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                   (unsigned long long)end);
        at = end;
    }
}

static void layout_free(Layout *l) {
    free(l->order);
    str_free(&l->header);
}

static bool layout(const TensorOut *t, int n, const Meta *meta, int n_meta, Layout *l,
                   Err *e) {
    *l = (Layout){.first = t, .n = n};
    l->order = malloc(sizeof *l->order * (size_t)(n + 1));
    if (!l->order) return err_fail(e, "no memory for %d tensor names", n);
    for (int i = 0; i < n; i++) l->order[i] = &t[i];
    qsort(l->order, (size_t)n, sizeof *l->order, by_dtype_and_name);
    Str *h = &l->header;
    str_addn(h, "\0\0\0\0\0\0\0\0{", 9);
    bool ok = names_ok(l, e) && names_differ(l, e) && header_meta(h, meta, n_meta, e);
    if (!ok) {
        layout_free(l);
        return false;
    }
    header_tensors(h, l);
    str_add(h, "}");
    while (h->n % 8) str_add(h, " ");
    for (int i = 0; i < 8; i++) h->s[i] = (char)((h->n - 8) >> (8 * i) & 0xFF);
    return true;
}

static bool emit_made(const Layout *l, const TensorOut *t, const TensorFill *fill,
                      char *piece, const Sink *to, Err *e) {
    size_t size = dtype_size(t->type.dtype);
    int64_t most = PIECE_BYTES / (int64_t)size, count = type_count(&t->type);
    for (int64_t at = 0; at < count; at += most) {
        int64_t n = count - at < most ? count - at : most;
        if (!fill->make(fill->ctx, (int)(t - l->first), at, n, piece, e) ||
            !to->put(to->ctx, piece, (size_t)n * size, e))
            return false;
    }
    return true;
}

static bool emit_data(const Layout *l, const TensorFill *fill, const Sink *to, Err *e) {
    char *piece = fill ? malloc(PIECE_BYTES) : NULL;
    if (fill && !piece) return err_fail(e, "no memory for %d bytes", PIECE_BYTES);
    bool ok = true;
    for (int i = 0; ok && i < l->n; i++) {
        const TensorOut *t = l->order[i];
        ok = t->data || !fill ? to->put(to->ctx, t->data, type_bytes(&t->type), e)
                              : emit_made(l, t, fill, piece, to, e);
    }
    free(piece);
    return ok;
}

static bool put_file(void *ctx, const void *data, size_t n, Err *e) {
    return file_put(ctx, data, n, e);
}

bool safetensors_write_made(const char *path, const TensorOut *t, int n,
                            const Meta *meta, int n_meta, const TensorFill *fill,
                            Err *e) {
    Layout l;
    if (!layout(t, n, n_meta ? meta : NULL, n_meta, &l, e)) return false;
    FileOut *f = file_begin(path, e);
    Sink to = {put_file, f};
    bool ok =
        f && file_put(f, l.header.s, l.header.n, e) && emit_data(&l, fill, &to, e);
    layout_free(&l);
    if (ok) return file_commit(f, e);
    file_abort(f);
    return false;
}

bool safetensors_write(const char *path, const TensorOut *t, int n, const Meta *meta,
                       int n_meta, Err *e) {
    return safetensors_write_made(path, t, n, meta, n_meta, NULL, e);
}

typedef struct Hashing {
    Sha256 *data, *window;
    uint64_t offset; /* in the file */
} Hashing;

static bool put_hashes(void *ctx, const void *data, size_t n, Err *e) {
    (void)e;
    Hashing *h = ctx;
    sha256_add(h->data, data, n);
    window_add(h->window, h->offset, data, n);
    h->offset += n;
    return true;
}

bool lora_hashes(const TensorOut *t, int n, const Meta *meta, int n_meta,
                 char model[65], char legacy[9], Err *e) {
    Meta *ss = calloc((size_t)n_meta + 1, sizeof *ss);
    if (!ss) return err_fail(e, "no memory for %d metadata entries", n_meta);
    int n_ss = 0;
    for (int i = 0; i < n_meta; i++)
        if (!strncmp(meta[i].key, "ss_", 3)) ss[n_ss++] = meta[i];
    Layout l;
    bool ok = layout(t, n, ss, n_ss, &l, e);
    free(ss);
    if (!ok) return false;
    Hashing h = {sha256_new(e), sha256_new(e), l.header.n};
    if (!h.data || !h.window) {
        sha256_free(h.data);
        sha256_free(h.window);
        layout_free(&l);
        return false;
    }
    window_add(h.window, 0, l.header.s, l.header.n);
    emit_data(&l, NULL, &(Sink){put_hashes, &h}, e);
    layout_free(&l);
    char old[65];
    bool got = sha256_hex(h.window, old, e);
    if (!sha256_hex(h.data, model, e) || !got) return false;
    memcpy(legacy, old, 8);
    legacy[8] = 0;
    return true;
}
