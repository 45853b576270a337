/* Unicode text as the CLIP tokenizer and the captions need it: UTF-8 in and out, white
 * space as Python sees it, the cleaning list of ftfy (without mojibake repair). */
#ifndef GRAPHRUN_TEXT_CLEAN_H
#define GRAPHRUN_TEXT_CLEAN_H
#include "graph/base/base.h"

/* Code points (malloc; runes_free). */
typedef struct Runes {
    uint32_t *c;
    size_t n, cap;
} Runes;
void runes_put(Runes *r, uint32_t c);
void runes_free(Runes *r);

/* The next code point of s[0..n), n > 0, and in *used its bytes (1 to 4). A byte that
 * is not UTF-8 (overlong forms, surrogates and values above U+10FFFF included) gives
 * U+FFFD and is one byte long. */
uint32_t utf8_next(const char *s, size_t n, size_t *used);
/* Bytes written, at most 4. */
int utf8_put(char out[4], uint32_t c);
/* Length of the longest valid start of s[0..n): n when all of it is UTF-8. */
size_t utf8_valid(const char *s, size_t n);

bool rune_space(uint32_t c);  /* Unicode White_Space */
bool rune_letter(uint32_t c); /* category L */
bool rune_number(uint32_t c); /* category N */

/* Cleaned, NFC, runs of white space one space, no space at the ends, lower case. */
void text_clean(const char *text, size_t n, Runes *out);
#endif
