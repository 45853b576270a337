/* libFuzzer entry: any bytes as a dataset file; every failure has a message, every
 * resolved dataset keeps its promises. */
#include "io/dataset_config.h"
#include "io/toml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const DataConfig *c) {
    for (int i = 0; i < c->n; i++) {
        const DatasetConfig *d = &c->dataset[i];
        BucketFit fit;
        if (d->batch_size < 1 || d->bucket.step < 8) __builtin_trap();
        for (int side = 1; side < 4000; side = side * 3 + 1)
            if (bucket_fit(&d->bucket, side, 700, &fit) &&
                (fit.bucket_w < 1 || fit.resized_w < fit.bucket_w ||
                 fit.resized_h < fit.bucket_h))
                __builtin_trap();
        for (int k = 0; k < d->n; k++)
            if (d->subset[k].num_repeats < 1 || !*d->subset[k].caption.separator)
                __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    Source src = {"fuzz.toml", arena_strndup(a, (const char *)data, n), n};
    DataOptions o = {0};
    DataConfig c;
    Err e = {0};
    const Toml *top = toml_parse(a, &src, &e);
    if (top && data_config_from(a, &o, top, &c, &e))
        check(&c);
    else if (!e.set)
        __builtin_trap();
    arena_free(a);
    return 0;
}
