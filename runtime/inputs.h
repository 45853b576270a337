/* `train --inputs FILE` and `--record FILE` (cli.md section 4): micro-batches, starting
 * weights and results as tensors, in Torch's layout. */
#ifndef GRAPHRUN_INPUTS_H
#define GRAPHRUN_INPUTS_H
#include "runtime/lora.h"
#include "runtime/train.h"

typedef struct Inputs Inputs;
/* Opens the file and reads micro-batches 0 … micro-1: m{i}.latents F32 [B,4,h,w], .noise
 * F32, .timesteps I32 [B], .input_ids I32 [B,n,77], .loss_weights F32 [B]. Anything missing
 * or of another shape: exit 2. */
Inputs *inputs_open(Arena *a, const char *path, int64_t micro, Err *e);
/* Are there m{i}.rank.<module>, DyLoRA's draws? */
bool inputs_have_ranks(const Inputs *in);
/* Keys that are neither a micro-batch's nor w0.<LoRA key>: exit 2. Reads the ranks of the
 * modules that draw one: all of them, or none. */
bool inputs_check(Inputs *in, const Modules *m, const LoraTensors *lora, Err *e);
void inputs_close(Inputs *in);
Feed inputs_feed(Inputs *in);
Shape inputs_shape(const Inputs *in, int64_t micro);
/* w0.<LoRA key> into the trainables: all of them or none. A stored alpha must be that of
 * the options. */
bool inputs_start(const Inputs *in, Exec *x, const LoraTensors *lora, Err *e);

typedef struct Record Record;
Record *record_new(Arena *a);
/* Copies one tensor; 4-D channels-last pictures are turned to [B,C,H,W]. */
bool record_picture(Record *r, Exec *x, const char *value, const char *key, Err *e);
bool record_plain(Record *r, Exec *x, const char *value, const char *key, Err *e);
/* The same elements as a tensor of another shape (a LoRA file's 4-D form). */
bool record_tensor(Record *r, Exec *x, const char *value, const char *key, Type as,
                   Err *e);
void record_data(Record *r, const char *key, Type type, const void *data);
bool record_write(const Record *r, const char *path, Err *e);
#endif
