/* Networks, an objective and optimizers alone, by `graphrun eval`, against recorded numbers
 * of the original programs.
 *
 *   eval_parity PROGRAM GOLDEN     GOLDEN: the folder with nano/, sd2/, optimizers.safetensors
 *
 * Networks: relative L2 at most 1e-5 (the references are within 2.2e-6 of f64). The time
 * embedding and the first ResNet are graphs of their own, cut out of the U-Net. */
#include "tests/parity/program.h"

static const char *golden;

typedef struct Model {
    const char *name, *weights;
    TensorFile *file;
} Model;

static Model open_model(const char *name, const char *weights) {
    return (Model){
        name, arena_printf(arena, "%s/%s/%s", golden, name, weights),
        open_tensors(arena_printf(arena, "%s/%s/models.safetensors", golden, name))};
}

/* `graphrun eval GRAPH` on the tensors; NULL if it failed. */
static TensorFile *eval(const char *graph, const char *weights, const Tensors *in,
                        const char *extra) {
    const char *record = in_folder("record.safetensors");
    int code = run("eval %s %s%s --inputs %s --record %s %s", graph,
                   weights ? "--weights " : "", weights ? weights : "",
                   write_tensors(in, "in.safetensors"), record, extra);
    CHECK(code == 0, "eval %s %s ended with %d: %s", graph, extra, code,
          slurp(in_folder("err"), NULL));
    return code ? NULL : open_tensors(record);
}

static void same(const Model *m, TensorFile *out, const char *name, const char *want) {
    if (!out) return;
    const TensorEntry *a = tensors_find(out, name), *b = tensor(m->file, want);
    bool there = a && type_count(&a->type) == type_count(&b->type);
    CHECK(there, "%s: no '%s' as large as '%s'", m->name, name, want);
    double d = there ? rel_l2(a, b) : 1;
    CHECK(d <= 1e-5, "%s: %s is off by %.1e", m->name, want, d);
    printf("%s %s: %.1e\n", m->name, want, d);
}

static Type shaped(DType dtype, int64_t a, int64_t b, int64_t c) {
    const int64_t d[3] = {a, b, c};
    return type_of(dtype, c ? 3 : b ? 2 : 1, d);
}

static void text_encoder(const Model *m, const char *want, const char *extra) {
    Tensors in = {0};
    give(&in, "ids", shaped(I32, 1, 1, 77), tensor(m->file, "te.input_ids")->data);
    TensorFile *out = eval("clip", m->weights, &in, extra);
    same(m, out, "context", want);
    if (out) tensors_close(out);
}

static void give_step(Tensors *in, const Model *m, const char *x) {
    give_from(in, "latent", m->file, arena_printf(arena, "unet.%s.sample", x));
    give_from(in, "timestep", m->file, arena_printf(arena, "unet.%s.timesteps", x));
}

static void unet(const Model *m, const char *x) {
    Tensors in = {0};
    give_step(&in, m, x);
    give_from(&in, "context", m->file, "te.last_hidden_state");
    TensorFile *out = eval("unet", m->weights, &in, "");
    same(m, out, "noise", arena_printf(arena, "unet.%s.out", x));
    if (out) tensors_close(out);
}

/* ---- parts of the U-Net ---- */
static const char time_graph[] =
    "network: unet\n"
    "args: {width: 32}\n"
    "symbols: {B: batch}\n"
    "inputs:\n"
    "  timestep: {shape: [B]}\n"
    "nodes:\n"
    "  sinusoid:                {op: timestep_embedding, t: timestep, width: $width}\n"
    "  time_embedding.linear_1: {op: linear, x: sinusoid, out: $width * 4}\n"
    "  time_embedding.linear_2: {op: linear, x: silu(time_embedding.linear_1), "
    "out: $width * 4}\n"
    "outputs: {sinusoid: sinusoid, embedding: time_embedding.linear_2}\n";

