/* TensorBoard event files: numbers over steps. A file is a row of records (length and CRCs
 * around bytes, TensorFlow's record format), each an Event in protobuf's wire form. */
#ifndef GRAPHRUN_EVENTS_H
#define GRAPHRUN_EVENTS_H
#include "graph/base/base.h"

typedef struct Scalar {
    const char *tag; /* "loss/current" */
    double value;
} Scalar;

typedef struct Events Events;
/* Makes the file, which must not be there; lives in a. seconds: since 1970. */
Events *events_open(Arena *a, const char *path, double seconds, Err *e);
/* One event with n numbers; on its way to the disk when this returns. */
bool events_add(Events *v, double seconds, int64_t step, const Scalar *s, int n,
                Err *e);
bool events_close(Events *v, Err *e); /* NULL is allowed */

/* The bytes of one record, appended to s (for tests). */
void events_record(Str *s, const void *data, size_t n);
/* CRC-32C (Castagnoli) as the record format stores it: rotated, a constant added. */
uint32_t events_masked_crc(const void *data, size_t n);
#endif
