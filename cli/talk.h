/* What commands say on stderr while they work. */
#ifndef GRAPHRUN_TALK_H
#define GRAPHRUN_TALK_H
#include "cli/opt.h"
#include "runtime/progress.h"

/* Progress on stderr: a bar when it is a terminal, lines when not, nothing with --quiet. */
Progress *talk_progress(Arena *a, const Common *c, const char *label, int64_t total);
/* Bytes of memory that this process holds now; 0: not known. */
uint64_t talk_memory_bytes(void);
#endif
