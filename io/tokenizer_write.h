/* The tokenizer's folder of a Diffusers model, for sources that have none. */
#ifndef GRAPHRUN_TOKENIZER_WRITE_H
#define GRAPHRUN_TOKENIZER_WRITE_H
#include "graph/base/base.h"

enum { CLIP_MERGES = 48894, CLIP_VOCABULARY = 2 * 256 + CLIP_MERGES + 2 };
/* vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json of CLIP's
 * tokenizer into a folder that is there. pad: text of the padding token, "<|endoftext|>"
 * for SD1, "!" for SD2. keep: CLIP_MERGES flags, the merges of a smaller tokenizer whose
 * ids are counted anew, or NULL: all. A build without the vocabulary: a failure. */
bool tokenizer_write(const char *folder, const char *pad, const bool *keep, Err *e);
/* Flags the merges that n texts are encoded with, and those that these are made of: a
 * tokenizer of them alone encodes each text into as many tokens. */
bool tokenizer_mark(const char *const *text, int n, bool *keep, Err *e);
#endif
