/* Caption processing. What looks odd is the original's: joining is always ", ", whatever
 * the separator is; empty pieces are kept, except beside a keep separator; a caption that
 * nothing asks to change stays as written. */
#define _GNU_SOURCE /* memmem */
#include "io/captions.h"

#include <math.h>
#include <string.h>

#include "io/text_clean.h"

/* "{{" and "}}" while alternatives are chosen: bytes that no UTF-8 text has. */
enum { OPEN_BRACE = '\xFF', CLOSE_BRACE = '\xFE' };

static bool blank(uint32_t c) {
    return rune_space(c) || (c >= 0x1C && c <= 0x1F);
}

/* Bytes of the last character of s[0..n). */
static size_t last_size(const char *s, size_t n) {
    size_t k = 1;
    while (k < 4 && k < n && ((uint8_t)s[n - k] & 0xC0) == 0x80) k++;
    return k;
}

const char *text_strip(const char *s, size_t *n) {
    size_t used;
    while (*n && blank(utf8_next(s, *n, &used))) s += used, *n -= used;
    while (*n) {
        size_t k = last_size(s, *n);
        if (!blank(utf8_next(s + *n - k, k, &used)) || used != k) break;
        *n -= k;
    }
    return s;
}

static bool given(const char *s) {
    return s && *s;
}

/* ---- lists of pieces ---- */
typedef struct Text {
    const char *s;
    size_t n;
} Text;

typedef struct Pieces {
    Text *item;
    size_t n, cap;
} Pieces;

static void split(Arena *a, Text t, const char *separator, bool keep_empty,
                  Pieces *out) {
    size_t sep_n = strlen(separator);
    for (const char *s = t.s, *end = t.s + t.n;;) {
        const char *stop = memmem(s, (size_t)(end - s), separator, sep_n);
        Text x = {s, (size_t)((stop ? stop : end) - s)};
        x.s = text_strip(x.s, &x.n);
        if (x.n || keep_empty) PUSH(a, out->item, out->n, out->cap, x);
        if (!stop) return;
        s = stop + sep_n;
    }
}

/* t up to the first `separator`; the rest is what follows it. false: there is none. */
static bool cut(Text t, const char *separator, Text *before, Text *after) {
    const char *at = memmem(t.s, t.n, separator, strlen(separator));
    *before = t;
    if (!at) return false;
    before->n = (size_t)(at - t.s);
    after->s = at + strlen(separator);
    after->n = (size_t)(t.s + t.n - after->s);
    return true;
}

static void join(Str *out, const Pieces *p) {
    for (size_t i = 0; i < p->n; i++) {
        if (i) str_add(out, ", ");
        str_addn(out, p->item[i].s, p->item[i].n);
    }
}

static const char *taken(Arena *a, Str *s) {
    const char *text = arena_strndup(a, s->n ? s->s : "", s->n);
    str_free(s);
    return text;
}

/* ---- the steps ---- */
static const char *with_ends(Arena *a, const char *caption, const CaptionRule *r) {
    if (given(r->prefix)) caption = arena_printf(a, "%s %s", r->prefix, caption);
    if (given(r->suffix)) caption = arena_printf(a, "%s %s", caption, r->suffix);
    return caption;
}

static bool dropped(const CaptionRule *r, const CaptionTime *t,
                    const CaptionDraws *draw) {
    if (r->dropout_rate > 0 && draw->uniform(draw->ctx) < r->dropout_rate) return true;
    return r->dropout_every > 0 && t->epoch % r->dropout_every == 0;
}

static Text pick_line(const char *s, const CaptionDraws *draw) {
    uint32_t lines = 1;
    for (const char *c = s; *c; c++) lines += *c == '\n';
    uint32_t line = lines > 1 ? draw->choice(draw->ctx, lines) : 0;
    while (line--) s = strchr(s, '\n') + 1;
    return (Text){s, strcspn(s, "\n")};
}

/* One of the alternatives between bars. */
static void pick(Str *out, const char *s, size_t n, const CaptionDraws *draw) {
    uint32_t bars = 0;
    for (size_t i = 0; i < n; i++) bars += s[i] == '|';
    for (uint32_t k = draw->choice(draw->ctx, bars + 1); k; k--) {
        const char *bar = memchr(s, '|', n);
        n -= (size_t)(bar + 1 - s);
        s = bar + 1;
    }
    const char *bar = memchr(s, '|', n);
    str_addn(out, s, bar ? (size_t)(bar - s) : n);
}

/* The regular expression \{([^}]+)\}, from left to right. */
static const char *wildcards(Arena *a, const char *caption, const CaptionDraws *draw) {
    Text line = pick_line(caption, draw);
    char *s = arena_strndup(a, line.s, line.n), *to = s;
    for (const char *c = s; *c; c++) {
        bool twice = (*c == '{' || *c == '}') && c[1] == *c;
        *to++ = !twice ? *c : *c == '{' ? (char)OPEN_BRACE : (char)CLOSE_BRACE;
        c += twice;
    }
    *to = 0;
    Str out = {0};
    for (const char *c = s; *c;) {
        const char *end = *c == '{' ? strchr(c, '}') : NULL;
        if (end && end > c + 1) {
            pick(&out, c + 1, (size_t)(end - c - 1), draw);
            c = end + 1;
        } else {
            str_addn(&out, c++, 1);
        }
    }
    for (size_t i = 0; i < out.n; i++)
        out.s[i] = out.s[i] == (char)OPEN_BRACE    ? '{'
                   : out.s[i] == (char)CLOSE_BRACE ? '}'
                                                   : out.s[i];
    return taken(a, &out);
}

