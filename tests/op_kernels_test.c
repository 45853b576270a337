/* Kernels on sizes of many blocks, held against plain loops; random numbers and their
 * independence of batches; updates by slices; what a row's own example cannot show. */
#include "kernels/rng.h"
#include "tests/op_harness.h"

#include "tests/check.h"

/* One use of a row with its data. */
typedef struct Use {
    Arena *a;
    const Op *op;
    Type type[12], out_type[64];
    Tensor in[12], out[64];
    Sig s;
} Use;

static void use(Use *u, const char *name, const void *attrs) {
    *u = (Use){.a = arena_new(), .op = op_find(name)};
    u->s = (Sig){.op = u->op, .attrs = attrs, .in = u->type, .out = u->out_type};
    u->s.n_out = u->op->n_out < 0 ? 0 : u->op->n_out;
    harness_state = 3;
}

static Tensor *give(Use *u, Type t, double low, double high) {
    int i = u->s.n_in++;
    u->type[i] = t;
    u->in[i] = (Tensor){arena_alloc(u->a, type_bytes(&t) + 8, 1), &u->type[i]};
    for (int64_t k = 0; k < type_count(&t); k++) {
        double x = random_in(low, high);
        number_set(&u->in[i], k, dtype_is_float(t.dtype) ? (double)(float)x : floor(x));
    }
    return &u->in[i];
}

static Type shape(DType t, int rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    return type_of(t, rank, (int64_t[]){a, b, c, d});
}

/* Runs every kernel with 1, 2 and 3 workers; the bits must not differ. */
static bool run(Use *u) {
    Err e = {0};
    bool ok = u->op->shape(&u->s, &e);
    CHECK(ok, "%s: %s", u->op->name, e.text);
    Tensor got[64];
    for (int threads = 1; ok && threads <= 3; threads++) {
        Workers w = workers(threads, threads == 2);
        Tensor *out = threads == 1 ? u->out : got;
        ok = kernel_run(u->a, kernel_reference(u->op), &u->s, u->in, out, &w.dev, &e);
        CHECK(ok, "%s: %s", u->op->name, e.text);
        for (int o = 0; ok && threads > 1 && o < u->s.n_out; o++)
            CHECK(same_bits(&got[o], &u->out[o]), "%s: output %d with %d workers",
                  u->op->name, o, threads);
    }
    return ok;
}

static void done(Use *u) {
    arena_free(u->a);
}

/* ---- reductions ---- */

/* Sum (or mean) in plain order over the axes in `set`, at every output. */
static void plain_sum(const Tensor *x, unsigned set, double *sum, double *count) {
    const Type *t = x->type;
    for (int64_t i = 0; i < type_count(t); i++) {
        int64_t rest = i, o = 0, step = 1;
        for (int d = t->rank - 1; d >= 0; d--) {
            int64_t index = rest % t->dim[d];
            rest /= t->dim[d];
            if (set & 1u << d) continue;
            o += index * step;
            step *= t->dim[d];
        }
        sum[o] += number_at(x, i);
        count[o] += 1;
    }
}

static void test_sums(DType t, Type x, double tolerance) {
    for (unsigned set = 0; set < 1u << x.rank; set++)
        for (int mean = 0; mean < 2; mean++) {
            ReduceAttrs at = {.keep = mean};
            for (int i = 0; i < x.rank; i++)
                if (set & 1u << i) at.over.v[at.over.n++] = i;
            Use u;
            use(&u, mean ? "mean" : "sum", &at);
            x.dtype = t;
            give(&u, x, -1, 1.5);
            if (run(&u)) {
                int64_t n = type_count(&u.out_type[0]);
                double *sum = NEW(u.a, double, n), *count = NEW(u.a, double, n),
                       worst = 0;
                plain_sum(&u.in[0], set, sum, count);
                for (int64_t i = 0; i < n; i++) {
                    double want = mean ? sum[i] / count[i] : sum[i];
                    double d = fabs(number_at(&u.out[0], i) - want) / (1 + fabs(want));
                    if (!(d <= worst)) worst = d;
                }
                CHECK(worst <= tolerance, "%s of %s over %x: off by %g", u.op->name,
                      type_name(&x).s, set, worst);
                CHECK(u.out_type[0].rank == (mean ? x.rank : x.rank - at.over.n),
                      "rank");
            }
            done(&u);
        }
}

