/* Keys and files of cached latents. */
#include "io/latent_cache.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "io/dataset_parts.h"
#include "io/file.h"
#include "io/tensors.h"

enum { FORMAT = 1 };

static void hex_of(XXH128_hash_t h, char out[33]) {
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
}

/* The hash of a file's bytes. */
static bool hash_file(const char *path, char out[33], Err *e) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, e)) return false;
    hex_of(XXH3_128bits(map, n), out);
    file_unmap(map, n);
    return true;
}

bool latent_key(const Dataset *d, const View *v, const char *vae, LatentKey *out,
                Err *e) {
    const Parts *p = d->priv;
    const Sample *s = &d->sample[v->sample];
    const SubsetConfig *c = &p->config.dataset[s->dataset].subset[s->subset];
    char picture[33], mask[33] = "-";
    if (!hash_file(s->path, picture, e)) return false;
    if (s->mask_path && !hash_file(s->mask_path, mask, e)) return false;
    Str text = {0};
    str_printf(&text, "latents %d|%s|%s|%s|%d|%s|", FORMAT, picture, vae, mask,
               c->alpha_mask, c->resize ? c->resize : "");
    str_printf(&text, "%dx%d %dx%d+%d+%d %d", v->resized_w, v->resized_h, s->bucket_w,
               s->bucket_h, v->left, v->top, v->mirrored);
    hex_of(XXH3_128bits(text.s, text.n), out->hex);
    str_free(&text);
    return true;
}

const char *latent_cache_path(Arena *a, const Dataset *d, int sample,
                              const LatentKey *key) {
    const char *path = d->sample[sample].path, *slash = strrchr(path, '/');
    return arena_printf(a, "%.*s/.graphrun-latents/%s.safetensors",
                        (int)(slash ? slash - path : 1), slash ? path : ".", key->hex);
}

/* Over all that the file says: its key, moments, mask. */
static void sum_of(const LatentKey *key, const float *moments, size_t n,
                   const float *mask, size_t cells, char out[33]) {
    XXH3_state_t *x = XXH3_createState();
    if (!x) {
        *out = 0;
        return;
    }
    XXH3_128bits_reset(x);
    XXH3_128bits_update(x, key->hex, strlen(key->hex));
    XXH3_128bits_update(x, moments, n * sizeof *moments);
    if (mask) XXH3_128bits_update(x, mask, cells * sizeof *mask);
    hex_of(XXH3_128bits_digest(x), out);
    XXH3_freeState(x);
}

static bool says(const TensorFile *f, const char *key, const char *value) {
    for (int i = 0; i < f->n_meta; i++)
        if (!strcmp(f->meta_key[i], key)) return !strcmp(f->meta_value[i], value);
    return false;
}

static bool take(const TensorFile *f, const char *name, Type type, float *out) {
    const TensorEntry *t = tensors_find(f, name);
    if (!t || !type_equal(&t->type, &type)) return false;
    memcpy(out, t->data, type_bytes(&type));
    return true;
}

bool latent_cache_read(const char *path, const LatentKey *key, int w, int h, bool check,
                       float *moments, float *mask) {
    Err e = {0};
    if (!file_exists(path)) return false;
    TensorFile *f = safetensors_open(path, &e);
    if (!f) return false;
    size_t cells = (size_t)w * (size_t)h;
    bool ok = says(f, "key", key->hex) &&
              take(f, "moments", type_of(F32, 3, (int64_t[]){h, w, 8}), moments) &&
              (!mask || take(f, "mask", type_of(F32, 2, (int64_t[]){h, w}), mask));
    if (ok && check) {
        char sum[33];
        sum_of(key, moments, 8 * cells, mask, cells, sum);
        ok = says(f, "sum", sum);
    }
    tensors_close(f);
    return ok;
}

bool latent_cache_write(const char *path, const LatentKey *key, int w, int h,
                        const float *moments, const float *mask, Err *e) {
    char sum[33];
    size_t cells = (size_t)w * (size_t)h;
    sum_of(key, moments, 8 * cells, mask, cells, sum);
    TensorOut t[2] = {{"moments", type_of(F32, 3, (int64_t[]){h, w, 8}), moments},
                      {"mask", type_of(F32, 2, (int64_t[]){h, w}), mask}};
    Meta meta[2] = {{"key", key->hex}, {"sum", sum}};
    Arena *a = arena_new();
    const char *slash = strrchr(path, '/');
    bool ok = folder_make(arena_strndup(a, path, (size_t)(slash - path)), e) &&
              safetensors_write(path, t, mask ? 2 : 1, meta, 2, e);
    arena_free(a);
    return ok;
}
