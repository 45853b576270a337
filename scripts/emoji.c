/* emoji DIR [FONT [NAMES]]: emoji as pictures with captions, to train on:
 * DIR/1_emoji/1F600.png and .caption. The pictures are the bitmaps of a colour font
 * (Debian: fonts-noto-color-emoji), set on white and made square, or the glyphs of another
 * (fonts-symbola: line drawings), black on white; the captions are Unicode's names (Debian:
 * unicode-data). One code point each: what is joined from several (flags, families, skin
 * tones) is left out. */
#include <errno.h>
#include <ft2build.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include FT_FREETYPE_H

#include "io/file.h"
#include "io/image_write.h"
#include "io/tensors.h"

enum {
    VARIATION = 0xFE0F,
    EM = 112, /* pixels of an outline font: most of its emoji then fill SIDE */
    SIDE = 128
};

typedef struct Emoji {
    Arena *arena;
    FT_Face face;
    const char *dir;
    int saved;
    Err err;
} Emoji;

/* "1F600 ; fully-qualified # x E1.0 grinning face": its code point, 0: not one of ours;
 * *name behind the version. */
static FT_ULong entry(char *line, char **name) {
    char *semicolon = strchr(line, ';'), *hash = strchr(line, '#');
    if (!semicolon || !hash || line[0] == '#') return 0;
    if (!strstr(semicolon, "fully-qualified") || strstr(semicolon, "unqualified"))
        return 0;
    char *p = line;
    FT_ULong code = strtoul(p, &p, 16);
    for (char *next; p < semicolon; p = next) {
        FT_ULong more = strtoul(p, &next, 16);
        if (next == p || next > semicolon) break;
        if (more != VARIATION) return 0;
    }
    char *version = strstr(hash, " E");
    char *text = version ? strchr(version + 1, ' ') : NULL;
    if (!text) return 0;
    text[strcspn(text, "\r\n")] = 0;
    *name = text + 1;
    return code;
}

/* The bitmap over white, in the middle of a square. */
static Image on_white(Arena *a, const FT_Bitmap *b) {
    const bool grey = b->pixel_mode == FT_PIXEL_MODE_GRAY;
    int side = (int)(b->width > b->rows ? b->width : b->rows);
    if (grey && side < SIDE) side = SIDE; /* sizes stay what they are to each other */
    Image im = {.w = side, .h = side, .rgb = NEW(a, uint8_t, 3 * side * side)};
    memset(im.rgb, 255, (size_t)(3 * side * side));
    int left = (side - (int)b->width) / 2, top = (side - (int)b->rows) / 2;
    for (int y = 0; y < (int)b->rows; y++)
        for (int x = 0; x < (int)b->width; x++) {
            const uint8_t *from = b->buffer + y * b->pitch + (grey ? x : 4 * x);
            uint8_t *to = im.rgb + 3 * ((y + top) * side + x + left);
            for (int c = 0; c < 3; c++) /* BGRA is premultiplied */
                to[c] = (uint8_t)(grey ? 255 - *from : from[2 - c] + 255 - from[3]);
        }
    return im;
}

static bool save(Emoji *j, FT_ULong code, const char *name) {
    FT_UInt glyph = FT_Get_Char_Index(j->face, code);
    const FT_Bitmap *b = &j->face->glyph->bitmap;
    const int mode = FT_IS_SCALABLE(j->face) ? FT_PIXEL_MODE_GRAY : FT_PIXEL_MODE_BGRA;
    if (!glyph || FT_Load_Glyph(j->face, glyph, FT_LOAD_COLOR | FT_LOAD_RENDER) ||
        b->pixel_mode != mode || !b->width)
        return true;
    Arena *a = arena_new();
    Image im = on_white(a, b);
    const char *stem = arena_printf(a, "%s/1_emoji/%05lX", j->dir, code);
    const char *caption = arena_printf(a, "%s\n", name);
    bool ok = image_write_png(arena_printf(a, "%s.png", stem), &im, &j->err) &&
              file_write(arena_printf(a, "%s.caption", stem), caption, strlen(caption),
                         &j->err);
    arena_free(a);
    j->saved += ok;
    return ok;
}

static bool save_all(Emoji *j, const char *names) {
    FILE *f = fopen(names, "r");
    if (!f) return err_fail(&j->err, "%s: %s", names, strerror(errno));
    char line[1024], *name;
    bool ok = true;
    while (ok && fgets(line, sizeof line, f)) {
        FT_ULong code = entry(line, &name);
        if (code) ok = save(j, code, name);
    }
    fclose(f);
    return ok;
}

int main(int argc, char **argv) {
    const char *font = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf";
    const char *names = "/usr/share/unicode/emoji/emoji-test.txt";
    FT_Library library;
    Emoji j = {.arena = arena_new(), .dir = argc > 1 ? argv[1] : NULL};
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: emoji DIR [FONT [NAMES]]\n");
        return 2;
    }
    if (argc > 2) font = argv[2];
    if (argc > 3) names = argv[3];
    bool ok = !FT_Init_FreeType(&library) && !FT_New_Face(library, font, 0, &j.face) &&
              !(FT_IS_SCALABLE(j.face) ? FT_Set_Pixel_Sizes(j.face, 0, EM)
                                       : FT_Select_Size(j.face, 0));
    if (!ok) err_fail(&j.err, "%s: no font of outlines or colour bitmaps", font);
    ok = ok && folder_make(arena_printf(j.arena, "%s/1_emoji", j.dir), &j.err) &&
         save_all(&j, names);
    if (!ok) fprintf(stderr, "emoji: %s\n", j.err.text);
    if (ok) printf("%s/1_emoji: %d pictures with captions\n", j.dir, j.saved);
    return ok ? 0 : 1;
}