static void test_reduce_to(void) {
    static const int64_t to[][4] = {
        {3, 1, 1, 40}, {1, 60, 70, 1}, {1, 1, 1, 1}, {3, 60, 1, 40}};
    for (size_t k = 0; k < COUNT(to); k++)
        for (int rank = 1; rank <= 4; rank++) {
            ShapeAttrs at = {{.n = rank}};
            unsigned set = 0;
            for (int i = 0; i < 4; i++)
                if (i < 4 - rank || to[k][i] == 1) set |= 1u << i;
            for (int i = 0; i < rank; i++) at.shape.v[i] = to[k][4 - rank + i];
            Use u;
            use(&u, "reduce_to", &at);
            give(&u, shape(F32, 4, 3, 60, 70, 40), -1, 1.5);
            if (run(&u)) {
                int64_t n = type_count(&u.out_type[0]);
                double *sum = NEW(u.a, double, n), *count = NEW(u.a, double, n),
                       worst = 0;
                plain_sum(&u.in[0], set, sum, count);
                for (int64_t i = 0; i < n; i++) {
                    double d =
                        fabs(number_at(&u.out[0], i) - sum[i]) / (1 + fabs(sum[i]));
                    if (!(d <= worst)) worst = d;
                }
                CHECK(worst <= 1e-7, "to %s: off by %g", type_name(&u.out_type[0]).s,
                      worst);
            }
            done(&u);
        }
}

static void test_std(void) {
    ReduceAttrs at = {{2, {0, 2}}, false};
    Use u;
    use(&u, "std", &at);
    Type t = shape(F32, 3, 50, 7, 300, 0);
    give(&u, t, 100, 101); /* a mean far from 0: the squares must be taken about it */
    if (run(&u))
        for (int64_t c = 0; c < 7; c++) {
            double sum = 0, squares = 0, n = 50 * 300;
            for (int64_t i = 0; i < 50 * 7 * 300; i++)
                if (i / 300 % 7 == c) sum += number_at(&u.in[0], i);
            for (int64_t i = 0; i < 50 * 7 * 300; i++)
                if (i / 300 % 7 == c)
                    squares += pow(number_at(&u.in[0], i) - sum / n, 2);
            double want = sqrt(squares / (n - 1)), got = number_at(&u.out[0], c);
            CHECK(fabs(got - want) < 1e-7, "std %g, want %g", got, want);
        }
    done(&u);
}

static void test_scans(void) {
    Use u;
    use(&u, "cumprod", NULL);
    give(&u, shape(F64, 1, 4, 0, 0, 0), 1, 2);
    memcpy(u.in[0].data, (double[]){2, 3, 0, 5}, 32);
    if (run(&u))
        CHECK(!memcmp(u.out[0].data, (double[]){2, 6, 0, 0}, 32), "running product");
    done(&u);
    use(&u, "cumprod_grad", NULL); /* a zero in the product: no division by it */
    give(&u, shape(F64, 1, 4, 0, 0, 0), 1, 2);
    give(&u, shape(F64, 1, 4, 0, 0, 0), 1, 2);
    memcpy(u.in[0].data, (double[]){2, 3, 0, 5}, 32);
    memcpy(u.in[1].data, (double[]){1, 10, 100, 1000}, 32);
    if (run(&u))
        CHECK(!memcmp(u.out[0].data, (double[]){31, 20, 6 * 100 + 30 * 1000, 0}, 32),
              "got %g %g %g %g", number_at(&u.out[0], 0), number_at(&u.out[0], 1),
              number_at(&u.out[0], 2), number_at(&u.out[0], 3));
    done(&u);
    use(&u, "interp", NULL);
    give(&u, shape(F64, 1, 3, 0, 0, 0), 1, 2);
    give(&u, shape(F64, 1, 5, 0, 0, 0), 1, 2);
    memcpy(u.in[0].data, (double[]){10, 20, 40}, 24);
    memcpy(u.in[1].data, (double[]){0, 0.5, 1.25, 2, 1}, 40);
    if (run(&u))
        CHECK(!memcmp(u.out[0].data, (double[]){10, 15, 25, 40, 20}, 40),
              "table reads");
    done(&u);
}

