/* SHA-256, piece by piece (libcrypto). */
#ifndef GRAPHRUN_HASH_H
#define GRAPHRUN_HASH_H
#include "graph/base/base.h"

typedef struct Sha256 Sha256;
Sha256 *sha256_new(Err *e);
void sha256_add(Sha256 *h, const void *data, size_t n);
/* 64 lower-case hex digits and NUL; frees h. */
bool sha256_hex(Sha256 *h, char out[65], Err *e);
void sha256_free(Sha256 *h);
#endif
