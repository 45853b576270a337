/* Writing a trained LoRA: cast, hash, write. Tensors that have the save type already are
 * written from where they are. */
#include "io/lora_file.h"

#include <string.h>

#include "io/torch_file.h"

static const char model_key[] = "sshs_model_hash", legacy_key[] = "sshs_legacy_hash";

static const TensorOut *cast(Arena *a, const TensorOut *t, int n, int save) {
    TensorOut *out = NEW(a, TensorOut, n);
    for (int i = 0; i < n; i++) {
        out[i] = t[i];
        if (save == LORA_KEEP || (int)t[i].type.dtype == save) continue;
        int64_t count = type_count(&t[i].type);
        out[i].type.dtype = (DType)save;
        void *data = arena_alloc(a, (size_t)count, dtype_size((DType)save));
        convert(data, (DType)save, t[i].data, t[i].type.dtype, count);
        out[i].data = data;
    }
    return out;
}

bool lora_file_write(const char *path, const TensorOut *t, int n, int save,
                     const Meta *meta, int n_meta, Err *e) {
    Arena *a = arena_new();
    const TensorOut *stored = cast(a, t, n, save);
    Meta *all = NEW(a, Meta, n_meta + 2);
    int n_all = 0;
    for (int i = 0; i < n_meta; i++)
        if (strcmp(meta[i].key, model_key) && strcmp(meta[i].key, legacy_key))
            all[n_all++] = meta[i];
    char model[65], legacy[9];
    const bool hashes = !path_is_torch(path); /* that form has no metadata */
    bool ok = !hashes || lora_hashes(stored, n, all, n_all, model, legacy, e);
    if (ok && hashes) {
        all[n_all++] = (Meta){model_key, model};
        all[n_all++] = (Meta){legacy_key, legacy};
    }
    ok = ok && tensors_write_made(path, stored, n, all, n_all, NULL, NULL, e);
    arena_free(a);
    return ok;
}
