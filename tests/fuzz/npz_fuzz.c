/* libFuzzer entry: any bytes as a NumPy array and as a zip of them. Every byte of an array
 * that is handed out is read, so that a wrong size is a finding. */
#include "io/npz.h"
#include "io/zip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static unsigned read_array(const void *bytes, size_t n) {
    NpyArray x;
    const char *why = NULL;
    if (!npy_parse(bytes, n, &x, &why)) {
        if (!why) __builtin_trap();
        return 0;
    }
    if (x.rank < 1 || x.rank > (int)COUNT(x.dim)) __builtin_trap();
    size_t size = (size_t)x.bytes;
    for (int i = 0; i < x.rank; i++) size *= (size_t)x.dim[i];
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++) sum += ((const uint8_t *)x.data)[i];
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    unsigned sum = read_array(data, n);
    Zip z = {.arena = a, .path = "fuzz"};
    Err e = {0};
    if (zip_parse(&z, data, n, &e))
        for (int i = 0; i < z.n; i++) {
            const void *bytes;
            Err why = {0};
            if (zip_data(&z, &z.entry[i], &bytes, &why))
                sum += read_array(bytes, z.entry[i].bytes);
        }
    __asm__ volatile("" : : "r"(sum));
    arena_free(a);
    return 0;
}