static void test_norm(void) {
    Use u;
    use(&u, "global_norm", NULL);
    double sum = 0;
    for (int i = 0; i < 5; i++) {
        give(&u, shape(i == 3 ? F16 : F32, 2, 1 + i * 777, 13, 0, 0), -1, 1);
        for (int64_t k = 0; k < type_count(u.in[i].type); k++)
            sum += pow(number_at(&u.in[i], k), 2);
    }
    if (run(&u))
        CHECK(fabs(number_at(&u.out[0], 0) / sqrt(sum) - 1) < 1e-7, "norm %g, want %g",
              number_at(&u.out[0], 0), sqrt(sum));
    done(&u);
    for (int bad = 0; bad < 4; bad++) {
        use(&u, "finite", NULL);
        give(&u, shape(F32, 1, 100000, 0, 0, 0), -1, 1);
        give(&u, shape(F32, 1, 7, 0, 0, 0), -1, 1);
        if (bad == 1) ((float *)u.in[0].data)[99999] = NAN;
        if (bad == 2) ((float *)u.in[1].data)[6] = INFINITY;
        if (bad == 3) ((float *)u.in[0].data)[0] = -INFINITY;
        if (run(&u)) CHECK(number_at(&u.out[0], 0) == (bad ? 0 : 1), "case %d", bad);
        done(&u);
    }
}

/* ---- moving elements ---- */

static void test_moves(DType t) {
    Use u;
    use(&u, "permute", &(OrderAttrs){{3, {2, 0, 1}}});
    give(&u, shape(t, 3, 30, 41, 57, 0), 0, 100);
    bool right = run(&u);
    for (int64_t i = 0; right && i < 30 * 41 * 57; i++) {
        int64_t a = i / (30 * 41), b = i / 41 % 30, c = i % 41;
        right = number_at(&u.out[0], i) == number_at(&u.in[0], (b * 41 + c) * 57 + a);
    }
    CHECK(right, "permute of %s", dtype_name(t));
    done(&u);
    use(&u, "concat", &(AxisAttrs){1});
    give(&u, shape(t, 3, 300, 4, 9, 0), 0, 100);
    give(&u, shape(t, 3, 300, 11, 9, 0), 0, 100);
    right = run(&u);
    for (int64_t i = 0; right && i < 300 * 15 * 9; i++) {
        int64_t a = i / 135, b = i / 9 % 15, c = i % 9, second = b >= 4;
        int64_t from = second ? (a * 11 + b - 4) * 9 + c : (a * 4 + b) * 9 + c;
        right = number_at(&u.out[0], i) == number_at(&u.in[second], from);
    }
    CHECK(right, "concat of %s", dtype_name(t));
    done(&u);
    use(&u, "slice", &(SliceAttrs){-1, 3, 5});
    give(&u, shape(t, 2, 9000, 20, 0, 0), 0, 100);
    right = run(&u);
    for (int64_t i = 0; right && i < 45000; i++)
        right = number_at(&u.out[0], i) == number_at(&u.in[0], i / 5 * 20 + 3 + i % 5);
    CHECK(right, "slice of %s", dtype_name(t));
    done(&u);
    use(&u, "pad", &(PadAttrs){0, 2, 3});
    give(&u, shape(t, 2, 400, 50, 0, 0), 1, 100);
    right = run(&u);
    for (int64_t i = 0; right && i < 405 * 50; i++) {
        bool inside = i >= 100 && i < 402 * 50;
        right = number_at(&u.out[0], i) == (inside ? number_at(&u.in[0], i - 100) : 0);
    }
    CHECK(right, "pad of %s", dtype_name(t));
    done(&u);
    use(&u, "broadcast", &(ShapeAttrs){{3, {70, 300, 9}}});
    give(&u, shape(t, 2, 300, 1, 0, 0), 0, 100);
    right = run(&u);
    for (int64_t i = 0; right && i < 70 * 300 * 9; i++)
        right = number_at(&u.out[0], i) == number_at(&u.in[0], i / 9 % 300);
    CHECK(right, "broadcast of %s", dtype_name(t));
    done(&u);
}

