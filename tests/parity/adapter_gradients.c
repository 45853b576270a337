/* Gradients of adapters by `graphrun eval --grad` against finite differences of its own
 * outputs, on one small linear layer and one small convolution.
 *
 *   adapter_gradients PROGRAM
 *
 * Directions are random, differences of fourth order; the outputs are f32, so about 1e-4
 * is what can be seen, and a wrong factor is 1. */
#include "kernels/rng.h"
#include "tests/parity/program.h"

enum { IN = 5, OUT = 6, RANK = 2 };

typedef struct Case {
    const char *adapter, *settings;
    struct {
        const char *name;
        int rank;
        int64_t dim[4];
        bool frozen;
        double around; /* added to each number */
    } tensor[5];
} Case;

static uint32_t drawn;

static float draw(void) {
    uint32_t word[4] = {drawn++};
    philox(word, 20261125, 0);
    return 2 * rng_uniform(word[0]) - 1;
}

static const float *draws(int64_t n, double around) {
    float *x = NEW(arena, float, n);
    for (int64_t i = 0; i < n; i++) x[i] = draw() + (float)around;
    return x;
}

static TensorOut *give_drawn(Tensors *in, const char *name, int rank,
                             const int64_t *dim, double around) {
    Type t = type_of(F32, rank, dim);
    return give(in, name, t, draws(type_count(&t), around));
}

static TensorFile *eval(const Case *c, bool conv, const Tensors *in) {
    const char *record = in_folder("record.safetensors");
    int code =
        run("eval %s --grad %s %s --inputs %s --record %s", c->adapter, c->settings,
            conv ? "--set pad=1" : "", write_tensors(in, "in.safetensors"), record);
    CHECK(code == 0, "eval %s ended with %d: %s", c->adapter, code,
          slurp(in_folder("err"), NULL));
    return code ? NULL : open_tensors(record);
}

static double dot(const TensorEntry *a, const float *b) {
    double s = 0;
    for (int64_t i = 0; i < type_count(&a->type); i++) s += at(a, i) * (double)b[i];
    return s;
}

static const TensorOut *given(const Tensors *in, const char *name) {
    for (int i = 0; i < in->n; i++)
        if (!strcmp(in->item[i].name, name)) return &in->item[i];
    return NULL;
}

/* DoRA's gradient takes the norm of the tuned weight as a constant: its length is moved
 * along so that length / norm stays. */
static void keep_length(Tensors *in, const Tensors *start, bool conv);

/* sum of y * d.y with tensor k moved by `step` along `way` */
static double moved(const Case *c, bool conv, const Tensors *start, int k,
                    const float *way, double step) {
    Tensors in = *start;
    int64_t n = type_count(&in.item[k].type);
    float *x = NEW(arena, float, n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)((double)((const float *)start->item[k].data)[i] +
                       step * (double)way[i]);
    in.item[k].data = x;
    if (!strcmp(c->adapter, "dora") && !strncmp(in.item[k].name, "lora", 4))
        keep_length(&in, start, conv);
    TensorFile *out = eval(c, conv, &in);
    double y = out ? dot(tensor(out, "y"), given(start, "d.y")->data) : 0;
    if (out) tensors_close(out);
    return y;
}

static void norms(const Tensors *in, int64_t fan_in, double *norm) {
    const float *w = given(in, "w")->data, *down = given(in, "lora_down")->data,
                *up = given(in, "lora_up")->data;
    for (int64_t o = 0; o < OUT; o++) {
        double sum = 0;
        for (int64_t i = 0; i < fan_in; i++) {
            double v = (double)w[o * fan_in + i];
            for (int r = 0; r < RANK; r++) /* alpha / rank = 1 / 2 */
                v += 0.5 * (double)up[o * RANK + r] * (double)down[r * fan_in + i];
            sum += v * v;
        }
        norm[o] = sqrt(sum);
    }
}

static void keep_length(Tensors *in, const Tensors *start, bool conv) {
    double before[OUT], after[OUT];
    int64_t fan_in = conv ? IN * 9 : IN;
    norms(start, fan_in, before);
    norms(in, fan_in, after);
    float *scale = NEW(arena, float, OUT);
    const float *was = given(start, "dora_scale")->data;
    for (int o = 0; o < OUT; o++)
        scale[o] = (float)((double)was[o] * after[o] / before[o]);
    for (int i = 0; i < in->n; i++)
        if (!strcmp(in->item[i].name, "dora_scale")) in->item[i].data = scale;
}

static void one_tensor(const Case *c, bool conv, const Tensors *in, int k,
                       TensorFile *out) {
    const TensorOut *t = &in->item[k];
    const TensorEntry *g = tensors_find(out, arena_printf(arena, "g.%s", t->name));
    CHECK(g && g->type.rank == t->type.rank && type_same_shape(&g->type, &t->type),
          "%s: no gradient of '%s' in its shape", c->adapter, t->name);
    if (!g) return;
    const float *way = draws(type_count(&t->type), 0);
    double h = 0.02,
           slope =
               (8 * (moved(c, conv, in, k, way, h) - moved(c, conv, in, k, way, -h)) -
                moved(c, conv, in, k, way, 2 * h) +
                moved(c, conv, in, k, way, -2 * h)) /
               (12 * h);
    double got = dot(g, way), size = 0;
    for (int64_t i = 0; i < type_count(&t->type); i++)
        size += at(g, i) * at(g, i) * (double)way[i] * (double)way[i];
    CHECK(fabs(got - slope) <= 1e-3 * sqrt(size), "%s on a %s: %s: %.7g, want %.7g",
          c->adapter, conv ? "convolution" : "linear layer", t->name, got, slope);
}

