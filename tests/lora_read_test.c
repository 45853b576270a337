/* LoRA files of every program give the same modules: kohya's golden files, the same numbers
 * under the names of peft and of Diffusers old and new; alphas from the places where each
 * keeps them; files that are no LoRA, or of another kind of adapter, are refused by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "io/file.h"
#include "io/lora_read.h"

static char folder[] = "/tmp/graphrun-lora-XXXXXX";
static Arena *paths;

static const char *in_folder(const char *name) {
    return arena_printf(paths, "%s/%s", folder, name);
}

/* ---- names ---- */
static void test_names(void) {
    static const struct {
        const char *name, *path;
        int block;
    } rows[] = {
        {"lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0",
         "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0", 2},
        {"lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
         "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj", 24},
        {"lora_unet_mid_block_attentions_0_proj_in",
         "unet.mid_block.attentions.0.proj_in", 12},
        {"lora_unet_down_blocks_2_downsamplers_0_conv",
         "unet.down_blocks.2.downsamplers.0.conv", 9},
        {"lora_unet_up_blocks_0_upsamplers_0_conv",
         "unet.up_blocks.0.upsamplers.0.conv", 15},
        {"lora_unet_up_blocks_1_resnets_0_time_emb_proj",
         "unet.up_blocks.1.resnets.0.time_emb_proj", 16},
        {"lora_unet_up_blocks_1_resnets_0_conv_shortcut",
         "unet.up_blocks.1.resnets.0.conv_shortcut", 16},
        {"lora_te_text_model_encoder_layers_11_self_attn_out_proj",
         "text_encoder.text_model.encoder.layers.11.self_attn.out_proj", -1},
        {"lora_te2_text_model_encoder_layers_3_mlp_fc1",
         "text_encoder_2.text_model.encoder.layers.3.mlp.fc1", -1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *path = lora_path_of(paths, rows[i].name);
        const char *name = lora_name_of(paths, rows[i].path);
        CHECK(path && !strcmp(path, rows[i].path), "%s: got %s", rows[i].name,
              path ? path : "none");
        CHECK(name && !strcmp(name, rows[i].name), "%s: got %s", rows[i].path,
              name ? name : "none");
        CHECK(lora_block(rows[i].name) == rows[i].block, "%s: block %d, want %d",
              rows[i].name, lora_block(rows[i].name), rows[i].block);
    }
    static const char *const none[] = {
        "lora_unet_input_blocks_4_1_proj_in", "lora_unet_down_blocks_0_attentions_1_",
        "lora_unet_down_blocks_x", "lora_xyz_proj_in", "lora_unet_proj_in_something"};
    for (size_t i = 0; i < COUNT(none); i++)
        CHECK(!lora_path_of(paths, none[i]), "%s is %s", none[i],
              lora_path_of(paths, none[i]));
    CHECK(!lora_name_of(paths, "vae.encoder.conv_in"), "the VAE has no adapters");
    CHECK(!strcmp(lora_block_name(paths, 11), "IN11") &&
              !strcmp(lora_block_name(paths, 12), "M00") &&
              !strcmp(lora_block_name(paths, 24), "OUT11"),
          "names of blocks");
}

/* ---- one small module under the names of every program ---- */
static const float down[6] = {1, 2, 3, 4, 5, 6}, up[8] = {1, -1, 2, -2, 3, -3, 4, -4},
                   two = 2, bad_alpha = NAN;

static const char *write_pair(const char *file, const char *d, const char *u,
                              const char *alpha, const Meta *meta, int n_meta) {
    TensorOut t[3] = {{d, type_of(F32, 2, (int64_t[]){2, 3}), down},
                      {u, type_of(F32, 2, (int64_t[]){4, 2}), up},
                      {alpha, type_scalar(F32), &two}};
    Err e = {0};
    CHECK(safetensors_write(in_folder(file), t, alpha ? 3 : 2, meta, n_meta, &e), "%s",
          e.text);
    return in_folder(file);
}

static void check_one(const char *path, const char *name, LoraForm form, double alpha) {
    Err e = {0};
    LoraFile *f = lora_open(path, &e);
    CHECK(f && f->n == 1 && f->n_unknown == 0 && f->form == form, "%s: %s", path,
          e.text);
    if (!f) return;
    const LoraModule *m = f->module;
    CHECK(!strcmp(m->name, name), "%s, want %s", m->name, name);
    CHECK(m->rank == 2 && m->in == 3 && m->out == 4 && m->kernel_h == 1, "%s: shape",
          path);
    CHECK(m->alpha == alpha, "%s: alpha %g, want %g", path, m->alpha, alpha);
    CHECK(!memcmp(m->down.data, down, sizeof down) &&
              !memcmp(m->up.data, up, sizeof up),
          "%s: numbers", path);
    CHECK(lora_find(f, name) == m && !lora_find(f, "other"), "%s: finding", path);
    lora_close(f);
}

#define UNET_Q "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1"
#define NAME_Q "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
#define NAME_O                                                                         \
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
#define TEXT   "text_encoder.text_model.encoder.layers.1.self_attn"
#define NAME_T "lora_te_text_model_encoder_layers_1_self_attn_q_proj"

static void test_forms(void) {
    check_one(write_pair("k.safetensors", NAME_Q ".lora_down.weight",
                         NAME_Q ".lora_up.weight", NAME_Q ".alpha", NULL, 0),
              NAME_Q, LORA_KOHYA, 2);
    check_one(write_pair("p.safetensors", UNET_Q ".to_q.lora_A.weight",
                         UNET_Q ".to_q.lora_B.weight", NULL, NULL, 0),
              NAME_Q, LORA_PEFT, 2);
    check_one(write_pair("m.safetensors", UNET_Q ".to_q.lora.down.weight",
                         UNET_Q ".to_q.lora.up.weight", NULL, NULL, 0),
              NAME_Q, LORA_DIFFUSERS, 2);
    check_one(write_pair("t.safetensors", TEXT ".q_proj.lora_linear_layer.down.weight",
                         TEXT ".q_proj.lora_linear_layer.up.weight", NULL, NULL, 0),
              NAME_T, LORA_DIFFUSERS, 2);
    check_one(write_pair("o.safetensors", UNET_Q ".processor.to_out_lora.down.weight",
                         UNET_Q ".processor.to_out_lora.up.weight", NULL, NULL, 0),
              NAME_O, LORA_DIFFUSERS_OLD, 2);
    check_one(write_pair("ot.safetensors", TEXT ".to_q_lora.down.weight",
                         TEXT ".to_q_lora.up.weight", NULL, NULL, 0),
              NAME_T, LORA_DIFFUSERS_OLD, 2);
    check_one(
        write_pair("b.safetensors",
                   "base_model.model.down_blocks.0.attentions.0.transformer_blocks."
                   "0.attn1.to_q.lora_A.default.weight",
                   "base_model.model.down_blocks.0.attentions.0.transformer_blocks."
                   "0.attn1.to_q.lora_B.default.weight",
                   NULL, NULL, 0),
        NAME_Q, LORA_PEFT, 2);
    check_one(write_pair("pa.safetensors", UNET_Q ".to_q.lora_A.weight",
                         UNET_Q ".to_q.lora_B.weight", UNET_Q ".to_q.alpha", NULL, 0),
              NAME_Q, LORA_PEFT, 2);
}

static void put_text(const char *path, const char *text) {
    Err e = {0};
    CHECK(file_write(path, text, strlen(text), &e), "%s", e.text);
}

static void test_alphas_beside(void) {
    Meta meta = {"lora_adapter_metadata",
                 "{\"unet.r\": 2, \"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {}}"};
    check_one(write_pair("d.safetensors", UNET_Q ".to_q.lora_A.weight",
                         UNET_Q ".to_q.lora_B.weight", NULL, &meta, 1),
              NAME_Q, LORA_PEFT, 8);
    meta.value = "{\"unet.lora_alpha\": 8, \"unet.alpha_pattern\": {\"to_q\": 3}}";
    check_one(write_pair("d.safetensors", UNET_Q ".to_q.lora_A.weight",
                         UNET_Q ".to_q.lora_B.weight", NULL, &meta, 1),
              NAME_Q, LORA_PEFT, 3);
    const char *config = in_folder("adapter_config.json");
    put_text(config, "{\"lora_alpha\": 6, \"use_rslora\": true}");
    check_one(in_folder("p.safetensors"), NAME_Q, LORA_PEFT, 6 * sqrt(2.0));
    check_one(in_folder("k.safetensors"), NAME_Q, LORA_KOHYA, 2);
    unlink(config);
}

/* ---- what is refused ---- */
static void refused(const char *path, const char *message) {
    Err e = {0};
    LoraFile *f = lora_open(path, &e);
    CHECK(!f && e.code == EXIT_FAILED && strstr(e.text, message),
          "%s: got '%s', want '%s'", path, f ? "accepted" : e.text, message);
    lora_close(f);
}

static void test_refused(void) {
    refused(write_pair("r.safetensors", NAME_Q ".lora_down.weight", "x", NULL, NULL, 0),
            "has only one of its two factors");
    refused(write_pair("r.safetensors", NAME_Q ".lora_up.weight",
                       NAME_Q ".lora_down.weight", NULL, NULL, 0),
            "do not fit together");
    refused(write_pair("r.safetensors", "a", "b", NULL, NULL, 0), "no LoRA file");
    refused(write_pair("r.safetensors", UNET_Q ".to_q.lora_A.weight",
                       UNET_Q ".to_q.lora_B.weight",
                       UNET_Q ".to_q.lora_magnitude_vector", NULL, 0),
            "belongs to DoRA");
    refused(write_pair("r.safetensors", NAME_Q ".hada_w1_a", NAME_Q ".hada_w1_b", NULL,
                       NULL, 0),
            "belongs to LyCORIS LoHa");
    refused(write_pair("r.safetensors", NAME_Q ".lora_down.weight",
                       UNET_Q ".to_q.lora_A.weight", NULL, NULL, 0),
            "are the same part of");
    TensorOut t[3] = {
        {NAME_Q ".lora_down.weight", type_of(F32, 2, (int64_t[]){2, 3}), down},
        {NAME_Q ".lora_up.weight", type_of(F32, 2, (int64_t[]){4, 2}), up},
        {NAME_Q ".alpha", type_scalar(F32), &bad_alpha}};
    Err e = {0};
    CHECK(safetensors_write(in_folder("r.safetensors"), t, 3, NULL, 0, &e), "%s",
          e.text);
    refused(in_folder("r.safetensors"), "is not a finite number");
    t[2] = (TensorOut){NAME_Q ".alpha", type_of(F32, 1, (int64_t[]){2}), down};
    CHECK(safetensors_write(in_folder("r.safetensors"), t, 3, NULL, 0, &e), "%s",
          e.text);
    refused(in_folder("r.safetensors"), "want one number");
}

/* ---- products ---- */
static void test_norm(void) {
    Err e = {0};
    LoraFile *f = lora_open(in_folder("k.safetensors"), &e);
    CHECK(f != NULL, "%s", e.text);
    if (!f) return;
    double want = 0;
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 3; i++) {
            double x = up[2 * o] * down[i] + up[2 * o + 1] * down[3 + i];
            want += x * x;
        }
    double got = lora_dot(f->module, f->module);
    CHECK(fabs(got - want) < 1e-12 * want, "%g, want %g", got, want);
    LoraModule half = *f->module;
    half.alpha = 1;
    got = lora_dot(f->module, &half);
    CHECK(fabs(got - want / 2) < 1e-12 * want, "%g, want %g", got, want / 2);
    lora_close(f);
}

