/* What outlives plans: see runtime/exec.h. This is the side that exec.c sees. */
#ifndef GRAPHRUN_STORE_H
#define GRAPHRUN_STORE_H
#include "runtime/device.h"
#include "runtime/exec.h"

typedef struct NameTable { /* name -> index; open addressing */
    const char **name;
    uint32_t *index;
    uint32_t n, cap;
} NameTable;
void table_put(Arena *a, NameTable *t, const char *name, uint32_t index);
bool table_get(const NameTable *t, const char *name, uint32_t *index);

/* On a device of its own memory, tensors of a kind are put into blocks side by side. */
typedef enum SlabKind { SLAB_STATE, SLAB_WEIGHT, SLABS } SlabKind;
typedef struct Slab {
    char *at;
    uint64_t left;
    uint64_t coming; /* that tensors will need which are not there yet */
} Slab;

typedef struct Kept { /* a trainable or a state; a weight that had to be copied */
    const char *name;
    Type type;
    void *data;
} Kept;

struct Store {
    Device *dev;
    WeightSource source;
    uint64_t seed;
    Arena *arena;
    Kept *kept;
    uint32_t n_kept, cap_kept;
    NameTable kept_names;
    bool restored; /* from a saved state: no tensor is made anew */
    Kept *copied;  /* weights whose bytes in the file were not aligned */
    uint32_t n_copied, cap_copied;
    NameTable copied_names;
    void **block; /* to free */
    uint32_t n_block, cap_block;
    Slab slab[SLABS];
    Room act, work; /* one arena for all plans: only one of them runs at a time */
    Exec **exec;
    uint32_t n_exec, cap_exec;
};

/* The persistent tensor of this name; made and initialised (unless it starts as a value)
 * if there is none: *fresh. NULL: it is there with another type. */
void *store_tensor(Store *s, const PlanValue *v, bool *fresh, Err *e);
/* A persistent tensor of a saved state, before any plan is bound. From then on a tensor that
 * is not there is an error. */
bool store_restore(Store *s, const char *name, const Type *type, const void *data,
                   Err *e);
/* What a tensor holds, for the host to read: where it lies, or a copy in a. */
const void *store_bytes(const Store *s, const Kept *k, Arena *a, Err *e);
/* A frozen weight in its own dtype, aligned to its elements; f32 of the file can be asked for
 * as halves, which are then rounded once. */
const void *store_weight(Store *s, const char *name, const Type *type, Err *e);
/* Bytes that store_tensor or store_weight of this value would take anew; and that so much is
 * about to be taken, in one block where there are blocks. */
uint64_t store_needs(const Store *s, const PlanValue *v);
void store_expect(Store *s, SlabKind kind, uint64_t bytes);
/* Makes the shared arenas large enough; bound plans are told (exec_rebind). */
bool store_reserve(Store *s, uint64_t act, uint64_t work, Err *e);
void store_add_exec(Store *s, Exec *x);
void store_remove_exec(Store *s, Exec *x);
void exec_rebind(Exec *x);
#endif
