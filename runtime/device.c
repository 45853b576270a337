/* Memory of any device. */
#include "runtime/device.h"

#include <string.h>

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