static const char resnet_graph[] =
    "network: unet\n"
    "args: {width: 32}\n"
    "symbols: {B: batch, H: latent height, W: latent width}\n"
    "inputs:\n"
    "  latent:   {shape: [B, H, W, 4]}\n"
    "  timestep: {shape: [B]}\n"
    "nodes:\n"
    "  sinusoid:                {op: timestep_embedding, t: timestep, width: $width}\n"
    "  time_embedding.linear_1: {op: linear, x: sinusoid, out: $width * 4}\n"
    "  time_embedding.linear_2: {op: linear, x: silu(time_embedding.linear_1), "
    "out: $width * 4}\n"
    "  conv_in: {op: conv2d, x: latent, out: $width, kernel: 3, pad: 1}\n"
    "  down_blocks.0.resnets.0.norm1: {op: group_norm, x: conv_in, eps: 1e-5}\n"
    "  down_blocks.0.resnets.0.conv1: {op: conv2d, x: "
    "silu(down_blocks.0.resnets.0.norm1), out: $width, kernel: 3, pad: 1}\n"
    "  down_blocks.0.resnets.0.time_emb_proj: {op: linear, x: "
    "silu(time_embedding.linear_2), out: $width}\n"
    "  sum: down_blocks.0.resnets.0.conv1 + down_blocks.0.resnets.0.time_emb_proj\n"
    "outputs: {before_norm2: sum}\n";

static const char *graph_file(const char *name, const char *text) {
    const char *path = in_folder(name);
    FILE *f = fopen(path, "w");
    must(f && fputs(text, f) >= 0 && !fclose(f), path, NULL);
    return path;
}

static void parts(const Model *m) {
    Tensors in = {0};
    give_from(&in, "timestep", m->file, "unet.t.timesteps");
    TensorFile *out = eval(graph_file("time.yaml", time_graph), m->weights, &in, "");
    same(m, out, "sinusoid", "unet.t.sinusoid");
    same(m, out, "embedding", "unet.t.embedding");
    if (out) tensors_close(out);
    Tensors step = {0};
    give_step(&step, m, "b");
    out = eval(graph_file("resnet.yaml", resnet_graph), m->weights, &step, "");
    same(m, out, "before_norm2", "unet.b.first_resnet_before_norm2");
    if (out) tensors_close(out);
}

static void vae(const Model *m) {
    Tensors in = {0}, latent = {0};
    give_from(&in, "image", m->file, "vae.image");
    TensorFile *out = eval("vae_encoder", m->weights, &in, "");
    same(m, out, "mean", "vae.mean");
    same(m, out, "logvar", "vae.logvar");
    if (out) tensors_close(out);
    give_from(&latent, "latent", m->file, "vae.mean");
    out = eval("vae_decoder", m->weights, &latent, "");
    same(m, out, "image", "vae.decoded");
    if (out) tensors_close(out);
}

/* ---- objectives ---- */
/* cumulative product of 1 - beta; sqrt(beta) rises evenly from sqrt(0.00085) to
 * sqrt(0.012) over 1000 steps (the schedule of Stable Diffusion's training) */
static double alpha_bar(int t) {
    double product = 1, low = sqrt(0.00085), high = sqrt(0.012);
    for (int i = 0; i <= t; i++) {
        double root = low + (high - low) * i / 999;
        product *= 1 - root * root;
    }
    return product;
}

typedef struct Step {
    const TensorEntry *latent, *noise;
    int64_t per_sample;
    double a[2];
} Step;

static void give_batch(Tensors *in, TensorFile *f) {
    give_from(in, "latent", f, "m0.latents");
    give_from(in, "noise", f, "m0.noise");
    give_from(in, "t", f, "m0.timesteps");
    const TensorEntry *ids = tensor(f, "m0.input_ids");
    give(in, "ids", shaped(I32, 2, 1, 77), ids->data);
}

/* The loss by hand from the U-Net's own output, which is checked by the U-Net alone. */
static double loss_of(const Step *s, const TensorEntry *guess, bool velocity,
                      double gamma) {
    double loss = 0;
    for (int b = 0; b < 2; b++) {
        double sum = 0, a = s->a[b], snr = a / (1 - a);
        for (int64_t i = b * s->per_sample; i < (b + 1) * s->per_sample; i++) {
            double noise = at(s->noise, i), x0 = at(s->latent, i) * 0.18215;
            double want = velocity ? sqrt(a) * noise - sqrt(1 - a) * x0 : noise;
            sum += pow(at(guess, i) - want, 2);
        }
        double capped = gamma > 0 && snr > gamma ? gamma : snr;
        double weight = gamma == 0 ? 1 : velocity ? capped / (snr + 1) : capped / snr;
        loss += weight * sum / (double)s->per_sample / 2;
    }
    return loss;
}

