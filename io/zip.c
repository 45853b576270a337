/* Reading zip files (PKWARE's APPNOTE 6.3), zip64 included.
 *
 * The central directory is the truth: sizes in local headers may be 0 (bit 3), and only the
 * length of name and extra field is taken from there. Before an entry is handed out its
 * bytes are known to lie in the file, before the directory, apart from every other entry.
 * Names are only compared, never opened. */
#include "io/zip.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL_BYTES = 30,
    CENTRAL_BYTES = 46,
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    MOST_COMMENT = 65535,
    STORED = 0,
    DEFLATED = 8,
    ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13, /* bits of the flags that mean some cipher */
    MOST_NAME = 4096,
};
static const uint32_t local_mark = 0x04034b50, central_mark = 0x02014b50,
                      end_mark = 0x06054b50, end64_mark = 0x06064b50,
                      locator64_mark = 0x07064b50;

typedef struct Parse {
    Zip *z;
    const uint8_t *b;
    uint64_t n;
    uint64_t directory, directory_bytes, count;
    Err *e;
} Parse;

static uint32_t u16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t u32(const uint8_t *p) {
    return u16(p) | u16(p + 2) << 16;
}
static uint64_t u64(const uint8_t *p) {
    return u32(p) | (uint64_t)u32(p + 4) << 32;
}

/* A name from the file, fit for a message. */
static const char *shown(Arena *a, const char *name, size_t n) {
    enum { MOST_SHOWN = 100 };
    char *s = arena_strndup(a, name, n < MOST_SHOWN ? n : MOST_SHOWN);
    for (char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f) *p = '?';
    return s;
}

PRINTF(3, 4) static bool bad(Zip *z, Err *e, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_fail(e, "'%s': %s", z->path, text);
}

/* ---- the end of the file ---- */

/* The last record whose comment reaches exactly to the end of the file. */
static bool find_end(const Parse *p, uint64_t *at) {
    if (p->n < END_BYTES) return false;
    uint64_t most = p->n - END_BYTES;
    uint64_t least = most > MOST_COMMENT ? most - MOST_COMMENT : 0;
    for (uint64_t i = most + 1; i-- > least;)
        if (u32(p->b + i) == end_mark && u16(p->b + i + 20) == most - i) {
            *at = i;
            return true;
        }
    return false;
}

static bool read_end64(Parse *p, uint64_t end) {
    if (end < LOCATOR64_BYTES) return true;
    const uint8_t *locator = p->b + end - LOCATOR64_BYTES;
    if (u32(locator) != locator64_mark) return true;
    uint64_t at = u64(locator + 8);
    if (at > end - LOCATOR64_BYTES || end - LOCATOR64_BYTES - at < END64_BYTES ||
        u32(p->b + at) != end64_mark)
        return bad(p->z, p->e,
                   "the zip64 end record is not at %llu, where its locator says",
                   (unsigned long long)at);
    const uint8_t *r = p->b + at;
    if (u32(r + 16) || u32(r + 20) || u64(r + 24) != u64(r + 32))
        return bad(p->z, p->e, "a zip of several disks is not supported");
    p->count = u64(r + 32);
    p->directory_bytes = u64(r + 40);
    p->directory = u64(r + 48);
    return true;
}

static bool read_end(Parse *p) {
    uint64_t end, stop;
    if (!find_end(p, &end))
        return bad(p->z, p->e,
                   "is cut off or no zip file: the end record of a zip is missing");
    const uint8_t *r = p->b + end;
    if (u16(r + 4) || u16(r + 6) || u16(r + 8) != u16(r + 10))
        return bad(p->z, p->e, "a zip of several disks is not supported");
    p->count = u16(r + 10);
    p->directory_bytes = u32(r + 12);
    p->directory = u32(r + 16);
    if (!read_end64(p, end)) return false;
    if (!add_u64(p->directory, p->directory_bytes, &stop) || stop > end)
        return bad(
            p->z, p->e, "the zip directory, %llu bytes at %llu, is outside the file",
            (unsigned long long)p->directory_bytes, (unsigned long long)p->directory);
    if (p->count > p->directory_bytes / CENTRAL_BYTES || p->count > INT_MAX)
        return bad(
            p->z, p->e, "%llu zip entries do not fit in a directory of %llu bytes",
            (unsigned long long)p->count, (unsigned long long)p->directory_bytes);
    return true;
}

