/* Register programs (kernels/program.h) on a GPU: what depends on single values alone is
 * worked out in f64, elements in f32, or in f64 for plans that ask for it. Registers are an
 * array in local memory: this is an interpreter. */
#ifndef GRAPHRUN_GPU_CODE_H
#define GRAPHRUN_GPU_CODE_H
#include "kernels/gpu.h"

#define T        double
#define FN(name) name
#define APPLY    apply_f64
#include "kernels/formula_apply.h"
#define T        float
#define FN(name) name##f
#define APPLY    apply_f32
#include "kernels/formula_apply.h"

/* The code's scalar part; the single values stand in their slots. */
static __device__ inline void run_once(const GpuCode &c, double *slot) {
    const int m = ~GPU_SCALAR;
    for (int i = 0; i < c.n_once; i++) {
        const GpuInstr in = c.once[i];
        slot[in.dst & m] =
            apply_f64(in.op, slot[in.a & m], slot[in.b & m], slot[in.c & m]);
    }
}

template <class F>
static __device__ inline F operand(const F *reg, const double *slot, int at) {
    return at & GPU_SCALAR ? (F)slot[at & ~GPU_SCALAR] : reg[at];
}
static __device__ inline float apply(int op, float a, float b, float c) {
    return apply_f32(op, a, b, c);
}
static __device__ inline double apply(int op, double a, double b, double c) {
    return apply_f64(op, a, b, c);
}

/* The code's instructions over the registers of one element. */
template <class F>
static __device__ inline void run_code(const GpuCode &c, F *reg, const double *slot) {
    for (int i = 0; i < c.n_instr; i++) {
        const GpuInstr in = c.instr[i];
        reg[in.dst] = apply(in.op, operand(reg, slot, in.a), operand(reg, slot, in.b),
                            operand(reg, slot, in.c));
    }
}
#endif
