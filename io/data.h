/* The training data: images, captions, tokens, buckets, batches. */
#ifndef GRAPHRUN_DATA_H
#define GRAPHRUN_DATA_H
#include "graph/base/base.h"

/* ---- tokenizer: CLIP byte-level BPE ---- */
typedef struct Tokenizer Tokenizer;
/* folder: a model's tokenizer/ (vocab.json + merges.txt), or NULL:
 * $GRAPHRUN_CLIP_VOCABULARY or the embedded vocabulary. */
Tokenizer *tokenizer_open(const char *folder, Err *e);
void tokenizer_close(Tokenizer *t);
/* From now on `word`, wherever it stands in a text as it is written here (the longest of
 * several), is the tokens first ... first+n-1 (textual inversion). false: it is empty, or
 * known already. */
bool tokenizer_add(Tokenizer *t, const char *word, int32_t first, int n);
/* Ids of the text without BOS and EOS; returns how many (at most cap are written). */
int tokenizer_encode(const Tokenizer *t, const char *text, int32_t *ids, int cap);
/* CLIP's ids: a row, and what of it is between BOS and EOS. */
enum { TOKEN_ROW = 77, TOKEN_INNER = 75 };
/* `chunks` rows of 77 ids: BOS + 75 + EOS, padded with `pad` (PAD_END: EOS, as SD1 has it;
 * 0: "!", SD2), cut as training.md 5.2. Returns the number of tokens before truncation. */
enum { PAD_END = -1 };
int tokenizer_chunks(const Tokenizer *t, const char *text, int chunks, int32_t pad,
                     int32_t *ids);
/* The same for a text in which words have weights (io/token_weights.h): weight of each
 * of the chunks * 77 ids; 1 of those that are not the text's. */
int tokenizer_weighted(const Tokenizer *t, const char *text, int chunks, int32_t pad,
                       int32_t *ids, float *weight);

/* ---- images ---- */
typedef struct Image {
    int w, h;
    uint8_t *rgb; /* h*w*3, malloc; image_free */
} Image;
/* PNG, JPEG, WebP, BMP; by content. Alpha is dropped, EXIF rotation not applied. */
bool image_read(const char *path, Image *out, Err *e);
/* The alpha channel as a grey picture; white if the file has none. */
bool image_read_alpha(const char *path, Image *out, Err *e);
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
    FILTER_LANCZOS4, /* OpenCV's: 8 x 8 points, no smoothing when shrinking */
    FILTER_BOX       /* Pillow's */
} Filter;
bool image_resize(const Image *in, int w, int h, Filter f, Image *out, Err *e);
bool image_crop(const Image *in, int left, int top, int w, int h, Image *out, Err *e);

/* ---- datasets ---- */
/* Command-line values of training.md section 1; 0/NULL: unset. */
typedef struct DataOptions {
    const char *dataset_config, *train_data_dir, *reg_data_dir, *in_json;
    int width, height; /* --resolution */
    int train_batch_size;
    bool enable_bucket, bucket_no_upscale;
    int min_bucket_reso, max_bucket_reso, bucket_reso_steps;
    const char *resize_interpolation;
    const char *caption_extension;
    bool shuffle_caption, allow_missing_captions, skip_bad_images;
    int keep_tokens, dataset_repeats;
    const char *caption_separator; /* NULL: "," */
    const char *keep_tokens_separator, *secondary_separator;
    const char *caption_prefix, *caption_suffix;
    bool enable_wildcard;
    double caption_dropout_rate, caption_tag_dropout_rate, token_warmup_step;
    int caption_dropout_every_n_epochs;
    int token_warmup_min; /* 0: 1 */
    bool flip_aug, color_aug, random_crop, alpha_mask;
    double face_crop_aug_range[2];
    double prior_loss_weight;
    double validation_split; /* part of each subset that is held out */
    uint64_t validation_seed;
    bool validation; /* the held out part itself: each picture once, as it is */
    uint64_t seed;
    int threads; /* loader threads */
} DataOptions;

typedef struct Sample {         /* one image of the data set */
    const char *path, *caption; /* caption as read; "" if none */
    const char *mask_path; /* its mask is the red channel of this one; NULL: none */
    int w, h;              /* of the file */
    int bucket_w, bucket_h, resized_w, resized_h;
    int face[4]; /* centre x, y, width, height; width 0: not known */
    int repeats;
    bool reg;
    int dataset, subset;
    /* flip_aug: the mirror image is a sample of its own, with repeats 0, drawn instead
     * of its original half of the time. It is encoded and cached like any other. */
    bool mirrored;
    bool varies; /* another crop or colour at each draw: it cannot be encoded once */
    bool latent_only; /* there is no picture, only its latents (.npz) */
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
    bool captions_fixed; /* every caption is the same each time it is drawn */
    bool varies;         /* so do samples */
    bool masked;         /* there are masks for the loss */
    const char **bad_path, **bad_reason; /* unreadable images (skip_bad_images) */
    int n_bad;
    /* ss_dataset_dirs; ss_reg_dataset_dirs, "{}" with a dataset_config;
     * ss_tag_frequency */
    const char *metadata_dirs_json, *metadata_reg_dirs_json, *tag_frequency_json;
    /* ss_bucket_info, "null" without buckets; ss_datasets, NULL without a file */
    const char *bucket_info_json, *datasets_json;
    /* what was skipped, adjusted or missing: one line each, to be shown */
    const char **note;
    int n_note;
    void *priv;
};
/* Scans folders or reads the TOML; checks every image's header; all errors located. */
Dataset *dataset_open(const DataOptions *o, Err *e);
void dataset_close(Dataset *d);

/* What of a picture a draw shows. */
typedef struct View {
    int sample;
    bool mirrored;
    int resized_w, resized_h, left,
        top;      /* the bucket's size is cut out of the resized */
    double hue;   /* added to hues of 0 … 179, after OpenCV; 0: as it is */
    double gamma; /* x^gamma of 0 … 255; 1: as it is */
} View;

typedef struct Batch {
    int n;                      /* samples in it */
    const View *view;           /* with the samples' indices */
    int w, h;                   /* bucket */
    const char *const *caption; /* after caption processing */
    const float *loss_weight;
    const uint32_t *draw; /* number of each draw in its epoch */
} Batch;
/* Batch number `index` (0 …) of epoch `epoch` (1 …): a pure function of seed, epoch, index
 * and, for the token warm-up, of the updates before it. Not by two threads at once. */
bool dataset_batch(Dataset *d, int epoch, int index, Arena *a, Batch *out, Err *e);
/* For the token warm-up: micro-batches per update, updates of the run. */
void dataset_pace(Dataset *d, int accumulate, int64_t max_steps);
/* The centre of a sample, as it is encoded once. */
View dataset_view(const Dataset *d, int sample);
/* Pixels of a view: f32 [h,w,3] in -1 … 1. mask (may be NULL): f32 [h/8,w/8], the mean of
 * the mask in 8 × 8 pixels, 0 … 1; all 1 if the sample has none. */
bool dataset_pixels(const Dataset *d, const View *v, float *out, float *mask, Err *e);
bool dataset_has_mask(const Dataset *d, int sample);
#endif
