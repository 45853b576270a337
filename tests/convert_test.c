/* convert, both ways and back: every tensor of a model with the same bytes through LDM,
 * Diffusers and .ckpt; LoRAs through the names of kohya and peft with the same product;
 * precisions; folding; what is refused, and with which exit code. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "cli/opt.h"
#include "io/file.h"
#include "io/json.h"
#include "io/lora_file.h"
#include "io/lora_read.h"

#define NANO "tests/golden/nano/nano-sd.safetensors"
#define SD2  "tests/golden/sd2/nano-sd2.safetensors"

extern const Command cmd_convert;
const Command *const commands[] = {&cmd_convert, NULL};

static char folder[] = "/tmp/graphrun-convert-XXXXXX";
static Arena *arena;

static const char *in_folder(const char *name) {
    return arena_printf(arena, "%s/%s", folder, name);
}

/* options: words separated by spaces */
static int convert_it(const char *from, const char *to, const char *options, Err *e) {
    char *line = arena_strdup(arena, options);
    WordList words = {NEW(arena, const char *, 16), 0};
    words.word[words.n++] = from;
    words.word[words.n++] = to;
    for (char *p = strtok(line, " "); p; p = strtok(NULL, " "))
        words.word[words.n++] = p;
    Invocation in;
    *e = (Err){0};
    if (!opt_parse(arena, &cmd_convert, &words, &in, e)) return e->code;
    in.common.quiet = true;
    return cmd_convert.run(&in.common, in.opts, in.given, &in.words, e);
}

static const char *done(const char *from, const char *to, const char *options) {
    Err e;
    const char *path = in_folder(to);
    int code = convert_it(from, path, options, &e);
    CHECK(code == EXIT_DONE && !e.set, "%s -> %s %s: exit %d, %s", from, to, options,
          code, e.text);
    return path;
}

/* ---- models ---- */

/* Tensors of a that are in b with the same type and bytes. */
static int equal_tensors(const TensorFile *a, const TensorFile *b) {
    int n = 0;
    for (int i = 0; i < a->n; i++) {
        const TensorEntry *x = &a->entry[i], *y = tensors_find(b, x->name);
        n += y && type_equal(&x->type, &y->type) &&
             !memcmp(x->data, y->data, type_bytes(&x->type));
    }
    return n;
}

/* missing: how many tensors of `from` may be absent or different */
static void same_file(const char *from, const char *to, int missing) {
    Err e = {0};
    TensorFile *a = tensors_open(from, &e), *b = a ? tensors_open(to, &e) : NULL;
    CHECK(a && b, "%s", e.text);
    if (a && b) {
        int n = equal_tensors(a, b);
        CHECK(n == a->n - missing, "%s: %d of %d tensors are equal, %d may differ", to,
              n, a->n, missing);
    }
    tensors_close(a);
    tensors_close(b);
}

static void same_model(const char *from, const char *to) {
    Err e = {0};
    Checkpoint *a = checkpoint_open(from, &e), *b = a ? checkpoint_open(to, &e) : NULL;
    CHECK(a && b && checkpoint_count(a) == checkpoint_count(b), "%s: %s", to, e.text);
    int bad = 0;
    for (int i = 0; a && b && i < checkpoint_count(a); i++) {
        const char *name = checkpoint_name(a, i, NULL);
        Type t, u;
        const void *x, *y;
        checkpoint_find(a, name, &t, &x);
        bool found = checkpoint_find(b, name, &u, &y);
        bad +=
            !found || type_bytes(&t) != type_bytes(&u) || memcmp(x, y, type_bytes(&t));
    }
    CHECK(!bad, "%s: %d tensors differ", to, bad);
    checkpoint_close(a);
    checkpoint_close(b);
}

static void test_sd1(void) {
    const char *d = done(NANO, "d", "");
    same_model(NANO, d);
    CHECK(file_exists(in_folder("d/model_index.json")) &&
              file_exists(in_folder("d/scheduler/scheduler_config.json")) &&
              file_exists(in_folder("d/unet/config.json")),
          "files of a Diffusers folder");
    /* nano's file holds position_ids but no noise schedule */
    same_file(NANO, done(d, "back.safetensors", ""), 0);
    same_file(NANO, done(d, "back.ckpt", "--epoch 3 --global_step 70000"), 0);
    same_file(NANO, done(in_folder("back.ckpt"), "kept.safetensors", ""), 0);
    same_file(NANO, done(NANO, "kept.ckpt", ""), 0);
    const char *bin = done(NANO, "bin", "--to diffusers --bin");
    CHECK(file_exists(arena_printf(arena, "%s/text_encoder/pytorch_model.bin", bin)) &&
              !file_exists(arena_printf(
                  arena, "%s/unet/diffusion_pytorch_model.safetensors", bin)),
          "not .bin");
    same_file(NANO, done(bin, "back.safetensors", ""), 0);
    same_model(NANO, done(in_folder("kept.ckpt"), "d2", ""));
    Err e = {0};
    TensorFile *f = tensors_open(in_folder("back.ckpt"), &e);
    CHECK(f && f->wrapped && f->epoch == 3 && f->global_step == 70000, "%s", e.text);
    tensors_close(f);
    CHECK(file_exists(in_folder("back.config.json")),
          "heads cannot be told by weights");
}

