/* The names a pickle may call: which mean something, and which end the reading. */
#ifndef GRAPHRUN_PICKLE_GLOBALS_H
#define GRAPHRUN_PICKLE_GLOBALS_H
#include "graph/type.h"

enum { /* kinds of known globals; 0: unknown */
       GLOBAL_TENSOR = 1,
       GLOBAL_TENSOR_V3,
       GLOBAL_PARAMETER,
       GLOBAL_FROM_TYPE,
       GLOBAL_DICT,
       GLOBAL_HARMLESS, /* known, of no use */
       GLOBAL_UNTYPED,
       GLOBAL_STORAGE, /* and the element types from here on */
       GLOBAL_DTYPE = GLOBAL_STORAGE + 32,
};

int pickle_global(const char *module, const char *name);
/* Modules and functions that exist to run code, open files or reach the network. */
bool pickle_forbidden(const char *module, const char *name);
/* torch.FloatStorage ... / torch.float32 ...: false if `global` is none. dtype DTYPES:
 * a type this program has no use for; item_bytes is right for all. */
bool pickle_storage_type(int global, DType *dtype, int *item_bytes);
bool pickle_dtype(int global, DType *dtype, int *item_bytes);
#endif
