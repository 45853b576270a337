/* Pickles as PyTorch writes them, read as data. Nothing is ever executed: the only calls
 * that mean something are the handful that make tensors and dictionaries; every other
 * callable becomes an opaque value that swallows its arguments, and names that exist to run
 * code (os.system, eval, ...) end the reading with their name in the message. */
#ifndef GRAPHRUN_PICKLE_H
#define GRAPHRUN_PICKLE_H
#include "graph/type.h"

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOL,    /* i */
    PICKLE_INT,     /* i */
    PICKLE_FLOAT,   /* f */
    PICKLE_TEXT,    /* text, n bytes: not terminated, may hold zero bytes */
    PICKLE_TUPLE,   /* list */
    PICKLE_LIST,    /* list; sets too */
    PICKLE_DICT,    /* list: keys at even places, each followed by its value */
    PICKLE_GLOBAL,  /* text: "module.name"; `global` says which, if it is known */
    PICKLE_STORAGE, /* storage */
    PICKLE_TENSOR,  /* tensor */
    PICKLE_OPAQUE,  /* text: what it would have been an instance of */
} PickleKind;

typedef struct PickleStorage {
    const char *key;
    DType dtype;    /* DTYPES: a type this program has no use for */
    int item_bytes; /* of one element; 1: untyped */
    uint64_t numel; /* in elements, of the whole storage */
    uint64_t first; /* legacy views: element of the storage they begin at */
} PickleStorage;

/* Every element lies in its storage: checked. Offset and strides in elements. */
typedef struct PickleTensor {
    const PickleStorage *storage;
    Type type; /* dtype DTYPES: of no use */
    int item_bytes;
    uint64_t offset;
    int64_t stride[MAX_RANK];
} PickleTensor;

typedef struct PickleList PickleList;
typedef struct PickleValue {
    uint8_t kind;   /* PickleKind */
    uint8_t global; /* kind of a known global, see pickle.c */
    uint32_t n;     /* bytes of text */
    union {
        int64_t i;
        double f;
        const char *text;
        PickleList *list;
        const PickleStorage *storage;
        const PickleTensor *tensor;
    };
} PickleValue;
struct PickleList {
    PickleValue *item;
    uint32_t n, cap;
    uint32_t depth;
};

/* What one pickle may hold, whatever its size on disk. */
enum {
    PICKLE_MOST_BYTES = 64 << 20,
    PICKLE_MOST_VALUES = 2 << 20,
    PICKLE_MOST_DEPTH = 1000,
    PICKLE_MOST_NAME = 512,
};

typedef struct Pickle {
    PickleValue top;
    size_t used;                   /* bytes it took */
    const PickleStorage **storage; /* every one that was named, in order, repeated */
    uint32_t n_storage;
} Pickle;
/* Reads the pickle at the start of bytes. Values live in a, text points into bytes.
 * strict: unknown callables are failures, not opaque. */
bool pickle_read(Arena *a, const char *path, const void *bytes, size_t n, bool strict,
                 Pickle *out, Err *e);
bool pickle_is(const PickleValue *v, const char *text); /* a text, and this one */
/* The value of a key of a dictionary, or NULL; the last one, as in Python. */
const PickleValue *pickle_get(const PickleValue *dict, const char *key);
#endif
