/* Reading what torch.save writes: a zip with data.pkl and one entry per storage, or, before
 * PyTorch 1.6, pickles in a row with the storages behind them. The pickle says which part
 * of which storage a tensor is; here every such part is held against the bytes that are
 * really there before it becomes an entry. */
#include "io/torch_file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/pickle.h"
#include "io/zip.h"

/* The pickled number 0x1950a86a20f9469cfc6c, and 1001: torch/serialization.py */
static const uint8_t legacy_magic[] = {0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c, 0x46,
                                       0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
static const uint8_t legacy_protocol[] = {0x80, 2, 'M', 0xe9, 3, '.'};
static const char tar_mark[] = "ustar";
enum { TAR_MARK_AT = 257, MOST_NOTES = 20, MOST_TENSOR_NAME = 4096 };

typedef struct Storage { /* of a legacy file */
    const char *key;
    const uint8_t *data;
    uint64_t bytes;
    int item_bytes; /* 0: nothing has named it */
} Storage;

typedef struct Reader {
    TensorFile *f;
    Zip *zip;           /* or NULL */
    const char *folder; /* in the zip, with the slash */
    Storage *storage;   /* sorted by key */
    int n_storage;
    uint64_t copied, most_copied; /* bytes of tensors that had to be gathered */
    int left_out;
    Err *e;
} Reader;

PRINTF(2, 3) static bool bad(const Reader *r, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(r->e, "'%s': %s", r->f->path, text);
}

static const char *shown(Arena *a, const char *s, size_t n) {
    enum { MOST_SHOWN = 120 };
    char *out = arena_strndup(a, s, n < MOST_SHOWN ? n : MOST_SHOWN);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    return out;
}

/* A pickle of protocol 2 to 5 and nothing else. As the length of a safetensors header these
 * bytes would be more than 4 GiB. */
static bool is_bare_pickle(const uint8_t *b, size_t n) {
    return n >= 8 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 &&
           (b[4] | b[5] | b[6] | b[7]);
}

bool torch_is(const void *bytes, size_t n) {
    const char *b = bytes;
    return is_bare_pickle(bytes, n) || (n >= 4 && !memcmp(b, "PK\3\4", 4)) ||
           (n >= 4 && !memcmp(b, "PK\5\6", 4)) ||
           (n >= TAR_MARK_AT + 5 && !memcmp(b + TAR_MARK_AT, tar_mark, 5));
}

/* ---- bytes of a storage ---- */
static int by_key(const void *a, const void *b) {
    return strcmp(((const Storage *)a)->key, ((const Storage *)b)->key);
}

static Storage *storage_find(const Reader *r, const char *key) {
    Storage want = {.key = key};
    return r->n_storage
               ? bsearch(&want, r->storage, (size_t)r->n_storage, sizeof want, by_key)
               : NULL;
}

static bool storage_bytes(Reader *r, const char *key, const uint8_t **data,
                          uint64_t *bytes) {
    Arena *a = r->f->arena;
    if (!r->zip) {
        const Storage *s = storage_find(r, key);
        if (!s || !s->data)
            return bad(r, "storage '%s' is not in the file",
                       shown(a, key, strlen(key)));
        *data = s->data;
        *bytes = s->bytes;
        return true;
    }
    const ZipEntry *x = zip_find(r->zip, arena_printf(a, "%sdata/%s", r->folder, key));
    const void *p;
    if (!x)
        return bad(r, "storage '%s' has no entry in the zip",
                   shown(a, key, strlen(key)));
    if (!zip_data(r->zip, x, &p, r->e)) return false;
    *data = p;
    *bytes = x->bytes;
    return true;
}

/* ---- one tensor ---- */
static bool is_contiguous(const PickleTensor *t) {
    int64_t want = 1;
    for (int d = t->type.rank - 1; d >= 0; d--) {
        if (t->type.dim[d] != 1 && t->stride[d] != want) return false;
        want *= t->type.dim[d];
    }
    return true;
}

/* Elements into row-major order, as an odometer over the dimensions. */
static void gather(const PickleTensor *t, const uint8_t *from, uint8_t *to) {
    int64_t index[MAX_RANK] = {0}, count = type_count(&t->type);
    size_t item = (size_t)t->item_bytes;
    for (int64_t i = 0; i < count; i++, to += item) {
        uint64_t at = 0;
        for (int d = 0; d < t->type.rank; d++)
            at += (uint64_t)(index[d] * t->stride[d]);
        memcpy(to, from + at * item, item);
        for (int d = t->type.rank - 1; d >= 0 && ++index[d] == t->type.dim[d]; d--)
            index[d] = 0;
    }
}

static bool add_tensor(Reader *r, const char *name, const PickleTensor *t) {
    const uint8_t *data = NULL;
    uint64_t bytes = 0, item = (uint64_t)t->item_bytes;
    if (!storage_bytes(r, t->storage->key, &data, &bytes)) return false;
    uint64_t whole = t->storage->numel * (uint64_t)t->storage->item_bytes;
    if (whole > bytes)
        return bad(r, "tensor '%s': its storage has %llu bytes, the file %llu", name,
                   (unsigned long long)whole, (unsigned long long)bytes);
    uint64_t first = t->storage->first * (uint64_t)t->storage->item_bytes;
    uint64_t need = (uint64_t)type_count(&t->type) * item;
    uint64_t from = first + t->offset * item, last = 0;
    for (int d = 0; d < t->type.rank && need; d++)
        last += (uint64_t)(t->type.dim[d] - 1) * (uint64_t)t->stride[d];
    if (need && (t->offset > bytes || from + (last + 1) * item > bytes))
        return bad(r, "tensor '%s' reaches beyond its storage", name);
    data += need ? from : 0;
    if (!is_contiguous(t) && need) {
        r->copied += need;
        if (r->copied > r->most_copied)
            return bad(r, "tensor '%s': more views than the file has bytes", name);
        uint8_t *copy = arena_alloc(r->f->arena, (size_t)need, 1);
        gather(t, data, copy);
        data = copy;
    }
    r->f->entry[r->f->n++] = (TensorEntry){name, t->type, data};
    return true;
}

static void leave_out(Reader *r, const char *name, const char *why) {
    if (r->left_out++ < MOST_NOTES)
        r->f->note[r->f->n_note++] =
            arena_printf(r->f->arena, "'%s' is left out: %s", name, why);
}

static bool add_item(Reader *r, const PickleValue *key, const PickleValue *value) {
    Arena *a = r->f->arena;
    if (key->kind != PICKLE_TEXT) {
        leave_out(r, "an entry", "its key is not text");
        return true;
    }
    const char *name = shown(a, key->text, key->n);
    if (value->kind != PICKLE_TENSOR) {
        leave_out(r, name, "it is no tensor");
        return true;
    }
    if (value->tensor->type.dtype == DTYPES) {
        leave_out(r, name, "its element type is not supported");
        return true;
    }
    if (key->n > MOST_TENSOR_NAME || memchr(key->text, 0, key->n))
        return bad(r, "tensor '%s': the name is too long or holds a zero byte", name);
    return add_tensor(r, arena_strndup(a, key->text, key->n), value->tensor);
}

/* ---- the dict ---- */
static int by_name(const void *a, const void *b) {
    return strcmp(((const TensorEntry *)a)->name, ((const TensorEntry *)b)->name);
}

static int64_t number(const PickleValue *top, const char *key) {
    const PickleValue *v = pickle_get(top, key);
    return v && v->kind == PICKLE_INT ? v->i : 0;
}

static const PickleValue *tensors_of(Reader *r, const PickleValue *top) {
    const PickleValue *dict = pickle_get(top, "state_dict");
    if (top->kind != PICKLE_DICT) {
        bad(r, "it holds %s, want a dict of tensors",
            top->kind == PICKLE_OPAQUE
                ? arena_printf(r->f->arena, "an object of '%.100s'", top->text)
                : "something else");
        return NULL;
    }
    if (!dict && (dict = pickle_get(top, "string_to_param"))) { /* textual inversion */
        if (dict->kind == PICKLE_DICT) return dict;
        bad(r, "'string_to_param' is not a dict of tensors");
        return NULL;
    }
    if (!dict) return top;
    if (dict->kind != PICKLE_DICT) {
        bad(r, "'state_dict' is not a dict of tensors");
        return NULL;
    }
    r->f->wrapped = true;
    r->f->epoch = number(top, "epoch");
    r->f->global_step = number(top, "global_step");
    return dict;
}

static bool add_all(Reader *r, const PickleList *l) {
    TensorFile *f = r->f;
    f->entry = NEW(f->arena, TensorEntry, l->n / 2);
    f->note = NEW(f->arena, const char *, MOST_NOTES + 1);
    for (uint32_t i = 0; i + 1 < l->n; i += 2)
        if (!add_item(r, &l->item[i], &l->item[i + 1])) return false;
    if (!f->n) return bad(r, "it holds no tensors, %u other entries", l->n / 2);
    if (r->left_out > MOST_NOTES)
        f->note[f->n_note++] = arena_printf(f->arena, "%d more entries are left out",
                                            r->left_out - MOST_NOTES);
    qsort(f->entry, (size_t)f->n, sizeof *f->entry, by_name);
    for (int i = 1; i < f->n; i++)
        if (!strcmp(f->entry[i - 1].name, f->entry[i].name))
            return bad(r, "two tensors are called '%s'",
                       shown(f->arena, f->entry[i].name, strlen(f->entry[i].name)));
    return true;
}

static bool read_top(Reader *r, const PickleValue *top) {
    const PickleValue *dict = tensors_of(r, top);
    return dict && add_all(r, dict->list);
}

/* ---- zip ---- */
static bool is_little(Reader *r) {
    const ZipEntry *x =
        zip_find(r->zip, arena_printf(r->f->arena, "%sbyteorder", r->folder));
    const void *text;
    if (!x) return true;
    if (!zip_data(r->zip, x, &text, r->e)) return false;
    return (x->bytes == 6 && !memcmp(text, "little", 6)) ||
           bad(r, "its numbers are not little-endian, which is not supported");
}

/* FOLDER/data.pkl; the folder's name is the writer's choice. */
static const ZipEntry *find_pickle(Reader *r) {
    static const char end[] = "/data.pkl";
    const ZipEntry *found = NULL;
    for (int i = 0; i < r->zip->n; i++) {
        const char *name = r->zip->entry[i].name, *slash = strchr(name, '/');
        if (!slash || strcmp(slash, end)) continue;
        if (found) {
            bad(r, "two data.pkl in one zip");
            return NULL;
        }
        found = &r->zip->entry[i];
        r->folder = arena_strndup(r->f->arena, name, (size_t)(slash + 1 - name));
    }
    if (!found) bad(r, "a zip without data.pkl: not written by torch.save");
    return found;
}

static bool read_zip(Reader *r, const void *bytes, size_t n, bool strict) {
    Zip zip = {.arena = r->f->arena, .path = r->f->path};
    r->zip = &zip;
    if (!zip_parse(&zip, bytes, n, r->e)) return false;
    const ZipEntry *x = find_pickle(r);
    if (!x || !is_little(r)) return false;
    if (x->bytes > PICKLE_MOST_BYTES)
        return bad(r, "data.pkl has %llu bytes, at most %d",
                   (unsigned long long)x->bytes, PICKLE_MOST_BYTES);
    const void *text;
    Pickle p;
    return zip_data(&zip, x, &text, r->e) &&
           pickle_read(r->f->arena, r->f->path, text, (size_t)x->bytes, strict, &p,
                       r->e) &&
           read_top(r, &p.top);
}

/* ---- the old form ---- */
typedef struct Cursor {
    const uint8_t *at;
    size_t left;
} Cursor;

static bool next_pickle(Reader *r, Cursor *c, bool strict, Pickle *out) {
    size_t n = c->left < PICKLE_MOST_BYTES ? c->left : PICKLE_MOST_BYTES;
    if (!pickle_read(r->f->arena, r->f->path, c->at, n, strict, out, r->e))
        return false;
    c->at += out->used;
    c->left -= out->used;
    return true;
}

static bool little_endian(Reader *r, const PickleValue *system) {
    const PickleValue *v = pickle_get(system, "little_endian");
    return !v || v->kind != PICKLE_BOOL || v->i ||
           bad(r, "its numbers are not little-endian, which is not supported");
}

static bool list_storages(Reader *r, const PickleValue *keys) {
    if (keys->kind != PICKLE_LIST) return bad(r, "the list of storages is missing");
    const PickleList *l = keys->list;
    r->storage = NEW(r->f->arena, Storage, l->n);
    for (uint32_t i = 0; i < l->n; i++) {
        const PickleValue *v = &l->item[i];
        if (v->kind != PICKLE_TEXT || v->n > PICKLE_MOST_NAME ||
            memchr(v->text, 0, v->n))
            return bad(r, "the key of a storage is not a short text");
        r->storage[r->n_storage++].key = arena_strndup(r->f->arena, v->text, v->n);
    }
    return true;
}

/* The file says how many elements follow; how wide they are only the pickle says. */
static void widths(Reader *r, const Pickle *p) {
    for (uint32_t i = 0; i < p->n_storage; i++) {
        Storage *s = storage_find(r, p->storage[i]->key);
        if (s) s->item_bytes = p->storage[i]->item_bytes;
    }
}

/* order: the storages as listed, which is the order of their bytes */
static bool place_storages(Reader *r, const PickleList *order, Cursor c) {
    for (uint32_t i = 0; i < order->n; i++) {
        const char *key =
            arena_strndup(r->f->arena, order->item[i].text, order->item[i].n);
        Storage *s = storage_find(r, key);
        uint64_t numel = 0, bytes;
        const char *said = shown(r->f->arena, key, strlen(key));
        if (s->data) return bad(r, "storage '%s' is listed twice", said);
        if (!s->item_bytes) return bad(r, "storage '%s' is of no known type", said);
        if (c.left < 8) return bad(r, "it is cut off before storage %u", i);
        for (int b = 7; b >= 0; b--) numel = numel << 8 | c.at[b];
        c.at += 8;
        c.left -= 8;
        if (!mul_u64(numel, (uint64_t)s->item_bytes, &bytes) || bytes > c.left)
            return bad(
                r, "it is cut off: storage '%s' has %llu elements, %zu bytes are left",
                said, (unsigned long long)numel, c.left);
        s->data = c.at;
        s->bytes = bytes;
        c.at += bytes;
        c.left -= (size_t)bytes;
    }
    return true;
}

static bool read_legacy(Reader *r, const void *bytes, size_t n, bool strict) {
    size_t head = sizeof legacy_magic + sizeof legacy_protocol;
    if (n < head || memcmp(bytes, legacy_magic, sizeof legacy_magic) ||
        memcmp((const uint8_t *)bytes + sizeof legacy_magic, legacy_protocol,
               sizeof legacy_protocol))
        return bad(r, "no file of torch.save: neither a zip nor its older form");
    Cursor c = {(const uint8_t *)bytes + head, n - head};
    Pickle system, top, keys;
    if (!next_pickle(r, &c, strict, &system) || !little_endian(r, &system.top) ||
        !next_pickle(r, &c, strict, &top) || !next_pickle(r, &c, strict, &keys) ||
        !list_storages(r, &keys.top))
        return false;
    if (r->n_storage)
        qsort(r->storage, (size_t)r->n_storage, sizeof *r->storage, by_key);
    widths(r, &top);
    return place_storages(r, keys.top.list, c) && read_top(r, &top.top);
}

/* ---- files ---- */
bool torch_parse(TensorFile *f, const void *bytes, size_t n, bool strict, Err *e) {
    const char *b = bytes;
    Reader r = {.f = f, .most_copied = n, .e = e};
    if (n >= TAR_MARK_AT + 5 && !memcmp(b + TAR_MARK_AT, tar_mark, 5))
        return bad(&r, "the tar form of torch.save, older than 2018, is not supported");
    if (n >= 2 && b[0] == 'P' && b[1] == 'K') return read_zip(&r, bytes, n, strict);
    return read_legacy(&r, bytes, n, strict);
}

TensorFile *torch_open(const char *path, bool strict, Err *e) {
    Arena *a = arena_new();
    TensorFile *f = NEW(a, TensorFile, 1);
    f->arena = a;
    f->path = arena_strdup(a, path);
    if (file_map(path, &f->map, &f->map_bytes, e) &&
        torch_parse(f, f->map, f->map_bytes, strict, e))
        return f;
    tensors_close(f);
    return NULL;
}

TensorFile *tensors_open(const char *path, Err *e) {
    enum { HEAD = 512 };
    unsigned char head[HEAD];
    FILE *in = file_exists(path) ? fopen(path, "rb") : NULL;
    size_t n = in ? fread(head, 1, sizeof head, in) : 0;
    if (in) fclose(in);
    return torch_is(head, n) ? torch_open(path, false, e) : safetensors_open(path, e);
}
