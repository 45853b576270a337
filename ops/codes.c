/* Rows that keep a tensor in one byte per element: a code into a fixed map of 256 numbers,
 * and one scale per block of elements. What optimizers with `codes` states are made of;
 * made by the compiler, never differentiated. The map stands in kernels/codes.h. */
#include "kernels/codes.h"
#include "ops/ops.h"

static bool encode_shape(Sig *s, Err *e) {
    const CodesAttrs *at = s->attrs;
    const Type *x = &s->in[0];
    if (!dtype_mix(x->dtype, F32))
        return shape_error(e, "'x' is %s, want f32, f16 or bf16", type_name(x).s);
    if (at->block < 1) return shape_error(e, "'block' is %lld", (long long)at->block);
    int64_t n = type_count(x), blocks = codes_blocks(n, at->block);
    s->out[0] = type_of(U8, 1, &n);
    s->out[1] = type_of(F32, 1, &blocks);
    return true;
}

static const char encode_doc[] =
    "x in blocks of elements: the scale is the block's largest |x|, a code is the "
    "entry "
    "of the map nearest to x / scale (the lower one of two). Signed codes keep the "
    "sign "
    "of x: a tiny negative number does not become 0. A rounding has no gradient";

#define CODES_ATTRS                                                                    \
    {"signed", 'b',  offsetof(CodesAttrs, is_signed), ATTR_IR,                         \
     1,        NULL, "the map has numbers below 0"},                                   \
    {                                                                                  \
        "block", 'i', offsetof(CodesAttrs, block), ATTR_IR, 256, NULL,                 \
            "elements with one scale"                                                  \
    }

const Op op_encode = {
    .name = "encode",
    .doc = encode_doc,
    .example = "  input @x : f32[3,5]\n"
               "  %0, %1 = encode @x {signed=true, block=4} : u8[15], f32[4]\n"
               "  output codes = %0\n"
               "  output scale = %1\n",
    .in = (const OpIn[]){{"x", 0}, {0}},
    .n_out = 2,
    .outs = (const char *const[]){"codes", "scale"},
    .flags = OP_IR | OP_NO_GRAD | OP_WIDE,
    .attrs = (const Attr[]){CODES_ATTRS, {0}},
    .attrs_size = sizeof(CodesAttrs),
    .shape = encode_shape,
    .cpu = cpu_encode,
    .cuda = cuda_encode,
};

static bool decode_shape(Sig *s, Err *e) {
    const CodesAttrs *at = s->attrs;
    Type t = type_of(F32, at->shape.n, at->shape.v);
    if (at->block < 1) return shape_error(e, "'block' is %lld", (long long)at->block);
    int64_t n = type_count(&t), blocks = codes_blocks(n, at->block);
    Type codes = type_of(U8, 1, &n), scale = type_of(F32, 1, &blocks);
    if (dtype_mix(s->in[1].dtype, F32)) scale.dtype = s->in[1].dtype;
    for (int i = 0; i < 2; i++)
        if (!type_equal(&s->in[i], i ? &scale : &codes))
            return shape_error(e, "'%s' is %s, want %s", s->op->in[i].name,
                               type_name(&s->in[i]).s,
                               type_name(i ? &scale : &codes).s);
    s->out[0] = t;
    return true;
}

const Op op_decode = {
    .name = "decode",
    .doc = "map(code) * scale of the element's block, with a shape: the inverse of "
           "encode. No gradient flows through an update",
    .example = "  input @c : u8[15]  # from 0 to 255\n"
               "  input @s : f32[4]\n"
               "  %0 = decode @c, @s {signed=true, block=4, shape=[3,5]} : f32[3,5]\n"
               "  output x = %0\n",
    .in = (const OpIn[]){{"codes", IN_INDEX}, {"scale", 0}, {0}},
    .n_out = 1,
    .flags = OP_IR | OP_NO_GRAD | OP_WIDE,
    .attrs = (const Attr[]){CODES_ATTRS,
                            {"shape", 'l', offsetof(CodesAttrs, shape), ATTR_IR,
                             __builtin_nan(""), NULL, "dimensions of the result"},
                            {0}},
    .attrs_size = sizeof(CodesAttrs),
    .shape = decode_shape,
    .cpu = cpu_decode,
    .cuda = cuda_decode,
};