/* ---- one entry ---- */
typedef struct Central {
    uint64_t packed, bytes, header;
} Central;

/* The zip64 extra field holds those of the three numbers that are 0xFFFFFFFF, in order. */
static bool read_zip64(const Parse *p, const char *name, const uint8_t *extra, size_t n,
                       Central *c) {
    uint64_t *value[] = {&c->bytes, &c->packed, &c->header};
    while (n >= 4) {
        size_t size = u16(extra + 2);
        if (size > n - 4) break;
        if (u16(extra) == 1) {
            const uint8_t *at = extra + 4;
            for (size_t i = 0; i < COUNT(value); i++) {
                if (*value[i] != UINT32_MAX) continue;
                if ((size_t)(at - extra) + 8 > size + 4)
                    return bad(p->z, p->e, "entry '%s': its zip64 field is too short",
                               name);
                *value[i] = u64(at);
                at += 8;
            }
            return true;
        }
        extra += 4 + size;
        n -= 4 + size;
    }
    return true;
}

/* Where the bytes begin: behind the local header, whose name must be the same. */
static bool read_local(const Parse *p, const char *name, size_t n_name,
                       const Central *c, ZipEntry *x) {
    if (c->header > p->directory || p->directory - c->header < LOCAL_BYTES + n_name ||
        u32(p->b + c->header) != local_mark)
        return bad(p->z, p->e, "entry '%s': no local header at %llu", name,
                   (unsigned long long)c->header);
    const uint8_t *h = p->b + c->header;
    if (u16(h + 26) != n_name || memcmp(h + LOCAL_BYTES, name, n_name))
        return bad(p->z, p->e, "entry '%s': its local header has another name", name);
    if (u16(h + 8) != (x->deflated ? DEFLATED : STORED))
        return bad(p->z, p->e,
                   "entry '%s': its local header has another compression method", name);
    uint64_t data = c->header + LOCAL_BYTES + n_name + u16(h + 28);
    if (data > p->directory || c->packed > p->directory - data)
        return bad(p->z, p->e,
                   "entry '%s': %llu bytes at %llu are outside the file's data", name,
                   (unsigned long long)c->packed, (unsigned long long)data);
    x->data = p->b + data;
    x->packed = c->packed;
    x->bytes = c->bytes;
    return true;
}

/* r: a central record with its name and extra field inside the directory. */
static bool read_entry(const Parse *p, const uint8_t *r, size_t n_name) {
    const char *raw = (const char *)r + CENTRAL_BYTES;
    const char *name = shown(p->z->arena, raw, n_name);
    if (n_name > MOST_NAME || memchr(raw, 0, n_name))
        return bad(p->z, p->e, "entry '%s': its name is too long or holds a zero byte",
                   name);
    int method = (int)u16(r + 10);
    if (u16(r + 8) & ENCRYPTED) return bad(p->z, p->e, "entry '%s' is encrypted", name);
    if (method != STORED && method != DEFLATED)
        return bad(p->z, p->e,
                   "entry '%s': compression method %d is not supported, want stored or "
                   "deflated",
                   name, method);
    Central c = {u32(r + 20), u32(r + 24), u32(r + 42)};
    ZipEntry x = {.name = arena_strndup(p->z->arena, raw, n_name),
                  .crc = u32(r + 16),
                  .deflated = method == DEFLATED};
    if (!read_zip64(p, name, (const uint8_t *)raw + n_name, u16(r + 30), &c) ||
        !read_local(p, x.name, n_name, &c, &x))
        return false;
    if (!x.deflated && x.packed != x.bytes)
        return bad(p->z, p->e, "entry '%s' is stored but has two sizes, %llu and %llu",
                   name, (unsigned long long)x.packed, (unsigned long long)x.bytes);
    p->z->entry[p->z->n++] = x;
    return true;
}

static bool read_directory(const Parse *p) {
    p->z->entry = NEW(p->z->arena, ZipEntry, p->count);
    const uint8_t *r = p->b + p->directory;
    uint64_t left = p->directory_bytes;
    for (uint64_t i = 0; i < p->count; i++) {
        if (left < CENTRAL_BYTES || u32(r) != central_mark)
            return bad(p->z, p->e, "the zip directory ends after %llu of %llu entries",
                       (unsigned long long)i, (unsigned long long)p->count);
        size_t n_name = u16(r + 28);
        size_t all = CENTRAL_BYTES + n_name + u16(r + 30) + u16(r + 32);
        if (all > left)
            return bad(p->z, p->e, "the zip directory ends inside entry %llu",
                       (unsigned long long)i);
        if (!read_entry(p, r, n_name)) return false;
        r += all;
        left -= all;
    }
    return true;
}

