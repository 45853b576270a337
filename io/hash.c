/* SHA-256 by libcrypto's EVP interface, and the two hashes of a base model's file that
 * LoRA metadata carries. Files are streamed, never held. */
#include "io/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"

struct Sha256 {
    EVP_MD_CTX *ctx;
    bool ok;
};

Sha256 *sha256_new(Err *e) {
    Sha256 *h = calloc(1, sizeof *h);
    if (h) h->ctx = EVP_MD_CTX_new();
    h = h && h->ctx ? h : (free(h), NULL);
    if (!h)
        err_fail(e, "no memory for a hash");
    else
        h->ok = EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) == 1;
    return h;
}

void sha256_add(Sha256 *h, const void *data, size_t n) {
    if (n && h->ok) h->ok = EVP_DigestUpdate(h->ctx, data, n) == 1;
}

void sha256_free(Sha256 *h) {
    if (!h) return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

bool sha256_hex(Sha256 *h, char out[65], Err *e) {
    unsigned char sum[EVP_MAX_MD_SIZE];
    bool ok = h->ok && EVP_DigestFinal_ex(h->ctx, sum, NULL) == 1;
    for (int i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", ok ? sum[i] : 0);
    sha256_free(h);
    return ok || err_fail(e, "libcrypto cannot compute SHA-256");
}

void window_add(Sha256 *h, uint64_t offset, const void *data, size_t n) {
    uint64_t from = offset > OLD_HASH_FROM ? offset : OLD_HASH_FROM;
    uint64_t to = offset + n < OLD_HASH_TO ? offset + n : OLD_HASH_TO;
    if (from < to) sha256_add(h, (const char *)data + (from - offset), to - from);
}

static bool hash_stream(FILE *in, const char *path, Sha256 *window, Sha256 *all,
                        Err *e) {
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    if (!piece) return err_fail(e, "no memory to read '%s'", path);
    uint64_t at = 0;
    for (size_t n; (n = fread(piece, 1, PIECE, in)) > 0; at += n) {
        window_add(window, at, piece, n);
        sha256_add(all, piece, n);
    }
    free(piece);
    return !ferror(in) || err_fail(e, "cannot read '%s': %s", path, strerror(errno));
}

bool model_hashes(const char *path, char old8[9], char full[65], Err *e) {
    if (folder_exists(path))
        return err_fail(e, "cannot hash '%s': it is a folder", path);
    FILE *in = fopen(path, "rb");
    if (!in) return err_fail(e, "cannot open '%s': %s", path, strerror(errno));
    Sha256 *window = sha256_new(e), *all = sha256_new(e);
    bool ok = window && all && hash_stream(in, path, window, all, e);
    fclose(in);
    if (!ok) {
        sha256_free(window);
        sha256_free(all);
        return false;
    }
    char hex[65];
    bool got = sha256_hex(window, hex, e);
    if (!sha256_hex(all, full, e) || !got) return false;
    memcpy(old8, hex, 8);
    old8[8] = 0;
    return true;
}
