/* Adapters of files in the graphs of whole networks: what generate draws with and eval runs. */
#ifndef GRAPHRUN_ADAPTER_USE_H
#define GRAPHRUN_ADAPTER_USE_H
#include "cli/files/adapter_file.h"
#include "graph/lang/build.h"
#include "runtime/exec.h"

typedef struct AdapterUse {
    const AdapterFile *file;
    double multiplier;
    const double
        *weight; /* by block (runtime/lora_blocks.h), n_weight of them, or NULL */
    int n_weight;
} AdapterUse;
typedef struct AdaptersIn { /* what came of it */
    Graph *graph;
    Modules modules;
    const AdapterFile **of; /* per module */
} AdaptersIn;

/* Every module of the files whose node stands in g, file after file; those of networks that
 * are not in g are left for others. training: dropouts work and slices learn. Sets used[i] for module i of all files together (in
 * the files' order) that found its node; used may be NULL. */
bool adapters_use(Arena *a, const Graph *g, Net *net, const AdapterUse *use, int n,
                  bool training, bool *used, AdaptersIn *out, Err *e);
/* Their tensors, once a plan of `graph` is bound. */
bool adapters_fill(const AdaptersIn *in, Exec *x, Err *e);
#endif
