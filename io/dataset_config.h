/* What to train on: the dataset file, or folders "N_name", as one resolved description. */
#ifndef GRAPHRUN_DATASET_CONFIG_H
#define GRAPHRUN_DATASET_CONFIG_H
#include "io/buckets.h"
#include "io/captions.h"
#include "io/data.h"
#include "io/toml.h"

typedef struct SubsetConfig {      /* one folder of images, or one metadata file */
    const char *image_dir;         /* NULL: the metadata has whole paths */
    const char *metadata_file;     /* NULL: the folder is looked through */
    const char *mask_dir;          /* masks of the same names; NULL: none */
    const char *class_tokens;      /* NULL: none */
    const char *caption_extension; /* with its dot */
    CaptionRule caption;
    int num_repeats; /* at least 1 */
    bool is_reg, flip_aug, color_aug, random_crop, alpha_mask;
    double
        face_crop[2];   /* smallest and largest size of the face in the crop; 0: none */
    const char *resize; /* of resize_words; NULL: area to shrink, Lanczos to enlarge */
    Loc loc;            /* of image_dir or metadata_file in the file, or no place */
} SubsetConfig;

typedef struct DatasetConfig { /* shares batch size and buckets */
    int batch_size;
    double validation_split; /* part of each subset that is held out */
    uint64_t validation_seed;
    BucketRule bucket; /* prepared */
    SubsetConfig *subset;
    int n;
} DatasetConfig;

typedef struct DataConfig {
    DatasetConfig *dataset;
    int n;
    bool from_file;    /* TOML or JSON, not folders */
    const char **note; /* what was skipped or adjusted, one line each */
    int n_note, cap_note;
} DataConfig;

/* Reads o->dataset_config (TOML; JSON if its name ends so), or takes o->train_data_dir with
 * o->in_json, or looks through o->train_data_dir and o->reg_data_dir. Strict: every key is
 * known, in its place and of its type. */
bool data_config_read(Arena *a, const DataOptions *o, DataConfig *out, Err *e);
/* What a data set was opened with. */
const DataConfig *dataset_config(const Dataset *d);
/* The same from the top table of a dataset file. */
bool data_config_from(Arena *a, const DataOptions *o, const Toml *top, DataConfig *out,
                      Err *e);
#endif
