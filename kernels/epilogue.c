/* Formulas behind other kernels: a register program over tiles, its inputs read in place
 * and its result written by the last instruction. */
#include "kernels/epilogue.h"

#include <string.h>

bool epilogue_prepare(Arena *a, const char *text, int n_var, Program **out, Err *e) {
    *out = NULL;
    if (!text) return true;
    Formula *f = formula_new(a);
    FNames names = {0};
    int root;
    bool *wide = NEW(a, bool, n_var + 1);
    for (int i = 0; i < n_var; i++) wide[i] = true;
    fnames_inputs(f, &names, n_var);
    if (!formula_parse(f, text, &names, &root, e) || root < 0 ||
        !program_compile(a, f, &root, 1, wide, n_var, out, e))
        return e->set ? false : err_fail(e, "formula '%s' ends without a value", text);
    return ((*out)->n_reg <= EPILOGUE_REGISTERS && (*out)->n_slot <= 1000) ||
           err_fail(e, "formula '%s' is too long behind another kernel", text);
}

const TileOps *epilogue_f32(void) {
#if defined(__x86_64__)
    if (have_avx2()) return &tile_f32_avx2;
#endif
    return &tile_f32;
}

void epilogue_run(const Program *p, const TileOps *tile, const void *const *var,
                  void *out, int64_t n, void *room) {
    double *slot = room;
    void *slots = slot + p->n_slot;
    void **reg = (void **)((double *)slots + p->n_slot);
    char *tiles = (char *)(((uintptr_t)(reg + p->n_reg) + 63) & ~(uintptr_t)63);
    program_once(p, NULL, slot);
    slots_to(tile, slots, slot, p->n_slot);
    uint16_t root = p->out[0];
    bool computed = !(root & SCALAR) && root >= p->n_load;
    for (int64_t at = 0; at < n; at += TILE) {
        int64_t count = n - at < TILE ? n - at : TILE;
        char *to = (char *)out + (size_t)at * tile->size;
        for (int i = 0; i < p->n_reg; i++)
            reg[i] = tiles + (size_t)i * TILE * tile->size;
        for (int i = 0; i < p->n_load; i++)
            reg[i] = (char *)(uintptr_t)var[p->load[i].var] + (size_t)at * tile->size;
        if (computed) reg[root] = to;
        tile->run(p, reg, slots, (int)count);
        if (root & SCALAR)
            tile->fill(to, slot[root & ~SCALAR], count);
        else if (reg[root] != (void *)to)
            memmove(to, reg[root], (size_t)count * tile->size);
    }
}