static void test_sd2(void) {
    const char *d = done(SD2, "s", "");
    same_model(SD2, d);
    const char *back = done(d, "s.safetensors", "");
    same_model(SD2, back);
    /* the unused last layer (12 tensors), text_projection and logit_scale are made up */
    same_file(SD2, back, 14);
    Err e = {0};
    TensorFile *f = tensors_open(back, &e);
    const char *last = "cond_stage_model.model.transformer.resblocks.%d.ln_1.weight";
    const TensorEntry *x = f ? tensors_find(f, arena_printf(arena, last, 1)) : NULL;
    const TensorEntry *y = f ? tensors_find(f, arena_printf(arena, last, 2)) : NULL;
    CHECK(x && y && !memcmp(x->data, y->data, type_bytes(&x->type)),
          "the last layer stands there twice");
    CHECK(f && tensors_find(f, "cond_stage_model.model.text_projection"), "projection");
    tensors_close(f);
    const Source *text;
    json_t *j = json_read(arena, in_folder("s/unet/config.json"), &text, &e);
    CHECK(json_is_true(json_object_get(j, "use_linear_projection")),
          "a linear projection");
    json_decref(j);
}

static void test_precision(void) {
    const char *path = done(NANO, "bf16.safetensors", "--save_precision bf16");
    Err e = {0};
    TensorFile *a = tensors_open(NANO, &e), *b = tensors_open(path, &e);
    CHECK(a && b && a->n == b->n, "%s", e.text);
    int wrong = 0, kept = 0;
    for (int i = 0; a && b && i < a->n; i++) {
        const TensorEntry *x = &a->entry[i], *y = &b->entry[i];
        kept += x->type.dtype == I64 && y->type.dtype == I64;
        if (x->type.dtype == I64) continue;
        uint16_t want;
        convert(&want, BF16, x->data, x->type.dtype, 1);
        wrong += y->type.dtype != BF16 || memcmp(&want, y->data, sizeof want);
    }
    CHECK(!wrong && kept == 1, "%d tensors are wrong, %d of integers kept", wrong,
          kept);
    tensors_close(a);
    tensors_close(b);
}

/* ---- LoRA ---- */
static const char *write_lora(void) {
    enum { IN = 32, OUT = 32, RANK = 4 };
    static float down[RANK * IN * 9], up[OUT * RANK];
    for (size_t i = 0; i < COUNT(down); i++)
        down[i] = (float)((int)(i * 7 % 13) - 6) / 8;
    for (size_t i = 0; i < COUNT(up); i++) up[i] = (float)((int)(i * 5 % 11) - 5) / 4;
    static const float alpha = 1, other = 3;
#define Q "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
#define T "lora_te_text_model_encoder_layers_0_mlp_fc1"
#define C "lora_unet_mid_block_resnets_1_conv1"
    TensorOut t[] = {{Q ".lora_down.weight", {F32, 2, {RANK, IN}}, down},
                     {Q ".lora_up.weight", {F32, 2, {OUT, RANK}}, up},
                     {Q ".alpha", {F32, 0, {0}}, &alpha},
                     {T ".lora_down.weight", {F32, 2, {2, IN}}, down},
                     {T ".lora_up.weight", {F32, 2, {OUT, 2}}, up},
                     {C ".lora_down.weight", {F32, 4, {RANK, IN, 3, 3}}, down},
                     {C ".lora_up.weight", {F32, 4, {OUT, RANK, 1, 1}}, up},
                     {C ".alpha", {F32, 0, {0}}, &other}};
    Meta meta[] = {{"ss_network_dim", "4"},
                   {"ss_network_alpha", "1.0"},
                   {"ss_network_args", "{\"conv_dim\": \"4\", \"conv_alpha\": \"3\"}"}};
    Err e = {0};
    const char *path = in_folder("lora.safetensors");
    CHECK(lora_file_write(path, t, COUNT(t), LORA_KEEP, meta, COUNT(meta), &e), "%s",
          e.text);
    return path;
}

/* Same modules, and the same products within `far`. */
static LoraFile *same_lora(const char *from, const char *to, double far) {
    Err e = {0};
    LoraFile *a = lora_open(from, &e), *b = a ? lora_open(to, &e) : NULL;
    CHECK(a && b && a->n == b->n && b->n_unknown == 0, "%s", e.text);
    for (int i = 0; a && b && i < a->n && i < b->n; i++) {
        const LoraModule *x = &a->module[i], *y = &b->module[i];
        CHECK(!strcmp(x->name, y->name) && x->rank == y->rank && lora_same_shape(x, y),
              "%s became %s", x->name, y->name);
        double aa = lora_dot(x, x), square = aa + lora_dot(y, y) - 2 * lora_dot(x, y);
        CHECK(square <= far * far * aa, "%s: %g apart", x->name,
              sqrt(fabs(square / aa)));
    }
    lora_close(a);
    return b;
}

