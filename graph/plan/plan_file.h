/* Plans as bytes (`graphrun compile -o`, the compile cache).
 *
 *   header 64 bytes   magic "GRPLAN\0\1", u16 major, u16 minor, u32 flags 0, u32 sections,
 *                     u32 0, u64 bytes of the file, u8[16] key, u64 XXH3 of the header
 *                     (this field 0) and the table, u64 0
 *   table, 40 each    u32 tag, u8 codec (0 as it is, 1 LZ4 block), u8 required, u16 0,
 *                     u64 raw bytes, stored bytes, offset, XXH3 of the stored bytes
 *   sections          in the table's order, one behind the other
 *
 * All numbers little endian and of fixed width; no pointers: a place is (memory, offset),
 * ops, kernels and attributes are names and text. Equal plans have equal bytes. Learning
 * rates are not in the file: they are written before each step. */
#ifndef GRAPHRUN_PLAN_FILE_H
#define GRAPHRUN_PLAN_FILE_H
#include "graph/plan/plan.h"

enum { PLAN_MINOR = 0 }; /* counts up with additions that an old reader may ignore */

/* Appends the file's bytes to s. */
void plan_write(Str *s, const Plan *p);

/* The plan in these bytes, verified; NULL: why is in e (exit code 1). *old: nothing is
 * wrong with the bytes, but another version or machine made them: compile again. Strings
 * and tables live in a; nothing points into `data`. */
Plan *plan_read(Arena *a, const void *data, size_t n, bool *old, Err *e);
/* Does it start like a plan file? */
bool plan_is_file(const void *data, size_t n);
#endif