static void check_case(const Case *c, bool conv) {
    Tensors in = {0};
    const int64_t x3[3] = {2, 3, IN}, x4[4] = {2, IN, 4, 5}, y3[3] = {2, 3, OUT},
                  y4[4] = {2, OUT, 4, 5}, w[4] = {OUT, IN, 3, 3}, b = OUT;
    give_drawn(&in, "x", conv ? 4 : 3, conv ? x4 : x3, 0);
    give_drawn(&in, "d.y", conv ? 4 : 3, conv ? y4 : y3, 0);
    give_drawn(&in, "w", conv ? 4 : 2, w, 0);
    give_drawn(&in, "b", 1, &b, 0);
    int first = in.n;
    for (int i = 0; i < 5 && c->tensor[i].name; i++)
        give_drawn(&in, c->tensor[i].name, c->tensor[i].rank, c->tensor[i].dim,
                   c->tensor[i].around);
    TensorFile *out = eval(c, conv, &in);
    if (!out) return;
    one_tensor(c, conv, &in, 0, out);
    for (int k = first; k < in.n; k++)
        if (c->tensor[k - first].frozen)
            CHECK(!tensors_find(out, arena_printf(arena, "g.%s", in.item[k].name)),
                  "%s: '%s' does not learn", c->adapter, in.item[k].name);
        else
            one_tensor(c, conv, &in, k, out);
    tensors_close(out);
}

#define R2 "--set rank=2 --set alpha=1"
#define DOWN                                                                           \
    { "lora_down.weight", 2, {RANK, IN}, false, 0 }
#define UP                                                                             \
    { "lora_up.weight", 2, {OUT, RANK}, false, 0 }
#define DOWN4                                                                          \
    { "lora_down.weight", 4, {RANK, IN, 3, 3}, false, 0 }
#define UP4                                                                            \
    { "lora_up.weight", 4, {OUT, RANK, 1, 1}, false, 0 }
static const Case linear[] = {
    {"lora", R2, {DOWN, UP}},
    {"rslora", R2, {DOWN, UP}},
    {"lora-fa", R2, {{"lora_down.weight", 2, {RANK, IN}, true, 0}, UP}},
    {"diag-lora", R2, {DOWN, UP, {"strength", 1, {RANK}, false, 0}}},
    {"loha",
     R2,
     {{"hada_w1_a", 2, {OUT, RANK}, false, 0},
      {"hada_w1_b", 2, {RANK, IN}, false, 0},
      {"hada_w2_a", 2, {OUT, RANK}, false, 0},
      {"hada_w2_b", 2, {RANK, IN}, false, 0}}},
    {"dora",
     R2,
     {{"lora_down", 2, {RANK, IN}, false, 0},
      {"lora_up", 2, {OUT, RANK}, false, 0},
      {"dora_scale", 2, {OUT, 1}, false, 2}}},
    {"ia3", "--set on_input=false", {{"weight", 1, {OUT}, false, 0}}},
    {"ia3", "--set on_input=true", {{"weight", 1, {IN}, false, 0}}},
};
static const Case convolution[] = {
    {"lora", R2, {DOWN4, UP4}},
    {"rslora", R2, {DOWN4, UP4}},
    {"lora-fa", R2, {{"lora_down.weight", 4, {RANK, IN, 3, 3}, true, 0}, UP4}},
    {"diag-lora", R2, {DOWN4, UP4, {"strength", 1, {RANK}, false, 0}}},
    {"loha",
     R2,
     {{"hada_w1_a", 2, {OUT, RANK}, false, 0},
      {"hada_w1_b", 2, {RANK, IN * 9}, false, 0},
      {"hada_w2_a", 2, {OUT, RANK}, false, 0},
      {"hada_w2_b", 2, {RANK, IN * 9}, false, 0}}},
    {"dora",
     R2,
     {{"lora_down", 4, {RANK, IN, 3, 3}, false, 0},
      {"lora_up", 4, {OUT, RANK, 1, 1}, false, 0},
      {"dora_scale", 4, {OUT, 1, 1, 1}, false, 2}}},
    {"ia3", "--set on_input=false", {{"weight", 1, {OUT}, false, 0}}},
    {"ia3", "--set on_input=true", {{"weight", 1, {IN}, false, 0}}},
};

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: adapter_gradients PROGRAM\n");
        return 2;
    }
    program_start(argv[1]);
    for (size_t i = 0; i < COUNT(linear); i++) check_case(&linear[i], false);
    for (size_t i = 0; i < COUNT(convolution); i++) check_case(&convolution[i], true);
    return program_end("adapter_gradients");
}
