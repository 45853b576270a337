/* The mathematics of the file tools against what can be computed exactly. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/rng.h"
#include "runtime/exec.h"
#include "runtime/lora_blocks.h"
#include "runtime/lora_rank.h"
#include "tests/check.h"

static double number(uint32_t i, uint32_t stream) { /* about normal, deviation 1 */
    double sum = 0;
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t c[4] = {i, stream, k, 0};
        philox(c, 7, 9);
        for (int j = 0; j < 4; j++) sum += (double)rng_uniform(c[j]) - 0.5;
    }
    return sum;
}

/* ---- singular values ---- */

/* A matrix with the singular values s: product of orthonormal factors made by svd_leading's
 * own QR would prove little, so a sum of random rank-one parts of falling size. */
static void fill(float *x, int64_t m, int64_t n, int parts, double fall) {
    double *v = calloc((size_t)n, sizeof *v);
    memset(x, 0, sizeof *x * (size_t)(m * n));
    for (int p = 0; p < parts; p++) {
        double size = exp(-fall * p) / sqrt((double)(m * n));
        for (int64_t j = 0; j < n; j++) v[j] = number((uint32_t)j, 5000 + (uint32_t)p);
        for (int64_t i = 0; i < m; i++) {
            double u = size * number((uint32_t)i, 100 + (uint32_t)p);
            for (int64_t j = 0; j < n; j++) x[i * n + j] += (float)(u * v[j]);
        }
    }
    free(v);
}

/* All of it, exactly: x = sum over rows of e_i x_i^T. */
static void exact(Arena *a, const float *x, int64_t m, int64_t n, Svd *out) {
    double *e = NEW(a, double, m *m), *y = NEW(a, double, m *n);
    for (int64_t i = 0; i < m; i++) e[i * m + i] = 1;
    for (int64_t i = 0; i < m * n; i++) y[i] = (double)x[i];
    Err err = {0};
    CHECK(svd_of_product(a, e, y, m, n, m, m, out, &err), "%s", err.text);
}

static double caught(const Svd *s, const float *x, int64_t most) {
    double energy = 0; /* |u^T x v|^2 of the triples as given, not what they claim */
    for (int64_t k = 0; k < most && k < s->k; k++) {
        double sum = 0;
        for (int64_t i = 0; i < s->m; i++) {
            double row = 0;
            for (int64_t j = 0; j < s->n; j++)
                row += (double)x[i * s->n + j] * s->v[k * s->n + j];
            sum += row * s->u[k * s->m + i];
        }
        energy += sum * sum;
    }
    return energy;
}

static void leading(Device *dev, const char *what, int64_t m, int64_t n, int parts,
                    double fall, int64_t most) {
    Arena *a = arena_new();
    float *x = NEW(a, float, m *n);
    fill(x, m, n, parts, fall);
    Svd want, got;
    exact(a, x, m, n, &want);
    Err e = {0};
    bool ok = svd_leading(a, dev, x, m, n, most, 3, NULL, &got, &e);
    CHECK(ok, "%s: %s", what, e.text);
    double best = 0, have = ok ? caught(&got, x, most) : 0;
    for (int64_t i = 0; i < most && i < want.k; i++) best += want.s[i] * want.s[i];
    CHECK(have >= best * (1 - 1e-4), "%s: caught %.9g of %.9g (%.3g below)", what, have,
          best, 1 - have / best);
    CHECK(have <= best * (1 + 1e-5), "%s: caught more than there is: %.9g of %.9g",
          what, have, best);
    arena_free(a);
}

/* ---- LoRA files made here ---- */

typedef struct Made {
    const char *name;
    int64_t out, in, k, rank; /* k x k window; 0: a matrix */
    double alpha;             /* 0: none in the file */
} Made;

static const char *temporary(const char *name) {
    static char path[4][200];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/graphrun-lora-tools-%d-%s",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid(), name);
    return p;
}

