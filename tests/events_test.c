/* Event files against bytes that TensorBoard's own writer makes, and CRCs against RFC 3720. */
#include <string.h>

#include "check.h"
#include "io/events.h"

/* masked: rotated right by 15, plus a constant */
static uint32_t masked(uint32_t crc) {
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void crcs(void) {
    uint8_t zeros[32] = {0}, ones[32], up[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++) up[i] = (uint8_t)i;
    CHECK(events_masked_crc(zeros, 32) == masked(0x8a9136aau), "zeros");
    CHECK(events_masked_crc(ones, 32) == masked(0x62a8ab43u), "ones");
    CHECK(events_masked_crc(up, 32) == masked(0x46dd794eu), "0 … 31");
}

/* The record of Event(file_version="brain.Event:2") without a time: 15 bytes. */
static void record(void) {
    static const char event[] = "\x1a\x0d"
                                "brain.Event:2";
    Str s = {0};
    events_record(&s, event, sizeof event - 1);
    uint64_t length;
    uint32_t crc;
    CHECK(s.n == 8 + 4 + 15 + 4, "%zu bytes", s.n);
    memcpy(&length, s.s, sizeof length);
    memcpy(&crc, s.s + 8 + 4 + 15, sizeof crc);
    CHECK(length == 15 && !memcmp(s.s + 12, event, 15), "length %d", (int)length);
    CHECK(crc == events_masked_crc(event, 15), "its CRC");
    str_free(&s);
}

int main(void) {
    crcs();
    record();
    return check_done("events");
}
