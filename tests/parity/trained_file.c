/* What is in a LoRA file that the program trained: the modules of a known model, weights
 * as they were drawn, hashes, and the same bytes again.
 *
 *   trained_file PROGRAM MODEL MODULES     (golden/sd2's model and lora_modules.txt)
 *
 * A learning rate of 1e-30 leaves every drawn number as it is. */
#include <jansson.h>
#include <xxhash.h>

#include "io/hash.h"
#include "tests/parity/program.h"

static const char *model;

/* ---- module lists ---- */
static json_t *dry_run(const char *what) {
    int code = run("train %s --dry-run --json", what);
    CHECK(code == 0, "%s ended with %d: %s", what, code, slurp(in_folder("err"), NULL));
    json_error_t why;
    json_t *j = code ? NULL : json_load_file(in_folder("out"), 0, &why);
    CHECK(code || j, "%s", why.text);
    return j;
}

static const char *shape_of(const json_t *module, const char *tensor_name) {
    const json_t *shape =
        json_object_get(json_object_get(module, "tensors"), tensor_name);
    Str s = {0};
    str_add(&s, tensor_name);
    for (size_t i = 0; i < json_array_size(shape); i++)
        str_printf(&s, " %lld",
                   (long long)json_integer_value(json_array_get(shape, i)));
    const char *text = arena_strdup(arena, s.s);
    str_free(&s);
    return text;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* XXH64 of the sorted lines "name down-shape up-shape". */
static uint64_t digest(const json_t *modules) {
    size_t n = json_array_size(modules), i;
    const char **line = NEW(arena, const char *, n);
    json_t *m;
    json_array_foreach(modules, i, m) line[i] =
        arena_printf(arena, "%s %s %s\n", json_string_value(json_object_get(m, "name")),
                     shape_of(m, "lora_down.weight"), shape_of(m, "lora_up.weight"));
    qsort(line, n, sizeof *line, by_text);
    Str s = {0};
    for (i = 0; i < n; i++) str_add(&s, line[i]);
    uint64_t h = XXH64(s.s, s.n, 0);
    str_free(&s);
    return h;
}

static int of_network(const json_t *modules, const char *network) {
    size_t i;
    int n = 0;
    json_t *m;
    json_array_foreach(modules, i, m) n +=
        !strcmp(json_string_value(json_object_get(m, "network")), network);
    return n;
}

static void known_model(const char *what, int text, int unet, int64_t parameters,
                        uint64_t want) {
    json_t *j = dry_run(what);
    if (!j) return;
    const json_t *modules = json_object_get(j, "modules");
    int got_text = of_network(modules, "text_encoder"),
        got_unet = of_network(modules, "unet");
    CHECK(got_text == text && got_unet == unet, "%s: %d + %d modules, want %d + %d",
          what, got_text, got_unet, text, unet);
    int64_t sum = 0;
    size_t i;
    json_t *g;
    json_array_foreach(json_object_get(j, "groups"), i, g) sum +=
        json_integer_value(json_object_get(g, "parameters"));
    CHECK(sum == parameters, "%s: %lld parameters, want %lld", what, (long long)sum,
          (long long)parameters);
    uint64_t h = digest(modules);
    CHECK(h == want, "%s: names and shapes have the digest %016llx, want %016llx", what,
          (unsigned long long)h, (unsigned long long)want);
    json_decref(j);
}

/* The recipe for SD 1.5 with SD 2.1's variants in it. */
static const char *sd21_recipe(void) {
    const char *path = in_folder("sd21.yaml");
    FILE *f = fopen(path, "w");
    must(f != NULL, path, NULL);
    fputs(
        "recipe: sd21\n"
        "from: [lora.yaml]\n"
        "options: {pretrained_model_name_or_path: \"\"}\n"
        "networks:\n"
        "  unet:         {use: unet, variant: sd21}\n"
        "  text_encoder: {use: clip, variant: clip_h, args: {clip_skip: $clip_skip}}\n"
        "  vae_encoder:  {use: vae_encoder, variant: sd}\n",
        f);
    must(!fclose(f), path, NULL);
    return path;
}

static void known_models(void) {
    const char *sd21 = sd21_recipe();
    known_model("sd15-lora", 72, 192, 2359296, 0xd2adbec203a377d9);
    known_model("sd15-lora --network_args conv_dim=4", 72, 278, 4866816,
                0x9efea23aff2668c5);
    known_model(sd21, 138, 192, 3424256, 0x8b6255c839b289bb);
    known_model(arena_printf(arena, "%s --network_args conv_dim=4", sd21), 138, 278,
                5931776, 0x6afa37b480ff735f);
}

static json_t *module_named(const json_t *modules, const char *name) {
    size_t i;
    json_t *m;
    json_array_foreach(
        modules, i,
        m) if (!strcmp(json_string_value(json_object_get(m, "name")), name)) return m;
    return NULL;
}

static const char *wanted_down(int in, const char *kernel) {
    return !strcmp(kernel, "-")
               ? arena_printf(arena, "lora_down.weight 4 %d", in)
               : arena_printf(arena, "lora_down.weight 4 %d %s %s", in, kernel, kernel);
}

/* Each line of lora_modules.txt: name type in out kernel set. */
static void recorded_modules(const char *list) {
    json_t *j = dry_run(arena_printf(arena,
                                     "--pretrained_model_name_or_path %s --v2 "
                                     "--resolution 64 --network_args conv_dim=4",
                                     model));
    FILE *f = fopen(list, "r");
    must(j && f, list, NULL);
    const json_t *modules = json_object_get(j, "modules");
    char line[512], name[256], type[16], kernel[16], set[8];
    int in, out, n = 0;
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#' || sscanf(line, "%255s %15s %d %d %15s %7s", name, type, &in,
                                     &out, kernel, set) != 6)
            continue;
        kernel[strcspn(kernel, "x")] = 0;
        const json_t *m = module_named(modules, name);
        const char *down = m ? shape_of(m, "lora_down.weight") : "missing";
        CHECK(!strcmp(down, wanted_down(in, kernel)), "%s: %s, want %s", name, down,
              wanted_down(in, kernel));
        const json_t *up =
            m ? json_object_get(json_object_get(m, "tensors"), "lora_up.weight") : NULL;
        CHECK(json_integer_value(json_array_get(up, 0)) == out, "%s: %d outputs", name,
              out);
        n++;
    }
    fclose(f);
    CHECK(n == 290 && (int)json_array_size(modules) == n, "%zu modules, want %d",
          json_array_size(modules), n);
    json_decref(j);
}

