/* A LoRA in the networks by `graphrun eval --network_weights`: the text encoder's states, the
 * U-Net's answer, and the gradient of the squared error in every tensor of both, through the
 * U-Net into the text encoder, against recorded ones.
 *
 *   eval_lora PROGRAM MODEL FOLDER CASE
 *
 * FOLDER/CASE.json and .safetensors as golden/nano's README describes them, with weights of
 * their own; or FOLDER/net_runs.json with CASE in it, net_CASE_run and net_CASE_lora (golden/
 * lora). Limits of the latter's README: answers 1e-4 and gradients 2e-3 of each tensor's
 * largest number, the loss 1e-5 of itself. */
#include <jansson.h>

#include "tests/parity/program.h"

typedef struct List {
    TensorOut *item;
    int n, cap;
} List;

typedef struct Case {
    const char *model, *lora, *extra; /* files; words for eval */
    const TensorEntry *ids, *timesteps, *target, *hidden,
        *pred;            /* hidden may be NULL */
    const float *latents; /* of the U-Net, shaped as `target` */
    double loss;
    const json_t *draws; /* [[module, unit], …] or NULL */
    TensorFile *gold;
    const char *gradient; /* what stands before a key in `gold` */
} Case;

static void add(List *l, const char *name, Type type, const void *data) {
    TensorOut t = {arena_strdup(arena, name), type, data};
    PUSH(arena, l->item, l->n, l->cap, t);
}

static const char *write_list(const List *l, const char *name) {
    Err e = {0};
    const char *path = in_folder(name);
    must(safetensors_write(path, l->item, l->n, NULL, 0, &e), path, &e);
    return path;
}

/* The units that learn, of the modules whose names start so. */
static void add_draws(const Case *c, List *in, const char *prefix) {
    size_t i;
    json_t *pair;
    json_array_foreach(c->draws, i, pair) {
        const char *module = json_string_value(json_array_get(pair, 0));
        int32_t *k = NEW(arena, int32_t, 1);
        *k = (int32_t)json_integer_value(json_array_get(pair, 1));
        if (!strncmp(module, prefix, strlen(prefix)))
            add(in, arena_printf(arena, "%s.k", module), type_scalar(I32), k);
    }
}

static TensorFile *eval(const Case *c, const char *network, const List *in,
                        const char *record, const char *grad) {
    const char *to = in_folder(record);
    int code =
        run("eval %s --weights %s --network_weights %s%s%s --inputs %s --record %s",
            network, c->model, c->lora, c->extra, grad,
            write_list(in, "in.safetensors"), to);
    must(code == 0, slurp(in_folder("err"), NULL), NULL);
    return open_tensors(to);
}

/* Largest difference over the largest number. */
static double off(const TensorEntry *a, const TensorEntry *b) {
    double d = 0, s = 1e-30;
    for (int64_t i = 0; i < type_count(&b->type); i++) {
        d = fmax(d, fabs(at(a, i) - at(b, i)));
        s = fmax(s, fabs(at(b, i)));
    }
    return d / s;
}

static void answer(const char *what, const TensorEntry *a, const TensorEntry *b) {
    if (!b) return;
    CHECK(type_count(&a->type) == type_count(&b->type), "%s is of another size", what);
    CHECK(off(a, b) <= 1e-4, "%s is off by %.1e", what, off(a, b));
    printf("  %s: %.1e\n", what, off(a, b));
}

/* d loss / d pred of the mean squared error; the loss itself is checked. */
static float *error_of(const Case *c, const TensorEntry *pred) {
    const int64_t n = type_count(&pred->type);
    float *d = NEW(arena, float, n);
    double loss = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = at(pred, i) - at(c->target, i);
        loss += x * x / (double)n;
        d[i] = (float)(2 * x / (double)n);
    }
    CHECK(fabs(loss - c->loss) <= 1e-5 * c->loss, "loss %.8g, want %.8g", loss,
          c->loss);
    printf("  loss: %.1e\n", fabs(loss - c->loss) / c->loss);
    return d;
}

