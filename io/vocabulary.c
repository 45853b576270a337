/* Reading the vocabulary of CLIP's tokenizer.
 *
 * Two sources, one result: the text bpe_simple_vocab_16e6.txt (a line with the version,
 * then 48894 merges that count; gzip or plain), where ids follow from the order (256
 * byte symbols, the same with </w>, one symbol per merge, the two special tokens), or a
 * model's folder with vocab.json (symbol -> id) and merges.txt. Symbols are texts in an
 * alphabet in which each byte is one printable character (model.md section 4). */
#include "io/vocabulary.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "io/file.h"
#include "io/json.h"
#include "io/text_clean.h"

/* Made by the build: the text or its gzip; size 0 when there is none. */
extern const unsigned char clip_vocabulary[];
extern const size_t clip_vocabulary_size;

enum {
    TEXT_MERGES = 48894, /* merges of the text that CLIP uses */
    MERGES_MAX = 1 << 20,
    FILE_MAX = 64 << 20, /* bytes of vocabulary text */
};
static const char bos_text[] = "<|startoftext|>", eos_text[] = "<|endoftext|>";

/* ---- symbols: text -> id ---- */
typedef struct Symbol {
    const char *text;
    size_t n;
    int32_t id;
} Symbol;
typedef struct Symbols {
    Arena *arena;
    Symbol *slot;
    size_t n, mask;
} Symbols;

static size_t text_hash(const char *s, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)s[i]) * 16777619u;
    return h;
}

static Symbol *symbol_slot(const Symbols *t, const char *s, size_t n) {
    size_t i = text_hash(s, n) & t->mask;
    while (t->slot[i].text && (t->slot[i].n != n || memcmp(t->slot[i].text, s, n)))
        i = (i + 1) & t->mask;
    return &t->slot[i];
}

static void symbols_grow(Symbols *t, size_t cap) {
    Symbols old = *t;
    t->slot = NEW(t->arena, Symbol, cap);
    t->mask = cap - 1;
    for (size_t i = 0; old.slot && i <= old.mask; i++)
        if (old.slot[i].text)
            *symbol_slot(t, old.slot[i].text, old.slot[i].n) = old.slot[i];
}

/* A later entry of the same text replaces the id, as in Python's dict. */
static void symbol_put(Symbols *t, const char *s, size_t n, int32_t id) {
    if (!t->slot || t->n * 2 > t->mask)
        symbols_grow(t, t->slot ? (t->mask + 1) * 2 : 1 << 17);
    Symbol *slot = symbol_slot(t, s, n);
    if (!slot->text) {
        t->n++;
        slot->text = arena_strndup(t->arena, s, n);
        slot->n = n;
    }
    slot->id = id;
}

static int32_t symbol_id(const Symbols *t, const char *s, size_t n) {
    return symbol_slot(t, s, n)->text ? symbol_slot(t, s, n)->id : -1;
}

