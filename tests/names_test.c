/* Rename tables in both directions: the whole of a recorded SD2 model, rows that are easy
 * to get wrong, and names that only old files have. With arguments (key tables: FAMILY
 * FILE ...) every row of those as well. */
#include "io/names.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "io/tensors.h"

/* name <-> key, part of parts */
static void both_ways(const Names *t, const char *name, const char *key, int part,
                      int parts) {
    Arena *a = arena_new();
    NameTo to = {0};
    bool ok = names_to_file(t, a, name, &to);
    CHECK(ok && !strcmp(to.key, key), "%s -> %s, want %s", name,
          ok ? to.key : "nothing", key);
    CHECK(!ok || (to.part == part && to.parts == parts), "%s: part %d/%d, want %d/%d",
          name, to.part, to.parts, part, parts);
    NamePart from[NAME_PARTS];
    bool dropped, found = false;
    int n = names_from_file(t, a, key, from, &dropped);
    for (int i = 0; i < n; i++)
        found |= !strcmp(from[i].name, name) && from[i].part == part &&
                 from[i].parts == parts;
    CHECK(n == parts && found && !dropped, "%s -> %d names, first %s, want %s", key, n,
          n ? from[0].name : "none", name);
    arena_free(a);
}

/* key -> name when reading only: writing gives another key */
static void read_only(const Names *t, const char *name, const char *key) {
    Arena *a = arena_new();
    NamePart from[NAME_PARTS];
    bool dropped;
    int n = names_from_file(t, a, key, from, &dropped);
    CHECK(n == 1 && !strcmp(from[0].name, name), "%s -> %s, want %s", key,
          n ? from[0].name : "none", name);
    NameTo to;
    CHECK(names_to_file(t, a, name, &to) && strcmp(to.key, key), "%s is written as %s",
          name, key);
    arena_free(a);
}

static void is_dropped(const Names *t, const char *key) {
    Arena *a = arena_new();
    NamePart from[NAME_PARTS];
    bool dropped;
    int n = names_from_file(t, a, key, from, &dropped);
    CHECK(!n && dropped, "%s is %s", key, n ? from[0].name : "not in the table");
    arena_free(a);
}

/* Splits a line at tabs; returns how many columns. */
static int split(char *line, char *column[8]) {
    int n = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *p = line; p && n < 8; n++) {
        column[n] = p;
        p = strchr(p, '\t');
        if (p) *p++ = 0;
    }
    return n;
}

/* component, Diffusers key, LDM key, q k v or -. `only`: skip that component. */
static void test_recorded(const Names *t, const char *skip, int want) {
    FILE *in = fopen("tests/golden/sd2/names.tsv", "r");
    CHECK(in, "tests/golden/sd2/names.tsv is missing");
    char line[1024], name[4096], *c[8];
    int rows = 0;
    while (in && fgets(line, sizeof line, in)) {
        if (split(line, c) < 4 || !strcmp(c[0], "component") || !strcmp(c[0], skip))
            continue;
        snprintf(name, sizeof name, "%s.%s", c[0], c[1]);
        const char *part = *c[3] == '-' ? NULL : strchr("qkv", *c[3]);
        both_ways(t, name, c[2], part ? (int)(part - strchr("qkv", 'q')) : 0,
                  part ? 3 : 1);
        rows++;
    }
    CHECK(rows == want, "%d rows, want %d", rows, want);
    if (in) fclose(in);
}

/* ldm_key, component, diffusers_key, ldm_shape, diffusers_shape, transform */
static void test_key_table(const Names *t, const char *path) {
    FILE *in = fopen(path, "r");
    CHECK(in, "%s is missing", path);
    char line[1024], name[4096], *c[8];
    while (in && fgets(line, sizeof line, in)) {
        if (split(line, c) < 6 || !strcmp(c[0], "ldm_key")) continue;
        if (!strcmp(c[1], "-")) {
            if (!strstr(c[0], "resblocks")) is_dropped(t, c[0]);
            continue;
        }
        int from = 0, to = 0, parts = 1, part = 0;
        if (sscanf(c[5], "rows[%d:%d]", &from, &to) == 2)
            parts = 3, part = from / (to - from);
        snprintf(name, sizeof name, "%s.%s", c[1], c[2]);
        both_ways(t, name, c[0], part, parts);
        Arena *a = arena_new();
        NameTo out = {0};
        bool ldm4 = strstr(c[3], ",1,1]") != NULL,
             diffusers4 = strstr(c[4], ",1,1]") != NULL;
        bool linear = strstr(c[2], "proj_in.weight") ||
                      strstr(c[2], "proj_out.weight") ||
                      strstr(c[2], "attentions.0.to_");
        if (names_to_file(t, a, name, &out) && linear)
            CHECK((!ldm4 || out.conv_ldm) && out.conv_diffusers == diffusers4,
                  "%s: stored as a convolution %d/%d, want %d/%d", name, out.conv_ldm,
                  out.conv_diffusers, ldm4, diffusers4);
        arena_free(a);
    }
    if (in) fclose(in);
}

#define MODEL "model.diffusion_model."
#define VAE   "first_stage_model."
#define CLIP  "cond_stage_model.transformer."

