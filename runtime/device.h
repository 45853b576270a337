/* Devices whose memory is not the host's: what store.c and exec.c ask of one. A device
 * without DeviceOps (the CPU) works in the host's memory, and its kernels run when they are
 * called. On one with them everything is enqueued, in order; what fails is remembered and
 * told by the next call that can tell, with the plan step it belongs to. */
#ifndef GRAPHRUN_RUNTIME_DEVICE_H
#define GRAPHRUN_RUNTIME_DEVICE_H
#include "graph/plan/plan.h"
#include "runtime/guard.h"

struct DeviceOps {
    /* `what` is for messages: out of memory says what was planned and what was free. */
    bool (*alloc)(Device *d, uint64_t bytes, const char *what, void **out, Err *e);
    void (*release)(Device *d, void *p);
    bool (*unused)(Device *d, uint64_t *bytes, Err *e); /* that nobody has taken */
    /* write: `from` may be changed as soon as it returns. read: waits for the bytes. */
    bool (*write)(Device *d, void *to, const void *from, size_t bytes, Err *e);
    bool (*read)(Device *d, void *to, const void *from, size_t bytes, Err *e);
    bool (*copy)(Device *d, void *to, const void *from, size_t bytes, Err *e);
    bool (*fill)(Device *d, void *to, int byte, size_t bytes, Err *e);
    /* Kernels launched from now on belong to this plan step, which stays; NULL: to none. */
    void (*at)(Device *d, const PlanStep *t);
    /* Between capture and captured nothing runs: launches become a graph. In it there is
     * no memory to be had, nothing to read and nothing to wait for. */
    bool (*capture)(Device *d, Err *e);
    bool (*captured)(Device *d, void **graph, Err *e);
    void (*replay)(Device *d, void *graph);
    void (*forget)(Device *d, void *graph);
    bool (*wait)(Device *d, Err *e); /* until everything is done; the first failure */
};

bool device_is_cuda(const Device *d);
/* Only of a device with memory of its own: bytes of it that nobody has taken. */
bool device_unused(Device *d, uint64_t *bytes, Err *e);
void device_close(Device *d); /* cpu_open's or cuda_open's; may be NULL */

/* One block of a device's memory, zeros; the host's lies between guard pages. */
typedef struct Room {
    void *data; /* NULL: not open */
    uint64_t bytes;
    Guard guard;
} Room;
bool room_open(Device *d, Room *r, uint64_t bytes, const char *what, Err *e);
void room_close(Device *d, Room *r);

/* The same on any device. */
bool device_write(Device *d, void *to, const void *from, size_t bytes, Err *e);
bool device_read(Device *d, void *to, const void *from, size_t bytes, Err *e);
bool device_copy(Device *d, void *to, const void *from, size_t bytes, Err *e);
bool device_fill(Device *d, void *to, int byte, size_t bytes, Err *e);

/* The first GPU of this machine. Fails if there is no driver or no GPU, or if the program was
 * built without nvcc. */
Device *cuda_open(Err *e);
void cuda_close(Device *d);
#endif
