/* Base models in every form they come in give the same names, shapes and bytes; recorded
 * digests of every tensor of golden/sd2 (joined q, k, v among them); damaged ones are
 * refused with what is wrong and where. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "io/file.h"
#include "io/hash.h"
#include "io/tensors.h"
#include "io/torch_file.h"

#define NANO "tests/golden/nano/nano-sd.safetensors"
#define SD2  "tests/golden/sd2/nano-sd2.safetensors"

static char folder[] = "/tmp/graphrun-checkpoint-XXXXXX";

/* Paths in the test's folder live until the end. */
static Arena *paths;
static const char *in_folder(const char *name) {
    return arena_printf(paths, "%s/%s", folder, name);
}

static void put_text(const char *path, const char *text) {
    Err e = {0};
    char *cut = arena_strdup(paths, path);
    *strrchr(cut, '/') = 0;
    CHECK(folder_make(cut, &e) && file_write(path, text, strlen(text), &e), "%s",
          e.text);
}

/* ---- recorded digests ---- */
static void digest(const void *data, size_t n, char hex[65]) {
    Err e = {0};
    Sha256 *h = sha256_new(&e);
    sha256_add(h, data, n);
    sha256_hex(h, hex, &e);
}

/* "32x4x1x1" and [32,4] are the same matrix. */
static bool same_matrix(const char *shape, const Type *t) {
    int64_t want[MAX_RANK] = {0};
    int rank = 0, have = t->rank;
    for (const char *p = shape; rank < MAX_RANK; p++) {
        char *end;
        want[rank++] = strtoll(p, &end, 10);
        if (*(p = end) != 'x') break;
    }
    while (rank > 2 && want[rank - 1] == 1) rank--;
    while (have > 2 && t->dim[have - 1] == 1) have--;
    return rank == have && !memcmp(want, t->dim, sizeof *want * (size_t)rank);
}

static void check_recorded(const Checkpoint *c) {
    FILE *in = fopen("tests/golden/sd2/names.tsv", "r");
    char line[1024], name[512], component[64], key[256], shape[64], sum[16], hex[65];
    int rows = 0;
    while (in && fgets(line, sizeof line, in)) {
        if (sscanf(line, "%63s %255s %*s %*s %63s %15s", component, key, shape, sum) !=
            4)
            continue;
        if (!strcmp(component, "component")) continue;
        snprintf(name, sizeof name, "%s.%s", component, key);
        Type t;
        const void *data;
        bool found = checkpoint_find(c, name, &t, &data);
        CHECK(found, "%s: no '%s'", checkpoint_path(c), name);
        if (!found) continue;
        CHECK(same_matrix(shape, &t), "%s: %s, want %s", name, type_text(paths, &t),
              shape);
        digest(data, type_bytes(&t), hex);
        CHECK(!strncmp(hex, sum, 12), "%s: bytes %.12s, want %s", name, hex, sum);
        rows++;
    }
    CHECK(rows == 962 && checkpoint_count(c) == 962, "%d rows, %d tensors, want 962",
          rows, checkpoint_count(c));
    if (in) fclose(in);
}

/* ---- the same model written in another form ---- */
typedef struct Form { /* how write_folder stores a model; unet_file of shards: ending */
    const char *unet_file;
    bool shards, old_vae;
    const char *text_file;
} Form;

static bool in_component(const char *name, const char *component, const char **rest) {
    size_t n = strlen(component);
    *rest = name + n + 1;
    return !strncmp(name, component, n) && name[n] == '.';
}

static const char *old_name(const char *key) {
    static const char *const pairs[][2] = {{"to_q", "query"},
                                           {"to_k", "key"},
                                           {"to_v", "value"},
                                           {"to_out.0", "proj_attn"}};
    for (size_t i = 0; i < COUNT(pairs); i++) {
        const char *at = strstr(key, pairs[i][0]);
        if (at)
            return arena_printf(paths, "%.*s%s%s", (int)(at - key), key, pairs[i][1],
                                at + strlen(pairs[i][0]));
    }
    return key;
}