/* Every recorded gradient of one network; below 1e-6 of the largest it is rounding noise. */
static int gradients(const Case *c, TensorFile *out, const char *prefix) {
    const size_t skip = strlen(c->gradient);
    double worst = 0, most = 0;
    int n = 0;
    for (int i = 0; i < c->gold->n; i++) {
        const TensorEntry *b = &c->gold->entry[i];
        if (strncmp(b->name, c->gradient, skip)) continue;
        for (int64_t k = 0; k < type_count(&b->type); k++)
            most = fmax(most, fabs(at(b, k)));
    }
    for (int i = 0; i < c->gold->n; i++) {
        const TensorEntry *b = &c->gold->entry[i];
        if (strncmp(b->name, c->gradient, skip) || !strstr(b->name, prefix)) continue;
        const TensorEntry *a =
            tensors_find(out, arena_printf(arena, "g.%s", b->name + skip));
        CHECK(a && type_count(&a->type) == type_count(&b->type), "no gradient of '%s'",
              b->name + skip);
        double size = 0;
        for (int64_t k = 0; k < type_count(&b->type); k++)
            size = fmax(size, fabs(at(b, k)));
        if (!a || size < 1e-6 * most) continue;
        CHECK(off(a, b) <= 2e-3, "the gradient of '%s' is off by %.1e", b->name + skip,
              off(a, b));
        worst = fmax(worst, off(a, b));
        n++;
    }
    printf("  gradients of %s*: %.1e of %d tensors\n", prefix, worst, n);
    return n;
}

static void check_case(const Case *c) {
    List text = {0}, unet = {0};
    const int64_t batch = c->ids->type.dim[0];
    add(&text, "ids", type_of(I32, 3, (int64_t[]){batch, 1, 77}), c->ids->data);
    add_draws(c, &text, "lora_te_");
    TensorFile *hidden = eval(c, "clip", &text, "hidden.safetensors", "");
    const TensorEntry *context = tensor(hidden, "context");
    answer("hidden states", context, c->hidden);

    add(&unet, "latent", c->target->type, c->latents);
    add(&unet, "timestep", type_of(I32, 1, &batch), c->timesteps->data);
    add(&unet, "context", context->type, context->data);
    add_draws(c, &unet, "lora_unet_");
    TensorFile *pred = eval(c, "unet", &unet, "pred.safetensors", "");
    answer("U-Net's answer", tensor(pred, "noise"), c->pred);
    add(&unet, "d.noise", c->target->type, error_of(c, tensor(pred, "noise")));
    TensorFile *back = eval(c, "unet", &unet, "back.safetensors", " --grad");
    int n = gradients(c, back, "lora_unet_");

    const TensorEntry *upstream = tensor(back, "g.context");
    add(&text, "d.context", context->type, upstream->data);
    TensorFile *back_text = eval(c, "clip", &text, "back-text.safetensors", " --grad");
    n += gradients(c, back_text, "lora_te_");
    CHECK(n > 0, "no gradient was compared");
    TensorFile *const all[] = {hidden, pred, back, back_text};
    for (size_t i = 0; i < COUNT(all); i++) tensors_close(all[i]);
}

/* ids are int64 there */
static const TensorEntry *as_i32(const TensorEntry *t) {
    TensorEntry *out = NEW(arena, TensorEntry, 1);
    int32_t *x = NEW(arena, int32_t, type_count(&t->type));
    for (int64_t i = 0; i < type_count(&t->type); i++) x[i] = (int32_t)at(t, i);
    *out = (TensorEntry){.name = t->name, .type = t->type, .data = (void *)x};
    out->type.dtype = I32;
    return out;
}

static const float *floats(const TensorEntry *t) {
    float *x = NEW(arena, float, type_count(&t->type));
    for (int64_t i = 0; i < type_count(&t->type); i++) x[i] = (float)at(t, i);
    return x;
}

