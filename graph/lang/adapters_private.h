/* What matching and injecting adapters share. */
#ifndef GRAPHRUN_ADAPTERS_PRIVATE_H
#define GRAPHRUN_ADAPTERS_PRIVATE_H
#include "graph/lang/build_private.h"

/* Position of an input of a row by name, -1: there is none. */
int input_index(const Op *op, const char *name);
/* Is the node's op one that the adapter can wrap? */
bool adapter_wraps(const Doc *d, const Node *n);
/* A node's path inside the network, NULL if it is of another. */
const char *path_in(const Node *n, const char *network);
#endif