/* Two samples of two chunks of 5 tokens: begin, the inner ones, end. */
static void test_chunks(void) {
    static const double want[] = {0,  1,  2,  3,  6,  7,  8,  9,
                                  10, 11, 12, 13, 16, 17, 18, 19};
    Use u;
    use(&u, "join_chunks", &(ChunkAttrs){2});
    give(&u, shape(F64, 3, 4, 5, 1, 0), 0, 1);
    for (int i = 0; i < 20; i++) ((double *)u.in[0].data)[i] = i;
    if (run(&u)) CHECK(!memcmp(u.out[0].data, want, sizeof want), "joined chunks");
    done(&u);
    use(&u, "join_chunks_grad", &(ChunkAttrs){2});
    give(&u, shape(F64, 3, 2, 8, 1, 0), 0, 1);
    memcpy(u.in[0].data, want, sizeof want);
    if (run(&u))
        for (int i = 0; i < 20; i++) {
            bool left_out = i % 10 == 4 || i % 10 == 5;
            CHECK(number_at(&u.out[0], i) == (left_out ? 0 : i), "token %d: %g", i,
                  number_at(&u.out[0], i));
        }
    done(&u);
}

static void test_cast(void) {
    static const DType types[] = {F64, F32, F16, BF16};
    for (size_t i = 0; i < COUNT(types); i++)
        for (size_t j = 0; j < COUNT(types); j++) {
            Use u;
            use(&u, "cast", &(CastAttrs){types[j]});
            give(&u, shape(types[i], 1, 40001, 0, 0, 0), -70000, 70000);
            ((uint16_t *)u.in[0].data)[0] = 0x7fff;
            if (!run(&u)) continue;
            Tensor *want = &u.in[11], *x = &u.in[0];
            Workers one = workers(1, false);
            *want = (Tensor){arena_alloc(u.a, 40001, 8), &u.out_type[0]};
            convert(want->data, types[j], x->data, types[i], 40001);
            for (const Kernel *k = u.op->cpu; k->name; k++) {
                Err e = {0};
                if (k->fits && !k->fits(&u.s)) continue;
                kernel_run(u.a, k, &u.s, u.in, u.out, &one.dev, &e);
                bool same = true;
                for (int64_t n = 1; n < 40001; n++)
                    same &= number_at(&u.out[0], n) == number_at(want, n);
                CHECK(same, "%s: %s to %s", k->name, dtype_name(types[i]),
                      dtype_name(types[j]));
            }
            done(&u);
        }
}

/* ---- random numbers ---- */

static void key(Use *u, int32_t seed, int32_t sample, int32_t micro) {
    Tensor *t = give(u, shape(I32, 1, 8, 0, 0, 0), 0, 1);
    memset(t->data, 0, 32);
    ((int32_t *)t->data)[RNG_SEED_LO] = seed;
    ((int32_t *)t->data)[RNG_SAMPLE] = sample;
    ((int32_t *)t->data)[RNG_MICRO] = micro;
}

