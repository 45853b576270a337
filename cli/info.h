/* What `info` says of a file; the LoRA half is a file of its own. */
#ifndef GRAPHRUN_INFO_H
#define GRAPHRUN_INFO_H
#include "cli/opt.h"
#include "io/lora_read.h"

void info_meta(Str *s, const TensorFile *f); /* without the hashes */
void info_meta_json(Str *s, const TensorFile *f);
/* Prints modules by block, ranks, alphas, scales, norms, a bar chart, hashes. */
bool info_lora(const Common *c, const LoraFile *f, Err *e);
#endif
