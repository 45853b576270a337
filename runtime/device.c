/* Memory of any device. */
#include "runtime/device.h"

#include <string.h>

#include "runtime/exec.h"

bool device_is_cuda(const Device *d) {
    return d->ops != NULL;
}
bool device_unused(Device *d, uint64_t *bytes, Err *e) {
    return d->ops->unused(d, bytes, e);
}
void device_close(Device *d) {
    if (d && d->ops)
        cuda_close(d);
    else
        cpu_close(d);
}

bool room_open(Device *d, Room *r, uint64_t bytes, const char *what, Err *e) {
    *r = (Room){.bytes = bytes};
    if (d->ops) return d->ops->alloc(d, bytes, what, &r->data, e);
    if (!guard_open(&r->guard, bytes, what, e)) return false;
    r->data = r->guard.data;
    return true;
}
void room_close(Device *d, Room *r) {
    if (d->ops && r->data) d->ops->release(d, r->data);
    if (!d->ops) guard_close(&r->guard);
    *r = (Room){0};
}

bool device_write(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    if (d->ops) return d->ops->write(d, to, from, bytes, e);
    memcpy(to, from, bytes);
    return true;
}
bool device_read(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    if (d->ops) return d->ops->read(d, to, from, bytes, e);
    memcpy(to, from, bytes);
    return true;
}
bool device_copy(Device *d, void *to, const void *from, size_t bytes, Err *e) {
    if (d->ops) return d->ops->copy(d, to, from, bytes, e);
    memcpy(to, from, bytes);
    return true;
}
bool device_fill(Device *d, void *to, int byte, size_t bytes, Err *e) {
    if (d->ops) return d->ops->fill(d, to, byte, bytes, e);
    memset(to, byte, bytes);
    return true;
}
