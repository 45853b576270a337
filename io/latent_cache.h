/* Moments of pictures' latents on disk, found by what they were made of: the picture's
 * bytes, the VAE, sizes, crop, mirror, filter, mask. What is stale has another name, so it
 * is never met. Files are safetensors in a folder beside the pictures; each appears whole or
 * not at all and carries a check sum. */
#ifndef GRAPHRUN_LATENT_CACHE_H
#define GRAPHRUN_LATENT_CACHE_H
#include "io/data.h"

typedef struct LatentKey {
    char hex[33];
} LatentKey;
/* vae: a hash of its weights and of how it computes. Reads the picture's file. */
bool latent_key(const Dataset *d, const View *v, const char *vae, LatentKey *out,
                Err *e);
/* PICTURE'S FOLDER/.graphrun-latents/KEY.safetensors, in a. */
const char *latent_cache_path(Arena *a, const Dataset *d, int sample,
                              const LatentKey *key);
/* moments[h,w,8] (mean, then log variance) and mask[h,w] (NULL: none) of latents of w × h.
 * false: there is no such file, or it is damaged; check false leaves the sum unchecked. */
bool latent_cache_read(const char *path, const LatentKey *key, int w, int h, bool check,
                       float *moments, float *mask);
bool latent_cache_write(const char *path, const LatentKey *key, int w, int h,
                        const float *moments, const float *mask, Err *e);
#endif