/* ---- golden/lora ---- */
static Case net_run(const char *from, const char *name, const json_t *j) {
    const json_t *args = json_object_get(j, "network_args");
    const char *unit = json_string_value(json_object_get(args, "unit"));
    TensorFile *f =
        open_tensors(arena_printf(arena, "%s/net_%s_run.safetensors", from, name));
    json_t *draws = json_object_get(j, "draws_in_call_order"), *units = json_array();
    size_t i;
    json_t *pair; /* the recorded draw is of a row; ours is of a unit */
    json_array_foreach(draws, i, pair) json_array_append_new(
        units, json_pack("[sI]", json_string_value(json_array_get(pair, 0)),
                         json_integer_value(json_array_get(pair, 1)) / atoi(unit)));
    return (Case){
        .lora = arena_printf(arena, "%s/net_%s_lora.safetensors", from, name),
        .extra = unit ? arena_printf(
                            arena, " --adapter dylora-sdscripts --network_args unit=%s",
                            unit)
                      : "",
        .ids = as_i32(tensor(f, "input_ids")),
        .timesteps = as_i32(tensor(f, "timesteps")),
        .target = tensor(f, "target"),
        .hidden = tensor(f, "hidden"),
        .pred = tensor(f, "pred"),
        .latents = floats(tensor(f, "latents")),
        .loss = json_number_value(json_object_get(j, "loss")),
        .draws = units,
        .gold = f,
        .gradient = "grad."};
}

/* ---- golden/nano ---- */
/* The noisy latents, as training.md 6.1 makes them. */
static const float *noisy(TensorFile *f) {
    const TensorEntry *x = tensor(f, "m0.latents"), *noise = tensor(f, "m0.noise"),
                      *t = tensor(f, "m0.timesteps");
    const int64_t n = type_count(&x->type), each = n / x->type.dim[0];
    float *out = NEW(arena, float, n);
    for (int64_t i = 0; i < n; i++) {
        const double low = sqrt(0.00085), high = sqrt(0.012);
        double bar = 1;
        for (int k = 0; k <= (int)at(t, i / each); k++)
            bar *= 1 - pow(low + (high - low) * k / 999, 2);
        out[i] = (float)(sqrt(bar) * at(x, i) * 0.18215 + sqrt(1 - bar) * at(noise, i));
    }
    return out;
}

static const char *start_as_lora(TensorFile *f, const json_t *j) {
    const json_t *alphas = json_object_get(j, "alphas"),
                 *modules = json_object_get(j, "module_names");
    List l = {0};
    for (int i = 0; i < f->n; i++)
        if (!strncmp(f->entry[i].name, "w0.", 3))
            add(&l, f->entry[i].name + 3, f->entry[i].type, f->entry[i].data);
    for (size_t i = 0; i < json_array_size(alphas); i++) {
        float *x = NEW(arena, float, 1);
        *x = (float)json_number_value(json_array_get(alphas, i));
        add(&l,
            arena_printf(arena, "%s.alpha",
                         json_string_value(json_array_get(modules, i))),
            type_scalar(F32), x);
    }
    return write_list(&l, "lora.safetensors");
}

static Case mini_training(const char *from, const char *name) {
    json_error_t why;
    json_t *j = json_load_file(arena_printf(arena, "%s/%s.json", from, name), 0, &why);
    must(j != NULL, name, NULL);
    TensorFile *f = open_tensors(arena_printf(arena, "%s/%s.safetensors", from, name));
    json_t *step = json_array_get(json_object_get(j, "steps"), 0);
    json_t *micro = json_array_get(json_object_get(step, "micro"), 0);
    return (Case){.lora = start_as_lora(f, j),
                  .extra = "",
                  .ids = tensor(f, "m0.input_ids"),
                  .timesteps = tensor(f, "m0.timesteps"),
                  .target = tensor(f, "m0.noise"),
                  .hidden = tensors_find(f, "m0.encoder_hidden_states"),
                  .pred = tensor(f, "m0.unet_output"),
                  .latents = noisy(f),
                  .loss = json_number_value(json_object_get(micro, "loss")),
                  .gold = f,
                  .gradient = "g1."};
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: eval_lora PROGRAM MODEL FOLDER CASE\n");
        return 2;
    }
    program_start(argv[1]);
    json_error_t why;
    json_t *runs =
        json_load_file(arena_printf(arena, "%s/net_runs.json", argv[3]), 0, &why);
    const json_t *j = json_object_get(runs, argv[4]);
    Case c = j ? net_run(argv[3], argv[4], j) : mini_training(argv[3], argv[4]);
    c.model = argv[2];
    check_case(&c);
    tensors_close(c.gold);
    return program_end("eval_lora");
}
