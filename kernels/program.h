/* Register programs: a formula compiled for tiles of TILE elements that stay in the
 * first-level cache.
 *
 * What depends on numbers and single-valued inputs alone is evaluated once per run, in f64
 * (the scalar part); the rest is a list of instructions over registers of one tile each.
 * Registers 0 ... n_load-1 hold the inputs and are never written, so they may point at the
 * caller's memory; each output has a register of its own that is written last. */
#ifndef GRAPHRUN_PROGRAM_H
#define GRAPHRUN_PROGRAM_H
#include "graph/device.h"
#include "kernels/formula.h"

/* Limits: registers in f64 and slots fit into a worker's scratch. */
enum { TILE = 512, SCALAR = 0x8000, MOST_REGISTERS = 400, MOST_NODES = 16000 };

/* Operands: a register, or SCALAR + a slot. */
typedef struct Instr {
    uint8_t op; /* FOp */
    uint16_t dst, a, b, c;
} Instr;

typedef struct SlotVar { /* variable `var` in slot or register `at` */
    uint16_t at;
    int var;
} SlotVar;

typedef struct Program {
    Instr *instr;
    int n_instr;
    SlotVar *load; /* tile-wide variables; load[i].at == i */
    int n_load, n_reg;
    Instr *once; /* the scalar part, over slots */
    int n_once, n_slot;
    double *number;  /* per slot: constants, 0 for the rest */
    SlotVar *scalar; /* single-valued variables */
    int n_scalar;
    uint16_t *out; /* one operand per root */
    int n_out;
} Program;

/* wide[v]: variable v has one value per element, else a single one. Fails if the formula
 * needs more than MOST_REGISTERS at a time. */
bool program_compile(Arena *a, Formula *f, const int *root, int n_root,
                     const bool *wide, int n_var, Program **out, Err *e);
/* The scalar part: var[v] for every single-valued variable; slot: n_slot entries. */
void program_once(const Program *p, const double *var, double *slot);

/* The tile-wide part in one element type. */
typedef struct TileOps {
    size_t size; /* bytes of an element */
    DType dtype;
    void (*run)(const Program *p, void *const *reg, const void *slot, int n);
    void (*load)(void *dst, const void *src, DType from, int64_t n);
    void (*store)(void *dst, DType to, const void *src, int64_t n);
    void (*fill)(void *dst, double x, int64_t n);
} TileOps;
extern const TileOps tile_f32, tile_f64;
#if defined(__x86_64__)
extern const TileOps tile_f32_avx2;
#endif
bool have_avx2(void); /* with FMA and half conversions; false on other machines */
/* slots in the element type, from f64 */
void slots_to(const TileOps *t, void *dst, const double *slot, int n);
#endif
