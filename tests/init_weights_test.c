/* Random checkpoints: the same numbers under either kind of names and in any company, of
 * the right size, with the names and shapes that a recorded model of that size has. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "cli/opt.h"
#include "io/tensors.h"
#include "kernels/rng.h"

extern const Command cmd_init_weights;
const Command *const commands[] = {&cmd_init_weights, NULL};

static Arena *arena;
static char folder[] = "/tmp/graphrun-init-XXXXXX";

/* Runs the command on words separated by spaces, %s being a file of the test's folder. */
static int run(const char *format, const char *file, Err *e) {
    char *line = arena_printf(arena, format, file);
    WordList words = {NEW(arena, const char *, 64), 0};
    for (char *p = strtok(line, " "); p; p = strtok(NULL, " "))
        words.word[words.n++] = p;
    Invocation in;
    *e = (Err){0};
    if (!opt_parse(arena, &cmd_init_weights, &words, &in, e)) return e->code;
    in.common.quiet = true;
    return cmd_init_weights.run(&in.common, in.opts, in.given, &in.words, e);
}

static const char *in_folder(const char *name) {
    return arena_printf(arena, "%s/%s", folder, name);
}

static Checkpoint *made(const char *format, const char *name) {
    const char *path = in_folder(name);
    Err e;
    int code = run(format, path, &e);
    CHECK(code == EXIT_DONE, "%s: %s", format, e.text);
    Checkpoint *c = code ? NULL : checkpoint_open(path, &e);
    CHECK(code || c, "%s", e.text);
    return c;
}

/* Every tensor of a is in b with the same bytes. */
static void contained(const Checkpoint *a, const Checkpoint *b, int want) {
    if (!a || !b) return;
    CHECK(checkpoint_count(a) == want, "%d tensors, want %d", checkpoint_count(a),
          want);
    for (int i = 0; i < checkpoint_count(a); i++) {
        const char *name = checkpoint_name(a, i, NULL);
        Type t, u;
        const void *x, *y;
        checkpoint_find(a, name, &t, &x);
        bool found = checkpoint_find(b, name, &u, &y);
        CHECK(found && type_bytes(&t) == type_bytes(&u),
              "'%s' is missing or of another size", name);
        CHECK(!found || !memcmp(x, y, type_bytes(&t)), "'%s' has other numbers", name);
    }
}

static void test_names(void) {
    Checkpoint *ldm =
        made("unet clip vae_encoder vae_decoder --variant tiny -o %s", "a.safetensors");
    Checkpoint *diffusers =
        made("unet clip vae_encoder vae_decoder --variant tiny --names "
             "diffusers -o %s",
             "b.safetensors");
    contained(ldm, diffusers, 686 + 36 + 244);
    contained(diffusers, ldm, 686 + 36 + 244);
    Checkpoint *alone = made("clip --variant clip=tiny -o %s", "c.safetensors");
    contained(alone, ldm, 36);
    Checkpoint *joined =
        made("clip --variant tiny --family sd2 -o %s", "d.safetensors");
    contained(joined, ldm, 36);
    contained(alone, joined, 36);
    Checkpoint *other =
        made("clip --variant tiny --seed 4294967296 -o %s", "e.safetensors");
    Type t;
    const void *x, *y;
    const char *name = "text_encoder.text_model.encoder.layers.0.mlp.fc1.weight";
    bool both = alone && other && checkpoint_find(alone, name, &t, &x) &&
                checkpoint_find(other, name, &t, &y);
    CHECK(both && memcmp(x, y, type_bytes(&t)), "another seed gives the same numbers");
    Checkpoint *all[] = {ldm, diffusers, alone, joined, other};
    for (size_t i = 0; i < COUNT(all); i++) checkpoint_close(all[i]);
}