static void test_sd1(const Names *t) {
    both_ways(t, "unet.up_blocks.0.upsamplers.0.conv.weight",
              MODEL "output_blocks.2.1.conv.weight", 0, 1);
    read_only(t, "unet.up_blocks.0.upsamplers.0.conv.weight",
              MODEL "output_blocks.2.2.conv.weight");
    both_ways(t, "unet.up_blocks.1.upsamplers.0.conv.bias",
              MODEL "output_blocks.5.2.conv.bias", 0, 1);
    both_ways(t, "text_encoder.text_model.encoder.layers.11.mlp.fc1.weight",
              CLIP "text_model.encoder.layers.11.mlp.fc1.weight", 0, 1);
    read_only(t, "text_encoder.text_model.encoder.layers.11.mlp.fc1.weight",
              CLIP "encoder.layers.11.mlp.fc1.weight");
    read_only(t, "text_encoder.text_model.embeddings.token_embedding.weight",
              CLIP "embeddings.token_embedding.weight");
    read_only(t, "text_encoder.text_model.final_layer_norm.bias",
              CLIP "final_layer_norm.bias");
    read_only(t, "vae.decoder.mid_block.attentions.0.to_out.0.weight",
              "vae.decoder.mid_block.attentions.0.proj_attn.weight");
    read_only(t, "vae.encoder.mid_block.attentions.0.to_q.bias",
              "vae.encoder.mid_block.attentions.0.query.bias");
    both_ways(t, "vae.decoder.up_blocks.3.resnets.0.conv_shortcut.weight",
              VAE "decoder.up.0.block.0.nin_shortcut.weight", 0, 1);
    is_dropped(t, CLIP "text_model.embeddings.position_ids");
    is_dropped(t, "sqrt_one_minus_alphas_cumprod");
    is_dropped(t, "model_ema.diffusion_modelinput_blocks00weight");
    Arena *a = arena_new();
    NameTo to;
    NamePart from[NAME_PARTS];
    bool dropped;
    CHECK(!names_to_file(t, a, "unet.up_blocks.4.resnets.0.conv1.weight", &to),
          "a fifth level");
    CHECK(!names_to_file(t, a, "unet.conv_in", &to), "a name without its tail");
    CHECK(!names_to_file(t, a, "unet.conv_in.", &to), "a name with an empty tail");
    CHECK(!names_to_file(t, a, "conv_in.weight", &to), "a name without its component");
    CHECK(!names_from_file(t, a, "lora_unet_x.alpha", from, &dropped) && !dropped,
          "a LoRA key");
    arena_free(a);
}

static void test_families(void) {
    const char *one[] = {MODEL "out.0.weight", CLIP "text_model.final_layer_norm.bias"};
    const char *two[] = {MODEL "out.0.weight", "cond_stage_model.model.ln_final.bias"};
    CHECK(!strcmp(names_family(one, 2), "sd1"), "got %s", names_family(one, 2));
    CHECK(!strcmp(names_family(two, 2), "sd2"), "got %s", names_family(two, 2));
    Arena *a = arena_new();
    const char *family = NULL, *v = names_variant(a, "sd21", "clip", &family);
    CHECK(v && !strcmp(v, "clip_h") && !strcmp(family, "sd2"), "got %s",
          v ? v : "nothing");
    v = names_variant(a, "sd15", "vae_decoder", &family);
    CHECK(v && !strcmp(v, "sd") && !strcmp(family, "sd1"), "got %s", v ? v : "nothing");
    CHECK(!names_variant(a, "sd15", "decoder", &family), "part of a name");
    CHECK(!names_variant(a, "sd99", "unet", &family), "no such model");
    int n = 0;
    for (const char *const *m = names_models(a); *m; m++) n++;
    CHECK(n == 3, "%d models, want 3", n);
    int row, rows_of;
    const char *key = names_to_ldm(
        a, "sd2", "text_encoder.text_model.encoder.layers.3.self_attn.v_proj.weight",
        &row, &rows_of);
    CHECK(
        key &&
            !strcmp(
                key,
                "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight") &&
            row == 2 && rows_of == 3,
        "%s %d/%d", key ? key : "nothing", row, rows_of);
    CHECK(!names_to_ldm(a, "sd7", "unet.conv_in.weight", &row, &rows_of), "family sd7");
    arena_free(a);
}

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {0};
    const Names *sd1 = names_open(a, "sd1", &e), *sd2 = names_open(a, "sd2", &e);
    CHECK(sd1 && sd2, "%s", e.text);
    if (sd1 && sd2) {
        test_recorded(sd2, "", 962);
        test_recorded(sd1, "text_encoder", 926);
        test_sd1(sd1);
        is_dropped(sd2, "cond_stage_model.model.text_projection");
        is_dropped(sd2, "cond_stage_model.model.logit_scale");
        const char *network = names_component(sd2, "vae_decoder");
        CHECK(network && !strcmp(network, "vae"), "vae_decoder reads %s",
              network ? network : "-");
        for (int i = 1; i + 1 < argc; i += 2)
            test_key_table(strcmp(argv[i], "sd2") ? sd1 : sd2, argv[i + 1]);
    }
    test_families();
    arena_free(a);
    return check_done("names");
}
