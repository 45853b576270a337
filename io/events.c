/* Event files: protobuf's wire form has two kinds of fields here, varints and bytes with
 * their length; fixed ones are little endian as the machine is. */
#include "io/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct Events {
    FILE *out;
    const char *path;
    Str event, summary, value, record; /* reused from call to call */
};

/* ---- records ---- */
uint32_t events_masked_crc(const void *data, size_t n) {
    const uint8_t *p = data;
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0); /* 1EDC6F41 reversed */
    }
    crc = ~crc;
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void add_bytes(Str *s, const void *data, size_t n) {
    str_addn(s, data, n);
}

void events_record(Str *s, const void *data, size_t n) {
    const uint64_t length = n;
    uint32_t crc = events_masked_crc(&length, sizeof length);
    add_bytes(s, &length, sizeof length);
    add_bytes(s, &crc, sizeof crc);
    add_bytes(s, data, n);
    crc = events_masked_crc(data, n);
    add_bytes(s, &crc, sizeof crc);
}

/* ---- protobuf ---- */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

static void varint(Str *s, uint64_t x) {
    for (;; x >>= 7) {
        uint8_t low = (uint8_t)(x & 0x7f);
        if (x > 0x7f) low |= 0x80;
        add_bytes(s, &low, 1);
        if (x <= 0x7f) return;
    }
}

static void key(Str *s, int field, int form) {
    varint(s, (uint64_t)(field << 3 | form));
}

static void field_double(Str *s, int field, double x) {
    key(s, field, FIXED64);
    add_bytes(s, &x, sizeof x);
}

static void field_bytes(Str *s, int field, const void *data, size_t n) {
    key(s, field, BYTES);
    varint(s, n);
    add_bytes(s, data, n);
}

/* Event: 1 wall_time, 2 step, 3 file_version, 5 summary. Summary: 1 value. Value: 1 tag,
 * 2 simple_value. */
static void event_scalar(Events *v, const Scalar *s) {
    const float x = (float)s->value;
    v->value.n = 0;
    field_bytes(&v->value, 1, s->tag, strlen(s->tag));
    key(&v->value, 2, FIXED32);
    add_bytes(&v->value, &x, sizeof x);
    field_bytes(&v->summary, 1, v->value.s, v->value.n);
}

/* ---- files ---- */
static bool failed(const Events *v, Err *e) {
    return err_fail(e, "cannot write '%s': %s", v->path, strerror(errno));
}

static bool write_event(Events *v, Err *e) {
    v->record.n = 0;
    events_record(&v->record, v->event.s, v->event.n);
    return (fwrite(v->record.s, 1, v->record.n, v->out) == v->record.n &&
            !fflush(v->out)) ||
           failed(v, e);
}

bool events_add(Events *v, double seconds, int64_t step, const Scalar *s, int n,
                Err *e) {
    v->event.n = v->summary.n = 0;
    for (int i = 0; i < n; i++) event_scalar(v, &s[i]);
    field_double(&v->event, 1, seconds);
    key(&v->event, 2, VARINT);
    varint(&v->event, (uint64_t)step);
    if (n) field_bytes(&v->event, 5, v->summary.s, v->summary.n);
    return write_event(v, e);
}

Events *events_open(Arena *a, const char *path, double seconds, Err *e) {
    static const char version[] = "brain.Event:2";
    Events *v = NEW(a, Events, 1);
    v->path = arena_strdup(a, path);
    v->out = fopen(path, "wbx");
    if (!v->out) {
        failed(v, e);
        return NULL;
    }
    field_double(&v->event, 1, seconds);
    field_bytes(&v->event, 3, version, sizeof version - 1);
    if (write_event(v, e)) return v;
    events_close(v, e);
    return NULL;
}

bool events_close(Events *v, Err *e) {
    if (!v) return true;
    bool ok = !fclose(v->out) || failed(v, e);
    str_free(&v->event);
    str_free(&v->summary);
    str_free(&v->value);
    str_free(&v->record);
    return ok;
}
