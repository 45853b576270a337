/* libFuzzer entry: any bytes as a file of torch.save, zip or old form. Every byte of every
 * entry and of every tensor is read. */
#include <string.h>

#include "io/torch_file.h"
#include "io/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned sum_of(const void *data, uint64_t n) {
    unsigned sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += ((const uint8_t *)data)[i];
    return sum;
}

static unsigned read_zip(Arena *a, const uint8_t *data, size_t n) {
    unsigned sum = 0;
    Zip z = {.arena = a, .path = "fuzz"};
    Err e = {0};
    if (!zip_parse(&z, data, n, &e)) {
        if (!e.set) __builtin_trap();
        return 0;
    }
    for (int i = 0; i < z.n; i++) {
        const void *bytes;
        Err why = {0};
        if (zip_data(&z, &z.entry[i], &bytes, &why))
            sum += sum_of(bytes, z.entry[i].bytes);
        else if (!why.set)
            __builtin_trap();
        if (zip_find(&z, z.entry[i].name) != &z.entry[i]) __builtin_trap();
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    unsigned sum = read_zip(a, data, n);
    TensorFile *f = NEW(a, TensorFile, 1);
    f->arena = a;
    f->path = "fuzz";
    Err e = {0};
    if (torch_is(data, n) && torch_parse(f, data, n, false, &e))
        for (int i = 0; i < f->n; i++)
            sum += sum_of(f->entry[i].data, type_bytes(&f->entry[i].type));
    __asm__ volatile("" : : "r"(sum));
    arena_free(a);
    return 0;
}
