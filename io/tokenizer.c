/* CLIP's tokenizer: clean, split, byte-level BPE (model.md section 4).
 *
 * Works on any text in n log n: the pairs of a piece stand in a heap by (rank, place),
 * and merging is done on a linked list. All occurrences of the lowest pair are merged
 * from left to right before a pair that came up meanwhile is looked at, as in the
 * original. */
#include <stdlib.h>
#include <string.h>

#include "io/data.h"
#include "io/text_clean.h"
#include "io/token_weights.h"
#include "io/vocabulary.h"

static const char bos_text[] = "<|startoftext|>", eos_text[] = "<|endoftext|>";

typedef struct Special { /* a text that is no subject of BPE, and its tokens */
    const char *text;
    size_t length;
    int32_t id;
    int n;
} Special;
struct Tokenizer {
    Arena *arena;
    Vocabulary v;
    Special *word; /* that were added; the longer ones first */
    int n_word, cap_word;
};

Tokenizer *tokenizer_open(const char *folder, Err *e) {
    Arena *a = arena_new();
    Tokenizer *t = NEW(a, Tokenizer, 1);
    t->arena = a;
    if (vocabulary_read(&t->v, a, folder, e)) return t;
    arena_free(a);
    return NULL;
}

void tokenizer_close(Tokenizer *t) {
    if (t) arena_free(t->arena);
}

bool tokenizer_add(Tokenizer *t, const char *word, int32_t first, int n) {
    const Special x = {arena_strdup(t->arena, word), strlen(word), first, n};
    bool known = !x.length || !strcmp(word, bos_text) || !strcmp(word, eos_text);
    for (int i = 0; i < t->n_word; i++) known = known || !strcmp(t->word[i].text, word);
    if (known) return false;
    PUSH(t->arena, t->word, t->n_word, t->cap_word, x);
    for (int i = t->n_word - 1; i && t->word[i - 1].length < x.length; i--) {
        t->word[i] = t->word[i - 1];
        t->word[i - 1] = x;
    }
    return true;
}

/* ---- the ids found so far ---- */
typedef struct Ids {
    int32_t *id;
    int n, cap; /* n counts all, at most cap are written */
} Ids;

static void put_id(Ids *out, int32_t id) {
    if (out->n < out->cap) out->id[out->n] = id;
    if (out->n < INT32_MAX) out->n++;
}

/* ---- BPE of one piece ---- */
typedef struct Part {
    int32_t id, next,
        before; /* neighbours in the list, -1 at the ends; id -1: merged away */
} Part;
typedef struct Pair { /* a merge that is possible, or was when it was entered */
    int32_t rank, at, left, right;
} Pair;
typedef struct Piece { /* scratch of one call, reused from piece to piece */
    Arena *arena;
    Part *part;
    Pair *heap, *fresh;
    size_t n, cap, heap_n, heap_cap, fresh_n, fresh_cap;
} Piece;

static bool earlier(const Pair *a, const Pair *b) {
    return a->rank < b->rank || (a->rank == b->rank && a->at < b->at);
}