/* Names, shapes and order of golden/nano, a model of another program with these sizes. */
static void test_shapes(void) {
    const char *path = in_folder("nano.safetensors");
    Err e;
    int code = run("unet clip vae_encoder vae_decoder --variant tiny --set "
                   "unet.channels=[32,32,32,32] "
                   "--set context=32 --set width=32 --set vocabulary=1024 --set "
                   "vae_encoder.channels=[32,32,32,32] --set "
                   "vae_decoder.channels=[32,32,32,32] -o %s",
                   path, &e);
    CHECK(code == EXIT_DONE, "%s", e.text);
    TensorFile *ours = code ? NULL : safetensors_open(path, &e);
    TensorFile *theirs = safetensors_open("tests/golden/nano/nano-sd.safetensors", &e);
    CHECK(theirs && (code || ours), "%s", e.text);
    for (int i = 0; ours && theirs && i < ours->n; i++) {
        const TensorEntry *x = tensors_find(theirs, ours->entry[i].name);
        CHECK(x && type_equal(&x->type, &ours->entry[i].type), "'%s': %s, want %s",
              ours->entry[i].name, type_text(arena, &ours->entry[i].type),
              x ? type_text(arena, &x->type) : "no such tensor");
    }
    /* all but position_ids */
    CHECK(ours && theirs && ours->n == theirs->n - 1, "%d tensors", ours ? ours->n : 0);
    tensors_close(ours);
    tensors_close(theirs);
}

static void test_numbers(void) {
    Checkpoint *c =
        made("unet --variant tiny --dtype f32 --seed 77 -o %s", "f.safetensors");
    Type t;
    const void *data;
    const char *name = "unet.mid_block.resnets.0.conv1.weight";
    if (!c || !checkpoint_find(c, name, &t, &data)) {
        CHECK(false, "no '%s'", name);
        return;
    }
    const float *w = data;
    int64_t n = type_count(&t);
    double sum = 0, squares = 0, fan_in = 128 * 9;
    for (int64_t i = 0; i < n; i++) sum += w[i], squares += (double)w[i] * w[i];
    CHECK(fabs(sum / (double)n) < 4 / sqrt(fan_in * (double)n), "mean %g",
          sum / (double)n);
    CHECK(fabs(squares / (double)n * fan_in - 1) < 0.02,
          "variance * fan_in is %g, want 1", squares / (double)n * fan_in);
    const int32_t key[RNG_WORDS] = {77, 0};
    uint32_t word[4];
    rng_block(key, rng_stream(name, "init"), 0, 5000, word);
    float want = (2 * rng_uniform(word[2]) - 1) * (float)sqrt(3 / fan_in);
    CHECK(w[20002] == want, "element 20002 is %g, want %g", w[20002], want);
    bool ok = checkpoint_find(c, "unet.conv_norm_out.weight", &t, &data);
    CHECK(ok && ((const float *)data)[31] == 1, "norms start at 1");
    ok = checkpoint_find(c, "unet.conv_in.bias", &t, &data);
    CHECK(ok && ((const float *)data)[31] == 0, "biases start at 0");
    checkpoint_close(c);
}

static void refused(const char *format, const char *message) {
    Err e;
    int code = run(format, in_folder("refused.safetensors"), &e);
    CHECK(code == EXIT_MISUSE && strstr(e.text, message), "%s: %d '%s', want '%s'",
          format, code, e.text, message);
}

static void test_refused(void) {
    refused("unet --variant tiny", "-o FILE");
    refused("unet --variant tinny -o %s", "no variant 'tinny'");
    refused("unet --variant clip=tiny -o %s", "not named here");
    refused("unet -o %s", "name a variant");
    refused("unet --variant tiny --set width=3 -o %s", "argument 'width'");
    refused("nothing --variant tiny -o %s", "nothing");
    refused("unet --variant tiny --dtype f8 -o %s", "f8");
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    arena = arena_new();
    test_names();
    test_shapes();
    test_numbers();
    test_refused();
    CHECK(!system(arena_printf(arena, "rm -r %s", folder)), "cannot remove %s", folder);
    arena_free(arena);
    return check_done("init_weights");
}
