/* BMP: 1, 4, 8 (palette, also run-length coded), 16, 24 and 32 bits, bottom-up and
 * top-down, headers from OS/2's 12 bytes to Windows' 124. No library reads all of
 * these; the format is small (Microsoft, "Bitmap Storage").
 *
 * Invariant: nothing is read outside f, nothing written outside rgb, whatever the
 * header says; what a run-length file does not paint stays black. */
#include <string.h>

#include "io/image_format.h"

enum { RGB_PLAIN, RLE8, RLE4, FIELDS, FIELDS_ALPHA = 6 };

typedef struct Bmp {
    int w, h, bits, coding;
    bool top_down;
    size_t pixels; /* offset of the pixel data */
    const uint8_t *palette;
    uint32_t colors, entry; /* palette: how many, bytes of each */
    uint32_t mask[3];       /* red, green, blue of 16 and 32 bits */
} Bmp;

static bool bmp_is(Bytes f) {
    return f.n >= 2 && f.b[0] == 'B' && f.b[1] == 'M';
}

static size_t row_bytes(const Bmp *m) {
    return ((size_t)m->w * (size_t)m->bits + 31) / 32 * 4;
}

static bool depth_fits(const Bmp *m) {
    if (m->coding == RLE8) return m->bits == 8 && !m->top_down;
    if (m->coding == RLE4) return m->bits == 4 && !m->top_down;
    if (m->coding == FIELDS || m->coding == FIELDS_ALPHA)
        return m->bits == 16 || m->bits == 32;
    return m->coding == RGB_PLAIN && (m->bits == 1 || m->bits == 4 || m->bits == 8 ||
                                      m->bits == 16 || m->bits == 24 || m->bits == 32);
}

/* Channel masks: stored in or behind the header, or 5-5-5 and 8-8-8. */
static void find_masks(Bytes f, Bmp *m) {
    bool stored = m->coding == FIELDS || m->coding == FIELDS_ALPHA;
    for (int c = 0; c < 3; c++) {
        uint32_t plain = m->bits == 16 ? 31u << (10 - 5 * c) : 255u << (16 - 8 * c);
        m->mask[c] = stored && f.n >= 54 + 12 ? le32(f.b + 54 + 4 * c) : plain;
    }
}

static bool read_sizes(Bytes f, Bmp *m, uint32_t header, Why *why) {
    int64_t w, h;
    if (header == 12) {
        w = le16(f.b + 18), h = le16(f.b + 20);
        m->bits = (int)le16(f.b + 24);
    } else {
        w = (int32_t)le32(f.b + 18), h = (int32_t)le32(f.b + 22);
        m->bits = (int)le16(f.b + 28);
        m->coding = le32(f.b + 30) > 6 ? -1 : (int)le32(f.b + 30);
    }
    m->top_down = h < 0;
    if (h < 0) h = -h;
    if (w < 1 || h < 1 || h > INT32_MAX)
        return why_set(why, "BMP of %lld x %lld pixels", (long long)w, (long long)h);
    m->w = (int)w, m->h = (int)h;
    return true;
}

static bool read_header(Bytes f, Bmp *m, Why *why) {
    *m = (Bmp){0};
    uint32_t header = f.n >= 26 ? le32(f.b + 14) : 0;
    if ((header != 12 && (header < 40 || header > 124)) || f.n < 14 + (size_t)header)
        return why_set(why, "BMP with a header of %u bytes", header);
    if (!read_sizes(f, m, header, why)) return false;
    if (!depth_fits(m))
        return why_set(why, "BMP of %d bits with coding %d, which is not supported",
                       m->bits, m->coding);
    m->pixels = le32(f.b + 10);
    m->entry = header == 12 ? 3 : 4;
    find_masks(f, m);
    if (m->bits <= 8) {
        uint32_t used = header == 12 ? 0 : le32(f.b + 46), most = 1u << m->bits;
        m->colors = used && used < most ? used : most;
        if (f.n < 14 + (size_t)header + (size_t)m->colors * m->entry)
            return why_set(why, "BMP cut off inside its palette");
        m->palette = f.b + 14 + header;
    }
    bool runs = m->coding == RLE8 || m->coding == RLE4;
    uint64_t want = runs ? 2 : (uint64_t)row_bytes(m) * (uint64_t)m->h;
    if (m->pixels > f.n || want > f.n - m->pixels)
        return why_set(why, "BMP cut off: %zu bytes, want %llu", f.n,
                       (unsigned long long)(m->pixels + want));
    return true;
}

