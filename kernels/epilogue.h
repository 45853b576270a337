/* A formula behind another kernel, over elements that lie behind each other: the rows that
 * a norm has just made are still in the cache when it runs. Variables x0 ... are arrays of
 * n elements; the result may be written over one of them. */
#ifndef GRAPHRUN_EPILOGUE_H
#define GRAPHRUN_EPILOGUE_H
#include "graph/op.h"
#include "kernels/program.h"

/* Room that epilogue_run takes of a worker's scratch; longer formulas are refused. */
enum { EPILOGUE_BYTES = 1 << 19, EPILOGUE_REGISTERS = 100 };

/* text NULL: there is none, *out is NULL. */
bool epilogue_prepare(Arena *a, const char *text, int n_var, Program **out, Err *e);
/* out[i] = f(var[0][i], var[1][i] ...), in f32 or f64; room: EPILOGUE_BYTES. */
void epilogue_run(const Program *p, const TileOps *tile, const void *const *var,
                  void *out, int64_t n, void *room);
/* The fastest for f32 on this machine. */
const TileOps *epilogue_f32(void);
#endif