static LoraFile *made(Arena *a, const char *file, uint32_t stream, const Made *m,
                      int n) {
    TensorOut *t = NEW(a, TensorOut, 3 * n);
    int k = 0;
    for (int i = 0; i < n; i++, m++) {
        const int rank = m->k ? 4 : 2;
        Type down = type_of(F32, rank, (int64_t[]){m->rank, m->in, m->k, m->k});
        Type up = type_of(F32, rank, (int64_t[]){m->out, m->rank, 1, 1});
        float *d = NEW(a, float, type_count(&down)),
              *u = NEW(a, float, m->out * m->rank);
        float *alpha = NEW(a, float, 1);
        for (int64_t j = 0; j < type_count(&down); j++)
            d[j] = (float)number((uint32_t)j, stream + (uint32_t)i);
        for (int64_t j = 0; j < m->out * m->rank; j++)
            u[j] = (float)number((uint32_t)j, stream + 50 + (uint32_t)i);
        *alpha = (float)m->alpha;
        t[k++] = (TensorOut){arena_printf(a, "%s.lora_down.weight", m->name), down, d};
        t[k++] = (TensorOut){arena_printf(a, "%s.lora_up.weight", m->name), up, u};
        if (m->alpha > 0)
            t[k++] = (TensorOut){arena_printf(a, "%s.alpha", m->name), type_scalar(F32),
                                 alpha};
    }
    Err e = {0};
    bool ok = safetensors_write(file, t, k, NULL, 0, &e);
    LoraFile *f = ok ? lora_open(file, &e) : NULL;
    CHECK(f, "%s: %s", file, e.text);
    unlink(file); /* mapped: lives until it is closed */
    return f;
}

/* y[out, in k k] += f * alpha / rank * up down */
static void add_product(double *y, const LoraModule *m, double f) {
    const int64_t n = type_count(&m->down.type) / m->rank;
    const float *u = m->up.data, *d = m->down.data;
    for (int64_t o = 0; o < m->out; o++)
        for (int64_t r = 0; r < m->rank; r++)
            for (int64_t i = 0; i < n; i++) {
                float ur, dr; /* mapped data may be unaligned */
                memcpy(&ur, u + o * m->rank + r, sizeof ur);
                memcpy(&dr, d + r * n + i, sizeof dr);
                y[o * n + i] +=
                    f * m->alpha / (double)m->rank * (double)ur * (double)dr;
            }
}

static double distance(const LoraItem *m, const double *want) {
    const int64_t r = lora_item_rank(m), n = type_count(&m->down_type) / r;
    double off = 0, size = 0;
    for (int64_t o = 0; o < m->up_type.dim[0]; o++)
        for (int64_t i = 0; i < n; i++) {
            double y = 0;
            for (int64_t k = 0; k < r; k++)
                y += (double)m->up[o * r + k] * (double)m->down[k * n + i];
            y *= m->alpha / (double)r;
            off += (y - want[o * n + i]) * (y - want[o * n + i]);
            size += want[o * n + i] * want[o * n + i];
        }
    return sqrt(off / size);
}

static const Made first_lora[] = {
    {"lora_te_text_model_encoder_layers_0_mlp_fc1", 40, 24, 0, 4, 2},
    {"lora_unet_down_blocks_0_attentions_0_proj_in", 16, 16, 1, 4, 3},
    {"lora_unet_up_blocks_1_resnets_0_conv1", 20, 12, 3, 2, 1},
};
static const Made second_lora[] = {
    {"lora_unet_down_blocks_0_attentions_0_proj_in", 16, 16, 1, 7, 0},
    {"lora_unet_mid_block_attentions_0_proj_in", 16, 16, 1, 3, 3},
    {"lora_unet_up_blocks_1_resnets_0_conv1", 20, 12, 3, 5, 4},
};
static const double ratios[] = {0.6, -1.3};

/* The weighted sum of a module of both files, exactly. */
static double *wanted(Arena *a, const MergeInput *in, const LoraItem *m) {
    double *y = NEW(a, double, m->up_type.dim[0] * type_count(&m->down_type));
    for (int k = 0; k < 2; k++) {
        const LoraModule *x = lora_find(in[k].file, m->name);
        if (x) add_product(y, x, merge_ratio(&in[k], m->name));
    }
    return y;
}

static void check_sum(const LoraSet *s, const MergeInput *in, double within) {
    for (int i = 0; i < s->n; i++) {
        Arena *a = arena_new();
        double off = distance(&s->item[i], wanted(a, in, &s->item[i]));
        CHECK(off <= within, "%s is %.3g off, want %.3g", s->item[i].name, off, within);
        arena_free(a);
    }
}

