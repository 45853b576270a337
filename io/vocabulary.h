/* The tables of a byte-level BPE: byte symbols, merges, special tokens. */
#ifndef GRAPHRUN_VOCABULARY_H
#define GRAPHRUN_VOCABULARY_H
#include "graph/base/base.h"

typedef struct Merge {   /* an entry of the hash table; left < 0: empty */
    int32_t left, right; /* ids of the pair */
    int32_t rank, id;    /* line number in the list of merges; id of what it makes */
} Merge;

typedef struct Vocabulary {
    Merge *merge; /* open addressing, capacity mask + 1, a power of two */
    size_t mask;
    int32_t byte[256],
        last_byte[256]; /* ids of a byte's symbol, and with </w> behind */
    int32_t bos, eos;
} Vocabulary;

/* folder: see tokenizer_open. */
bool vocabulary_read(Vocabulary *v, Arena *a, const char *folder, Err *e);
/* The text bpe_simple_vocab_16e6.txt that this program holds, or that
 * $GRAPHRUN_CLIP_VOCABULARY names; in a. */
bool vocabulary_text(Arena *a, Source *out, Err *e);
/* The merge of a pair, or NULL. */
const Merge *vocabulary_merge(const Vocabulary *v, int32_t left, int32_t right);
#endif