static void test_unknown_and_mixed(void) {
    TensorOut t[5] = {
        {NAME_Q ".lora_down.weight", type_of(F32, 2, (int64_t[]){2, 3}), down},
        {NAME_Q ".lora_up.weight", type_of(F32, 2, (int64_t[]){4, 2}), up},
        {TEXT ".q_proj.lora_A.weight", type_of(F32, 2, (int64_t[]){2, 3}), down},
        {TEXT ".q_proj.lora_B.weight", type_of(F32, 2, (int64_t[]){4, 2}), up},
        {"bundle_emb.word", type_of(F32, 1, (int64_t[]){2}), up}};
    Err e = {0};
    CHECK(safetensors_write(in_folder("u.safetensors"), t, 5, NULL, 0, &e), "%s",
          e.text);
    LoraFile *f = lora_open(in_folder("u.safetensors"), &e);
    CHECK(f && f->n == 2 && f->n_unknown == 1 && f->form == LORA_MIXED, "%s", e.text);
    CHECK(f && !strcmp(f->unknown[0], "bundle_emb.word"), "the unknown key");
    lora_close(f);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    paths = arena_new();
    test_names();
    test_forms();
    test_alphas_beside();
    test_refused();
    test_norm();
    test_unknown_and_mixed();
    CHECK(!system(arena_printf(paths, "rm -r %s", folder)), "cannot remove %s", folder);
    arena_free(paths);
    return check_done("lora_read");
}