static void merging(Device *dev) {
    Arena *a = arena_new();
    double weight[17];
    for (int i = 0; i < 17; i++) weight[i] = 1 - 0.05 * i;
    LoraFile *f = made(a, temporary("a.safetensors"), 1000, first_lora, 3),
             *g = made(a, temporary("b.safetensors"), 2000, second_lora, 3);
    MergeInput in[] = {
        {.file = f, .ratio = ratios[0]},
        {.file = g, .ratio = ratios[1], .weight = weight, .n_weight = 17}};
    MergeOptions o = {.precision = F32};
    LoraSet *s;
    Err e = {0};
    bool ok = f && g && lora_merge(in, 2, &o, dev, &s, &e);
    CHECK(ok, "%s", e.text);
    if (ok) {
        CHECK(s->n == 4, "%d modules, want 4", s->n);
        check_sum(s, in, 1e-6);
        for (int i = 0; i < s->n; i++)
            CHECK(s->item[i].alpha == (double)lora_item_rank(&s->item[i]),
                  "%s: alpha %g", s->item[i].name, s->item[i].alpha);
        lora_set_free(s);
    }
    o.shuffle = true;
    ok = lora_merge(in, 2, &o, dev, &s, &e);
    CHECK(ok, "%s", e.text);
    if (ok) check_sum(s, in, 1e-6), lora_set_free(s);
    o = (MergeOptions){.precision = F32, .original = true};
    ok = lora_merge(in, 2, &o, dev, &s, &e);
    CHECK(!ok && strstr(e.text, "different dims?"), "ranks 4 and 7: %s", e.text);

    e = (Err){0};
    SvdOptions svd = {.precision = F32, .clamp = 1};
    svd.rank.most = svd.rank.most_conv = 16;
    ok = lora_svd_merge(in, 2, &svd, dev, &s, &e);
    CHECK(ok, "%s", e.text);
    if (ok) {
        check_sum(s, in, 1e-6);
        const LoraItem *conv = &s->item[3];
        CHECK(lora_item_rank(conv) == 7, "rank %lld where 2 and 5 meet",
              (long long)lora_item_rank(conv));
        CHECK(fabs(conv->kept / conv->energy - 1) < 1e-12, "all is kept");
        lora_set_free(s);
    }
    svd.rank.most = svd.rank.most_conv = 2;
    ok = lora_svd_merge(in, 2, &svd, dev, &s, &e);
    CHECK(ok, "%s", e.text);
    for (int i = 0; ok && i < s->n; i++) { /* the energy told is the energy kept */
        const LoraItem *m = &s->item[i];
        double off = distance(m, wanted(a, in, m)), told = 1 - m->kept / m->energy;
        CHECK(fabs(off * off - told) < 1e-6, "%s: lost %.9g, told %.9g", m->name,
              off * off, told);
    }
    if (ok) lora_set_free(s);
    lora_close(f), lora_close(g);
    arena_free(a);
}

static void ranks(Device *dev) {
    Arena *a = arena_new();
    LoraFile *f = made(a, temporary("c.safetensors"), 3000, first_lora, 3);
    TensorOut *t;
    int n;
    dylora_cut(a, f, 2, true, &t, &n);
    CHECK(n == 9, "%d tensors", n);
    const LoraModule *m = &f->module[0]; /* rank 4, alpha 2 */
    float alpha = *(const float *)t[2].data, got, want;
    CHECK(alpha == 1, "alpha %g at half of the rank, want 1", (double)alpha);
    CHECK(t[0].type.dim[0] == 2 && t[1].type.dim[1] == 2, "rank 2");
    memcpy(&got, (const float *)t[1].data + 2 * 5 + 1, 4);
    memcpy(&want, (const float *)m->up.data + 4 * 5 + 1, 4);
    CHECK(got == want, "up[5,1] is %g, want %g", (double)got, (double)want);
    dylora_cut(a, f, 2, false, &t, &n);
    CHECK(*(const float *)t[2].data == 2, "alpha stays 2");

    SvdOptions o = {.precision = F32, .clamp = 1};
    o.rank.most = o.rank.most_conv = 64;
    LoraSet *s;
    Err e = {0};
    bool ok = lora_resize(f, &o, dev, &s, &e);
    CHECK(ok, "%s", e.text);
    for (int i = 0; ok && i < s->n; i++) {
        double *y = NEW(a, double,
                        s->item[i].up_type.dim[0] * type_count(&s->item[i].down_type));
        add_product(y, &f->module[i], 1);
        double off = distance(&s->item[i], y);
        CHECK(off < 1e-6, "%s is %.3g off at its own rank", s->item[i].name, off);
        CHECK(lora_item_rank(&s->item[i]) == f->module[i].rank, "its rank is %lld",
              (long long)f->module[i].rank);
    }
    if (ok) lora_set_free(s);
    const double sv[] = {8, 4, 2, 1};
    const struct {
        RankRule rule;
        int64_t want;
    } rules[] = {{{RANK_FIXED, 0, 3, 3}, 3},        {{RANK_RATIO, 3, 4, 4}, 2},
                 {{RANK_RATIO, 2, 4, 4}, 1},        {{RANK_FRO, 0.9, 4, 4}, 2},
                 {{RANK_FRO, 0.8, 4, 4}, 1},        {{RANK_FRO, 0.999, 4, 4}, 4},
                 {{RANK_CUMULATIVE, 0.8, 4, 4}, 2}, {{RANK_CUMULATIVE, 0.81, 4, 4}, 3},
                 {{RANK_CUMULATIVE, 1, 2, 2}, 2}};
    for (size_t i = 0; i < COUNT(rules); i++) {
        int64_t r = rank_choose(&rules[i].rule, sv, 4, 85, 15, rules[i].rule.most);
        CHECK(r == rules[i].want, "rule %zu: rank %lld, want %lld", i, (long long)r,
              (long long)rules[i].want);
    }
    lora_close(f);
    arena_free(a);
}