/* ---- all entries ---- */
static int by_place(const void *a, const void *b) {
    const ZipEntry *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->packed < y->packed ? -1 : x->packed > y->packed;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ZipEntry *)a)->name, ((const ZipEntry *)b)->name);
}

/* Entries that share bytes are how a small zip unpacks to a huge one. */
static bool check_apart(const Parse *p) {
    Zip *z = p->z;
    if (!z->n) return bad(z, p->e, "the zip has no entries");
    qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_place);
    for (int i = 1; i < z->n; i++) {
        const ZipEntry *x = &z->entry[i - 1], *y = &z->entry[i];
        if (x->packed > (uint64_t)(y->data - x->data))
            return bad(z, p->e, "entries '%s' and '%s' overlap",
                       shown(z->arena, x->name, strlen(x->name)),
                       shown(z->arena, y->name, strlen(y->name)));
    }
    qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_name);
    for (int i = 1; i < z->n; i++)
        if (!strcmp(z->entry[i - 1].name, z->entry[i].name))
            return bad(z, p->e, "two entries are called '%s'",
                       shown(z->arena, z->entry[i].name, strlen(z->entry[i].name)));
    return true;
}

bool zip_parse(Zip *z, const void *bytes, size_t n, Err *e) {
    Parse p = {.z = z, .b = bytes, .n = n, .e = e};
    z->file_bytes = n;
    return read_end(&p) && read_directory(&p) && check_apart(&p);
}

const ZipEntry *zip_find(const Zip *z, const char *name) {
    ZipEntry key = {.name = name};
    return z->n ? bsearch(&key, z->entry, (size_t)z->n, sizeof key, by_name) : NULL;
}

/* ---- deflated entries ---- */
static bool inflate_whole(const ZipEntry *x, uint8_t *to) {
    z_stream s = {.next_in = (Bytef *)(uintptr_t)x->data, .next_out = to};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return false;
    uint64_t in = x->packed, out = x->bytes;
    int rc = Z_OK;
    while (rc == Z_OK) {
        uInt some_in = in > UINT_MAX ? UINT_MAX : (uInt)in;
        uInt some_out = out > UINT_MAX ? UINT_MAX : (uInt)out;
        s.avail_in = some_in;
        s.avail_out = some_out;
        rc = inflate(&s, Z_NO_FLUSH);
        in -= some_in - s.avail_in;
        out -= some_out - s.avail_out;
        if (rc == Z_OK && s.avail_in == some_in && s.avail_out == some_out) break;
    }
    inflateEnd(&s);
    return rc == Z_STREAM_END && !out && !in;
}

static uint32_t crc_of(const uint8_t *p, uint64_t n) {
    return (uint32_t)crc32_z(crc32_z(0, NULL, 0), p, (z_size_t)n);
}

bool zip_data(Zip *z, const ZipEntry *x, const void **data, Err *e) {
    *data = x->data;
    if (!x->deflated) return true;
    const char *name = shown(z->arena, x->name, strlen(x->name));
    uint64_t most = z->file_bytes * ZIP_MOST_TIMES, all;
    if (most < ZIP_MOST_SMALL) most = ZIP_MOST_SMALL;
    if (!add_u64(z->inflated, x->bytes, &all) || all > most)
        return bad(z, e,
                   "entry '%s' unpacks to %llu bytes: more than %d times the file's "
                   "own size is taken for a zip bomb",
                   name, (unsigned long long)x->bytes, ZIP_MOST_TIMES);
    /* deflate's best is 1032 to 1 */
    if (x->bytes / 1032 > x->packed)
        return bad(z, e, "entry '%s': %llu bytes cannot unpack to %llu", name,
                   (unsigned long long)x->packed, (unsigned long long)x->bytes);
    z->inflated = all;
    uint8_t *to = arena_alloc(z->arena, (size_t)x->bytes + 1, 1);
    if (!inflate_whole(x, to))
        return bad(z, e, "entry '%s': its deflated data is damaged", name);
    if (crc_of(to, x->bytes) != x->crc)
        return bad(z, e, "entry '%s': its CRC is wrong", name);
    *data = to;
    return true;
}
