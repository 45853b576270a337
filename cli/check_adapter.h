/* Proofs of an adapter by running it on small layers. */
#ifndef GRAPHRUN_CHECK_ADAPTER_H
#define GRAPHRUN_CHECK_ADAPTER_H
#include "graph/lang/build.h"

typedef struct AdapterProof {
    Library *library;
    const Doc *doc;
    const Args *args; /* of the adapter; the rest are its defaults */
    /* results */
    int proved;      /* kinds of layers it was run on */
    bool not_affine; /* no weight can stand for it: it cannot be merged */
} AdapterProof;
/* An adapter that changes a layer before it has learnt is an error at its file. */
bool adapter_prove(AdapterProof *p, Err *e);
#endif
