/* libFuzzer entry: any bytes as a LoRA file. Modules that come out have factors that fit. */
#include <string.h>

#include "io/lora_read.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Arena *a = arena_new();
    TensorFile *t = NEW(a, TensorFile, 1);
    t->arena = a;
    t->path = "fuzz";
    Err e = {0};
    if (!safetensors_parse(t, data, n, &e)) {
        arena_free(a);
        return 0;
    }
    LoraFile *f = lora_from(t, &e); /* takes t over */
    if (!f && !e.set) __builtin_trap();
    for (int i = 0; f && i < f->n; i++) {
        const LoraModule *m = &f->module[i];
        if (m->down.type.dim[0] != m->rank || m->up.type.dim[1] != m->rank)
            __builtin_trap();
        if (m->rank < 64 && m->in < 1024) lora_dot(m, m);
        if (lora_find(f, m->name) != m) __builtin_trap();
    }
    lora_close(f);
    return 0;
}
