/* An optimizer's program over one tensor. First the numbers of every slice, in f64, which
 * write the new single-valued states; then the elements, in f32, whatever they are stored
 * in. Both ask `ok` and `active` on the device: a skipped step needs no host. */
#include "kernels/gpu_code.h"

static __device__ inline bool left_alone(const GpuUpdate &c, int64_t slice) {
    if (load(c.ok, 0) == 0) return true;
    return c.active.data && load(c.active, slice) == 0;
}

extern "C" __global__ void gr_update_numbers(GpuUpdate c) {
    for (int64_t s = first_element(); s < c.slices; s += all_threads()) {
        if (left_alone(c, s)) continue;
        double *slot = c.slot + s * c.code.n_slot;
        for (int i = 0; i < c.code.n_slot; i++) slot[i] = c.code.number[i];
        for (int i = 0; i < c.n_single; i++)
            slot[c.slot_of[i]] = load_wide(c.single[i], c.each[i] ? s : 0);
        run_once(c.code, slot);
        for (int i = 0; i < c.n_out; i++)
            if (c.number[i].data)
                store_wide(c.number[i], s, slot[c.code.out[i] & ~GPU_SCALAR]);
    }
}
GR_KERNEL(gr_update_numbers, GpuUpdate)

extern "C" __global__ void gr_update(GpuUpdate c) {
    float reg[GPU_REGS];
    for (int64_t i = first_element(); i < c.slices * c.count; i += all_threads()) {
        const int64_t s = i / c.count, e = i % c.count;
        if (left_alone(c, s)) continue;
        const int64_t at = e / c.run * c.row + s * c.run + e % c.run;
        const double *slot = c.slot + s * c.code.n_slot;
        for (int k = 0; k < c.code.n_load; k++) reg[k] = load(c.x[k], at);
        run_code(c.code, reg, slot);
        for (int k = 0; k < c.n_out; k++)
            if (c.wide[k].data) store(c.wide[k], at, operand(reg, slot, c.code.out[k]));
    }
}
GR_KERNEL(gr_update, GpuUpdate)

extern "C" __global__ void gr_updates_numbers(GpuUpdates c) {
    const int64_t i = first_element();
    if (i >= c.n || load(c.ok, 0) == 0) return;
    double *slot = c.slot + i * c.code.n_slot;
    for (int k = 0; k < c.code.n_slot; k++) slot[k] = c.code.number[k];
    for (int k = 0; k < c.n_single; k++)
        slot[c.slot_of[k]] = load_wide(c.single[i][k], 0);
    run_once(c.code, slot);
    for (int k = 0; k < c.n_out; k++)
        if (c.number[i][k].data)
            store_wide(c.number[i][k], 0, slot[c.code.out[k] & ~GPU_SCALAR]);
}
GR_KERNEL(gr_updates_numbers, GpuUpdates)

extern "C" __global__ void gr_updates(GpuUpdates c) {
    float reg[GPU_REGS];
    if (load(c.ok, 0) == 0) return;
    int i = 0;
    for (int64_t e = first_element(); e < c.first[c.n]; e += all_threads()) {
        while (e >= c.first[i + 1]) i++;
        const int64_t at = e - c.first[i];
        const double *slot = c.slot + i * c.code.n_slot;
        for (int k = 0; k < c.code.n_load; k++) reg[k] = load(c.x[i][k], at);
        run_code(c.code, reg, slot);
        for (int k = 0; k < c.n_out; k++)
            if (c.wide[i][k].data)
                store(c.wide[i][k], at, operand(reg, slot, c.code.out[k]));
    }
}
GR_KERNEL(gr_updates, GpuUpdates)