/* Known answers of Random123 1.14 (kat_vectors): philox4x32-10. */
static void test_philox(void) {
    uint32_t c[4] = {0};
    philox(c, 0, 0);
    CHECK(c[0] == 0x6627e8d5 && c[1] == 0xe169c58d && c[2] == 0xbc57ac4c &&
              c[3] == 0x9b00dbd8,
          "zeros: %08x %08x %08x %08x", c[0], c[1], c[2], c[3]);
    memset(c, 0xff, sizeof c);
    philox(c, 0xffffffff, 0xffffffff);
    CHECK(c[0] == 0x408f276d && c[1] == 0x41c83b0e && c[2] == 0xa20bc7c6 &&
              c[3] == 0x6d5451fd,
          "ones: %08x %08x %08x %08x", c[0], c[1], c[2], c[3]);
}

static void draw(Use *u, const char *name, RandomAttrs *at, int64_t batch,
                 int32_t sample, int32_t micro) {
    at->shape.v[0] = batch;
    use(u, name, at);
    key(u, 42, sample, micro);
    run(u);
}

/* Samples 2 and 3 of a batch of 4 are the samples of a batch that starts at 2. */
static void test_batches(const char *name) {
    RandomAttrs at = {.from = 3,
                      .below = 1000,
                      .shape = {3, {4, 71, 103}},
                      .batch = true,
                      .stream = 99};
    Use whole, part, other, micro;
    draw(&whole, name, &at, 4, 10, 0);
    draw(&part, name, &at, 2, 12, 0);
    size_t half = type_bytes(&part.out_type[0]);
    CHECK(!memcmp((char *)whole.out[0].data + half, part.out[0].data, half),
          "%s: a sample depends on its batch", name);
    draw(&micro, name, &at, 2, 12, 1);
    CHECK(memcmp(micro.out[0].data, part.out[0].data, half),
          "%s: same for micro-batches", name);
    at.stream = 100;
    draw(&other, name, &at, 2, 12, 0);
    CHECK(memcmp(other.out[0].data, part.out[0].data, half), "%s: same for streams",
          name);
    done(&whole), done(&part), done(&other), done(&micro);
}

/* Mean, deviation and skew of many numbers; pairs are uncorrelated. */
static void test_moments(const char *name, double mean, double deviation) {
    RandomAttrs at = {.shape = {2, {400, 1000}}, .batch = true, .stream = 5};
    Use u;
    draw(&u, name, &at, 400, 0, 0);
    double n = 400000, sum = 0, squares = 0, pairs = 0, cubes = 0, previous = 0;
    for (int64_t i = 0; i < 400000; i++) {
        double x = (number_at(&u.out[0], i) - mean) / deviation;
        sum += x, squares += x * x, cubes += x * x * x, pairs += x * previous;
        previous = x;
    }
    CHECK(fabs(sum / n) < 0.01, "%s: mean %g", name, sum / n);
    CHECK(fabs(squares / n - 1) < 0.01, "%s: variance %g", name, squares / n);
    CHECK(fabs(cubes / n) < 0.02, "%s: skew %g", name, cubes / n);
    CHECK(fabs(pairs / n) < 0.01, "%s: correlation %g", name, pairs / n);
    done(&u);
}

/* Element 0 and 1 of a sample by the formula in kernels/random.c. */
static void test_normal_formula(void) {
    RandomAttrs at = {.shape = {2, {2, 6}}, .batch = true, .stream = 7};
    Use u;
    draw(&u, "normal", &at, 2, 5, 1);
    int32_t rng[8] = {42, 0, 5, 1};
    uint32_t w[4];
    rng_block(rng, 7, 1, 1, w); /* sample 1, elements 4 ... 7 */
    double r = sqrt(-2 * log((w[0] + 1.0) / 4294967296.0)), v = w[1] / 4294967296.0;
    double pi = 3.14159265358979323846;
    CHECK(fabs(number_at(&u.out[0], 10) - r * cos(2 * pi * v)) < 1e-6, "element 4");
    CHECK(fabs(number_at(&u.out[0], 11) - r * sin(2 * pi * v)) < 1e-6, "element 5");
    done(&u);
}