static void test_lora(void) {
    const char *kohya = write_lora();
    const char *peft = done(kohya, "peft.safetensors", "--to peft");
    LoraFile *f = same_lora(kohya, peft, 1e-7);
    CHECK(f && f->form == LORA_PEFT && f->file->n == 6, "only factors");
    CHECK(f && tensors_find(f->file,
                            "unet.down_blocks.0.attentions.0.transformer_blocks.0."
                            "attn2.to_k.lora_A.weight"),
          "peft's names");
    CHECK(f && !lora_meta(f, "sshs_model_hash") &&
              !strcmp(lora_meta(f, "format"), "pt"),
          "metadata");
    lora_close(f);

    f = same_lora(kohya, done(peft, "again.safetensors", ""), 1e-7);
    CHECK(f && f->form == LORA_KOHYA && f->module[0].has_alpha, "kohya's names");
    CHECK(f && lora_meta(f, "sshs_model_hash"), "hashes");
    lora_close(f);

    f = same_lora(kohya, done(kohya, "same.safetensors", ""), 0);
    CHECK(f && f->module[0].alpha == 2 && f->module[1].alpha == 1,
          "alphas as they were");
    lora_close(f);

    f = same_lora(kohya, done(kohya, "fold.safetensors", "--fold_alpha"), 1e-7);
    for (int i = 0; f && i < f->n; i++)
        CHECK(f->module[i].alpha == (double)f->module[i].rank, "%s: alpha %g",
              f->module[i].name, f->module[i].alpha);
    CHECK(f && strstr(lora_meta(f, "ss_network_args"), "\"conv_alpha\":\"4\"") &&
              !strcmp(lora_meta(f, "ss_network_alpha"), "Dynamic"),
          "metadata of a folded file");
    lora_close(f);

    f = same_lora(kohya, done(kohya, "half.safetensors", "--save_precision fp16"),
                  1e-3);
    CHECK(f && f->module[1].down.type.dtype == F16 &&
              f->module[1].has_alpha->type.dtype == F16,
          "fp16");
    lora_close(f);

    f = same_lora(kohya, done(kohya, "lora.pt", ""), 0);
    CHECK(f && !f->file->wrapped && f->file->n_meta == 0, "a plain dict");
    lora_close(f);
    lora_close(same_lora(kohya, done(in_folder("lora.pt"), "pt.safetensors", ""), 0));
}

/* ---- what is refused ---- */
static void refused(const char *from, const char *to, const char *options, int code,
                    const char *message) {
    Err e;
    int got = convert_it(from, in_folder(to), options, &e);
    CHECK(got == code && strstr(e.text, message),
          "%s -> %s %s: exit %d '%s', want %d '%s'", from, to, options, got, e.text,
          code, message);
    CHECK(!file_exists(in_folder(to)), "%s was written", to);
}

static void test_refused(void) {
    const char *lora = in_folder("lora.safetensors");
    refused(in_folder("none"), "x.ckpt", "", EXIT_FAILED, "none");
    refused(NANO, "x.safetensors", "--to kohya", EXIT_MISUSE, "is for LoRA files");
    refused(NANO, "x.safetensors", "--fold_alpha", EXIT_MISUSE, "is for LoRA files");
    refused(NANO, "x.safetensors", "--to diffusers", EXIT_MISUSE, "makes a folder");
    refused(NANO, "x", "--to ldm", EXIT_MISUSE, "want a name that ends with");
    refused(lora, "x", "", EXIT_MISUSE, "want a name that ends with");
    refused(lora, "x.txt", "", EXIT_MISUSE, "got '");
    refused(NANO, "x.ckpt", "--bin", EXIT_MISUSE, "is for Diffusers folders");
    refused(lora, "x.pt", "--bin", EXIT_MISUSE, "--bin is for models");
    refused(lora, "x.safetensors", "--to ldm", EXIT_MISUSE, "is for models");
    refused(NANO, "x.ckpt", "--v1 --v2", EXIT_MISUSE, "exclude each other");
    refused(NANO, "d", "", EXIT_FAILED, "is there and not empty");
    refused(NANO, "none/x.ckpt", "", EXIT_FAILED, "cannot write");
    refused("tests/golden/torch/lightning.ckpt", "x.ckpt", "--strict_pickle",
            EXIT_FAILED, "which is not needed");
    refused("tests/golden/torch/plain.pt", "x.ckpt", "--to ldm", EXIT_FAILED,
            "neither a model nor a LoRA");
    same_file("tests/golden/torch/plain.pt",
              done("tests/golden/torch/plain.pt", "copy.safetensors", ""), 0);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    arena = arena_new();
    test_sd1();
    test_sd2();
    test_precision();
    test_lora();
    test_refused();
    CHECK(!system(arena_printf(arena, "rm -r %s", folder)), "cannot remove %s", folder);
    arena_free(arena);
    return check_done("convert");
}
