/* libFuzzer entry: any bytes as a safetensors file. Every byte of every tensor that is
 * handed out is read, so that a wrong range is a finding. */
#include <string.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    TensorFile *f = NEW(a, TensorFile, 1);
    f->arena = a;
    f->path = "fuzz";
    Err e = {0};
    if (safetensors_parse(f, data, n, &e)) {
        unsigned sum = 0;
        for (int i = 0; i < f->n; i++) {
            const uint8_t *p = f->entry[i].data;
            for (size_t k = 0; k < type_bytes(&f->entry[i].type); k++) sum += p[k];
            if (tensors_find(f, f->entry[i].name) != &f->entry[i]) __builtin_trap();
        }
        __asm__ volatile("" : : "r"(sum));
    } else if (!e.set) {
        __builtin_trap();
    }
    arena_free(a);
    return 0;
}