/* ---- training on one recorded batch ---- */
static const char *inputs_file(void) {
    TensorFile *f = open_tensors(arena_printf(
        arena, "%.*s/lierla.safetensors", (int)(strrchr(model, '/') - model), model));
    static const char *const names[] = {"m0.latents", "m0.noise", "m0.timesteps",
                                        "m0.input_ids", "m0.loss_weights"};
    Tensors in = {0};
    for (size_t i = 0; i < COUNT(names); i++) give_from(&in, names[i], f, names[i]);
    const char *path = write_tensors(&in, "batch.safetensors");
    tensors_close(f);
    return path;
}

static const char *trained(const char *name, const char *options) {
    int code = run("train --pretrained_model_name_or_path %s --v2 --v_parameterization "
                   "--inputs %s --max_train_steps 1 --output_dir %s --output_name %s "
                   "--quiet %s",
                   model, in_folder("batch.safetensors"), folder, name, options);
    CHECK(code == 0, "training '%s' ended with %d: %s", name, code,
          slurp(in_folder("err"), NULL));
    must(code == 0, name, NULL);
    return arena_printf(arena, "%s/%s.safetensors", folder, name);
}

typedef struct Draws {
    double *x; /* divided by their bound */
    int64_t n;
} Draws;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Largest distance between the draws' distribution and the even one on -1 ... 1. */
static double kolmogorov(Draws *d) {
    qsort(d->x, (size_t)d->n, sizeof *d->x, by_size);
    double worst = 0, n = (double)d->n;
    for (int64_t i = 0; i < d->n; i++) {
        double want = (d->x[i] + 1) / 2;
        worst = fmax(worst, fabs(want - (double)i / n));
        worst = fmax(worst, fabs(want - (double)(i + 1) / n));
    }
    return worst;
}

