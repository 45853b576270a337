/* The tokenizer's folder of a Diffusers model, for sources that have none. */
#ifndef GRAPHRUN_TOKENIZER_WRITE_H
#define GRAPHRUN_TOKENIZER_WRITE_H
#include "graph/base.h"

enum { CLIP_VOCABULARY = 49408 };
/* vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json of CLIP's
 * tokenizer into a folder that is there. pad: text of the padding token, "<|endoftext|>"
 * for SD1, "!" for SD2. A build without the vocabulary: a failure. */
bool tokenizer_write(const char *folder, const char *pad, Err *e);
#endif
