/* config.json of models that come without one: sizes from the shapes of the tensors, the
 * rest from the constants of the two families. Field names: Diffusers and transformers. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"
#include "io/model_write.h"

enum {
    MOST_LEVELS = 8,
    SD1_HEADS = 8,
    SD2_HEAD_WIDTH = 64,
    TEXT_HEAD_WIDTH = 64,
    MOST_LAYERS = 1000,
};

typedef struct Shapes {
    Arena *arena;
    const Checkpoint *c;
    bool sd2;
} Shapes;

/* Dimension d of a tensor, or 0. */
PRINTF(3, 4) static int64_t dim(const Shapes *s, int d, const char *fmt, ...) {
    char name[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    Type t;
    const void *data;
    return checkpoint_find(s->c, name, &t, &data) && d < t.rank ? t.dim[d] : 0;
}

/* How many numbers i give a tensor: "before" i "after". */
static int count(const Shapes *s, const char *before, const char *after) {
    int n = 0;
    while (n < MOST_LAYERS && dim(s, 0, "%s%d%s", before, n, after)) n++;
    return n;
}

static json_t *heads(const Shapes *s, const int64_t *width, int n) {
    if (!s->sd2) return json_integer(SD1_HEADS);
    json_t *list = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(
            list,
            json_integer(width[i] > SD2_HEAD_WIDTH ? width[i] / SD2_HEAD_WIDTH : 1));
    return list;
}

static json_t *integers(const int64_t *x, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_integer(x[i]));
    return list;
}

static json_t *block_types(const Shapes *s, const char *side, int n) {
    json_t *list = json_array();
    bool down = !strcmp(side, "down");
    for (int i = 0; i < n; i++) {
        bool attends =
            dim(s, 0, "unet.%s_blocks.%d.attentions.0.proj_in.weight", side, i) > 0;
        const char *name = down      ? attends ? "CrossAttnDownBlock2D" : "DownBlock2D"
                           : attends ? "CrossAttnUpBlock2D"
                                     : "UpBlock2D";
        json_array_append_new(list, json_string(name));
    }
    return list;
}

static json_t *unet(const Shapes *s) {
    int64_t width[MOST_LEVELS], context = 0;
    int n = count(s, "unet.down_blocks.", ".resnets.0.conv1.weight");
    if (n > MOST_LEVELS) n = MOST_LEVELS;
    for (int i = 0; i < n; i++) {
        width[i] = dim(s, 0, "unet.down_blocks.%d.resnets.0.conv1.weight", i);
        int64_t k = dim(s, 1,
                        "unet.down_blocks.%d.attentions.0.transformer_blocks.0.attn2."
                        "to_k.weight",
                        i);
        if (k) context = k;
    }
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:b, s:I, s:o, s:i, s:b, s:b, s:i, s:I, s:i, s:i, "
        "s:s, s:f, s:i, s:I, s:i, s:o, s:b, s:b}",
        "_class_name", "UNet2DConditionModel", "_diffusers_version", "0.32.1", "act_fn",
        "silu", "attention_head_dim", heads(s, width, n), "block_out_channels",
        integers(width, n), "center_input_sample", 0, "cross_attention_dim",
        (json_int_t)context, "down_block_types", block_types(s, "down", n),
        "downsample_padding", 1, "dual_cross_attention", 0, "flip_sin_to_cos", 1,
        "freq_shift", 0, "in_channels", (json_int_t)dim(s, 1, "unet.conv_in.weight"),
        "layers_per_block", count(s, "unet.down_blocks.0.resnets.", ".conv1.weight"),
        "mid_block_scale_factor", 1, "mid_block_type", "UNetMidBlock2DCrossAttn",
        "norm_eps", 1e-5, "norm_num_groups", 32, "out_channels",
        (json_int_t)dim(s, 0, "unet.conv_out.weight"), "sample_size", s->sd2 ? 96 : 64,
        "up_block_types", block_types(s, "up", n), "upcast_attention", 0,
        "use_linear_projection", s->sd2);
}

static json_t *text_encoder(const Shapes *s) {
    static const char layers[] = "text_encoder.text_model.encoder.layers.";
    int64_t vocabulary =
        dim(s, 0, "text_encoder.text_model.embeddings.token_embedding.weight");
    int64_t width =
        dim(s, 1, "text_encoder.text_model.embeddings.token_embedding.weight");
    int64_t n_heads = width > TEXT_HEAD_WIDTH ? width / TEXT_HEAD_WIDTH : 1;
    return json_pack(
        "{s:[s], s:f, s:I, s:f, s:I, s:s, s:I, s:f, s:f, s:I, s:f, s:I, s:s, s:I, s:i, "
        "s:I, s:I, s:s, s:I}",
        "architectures", "CLIPTextModel", "attention_dropout", 0.0, "bos_token_id",
        (json_int_t)0, "dropout", 0.0, "eos_token_id", (json_int_t)2, "hidden_act",
        s->sd2 ? "gelu" : "quick_gelu", "hidden_size", (json_int_t)width,
        "initializer_factor", 1.0, "initializer_range", 0.02, "intermediate_size",
        (json_int_t)dim(s, 0, "%s0.mlp.fc1.weight", layers), "layer_norm_eps", 1e-5,
        "max_position_embeddings",
        (json_int_t)dim(s, 0,
                        "text_encoder.text_model.embeddings.position_embedding.weight"),
        "model_type", "clip_text_model", "num_attention_heads", (json_int_t)n_heads,
        "num_hidden_layers", count(s, layers, ".mlp.fc1.weight"), "pad_token_id",
        (json_int_t)1, "projection_dim", (json_int_t)(s->sd2 ? 512 : width),
        "torch_dtype", "float32", "vocab_size", (json_int_t)vocabulary);
}