static void test_draw_range(void) {
    RandomAttrs at = {.from = -2, .below = 5, .shape = {1, {70000}}, .stream = 5};
    Use u;
    draw(&u, "draw", &at, 70000, 0, 0);
    int count[7] = {0};
    for (int i = 0; i < 70000; i++) {
        int32_t x = ((int32_t *)u.out[0].data)[i];
        bool inside = x >= -2 && x < 5;
        CHECK(inside, "drew %d", x);
        if (inside) count[x + 2]++;
    }
    for (int k = 0; k < 7; k++)
        CHECK(abs(count[k] - 10000) < 500, "%d times %d", count[k], k - 2);
    done(&u);
}

static void test_dropout(void) {
    for (int each = EACH_ELEMENT; each <= EACH_MODULE; each++)
        for (int rescale = 0; rescale < 2; rescale++) {
            DropoutAttrs at = {.p = 0.25,
                               .each = each,
                               .rescale = rescale,
                               .batch = true,
                               .stream = 31};
            Use u;
            use(&u, "dropout", &at);
            give(&u, shape(F32, 3, 8, 90, 120, 0), 1, 2);
            key(&u, 1, 0, 0);
            if (!run(&u)) continue;
            const float *x = u.in[0].data, *y = u.out[0].data;
            double kept = 0, factor = rescale ? 1 / 0.75 : 1;
            bool right = true, alike = true;
            for (int64_t i = 0; i < 8 * 90 * 120; i++) {
                right &= y[i] == 0 || fabs(y[i] / x[i] - factor) < 1e-6;
                kept += y[i] != 0;
                int64_t first = each == EACH_CHANNEL
                                    ? i / (90 * 120) * (90 * 120) + i % 120
                                : each == EACH_MODULE ? 0
                                                      : i;
                alike &= (y[i] != 0) == (y[first] != 0);
            }
            kept /= 8 * 90 * 120;
            CHECK(right, "each %d: wrong factor", each);
            CHECK(alike, "each %d: draws differ where they must be one", each);
            double slack = each == EACH_MODULE ? 1 : each == EACH_CHANNEL ? 0.05 : 0.01;
            CHECK(fabs(kept - 0.75) < slack, "each %d: kept %g", each, kept);
            done(&u);
        }
}

/* Module dropout over micro-batches: dropped in about a quarter of them, as a whole. */
static void test_module_dropout(void) {
    int kept = 0;
    for (int micro = 0; micro < 400; micro++) {
        DropoutAttrs at = {.p = 0.25, .each = EACH_MODULE, .batch = true, .stream = 31};
        Use u;
        use(&u, "dropout", &at);
        give(&u, shape(F32, 2, 2, 3, 0, 0), 1, 2);
        key(&u, 1, 0, micro);
        if (run(&u)) kept += number_at(&u.out[0], 0) != 0;
        done(&u);
    }
    CHECK(kept > 270 && kept < 330, "kept %d of 400", kept);
}

/* ---- slices that learn ---- */

static void test_active_grad(void) {
    for (int axis = 0; axis < 2; axis++)
        for (int32_t k = -1; k < 4; k++) {
            ActiveAttrs at = {axis, 2};
            Use u;
            use(&u, "active_grad", &at);
            give(&u, shape(F32, 2, 6, 6, 0, 0), 1, 2);
            give(&u, type_scalar(I32), 0, 0);
            *(int32_t *)u.in[1].data = k;
            if (run(&u))
                for (int i = 0; i < 36; i++) {
                    bool inside = (axis ? i % 6 : i / 6) / 2 == k && k >= 0;
                    double want = inside ? number_at(&u.in[0], i) : 0;
                    CHECK(number_at(&u.out[0], i) == want,
                          "axis %d, slice %d, element %d", axis, k, i);
                }
            done(&u);
        }
}

