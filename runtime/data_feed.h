/* Micro-batches from a data set: captions processed and tokenized, latents drawn or pictures
 * read ahead on threads, in the data set's order. Micro-batch number i is a pure function of
 * the seed and i: a run can start at any. */
#ifndef GRAPHRUN_DATA_FEED_H
#define GRAPHRUN_DATA_FEED_H
#include "io/data.h"
#include "runtime/latents.h"
#include "runtime/text_states.h"
#include "runtime/train.h"

typedef struct DataFeedJob {
    Dataset *data; /* the feed alone uses it from now on */
    const Latents *latents;
    const Tokenizer *tokenizer;
    int chunks;  /* of 77 tokens per caption */
    int32_t pad; /* 49407 (SD1) or 0 (SD2) */
    int64_t
        vocabulary; /* rows of the text encoder's table; a token beyond is an error */
    uint64_t seed;
    int threads;
    VaeSource vae; /* for pictures that vary */
    bool pixels;   /* the objective sees pictures, not latents */
    bool masks;
    bool weights; /* words of captions have weights (io/token_weights.h) */
} DataFeedJob;

typedef struct DataFeed DataFeed;
DataFeed *data_feed_new(Arena *a, const DataFeedJob *job);
void data_feed_close(DataFeed *f);
/* Micro-batches have `text` from now on; before the first one. */
void data_feed_text(DataFeed *f, TextStates *text);
/* The next micro-batch will be number `micro` (0 …) of the run. */
void data_feed_seek(DataFeed *f, int64_t micro);
Feed data_feed(DataFeed *f);
/* Every shape that an epoch's batches have, each once, in order of first use. */
bool data_feed_shapes(Arena *a, Dataset *d, int chunks, Shape **out, int *n, Err *e);
#endif
