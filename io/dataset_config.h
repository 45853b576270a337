/* What to train on: the dataset TOML, or folders "N_name", as one resolved description.
 * */
#ifndef GRAPHRUN_DATASET_CONFIG_H
#define GRAPHRUN_DATASET_CONFIG_H
#include "io/buckets.h"
#include "io/captions.h"
#include "io/data.h"
#include "io/toml.h"

typedef struct SubsetConfig { /* one folder of images */
    const char *image_dir;
    const char *class_tokens;      /* NULL: none */
    const char *caption_extension; /* with its dot */
    CaptionRule caption;
    int num_repeats; /* at least 1 */
    bool is_reg, flip_aug;
    Loc loc; /* of image_dir in the TOML, or no place */
} SubsetConfig;

typedef struct DatasetConfig { /* shares batch size and buckets */
    int batch_size;
    BucketRule bucket; /* prepared */
    SubsetConfig *subset;
    int n;
} DatasetConfig;

typedef struct DataConfig {
    DatasetConfig *dataset;
    int n;
    bool from_file;    /* TOML, not folders */
    const char **note; /* what was skipped or adjusted, one line each */
    int n_note, cap_note;
} DataConfig;

/* Reads o->dataset_config, or looks through o->train_data_dir and o->reg_data_dir.
 * Strict: every key is known, in its place, of its type, and carried out by this
 * version. */
bool data_config_read(Arena *a, const DataOptions *o, DataConfig *out, Err *e);
/* The same from the top table of a dataset file. */
bool data_config_from(Arena *a, const DataOptions *o, const Toml *top, DataConfig *out,
                      Err *e);
#endif