static const char adamw[] =
    "t = t + 1; m = 0.9 * m + 0.1 * g; v = 0.99 * v + 0.01 * g * g; "
    "p = p * (1 - lr * 0.1) - lr / (1 - 0.9 ^ t) * m / "
    "(sqrt(v) / sqrt(1 - 0.99 ^ t) + 1e-08)";

typedef struct Adam { /* the same in f64, for one element */
    double p, m, v, t;
} Adam;

static void adam(Adam *s, double g, double lr) {
    s->t += 1;
    s->m = 0.9 * s->m + 0.1 * g;
    s->v = 0.99 * s->v + 0.01 * g * g;
    double root = sqrt(s->v) / sqrt(1 - pow(0.99, s->t)) + 1e-8;
    s->p = s->p * (1 - lr * 0.1) - lr / (1 - pow(0.9, s->t)) * s->m / root;
}

static void update_use(Use *u, const UpdateAttrs *at, int64_t rows, int64_t cols,
                       int64_t slices) {
    Type p = shape(F32, 2, rows, cols, 0, 0);
    use(u, "update", at);
    give(u, p, -1, 1), give(u, p, -1, 1);
    for (int i = 0; i < 3; i++) give(u, type_scalar(F32), 1, 1);
    *(float *)u->in[2].data = 0.01f;
    give(u, shape(I32, 1, slices, 0, 0, 0), 1, 1);
    give(u, p, 0, 0), give(u, p, 0, 0);
    give(u, shape(F64, 1, slices, 0, 0, 0), 0, 0);
}

/* Slices learn in turns; each follows its own AdamW, with its own step count. */
static void test_update(int axis, int64_t rows, int64_t cols, int64_t size) {
    int64_t slices = (axis < 0 ? 1 : axis ? cols : rows) / (axis < 0 ? 1 : size);
    UpdateAttrs at = {adamw, "m v t", axis, size};
    Use u;
    update_use(&u, &at, rows, cols, slices);
    Adam *want = NEW(u.a, Adam, rows * cols);
    for (int64_t i = 0; i < rows * cols; i++) want[i].p = number_at(&u.in[0], i);
    float scale = 0.5f;
    memcpy(u.in[3].data, &scale, 4);
    for (int round = 0; round < 5; round++) {
        int64_t turn = round % slices;
        for (int64_t s = 0; s < slices; s++) ((int32_t *)u.in[5].data)[s] = s == turn;
        *(float *)u.in[4].data = round != 3; /* round 3 is skipped: not finite */
        for (int64_t i = 0; i < rows * cols; i++) {
            number_set(&u.in[1], i, random_in(-1, 1));
            int64_t s = axis < 0 ? 0 : (axis ? i % cols : i / cols) / size;
            if (s == turn && round != 3)
                adam(&want[i], (float)(number_at(&u.in[1], i) * 0.5), 0.01f);
        }
        if (!run(&u)) break;
        for (int k = 0; k < 4; k++) u.in[k ? 5 + k : 0] = u.out[k];
    }
    double worst = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        double d = fabs(number_at(&u.in[0], i) - want[i].p);
        if (!(d <= worst)) worst = d;
    }
    CHECK(worst < 1e-6, "update, axis %d, slices of %lld: off by %g", axis,
          (long long)size, worst);
    for (int64_t s = 0; s < slices; s++) {
        double t = ((double *)u.in[8].data)[s], steps = 0;
        for (int round = 0; round < 5; round++)
            steps += round % slices == s && round != 3;
        CHECK(t == steps, "slice %lld counts %g, want %g", (long long)s, t, steps);
    }
    done(&u);
}