/* kaiming_uniform with a = sqrt(5): even on +-1/sqrt(fan_in), for each down tensor; all
 * together as well. up: nothing (1e-30 is one update of the learning rate). */
static void distribution(const char *path) {
    TensorFile *f = open_tensors(path);
    Draws all = {NEW(arena, double, 1 << 22), 0};
    int n_down = 0;
    for (int i = 0; i < f->n; i++) {
        const TensorEntry *t = &f->entry[i];
        int64_t n = type_count(&t->type);
        if (strstr(t->name, ".lora_up.")) {
            double most = 0;
            for (int64_t k = 0; k < n; k++) most = fmax(most, fabs(at(t, k)));
            CHECK(most < 1e-29, "%s is not zero: %g", t->name, most);
        }
        if (!strstr(t->name, ".lora_down.")) continue;
        Draws own = {all.x + all.n, n};
        double bound = 1 / sqrt((double)(n / t->type.dim[0])), most = 0;
        for (int64_t k = 0; k < n; k++) {
            own.x[k] = at(t, k) / bound;
            most = fmax(most, fabs(own.x[k]));
        }
        CHECK(most <= 1 && most > 0.9, "%s: largest is %g of the bound", t->name, most);
        double limit = 2.3 / sqrt((double)n); /* passed once in 20 000 */
        double ks = kolmogorov(&own);
        CHECK(ks < limit, "%s: distance from even %g, limit %g", t->name, ks, limit);
        all.n += n;
        n_down++;
    }
    CHECK(n_down == 290, "%d down tensors", n_down);
    double mean = 0, square = 0, n = (double)all.n;
    for (int64_t k = 0; k < all.n; k++) mean += all.x[k] / n;
    for (int64_t k = 0; k < all.n; k++) square += all.x[k] * all.x[k] / n;
    CHECK(fabs(mean) < 4 / sqrt(3 * n), "mean %g of the bound", mean);
    CHECK(fabs(square - 1.0 / 3) < 4 * sqrt(4.0 / 45 / n), "variance %g, want 1/3",
          square);
    double ks = kolmogorov(&all);
    CHECK(ks < 2.3 / sqrt(n), "all: distance from even %g", ks);
    tensors_close(f);
}

/* ---- hashes and bytes ---- */
static size_t header_bytes(const char *data) {
    uint64_t n;
    memcpy(&n, data, 8);
    return (size_t)n + 8;
}

static const char *sha256_of(const char *data, size_t n) {
    Err e = {0};
    char *hex = NEW(arena, char, 65);
    Sha256 *h = sha256_new(&e);
    must(h != NULL, "sha256", &e);
    sha256_add(h, data, n);
    must(sha256_hex(h, hex, &e), "sha256", &e);
    return hex;
}

/* Bytes that an entry takes in a header: "key":"value", */
static size_t entry_bytes(const char *key, const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    size_t n = strlen("\"\":,") + strlen(key) + strlen(text);
    free(text);
    return n;
}

/* The program's hash is of the data alone. The old hash is of 64 KiB at 1 MiB into the file
 * with the ss_ entries only: from the end of the header, that window is as far as the
 * header without the others (hashes, modelspec) was shorter. */
static void hashes(const char *path) {
    size_t n;
    char *data = slurp(path, &n);
    size_t head = header_bytes(data);
    json_error_t why;
    json_t *j = json_loadb(data + 8, head - 8, 0, &why);
    must(j != NULL, why.text, NULL);
    json_t *meta = json_object_get(j, "__metadata__");
    const char *model_hash =
                   json_string_value(json_object_get(meta, "sshs_model_hash")),
               *old = json_string_value(json_object_get(meta, "sshs_legacy_hash"));
    CHECK(model_hash && !strcmp(model_hash, sha256_of(data + head, n - head)),
          "sshs_model_hash is %s", model_hash);
    CHECK(old && strlen(old) == 8, "sshs_legacy_hash is %s", old);
    size_t without = head;
    const char *key;
    json_t *value;
    json_object_foreach(meta, key, value) {
        if (strncmp(key, "ss_", 3)) without -= entry_bytes(key, value);
    }
    bool found = false;
    for (size_t pad = 0; old && !found && pad < 24;
         pad++) { /* padding of the headers */
        size_t before = without + pad - 8, from = (1 << 20) - before + head;
        if (from + (1 << 16) > n) break;
        found = !strncmp(sha256_of(data + from, 1 << 16), old, 8);
    }
    CHECK(found, "no window has sshs_legacy_hash %s", old);
    json_decref(j);
}

