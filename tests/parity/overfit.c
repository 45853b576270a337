/* Four fixed (latent, t, noise) pairs, 100 updates: a rank-16 LoRA of the U-Net must learn
 * them. Predicting nothing gives a loss of 1. Every shipped adapter must get below its start
 * in 24 updates.
 *
 *   overfit PROGRAM MODEL
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "graph/lang/doc.h"
#include "io/tensors.h"
#include "kernels/rng.h"
#include "tests/check.h"

enum {
    B = 4,
    C = 4,
    SIDE = 8,
    TOKENS = 77,
    UPDATES = 100,
    PIXELS = B * C * SIDE * SIDE
};

static Arena *arena;

/* N(0,1) by the central limit of twelve uniforms: good enough for targets */
static float *normals(uint32_t stream, float scale) {
    float *x = NEW(arena, float, PIXELS);
    for (int i = 0; i < PIXELS; i++) {
        uint32_t w[4];
        float sum = -6;
        const int32_t rng[RNG_WORDS] = {7};
        for (uint32_t k = 0; k < 3; k++) {
            rng_block(rng, stream, (uint32_t)i, k, w);
            for (int j = 0; j < 4; j++) sum += rng_uniform(w[j]);
        }
        x[i] = sum * scale;
    }
    return x;
}

static void write_inputs(const char *path, int updates) {
    static const int32_t t[B] = {100, 300, 500, 700};
    static const float ones[B] = {1, 1, 1, 1};
    const int64_t picture[] = {B, C, SIDE, SIDE}, samples[] = {B},
                  words[] = {B, 1, TOKENS};
    const float *latents = normals(1, 1 / 0.18215f), *noise = normals(2, 1);
    int32_t *ids = NEW(arena, int32_t, B * TOKENS);
    for (int i = 0; i < B * TOKENS; i++)
        ids[i] = i % TOKENS ? (i % TOKENS < 9 ? 300 + i : 1023) : 1022;
    TensorOut *out = NEW(arena, TensorOut, updates * 5);
    for (int i = 0; i < updates; i++) {
        TensorOut *o = out + 5 * i;
        o[0] = (TensorOut){"latents", type_of(F32, 4, picture), latents};
        o[1] = (TensorOut){"noise", type_of(F32, 4, picture), noise};
        o[2] = (TensorOut){"timesteps", type_of(I32, 1, samples), t};
        o[3] = (TensorOut){"input_ids", type_of(I32, 3, words), ids};
        o[4] = (TensorOut){"loss_weights", type_of(F32, 1, samples), ones};
        for (int k = 0; k < 5; k++)
            o[k].name = arena_printf(arena, "m%d.%s", i, o[k].name);
    }
    Err e = {0};
    CHECK(safetensors_write(path, out, updates * 5, NULL, 0, &e), "%s", e.text);
}

static int train(const char *program, const char *model, const char *folder,
                 const char *in, const char *record) {
    pid_t child = fork();
    if (!child) {
        execl(program, program, "train", "--pretrained_model_name_or_path", model,
              "--network_dim", "16", "--network_alpha", "16", "--learning_rate", "1e-3",
              "--network_train_unet_only", "--max_train_steps", "100", "--seed", "1",
              "--inputs", in, "--record", record, "--output_dir", folder, "--quiet",
              (char *)NULL);
        _exit(127);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- every adapter ---- */
enum { FEW = 24, LAST = 6 };

/* A recipe with this adapter on the attention of the U-Net. */
static const char *recipe_of(const char *folder, const char *adapter) {
    const char *path = arena_printf(arena, "%s/%s-recipe.yaml", folder, adapter);
    FILE *f = fopen(path, "w");
    if (!f) return NULL;
    fprintf(f,
            "recipe: one\n"
            "from: [lora.yaml]\n"
            "adapters:\n"
            "  - {use: %s, on: {unet: [attention]}, lr: $learning_rate}\n",
            adapter);
    return fclose(f) ? NULL : path;
}

static float loss_at(TensorFile *f, int i) {
    const TensorEntry *t = tensors_find(f, arena_printf(arena, "m%d.loss", i));
    float x = INFINITY;
    if (t) memcpy(&x, t->data, sizeof x);
    return x;
}

static void beats_its_start(const char *program, const char *model, const char *folder,
                            const char *in, const char *adapter) {
    Err e = {0};
    const char *recipe = recipe_of(folder, adapter);
    char *record = arena_printf(arena, "%s/%s.safetensors", folder, adapter);
    char *line = arena_printf(
        arena,
        "'%s' train '%s' --pretrained_model_name_or_path '%s' --learning_rate 1e-2 "
        "--max_train_steps %d --seed 1 --inputs '%s' --record '%s' --output_dir '%s' "
        "--output_name %s --quiet",
        program, recipe ? recipe : "", model, FEW, in, record, folder, adapter);
    int code = system(line);
    CHECK(code == 0, "%s: the program ended with %d", adapter, code);
    TensorFile *out = code ? NULL : safetensors_open(record, &e);
    if (!out) return;
    float first = loss_at(out, 0), end = 0;
    for (int i = FEW - LAST; i < FEW; i++) end += loss_at(out, i) / LAST;
    printf("  %-18s loss %.4f at first, %.4f at the end\n", adapter, (double)first,
           (double)end);
    CHECK(end < 0.98f * first, "%s: loss %g at first, %g in the last %d updates",
          adapter, (double)first, (double)end, LAST);
    tensors_close(out);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: overfit PROGRAM MODEL\n");
        return 2;
    }
    arena = arena_new();
    char folder[] = "/tmp/graphrun-overfit-XXXXXX";
    if (!mkdtemp(folder)) return 1;
    char *in = arena_printf(arena, "%s/in.safetensors", folder);
    char *record = arena_printf(arena, "%s/record.safetensors", folder);
    write_inputs(in, UPDATES);
    int code = train(argv[1], argv[2], folder, in, record);
    CHECK(code == 0, "the program ended with %d", code);
    Err e = {0};
    TensorFile *out = code ? NULL : safetensors_open(record, &e);
    float least = INFINITY, first = 0;
    int at = 0;
    for (int i = 0; out && i < UPDATES; i++) {
        const TensorEntry *t = tensors_find(out, arena_printf(arena, "m%d.loss", i));
        float x = INFINITY;
        if (t) memcpy(&x, t->data, sizeof x);
        if (!i) first = x;
        if (x < least) least = x, at = i + 1;
    }
    printf("  loss %.4f at first, %.4f at step %d\n", (double)first, (double)least, at);
    CHECK(least < 0.3f, "the least loss is %g, want below 0.3", (double)least);
    if (out) tensors_close(out);
    write_inputs(in, FEW);
    for (const char *const *a = doc_shipped(arena, DOC_ADAPTER); *a; a++)
        beats_its_start(argv[1], argv[2], folder, in, *a);
    CHECK(system(arena_printf(arena, "rm -r '%s'", folder)) == 0, "cannot remove %s",
          folder);
    arena_free(arena);
    return check_done("overfit");
}
