/* Rows that draw random numbers. A number depends on the seed, the node's stream, the
 * sample's global index, the micro-batch and the element's index in the sample, and on
 * nothing else: not on the batch it is in, on threads or on passes. Where the first
 * dimension does not count samples (`batch` false), all elements belong to the batch's
 * first sample. Nothing here has a gradient but dropout, whose gradient is the same dropout
 * of dy. */
#include "kernels/rng.h"
#include "ops/ops.h"

/* ---- normal, uniform, draw ---- */

/* Checks that the key is a key. */
static bool key_fits(const Sig *s, int i, Err *e) {
    if (s->in[i].dtype == I32 && s->in[i].rank == 1 && s->in[i].dim[0] == RNG_WORDS)
        return true;
    return shape_error(e, "the random key is %s, want i32[8]", type_name(&s->in[i]).s);
}

static bool random_shape(Sig *s, DType dtype, Err *e) {
    const IntList *l = &((const RandomAttrs *)s->attrs)->shape;
    if (!key_fits(s, 0, e)) return false;
    if (l->n > MAX_RANK)
        return shape_error(e, "got %d dimensions, want at most %d", l->n, MAX_RANK);
    Type t = {.dtype = dtype, .rank = l->n};
    uint64_t count = 1;
    for (int i = 0; i < l->n; i++) {
        t.dim[i] = l->v[i];
        if (l->v[i] < 1 || !mul_u64(count, (uint64_t)l->v[i], &count) || count >> 40)
            return shape_error(e, "dimension %d of 'shape' is %lld", i,
                               (long long)l->v[i]);
    }
    s->out[0] = t;
    return true;
}

static bool float_shape(Sig *s, Err *e) {
    return random_shape(s, F32, e);
}

static bool draw_shape(Sig *s, Err *e) {
    const RandomAttrs *at = s->attrs;
    const int64_t most = INT32_MAX;
    if (at->below <= at->from || at->from < -most || at->below > most)
        return shape_error(e, "integers from %lld below %lld: there are none",
                           (long long)at->from, (long long)at->below);
    return random_shape(s, I32, e);
}

static bool resolve(Lang *l, const char *purpose, int like, Err *e) {
    RandomAttrs *at = l->attrs;
    at->stream = rng_stream(l->path, purpose);
    l->in[0] = l->rng;
    if (like < 0 || like >= l->n_in || l->in[like] == NO_ID) return true;
    if (at->shape.n) return err_at(e, l->loc, "give 'shape' or 'like', not both");
    at->shape = dims_of(type_at(l->g, l->in[like]));
    at->batch = l->g->value[l->in[like]]->batch;
    return true;
}

static bool normal_resolve(Lang *l, Err *e) {
    return resolve(l, "normal", 1, e);
}
static bool uniform_resolve(Lang *l, Err *e) {
    return resolve(l, "uniform", 1, e);
}
static bool draw_resolve(Lang *l, Err *e) {
    return resolve(l, "draw", -1, e);
}

/* clang-format off */
#define SHAPE_STREAM                                                                       \
    {"shape", 'l', offsetof(RandomAttrs, shape), 0, __builtin_nan(""), NULL,               \
     "dimensions; [B, ...]: one set of numbers per sample"},                               \
    {"batch", 'b', offsetof(RandomAttrs, batch), ATTR_IR, 0, NULL,                         \
     "the first dimension counts samples"},                                                \
    {"stream", 'i', offsetof(RandomAttrs, stream), ATTR_IR, 0, NULL,                       \
     "hash of the node's path and purpose"},                                               \
    {0}
/* clang-format on */

const Op op_normal = {
    .name = "normal",
    .doc = "normal numbers, mean 0, deviation 1; constants for the gradient",
    .example = "  scalar @rng : i32[8]\n"
               "  %0 = normal @rng {shape=[2,3], batch=true, stream=17} : f32[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"rng", IN_IR | IN_INDEX},
                         {"like", IN_SHAPE | IN_OPTIONAL},
                         {0}},
    .n_out = 1,
    .flags = OP_RANDOM | OP_NO_GRAD | OP_WIDE,
    .attrs = (const Attr[]){SHAPE_STREAM},
    .attrs_size = sizeof(RandomAttrs),
    .resolve = normal_resolve,
    .shape = float_shape,
    .cpu = cpu_normal,
    .cuda = cuda_normal,
};