static void noisy_unet(const Model *m, const Step *s, TensorFile *f, TensorFile *out) {
    int64_t n = 2 * s->per_sample;
    float *x = NEW(arena, float, n);
    for (int64_t i = 0; i < n; i++) {
        double a = s->a[i / s->per_sample];
        x[i] = (float)(sqrt(a) * at(s->latent, i) * 0.18215 +
                       sqrt(1 - a) * at(s->noise, i));
    }
    Tensors in = {0};
    give(&in, "latent", s->latent->type, x);
    give_from(&in, "timestep", f, "m0.timesteps");
    give_from(&in, "context", out, "text_encoder.context");
    const char *kept = in_folder("objective.safetensors");
    must(rename(in_folder("record.safetensors"), kept) == 0, kept, NULL);
    TensorFile *again = eval("unet", m->weights, &in, "");
    if (!again) return;
    double d = rel_l2(tensor(out, "unet.noise"), tensor(again, "noise"));
    CHECK(d <= 1e-5, "the U-Net in the objective is off by %.1e", d);
    tensors_close(again);
}

static void objective(const Model *m, const char *name, const char *extra,
                      bool velocity, double gamma) {
    TensorFile *f =
        open_tensors(arena_printf(arena, "%s/%s/lierla.safetensors", golden, m->name));
    Step s = {.latent = tensor(f, "m0.latents"), .noise = tensor(f, "m0.noise")};
    s.per_sample = type_count(&s.latent->type) / 2;
    int32_t t[2];
    memcpy(t, tensor(f, "m0.timesteps")->data, sizeof t);
    for (int b = 0; b < 2; b++) s.a[b] = alpha_bar(t[b]);
    Tensors in = {0};
    give_batch(&in, f);
    TensorFile *out = eval(name, m->weights, &in, extra);
    if (out) {
        double got = at(tensor(out, "loss"), 0),
               want = loss_of(&s, tensor(out, "unet.noise"), velocity, gamma);
        CHECK(fabs(got - want) <= 1e-5 * want, "%s %s: loss %.8g, want %.8g", name,
              extra, got, want);
        noisy_unet(m, &s, f, out);
        tensors_close(out);
    }
    tensors_close(f);
}

/* ---- noise, weights and losses of the objectives ---- */
/* An objective that only has the noise: templates of noise.yaml on given draws. */
static const char noise_graph[] =
    "objective: noise\n"
    "from: [objectives/noise.yaml, samplers/schedule.yaml]\n"
    "symbols: {B: batch, H: height, W: width, N: chunks}\n"
    "networks: [unet]\n"
    "inputs:\n"
    "  latent: {shape: [B, H, W, 4]}\n"
    "  ids:    {shape: [B, N, 77], dtype: i32}\n"
    "nodes:\n"
    "  bars:   {use: alpha_bar}\n"
    "  normal: {op: normal, like: latent}\n"
    "  drift:  {op: normal, shape: [B, 1, 1, 4]}\n"
    "  octave: {op: uniform, shape: [6]}\n"
    "  fine:   {op: normal, shape: [B, 6, H, W, 4]}\n"
    "  t:      {op: draw, below: 1000, shape: [B]}\n"
    "  a:      bars(t)\n"
    "  plain:  {use: offset, noise: normal, drift: drift, x0: latent, strength: 0.1, "
    "adaptive: 0}\n"
    "  more:   {use: offset, noise: normal, drift: drift, x0: latent, strength: 0.1, "
    "adaptive: 0.05}\n"
    "  less:   {use: offset, noise: normal, drift: drift, x0: latent, strength: 0.02, "
    "adaptive: -0.5}\n"
    "  rough:  {use: octaves, noise: normal, ratio: octave, fine: fine, discount: "
    "0.3}\n"
    "  noisy:  {use: add_noise, x0: latent, noise: normal, a: a}\n"
    "  v:      {use: velocity, x0: latent, noise: normal, a: a}\n"
    "  none:   {op: mean, x: latent}\n"
    "loss: none\n"
    "log: {plain: plain, more: more, less: less, rough: rough, noisy: noisy, v: v}\n";

