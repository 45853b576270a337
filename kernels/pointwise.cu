/* Formulas: every thread evaluates the register program of kernels/program.h for elements of
 * its own. What depends on single values alone is worked out once per block, in f64. */
#include "kernels/gpu.h"

#define T        double
#define FN(name) name
#define APPLY    apply_f64
#include "kernels/formula_apply.h"
#define T        float
#define FN(name) name##f
#define APPLY    apply_f32
#include "kernels/formula_apply.h"

static __device__ inline double single_value(GpuTensor t) {
    return t.type == GPU_F64 ? *(const double *)t.data : (double)load(t, 0);
}

static __device__ void work_out_singles(const GpuProgram &c, double *slot) {
    for (int i = 0; i < c.n_slot; i++) slot[i] = c.number[i];
    for (int i = 0; i < c.n_single; i++) slot[c.slot_of[i]] = single_value(c.single[i]);
    for (int i = 0; i < c.n_once; i++) {
        const GpuInstr in = c.once[i];
        const int m = ~GPU_SCALAR;
        slot[in.dst & m] =
            apply_f64(in.op, slot[in.a & m], slot[in.b & m], slot[in.c & m]);
    }
}

static __device__ inline float operand(const float *reg, const double *slot, int at) {
    return at & GPU_SCALAR ? (float)slot[at & ~GPU_SCALAR] : reg[at];
}

extern "C" __global__ void gr_program(GpuProgram c) {
    __shared__ double slot[GPU_SLOTS];
    float reg[GPU_REGS];
    if (threadIdx.x == 0) work_out_singles(c, slot);
    __syncthreads();
    for (int64_t e = first_element(); e < c.n; e += all_threads()) {
        for (int i = 0; i < c.n_load; i++) {
            int64_t rest = e, from = 0;
            for (int k = c.rank - 1; k >= 0; k--) {
                from += rest % c.dim[k] * c.stride[i][k];
                rest /= c.dim[k];
            }
            reg[i] = load(c.x[i], from);
        }
        for (int i = 0; i < c.n_instr; i++) {
            const GpuInstr in = c.instr[i];
            reg[in.dst] = apply_f32(in.op, operand(reg, slot, in.a),
                                    operand(reg, slot, in.b), operand(reg, slot, in.c));
        }
        store(c.y, e, operand(reg, slot, c.out));
    }
}
GR_KERNEL(gr_program, GpuProgram)
