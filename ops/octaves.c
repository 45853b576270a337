/* Noise in several resolutions, as "pyramid noise" for diffusion training has it: sizes
 * depend on numbers drawn in the step, so this is no graph of resizes. */
#include "ops/heavy.h"

static bool octaves_shape(Sig *s, Err *e) {
    const Type *x = &s->in[0], *ratio = &s->in[1], *fine = &s->in[2];
    if (!need_float(s, 0, 3, e)) return false;
    if (x->rank != 4 || ratio->rank != 1)
        return shape_error(e, "'x' is %s and 'ratio' %s, want [B,H,W,C] and [k]",
                           type_name(x).s, type_name(ratio).s);
    Type want =
        type_of(fine->dtype, 5,
                (int64_t[]){x->dim[0], ratio->dim[0], x->dim[1], x->dim[2], x->dim[3]});
    if (!type_equal(fine, &want))
        return shape_error(e, "'fine' is %s, want %s", type_name(fine).s,
                           type_name(&want).s);
    s->out[0] = *x;
    s->out[0].dtype = dtype_wide(x->dtype);
    return true;
}

static uint64_t octaves_flops(const Sig *s) {
    return 8 * (uint64_t)type_count(&s->in[2]);
}

const Op op_octaves = {
    .name = "octaves",
    .doc =
        "x + sum over i < k of discount^i * up(fine_i): with r = 2 + 2 ratio(i), the "
        "first H / r^i by W / r^i (rounded down, at least 1) of fine_i, enlarged "
        "bilinearly to H by W; none behind one with a side of 1. Noise: no gradient",
    .example = "  input @x : f32[2,5,6,3]\n"
               "  input @ratio : f32[2]  # from 0 to 1\n"
               "  input @fine : f32[2,2,5,6,3]\n"
               "  %0 = octaves @x, @ratio, @fine {discount=0.3} : f32[2,5,6,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"ratio", 0}, {"fine", 0}, {0}},
    .n_out = 1,
    .flags = OP_NO_GRAD | OP_WIDE,
    .attrs = (const Attr[]){{"discount", 'f', offsetof(OctavesAttrs, discount), 0, 0.3,
                             NULL, "strength of each next one"},
                            {0}},
    .attrs_size = sizeof(OctavesAttrs),
    .shape = octaves_shape,
    .flops = octaves_flops,
    .cpu = cpu_octaves,
    .cuda = cuda_octaves,
};
