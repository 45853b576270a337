/* Cleaning of captions before they become tokens.
 *
 * sd-scripts' tokenizer runs ftfy.fix_text first. What is done here, in ftfy's order,
 * line by line and again until nothing changes: HTML entities (until the first line
 * with a '<'), C1 controls as windows-1252, Latin ligatures, full and half width forms,
 * curly quotes, line breaks, terminal escapes, control characters, NFC. Left out: the
 * repair of mojibake ("cafÃ©"). Behind it white space is collapsed and the text
 * lower-cased.
 *
 * Time is linear in the text: entities inside entities ("&amp;amp;") are resolved in
 * the same walk, and the repetition ends after PASSES rounds. */
#include "io/text_clean.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "io/html_entities.h"

enum { PASSES = 16, ENTITY_MAX = 24 }; /* ftfy: &#?[0-9A-Za-z]{1,24}; */

/* ---- code points ---- */
void runes_put(Runes *r, uint32_t c) {
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->c = realloc(r->c, r->cap * sizeof *r->c);
        if (!r->c) { /* as arenas and Str do */
            fprintf(stderr, "graphrun: error: out of memory: %zu characters wanted\n",
                    r->cap);
            exit(EXIT_FAILED);
        }
    }
    r->c[r->n++] = c;
}

void runes_free(Runes *r) {
    free(r->c);
    *r = (Runes){0};
}

uint32_t utf8_next(const char *s, size_t n, size_t *used) {
    utf8proc_int32_t c = -1;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s,
                                          n > 4 ? 4 : (utf8proc_ssize_t)n, &c);
    if (k <= 0 || c < 0) {
        *used = 1;
        return 0xFFFD;
    }
    *used = (size_t)k;
    return (uint32_t)c;
}

int utf8_put(char out[4], uint32_t c) {
    return (int)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
}

size_t utf8_valid(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)s + i,
                             n - i > 4 ? 4 : (utf8proc_ssize_t)(n - i), &c);
        if (k <= 0) break;
        i += (size_t)k;
    }
    return i;
}

bool rune_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

bool rune_letter(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool rune_number(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO;
}

/* ---- C1 controls: what windows-1252 has there (0: nothing, kept) ---- */
static const uint16_t windows_1252[32] = {
    0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
    0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
    0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
    0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

static uint32_t from_windows(uint32_t c) {
    uint32_t w = c >= 0x80 && c <= 0x9F ? windows_1252[c - 0x80] : 0;
    return w ? w : c;
}

/* ---- HTML entities ---- */
static int entity_order(const void *key, const void *row) {
    return strcmp(key, ((const HtmlEntity *)row)->name);
}

/* ftfy also knows the all-capital form of lower-case names: &EACUTE; */
static uint32_t entity_capital(const char *name) {
    char low[ENTITY_MAX + 1];
    size_t n = strlen(name);
    for (size_t i = 0; i <= n; i++) {
        if (name[i] >= 'a' && name[i] <= 'z') return 0;
        low[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
    }
    const HtmlEntity *row =
        bsearch(low, html_entities, html_entity_count, sizeof *row, entity_order);
    if (!row) return 0;
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)row->code);
}

/* Value of "#1234" or "#xABC", as html.unescape: 0 when there is nothing to put. */
static uint32_t entity_number(const char *digits, bool *known) {
    bool hex = digits[0] == 'x' || digits[0] == 'X';
    char *end;
    if (hex) digits++;
    *known = false;
    if (!*digits ||
        strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(digits))
        return 0;
    unsigned long long v = strtoull(digits, &end, hex ? 16 : 10);
    *known = true;
    if (v == 0 || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF)) return 0xFFFD;
    uint32_t c = from_windows((uint32_t)v);
    bool control = (c < 32 && c != 9 && c != 10 && c != 13 && c != 12) ||
                   (c >= 0x7F && c <= 0x9F) || (c & 0xFFFE) == 0xFFFE ||
                   (c >= 0xFDD0 && c <= 0xFDEF);
    return control && c != 13 ? 0 : c;
}

/* The entity whose '&' stood before in[i]. Returns the code points it has from there
 * (0: no entity); *c is its value, 0 for nothing. */
static size_t entity_at(const Runes *in, size_t i, uint32_t *c) {
    char name[ENTITY_MAX + 2];
    size_t n = 0, j = i;
    if (j < in->n && in->c[j] == '#') name[n++] = '#', j++;
    size_t start = n;
    for (; j < in->n && n - start <= ENTITY_MAX; j++) {
        uint32_t d = in->c[j];
        bool word = (d >= '0' && d <= '9') || ((d | 32) >= 'a' && (d | 32) <= 'z');
        if (!word || d > 127) break;
        if (n - start == ENTITY_MAX) return 0;
        name[n++] = (char)d;
    }
    if (n == start || j >= in->n || in->c[j] != ';') return 0;
    name[n] = 0;
    bool known = true;
    if (name[0] == '#') {
        *c = entity_number(name + 1, &known);
    } else {
        const HtmlEntity *row =
            bsearch(name, html_entities, html_entity_count, sizeof *row, entity_order);
        *c = row ? row->code : entity_capital(name);
        known = *c != 0;
    }
    return known ? j + 1 - i : 0;
}

