/* The training data: images, captions, tokens, buckets, batches. */
#ifndef GRAPHRUN_DATA_H
#define GRAPHRUN_DATA_H
#include "graph/base.h"

/* ---- tokenizer: CLIP byte-level BPE ---- */
typedef struct Tokenizer Tokenizer;
/* folder: a model's tokenizer/ (vocab.json + merges.txt), or NULL:
 * $GRAPHRUN_CLIP_VOCABULARY or the embedded vocabulary. */
Tokenizer *tokenizer_open(const char *folder, Err *e);
void tokenizer_close(Tokenizer *t);
/* Ids of the text without BOS and EOS; returns how many (at most cap are written). */
int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, int cap);
/* `chunks` rows of 77 ids: BOS + 75 + EOS, padded with `pad` (PAD_END: EOS, as SD1 has it;
 * 0: "!", SD2), cut as training.md 5.2. Returns the number of tokens before truncation. */
enum { PAD_END = -1 };
int tokenizer_chunks(const Tokenizer *t, const char *text, int chunks, int32_t pad,
                     int32_t *ids);

/* ---- images ---- */
typedef struct Image {
    int w, h;
    uint8_t *rgb; /* h*w*3, malloc; image_free */
} Image;
/* PNG, JPEG, WebP, BMP; by content. Alpha is dropped, EXIF rotation not applied. */
bool image_read(const char *path, Image *out, Err *e);
bool image_size(const char *path, int *w, int *h, Err *e);
/* image_size reads the header and walks the structure to its end (a file that was cut
 * off is found), it decodes nothing. More pixels than IMAGE_PIXELS_MAX are an error. */
enum { IMAGE_PIXELS_MAX = 64000000 };
void image_free(Image *im);
typedef enum Filter {
    FILTER_AREA,
    FILTER_LANCZOS,
    FILTER_LINEAR,
    FILTER_CUBIC,
    FILTER_NEAREST,
    FILTER_LANCZOS4 /* OpenCV's: 8 x 8 points, no smoothing when shrinking */
} Filter;
bool image_resize(const Image *in, int w, int h, Filter f, Image *out, Err *e);
bool image_crop(const Image *in, int left, int top, int w, int h, Image *out, Err *e);

/* ---- datasets ---- */
/* Command-line values of training.md section 1; 0/NULL: unset. */
typedef struct DataOptions {
    const char *dataset_config, *train_data_dir, *reg_data_dir;
    int width, height; /* --resolution */
    int train_batch_size;
    bool enable_bucket, bucket_no_upscale;
    int min_bucket_reso, max_bucket_reso, bucket_reso_steps;
    const char *caption_extension;
    bool shuffle_caption, allow_missing_captions, skip_bad_images;
    int keep_tokens, dataset_repeats;
    double prior_loss_weight;
    uint64_t seed;
    int threads;                   /* loader threads */
    const char *caption_separator; /* NULL: "," */
    bool flip_aug;
} DataOptions;

typedef struct Sample {         /* one image of the data set */
    const char *path, *caption; /* caption as read; "" if none */
    int w, h;                   /* of the file */
    int bucket_w, bucket_h, resized_w, resized_h;
    int repeats;
    bool reg;
    int dataset, subset;
    /* flip_aug: the mirror image is a sample of its own, with repeats 0, drawn instead
     * of its original half of the time. It is encoded and cached like any other. */
    bool mirrored;
} Sample;
typedef struct Dataset Dataset;
struct Dataset {
    Arena *arena;
    Sample *sample;
    int n;
    int (*bucket)[2]; /* distinct sizes in use */
    int n_bucket;
    /* images times num_repeats: ss_num_train_images, ss_num_reg_images */
    int n_train, n_reg;
    int batches_per_epoch;
    int batch_size; /* largest of the datasets */
    int captions_found, captions_missing;
    const char **bad_path, **bad_reason; /* unreadable images (skip_bad_images) */
    int n_bad;
    /* ss_dataset_dirs; ss_reg_dataset_dirs, "{}" with a dataset_config;
     * ss_tag_frequency */
    const char *metadata_dirs_json, *metadata_reg_dirs_json, *tag_frequency_json;
    /* what was skipped, adjusted or missing: one line each, to be shown */
    const char **note;
    int n_note;
    void *priv;
};
/* Scans folders or reads the TOML; checks every image's header; all errors located. */
Dataset *dataset_open(const DataOptions *o, Err *e);
void dataset_close(Dataset *d);

typedef struct Batch {
    int n;                      /* samples in it */
    const int *sample;          /* indices */
    int w, h;                   /* bucket */
    const char *const *caption; /* after caption processing */
    const float *loss_weight;
} Batch;
/* Batch number `index` (0 …) of epoch `epoch` (1 …): a pure function of seed, epoch,
 * index. */
bool dataset_batch(Dataset *d, int epoch, int index, Arena *a, Batch *out, Err *e);
/* Pixels of a sample, resized and cropped to its bucket: f32 [h,w,3] in -1 … 1. */
bool dataset_pixels(const Dataset *d, int sample, float *out, Err *e);

/* ---- reading ahead: decode and resize on threads, in a given order ---- */
typedef struct Loader Loader;
Loader *loader_open(const Dataset *d, const int *order, int n, int threads, Err *e);
/* Pixels of the next sample in `order` (valid until the next call). */
bool loader_next(Loader *l, int *sample, const float **pixels, Err *e);
void loader_close(Loader *l);
#endif