/* How many of n loose pieces are used; below 0: all but so many, as a Python slice. */
static size_t warm(const CaptionRule *r, const CaptionTime *t, size_t n) {
    double step = r->warmup_step < 1 ? floor(r->warmup_step * (double)t->max_steps)
                                     : r->warmup_step;
    if (!(step > 0) || (double)t->step >= step) return n;
    double slope = ((double)n - (double)r->warmup_min) / step;
    double used = floor((double)t->step * slope) + (double)r->warmup_min;
    if (used < 0) used += (double)n;
    return used < 0 ? 0 : used < (double)n ? (size_t)used : n;
}

static void shuffle(Pieces *p, const CaptionDraws *draw) {
    for (size_t i = p->n; i > 1; i--) {
        size_t j = draw->place(draw->ctx, (uint32_t)i);
        Text t = p->item[i - 1];
        p->item[i - 1] = p->item[j];
        p->item[j] = t;
    }
}

static void drop_pieces(Pieces *p, double rate, const CaptionDraws *draw) {
    size_t kept = 0;
    for (size_t i = 0; rate > 0 && i < p->n; i++)
        if (draw->uniform(draw->ctx) >= rate) p->item[kept++] = p->item[i];
    if (rate > 0) p->n = kept;
}

static void divide(Arena *a, const char *caption, const CaptionRule *r, Pieces *fixed,
                   Pieces *loose, Pieces *last) {
    Text all = {caption, strlen(caption)}, first, rest, end;
    if (given(r->keep_separator) && cut(all, r->keep_separator, &first, &rest)) {
        Text middle = rest;
        if (cut(rest, r->keep_separator, &middle, &end))
            split(a, end, r->separator, false, last);
        split(a, first, r->separator, false, fixed);
        split(a, middle, r->separator, false, loose);
        return;
    }
    all.s = text_strip(all.s, &all.n);
    split(a, all, r->separator, true, loose);
    size_t kept = r->keep_tokens > 0 ? (size_t)r->keep_tokens : 0;
    if (kept > loose->n) kept = loose->n;
    *fixed = (Pieces){loose->item, kept, kept};
    loose->item += kept, loose->n -= kept;
}

static const char *pieces(Arena *a, const char *caption, const CaptionRule *r,
                          const CaptionTime *t, const CaptionDraws *draw) {
    Pieces fixed = {0}, loose = {0}, last = {0};
    divide(a, caption, r, &fixed, &loose, &last);
    loose.n = warm(r, t, loose.n);
    if (r->shuffle) shuffle(&loose, draw);
    drop_pieces(&loose, r->tag_dropout_rate, draw);
    Pieces all = {0};
    const Pieces *part[] = {&fixed, &loose, &last};
    for (size_t k = 0; k < COUNT(part); k++)
        for (size_t i = 0; i < part[k]->n; i++)
            PUSH(a, all.item, all.n, all.cap, part[k]->item[i]);
    Str out = {0};
    join(&out, &all);
    return taken(a, &out);
}

static const char *replaced(Arena *a, const char *s, const char *from, const char *to) {
    Str out = {0};
    for (const char *at; (at = strstr(s, from)); s = at + strlen(from)) {
        str_addn(&out, s, (size_t)(at - s));
        str_add(&out, to);
    }
    str_add(&out, s);
    return taken(a, &out);
}

static bool by_pieces(const CaptionRule *r) {
    return r->shuffle || r->warmup_step > 0 || r->tag_dropout_rate > 0;
}

const char *caption_process(Arena *a, const char *caption, const CaptionRule *r,
                            const CaptionTime *t, const CaptionDraws *draw) {
    caption = with_ends(a, caption, r);
    if (dropped(r, t, draw)) return "";
    if (r->wildcard)
        caption = wildcards(a, caption, draw);
    else
        caption = arena_strndup(a, caption, strcspn(caption, "\n"));
    if (by_pieces(r)) caption = pieces(a, caption, r, t, draw);
    if (given(r->secondary)) caption = replaced(a, caption, r->secondary, r->separator);
    return caption;
}

bool caption_is_fixed(const CaptionRule *r, const char *caption) {
    if (r->dropout_rate > 0 || r->dropout_every > 0 || by_pieces(r)) return false;
    return !r->wildcard || !strpbrk(caption, "\n{");
}

/* ---- files ---- */
const char *caption_from_text(Arena *a, const char *text, size_t n, bool wildcard) {
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, n -= 3;
    Str out = {0};
    bool first = true;
    while (n || first) {
        size_t line = 0;
        while (line < n && text[line] != '\n' && text[line] != '\r') line++;
        size_t kept = line;
        const char *s = text_strip(text, &kept);
        if (kept && !first) str_add(&out, "\n");
        for (size_t i = 0; i < kept; i++)
            if (s[i]) str_addn(&out, s + i, 1);
        first = first && !out.n;
        if (!wildcard || line == n) break;
        text += line + 1, n -= line + 1;
    }
    return taken(a, &out);
}