static void unescape(const Runes *in, Runes *out) {
    for (size_t i = 0; i < in->n; i++) {
        runes_put(out, in->c[i]);
        uint32_t c;
        size_t used;
        /* an '&' that an entity gave may start the next one */
        while (out->n && out->c[out->n - 1] == '&' &&
               (used = entity_at(in, i + 1, &c))) {
            out->n--;
            if (c) runes_put(out, c);
            i += used;
            if (!c) break;
        }
    }
}

/* ---- single characters ---- */
static const struct {
    uint16_t c;
    const char *text;
} ligatures[] = {{0x132, "IJ"},        {0x133, "ij"},        {0x149, "\xCA\xBCn"},
                 {0x1C4, "D\xC5\xBD"}, {0x1C5, "D\xC5\xBE"}, {0x1C6, "d\xC5\xBE"},
                 {0x1C7, "LJ"},        {0x1C8, "Lj"},        {0x1C9, "lj"},
                 {0x1CA, "NJ"},        {0x1CB, "Nj"},        {0x1CC, "nj"},
                 {0x1F1, "DZ"},        {0x1F2, "Dz"},        {0x1F3, "dz"},
                 {0xFB00, "ff"},       {0xFB01, "fi"},       {0xFB02, "fl"},
                 {0xFB03, "ffi"},      {0xFB04, "ffl"},      {0xFB05, "\xC5\xBFt"},
                 {0xFB06, "st"}};

static uint32_t straight_quote(uint32_t c) {
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B)) return '\'';
    return c >= 0x201C && c <= 0x201F ? '"' : c;
}

static bool put_ligature(uint32_t c, Runes *out) {
    if (c < 0x132 || (c > 0x1F3 && c < 0xFB00) || c > 0xFB06) return false;
    for (size_t i = 0; i < COUNT(ligatures); i++) {
        if (ligatures[i].c != c) continue;
        const char *s = ligatures[i].text;
        for (size_t n = strlen(s), used; n; s += used, n -= used)
            runes_put(out, straight_quote(utf8_next(s, n, &used)));
        return true;
    }
    return false;
}

/* Full and half width forms become their compatibility form (NFKC of the one character;
 * the later NFC composes). */
static void put_width(uint32_t c, Runes *out) {
    utf8proc_int32_t buf[18];
    int bound = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(
        (utf8proc_int32_t)c, buf, COUNT(buf),
        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPAT | UTF8PROC_COMPOSE),
        &bound);
    if (n < 1 || n > (utf8proc_ssize_t)COUNT(buf)) buf[0] = (utf8proc_int32_t)c, n = 1;
    for (utf8proc_ssize_t i = 0; i < n; i++)
        runes_put(out, straight_quote((uint32_t)buf[i]));
}

static bool is_control(uint32_t c) {
    return c <= 8 || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
           (c >= 0x206A && c <= 0x206F) || c == 0xFEFF || (c >= 0xFFF9 && c <= 0xFFFC);
}

static void fold_characters(const Runes *in, Runes *out) {
    for (size_t i = 0; i < in->n; i++) {
        uint32_t c = from_windows(in->c[i]);
        if (c == '\r') {
            if (i + 1 < in->n && in->c[i + 1] == '\n') i++;
            runes_put(out, '\n');
        } else if (c == 0x2028 || c == 0x2029) {
            runes_put(out, '\n');
        } else if (c == 0x3000) {
            runes_put(out, ' ');
        } else if (c >= 0xFF01 && c <= 0xFFEF) {
            put_width(c, out);
        } else if (!put_ligature(c, out)) {
            runes_put(out, straight_quote(c));
        }
    }
}

/* Length of a terminal escape ESC [ (digit | ;)* letter at in[i], or 0. */
static size_t escape_at(const Runes *in, size_t i) {
    if (in->c[i] != 27 || i + 1 >= in->n || in->c[i + 1] != '[') return 0;
    size_t j = i + 2;
    while (j < in->n && ((in->c[j] >= '0' && in->c[j] <= '9') || in->c[j] == ';')) j++;
    if (j >= in->n || in->c[j] > 127) return 0;
    uint32_t low = in->c[j] | 32;
    return low >= 'a' && low <= 'z' ? j + 1 - i : 0;
}

static void drop_controls(const Runes *in, Runes *out) {
    for (size_t i = 0, skip; i < in->n; i++) {
        if ((skip = escape_at(in, i)))
            i += skip - 1;
        else if (!is_control(in->c[i]))
            runes_put(out, in->c[i]);
    }
}