/* Tensors of one component under Diffusers keys; matrices without the 1x1 of LDM. */
static int collect(const Checkpoint *c, const char *component, bool old_vae,
                   TensorOut *out) {
    int n = 0;
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *name = checkpoint_name(c, i, NULL), *key;
        if (!in_component(name, component, &key)) continue;
        TensorOut *t = &out[n++];
        checkpoint_find(c, name, &t->type, &t->data);
        bool vae_attention = !strcmp(component, "vae") && strstr(key, "attentions");
        if (vae_attention && t->type.rank == 4) t->type.rank = 2;
        t->name = old_vae && vae_attention ? old_name(key) : key;
    }
    return n;
}

/* .bin as torch.save writes it, else safetensors */
static void write_tensors(const char *path, const TensorOut *t, int n) {
    Err e = {0};
    bool bin = !strcmp(path + strlen(path) - 4, ".bin");
    CHECK(bin ? torch_write_made(path, t, n, NULL, NULL, &e)
              : safetensors_write(path, t, n, NULL, 0, &e),
          "%s", e.text);
}

static void write_shards(const char *dir, const TensorOut *t, int n, const char *end) {
    const char *name[2] = {
        arena_printf(paths, "diffusion_pytorch_model-00001-of-00002.%s", end),
        arena_printf(paths, "diffusion_pytorch_model-00002-of-00002.%s", end)};
    Str index = {0};
    str_add(&index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (int i = 0; i < n; i++)
        str_printf(&index, "%s\"%s\": \"%s\"", i ? ", " : "", t[i].name,
                   name[i >= n / 2]);
    str_add(&index, "}}");
    put_text(arena_printf(paths, "%s/diffusion_pytorch_model.%s.index.json", dir, end),
             index.s);
    str_free(&index);
    for (int k = 0; k < 2; k++) {
        int first = k ? n / 2 : 0, count = k ? n - n / 2 : n / 2;
        write_tensors(arena_printf(paths, "%s/%s", dir, name[k]), t + first, count);
    }
}

static const char *write_folder(const Checkpoint *c, const char *name, Form form) {
    const char *root = in_folder(name);
    TensorOut *t = NEW(paths, TensorOut, checkpoint_count(c));
    Err e = {0};
    static const char *const part[] = {"unet", "text_encoder", "vae"};
    for (int i = 0; i < 3; i++) {
        const char *dir = arena_printf(paths, "%s/%s", root, part[i]);
        CHECK(folder_make(dir, &e), "%s", e.text);
        int n = collect(c, part[i], form.old_vae, t);
        const char *file = i == 0   ? form.unet_file
                           : i == 1 ? form.text_file
                                    : "diffusion_pytorch_model.safetensors";
        if (i == 0 && form.shards)
            write_shards(dir, t, n, form.unet_file);
        else
            write_tensors(arena_printf(paths, "%s/%s", dir, file), t, n);
    }
    put_text(arena_printf(paths, "%s/unet/config.json", root), "{\"in_channels\": 4}");
    put_text(arena_printf(paths, "%s/scheduler/scheduler_config.json", root),
             "{\"prediction_type\": \"v_prediction\"}");
    put_text(arena_printf(paths, "%s/tokenizer/vocab.json", root), "{}");
    put_text(arena_printf(paths, "%s/tokenizer/merges.txt", root), "");
    return root;
}

static void test_forms(const Checkpoint *c) {
    const Form forms[] = {
        {"diffusion_pytorch_model.safetensors", false, false, "model.safetensors"},
        {"diffusion_pytorch_model.fp16.safetensors", false, true, "model.safetensors"},
        {"safetensors", true, false, "model.fp16.safetensors"},
        {"diffusion_pytorch_model.bin", false, false, "pytorch_model.bin"},
        {"bin", true, false, "pytorch_model.fp16.bin"},
    };
    for (size_t i = 0; i < COUNT(forms); i++) {
        const char *root = write_folder(c, arena_printf(paths, "form%zu", i), forms[i]);
        Err e = {0};
        Checkpoint *d = checkpoint_open(root, &e);
        CHECK(d, "form %zu: %s", i, e.text);
        if (!d) continue;
        check_recorded(d);
        CHECK(strstr(checkpoint_config(d, "unet"), "in_channels"), "no config");
        CHECK(strstr(checkpoint_config_path(d, "unet"), "unet/config.json"), "%s",
              checkpoint_config_path(d, "unet"));
        CHECK(strstr(checkpoint_config(d, "scheduler"), "v_prediction"),
              "no scheduler");
        CHECK(!*checkpoint_config(d, "vae"), "a config that is not there");
        CHECK(checkpoint_tokenizer(d) && strstr(checkpoint_tokenizer(d), "tokenizer"),
              "no tokenizer");
        checkpoint_close(d);
    }
    TensorOut *t = NEW(paths, TensorOut, checkpoint_count(c));
    int n = checkpoint_count(c);
    for (int i = 0; i < n; i++) {
        t[i].name = checkpoint_name(c, i, NULL);
        checkpoint_find(c, t[i].name, &t[i].type, &t[i].data);
    }
    const char *path = in_folder("prefixed.safetensors");
    Err e = {0};
    CHECK(safetensors_write(path, t, n, NULL, 0, &e), "%s", e.text);
    Checkpoint *d = checkpoint_open(path, &e);
    CHECK(d, "%s", e.text);
    if (d) check_recorded(d);
    checkpoint_close(d);
}

static void test_ldm(void) {
    Err e = {0};
    Checkpoint *c = checkpoint_open(SD2, &e);
    CHECK(c, "%s", e.text);
    if (!c) return;
    check_recorded(c);
    const char *config = checkpoint_config(c, "text_encoder");
    CHECK(strstr(config, "\"num_hidden_layers\":2"), "text encoder config: %s", config);
    CHECK(strstr(checkpoint_config_path(c, "unet"), "nano-sd2.config.json"),
          "config path");
    CHECK(strstr(checkpoint_config(c, "scheduler"), "\"prediction_type\""),
          "no prediction type");
    CHECK(!checkpoint_tokenizer(c), "a tokenizer");
    Type t;
    const void *data;
    CHECK(!checkpoint_find(c, "text_encoder.text_model.encoder.layers.2.mlp.fc1.bias",
                           &t, &data),
          "the unused layer is there");
    test_forms(c);
    checkpoint_close(c);

    /* without a config beside it the last of three layers is known to be unused as well */
    char *here = realpath(SD2, NULL);
    const char *link = in_folder("alone.safetensors");
    CHECK(here && !symlink(here, link), "cannot make %s", link);
    free(here);
    c = checkpoint_open(link, &e);
    CHECK(c && !*checkpoint_config(c, "unet"), "%s", e.text);
    if (c) check_recorded(c);
    checkpoint_close(c);

    put_text(in_folder("alone.config.json"),
             "{\"text_encoder\": {\"num_hidden_layers\": 3}}");
    c = checkpoint_open(link, &e);
    CHECK(c && checkpoint_count(c) == 962 + 16,
          "a config that wants all three layers: %d tensors",
          c ? checkpoint_count(c) : 0);
    checkpoint_close(c);

    c = checkpoint_open(NANO, &e);
    CHECK(c && checkpoint_count(c) == 682 + 36 + 240, "%d tensors",
          c ? checkpoint_count(c) : 0);
    const char *key = NULL, *name = c ? checkpoint_name(c, 0, &key) : "";
    CHECK(
        !strcmp(name, "text_encoder.text_model.embeddings.position_embedding.weight") &&
            !strcmp(key, "cond_stage_model.transformer.text_model.embeddings."
                         "position_embedding.weight"),
        "first: %s, in the file %s", name, key ? key : "-");
    checkpoint_close(c);
}

/* ---- what is refused ---- */
static void refused(const char *path, int code, const char *message) {
    Err e = {0};
    Checkpoint *c = checkpoint_open(path, &e);
    CHECK(!c && e.code == code && strstr(e.text, message),
          "%s: got %d '%s', want %d '%s'", path, e.code, c ? "accepted" : e.text, code,
          message);
    checkpoint_close(c);
}

static const char *with_tensors(const char *file, TensorOut *t, int n) {
    const char *path = in_folder(file);
    char *cut = arena_strdup(paths, path);
    *strrchr(cut, '/') = 0;
    Err e = {0};
    CHECK(folder_make(cut, &e) && safetensors_write(path, t, n, NULL, 0, &e), "%s",
          e.text);
    return path;
}

static void test_refused(void) {
    const float x[4] = {0};
    TensorOut t[2] = {{"a", type_of(F32, 1, (int64_t[]){4}), x},
                      {"b", type_scalar(F32), x}};
    refused(in_folder("none"), EXIT_FAILED, "no model at");
    put_text(in_folder("m.ckpt"), "x");
    refused(in_folder("m.ckpt"), EXIT_FAILED, "too short");
    put_text(in_folder("renamed.safetensors"), "PK\3\4 and more");
    refused(in_folder("renamed.safetensors"), EXIT_FAILED, "end record of a zip");
    refused(with_tensors("lora.safetensors", t, 2), EXIT_FAILED,
            "none of its 2 tensors");
    refused(with_tensors("empty.safetensors", t, 0), EXIT_FAILED,
            "none of its 0 tensors");

    t[0].name = "cond_stage_model.transformer.encoder.x";
    t[1].name = "cond_stage_model.transformer.text_model.encoder.x";
    refused(with_tensors("both.safetensors", t, 2), EXIT_FAILED,
            "are both 'text_encoder.text_model.encoder.x'");
    t[0].name = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias";
    refused(with_tensors("thirds.safetensors", t, 1), EXIT_FAILED,
            "is f32[4], want rows in 3");
    t[1].name = t[0].name;
    refused(with_tensors("thirds.safetensors", t + 1, 1), EXIT_FAILED,
            "want rows in 3");

    t[0].name = "model.diffusion_model.out.2.bias";
    refused(with_tensors("c/m.safetensors", t, 0), EXIT_FAILED,
            "none of its 0 tensors");
    with_tensors("c/m.safetensors", t, 1);
    put_text(in_folder("c/m.config.json"), "{\n \"unet\": }");
    refused(in_folder("c/m.safetensors"), EXIT_MISUSE, "m.config.json:2:");
    put_text(in_folder("c/m.config.json"), "{\"unet\": 1}");
    refused(in_folder("c/m.safetensors"), EXIT_MISUSE, "'unet' is not an object");
    put_text(in_folder("c/m.config.json"), "{\"unet\": {}, \"unet\": {}}");
    refused(in_folder("c/m.safetensors"), EXIT_MISUSE, "duplicate");
}

static void test_refused_folders(void) {
    const float x[4] = {0};
    TensorOut t = {"conv_in.weight", type_of(F32, 1, (int64_t[]){4}), x};
    refused(folder, EXIT_FAILED, "no unet, text_encoder or vae");
    put_text(in_folder("p/unet/diffusion_pytorch_model.bin"), "x");
    refused(in_folder("p"), EXIT_FAILED, "pytorch_model.bin' is too short");
    put_text(in_folder("q/vae/readme"), "x");
    refused(in_folder("q"), EXIT_FAILED, "want diffusion_pytorch_model.safetensors");
    const char *index =
        in_folder("s/unet/diffusion_pytorch_model.safetensors.index.json");
    put_text(index, "{}");
    refused(in_folder("s"), EXIT_MISUSE, "'weight_map' is missing");
    put_text(index, "{\"weight_map\": {\"a\": \"../x.safetensors\"}}");
    refused(in_folder("s"), EXIT_MISUSE, "names '../x.safetensors'");
    put_text(index, "{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}");
    refused(in_folder("s"), EXIT_MISUSE, "names '/etc/x.safetensors'");
    put_text(index, "{\"weight_map\": {\"a\": 1}}");
    refused(in_folder("s"), EXIT_MISUSE, "not text");
    put_text(index, "{\"weight_map\": {\"a\": \"x.safetensors\"}}");
    refused(in_folder("s"), EXIT_FAILED, "x.safetensors': No such file");
    with_tensors("s/unet/x.safetensors", &t, 1);
    refused(in_folder("s"), EXIT_FAILED, "has no tensor 'a'");
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    paths = arena_new();
    test_ldm();
    test_refused();
    test_refused_folders();
    CHECK(!system(arena_printf(paths, "rm -r %s", folder)), "cannot remove %s", folder);
    arena_free(paths);
    return check_done("checkpoint");
}
