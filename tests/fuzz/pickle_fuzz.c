/* libFuzzer entry: any bytes as a pickle, lenient and strict. Every value that comes out is
 * visited, and every tensor must lie in its storage. */
#include <string.h>

#include "io/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void visit_tensor(const PickleTensor *t) {
    uint64_t last = t->offset, numel = t->storage->numel *
                                       (uint64_t)t->storage->item_bytes /
                                       (uint64_t)t->item_bytes;
    for (int d = 0; d < t->type.rank; d++) {
        if (!t->type.dim[d]) return;
        last += (uint64_t)(t->type.dim[d] - 1) * (uint64_t)t->stride[d];
    }
    if (last >= numel) __builtin_trap();
}

/* A container's own items; what they hold was visited when it was on the top level or is
 * reached by other inputs. */
static unsigned visit(const PickleValue *v) {
    unsigned sum = v->kind;
    if (v->kind == PICKLE_TEXT)
        for (uint32_t i = 0; i < v->n; i++) sum += (unsigned char)v->text[i];
    if (v->kind == PICKLE_GLOBAL || v->kind == PICKLE_OPAQUE)
        sum += (unsigned)strlen(v->text);
    if (v->kind == PICKLE_TENSOR) visit_tensor(v->tensor);
    return sum;
}

static void read_one(const uint8_t *data, size_t n, bool strict) {
    Arena *a = arena_new();
    Err e = {0};
    Pickle p;
    if (pickle_read(a, "fuzz", data, n, strict, &p, &e)) {
        if (p.used > n) __builtin_trap();
        unsigned sum = visit(&p.top);
        bool list = p.top.kind == PICKLE_TUPLE || p.top.kind == PICKLE_LIST ||
                    p.top.kind == PICKLE_DICT;
        for (uint32_t i = 0; list && i < p.top.list->n; i++)
            sum += visit(&p.top.list->item[i]);
        pickle_get(&p.top, "state_dict");
        __asm__ volatile("" : : "r"(sum));
    } else if (!e.set) {
        __builtin_trap();
    }
    arena_free(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    read_one(data, n, false);
    read_one(data, n, true);
    return 0;
}