const Op op_uniform = {
    .name = "uniform",
    .doc = "uniform numbers in [0, 1); constants for the gradient",
    .example = "  scalar @rng : i32[8]\n"
               "  %0 = uniform @rng {shape=[2,3], batch=true, stream=17} : f32[2,3]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"rng", IN_IR | IN_INDEX},
                         {"like", IN_SHAPE | IN_OPTIONAL},
                         {0}},
    .n_out = 1,
    .flags = OP_RANDOM | OP_NO_GRAD | OP_WIDE,
    .attrs = (const Attr[]){SHAPE_STREAM},
    .attrs_size = sizeof(RandomAttrs),
    .resolve = uniform_resolve,
    .shape = float_shape,
    .cpu = cpu_uniform,
    .cuda = cuda_uniform,
};

const Op op_draw = {
    .name = "draw",
    .doc = "integers from ... below-1, all as likely; no gradient",
    .example = "  scalar @rng : i32[8]\n"
               "  %0 = draw @rng {from=2, below=9, shape=[4], batch=true, stream=17} : "
               "i32[4]\n"
               "  output y = %0\n",
    .in = (const OpIn[]){{"rng", IN_IR | IN_INDEX}, {0}},
    .n_out = 1,
    .flags = OP_RANDOM | OP_NO_GRAD,
    .attrs = (const Attr[]){{"from", 'i', offsetof(RandomAttrs, from), 0, 0, NULL,
                             "the smallest"},
                            {"below", 'i', offsetof(RandomAttrs, below), ATTR_REQUIRED,
                             1, NULL, "one more than the largest"},
                            SHAPE_STREAM},
    .attrs_size = sizeof(RandomAttrs),
    .resolve = draw_resolve,
    .shape = draw_shape,
    .cpu = cpu_draw,
    .cuda = cuda_draw,
};

/* ---- dropout ---- */

static bool dropout_resolve(Lang *l, Err *e) {
    DropoutAttrs *at = l->attrs;
    if (!(at->p >= 0 && at->p < 1))
        return err_at(e, l->loc, "'p' is %g, want 0 or more and less than 1", at->p);
    if (at->p == 0 || !l->training) {
        l->pass_on = l->in[0];
        return true;
    }
    at->stream = rng_stream(l->path, "dropout");
    at->batch = l->g->value[l->in[0]]->batch;
    l->in[1] = l->rng;
    return true;
}

static bool dropout_shape(Sig *s, Err *e) {
    const DropoutAttrs *at = s->attrs;
    if (!(at->p >= 0 && at->p < 1))
        return shape_error(e, "'p' is %g, want 0 or more and less than 1", at->p);
    if (!dtype_is_float(s->in[0].dtype))
        return shape_error(e, "got %s, want floating numbers", type_name(&s->in[0]).s);
    return key_fits(s, 1, e) && shape_same(s, e);
}

static bool dropout_grad(Graph *g, const Node *n, const Id *dy, const bool *need,
                         Id *dx, Err *e) {
    (void)need;
    dx[0] = graph_op(g, &op_dropout, n->attrs, 2, (Id[]){dy[0], n->in[1]}, e);
    return dx[0] != NO_ID;
}

static const char *const each_words[] = {"element", "channel", "module", NULL};

const Op op_dropout = {
    .name = "dropout",
    .doc = "0 with probability p, else x (rescale: x / (1 - p)); one draw per element, "
           "per "
           "sample and channel, or one in all. In generation, and for p 0: x itself",
    .example =
        "  input @x : f32[2,3,4]\n"
        "  scalar @rng : i32[8]\n"
        "  %0 = dropout @x, @rng {p=0.5, each=channel, rescale=true, batch=true, "
        "stream=17} : f32[2,3,4]\n"
        "  output y = %0\n",
    .in = (const OpIn[]){{"x", 0}, {"rng", IN_IR | IN_INDEX}, {0}},
    .n_out = 1,
    .flags = OP_RANDOM,
    .attrs = (const Attr[]){{"p", 'f', offsetof(DropoutAttrs, p), ATTR_REQUIRED, 0,
                             NULL, "probability of 0"},
                            {"each", 'w', offsetof(DropoutAttrs, each), 0, EACH_ELEMENT,
                             each_words, "what one draw decides about"},
                            {"rescale", 'b', offsetof(DropoutAttrs, rescale), 0, 1,
                             NULL, "divide by 1 - p"},
                            {"batch", 'b', offsetof(DropoutAttrs, batch), ATTR_IR, 0,
                             NULL, "the first dimension counts samples"},
                            {"stream", 'i', offsetof(DropoutAttrs, stream), ATTR_IR, 0,
                             NULL, "hash of the node's path and purpose"},
                            {0}},
    .attrs_size = sizeof(DropoutAttrs),
    .resolve = dropout_resolve,
    .shape = dropout_shape,
    .grad = dropout_grad,
    .inplace = 1,
    .cpu = cpu_dropout,
    .cuda = cuda_dropout,
};
