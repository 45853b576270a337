/* Names of LoRA modules: kohya's flat ones and the modules' own paths. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/lora_read.h"

static const struct {
    const char *flat, *path; /* prefixes */
} components[] = {
    {"lora_unet_", "unet."},
    {"lora_te_", "text_encoder."},
    {"lora_te1_", "text_encoder."},
    {"lora_te2_", "text_encoder_2."},
};

/* Parts of module paths that hold an underscore or are followed by something else. Between
 * two parts of a flat name stands one underscore; the longest part that fits is meant. */
static const char *const words[] = {
    "down_blocks",
    "up_blocks",
    "mid_block",
    "attentions",
    "resnets",
    "downsamplers",
    "upsamplers",
    "conv",
    "conv1",
    "conv2",
    "conv_shortcut",
    "conv_in",
    "conv_out",
    "time_emb_proj",
    "time_embedding",
    "transformer_blocks",
    "add_embedding",
    "linear_1",
    "linear_2",
    "proj_in",
    "proj_out",
    "proj",
    "attn1",
    "attn2",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "ff",
    "net",
    "text_model",
    "embeddings",
    "encoder",
    "layers",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "mlp",
    "fc1",
    "fc2",
    "text_projection",
    "token_embedding",
    "position_embedding",
};

const char *lora_form_name(LoraForm f) {
    static const char *const names[] = {"kohya", "peft", "diffusers", "diffusers (old)",
                                        "mixed"};
    return names[f];
}

const char *lora_name_of(Arena *a, const char *path) {
    for (size_t i = 0; i < COUNT(components); i++) {
        size_t n = strlen(components[i].path);
        if (strncmp(path, components[i].path, n)) continue;
        char *s = arena_printf(a, "%s%s", components[i].flat, path + n);
        for (char *p = s; *p; p++)
            if (*p == '.') *p = '_';
        return s;
    }
    return NULL;
}

/* Bytes of the part that s begins with: a number or the longest word; 0: neither. */
static size_t part_bytes(const char *s) {
    size_t best = strspn(s, "0123456789");
    if (best && s[best] && s[best] != '_') best = 0;
    for (size_t i = 0; i < COUNT(words); i++) {
        size_t n = strlen(words[i]);
        if (n > best && !strncmp(s, words[i], n) && (!s[n] || s[n] == '_')) best = n;
    }
    return best;
}

const char *lora_path_of(Arena *a, const char *name) {
    for (size_t i = 0; i < COUNT(components); i++) {
        size_t n = strlen(components[i].flat);
        if (strncmp(name, components[i].flat, n)) continue;
        char *path = arena_printf(a, "%s%s", components[i].path, name + n);
        char *p = path + strlen(components[i].path);
        while (*p) {
            size_t part = part_bytes(p);
            if (!part) return NULL;
            p += part;
            if (*p && !p[1]) return NULL;
            if (*p) *p++ = '.';
        }
        return path;
    }
    return NULL;
}

/* sd-scripts' rule: resnets and attentions count 3i + j, samplers come third. */
int lora_block(const char *name) {
    static const struct {
        const char *word;
        bool sampler;
    } kinds[] = {{"attentions_", false},
                 {"resnets_", false},
                 {"downsamplers_", true},
                 {"upsamplers_", true}};
    if (strstr(name, "mid_block_")) return 12;
    const char *down = strstr(name, "down_blocks_"), *up = strstr(name, "up_blocks_");
    const char *p = down ? down + strlen("down_blocks_")
                    : up ? up + strlen("up_blocks_")
                         : "";
    char *end;
    long level = strtol(p, &end, 10);
    if (end == p || level < 0 || level > 3 || *end != '_') return -1;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        size_t n = strlen(kinds[i].word);
        if (strncmp(end + 1, kinds[i].word, n)) continue;
        char *stop;
        long j = strtol(end + 1 + n, &stop, 10);
        if (stop == end + 1 + n || j < 0 || j > 2) return -1;
        int index = (int)(3 * level + (kinds[i].sampler ? 2 : j)) + (down ? 1 : 13);
        return index < LORA_BLOCKS ? index : -1;
    }
    return -1;
}

const char *lora_block_name(Arena *a, int block) {
    return block < 12    ? arena_printf(a, "IN%02d", block)
           : block == 12 ? "M00"
                         : arena_printf(a, "OUT%02d", block - 13);
}
