/* Files of CLIP's tokenizer from its one text: ids 0-255 are the byte symbols, 256-511 the
 * same with </w>, then one per merge in order, then the two special tokens. */
#include "io/tokenizer_write.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "io/data.h"
#include "io/file.h"
#include "io/tensors.h"
#include "io/vocabulary.h"

enum {
    BYTES = 256,
    CLIP_MERGE_DEPTH = 256, /* a symbol's bytes, at most: its tree is no deeper */
};

/* The symbols in the order of their ids: bytes that print stand for themselves, the rest
 * for U+0100 and up (model.md section 4). */
static int code_point(int id) {
    enum { PRINTABLE = 188 };
    if (id < 94) return 33 + id;
    if (id < 106) return 161 + id - 94;
    if (id < PRINTABLE) return 174 + id - 106;
    return 256 + id - PRINTABLE;
}

static void add_symbol(Str *s, int id) {
    int c = code_point(id % BYTES);
    char utf8[2] = {(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
    if (c < 0x80)
        str_addn(s, &(char){(char)c}, 1);
    else
        str_addn(s, utf8, 2);
    if (id >= BYTES) str_add(s, "</w>");
}

static void add_entry(Str *vocabulary, const char *symbol, int id) {
    str_add(vocabulary, id ? ", " : "{");
    str_json(vocabulary, symbol);
    str_printf(vocabulary, ": %d", id);
}

/* "th e</w>" is a line of merges.txt, "the</w>" its symbol. *n: how many are kept. */
static bool add_merges(const Source *text, const bool *keep, Str *vocabulary,
                       Str *merges, int *n, Err *e) {
    const char *at = strchr(text->text, '\n'); /* the first line is the version */
    str_add(merges, "#version: 0.2\n");
    *n = 0;
    for (int i = 0; i < CLIP_MERGES; i++) {
        const char *line = at ? at + 1 : "", *stop = strchr(line, '\n');
        const char *space = strchr(line, ' ');
        if (!stop || !space || space > stop)
            return err_fail(e, "'%s': line %d is not a merge", text->path, i + 2);
        at = stop;
        if (keep && !keep[i]) continue;
        size_t left = (size_t)(space - line), right = (size_t)(stop - space) - 1;
        Str symbol = {0};
        str_addn(&symbol, line, left);
        str_addn(&symbol, space + 1, right);
        add_entry(vocabulary, symbol.s, 2 * BYTES + (*n)++);
        str_free(&symbol);
        str_addn(merges, line, (size_t)(stop - line) + 1);
    }
    return true;
}

static bool put(const char *folder, const char *name, const Str *s, Err *e) {
    Str path = {0};
    str_printf(&path, "%s/%s", folder, name);
    bool ok = file_write(path.s, s->s, s->n, e);
    str_free(&path);
    return ok;
}

static bool put_json(const char *folder, const char *name, json_t *j, Err *e) {
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS);
    Str s = {0};
    str_printf(&s, "%s\n", text ? text : "{}");
    free(text);
    bool ok = put(folder, name, &s, e);
    str_free(&s);
    json_decref(j);
    return ok;
}

static json_t *special(const char *text) {
    return json_pack("{s:s, s:b, s:b, s:b, s:b}", "content", text, "lstrip", 0,
                     "normalized", 1, "rstrip", 0, "single_word", 0);
}

static bool put_configs(const char *folder, const char *pad, Err *e) {
    static const char bos[] = "<|startoftext|>", eos[] = "<|endoftext|>";
    json_t *config =
        json_pack("{s:b, s:s, s:b, s:s, s:s, s:i, s:s, s:s, s:s}", "add_prefix_space",
                  0, "bos_token", bos, "do_lower_case", 1, "eos_token", eos, "errors",
                  "replace", "model_max_length", 77, "pad_token", pad,
                  "tokenizer_class", "CLIPTokenizer", "unk_token", eos);
    json_t *map =
        json_pack("{s:o, s:o, s:s, s:o}", "bos_token", special(bos), "eos_token",
                  special(eos), "pad_token", pad, "unk_token", special(eos));
    bool ok = put_json(folder, "tokenizer_config.json", config, e);
    return put_json(folder, "special_tokens_map.json", map, e) && ok;
}

bool tokenizer_write(const char *folder, const char *pad, const bool *keep, Err *e) {
    Arena *a = arena_new();
    Source text;
    Str vocabulary = {0}, merges = {0};
    bool ok = vocabulary_text(a, &text, e);
    for (int id = 0; ok && id < 2 * BYTES; id++) {
        Str symbol = {0};
        add_symbol(&symbol, id);
        add_entry(&vocabulary, symbol.s, id);
        str_free(&symbol);
    }
    int n;
    ok = ok && add_merges(&text, keep, &vocabulary, &merges, &n, e);
    if (ok) {
        add_entry(&vocabulary, "<|startoftext|>", 2 * BYTES + n);
        add_entry(&vocabulary, "<|endoftext|>", 2 * BYTES + n + 1);
        str_add(&vocabulary, "}\n");
        ok = put(folder, "vocab.json", &vocabulary, e) &&
             put(folder, "merges.txt", &merges, e) && put_configs(folder, pad, e);
    }
    str_free(&vocabulary);
    str_free(&merges);
    arena_free(a);
    return ok;
}

/* The merge that made a symbol, and those behind its halves: a walk down a tree. */
static void mark_symbol(const Merge *const *made, int32_t id, bool *keep) {
    int32_t stack[CLIP_MERGE_DEPTH];
    int n = 0;
    stack[n++] = id;
    while (n) {
        int32_t i = stack[--n] - 2 * BYTES;
        if (i < 0 || i >= CLIP_MERGES || keep[i]) continue;
        keep[i] = true;
        stack[n++] = made[i]->left;
        stack[n++] = made[i]->right;
    }
}

bool tokenizer_mark(const char *const *text, int n, bool *keep, Err *e) {
    enum { MOST = 4096 }; /* tokens of a text that are looked at */
    Arena *a = arena_new();
    Vocabulary v;
    Tokenizer *t = tokenizer_open(NULL, e);
    bool ok = t && vocabulary_read(&v, a, NULL, e);
    if (ok) {
        const Merge **made = NEW(a, const Merge *, CLIP_MERGES);
        for (size_t i = 0; i <= v.mask; i++)
            if (v.merge[i].left >= 0) made[v.merge[i].rank] = &v.merge[i];
        int32_t *ids = NEW(a, int32_t, MOST);
        for (int k = 0; k < n; k++) {
            int count = tokenizer_encode(t, text[k], ids, MOST);
            for (int i = 0; i < count && i < MOST; i++) mark_symbol(made, ids[i], keep);
        }
    }
    if (t) tokenizer_close(t);
    arena_free(a);
    return ok;
}