/* ---- bytes ---- */
static bool printable(int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

/* Code point that stands for each byte; order[k]: the byte of id k. */
static void byte_alphabet(uint32_t code[256], int order[256]) {
    int k = 0;
    for (int b = 0; b < 256; b++)
        if (printable(b)) code[b] = (uint32_t)b, order[k++] = b;
    for (int b = 0, extra = 0; b < 256; b++)
        if (!printable(b)) code[b] = 0x100 + (uint32_t)extra++, order[k++] = b;
}

static size_t byte_symbol(uint32_t code, bool last, char out[16]) {
    size_t n = (size_t)utf8_put(out, code);
    if (last) memcpy(out + n, "</w>", 4), n += 4;
    return n;
}

/* The ids that a list of merges gives to the byte symbols by their order. */
static void number_bytes(Symbols *t) {
    uint32_t code[256];
    int order[256];
    char text[16];
    byte_alphabet(code, order);
    for (int k = 0; k < 512; k++) {
        size_t n = byte_symbol(code[order[k % 256]], k >= 256, text);
        symbol_put(t, text, n, k);
    }
}

static bool bind_bytes(Vocabulary *v, const Symbols *t, const char *path, Err *e) {
    uint32_t code[256];
    int order[256];
    char text[16];
    byte_alphabet(code, order);
    for (int b = 0; b < 256; b++) {
        for (int last = 0; last < 2; last++) {
            size_t n = byte_symbol(code[b], last, text);
            int32_t id = symbol_id(t, text, n);
            if (id < 0)
                return err_fail(e, "'%s' has no entry for byte %d ('%.*s')", path, b,
                                (int)n, text);
            (last ? v->last_byte : v->byte)[b] = id;
        }
    }
    return true;
}

/* ---- merges ---- */
static size_t pair_hash(int32_t left, int32_t right) {
    uint64_t h =
        ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (size_t)(h >> 32);
}

static Merge *merge_slot(const Vocabulary *v, int32_t left, int32_t right) {
    size_t i = pair_hash(left, right) & v->mask;
    while (v->merge[i].left >= 0 &&
           (v->merge[i].left != left || v->merge[i].right != right))
        i = (i + 1) & v->mask;
    return &v->merge[i];
}

const Merge *vocabulary_merge(const Vocabulary *v, int32_t left, int32_t right) {
    const Merge *m = merge_slot(v, left, right);
    return m->left >= 0 ? m : NULL;
}

/* One line "left right"; number: make the id of the result instead of looking it up. */
static bool add_merge(Vocabulary *v, Symbols *t, const char *line, size_t n,
                      int32_t rank, bool number, Loc at, Err *e) {
    const char *space = memchr(line, ' ', n);
    if (!space || space == line || space + 1 == line + n)
        return err_fail(e, "%s:%u: a merge must be two symbols with a space between",
                        at.src->path, at.line);
    size_t left_n = (size_t)(space - line), right_n = n - left_n - 1;
    char joined[1024];
    if (n > sizeof joined)
        return err_fail(e, "%s:%u: a merge of %zu bytes, at most %zu are allowed",
                        at.src->path, at.line, n, sizeof joined);
    memcpy(joined, line, left_n);
    memcpy(joined + left_n, space + 1, right_n);
    if (number) symbol_put(t, joined, n - 1, 512 + rank);
    int32_t left = symbol_id(t, line, left_n), right = symbol_id(t, space + 1, right_n);
    int32_t id = symbol_id(t, joined, n - 1);
    if (left < 0 || right < 0 || id < 0)
        return err_fail(e, "%s:%u: the vocabulary has no entry for '%.*s'",
                        at.src->path, at.line, (int)(n > 60 ? 60 : n), line);
    *merge_slot(v, left, right) = (Merge){left, right, rank, id};
    return true;
}

/* Lines of a merges file: a version line is skipped, `most` merges are read. */
static bool read_merges(Vocabulary *v, Symbols *t, Arena *a, const Source *src,
                        int most, bool number, int *count, Err *e) {
    size_t lines = 1;
    for (size_t i = 0; i < src->len; i++) lines += src->text[i] == '\n';
    if (lines > MERGES_MAX)
        return err_fail(e, "'%s' has %zu lines, at most %d are allowed", src->path,
                        lines, MERGES_MAX);
    size_t cap = 1024;
    while (cap < lines * 2) cap *= 2;
    v->merge = NEW(a, Merge, cap);
    v->mask = cap - 1;
    for (size_t i = 0; i < cap; i++) v->merge[i].left = -1;
    const char *end = src->text + src->len, *p = src->text;
    for (uint32_t line = 1; p < end && *count < most; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        size_t n = (size_t)(stop - p);
        if (n && p[n - 1] == '\r') n--;
        bool version = line == 1 && (*p == '#' || number);
        Loc at = {src, line, 1, 0};
        if (n && !version && !add_merge(v, t, p, n, (*count)++, number, at, e))
            return false;
        p = stop + 1;
    }
    return true;
}

/* ---- sources ---- */
/* The text itself, or what its gzip holds. */
static bool inflate_text(Arena *a, const void *data, size_t n, Source *src, Err *e) {
    const unsigned char *b = data;
    if (n < 2 || b[0] != 0x1F || b[1] != 0x8B) {
        src->text = arena_strndup(a, n ? data : "", n);
        src->len = n;
        return true;
    }
    z_stream z = {.next_in = (Bytef *)(uintptr_t)b, .avail_in = (uInt)n};
    if (inflateInit2(&z, 15 + 16) != Z_OK) return err_fail(e, "out of memory in zlib");
    Str out = {0};
    char piece[1 << 16];
    int rc = Z_OK;
    while (rc == Z_OK && out.n <= FILE_MAX) {
        z.next_out = (Bytef *)piece;
        z.avail_out = sizeof piece;
        rc = inflate(&z, Z_NO_FLUSH);
        str_addn(&out, piece, sizeof piece - z.avail_out);
    }
    inflateEnd(&z);
    if (rc == Z_STREAM_END) {
        src->text = arena_strndup(a, out.s, out.n);
        src->len = out.n;
    }
    str_free(&out);
    if (rc == Z_STREAM_END) return true;
    return err_fail(e,
                    rc == Z_OK ? "'%s' is too long" : "'%s' is not a whole gzip file",
                    src->path);
}

static bool read_text(Vocabulary *v, Symbols *t, Arena *a, const Source *src, Err *e) {
    int merges = 0;
    number_bytes(t);
    if (!read_merges(v, t, a, src, TEXT_MERGES, true, &merges, e)) return false;
    if (merges < TEXT_MERGES)
        return err_fail(e, "'%s' has %d merges, want %d", src->path, merges,
                        TEXT_MERGES);
    v->bos = 512 + merges;
    v->eos = v->bos + 1;
    return bind_bytes(v, t, src->path, e);
}

static bool map_text(Arena *a, const char *path, Source *src, Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return false;
    src->path = arena_strdup(a, path);
    bool ok =
        n <= FILE_MAX
            ? inflate_text(a, map, n, src, e)
            : err_fail(e, "'%s' is too long for a vocabulary: %zu bytes", path, n);
    file_unmap(map, n);
    return ok;
}

static bool put_symbols(Symbols *t, const json_t *root, const char *path, Err *e) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)root, key, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id > INT32_MAX)
            return err_fail(e, "'%s': the id of '%s' must be an integer from 0", path,
                            key);
        symbol_put(t, key, strlen(key), (int32_t)id);
    }
    return true;
}