/* The recorded noises of octave i, in the corner of [B,6,H,W,4]; other entries NaN. */
static float *octaves_of(TensorFile *f, const Type *latent, Type *type) {
    int64_t B = latent->dim[0], C = latent->dim[1], H = latent->dim[2],
            W = latent->dim[3];
    *type = type_of(F32, 5, (int64_t[]){B, 6, H, W, C});
    float *fine = NEW(arena, float, type_count(type));
    for (int64_t i = 0; i < type_count(type); i++) fine[i] = NAN;
    for (int64_t k = 0; k < 3; k++) {
        const TensorEntry *z =
            tensor(f, arena_printf(arena, "multires_randn.%d", (int)k));
        int64_t h = z->type.dim[2], w = z->type.dim[3], at_z = 0;
        for (int64_t b = 0; b < B; b++)
            for (int64_t c = 0; c < C; c++)
                for (int64_t y = 0; y < h; y++)
                    for (int64_t x = 0; x < w; x++)
                        fine[((((b * 6 + k) * H + y) * W) + x) * C + c] =
                            (float)at(z, at_z++);
    }
    return fine;
}

static void noises(const Model *m) {
    static const char *const pair[][2] = {
        {"log.plain", "noise_offset_0.1"},
        {"log.more", "noise_offset_0.1_adaptive_0.05"},
        {"log.less", "noise_offset_0.02_adaptive_-0.5"},
        {"log.rough", "multires_iter6_disc0.3"},
        {"log.noisy", "add_noise"},
        {"log.v", "velocity"}};
    TensorFile *f =
        open_tensors(arena_printf(arena, "%s/noise_ops.safetensors", golden));
    const TensorEntry *latent = tensor(f, "latents");
    Tensors in = {0};
    Type fine;
    float ratio[6] = {0};
    int32_t ids[2 * 77] = {0};
    for (int i = 0; i < 3; i++) ratio[i] = (float)at(tensor(f, "multires_uniform"), i);
    give_from(&in, "latent", f, "latents");
    give_from(&in, "normal", f, "noise");
    give_from(&in, "drift", f, "offset_randn");
    give_from(&in, "t", f, "timesteps");
    give(&in, "octave", shaped(F32, 6, 0, 0), ratio);
    float *z = octaves_of(f, &latent->type, &fine);
    give(&in, "fine", fine, z);
    give(&in, "ids", shaped(I32, 2, 1, 77), ids);
    TensorFile *out =
        eval(graph_file("noise_test.yaml", noise_graph), m->weights, &in, "");
    for (size_t i = 0; out && i < COUNT(pair); i++) {
        double d = rel_l2(tensor(out, pair[i][0]), tensor(f, pair[i][1]));
        CHECK(d <= 1e-5, "%s is off by %.1e", pair[i][1], d);
    }
    if (out) tensors_close(out);
    tensors_close(f);
}

/* ddpm.yaml on a prediction and a target that are given: losses of three samples; or on
 * losses of 1: the weights of all timesteps. */
static TensorFile *objective_case(const Model *m, TensorFile *f, bool weights,
                                  const char *extra) {
    static const int32_t times[] = {10, 400, 900};
    Tensors in = {0};
    const int64_t n = weights ? type_count(&tensor(f, "timesteps")->type) : 3;
    float *ones = NEW(arena, float, n), *zeros = NEW(arena, float, n * 256);
    for (int64_t i = 0; i < n; i++) ones[i] = 1;
    give(&in, "ids", shaped(I32, n, 1, 77), NEW(arena, int32_t, n * 77));
    if (weights) {
        give(&in, "latent", type_of(F32, 4, (int64_t[]){n, 4, 8, 8}), zeros);
        give_from(&in, "t", f, "timesteps");
        give(&in, "sample", shaped(F32, n, 0, 0), ones);
    } else {
        give(&in, "latent", tensor(f, "pred")->type, zeros);
        give(&in, "t", shaped(I32, 3, 0, 0), times);
        give_from(&in, "guess", f, "pred");
        give_from(&in, "target", f, "target");
    }
    return eval("ddpm", m->weights, &in, extra);
}

