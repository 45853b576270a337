/* Formulas: every thread evaluates the register program for elements of its own. What
 * depends on single values alone is worked out once per block. */
#include "kernels/gpu_code.h"

static __device__ inline void work_out_singles(const GpuProgram &c, double *slot) {
    for (int i = 0; i < c.code.n_slot; i++) slot[i] = c.code.number[i];
    for (int i = 0; i < c.n_single; i++) slot[c.slot_of[i]] = load_wide(c.single[i], 0);
    run_once(c.code, slot);
}

/* Element e of the result lies at this element of input i. */
static __device__ inline int64_t place(const GpuProgram &c, int i, int64_t e) {
    int64_t from = 0;
    for (int k = c.rank - 1; k >= 0; k--) {
        from += e % c.dim[k] * c.stride[i][k];
        e /= c.dim[k];
    }
    return from;
}

extern "C" __global__ void gr_program(GpuProgram c) {
    __shared__ double slot[GPU_SLOTS];
    float reg[GPU_REGS];
    if (threadIdx.x == 0) work_out_singles(c, slot);
    __syncthreads();
    for (int64_t e = first_element(); e < c.n; e += all_threads()) {
        for (int i = 0; i < c.code.n_load; i++) reg[i] = load(c.x[i], place(c, i, e));
        run_code(c.code, reg, slot);
        store(c.y, e, operand(reg, slot, c.code.out[0]));
    }
}
GR_KERNEL(gr_program, GpuProgram)

extern "C" __global__ void gr_program_wide(GpuProgram c) {
    __shared__ double slot[GPU_SLOTS];
    double reg[GPU_REGS];
    if (threadIdx.x == 0) work_out_singles(c, slot);
    __syncthreads();
    for (int64_t e = first_element(); e < c.n; e += all_threads()) {
        for (int i = 0; i < c.code.n_load; i++)
            reg[i] = load_wide(c.x[i], place(c, i, e));
        run_code(c.code, reg, slot);
        store_wide(c.y, e, operand(reg, slot, c.code.out[0]));
    }
}
GR_KERNEL(gr_program_wide, GpuProgram)