static bool same_bytes(const char *a, const char *b, bool data_only) {
    size_t n, m;
    char *x = slurp(a, &n), *y = slurp(b, &m);
    size_t i = data_only ? header_bytes(x) : 0, k = data_only ? header_bytes(y) : 0;
    return n - i == m - k && !memcmp(x + i, y + k, n - i);
}

static void bytes(void) {
    const char *how = "--seed 5 --network_dim 16 --learning_rate 1e-3";
    const char *free_running = trained("free", how);
    must(!setenv("SOURCE_DATE_EPOCH", "1700000000", 1), "setenv", NULL);
    const char *once = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        trained("same", arena_printf(arena, "%s --threads %d", how, threads));
        const char *kept = in_folder(arena_printf(arena, "threads%d", threads));
        must(rename(in_folder("same.safetensors"), kept) == 0, kept, NULL);
        CHECK(!once || same_bytes(once, kept, false), "%d threads give other bytes",
              threads);
        if (!once) once = kept;
    }
    must(rename(trained("same", how), in_folder("again")) == 0, "again", NULL);
    CHECK(same_bytes(once, in_folder("again"), false),
          "a second run gives other bytes");
    CHECK(same_bytes(once, free_running, true), "the data depend on the clock");
    hashes(once);
    hashes(free_running);
}

static void seeds(const char *first) {
    const char *still =
        "--network_args conv_dim=8 --network_dim 8 --learning_rate 1e-30";
    const char *second = trained("second", arena_printf(arena, "%s --seed 7", still)),
               *other = trained("other", arena_printf(arena, "%s --seed 8", still));
    CHECK(same_bytes(first, second, true), "the same seed gives other weights");
    TensorFile *a = open_tensors(first), *b = open_tensors(other);
    for (int i = 0; i < a->n; i++)
        if (strstr(a->entry[i].name, ".lora_down."))
            CHECK(memcmp(a->entry[i].data, tensor(b, a->entry[i].name)->data,
                         type_bytes(&a->entry[i].type)),
                  "%s is the same with another seed", a->entry[i].name);
    tensors_close(a);
    tensors_close(b);
}

/* ---- what other programs' loaders want (lora.md section 11) ---- */

/* The Web UI's name of a U-Net module in the original's file: levels of 3 blocks, samplers
 * between them; resnets' layers have names of their own. */
static const char *web_ui_key(const char *name) {
    static const char *const inner[][2] = {{"conv1", "in_layers.2"},
                                           {"conv2", "out_layers.3"},
                                           {"time_emb_proj", "emb_layers.1"},
                                           {"conv_shortcut", "skip_connection"}};
    const char *rest = name + strlen("lora_unet_");
    char kind[16], tail[128] = "";
    int i = 0, j = 0, at = 0;
    const char *out = NULL;
    if (sscanf(rest, "down_blocks_%d_downsamplers_0_conv%n", &i, &at) == 1 && at)
        return arena_printf(arena, "input_blocks.%d.0.op", 3 + 3 * i);
    if (sscanf(rest, "up_blocks_%d_upsamplers_0_conv%n", &i, &at) == 1 && at)
        return arena_printf(arena, "output_blocks.%d.%d.conv", 2 + 3 * i, i ? 2 : 1);
    if (sscanf(rest, "mid_block_%15[a-z]_%d_%127s", kind, &j, tail) == 3)
        out =
            arena_printf(arena, "middle_block.%d", strcmp(kind, "resnets") ? 1 : 2 * j);
    else if (sscanf(rest, "down_blocks_%d_%15[a-z]_%d_%127s", &i, kind, &j, tail) == 4)
        out = arena_printf(arena, "input_blocks.%d.%d", 1 + 3 * i + j,
                           !strcmp(kind, "attentions"));
    else if (sscanf(rest, "up_blocks_%d_%15[a-z]_%d_%127s", &i, kind, &j, tail) == 4)
        out = arena_printf(arena, "output_blocks.%d.%d", 3 * i + j,
                           !strcmp(kind, "attentions"));
    if (!out) return name;
    for (size_t k = 0; k < COUNT(inner); k++)
        if (!strcmp(tail, inner[k][0]))
            return arena_printf(arena, "%s.%s", out, inner[k][1]);
    return arena_printf(arena, "%s.%s", out, tail);
}