static bool bmp_size(Bytes f, int *w, int *h, Why *why) {
    Bmp m;
    if (!read_header(f, &m, why)) return false;
    *w = m.w, *h = m.h;
    return true;
}

static void put_index(const Bmp *m, uint32_t index, uint8_t *rgb) {
    if (index >= m->colors) return; /* black */
    const uint8_t *p = m->palette + (size_t)index * m->entry;
    rgb[0] = p[2], rgb[1] = p[1], rgb[2] = p[0];
}

/* The channel's bits, stretched to 0 … 255. */
static uint8_t field(uint32_t v, uint32_t mask) {
    if (!mask) return 0;
    int shift = __builtin_ctz(mask);
    uint64_t most = mask >> shift;
    return (uint8_t)(((uint64_t)((v & mask) >> shift) * 255 + most / 2) / most);
}

static void put_row(const Bmp *m, const uint8_t *src, uint8_t *rgb) {
    for (int x = 0; x < m->w; x++, rgb += 3) {
        if (m->bits <= 8) {
            int bit = x * m->bits & 7, byte = (int)((int64_t)x * m->bits >> 3);
            put_index(
                m, (uint32_t)src[byte] >> (8 - m->bits - bit) & ((1u << m->bits) - 1),
                rgb);
        } else if (m->bits == 24) {
            rgb[0] = src[3 * x + 2], rgb[1] = src[3 * x + 1], rgb[2] = src[3 * x];
        } else {
            uint32_t v =
                m->bits == 16 ? le16(src + 2 * (size_t)x) : le32(src + 4 * (size_t)x);
            for (int c = 0; c < 3; c++) rgb[c] = field(v, m->mask[c]);
        }
    }
}

/* ---- run lengths: (n, v) paints n pixels; (0, 0) ends a row, (0, 1) the picture, (0,
 * 2) jumps, (0, n) copies n pixels, padded to two bytes ---- */
typedef struct Pen {
    const Bmp *m;
    uint8_t *rgb;
    int64_t x, y; /* y from the bottom */
} Pen;

static void paint(Pen *p, uint32_t index) {
    if (p->x < p->m->w && p->y < p->m->h)
        put_index(p->m, index,
                  p->rgb + ((size_t)(p->m->h - 1 - p->y) * p->m->w + p->x) * 3);
    p->x++;
}

static uint32_t run_pixel(const Bmp *m, const uint8_t *v, uint32_t i) {
    if (m->coding == RLE8) return v[i];
    return i & 1 ? v[i / 2] & 15u : v[i / 2] >> 4;
}

static bool decode_runs(Bytes f, const Bmp *m, uint8_t *rgb) {
    Pen p = {m, rgb, 0, 0};
    for (int64_t i = 0, n = (int64_t)m->w * m->h; i < n; i++)
        put_index(m, 0, rgb + 3 * i);
    size_t at = m->pixels;
    while (f.n - at >= 2 && p.y < m->h) {
        uint32_t n = f.b[at], v = f.b[at + 1];
        at += 2;
        if (n) { /* two pixels of 4 bits take turns */
            uint8_t pair[2] = {(uint8_t)v, (uint8_t)v};
            for (uint32_t i = 0; i < n; i++) paint(&p, run_pixel(m, pair, i & 1));
        } else if (v == 0) {
            p.x = 0, p.y++;
        } else if (v == 1) {
            return true;
        } else if (v == 2) {
            if (f.n - at < 2) return false;
            p.x += f.b[at], p.y += f.b[at + 1];
            at += 2;
        } else {
            size_t bytes = m->coding == RLE8 ? v : (v + 1) / 2;
            if (f.n - at < bytes) return false;
            for (uint32_t i = 0; i < v; i++) paint(&p, run_pixel(m, f.b + at, i));
            bytes += bytes & 1;
            at = f.n - at < bytes ? f.n : at + bytes;
        }
    }
    return p.y >= m->h || (p.y == m->h - 1 && p.x >= m->w);
}

static bool bmp_decode(Bytes f, int w, int h, uint8_t *rgb, Why *why) {
    Bmp m;
    if (!read_header(f, &m, why) || m.w != w || m.h != h) return false;
    if (m.coding == RLE8 || m.coding == RLE4)
        return decode_runs(f, &m, rgb) || why_set(why, "BMP cut off inside its runs");
    for (int y = 0; y < h; y++) {
        int from = m.top_down ? y : h - 1 - y;
        put_row(&m, f.b + m.pixels + (size_t)from * row_bytes(&m),
                rgb + (size_t)y * w * 3);
    }
    return true;
}

const ImageFormat image_bmp = {"BMP", bmp_is, bmp_size, bmp_decode, NULL};
