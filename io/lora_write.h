/* Writing a LoRA under the names of another program. */
#ifndef GRAPHRUN_LORA_WRITE_H
#define GRAPHRUN_LORA_WRITE_H
#include "io/lora_file.h"
#include "io/lora_read.h"

typedef struct LoraSave {
    LoraForm form; /* LORA_KOHYA, or LORA_PEFT: what today's Diffusers writes */
    int precision; /* DType of the factors, LORA_KEEP: as they are */
    /* up *= alpha/rank, alpha = rank: the same to every loader. Always so in LORA_PEFT,
     * which has no alphas */
    bool fold;
    /* for metadata that is missing: "sd1", "sd2"; NULL: of the file */
    const char *family;
} LoraSave;
/* By the ending of path safetensors with metadata (kohya: hashes too), or torch's form
 * without. A module whose name has no path (see lora_path_of) cannot become LORA_PEFT. Keys
 * that are no part of a module are left out: f->unknown. */
bool lora_save(const LoraFile *f, const char *path, const LoraSave *how, Err *e);
#endif