/* Dots and underscores alike: the Web UI compares the flat names. */
static bool model_has(TensorFile *file, const char *key) {
    const char *want = arena_printf(arena, "model.diffusion_model.%s.weight", key);
    for (int i = 0; i < file->n; i++) {
        const char *x = file->entry[i].name, *y = want;
        while (*x && (*x == *y || (*x == '.' && *y == '_'))) x++, y++;
        if (!*x && !*y) return true;
    }
    return false;
}

/* All split at the first dot; Diffusers takes no other prefixes and no key alone. */
static void kohya_keys(const char *path) {
    TensorFile *f = open_tensors(path), *m = open_tensors(model);
    int modules = 0;
    for (int i = 0; i < f->n; i++) {
        const char *key = f->entry[i].name, *dot = strchr(key, '.');
        must(dot != NULL, key, NULL);
        const char *name = arena_strndup(arena, key, (size_t)(dot - key));
        const bool unet = !strncmp(key, "lora_unet_", 10);
        CHECK(unet || !strncmp(key, "lora_te_text_model_encoder_layers_", 34), "%s",
              key);
        CHECK(!strcmp(dot, ".lora_down.weight") || !strcmp(dot, ".lora_up.weight") ||
                  !strcmp(dot, ".alpha"),
              "%s", key);
        if (!strcmp(dot, ".alpha"))
            CHECK(type_count(&f->entry[i].type) == 1, "%s is no number", key);
        if (strcmp(dot, ".lora_down.weight")) continue;
        modules++;
        CHECK(tensors_find(f, arena_printf(arena, "%s.lora_up.weight", name)) &&
                  tensors_find(f, arena_printf(arena, "%s.alpha", name)),
              "%s stands alone", key);
        CHECK(!unet || model_has(m, web_ui_key(name)), "%s: no '%s' in the model", key,
              web_ui_key(name));
    }
    CHECK(modules == 290 && f->n == 3 * modules, "%d modules, %d keys", modules, f->n);
    tensors_close(f);
    tensors_close(m);
}

/* Today's Diffusers: the paths of its own modules, and no alphas. */
static void peft_keys(const char *path) {
    TensorFile *f = open_tensors(path);
    for (int i = 0; i < f->n; i++) {
        const char *key = f->entry[i].name, *end = strstr(key, ".lora_");
        must(end != NULL, key, NULL);
        CHECK(!strncmp(key, "unet.", 5) ||
                  !strncmp(key, "text_encoder.text_model.encoder.layers.", 39),
              "%s", key);
        CHECK(!strcmp(end, ".lora_A.weight") || !strcmp(end, ".lora_B.weight"), "%s",
              key);
        const char *other = arena_printf(arena, "%.*s.lora_%c.weight", (int)(end - key),
                                         key, "BA"[end[6] == 'B']);
        CHECK(tensors_find(f, other) != NULL, "%s stands alone", key);
    }
    CHECK(f->n == 2 * 290, "%d keys", f->n);
    tensors_close(f);
}

static void loaders(const char *trained_lora) {
    const char *peft = in_folder("peft.safetensors"),
               *back = in_folder("back.safetensors");
    int code = run("convert %s %s --to peft --quiet", trained_lora, peft);
    CHECK(code == 0, "convert ended with %d", code);
    code = run("convert %s %s --to kohya --quiet", peft, back);
    CHECK(code == 0, "convert ended with %d", code);
    kohya_keys(trained_lora);
    peft_keys(peft);
    kohya_keys(back);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: trained_file PROGRAM MODEL MODULES\n");
        return 2;
    }
    program_start(argv[1]);
    model = argv[2];
    known_models();
    recorded_modules(argv[3]);
    inputs_file();
    const char *first = trained("first", "--network_args conv_dim=8 --network_dim 8 "
                                         "--learning_rate 1e-30 --seed 7");
    distribution(first);
    loaders(first);
    seeds(first);
    bytes();
    return program_end("trained_file");
}
