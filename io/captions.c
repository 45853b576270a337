/* Caption processing. Joining is always ", ", whatever the separator is, empty pieces
 * are kept, and a caption that nothing asks to change stays as written: so the
 * original. */
#define _GNU_SOURCE /* memmem */
#include "io/captions.h"

#include <string.h>

#include "io/text_clean.h"

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

typedef struct Text {
    const char *s;
    size_t n;
} Text;

static Text *split(Arena *a, const char *s, size_t n, const char *separator,
                   size_t *count) {
    Text *piece = NULL;
    size_t cap = 0, sep_n = strlen(separator);
    *count = 0;
    for (const char *end = s + n;;) {
        const char *stop = memmem(s, (size_t)(end - s), separator, sep_n);
        Text x = {s, (size_t)((stop ? stop : end) - s)};
        x.s = text_strip(x.s, &x.n);
        PUSH(a, piece, *count, cap, x);
        if (!stop) return piece;
        s = stop + sep_n;
    }
}

static void shuffle(Text *piece, size_t n, CaptionDraw *draw, void *ctx) {
    for (size_t i = n; i > 1; i--) {
        size_t j = draw(ctx, (uint32_t)i);
        Text t = piece[i - 1];
        piece[i - 1] = piece[j];
        piece[j] = t;
    }
}

const char *caption_process(Arena *a, const char *caption, const CaptionRule *r,
                            CaptionDraw *draw, void *ctx) {
    size_t n = strcspn(caption, "\n"), count;
    if (!r->shuffle) return arena_strndup(a, caption, n);
    const char *s = text_strip(caption, &n);
    Text *piece = split(a, s, n, r->separator, &count);
    size_t kept = (size_t)(r->keep_tokens > 0 ? r->keep_tokens : 0);
    if (kept < count) shuffle(piece + kept, count - kept, draw, ctx);
    Str out = {0};
    for (size_t i = 0; i < count; i++) {
        if (i) str_add(&out, ", ");
        str_addn(&out, piece[i].s, piece[i].n);
    }
    const char *text = arena_strndup(a, out.n ? out.s : "", out.n);
    str_free(&out);
    return text;
}