static void slots(void) {
    static const struct {
        const char *module;
        int n;
        const char *slot;
    } cases[] = {
        {"lora_te_text_model_encoder_layers_0_mlp_fc1", 26, "BASE"},
        {"lora_te_text_model_encoder_layers_0_mlp_fc1", 25, ""},
        {"lora_unet_down_blocks_0_attentions_0_proj_in", 17, "IN01"},
        {"lora_unet_down_blocks_2_attentions_1_proj_in", 17, "IN08"},
        {"lora_unet_down_blocks_0_downsamplers_0_conv", 26, "IN03"},
        {"lora_unet_down_blocks_0_downsamplers_0_conv", 17, ""},
        {"lora_unet_mid_block_resnets_1_conv1", 12, "MID"},
        {"lora_unet_up_blocks_0_resnets_0_conv1", 25, "OUT00"},
        {"lora_unet_up_blocks_2_upsamplers_0_conv", 26, "OUT08"},
        {"lora_unet_up_blocks_3_attentions_2_proj_out", 17, "OUT11"},
        {"lora_unet_input_blocks_4_1_proj_in", 20, "IN04"},
        {"lora_unet_output_blocks_5_1_proj_in", 12, "OUT05"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        int slot = lora_block_slot(cases[i].module, cases[i].n);
        CHECK(!strcmp(lora_slot_name(cases[i].n, slot), cases[i].slot),
              "%s of %d: '%s', want '%s'", cases[i].module, cases[i].n,
              lora_slot_name(cases[i].n, slot), cases[i].slot);
    }
    CHECK(!lora_blocks_known(24) && lora_blocks_known(25), "lists of 24 are refused");
}

/* Halves in bulk are the same as one by one: all of them, and floats around each. */
static void halves(void) {
    enum { ALL = 1 << 16 };
    uint16_t *h = malloc(ALL * sizeof *h), *back = malloc(5 * ALL * sizeof *back);
    float *f = malloc(ALL * sizeof *f), *near = malloc(5 * ALL * sizeof *near);
    for (int i = 0; i < ALL; i++) h[i] = (uint16_t)i;
    convert(f, F32, h, F16, ALL);
    int wrong = 0;
    for (int i = 0; i < ALL; i++) {
        float want = half_to_float(h[i]);
        wrong += memcmp(&want, &f[i], sizeof want) != 0;
        uint32_t u;
        memcpy(&u, &f[i], sizeof u);
        for (uint32_t k = 0; k < 5; k++) { /* itself, ties and their neighbours */
            uint32_t x = u + (uint32_t[]){0, 1, 0xFFF, 0x1000, 0x1001}[k];
            memcpy(&near[5 * i + (int)k], &x, sizeof x);
        }
    }
    CHECK(!wrong, "%d of all halves become other floats", wrong);
    convert(back, F16, near, F32, 5 * ALL);
    wrong = 0;
    for (int i = 0; i < 5 * ALL; i++) wrong += float_to_half(near[i]) != back[i];
    CHECK(!wrong, "%d floats become other halves", wrong);
    free(h), free(back), free(f), free(near);
}

int main(void) {
    Device *dev = cpu_open(2);
    leading(dev, "flat", 200, 300, 200, 0, 16);
    leading(dev, "flat, tall", 300, 200, 200, 0, 16);
    leading(dev, "slow fall", 320, 640, 320, 0.01, 32);
    leading(dev, "fall", 320, 640, 320, 0.05, 32);
    leading(dev, "fast fall", 320, 640, 100, 0.5, 32);
    leading(dev, "low rank", 320, 400, 8, 0.1, 16);
    leading(dev, "low rank, exact", 320, 400, 16, 0.1, 16);
    leading(dev, "one row", 1, 50, 1, 0, 4);
    merging(dev);
    ranks(dev);
    slots();
    halves();
    cpu_close(dev);
    return check_done("lora_tools_test");
}