static void heap_put(Piece *p, Pair x) {
    PUSH(p->arena, p->heap, p->heap_n, p->heap_cap, x);
    size_t i = p->heap_n - 1;
    for (; i && earlier(&x, &p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = x;
}

static Pair heap_take(Piece *p) {
    Pair top = p->heap[0], x = p->heap[--p->heap_n];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < p->heap_n; i = k) {
        if (k + 1 < p->heap_n && earlier(&p->heap[k + 1], &p->heap[k])) k++;
        if (!earlier(&p->heap[k], &x)) break;
        p->heap[i] = p->heap[k];
    }
    p->heap[i] = x;
    return top;
}

/* The pair that starts at part `at`, if it can be merged, waits for its turn. */
static void note_pair(const Vocabulary *v, Piece *p, int32_t at) {
    if (at < 0 || p->part[at].next < 0) return;
    int32_t left = p->part[at].id, right = p->part[p->part[at].next].id;
    const Merge *m = vocabulary_merge(v, left, right);
    Pair x = {m ? m->rank : 0, at, left, right};
    if (m) PUSH(p->arena, p->fresh, p->fresh_n, p->fresh_cap, x);
}

static void enter_fresh(Piece *p) {
    for (size_t i = 0; i < p->fresh_n; i++) heap_put(p, p->fresh[i]);
    p->fresh_n = 0;
}

static void merge_pair(const Vocabulary *v, Piece *p, const Pair *x) {
    Part *left = &p->part[x->at];
    if (left->id != x->left || left->next < 0) return; /* gone since */
    Part *right = &p->part[left->next];
    if (right->id != x->right) return;
    left->id = vocabulary_merge(v, x->left, x->right)->id;
    left->next = right->next;
    right->id = -1;
    if (left->next >= 0) p->part[left->next].before = x->at;
    note_pair(v, p, left->before);
    note_pair(v, p, x->at);
}

/* p->part[0..n) hold the byte symbols. */
static void merge_piece(const Vocabulary *v, Piece *p, Ids *out) {
    p->heap_n = p->fresh_n = 0;
    for (size_t i = 0; i < p->n; i++) {
        p->part[i].before = (int32_t)i - 1;
        p->part[i].next = i + 1 < p->n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i + 1 < p->n; i++) note_pair(v, p, (int32_t)i);
    enter_fresh(p);
    while (p->heap_n) {
        int32_t rank = p->heap[0].rank;
        while (p->heap_n && p->heap[0].rank == rank) {
            Pair x = heap_take(p);
            merge_pair(v, p, &x);
        }
        enter_fresh(p);
    }
    for (int32_t i = p->n ? 0 : -1; i >= 0; i = p->part[i].next)
        put_id(out, p->part[i].id);
}

static void encode_piece(const Vocabulary *v, Piece *p, const uint32_t *c, size_t n,
                         Ids *out) {
    p->n = 0;
    for (size_t i = 0; i < n; i++) {
        char bytes[4];
        int k = utf8_put(bytes, c[i]);
        for (int b = 0; b < k; b++) {
            uint8_t byte = (uint8_t)bytes[b];
            Part x = {.id = i + 1 == n && b + 1 == k ? v->last_byte[byte]
                                                     : v->byte[byte]};
            PUSH(p->arena, p->part, p->n, p->cap, x);
        }
    }
    merge_piece(v, p, out);
}

/* ---- splitting ---- */
/* Length of the literal at c[0..n), or 0. */
static size_t literal(const uint32_t *c, size_t n, const char *text) {
    size_t k = 0;
    for (; text[k]; k++)
        if (k >= n || c[k] != (uint8_t)text[k]) return 0;
    return k;
}

/* 's 't 're 've 'm 'll 'd; the text is lower case, the long s is an s to the original.
 * */
static size_t contraction(const uint32_t *c, size_t n) {
    static const char *const words[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    for (size_t i = 0; i < COUNT(words); i++)
        if (literal(c, n, words[i])) return strlen(words[i]);
    return n > 1 && c[0] == '\'' && c[1] == 0x17F ? 2 : 0;
}

static size_t piece_length(const uint32_t *c, size_t n) {
    size_t k = contraction(c, n);
    if (k) return k;
    if (rune_number(c[0])) return 1;
    bool letters = rune_letter(c[0]);
    for (k = 1; k < n; k++) {
        if (letters ? !rune_letter(c[k])
                    : rune_space(c[k]) || rune_letter(c[k]) || rune_number(c[k]))
            break;
    }
    return k;
}

static void encode_clean(const Vocabulary *v, Piece *p, const Runes *r, Ids *out) {
    for (size_t i = 0, k; i < r->n; i += k) {
        const uint32_t *c = r->c + i;
        size_t n = r->n - i;
        if (rune_space(*c)) {
            k = 1;
        } else if ((k = literal(c, n, bos_text))) {
            put_id(out, v->bos);
        } else if ((k = literal(c, n, eos_text))) {
            put_id(out, v->eos);
        } else {
            k = piece_length(c, n);
            encode_piece(v, p, c, k, out);
        }
    }
}

/* ---- whole texts ---- */
/* Does one begin at s? `bang`: SD2's tokenizer pads with '!', which makes every '!' of a
 * text a token by itself. */
static bool special_at(const Tokenizer *t, const char *s, bool bang, Special *out) {
    const Special own[] = {{bos_text, strlen(bos_text), t->v.bos, 1},
                           {eos_text, strlen(eos_text), t->v.eos, 1},
                           {"!", 1, t->v.byte['!'], 1}};
    for (int i = 0; i < t->n_word; i++)
        if (!strncmp(s, t->word[i].text, t->word[i].length)) {
            *out = t->word[i];
            return true;
        }
    for (int i = 0; i < (bang ? 3 : 2); i++)
        if (!strncmp(s, own[i].text, own[i].length)) {
            *out = own[i];
            return true;
        }
    return false;
}

/* The next special text in s, or NULL. They are cut out before the cleaning, so that their
 * '<' has no say in it. */
static const char *next_special(const Tokenizer *t, const char *s, bool bang,
                                Special *out) {
    for (; s && *s; s++) {
        if (!t->n_word && !(s = strpbrk(s, bang ? "<!" : "<"))) return NULL;
        if (special_at(t, s, bang, out)) return s;
    }
    return NULL;
}

static int encode(const Tokenizer *t, const char *text, bool bang, int32_t *ids,
                  int cap) {
    Arena *scratch = arena_new();
    Piece p = {.arena = scratch};
    Runes clean = {0};
    Ids out = {ids, 0, cap};
    for (const char *s = text; *s;) {
        Special special;
        const char *stop = next_special(t, s, bang, &special);
        clean.n = 0;
        text_clean(s, stop ? (size_t)(stop - s) : strlen(s), &clean);
        encode_clean(&t->v, &p, &clean, &out);
        if (!stop) break;
        for (int i = 0; i < special.n; i++) put_id(&out, special.id + i);
        s = stop + special.length;
    }
    runes_free(&clean);
    arena_free(scratch);
    return out.n;
}

int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, int cap) {
    return encode(t, text, false, ids, cap);
}

/* Is this the padding of SD2's tokenizer, '!'? */
static bool pads_with_bang(const Tokenizer *t, int32_t pad) {
    return pad != t->v.eos && pad == t->v.byte['!'];
}

/* The first n of line[chunks * TOKEN_INNER + 1] are tokens: rows of BOS, TOKEN_INNER tokens and the
 * line's last one. */
static void lay_out(const Tokenizer *t, int32_t *line, int n, int chunks, int32_t pad,
                    int32_t *ids) {
    int inner = TOKEN_INNER * chunks;
    line[n] = t->v.eos;
    for (int i = n + 1; i <= inner; i++) line[i] = pad;
    for (int c = 0; c < chunks; c++) {
        int32_t *row = ids + c * TOKEN_ROW, *first = row + 1,
                *last = row + TOKEN_ROW - 1;
        row[0] = t->v.bos;
        memcpy(first, line + c * TOKEN_INNER, TOKEN_INNER * sizeof *row);
        *last = line[inner];
        if (chunks == 1 || pad == t->v.eos) continue;
        /* SD2: a full chunk still ends, an empty one still starts with EOS */
        if (last[-1] != t->v.eos && last[-1] != pad) *last = t->v.eos;
        if (*first == pad) *first = t->v.eos;
    }
}

int tokenizer_chunks(const Tokenizer *t, const char *text, int chunks, int32_t pad,
                     int32_t *ids) {
    Arena *scratch = arena_new();
    int inner = TOKEN_INNER * chunks;
    if (pad == PAD_END) pad = t->v.eos;
    int32_t *line = NEW(scratch, int32_t, inner + 1);
    int n = encode(t, text, pads_with_bang(t, pad), line, inner);
    lay_out(t, line, n < inner ? n : inner, chunks, pad, ids);
    arena_free(scratch);
    return n;
}

int tokenizer_weighted(const Tokenizer *t, const char *text, int chunks, int32_t pad,
                       int32_t *ids, float *weight) {
    Arena *scratch = arena_new();
    WeightedText *piece;
    int inner = TOKEN_INNER * chunks, n = 0,
        pieces = weights_parse(scratch, text, &piece);
    if (pad == PAD_END) pad = t->v.eos;
    int32_t *line = NEW(scratch, int32_t, inner + 1);
    for (int i = 0; i < TOKEN_ROW * chunks; i++) weight[i] = 1;
    for (int i = 0; i < pieces; i++) {
        int from = n < inner ? n : inner, room = inner - from;
        int got = encode(t, piece[i].text, pads_with_bang(t, pad), line + from, room);
        for (int k = 0; k < got && k < room; k++)
            weight[(from + k) / TOKEN_INNER * TOKEN_ROW + 1 +
                   (from + k) % TOKEN_INNER] = (float)piece[i].weight;
        n += got;
    }
    lay_out(t, line, n < inner ? n : inner, chunks, pad, ids);
    arena_free(scratch);
    return n;
}