static bool read_folder(Vocabulary *v, Symbols *t, Arena *a, const char *folder,
                        Err *e) {
    const char *names = arena_printf(a, "%s/vocab.json", folder);
    Source merges = {0};
    json_t *root = json_read(a, names, NULL, e);
    if (!root) return false;
    bool ok = put_symbols(t, root, names, e);
    json_decref(root);
    int count = 0;
    if (!t->slot) symbols_grow(t, 1 << 4);
    ok = ok && bind_bytes(v, t, names, e) &&
         map_text(a, arena_printf(a, "%s/merges.txt", folder), &merges, e) &&
         read_merges(v, t, a, &merges, MERGES_MAX, false, &count, e);
    if (!ok) return false;
    v->bos = symbol_id(t, bos_text, strlen(bos_text));
    v->eos = symbol_id(t, eos_text, strlen(eos_text));
    if (v->bos < 0 || v->eos < 0)
        return err_fail(e, "'%s' has no entry for '%s'", names,
                        v->bos < 0 ? bos_text : eos_text);
    return true;
}

bool vocabulary_text(Arena *a, Source *out, Err *e) {
    const char *path = getenv("GRAPHRUN_CLIP_VOCABULARY");
    *out = (Source){.path = "embedded vocabulary"};
    if (path && *path) return map_text(a, path, out, e);
    if (clip_vocabulary_size)
        return inflate_text(a, clip_vocabulary, clip_vocabulary_size, out, e);
    return err_fail(e, "this build holds no CLIP vocabulary; use a model folder with "
                       "tokenizer/, or set GRAPHRUN_CLIP_VOCABULARY to the path of "
                       "bpe_simple_vocab_16e6.txt.gz");
}

bool vocabulary_read(Vocabulary *v, Arena *a, const char *folder, Err *e) {
    Arena *scratch = arena_new();
    Symbols t = {.arena = scratch};
    Source src;
    bool ok = folder
                  ? read_folder(v, &t, a, folder, e)
                  : vocabulary_text(scratch, &src, e) && read_text(v, &t, a, &src, e);
    arena_free(scratch);
    return ok;
}
