/* Hostile safetensors: header texts over 16 bytes of data, and files that are not even
 * that. `length`: what the first eight bytes say; 0: the truth. */
#ifndef GRAPHRUN_HOSTILE_HEADERS_H
#define GRAPHRUN_HOSTILE_HEADERS_H
#include <stdint.h>

typedef struct BadHeader {
    const char *name, *text;
    uint64_t length;
    const char *want;
} BadHeader;

#define ENTRY(dtype, shape, offsets)                                                   \
    "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const BadHeader bad_headers[] = {
    {"length-beyond-file", ENTRY("F32", "[4]", "[0,16]"), 1000, "is cut off"},
    {"length-giant", ENTRY("F32", "[4]", "[0,16]"), UINT64_MAX, "a header of"},
    {"length-100MB", ENTRY("F32", "[4]", "[0,16]"), 100000001, "a header of"},
    {"not-json", "{\"w\":", 0, "not valid JSON"},
    {"a-list", "[]", 0, "not a JSON object"},
    {"a-number", "7", 0, "not"},
    {"not-utf8", "{\"\377\":1}", 0, "not valid JSON"},
    {"name-twice",
     "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     0, "duplicate"},
    {"dtype-unknown", ENTRY("F33", "[4]", "[0,16]"), 0, "no element type 'F33'"},
    {"dtype-f8", ENTRY("F8_E5M2", "[16]", "[0,16]"), 0, "F8_E5M2 are not supported"},
    {"dtype-number", "{\"w\":{\"dtype\":3,\"shape\":[4],\"data_offsets\":[0,16]}}", 0,
     "'dtype' is missing"},
    {"shape-missing", "{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", 0,
     "'shape' is missing"},
    {"shape-negative", ENTRY("F32", "[-4]", "[0,16]"), 0, "from 0 up"},
    {"shape-float", ENTRY("F32", "[4.0]", "[0,16]"), 0, "from 0 up"},
    {"shape-giant", ENTRY("F32", "[9223372036854775807]", "[0,16]"), 0, "too large"},
    {"shape-overflow", ENTRY("F32", "[4294967296,4294967296]", "[0,0]"), 0,
     "too large"},
    {"shape-wraps-to-16", ENTRY("U8", "[4611686018427387908,4]", "[0,16]"), 0,
     "too large"},
    {"shape-beyond-json", ENTRY("F32", "[99999999999999999999]", "[0,16]"), 0,
     "not valid JSON"},
    {"dimensions-many", ENTRY("F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), 0, "too many"},
    {"offsets-beyond", ENTRY("F32", "[8]", "[0,32]"), 0, "outside the data"},
    {"offsets-backwards", ENTRY("F32", "[4]", "[16,0]"), 0, "outside the data"},
    {"offsets-too-few", ENTRY("F32", "[4]", "[0,8]"), 0, "needs 16 bytes"},
    {"offsets-giant", ENTRY("F32", "[4]", "[0,9223372036854775807]"), 0,
     "outside the data"},
    {"hole", ENTRY("F32", "[2]", "[8,16]"), 0, "a hole or an overlap"},
    {"rest", ENTRY("F32", "[2]", "[0,8]"), 0, "the file has 16"},
    {"overlap",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
     0, "a hole or an overlap"},
    {"metadata-number", "{\"__metadata__\":{\"a\":1}}", 0, "is not a string"},
    {"metadata-list", "{\"__metadata__\":[]}", 0, "not an object"},
    {"entry-is-text", "{\"w\":\"x\"}", 0, "not an object"},
};
#endif
