/* LoRA files of every program, as modules with their two factors in one form.
 *
 * Names are kohya's, "lora_unet_down_blocks_0_…_attn1_to_q"; paths are the modules' own,
 * "unet.down_blocks.0.….attn1.to_q". One flattens into the other; the way back goes by the
 * words that occur in module names, never by turning each _ into a dot. */
#ifndef GRAPHRUN_LORA_READ_H
#define GRAPHRUN_LORA_READ_H
#include "io/tensors.h"

typedef enum LoraForm {             /* whose names a key has */
                        LORA_KOHYA, /* lora_unet_….lora_down.weight, .lora_up.weight, .alpha */
                        LORA_PEFT, /* unet.….lora_A.weight, .lora_B.weight */
                        LORA_DIFFUSERS, /* unet.….lora.down.weight; ….lora_linear_layer.down.weight */
                        LORA_DIFFUSERS_OLD, /* unet.….attn1.processor.to_q_lora.down.weight */
                        LORA_MIXED,
} LoraForm;
const char *lora_form_name(LoraForm f);

typedef enum LoraNet { LORA_UNET, LORA_TEXT, LORA_TEXT2 } LoraNet;

/* blocks of the U-Net: 0 first convolution, 1-11 down, 12 middle, 13-24 up */
enum { LORA_BLOCKS = 25 };

typedef struct LoraModule {
    const char *name;
    const char *path; /* NULL: a name with words we do not know */
    LoraForm form;
    LoraNet net;
    int block;                    /* -1: none, text encoders among them */
    TensorEntry down, up;         /* [rank, in(, k, k)], [out, rank(, 1, 1)] */
    const TensorEntry *has_alpha; /* NULL: not in the file */
    double alpha;                 /* the rank where the file has none */
    int64_t rank, in, out, kernel_h, kernel_w;
} LoraModule;

typedef struct LoraFile {
    Arena *arena;
    TensorFile *file;
    LoraForm form;
    LoraModule *module; /* sorted by name */
    int n;
    const char **unknown; /* keys that are no part of a module */
    int n_unknown;
    /* "sd1", "sd2", "sdxl" by shapes and names; NULL: cannot be told */
    const char *family;
} LoraFile;

/* Whether a file has keys of a LoRA at all. */
bool lora_is(const TensorFile *f);
/* Whether a key is a factor or the alpha of a LoRA module. */
bool lora_is_part(const char *key);
/* Whether it has nothing else. */
bool lora_only(const TensorFile *f);
/* Takes f over, also on failure. Refused by name: factors that do not fit together, DoRA,
 * LyCORIS. adapter_config.json beside the file and Diffusers' metadata give the alphas that
 * a file of peft does not carry. */
LoraFile *lora_from(TensorFile *f, Err *e);
LoraFile *lora_open(const char *path, Err *e);
void lora_close(LoraFile *f);
const LoraModule *lora_find(const LoraFile *f, const char *name); /* NULL: none */
/* false, naming the first: tensors that are no part of a LoRA module and would be lost
 * where only modules are written. */
bool lora_is_whole(const LoraFile *f, Err *e);
const char *lora_meta(const LoraFile *f, const char *key); /* NULL: not there */

/* Block of a kohya name; -1: none. */
int lora_block(const char *name);
const char *lora_block_name(Arena *a, int block); /* "IN04", "M00", "OUT11" */
/* "unet.a.b" -> "lora_unet_a_b"; NULL: no component of ours */
const char *lora_name_of(Arena *a, const char *path);
/* the way back; NULL: holds words that are in no module name */
const char *lora_path_of(Arena *a, const char *name);

/* <A, B> of two modules' scaled products (alpha/rank) up @ down, without forming them:
 * trace((Bu^T Au)(Ad Bd^T)). Shapes must agree, ranks need not. lora_dot(a, a) is the
 * squared Frobenius norm. */
double lora_dot(const LoraModule *a, const LoraModule *b);
bool lora_same_shape(const LoraModule *a, const LoraModule *b);
#endif