/* ---- NFC ---- */
static int mark_class(uint32_t c) {
    return utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

/* Canonical order of the marks in c[0..n): a stable counting sort, because hostile text
 * may have one run of 100,000 marks. */
static void order_marks(uint32_t *c, size_t n, Runes *spare) {
    size_t start[257] = {0};
    bool sorted = true;
    for (size_t i = 0; i < n; i++) {
        start[mark_class(c[i]) + 1]++;
        if (i && mark_class(c[i - 1]) > mark_class(c[i])) sorted = false;
    }
    if (sorted) return;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    spare->n = 0;
    for (size_t i = 0; i < n; i++) runes_put(spare, 0);
    for (size_t i = 0; i < n; i++) spare->c[start[mark_class(c[i])]++] = c[i];
    memcpy(c, spare->c, n * sizeof *c);
}

static void compose(Runes *in, Runes *out) {
    bool plain = true;
    for (size_t i = 0; i < in->n && plain; i++) plain = in->c[i] < 0x300;
    for (size_t i = 0; i < in->n; i++) {
        utf8proc_int32_t buf[18];
        int bound = 0;
        utf8proc_ssize_t n =
            plain
                ? 0
                : utf8proc_decompose_char(
                      (utf8proc_int32_t)in->c[i], buf, COUNT(buf),
                      (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE), &bound);
        if (n < 1 || n > (utf8proc_ssize_t)COUNT(buf))
            runes_put(out, in->c[i]);
        else
            for (utf8proc_ssize_t k = 0; k < n; k++) runes_put(out, (uint32_t)buf[k]);
    }
    if (plain || !out->n) return;
    Runes spare = {0};
    for (size_t i = 0, j; i < out->n; i = j) {
        for (j = i; j < out->n && mark_class(out->c[j]); j++) continue;
        if (j > i + 1) order_marks(out->c + i, j - i, &spare);
        if (j == i) j++;
    }
    runes_free(&spare);
    utf8proc_ssize_t n = utf8proc_normalize_utf32(
        (utf8proc_int32_t *)out->c, (utf8proc_ssize_t)out->n,
        (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (n >= 0) out->n = (size_t)n;
}

/* ---- one line, until nothing changes ---- */
static void swap(Runes *a, Runes *b) {
    Runes t = *a;
    *a = *b, *b = t;
    b->n = 0;
}

static bool same(const Runes *a, const Runes *b) {
    return a->n == b->n && (!a->n || !memcmp(a->c, b->c, a->n * sizeof *a->c));
}

static void fix_line(Runes *line, bool entities) {
    Runes before = {0}, next = {0};
    for (int pass = 0; pass < PASSES; pass++) {
        before.n = 0;
        for (size_t i = 0; i < line->n; i++) runes_put(&before, line->c[i]);
        if (entities) unescape(line, &next), swap(line, &next);
        fold_characters(line, &next), swap(line, &next);
        drop_controls(line, &next), swap(line, &next);
        compose(line, &next), swap(line, &next);
        if (same(line, &before)) break;
    }
    runes_free(&before);
    runes_free(&next);
}

static bool plain_line(const Runes *r) {
    for (size_t i = 0; i < r->n; i++) {
        uint32_t c = r->c[i];
        if (c == '&' || c == '\r' || c > 126 || is_control(c)) return false;
    }
    return true;
}

/* ---- lower case ---- */
static bool is_cased(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL ||
           k == UTF8PROC_CATEGORY_LT;
}

static bool is_case_ignorable(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME ||
           k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_LM ||
           k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' || c == ':' ||
           c == 0xB7 || c == 0x2019 || c == 0x2024 || c == 0x2027;
}

/* Unicode's Final_Sigma: a cased letter before and none behind, ignorable ones between.
 * */
static bool final_sigma(const Runes *r, size_t i, bool cased_before) {
    if (!cased_before) return false;
    size_t j = i + 1;
    while (j < r->n && is_case_ignorable(r->c[j])) j++;
    return j >= r->n || !is_cased(r->c[j]);
}

static void lower(const Runes *in, Runes *out) {
    bool cased = false; /* the last letter that is not ignorable was a cased one */
    for (size_t i = 0; i < in->n; i++) {
        uint32_t c = in->c[i];
        if (c == 0x130) { /* the one letter whose lower case is two */
            runes_put(out, 'i');
            runes_put(out, 0x307);
        } else if (c == 0x3A3) {
            runes_put(out, final_sigma(in, i, cased) ? 0x3C2 : 0x3C3);
        } else {
            runes_put(out, c < 128 ? (c >= 'A' && c <= 'Z' ? c + 32 : c)
                                   : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
        }
        if (!is_case_ignorable(c)) cased = is_cased(c);
    }
}

/* ---- the whole text ---- */
void text_clean(const char *text, size_t n, Runes *out) {
    Runes line = {0}, all = {0};
    bool entities = true, space = false;
    for (size_t i = 0; i < n;) {
        line.n = 0;
        uint32_t c = 0;
        for (size_t used; i < n && c != '\n'; i += used) {
            c = utf8_next(text + i, n - i, &used);
            if (c == '<') entities = false;
            runes_put(&line, c);
        }
        if (!plain_line(&line)) fix_line(&line, entities);
        for (size_t k = 0; k < line.n; k++) {
            if (rune_space(line.c[k])) {
                space = all.n > 0;
                continue;
            }
            if (space) runes_put(&all, ' ');
            space = false;
            runes_put(&all, line.c[k]);
        }
    }
    lower(&all, out);
    runes_free(&line);
    runes_free(&all);
}
