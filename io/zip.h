/* Zip files as PyTorch writes them: stored entries, seen in place. */
#ifndef GRAPHRUN_ZIP_H
#define GRAPHRUN_ZIP_H
#include "graph/base/base.h"

typedef struct ZipEntry {
    const char *name;
    const uint8_t *data;    /* as in the file: packed bytes of a deflated entry */
    uint64_t packed, bytes; /* in the file, and unpacked */
    uint32_t crc;
    bool deflated;
} ZipEntry;

typedef struct Zip {
    Arena *arena;
    const char *path; /* for messages */
    ZipEntry *entry;  /* sorted by name */
    int n;
    uint64_t file_bytes, inflated; /* inflated: bytes unpacked so far, all entries */
} Zip;

/* Checks the central directory and every local header; arena and path are set. Refused by
 * name: encryption, several disks, methods other than stored and deflated, entries that
 * overlap, leave the file or share a name, names that the two headers spell differently. */
bool zip_parse(Zip *z, const void *bytes, size_t n, Err *e);
const ZipEntry *zip_find(const Zip *z, const char *name); /* NULL: none */
/* The bytes of an entry: in place if stored, else unpacked into the arena and checked
 * against the CRC. A zip may unpack to ZIP_MOST_TIMES its own size, or ZIP_MOST_SMALL. The
 * CRC of a stored entry is not looked at: PyTorch can be told not to write any. */
enum { ZIP_MOST_TIMES = 8, ZIP_MOST_SMALL = 64 << 20 };
bool zip_data(Zip *z, const ZipEntry *x, const void **data, Err *e);
#endif