static json_t *repeat(const char *name, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_string(name));
    return list;
}

static json_t *vae(const Shapes *s) {
    int64_t width[MOST_LEVELS];
    int n = count(s, "vae.encoder.down_blocks.", ".resnets.0.conv1.weight");
    if (n > MOST_LEVELS) n = MOST_LEVELS;
    for (int i = 0; i < n; i++)
        width[i] = dim(s, 0, "vae.encoder.down_blocks.%d.resnets.0.conv1.weight", i);
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:i, s:i, s:I, s:i, s:f, s:o}",
        "_class_name", "AutoencoderKL", "_diffusers_version", "0.32.1", "act_fn",
        "silu", "block_out_channels", integers(width, n), "down_block_types",
        repeat("DownEncoderBlock2D", n), "in_channels",
        (json_int_t)dim(s, 1, "vae.encoder.conv_in.weight"), "latent_channels",
        (json_int_t)dim(s, 1, "vae.post_quant_conv.weight"), "layers_per_block",
        count(s, "vae.encoder.down_blocks.0.resnets.", ".conv1.weight"),
        "norm_num_groups", 32, "out_channels",
        (json_int_t)dim(s, 0, "vae.decoder.conv_out.weight"), "sample_size",
        s->sd2 ? 768 : 512, "scaling_factor", 0.18215, "up_block_types",
        repeat("UpDecoderBlock2D", n));
}

const char *diffusers_config(Arena *a, const Checkpoint *c, const char *component,
                             const char *family) {
    static const struct {
        const char *component, *marker; /* a tensor that every such component has */
        json_t *(*make)(const Shapes *s);
    } rows[] = {
        {"unet", "unet.conv_in.weight", unet},
        {"text_encoder", "text_encoder.text_model.embeddings.token_embedding.weight",
         text_encoder},
        {"vae", "vae.encoder.conv_in.weight", vae},
    };
    Shapes s = {a, c, !strcmp(family, "sd2")};
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (strcmp(rows[i].component, component) || !dim(&s, 0, "%s", rows[i].marker))
            continue;
        json_t *j = rows[i].make(&s);
        const char *text = json_text(a, j);
        json_decref(j);
        return text;
    }
    return NULL;
}

/* ---- beside a file with the original's names ---- */
/* Whether the source's config says something that neither shapes nor family tell. */
static bool says_more(const Checkpoint *c, const char *component, const char *made) {
    static const char *const told[] = {"num_attention_heads", "attention_head_dim",
                                       "hidden_act"};
    json_t *have = json_loads(checkpoint_config(c, component), 0, NULL);
    json_t *want = made ? json_loads(made, 0, NULL) : NULL;
    bool differs = false;
    for (size_t i = 0; i < COUNT(told); i++) {
        json_t *x = json_object_get(have, told[i]), *y = json_object_get(want, told[i]);
        if (x && !json_is_null(x) && !json_equal(x, y)) differs = true;
    }
    json_decref(have);
    json_decref(want);
    return differs;
}

bool config_beside(const char *path, const Checkpoint *c, const char *family,
                   bool *written, Err *e) {
    Arena *a = arena_new();
    json_t *all = json_pack("{s:s}", "base", family);
    *written = false;
    for (const char *const *k = checkpoint_components; *k; k++) {
        const char *made = diffusers_config(a, c, *k, family);
        *written = *written || says_more(c, *k, made);
        json_t *x = json_loads(checkpoint_config(c, *k), 0, NULL);
        if (x) json_object_set_new(all, *k, x);
    }
    json_t *scheduler = json_loads(checkpoint_config(c, "scheduler"), 0, NULL);
    json_t *type = json_object_get(scheduler, "prediction_type");
    if (type) json_object_set(all, "prediction_type", type);
    const char *is = json_string_value(type);
    *written = *written || (is && strcmp(is, "epsilon"));
    json_decref(scheduler);
    char *text =
        json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
    json_decref(all);
    const char *dot = strrchr(path, '.');
    const char *to = arena_printf(a, "%.*s.config.json", (int)(dot - path), path);
    bool ok = !*written || file_write(to, text, strlen(text), e);
    free(text);
    arena_free(a);
    return ok;
}
