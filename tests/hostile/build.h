/* Bytes of the hostile files: a zip writer that can lie in every field, and the old form of
 * torch.save. */
#ifndef GRAPHRUN_HOSTILE_BUILD_H
#define GRAPHRUN_HOSTILE_BUILD_H
#include <string.h>
#include <zlib.h>

#include "graph/base/base.h"

typedef struct Part { /* an entry of a zip, before it is damaged */
    const char *name;
    const void *data;
    size_t n;
    bool deflate;
} Part;

/* Places in a zip of two parts, for patches. */
typedef struct Places {
    size_t local[2], data[2], central[2], end;
} Places;

static inline void put(Str *s, uint64_t x, int bytes) {
    for (int i = 0; i < bytes; i++) {
        char c = i < 8 ? (char)(x >> (8 * i)) : 0;
        str_addn(s, &c, 1);
    }
}

static inline void patch(Str *s, size_t at, uint64_t x, int bytes) {
    for (int i = 0; i < bytes; i++) s->s[at + (size_t)i] = (char)(x >> (8 * i));
}

static inline void squeeze(Str *out, const void *data, size_t n) {
    enum { PIECE = 1 << 16 };
    char piece[PIECE];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n};
    deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
    do {
        z.next_out = (Bytef *)piece;
        z.avail_out = PIECE;
        deflate(&z, Z_FINISH);
        str_addn(out, piece, PIECE - z.avail_out);
    } while (!z.avail_out);
    deflateEnd(&z);
}

static inline void zip_of(Str *s, const Part *part, int n, Places *at) {
    size_t packed[2] = {0};
    for (int i = 0; i < n; i++) {
        Str body = {0};
        if (part[i].deflate)
            squeeze(&body, part[i].data, part[i].n);
        else
            str_addn(&body, part[i].data, part[i].n);
        packed[i] = body.n;
        at->local[i] = s->n;
        put(s, 0x04034b50, 4);
        put(s, 0, 4); /* version, flags */
        put(s, part[i].deflate ? 8 : 0, 2);
        put(s, 0, 4);
        put(s, crc32(0, part[i].data, (uInt)part[i].n), 4);
        put(s, body.n, 4);
        put(s, part[i].n, 4);
        put(s, strlen(part[i].name), 2);
        put(s, 0, 2);
        str_add(s, part[i].name);
        at->data[i] = s->n;
        str_addn(s, body.s, body.n);
        str_free(&body);
    }
    size_t directory = s->n;
    for (int i = 0; i < n; i++) {
        at->central[i] = s->n;
        put(s, 0x02014b50, 4);
        put(s, 0, 6); /* versions, flags */
        put(s, part[i].deflate ? 8 : 0, 2);
        put(s, 0, 4);
        put(s, crc32(0, part[i].data, (uInt)part[i].n), 4);
        put(s, packed[i], 4);
        put(s, part[i].n, 4);
        put(s, strlen(part[i].name), 2);
        put(s, 0, 2 + 2 + 2 + 2 + 4);
        put(s, at->local[i], 4);
        str_add(s, part[i].name);
    }
    at->end = s->n;
    put(s, 0x06054b50, 4);
    put(s, 0, 4);
    put(s, (uint64_t)n, 2);
    put(s, (uint64_t)n, 2);
    put(s, at->end - directory, 4);
    put(s, directory, 4);
    put(s, 0, 2);
}

/* str_addn of zero bytes would leave s NULL */
static inline Part part_of(const char *name, const void *data, size_t n) {
    return (Part){name, data, n, false};
}
#endif