static void losses(const Model *m) {
    TensorFile *f = open_tensors(arena_printf(arena, "%s/losses.safetensors", golden));
    char *table = slurp(arena_printf(arena, "%s/losses.tsv", golden), NULL),
         *rest = NULL;
    int n = 0;
    for (char *line = strtok_r(table, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *kind = line, *extra = strchr(line, '\t'), *numbers;
        if (*line == '#' || !extra) continue;
        *extra++ = 0;
        numbers = strchr(extra, '\t');
        *numbers++ = 0;
        TensorFile *out = objective_case(m, f, strcmp(kind, "loss") != 0, extra);
        if (!out) continue;
        const TensorEntry *got = tensor(out, "log.per_sample");
        for (int64_t i = 0; i < type_count(&got->type); i++) {
            double want = strtod(numbers, &numbers), x = at(got, i);
            CHECK(fabs(x - want) <= 1e-5 * fabs(want),
                  "%s %s, %lld: got %.8g, want %.8g", kind, extra, (long long)i, x,
                  want);
        }
        tensors_close(out);
        n++;
    }
    CHECK(n == 20, "%d cases", n);
    tensors_close(f);
}

/* ---- optimizers ---- */
typedef struct Run {
    const char *recorded, *name, *extra, *skip;
    float lr;
    const char *tensors; /* of the recorded ones, all together */
} Run;

/* tensors: letters of the recorded ones; skip: steps in which they have no gradient. */
static const Run runs[] = {
    {"adamw", "adamw", "", "", 1e-3f, "abc"},
    {"adamw_wd", "adamw",
     "--set betas=[0.9,0.99] --set eps=1e-6 --set weight_decay=0.1", "", 1e-2f, "ab"},
    {"adamw_skip", "adamw", "", "12", 1e-3f, "a"},
    {"adamw_skip", "adamw", "", "4", 1e-3f, "c"},
    {"sgd_nesterov", "sgd-nesterov", "", "", 1e-2f, "ab"},
    {"sgd_nesterov_wd", "sgd-nesterov", "--set weight_decay=0.05", "", 1e-2f, "ab"},
    {"lion", "lion", "--set weight_decay=0.01", "", 1e-4f, "ab"},
    {"lion_default", "lion", "", "", 1e-4f, "ab"},
    {"adafactor_rel", "adafactor", "--set warmup_init=true", "", 1, "ab"},
    {"adafactor_fixed", "adafactor",
     "--set relative_step=false --set scale_parameter=false", "", 1e-3f, "ab"},
    {"prodigy", "prodigy", "", "", 1, "ab"},
    {"prodigy_wd", "prodigy",
     "--set weight_decay=0.01 --set use_bias_correction=true --set "
     "safeguard_warmup=true",
     "", 1, "ab"},
    {"dadapt_adam", "dadapt-adam", "", "", 1, "ab"},
    {"dadapt_adam_preprint", "dadapt-adam-preprint", "", "", 1, "ab"},
    {"dadapt_lion", "dadapt-lion", "", "", 1, "ab"},
    {"adamw8bit", "adamw8bit", "", "", 1e-3f, "abc"},
};

/* dadapt.safetensors, made by tests/golden/extract.py: d grows in these */
static const Run more_runs[] = {
    {"dadapt_sgd", "dadapt-sgd", "--set d0=1e-3", "", 1, "ab"},
    {"dadapt_sgd_momentum", "dadapt-sgd",
     "--set d0=1e-3 --set momentum=0.5 --set weight_decay=0.1", "", 1, "ab"},
    {"dadapt_adagrad", "dadapt-adagrad", "--set d0=1e-3", "", 1, "ab"},
    {"dadapt_adagrad_momentum", "dadapt-adagrad",
     "--set d0=1e-3 --set momentum=0.5 --set weight_decay=0.1", "", 1, "ab"},
    {"dadapt_adan", "dadapt-adan", "--set d0=1e-3", "", 1, "ab"},
    {"dadapt_adan_no_prox", "dadapt-adan",
     "--set d0=1e-3 --set weight_decay=0.3 --set no_prox=true", "", 1, "ab"},
    {"dadapt_adan_ip", "dadapt-adan-ip", "--set d0=1e-3", "", 1, "ab"},
    {"momentum", "sgd-nesterov8bit", "--set weight_decay=0.05", "", 0.01f, "ab"},
};

static const char *keyed(const char *what, int k, char which) {
    return k ? arena_printf(arena, "%s%d.%c", what, k, which)
             : arena_printf(arena, "%s.%c", what, which);
}

static TensorFile *updated(TensorFile *g, const Run *r) {
    Tensors in = {0};
    give(&in, "lr", shaped(F32, 1, 0, 0), &r->lr);
    for (const char *w = r->tensors; *w; w++) {
        give_from(&in, keyed("p", 0, *w), g, keyed("p0", 0, *w));
        for (int k = 1; k <= 6; k++)
            if (!strchr(r->skip, '0' + k))
                give_from(&in, keyed("g", k, *w), g, keyed("g", k, *w));
    }
    return eval(r->name, NULL, &in, r->extra);
}

static double farthest(const TensorEntry *a, const TensorEntry *b) {
    double worst = 0;
    for (int64_t e = 0; e < type_count(&b->type); e++)
        worst = fmax(worst, fabs(at(a, e) - at(b, e)));
    return worst;
}

static void optimizer(TensorFile *g, const Run *r) {
    TensorFile *out = updated(g, r);
    double off = 0;
    int n = 0;
    for (const char *w = r->tensors; out && *w; w++)
        for (int k = 1; k <= 6; k++) {
            const char *key = arena_printf(arena, "%s.p%d.%c", r->recorded, k, *w);
            const TensorEntry *want = tensors_find(g, key);
            if (!want) continue;
            double worst = farthest(tensor(out, keyed("p", k, *w)), want);
            CHECK(worst <= 1e-6, "%s is off by %.1e", key, worst);
            off = fmax(off, worst);
            n++;
        }
    printf("%s: %.1e\n", r->recorded, off);
    CHECK(!out || n >= 1, "%s: %d recorded steps", r->recorded, n);
    if (out) tensors_close(out);
}

/* Moments in one byte: the recorded codes, one apart where two entries are equally near. */
static void codes(TensorFile *g) {
    static const Run r = {"adamw8bit", "adamw8bit", "", "", 1e-3f, "abc"};
    static const char *const pair[][2] = {{"m.codes.c", "adamw8bit.state1.c"},
                                          {"v.codes.c", "adamw8bit.state2.c"},
                                          {"m.scale.c", "adamw8bit.absmax1.c"},
                                          {"v.scale.c", "adamw8bit.absmax2.c"}};
    TensorFile *out = updated(g, &r);
    for (size_t i = 0; out && i < COUNT(pair); i++) {
        const TensorEntry *got = tensor(out, pair[i][0]), *want = tensor(g, pair[i][1]);
        double most = i < 2 ? 1 : 1e-6, worst = farthest(got, want);
        int64_t other = 0;
        for (int64_t e = 0; i < 2 && e < type_count(&want->type); e++)
            other += at(got, e) != at(want, e);
        CHECK(worst <= most, "%s is off by %g", pair[i][1], worst);
        CHECK(other <= 2, "%lld codes of %s differ", (long long)other, pair[i][1]);
    }
    if (out) tensors_close(out);
}

/* d against the one record in which it grew: D-Adaptation Adam after six updates. */
static void rates_found(TensorFile *g) {
    static const Run r = {"dadapt_adam", "dadapt-adam", "", "", 1, "ab"};
    const double recorded = 2.4815968212537362e-06;
    TensorFile *out = updated(g, &r);
    double d = out ? at(tensor(out, "d"), 0) : 0;
    CHECK(fabs(d / recorded - 1) < 1e-6, "d is %.9g, want %.9g", d, recorded);
    if (out) tensors_close(out);
}

static void optimizers(void) {
    TensorFile *g =
        open_tensors(arena_printf(arena, "%s/optimizers.safetensors", golden));
    for (size_t i = 0; i < COUNT(runs); i++) optimizer(g, &runs[i]);
    codes(g);
    rates_found(g);
    tensors_close(g);
    g = open_tensors(arena_printf(arena, "%s/dadapt.safetensors", golden));
    for (size_t i = 0; i < COUNT(more_runs); i++) optimizer(g, &more_runs[i]);
    tensors_close(g);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: eval_parity PROGRAM GOLDEN\n");
        return 2;
    }
    program_start(argv[1]);
    golden = argv[2];
    Model nano = open_model("nano", "nano-sd.safetensors"),
          sd2 = open_model("sd2", "nano-sd2.safetensors");
    text_encoder(&nano, "te.last_hidden_state", "");
    text_encoder(&nano, "te.clip_skip_2", "--set clip_skip=2");
    text_encoder(&sd2, "te.last_hidden_state", "");
    for (int i = 0; i < 2; i++) {
        unet(i ? &sd2 : &nano, "a");
        unet(i ? &sd2 : &nano, "b");
        parts(i ? &sd2 : &nano);
    }
    vae(&nano);
    objective(&nano, "epsilon", "", false, 0);
    objective(&sd2, "ddpm", "", false, 0);
    objective(&sd2, "ddpm", "--set prediction=v --set min_snr_gamma=5", true, 5);
    objective(&nano, "ddpm", "--set min_snr_gamma=1", false, 1);
    noises(&nano);
    losses(&nano);
    optimizers();
    tensors_close(nano.file);
    tensors_close(sd2.file);
    return program_end("eval_parity");
}
