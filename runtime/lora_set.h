/* A LoRA in memory, as the file tools make it: factors in f32, whatever they were stored
 * in. Items own their numbers (each has an arena), so that threads can make them. */
#ifndef GRAPHRUN_LORA_SET_H
#define GRAPHRUN_LORA_SET_H
#include "graph/device.h"
#include "io/lora_read.h"
#include "runtime/matrix.h"

typedef struct LoraItem {
    const char *name;
    Arena *arena;
    Type down_type,
        up_type; /* [r,in] and [out,r], or [r,in,k,k] and [out,r,1,1]; F32 */
    float *down, *up;
    double alpha;
    double energy,
        kept; /* squared norm of what was approximated; of that, what is left */
} LoraItem;
typedef struct LoraSet {
    LoraItem *item; /* n of them; an item without arena is left out of files */
    int n;
} LoraSet;

/* n empty items. */
LoraSet *lora_set_new(int n);
void lora_set_free(LoraSet *s);
static inline int64_t lora_item_rank(const LoraItem *m) {
    return m->down_type.dim[0];
}

/* Shapes of factors of rank r for a layer with out outputs whose factor `down` has form
 * `like` ([*,in] or [*,in,k,k]); allocates both. */
void lora_item_shape(LoraItem *m, const Type *like, int64_t out, int64_t r);

/* One module on one worker: dev has a single thread. */
typedef bool LoraWork(void *ctx, int i, Device *dev, Err *e);
/* work(0 ... n-1) on all threads of dev; the failure of the first index counts. */
bool lora_work(Device *dev, int n, LoraWork *work, void *ctx, Err *e);

/* All names of several files, sorted, each once; NULL-terminated, in a. */
const char **lora_names(Arena *a, const LoraFile *const *file, int n, int *count);

/* Do two files' modules fit the same layer? Forms [r,in] and [r,in,1,1] do. */
bool lora_same_layer(const LoraModule *a, const LoraModule *b);
/* Numbers of one factor, rounded to `precision` on the way, in a. */
float *lora_floats(Arena *a, Device *dev, const Type *t, const void *data,
                   DType precision);

typedef struct LoraSetSave {
    const char *path; /* path_is_torch: torch's form, without metadata */
    DType type;
    bool integer_alpha; /* alpha as an int64, not as `type` */
    const Meta *meta;   /* both sshs hashes are added */
    int n_meta;
} LoraSetSave;
/* Whole or not at all; a set without any item is an error. */
bool lora_set_write(const LoraSet *s, const LoraSetSave *o, Err *e);
#endif