/* What is not active is not touched, not even NaN in it. */
static void test_untouched(void) {
    UpdateAttrs at = {adamw, "m v t", 0, 2};
    for (int ok = 0; ok < 2; ok++) {
        Use u;
        update_use(&u, &at, 6, 5, 3);
        for (int s = 0; s < 3; s++) ((int32_t *)u.in[5].data)[s] = ok && s == 1;
        for (int i = 0; i < 30; i++)
            if (!ok || i / 10 != 1) ((float *)u.in[1].data)[i] = NAN;
        *(float *)u.in[4].data = (float)ok;
        float before[30];
        memcpy(before, u.in[0].data, sizeof before);
        if (run(&u))
            for (int i = 0; i < 30; i++) {
                bool learns = ok && i / 10 == 1;
                float now = ((float *)u.out[0].data)[i];
                CHECK((now != before[i]) == learns && isfinite(now),
                      "ok %d, element %d", ok, i);
            }
        done(&u);
    }
}

/* New values may use old ones in any order: a and b change places. */
static void test_swap(void) {
    UpdateAttrs at = {"old = a; a = b; b = old; p = p + 0 * g", "a b", -1, 0};
    Type t = shape(F32, 1, 3000, 0, 0, 0);
    Use u;
    use(&u, "update", &at);
    give(&u, t, -1, 1), give(&u, t, -1, 1);
    for (int i = 0; i < 3; i++) give(&u, type_scalar(F32), 1, 1);
    u.s.n_in++;
    u.type[5].rank = -1;
    u.in[5] = (Tensor){NULL, &u.type[5]};
    give(&u, t, 0, 1), give(&u, t, 2, 3);
    if (run(&u)) {
        CHECK(same_bits(&u.out[0], &u.in[0]), "p changed");
        CHECK(same_bits(&u.out[1], &u.in[7]) && same_bits(&u.out[2], &u.in[6]),
              "states did not change places");
    }
    done(&u);
}

static void test_update_errors(void) {
    static const struct {
        const char *f, *states, *want;
    } cases[] = {
        {"p = p - lr * g; t = t + g", "m v t", "state 2 is one number per slice"},
        {"p = p - lr * q", "m v t", "no value 'q'"},
        {"p = p - lr * g", "m v", "states 'm v' for 3 values"},
        {"p = p - lr * g", "m v t u", "states 'm v t u' for 3 values"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        UpdateAttrs at = {cases[i].f, cases[i].states, 0, 3};
        Use u;
        Err e = {0};
        update_use(&u, &at, 6, 5, 2);
        bool ok = u.op->shape(&u.s, &e);
        CHECK(!ok && strstr(e.text, cases[i].want), "got '%s', want '%s'", e.text,
              cases[i].want);
        done(&u);
    }
}

int main(void) {
    test_sums(F32, shape(F32, 3, 70, 30, 90, 0), 1e-7);
    test_sums(F64, shape(F64, 4, 3, 17, 1, 2100), 1e-12);
    test_sums(F16, shape(F16, 2, 2000, 33, 0, 0), 0x1p-10);
    test_reduce_to();
    test_std();
    test_scans();
    test_norm();
    test_moves(F32);
    test_moves(F16);
    test_moves(I64);
    test_moves(U8);
    test_chunks();
    test_cast();
    test_philox();
    test_batches("normal");
    test_batches("uniform");
    test_batches("draw");
    test_moments("normal", 0, 1);
    test_moments("uniform", 0.5, sqrt(1 / 12.0));
    test_normal_formula();
    test_draw_range();
    test_dropout();
    test_module_dropout();
    test_active_grad();
    test_update(-1, 200, 170, 0);
    test_update(0, 40, 700, 10);
    test_update(1, 300, 4, 1);
    test_untouched();
    test_swap();
    test_update_errors();
    return check_done("op_kernels");
}
